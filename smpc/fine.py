"""Products and reciprocals of integers in fixed point to the last bit that a word of 64 bits has room for.

Here the caller keeps count of fractional bits, and vouches for the range of each product: a product of two numbers can
be far smaller than the product of their ranges, as a mean is that was made of a sum and a reciprocal. In the ring it is
exact all the same, and can be truncated as long as it is below 2^62.

    y      number of F fractional bits, in [least, 2)
    h_0    its reciprocal with f = 16 fractional bits: wrong by 1.5 2^-f at most (`smpc.quotients`)
    e      1 - y h_0, below 3 2^-f, kept with `_RESIDUAL_BITS`
    h      h_0 + h_0 e, wrong by h_0 e^2 <= 2^-28.8 / least and the roundings (Newton's step)
"""

from __future__ import annotations

from dataclasses import dataclass

from smpc._real import words_of
from smpc.ring import RING64
from smpc.session import Session
from smpc.shared import Shared

# Of what `fine_reciprocal` returns.
RECIPROCAL_BITS = 28
_FIRST_BITS = 16
_RESIDUAL_BITS = 40


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A product to be taken: elementwise, or of matrices.

    bound   no product is larger in absolute value, before it is cut: the caller vouches for it; below 2^62
    cut     bits to drop, rounded up or down at random and right on average; 0 for none
    """

    x: Shared
    y: Shared
    bound: float
    cut: int = 0
    matrices: bool = False


async def fine_products(session: Session, *wanted: Product) -> list[Shared]:
    """Return products of integers, cut back, without a declared range; all of them in two rounds.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a, b = await s.input(x)
    ...     exact, cut = await fine_products(s, Product(a, b, 2**50), Product(a, b, 2**50, cut=10))
    ...     return await s.open(exact), abs(await s.open(cut) - 3 * 2**10) <= 1
    >>> run_local(protocol, inputs=[[3 * 2**10], [2**10]]).results[0]
    (array([3145728]), array([ True]))
    """

    async def one(product: Product) -> Shared:
        # Without declared ranges, which would be multiplied.
        x, y = (Shared(session, RING64, words_of(side)) for side in (product.x, product.y))
        found = (await (session.matmul(x, y) if product.matrices else session.mul(x, y))).declare(product.bound)
        if product.cut:
            found = await session.truncate(found, product.cut, how="stochastic")
        # A sum of many ranges would soon be wider than the word, whatever the numbers are.
        return Shared(session, RING64, words_of(found))

    found: list[Shared] = await session.together(*(one(product) for product in wanted))
    return found


async def fine_reciprocal(session: Session, y: Shared, *, frac_bits: int, least: float) -> Shared:
    """Return 1 / y with `RECIPROCAL_BITS` fractional bits, as integers of the shape of y.

    Parameters
    ----------
    y
        Integers that stand for y 2^-frac_bits, of a declared range up to 2.5.
    frac_bits
        24..30.
    least
        Public: no number is smaller; at least 2^-6.

    Examples
    --------
    >>> import numpy as np
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x, max_abs=2**31)
    ...     return await s.open(await fine_reciprocal(s, a[0], frac_bits=30, least=0.1))
    >>> y = np.array([0.1, 1.0, 1.7])
    >>> found = run_local(protocol, inputs=[np.rint(y * 2**30).astype(int), [0, 0, 0]]).results[0] / 2**28
    >>> bool(np.max(np.abs(found * y - 1)) < 2**-25)
    True
    """
    first = await session.reciprocal(y.ldexp(-frac_bits), least=least, most=2.5, frac_bits=_FIRST_BITS)
    start = Shared(session, RING64, words_of(first), bound=first.bound)
    one = frac_bits + _FIRST_BITS
    [product] = await fine_products(session, Product(y, start, 2.0 ** (one + 1)))
    residual = ((1 << one) - product).declare(2.0 ** (one - _FIRST_BITS + 3))
    if one > _RESIDUAL_BITS:
        residual = await session.truncate(residual, one - _RESIDUAL_BITS, how="stochastic")
    kept = min(one, _RESIDUAL_BITS)
    [step] = await fine_products(
        session,
        Product(start, residual, 2.0 ** (kept + 4) / least, cut=_FIRST_BITS + kept - RECIPROCAL_BITS),
    )
    found = start * (1 << (RECIPROCAL_BITS - _FIRST_BITS)) + step
    return found.declare(2.0**RECIPROCAL_BITS * 1.1 / least)
