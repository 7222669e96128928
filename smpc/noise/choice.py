"""The best of many candidates by noisy scores, with noise that no party knows and a winner that may stay shared.

s_i    integer score of candidate i, i = 0..m - 1; one patient moves each by at most Delta
G_i    independent noise of the law in `smpc.noise.geometric_law`, of rate epsilon / D a step, 0 <= G_i < N
D      2 Delta; Delta if one patient moves all scores up or all down ("monotone": counts under add_remove_one)

The mechanism is report noisy max with one-sided geometric noise: the index of the largest s_i + G_i, of equal ones the
lowest. It is (epsilon, m P(G >= N - D))-DP. Fix the noise of all others; i wins iff G_i >= c with

    c = max(max_{j<i} (s_j + G_j) + 1, max_{j>i} (s_j + G_j)) - s_i,

which for a neighbour is at most c + D: every s_j rises by at most Delta and s_i falls by at most Delta, and if all
move the same way only one of these happens. Summing (1) of `geometric_law` D times over h >= c gives
P(c <= G_i < N - D) <= e^epsilon P(G_i >= c + D). What remains is that the winner has a G_i >= N - D, which happens with
probability at most m P(G >= N - D). The tie rule stands in c, an integer like the scores: no tie costs anything.

It is pure DP but for that delta. It has no bounded range: the rate epsilon^2 / 8 of the exponential mechanism is not
claimed (`smpc.noise.exponential` has it). With exponential noise the same mechanism is permute-and-flip: Ding et al.
2021, arXiv:2105.07260.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy import ApproximateDP, Repeated
from privacy._checks import check_count, check_positive, check_probability
from smpc.errors import RangeExceeded
from smpc.noise.geometric_law import GeometricLaw, exact_down, float_up, geometric_law
from smpc.noise.laplace import MAX_DELTA, geometric_words
from smpc.ring import RING64
from smpc.session import Session
from smpc.shared import Shared

_EXACT = 2.0**53


def noisy_argmax_law(
    epsilon: float, sensitivity: int, n_candidates: int, *, monotone: bool = False, max_delta: float = MAX_DELTA
) -> tuple[GeometricLaw, ApproximateDP]:
    """Return the law of each score's noise, and the event that the choice implements.

    Parameters
    ----------
    epsilon
        Of the event; > 0. The noise is for exactly this number.
    sensitivity
        Delta, an integer: the most that one patient changes any score, as it is compared, after rounding.
    n_candidates
        m.
    monotone
        True if one patient moves all scores up, or all down.
    max_delta
        The event's delta is the exact one, rounded up, and at most this.

    Examples
    --------
    >>> law, event = noisy_argmax_law(1.0, sensitivity=1, n_candidates=1000)
    >>> law.largest, event.epsilon, event.delta < 2.0**-64
    (127, 1.0, True)
    """
    check_positive("epsilon", epsilon)
    check_count("sensitivity", sensitivity)
    check_count("n_candidates", n_candidates)
    check_probability("max_delta", max_delta)
    shift = sensitivity if monotone else 2 * sensitivity
    law = geometric_law(exact_down(epsilon) / shift, shift, Fraction(max_delta) / n_candidates)
    return law, ApproximateDP(float(epsilon), float_up(n_candidates * law.tail(shift)))


async def noisy_argmax(
    session: Session,
    scores: Shared,
    *,
    sensitivity: int,
    epsilon: float,
    monotone: bool = False,
    max_delta: float = MAX_DELTA,
) -> tuple[Shared, ApproximateDP | Repeated]:
    """Return the index of the largest noisy score, shared, and the event of opening it.

    The event depends on public arguments only: charge that of `noisy_argmax_law` first. Nothing but the index may be
    opened: the noisy scores are a release of their own.

    Parameters
    ----------
    scores
        Shape (m,), or (k, m) for k choices at once, in RING64, of a declared range. Fixed-point scores are compared in
        units of 2^-frac_bits, and so is the sensitivity given: see `rounded_scores`.
    sensitivity, epsilon, monotone, max_delta
        As in `noisy_argmax_law`.

    Returns
    -------
    Index, shape () or (k,), and event; of k choices, repeated k times. Four rounds for the noise, then those of
    `Session.argmax`.

    Raises
    ------
    RangeExceeded
        If the range is not declared, or leaves no room for the noise.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x, max_abs=2000)
    ...     index, event = await noisy_argmax(s, a[0] + a[1], sensitivity=1, epsilon=1.0)
    ...     return int(await s.open(index)), event.epsilon
    >>> run_local(protocol, inputs=[[0, 900, 0], [5, 900, 5]]).results[0]
    (1, 1.0)
    """
    if scores.ndim not in (1, 2) or not scores.size:
        raise ValueError(f"scores must have the shape (m,) or (k, m) with k, m >= 1, got {scores.shape}")
    if scores.domain is not RING64:
        raise ValueError(f"numbers in {scores.domain} have no order here: share them in RING64")
    n_candidates = scores.shape[-1]
    law, event = noisy_argmax_law(epsilon, sensitivity, n_candidates, monotone=monotone, max_delta=max_delta)
    if scores.bound is None or scores.bound + law.largest >= 2**62:
        raise RangeExceeded(
            rule="noisy scores must have a declared range below 2^62, so that none wraps round to the other end",
            way_out="declare max_abs with the input, or take a coarser unit",
        )
    words = await geometric_words(session, law, scores.size, domain=RING64)
    noise = session.shared(words.reshape(scores.shape), bound=law.largest, frac_bits=scores.frac_bits)
    index = await session.argmax(scores + noise)
    return index, event if scores.ndim == 1 else Repeated(event, len(scores))


def rounded_scores(scores: npt.ArrayLike, sensitivity: float, *, frac_bits: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return real scores as integers in units of 2^-frac_bits, and the sensitivity of these integers.

    Halves go up, always: that rule commutes with adding integers, so rounding turns a change of at most c units into
    one of at most ceil(c). (Halves to even would not: 0.5 and 1.5 go to 0 and 2.) A sum over sites of scores that each
    of them rounded has this sensitivity too, as long as a patient is at one site.

    Parameters
    ----------
    scores
        Finite; below 2^53 units.
    sensitivity
        The most that one patient changes any of the scores as they are given, > 0. The error of computing them in
        floating point is not added here.

    Raises
    ------
    RangeExceeded
        If a score is too large.

    Examples
    --------
    >>> rounded_scores([0.5, 0.74, -1.5], 0.3, frac_bits=1)
    (array([ 1,  1, -3]), 1)
    """
    check_positive("sensitivity", sensitivity)
    check_count("frac_bits", frac_bits, least=0)
    # A power of two times a double is exact, and so is what is left behind the point below 2^53.
    units = np.asarray(scores, dtype=np.float64) * 2.0**frac_bits
    if not (np.abs(units) < _EXACT).all():
        raise RangeExceeded(rule="a score is not below 2^53 units", way_out="use fewer fractional bits")
    whole = np.floor(units)
    rounded = (whole + (units - whole >= 0.5)).astype(np.int64)
    return rounded, -(-Fraction(sensitivity) * 2**frac_bits // 1)
