"""Division by a power of two: what keeps a product of fixed-point numbers a fixed-point number.

f  bits to drop;  k = 64
x  number with |x| < 2^62, so that y = x + 2^62 lies in [0, 2^63)
r  uniform in Z_2^64, known to nobody; shares of r >> f, of its highest bit and of the thermometers of its lowest f bits
   come from the dealer
c  y + r modulo 2^64, opened: uniform whatever x is

y + r exceeds 2^64 if and only if the highest bit of r is set and that of c is not, because y is below 2^63. Hence

    y >> f = (c >> f) - (r >> f) + 2^(64-f) [r_top = 1, c_top = 0] - [c mod 2^f < r mod 2^f]     (modulo 2^64),

in which only the last term is not linear.

exact       floor(x / 2^f): the last term is computed, by lookups and a tree. Adding half a unit before makes it the
            nearest integer (ties up). 3 or 4 rounds
stochastic  the last term is left out. The result is floor(x / 2^f) or one more, and is right on average: with x mod 2^f
            = b, it is one more with probability b / 2^f. 1 round. The error of an element depends on c, which all see
local       every party drops the bits of its own share, two parties only. No round. The result is off by one at most,
            except with probability |x| / 2^k, which is at most 2^(l + 1 - k) for |x| < 2^l: then it is off by
            2^(k - f), that is, worthless. Source: Mohassel and Zhang 2017 (SecureML), theorem 1

Sources: the highest bits tell whether the sum wrapped: Escudero, Ghosh, Keller, Rachuri, Scholl 2020, eprint 2020/338,
section 5.1; exact truncation by a comparison of the low bits: Catrina and de Hoogh 2010, protocol 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from smpc._rounds import Layout
from smpc.bitplanes import compare_digits
from smpc.conjunctions import greater_tree
from smpc.conversion import numbers_of
from smpc.kinds import Truncation
from smpc.ring import RING64, Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

Truncating = Literal["exact", "stochastic", "local"]

TRUNCATIONS: tuple[Truncating, ...] = ("exact", "stochastic", "local")

# Largest absolute value that can be truncated, exclusive.
LIMIT = 2**62


async def truncated(session: Rounds, x: Words, n_bits: int, how: Truncating) -> Words:
    """Return shares of x / 2^n_bits, rounded as `how` says: to the nearest integer if "exact".

    Parameters
    ----------
    x
        Shares in RING64, shape (n,), of numbers below 2^62 less half a unit in absolute value.
    n_bits
        1..62.
    """
    if how == "local":
        # Two parties: the caller sees to it.
        return _locally(session, x, n_bits)
    half = 2 ** (n_bits - 1) if how == "exact" else 0
    r, high, top, thermometers = session.take(Truncation(n_bits), len(x))
    layout = Layout([(RING64, x.shape)])
    buffer = layout.buffer()
    masked = layout.views(buffer)[0]
    np.add(x, r, out=masked)
    if session.party == 0:
        masked += np.uint64(LIMIT + half)
    (c,) = await session.reveal("truncate", layout, buffer)

    out = np.negative(high)
    # Where the highest bit of c is not set: 2^(64-f) times the highest bit of r.
    not_top = (c >> np.uint64(63)) ^ np.uint64(1)
    out += top * (not_top << np.uint64(64 - n_bits))
    if session.party == 0:
        out += c >> np.uint64(n_bits)
        out -= np.uint64(LIMIT >> n_bits)
    if how == "exact":
        low = c & np.uint64(2**n_bits - 1)
        greater, _, equal = compare_digits(low, thermometers)
        borrow = await greater_tree(session, greater[::-1], equal[::-1])
        out -= await numbers_of(session, borrow, len(x))
    return out


def _locally(session: Rounds, x: Words, n_bits: int) -> Words:
    shift = np.uint64(n_bits)
    return x >> shift if session.party == 0 else np.negative(np.negative(x) >> shift)
