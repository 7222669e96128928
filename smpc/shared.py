"""One party's share of an array, with the operators that need no message.

Sums of shares are shares of sums, and multiples of shares are shares of multiples. Products of two shared arrays cost a
round and are awaited at the session. A public constant is added by party 0 alone: the parties' shares add up.

bound      public: no element is larger in absolute value. Follows from what was declared when the array was put in, and
           from every operation since; an operation whose result could wrap is refused. None: any element of the domain,
           and arithmetic is that of the domain, wrap-around included
frac_bits  public: the number that an element stands for is the integer times 2^-frac_bits
"""

from __future__ import annotations

import math
from fractions import Fraction
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from privacy._checks import check_non_negative
from smpc.errors import DomainMismatch, RangeExceeded, SessionMismatch
from smpc.fixed_point import FixedPoint
from smpc.ring import Domain, Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

# What NumPy indexing takes, restricted to public indices.
_One = int | slice | EllipsisType | None | npt.NDArray[Any] | list[int] | list[bool]
Index = _One | tuple[_One, ...]
Public = int | float | npt.NDArray[Any]


class Shared:
    """A secret-shared array of integers or fixed-point numbers as one party holds it.

    Supports `+`, `-`, unary `-` with shared and public operands, `*` and `@` with public integers, `sum`, `reshape`,
    `T` and NumPy indexing by public indices. Has no truth value, no comparison and no conversion: what a party may know
    of it comes from `Session.open`.
    """

    __slots__ = ("_share", "bound", "domain", "frac_bits", "session")

    # NumPy arrays on the left leave the operators to this class.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, session: Rounds, domain: Domain, share: Words, *, bound: int | None = None, frac_bits: int = 0
    ) -> None:
        self.session = session
        self.domain = domain
        self.bound = check_bound(bound, domain)
        self.frac_bits = frac_bits
        self._share = share

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array; public."""
        return self._share.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._share.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._share.size

    @property
    def T(self) -> Shared:  # noqa: N802 - as NumPy calls it
        """The transpose."""
        return self._like(self._share.T)

    def __len__(self) -> int:
        return len(self._share)

    def __repr__(self) -> str:
        kind = f", frac_bits={self.frac_bits}" if self.frac_bits else ""
        return f"Shared({self.domain}, shape={self.shape}{kind})"

    def __add__(self, other: Shared | Public) -> Shared:
        words, bound = self._operand(other)
        return self._like(self.domain.add(self._share, words), bound=_plus(self.bound, bound))

    # The reflected operators are reached only because of `__array_ufunc__`, which the type checker does not model.
    def __radd__(self, other: Public) -> Shared:  # type: ignore[misc]
        return self + other

    def __sub__(self, other: Shared | Public) -> Shared:
        words, bound = self._operand(other)
        return self._like(self.domain.sub(self._share, words), bound=_plus(self.bound, bound))

    def __rsub__(self, other: Public) -> Shared:  # type: ignore[misc]
        words, bound = self._operand(other)
        return self._like(self.domain.sub(words, self._share), bound=_plus(self.bound, bound))

    def __neg__(self) -> Shared:
        return self._like(self.domain.neg(self._share))

    def __mul__(self, other: Public) -> Shared:
        factor = self._factor(other, "mul")
        return self._like(
            self.domain.mul(self._share, self.domain.from_signed(factor)), bound=_times(self.bound, _largest(factor))
        )

    def __rmul__(self, other: Public) -> Shared:  # type: ignore[misc]
        return self * other

    def __matmul__(self, other: Public) -> Shared:
        factor = self._factor(other, "matmul")
        return self._like(
            _matmul(self.domain, self._share, self.domain.from_signed(factor)),
            bound=_times(self.bound, _largest_sum(factor, axis=0)),
        )

    def __rmatmul__(self, other: Public) -> Shared:
        factor = self._factor(other, "matmul")
        return self._like(
            _matmul(self.domain, self.domain.from_signed(factor), self._share),
            bound=_times(self.bound, _largest_sum(factor, axis=-1)),
        )

    def __getitem__(self, index: Index) -> Shared:
        return self._like(np.asarray(self._share[index]))

    def sum(self, axis: int | None = None) -> Shared:
        """Return the sum over one axis, or over all (shape ())."""
        n_terms = self.size if axis is None else self.shape[axis]
        return self._like(self.domain.sum(self._share, axis=axis), bound=_times(self.bound, n_terms))

    def reshape(self, *shape: int | tuple[int, ...]) -> Shared:
        """Return the same elements in another shape, given as integers or as one tuple."""
        lengths = shape[0] if len(shape) == 1 else shape
        return self._like(self._share.reshape(lengths))  # type: ignore[arg-type]

    def declare(self, bound: float) -> Shared:
        """Return the same elements under a declared bound: the caller vouches that no absolute value is larger.

        Nobody can check it. Comparisons and truncations of numbers beyond their bound give wrong results.
        """
        check_non_negative("bound", bound)
        scaled = math.ceil(Fraction(bound) * 2**self.frac_bits)
        return Shared(self.session, self.domain, self._share, bound=scaled, frac_bits=self.frac_bits)

    def ldexp(self, exponent: int) -> Shared:
        """Return the fixed-point numbers times 2^exponent, exactly: the same integers, of which another place is one.

        Raises
        ------
        ValueError
            If no fractional bit would be left.
        """
        if self.frac_bits <= exponent:
            raise ValueError(f"{self.frac_bits} fractional bits do not allow multiplication by 2^{exponent}")
        return Shared(self.session, self.domain, self._share, bound=self.bound, frac_bits=self.frac_bits - exponent)

    def __bool__(self) -> NoReturn:
        raise TypeError("a shared value has no truth value: open it, if it may be known")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("shared values cannot be compared locally: open what may be known")

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a shared value is no NumPy array: open it, if it may be known")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a share does not leave its session: it cannot be pickled or copied")

    def _like(self, share: Words, bound: int | EllipsisType | None = ...) -> Shared:
        new_bound = self.bound if bound is ... else bound
        return Shared(self.session, self.domain, share, bound=new_bound, frac_bits=self.frac_bits)

    def _operand(self, other: Shared | Public) -> tuple[Words, int | None]:
        """Return this party's share of a summand, and its bound."""
        if isinstance(other, Shared):
            check_together(self, other)
            if self.frac_bits != other.frac_bits:
                raise ValueError(
                    f"numbers with {self.frac_bits} and with {other.frac_bits} fractional bits cannot be added: "
                    "truncate one of them first"
                )
            return other._share, other.bound  # noqa: SLF001 - same class
        integers = self._encode(other)
        constant = self.domain.from_signed(integers)
        # The parties' shares add up, so one party adds the constant and the others add zero.
        words = constant if self.session.party == 0 else np.zeros_like(constant)
        return words, None if self.bound is None else _largest(integers)

    def _encode(self, other: Public) -> npt.NDArray[Any]:
        if not self.frac_bits:
            return np.asarray(other)
        largest = float(np.max(np.abs(np.asarray(other, dtype=np.float64)), initial=0.0))
        return FixedPoint(self.frac_bits, self.domain).encode(other, max_abs=max(largest, 2.0**-self.frac_bits))

    def _factor(self, other: object, operation: str) -> npt.NDArray[Any]:
        if isinstance(other, Shared):
            raise TypeError(f"a product of two shared arrays costs a round: await session.{operation}(x, y)")
        array = np.asarray(other)
        if array.dtype.kind == "f" and self.frac_bits:
            raise TypeError(f"a product with a real number has to be truncated: await session.{operation}(x, y)")
        return array


def concatenate(first: Shared, *more: Shared) -> Shared:
    """Return arrays of one axis, one after the other; the declared range is the widest of theirs. Local.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a, b = await s.input(x)
    ...     return await s.open(concatenate(a, b[:1]))
    >>> run_local(protocol, inputs=[[1, 2], [3, 4]]).results[0]
    array([1, 2, 3])
    """
    for x in (first, *more):
        check_together(first, x)
        if x.ndim != 1 or x.frac_bits != first.frac_bits:
            raise ValueError("arrays of one axis and of the same number of fractional bits are needed")
    bounds = [x.bound for x in (first, *more)]
    known = [bound for bound in bounds if bound is not None]
    words = np.concatenate([x._share for x in (first, *more)])  # noqa: SLF001 - as in the class above
    bound = max(known) if len(known) == len(bounds) else None
    return Shared(first.session, first.domain, words, bound=bound, frac_bits=first.frac_bits)


def check_bound(bound: int | None, domain: Domain) -> int | None:
    """Return the bound, or raise RangeExceeded if the domain does not hold numbers up to it."""
    if bound is not None and bound > domain.largest:
        raise RangeExceeded(
            rule=f"numbers of up to {bound.bit_length()} bits and a sign do not fit {domain.name}",
            way_out="declare a smaller range, use fewer fractional bits, or truncate before",
        )
    return bound


def _plus(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


def _times(left: int | None, right: int) -> int | None:
    return None if left is None else left * right


def _largest(integers: npt.NDArray[Any]) -> int:
    """Return the largest absolute value; in Python's integers, where -2^63 has one."""
    if integers.size == 0:
        return 0
    return max(int(integers.max()), -int(integers.min()))


def _largest_sum(integers: npt.NDArray[Any], *, axis: int) -> int:
    """Return the largest sum of absolute values along one axis."""
    if integers.size == 0:
        return 0
    if _largest(integers) * integers.shape[axis] < 2**63:
        return int(np.abs(integers.astype(np.int64)).sum(axis=axis).max())
    return int(np.max(np.sum(np.abs(integers.astype(object)), axis=axis)))


def check_together(x: Shared, y: Shared) -> None:
    """Raise SessionMismatch or DomainMismatch unless both live in one session and domain."""
    if x.session is not y.session:
        raise SessionMismatch
    if x.domain != y.domain:
        raise DomainMismatch(x.domain.name, y.domain.name)


def _matmul(domain: Domain, a: Words, b: Words) -> Words:
    """Return a @ b for one or two axes each, as NumPy defines it."""
    if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2) or a.shape[-1] != b.shape[0]:
        raise ValueError(f"cannot multiply matrices of shapes {a.shape} and {b.shape}")
    rows = a if a.ndim == 2 else a[None, :]
    columns = b if b.ndim == 2 else b[:, None]
    return domain.matmul(rows, columns).reshape((*a.shape[:-1], *b.shape[1:]))
