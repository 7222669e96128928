"""A function of a shared number by piecewise polynomials, in one round.

w, k, m  X = multiplier (x - low) counts modulo 2^w; its highest k bits are the piece, the lower m = w - k the place
r        uniform modulo 2^w, known to nobody, r = r_high 2^m + r_low
c        X + r modulo 2^w, opened: uniform whatever x is. c = c_high 2^m + c_low

With j = c_high - r_high modulo 2^k and t = (c_low - r_low) / 2^m,

    X = j 2^m + 2^m t,    -1 < t < 1:

j is the piece of X or the next one, and t counts from its left end in both cases. So no carry has to be computed if P_j
is good on both sides of its centre, which is how `smpc.approximation` makes it. For each value v that r_high may have,
all know the polynomial P_{c_high - v}; written in powers of the masked place rho = r_low / 2^m with g = c_low / 2^m,

    P_j(g - rho) = sum_i K_i(j, g) rho^i,    K_i = (-1)^i P_j^(i)(g) / i!,

and the dealer shared e_v rho^i, e_v = [r_high = v]. Hence the result is a sum of public numbers times shares,

    sum_v sum_i K_i(c_high - v, g) (e_v rho^i),

and costs no message beyond the opening. It holds N (D + 1) words of material for an element.

Which of two polynomials serves an element, and how it is rounded, depends on c, which all see: within the proved error
the result is not a function of x alone.

Source: one-time truth tables (Ishai, Kushilevitz, Meldgaard, Orlandi, Paskin-Cherniavsky, TCC 2013) for the choice of
the piece; powers of a mask for the polynomial. Both under one mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from smpc._rounds import Layout
from smpc.approximation import FloatArray, Pieces
from smpc.binary import narrow, to_narrow
from smpc.material import Elements, Field, Kind
from smpc.ring import RING64, Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

# Words of weights to a pass: they stay in cache.
_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class MaskedPieces(Kind):
    """r uniform modulo 2^width; e_v rho^i for each v < 2^log_pieces (in a row) and i <= degree (rows).

    e_v = [v = r >> (width - log_pieces)], rho the lower bits of r as a fraction; rounded to mask_bits fractional bits,
    but for i = 0, where e_v itself is dealt.
    """

    width: int
    log_pieces: int
    degree: int
    mask_bits: int

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"pieces {self.width} {self.log_pieces} {self.degree} {self.mask_bits}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Field r."""
        return (Field(narrow(self.width)),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """The powers, a row for each."""
        return (Field(RING64, 1 << self.log_pieces, rows=self.degree + 1),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the powers."""
        high, low = split(free[0].astype(np.uint64), self.width - self.log_pieces)
        out = np.zeros((self.degree + 1, count, 1 << self.log_pieces), dtype=np.uint64)
        items = np.arange(count)
        power = np.full(count, 2.0**self.mask_bits)
        out[0, items, high] = 1
        for i in range(1, self.degree + 1):
            power *= low
            out[i, items, high] = np.rint(power).astype(np.uint64)
        return [out.reshape(self.degree + 1, -1)]


def split(words: Words, place_bits: int) -> tuple[Words, Elements]:
    """Return the piece of each word, and its place in it as a fraction in [0, 1)."""
    low = words & np.uint64(2**place_bits - 1)
    return words >> np.uint64(place_bits), np.ldexp(low.astype(np.float64), -place_bits)


def kind_of(plan: Pieces) -> MaskedPieces:
    """Return the kind of material that a plan uses, an item for each element."""
    return MaskedPieces(plan.width, plan.log_pieces, plan.degree, plan.mask_bits)


async def evaluate(session: Rounds, x: Words, plan: Pieces) -> Words:
    """Return shares of the function of the plan, with plan.scale_bits fractional bits. One round, width / 8 bytes.

    Outside of the plan's range the result is that of some place inside.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,), of integers low..high.
    """
    n = len(x)
    r, powers = session.take(kind_of(plan), n)
    layout = Layout([(narrow(plan.width), x.shape)])
    buffer = layout.buffer()
    stretched = x * np.uint64(plan.multiplier)
    if session.party == 0:
        stretched -= np.uint64(plan.low * plan.multiplier % 2**64)
    np.add(to_narrow(stretched, plan.width), r, out=layout.views(buffer)[0])
    (c,) = await session.reveal(f"pieces {plan.digest}", layout, buffer)

    c = c.astype(np.uint64, copy=False)
    powers = powers.reshape(plan.degree + 1, n, plan.n_pieces)
    out = np.empty(n, dtype=np.uint64)
    step = max(_CHUNK // plan.coefficients.size, 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        np.einsum("inv,inv->n", _weights(plan, c[part]), powers[:, part], out=out[part])
    return out


def _weights(plan: Pieces, c: Words) -> Words:
    """Return K_i(c_high - v, g), scaled to integers; shape (D + 1, n, N)."""
    high, place = split(c, plan.width - plan.log_pieces)
    k = np.ascontiguousarray(_windows(plan)[(plan.n_pieces - 1) - high.astype(np.intp)].transpose(1, 0, 2))
    # Horner's scheme, again and again: the coefficients of the polynomial around g.
    g, product = place[:, None], np.empty(k.shape[1:])
    for i in range(plan.degree):
        for d in range(plan.degree - 1, i - 1, -1):
            np.multiply(g, k[d + 1], out=product)
            k[d] += product
    scale = np.full(plan.degree + 1, 2.0 ** (plan.scale_bits - plan.mask_bits))
    scale[1::2] *= -1
    scale[0] = 2.0**plan.scale_bits
    k *= scale[:, None, None]
    integers: Words = np.rint(k, out=k).astype(np.int64).view(np.uint64)
    return integers


@lru_cache(maxsize=32)
def _windows(plan: Pieces) -> FloatArray:
    """Return the polynomials in the N orders that are needed; entry N - 1 - c_high, d, v is that of c_high - v."""
    reverse = plan.coefficients[:, ::-1]
    doubled = np.concatenate([reverse, reverse], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(doubled, plan.n_pieces, axis=1)
    return np.ascontiguousarray(windows[:, : plan.n_pieces].transpose(1, 0, 2))
