"""The exponential mechanism on shares: a candidate is drawn with odds exponential in its score, and nothing else told.

The law, and the proof of what it costs, are in `smpc.noise.exponential_law`. On shares:

    1  the largest score, and how far each is below it
    2  weights v_i: the difference is opened under a mask, digit by digit a public table is looked up in what the dealer
       shared of the mask's digit (`OneHot`), and the factors are multiplied; beyond D a constant takes their place
    3  U = r T / 2^k for T the sum of the weights and r random bits, in limbs of four
    4  the index is how many i < m - 1 have v_0 + ... + v_i <= U

Every party draws its share of the bits of r: a single party whose words are unknown to a coalition keeps r uniform for
it, and the dealer sees none. Everything that is opened on the way is under a mask of its own. Tables must agree: their
digest names the lookup, so parties that computed different ones stop.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy import ExponentialMechanism, Repeated
from smpc._real import words_of
from smpc._rounds import Layout
from smpc.bits import SharedBits
from smpc.comparison import negative, width_for
from smpc.conversion import gated, numbers_of
from smpc.errors import RangeExceeded
from smpc.kinds import OneHot
from smpc.noise.coins import random_words
from smpc.noise.exponential_law import DIGIT_BITS, LIMB_BITS, ExponentialLaw, exponential_law, pairs
from smpc.ring import RING64, Words
from smpc.session import Session
from smpc.shared import Shared
from smpc.truncation import truncated

# All pairs of so few are compared at once for the largest, in half the rounds of a tournament.
_MOST_RANKED = 64

_N_VALUES = 1 << DIGIT_BITS

# Words of a table's windows to a pass: they stay in cache.
_CHUNK = 1 << 15


async def exponential_choice(
    session: Session, scores: Shared, *, sensitivity: int, epsilon: float, monotone: bool = False
) -> tuple[Shared, ExponentialMechanism | Repeated]:
    """Return the index of a candidate with a high score, shared, and the event of opening it.

    The event depends on public arguments only: charge that of `exponential_law` first. Nothing but the index may be
    opened.

    Parameters
    ----------
    scores
        Shape (m,), or (k, m) for k choices at once, in RING64, of a declared range. Fixed-point scores are compared in
        units of 2^-frac_bits, and so is the sensitivity given: see `rounded_scores`.
    sensitivity, epsilon, monotone
        As in `exponential_law`.

    Returns
    -------
    Index, shape () or (k,), and event; of k choices, repeated k times.

    Raises
    ------
    RangeExceeded
        If the range is not declared, or leaves no room for a difference.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x, max_abs=2000)
    ...     index, event = await exponential_choice(s, a[0] + a[1], sensitivity=1, epsilon=1.0)
    ...     return int(await s.open(index)), event
    >>> run_local(protocol, inputs=[[0, 900, 0], [5, 900, 5]]).results[0]
    (1, ExponentialMechanism(epsilon=1.0))
    """
    if scores.ndim not in (1, 2) or not scores.size:
        raise ValueError(f"scores must have the shape (m,) or (k, m) with k, m >= 1, got {scores.shape}")
    law, once = exponential_law(epsilon, sensitivity, scores.shape[-1], monotone=monotone)
    index = await drawn(session, scores, law)
    return index, once if scores.ndim == 1 else Repeated(once, len(scores))


async def drawn(session: Session, scores: Shared, law: ExponentialLaw) -> Shared:
    """Return the index that is drawn, as `exponential_choice`; of a law made for so many candidates."""
    _check(scores, law)
    lead, m = scores.shape[:-1], scores.shape[-1]
    if m == 1:
        return session.shared(np.zeros(lead, dtype=np.uint64), bound=1)
    is_before = await session.to_numbers(await _is_before(session, scores.reshape(-1, m), law))
    # As many as have U < C_i come behind the index.
    return (m - 1) - is_before.reshape(-1, m - 1).sum(axis=1).declare(m - 1).reshape(lead)


async def opened_draw(session: Session, scores: Shared, law: ExponentialLaw) -> int:
    """Return the index that is drawn among one row of scores: opened, in a round less than `drawn` and an opening.

    What is opened is whether U < C_i for each i < m - 1: nothing but the index, written in ones.
    """
    _check(scores, law)
    if len(scores) == 1:
        return 0
    opened = await session.open(await _is_before(session, scores.reshape(1, -1), law))
    return len(scores) - 1 - int(opened.sum())


def _check(scores: Shared, law: ExponentialLaw) -> None:
    if scores.domain is not RING64:
        raise ValueError(f"numbers in {scores.domain} have no order here: share them in RING64")
    if scores.bound is None or 2 * scores.bound + law.cut >= 2**62:
        raise RangeExceeded(
            rule="scores must have a declared range below 2^61, so that no difference wraps round",
            way_out="declare max_abs with the input, or take a coarser unit",
        )


async def _is_before(session: Session, rows: Shared, law: ExponentialLaw) -> SharedBits:
    """Return bits: whether U < C_i, for each row of scores and i < m - 1, one after the other."""
    m = rows.shape[1]
    limbs, largest = await session.together(_limbs(session, law, len(rows)), _largest(session, rows))
    below = words_of(largest)[:, None] - words_of(rows)
    weights = await _weights(session, below.reshape(-1), 2 * (rows.bound or 0), law)
    sums = np.cumsum(weights.reshape(-1, m), axis=1, dtype=np.uint64)
    point = await _point(session, limbs, sums[:, -1])
    most = (m * law.largest_weight << LIMB_BITS) + law.n_limbs
    differences = point[:, None] - (sums[:, :-1] << np.uint64(LIMB_BITS))
    return await session.negative_bits(session.shared(differences.reshape(-1)).declare(most))


async def _largest(session: Session, rows: Shared) -> Shared:
    """Return the largest of each row, shape (k,)."""
    if len(rows) == 1 and rows.shape[1] <= _MOST_RANKED:
        return (await session.top_k(rows.reshape(-1), 1))[1]
    return await session.max(rows)


async def _limbs(session: Session, law: ExponentialLaw, n_rows: int) -> Words:
    """Return shares of the limbs of r, lowest first; shape (n_limbs, rows). One round."""
    n = law.n_limbs * LIMB_BITS * n_rows
    bits = await numbers_of(session, random_words(session, -(-n // 64)), n)
    places = np.uint64(1) << np.arange(LIMB_BITS, dtype=np.uint64)
    by_limb = bits.reshape(law.n_limbs, LIMB_BITS, n_rows) * places[:, None]
    return np.asarray(by_limb.sum(axis=1, dtype=np.uint64))


async def _weights(session: Session, below: Words, most: int, law: ExponentialLaw) -> Words:
    """Return shares of the weights of candidates that are so far below the best, shape (n,)."""
    if most <= law.cut:
        return await _looked_up(session, below, law)
    # Beyond the cut, what is looked up means nothing, and is replaced.
    beyond = np.negative(below)
    if session.party == 0:
        beyond += np.uint64(law.cut)
    is_beyond, weights = await session.together(
        negative(session, beyond, width_for(most)), _looked_up(session, below, law)
    )
    instead = np.negative(weights)
    if session.party == 0:
        instead += np.uint64(law.weight_at_cut)
    return np.asarray(weights + await gated(session, is_beyond, instead))


async def _looked_up(session: Session, below: Words, law: ExponentialLaw) -> Words:
    """Return shares of the weights of differences of at most D; of other ones, of anything."""
    *nodes, power = await _factors(session, below, law)
    while len(nodes) > 1:
        low, high = (np.concatenate(part) for part in zip(*zip(*pairs(nodes), strict=True), strict=True))
        cut = await truncated(session, await _product(session, low, high), law.factor_bits, "stochastic")
        nodes = nodes[: len(nodes) % 2] + np.split(cut, len(nodes) // 2)
    return await _product(session, nodes[0], power)


async def _product(session: Session, x: Words, y: Words) -> Words:
    return words_of(await session.mul(session.shared(x), session.shared(y)))


async def _factors(session: Session, below: Words, law: ExponentialLaw) -> list[Words]:
    """Return shares of each digit's factor, lowest digit first, and of the top's power; shape (n,) each. One round."""
    n, n_digits = len(below), law.n_digits
    (_, one_hots) = session.take(OneHot(DIGIT_BITS), n_digits * n)
    one_hots = one_hots.reshape(n_digits, n, _N_VALUES)
    # The mask: of each digit the value that it has.
    masked = below << np.uint64(law.stretch)
    for p, digit in enumerate(one_hots):
        masked += (digit @ np.arange(_N_VALUES, dtype=np.uint64)) << np.uint64(p * DIGIT_BITS)
    # What a word has beyond the digits is moved out of it: the sum is known modulo 2^K only.
    spare = np.uint64(64 - n_digits * DIGIT_BITS)
    layout = Layout([(RING64, masked.shape)])
    buffer = layout.buffer()
    np.left_shift(masked, spare, out=layout.views(buffer)[0])
    (c,) = await session.reveal(f"one hot {law.digest}", layout, buffer)
    c = c >> spare
    factors = []
    for p, table in [*enumerate(law.tables), (n_digits - 1, law.powers)]:
        opened = ((c >> np.uint64(p * DIGIT_BITS)) & np.uint64(_N_VALUES - 1)).astype(np.intp)
        windows = _windows(table)
        out = np.empty(n, dtype=np.uint64)
        for start in range(0, n, _CHUNK // _N_VALUES):
            part = slice(start, start + _CHUNK // _N_VALUES)
            np.einsum("nv,nv->n", windows[opened[part]], one_hots[p, part], out=out[part])
        factors.append(out)
    return factors


def _windows(table: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Return the table as it is met: entry (c, q) is that of c - q, modulo the number of values if none is negative."""
    entries = np.array(table, dtype=np.uint64)
    difference = np.arange(_N_VALUES)[:, None] - np.arange(_N_VALUES)
    place = difference % _N_VALUES if len(table) == _N_VALUES else difference + _N_VALUES - 1
    return np.asarray(entries[place])


async def _point(session: Session, limbs: Words, total: Words) -> Words:
    """Return shares of 16 r T / 2^k, of each row, less than one off for each limb but the highest. Two rounds."""
    *lower, highest = await _product(session, limbs, np.broadcast_to(total, limbs.shape).copy())
    cut = await session.together(
        *(truncated(session, part, LIMB_BITS * (len(lower) - place), "stochastic") for place, part in enumerate(lower))
    )
    return np.asarray(highest + np.sum(cut, axis=0, dtype=np.uint64))
