"""Polynomials, piece by piece, in place of functions of one real number: what is public about them, with proved errors.

g            a function that is analytic on and around an interval
h            width of a piece; the range is cut into N - 1 pieces by the centres x_0, ..., x_{N-1}, N = 2^k
P_j          polynomial of degree D for |x - x_j| <= h, in t = (x - x_j) / h. It serves the pieces on both sides of x_j,
             because the protocol (`smpc.pieces`) finds one of the two centres next to x, and not which
B_n(a, b)    upper bound of |g^(n)| / n! on [a, b], in closed form for each function below
2^-precision the error that is allowed, for a function of relative kind times 1 + g(x)

P_j interpolates g at the roots of the Chebyshev polynomial T_{D+1}, so that

    |g - P_j| <= B_{D+1}(x_j - h, x_j + h) h^(D+1) 2^-D

(interpolation error, |prod (t - t_i)| <= 2^-D; Trefethen, Approximation Theory and Approximation Practice, chapter 8).
A plan takes half of the allowed error for this, a quarter for the rounding of the dealt powers, a quarter for the
rounding of the coefficients. All three are checked when the plan is made.

Values of g are computed in decimals of 40 digits, whose rounding does not depend on the machine, and all that follows
is addition and multiplication of doubles: the parties must come to the same coefficients, to the last bit. A digest of
them stands in the name of the operation, so that a difference ends the run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from smpc.errors import RangeExceeded

FloatArray = npt.NDArray[np.float64]

# Sums of scaled values stay below 2^61, half of what can be truncated.
MOST_BITS = 61

_LOG_PIECES = range(3, 11)
_MOST_DEGREE = 12
# Nodes are multiples of 2^-40: a cosine that differs in its last bit gives the same node. The product of distances to
# them grows by less than a thousandth, which the bound of the interpolation includes.
_NODE_BITS = 40
_SLACK = 1.001
_CONTEXT = Context(prec=40)

LN2 = Decimal(2).ln(_CONTEXT)


@dataclass(frozen=True, slots=True)
class Smooth:
    """A function with bounds of its derivatives.

    name        for the operation's name
    value       the function in decimals
    derivative  B_n(a, b), as (n, a, b); infinite where the function is not analytic
    relative    whether the allowed error grows with the value, which must be positive and monotone then
    """

    name: str
    value: Callable[[Decimal], Decimal]
    derivative: Callable[[int, float, float], float]
    relative: bool = False


def _positive(bound: Callable[[int, float], float]) -> Callable[[int, float, float], float]:
    """Derivatives of a power or logarithm are largest at the left end, and unbounded at zero."""
    return lambda n, a, _: bound(n, a) if a > 0 else math.inf


# The sigmoid is 1/2 + sum of 1 / (x - p) over its poles p = +-i pi, +-3 i pi, ..., so that for n >= 1 and real x
# |g^(n)| / n! <= 2 sum_k ((2 k + 1) pi)^-(n+1) <= 2 (pi^2 / 8) pi^-(n+1).
SIGMOID = Smooth("sigmoid", lambda x: 1 / (1 + (-x).exp()), lambda n, _a, _b: math.pi ** (1 - n) / 4)
EXP = Smooth("exp", lambda x: x.exp(), lambda n, _, b: math.exp(b) / math.factorial(n), relative=True)
LOG = Smooth("log", lambda x: x.ln(), _positive(lambda n, a: 1 / (n * a**n)))
RECIPROCAL = Smooth("reciprocal", lambda x: 1 / x, _positive(lambda n, a: a ** -(n + 1)))
# |binomial(1/2, n)| = binomial(2n, n) / (4^n (2n - 1)), |binomial(-1/2, n)| = binomial(2n, n) / 4^n.
SQRT = Smooth(
    "sqrt", lambda x: x.sqrt(), _positive(lambda n, a: math.comb(2 * n, n) / 4**n / (2 * n - 1) * a ** (0.5 - n))
)
INVERSE_SQRT = Smooth(
    "inverse sqrt", lambda x: 1 / x.sqrt(), _positive(lambda n, a: math.comb(2 * n, n) / 4**n * a ** (-0.5 - n))
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A plan: how integers x of low..high are mapped to pieces, and the polynomials of these.

    width       X = multiplier (x - low) counts modulo 2^width, 8, 16, 32 or 64
    log_pieces  k: the highest k bits of X are the centre, the lower m = width - k bits the place t in 2^-m h
    mask_bits   fractional bits of the dealt powers
    scale_bits  fractional bits of the result
    degree      D
    coefficients  shape (D + 1, N), of t^0, ..., t^D
    digest      of all that the parties must have in common
    """

    width: int
    log_pieces: int
    low: int
    multiplier: int
    mask_bits: int
    scale_bits: int
    degree: int
    coefficients: FloatArray = field(repr=False, compare=False)
    digest: str

    @property
    def n_pieces(self) -> int:
        """N."""
        return 1 << self.log_pieces


@lru_cache(maxsize=256)
def pieces(function: Smooth, *, low: int, high: int, frac_bits: int, precision: int, largest: float) -> Pieces:
    """Return the cheapest plan whose result differs from the function by at most 2^-precision (1 + g if relative).

    Parameters
    ----------
    low, high
        The range, in units of 2^-frac_bits.
    precision
        Bits behind the binary point that the result is good for.
    largest
        The result, and what the caller adds to it, stays below this: it must fit 61 bits with its fractional bits.

    Raises
    ------
    RangeExceeded
        If there is none in words of 64 bits.

    Examples
    --------
    >>> plan = pieces(SIGMOID, low=-12 * 2**16, high=12 * 2**16, frac_bits=16, precision=18, largest=1.0)
    >>> plan.n_pieces, plan.degree, plan.width
    (16, 9, 32)
    """
    for cut, degree, allowed in _candidates(function, low, high, frac_bits, precision):
        plan = _plan(function, low, precision, cut, degree, allowed)
        if plan is not None and plan.scale_bits + math.log2(largest) <= MOST_BITS:
            return plan
    raise RangeExceeded(
        rule=f"{function.name} of this range, to {precision} bits, does not fit words of 64 bits",
        way_out="declare a smaller range, or use fewer fractional bits",
    )


def _candidates(
    function: Smooth, low: int, high: int, frac_bits: int, precision: int
) -> Iterator[tuple[_Cut, int, list[float]]]:
    """Yield cuts, degrees and what error is allowed on each piece, cheapest first; all interpolate well enough."""
    found = []
    for log_pieces in _LOG_PIECES:
        cut = _cut(low, high, frac_bits, log_pieces)
        allowed = [_allowed(function, float(centre - cut.h), precision) for centre in cut.centres]
        for degree in range(1, _MOST_DEGREE + 1):
            if _interpolates(function, cut, degree, allowed):
                # Words of material, and additions and multiplications of the shift of the polynomial.
                cost = (degree + 1) * 2**log_pieces * (1 + degree / 4)
                found.append((cost, log_pieces, degree, cut, allowed))
                break
    for _, _, degree, cut, allowed in sorted(found, key=lambda candidate: candidate[:2]):
        yield cut, degree, allowed


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a range is cut: see `Pieces`; h and the centres that can be met, as real numbers."""

    width: int
    log_pieces: int
    multiplier: int
    h: Fraction
    centres: list[Fraction]


def _cut(low: int, high: int, frac_bits: int, log_pieces: int) -> _Cut:
    """Return the cut of the least width in which the range is stretched over all pieces.

    A factor of four or more leaves no more than a fifth of the pieces unused.
    """
    span = max(high - low, 1)
    for width in (8, 16, 32, 64):
        multiplier = ((2**log_pieces - 1) << (width - log_pieces)) // span if width > log_pieces else 0
        if multiplier >= 4 or (width == 64 and multiplier):
            h = Fraction(2 ** (width - log_pieces), multiplier * 2**frac_bits)
            # The highest number lies between the last two, or at the last.
            n_centres = -(-multiplier * span >> (width - log_pieces)) + 1
            centres = [Fraction(low, 2**frac_bits) + j * h for j in range(n_centres)]
            return _Cut(width, log_pieces, multiplier, h, centres)
    raise RangeExceeded(rule="a range does not fit words of 64 bits", way_out="declare a smaller one")


def _interpolates(function: Smooth, cut: _Cut, degree: int, allowed: list[float]) -> bool:
    h = float(cut.h)
    factor = _SLACK * h ** (degree + 1) / 2**degree
    for centre, most in zip(cut.centres, allowed, strict=True):
        x = float(centre)
        if not factor * function.derivative(degree + 1, x - h, x + h) <= most / 2:
            return False
    return True


def _allowed(function: Smooth, a: float, precision: int) -> float:
    # A relative function increases: its least value on a piece is at the left end.
    weight = 1 + float(function.value(Decimal(a))) if function.relative else 1.0
    return math.ldexp(weight, -precision)


def _plan(function: Smooth, low: int, precision: int, cut: _Cut, degree: int, allowed: list[float]) -> Pieces | None:
    # Centres that no number can meet keep the polynomial 0.
    coefficients = np.zeros((degree + 1, 2**cut.log_pieces))
    with localcontext(_CONTEXT):
        for j, centre in enumerate(cut.centres):
            coefficients[:, j] = _interpolate(function, centre, cut.h, degree)
    # P_j(t) with t = g - rho, both in [0, 1), is a polynomial in the masked place rho whose coefficients are at most
    # sum_d |c_d| binomial(d, i); the first, of rho^0, is not rounded by the dealer.
    used = np.abs(coefficients[:, : len(cut.centres)])
    growth = float(((used * (2.0 ** np.arange(degree + 1) - 1)[:, None]).sum(axis=0) / np.array(allowed)).max())
    # growth 2^-(mask_bits + 1) <= allowed / 4, and the roundings of D + 1 coefficients
    # D 2^-(scale - mask + 1) + 2^-(scale + 1) <= 2^-precision / 4. _SLACK stands for the doubles' own rounding.
    mask_bits = max(math.ceil(math.log2(_SLACK * 2 * growth)), 1)
    scale_bits = mask_bits + precision + 1 + math.ceil(math.log2(_SLACK * (degree + 2.0**-mask_bits)))
    # Doubles carry 53 bits: they must be finer than the grid of the coefficients, and of the powers. And coefficients
    # must be signed words of 64 bits: that of rho^0 is P_j(g), at most sum_d |c_d|.
    if scale_bits - mask_bits > 42 or mask_bits > 42 or math.ldexp(float(used.sum(axis=0).max()), scale_bits) > 2.0**62:
        return None
    description = f"{cut.width} {cut.log_pieces} {low} {cut.multiplier} {mask_bits} {scale_bits}".encode()
    digest = hashlib.blake2b(coefficients.astype("<f8").tobytes() + description, digest_size=8).hexdigest()
    return Pieces(cut.width, cut.log_pieces, low, cut.multiplier, mask_bits, scale_bits, degree, coefficients, digest)


def _interpolate(function: Smooth, centre: Fraction, h: Fraction, degree: int) -> list[float]:
    nodes, inverse = _nodes(degree)
    values = [function.value(_decimal(centre + h * node)) for node in nodes]
    return [
        float(sum((factor * value for factor, value in zip(row, values, strict=True)), Decimal(0))) for row in inverse
    ]


@lru_cache
def _nodes(degree: int) -> tuple[list[Fraction], list[list[Decimal]]]:
    """Return the roots of T_{degree+1}, and the matrix from values at them to coefficients."""
    n = degree + 1
    nodes = [
        Fraction(round(math.ldexp(math.cos(math.pi * (2 * i + 1) / (2 * n)), _NODE_BITS)), 2**_NODE_BITS)
        for i in range(n)
    ]
    columns = []
    for i, node in enumerate(nodes):
        # Lagrange's polynomial of the node: 1 there, 0 at the others.
        polynomial = [Fraction(1)]
        for other in nodes[:i] + nodes[i + 1 :]:
            shifted = [Fraction(0), *polynomial]
            polynomial = [
                (a - other * b) / (node - other) for a, b in zip(shifted, [*polynomial, Fraction(0)], strict=True)
            ]
        columns.append([_decimal(coefficient) for coefficient in polynomial])
    return nodes, [[column[d] for column in columns] for d in range(n)]


def _decimal(value: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def nearest(value: Decimal, bits: int) -> int:
    """Return the integer nearest to value times 2^bits."""
    scaled: Fraction = Fraction(value) * 2**bits
    return round(scaled)
