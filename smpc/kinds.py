"""The kinds of correlated randomness that the protocols use, and what each one holds.

Product        a, b, c = a b                         Beaver's product, one item per element
Square         a, a^2                                a square opens one mask instead of two
MatrixProduct  A, B, C = A B                         one item per product of matrices
Conjunctions   masks of bits and their products      products of up to several bits in one round
Subsets        masks of bits, all their products     every function of several bits in one round
Digits         r, and the thermometers of its digits  comparisons with an opened number
OneHot         a digit, as which value it has        a public table looked up by a secret digit
Truncation     r, its high part, its sign, digits    division by a power of two
Bit            a random bit, shared in both ways     from exclusive or to sums
Gate           the same, times a random number       a number kept or dropped by a secret bit
Gates          several bits, several numbers         numbers kept or dropped by each of several bits

Items of the kinds with bits hold 64 bits each: one word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np

from smpc.binary import BITS, BITS16, narrow
from smpc.bitplanes import thermometer, unpack_bits
from smpc.material import Elements, Field, Kind
from smpc.ring import RING64, Domain

DIGIT_BITS = 4

_MOST_SUBSET_BITS = 12
_MOST_ONE_HOT_BITS = 8


@dataclass(frozen=True, slots=True)
class Product(Kind):
    """a and b uniform, c = a b: one item per element. Source: Beaver 1991."""

    domain: Domain

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"product {self.domain}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Fields a, b."""
        return Field(self.domain), Field(self.domain)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Field c."""
        return (Field(self.domain),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:  # noqa: ARG002
        """Return c."""
        a, b = free
        return [self.domain.mul(a, b)]


@dataclass(frozen=True, slots=True)
class Square(Kind):
    """a uniform, c = a^2: one item per element."""

    domain: Domain

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"square {self.domain}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Field a."""
        return (Field(self.domain),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Field c."""
        return (Field(self.domain),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:  # noqa: ARG002
        """Return c."""
        return [self.domain.mul(free[0], free[0])]


@dataclass(frozen=True, slots=True)
class MatrixProduct(Kind):
    """A of shape (m, k) and B of shape (k, n) uniform, C = A B; an item is three whole matrices, row by row."""

    domain: Domain
    m: int
    k: int
    n: int

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"matrix product {self.domain} {self.m} {self.k} {self.n}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Fields A, B."""
        return Field(self.domain, self.m * self.k), Field(self.domain, self.k * self.n)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Field C."""
        return (Field(self.domain, self.m * self.n),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return C."""
        a = free[0].reshape(count, self.m, self.k)
        b = free[1].reshape(count, self.k, self.n)
        products = [self.domain.matmul(left, right).reshape(-1) for left, right in zip(a, b, strict=True)]
        return [np.concatenate(products) if products else np.empty(0, dtype=np.uint64)]


@dataclass(frozen=True)
class Conjunctions(Kind):
    """Masks for v bits and the products of those subsets of them that `monomials` need; 64 instances an item.

    A monomial is the product of the bits it names. With x_j = d_j + a_j (mod 2) and d opened,

        prod_{j in M} x_j = sum over S of (prod_{j in M - S} d_j) (prod_{j in S} a_j),   S the subsets of M,

    so shares of the products of masks are enough for a product of any number of bits in one round.
    """

    monomials: tuple[tuple[int, ...], ...]

    def __hash__(self) -> int:
        # Kinds are looked up several times a round, and hashing nested tuples anew takes as long as the arithmetic.
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.monomials)

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"conjunctions {self.monomials}"

    @cached_property
    def n_variables(self) -> int:
        """Number of bits that are masked: one more than the largest that a monomial names."""
        return 1 + max(j for monomial in self.monomials for j in monomial)

    @cached_property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """Sets of at least two variables whose products are dealt, smaller ones first."""
        wanted = {
            subset
            for monomial in self.monomials
            for size in range(2, len(monomial) + 1)
            for subset in combinations(sorted(monomial), size)
        }
        return tuple(sorted(wanted, key=lambda subset: (len(subset), subset)))

    @property
    def free(self) -> tuple[Field, ...]:
        """Masks, a row for each variable."""
        return (Field(BITS, rows=self.n_variables),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Products of masks, a row for each of `subsets`."""
        return (Field(BITS, rows=len(self.subsets)),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the products of masks."""
        masks = free[0]
        rows: dict[tuple[int, ...], Elements] = {(j,): masks[j] for j in range(self.n_variables)}
        for subset in self.subsets:
            # The subset without its last variable is a subset of the same monomial, and comes before it.
            rows[subset] = rows[subset[:-1]] & masks[subset[-1]]
        return [np.stack([rows[subset] for subset in self.subsets]).reshape(len(self.subsets), count)]


@lru_cache
def node(radix: int, *, whole: bool) -> Conjunctions:
    """Return the kind for one node of a comparison tree over `radix` neighbours, highest first.

    Neighbour i says by e_i that its digits are equal and by g_i that they are greater. Variables e_0.., then g_1..:
    the highest g enters unmultiplied. The node is greater by g_0 + e_0 g_1 + e_0 e_1 g_2 + ..., and, if `whole`,
    equal by e_0 ... e_{radix-1}, the last monomial. The lowest e is needed only then.
    """
    n_equal = radix if whole else radix - 1
    greater = [(*range(i), n_equal + i - 1) for i in range(1, radix)]
    return Conjunctions(tuple(greater + ([tuple(range(radix))] if whole else [])))


@lru_cache
def all_of(count: int) -> Conjunctions:
    """Return the kind for the product of `count` bits."""
    return Conjunctions((tuple(range(count)),))


@dataclass(frozen=True, slots=True)
class Subsets(Kind):
    """Masks for a few bits, and the product of every set of at least two of them; 64 instances an item.

    As `Conjunctions` with all monomials, but one item's products lie together, in the order of `sets`: hundreds of
    streams of their own would take longer than what they hold.
    """

    n_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.n_bits <= _MOST_SUBSET_BITS:
            raise ValueError(f"n_bits must be in 2..{_MOST_SUBSET_BITS}, got {self.n_bits!r}")

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"subsets {self.n_bits}"

    @property
    def sets(self) -> list[int]:
        """The sets whose products are dealt: bit j of the number says whether variable j is in it."""
        return [each for each in range(1 << self.n_bits) if each.bit_count() > 1]

    @property
    def free(self) -> tuple[Field, ...]:
        """Masks, a row for each bit."""
        return (Field(BITS, rows=self.n_bits),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Products of masks, item by item."""
        return (Field(BITS, (1 << self.n_bits) - self.n_bits - 1),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the products of masks."""
        rows = np.full((1 << self.n_bits, count), 2**64 - 1, dtype=np.uint64)
        for j, mask in enumerate(free[0]):
            np.bitwise_and(rows[: 1 << j], mask, out=rows[1 << j : 2 << j])
        return [np.ascontiguousarray(rows[self.sets].T).reshape(-1)]


@dataclass(frozen=True, slots=True)
class Digits(Kind):
    """r uniform modulo 2^width, and the thermometers of its digits (see `smpc.bitplanes`), a row for each digit."""

    width: int

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"digits {self.width}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Field r."""
        return (Field(narrow(self.width)),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """Thermometers, a row for each digit."""
        return (Field(BITS16, rows=self.width // DIGIT_BITS),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:  # noqa: ARG002
        """Return the thermometers."""
        return [thermometer(free[0].astype(np.uint64), self.width // DIGIT_BITS)]


@dataclass(frozen=True, slots=True)
class OneHot(Kind):
    """q uniform, of n_bits bits, as the numbers [q = v] in a row. q itself is the sum of v [q = v]."""

    n_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.n_bits <= _MOST_ONE_HOT_BITS:
            raise ValueError(f"n_bits must be in 1..{_MOST_ONE_HOT_BITS}, got {self.n_bits!r}")

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"one hot {self.n_bits}"

    @property
    def free(self) -> tuple[Field, ...]:
        """A byte whose lowest bits are q."""
        return (Field(narrow(8)),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """The numbers."""
        return (Field(RING64, 1 << self.n_bits),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the numbers."""
        out = np.zeros((count, 1 << self.n_bits), dtype=np.uint64)
        out[np.arange(count), free[0] & np.uint8((1 << self.n_bits) - 1)] = 1
        return [out.reshape(-1)]


@dataclass(frozen=True, slots=True)
class Truncation(Kind):
    """r uniform in Z_2^64; the thermometers of its lowest `n_bits` bits; r >> n_bits; the highest bit of r."""

    n_bits: int

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"truncation {self.n_bits}"

    @property
    def free(self) -> tuple[Field, ...]:
        """Field r."""
        return (Field(RING64),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """High part and highest bit, as numbers; thermometers, a row for each digit."""
        return Field(RING64), Field(RING64), Field(BITS16, rows=-(-self.n_bits // DIGIT_BITS))

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:  # noqa: ARG002
        """Return high part, highest bit, thermometers."""
        r = free[0]
        low = r & np.uint64(2**self.n_bits - 1)
        return [r >> np.uint64(self.n_bits), r >> np.uint64(63), thermometer(low, -(-self.n_bits // DIGIT_BITS))]


@dataclass(frozen=True, slots=True)
class Bit(Kind):
    """64 random bits, shared by exclusive or (one word) and as numbers 0 or 1 of a domain."""

    domain: Domain = RING64

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"bit {self.domain}"

    @property
    def free(self) -> tuple[Field, ...]:
        """The bits, as a word."""
        return (Field(BITS),)

    @property
    def tied(self) -> tuple[Field, ...]:
        """The bits, as numbers."""
        return (Field(self.domain, 64),)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return the bits as numbers."""
        return [unpack_bits(free[0], 64 * count).astype(np.uint64)]


@dataclass(frozen=True, slots=True)
class Gate(Kind):
    """64 random bits as a word, 64 random numbers a; the bits as numbers, and bit times a."""

    @property
    def label(self) -> str:
        """Name of the kind."""
        return "gate"

    @property
    def free(self) -> tuple[Field, ...]:
        """The bits as a word, the numbers."""
        return Field(BITS), Field(RING64, 64)

    @property
    def tied(self) -> tuple[Field, ...]:
        """The bits as numbers, and their products with the numbers."""
        return Field(RING64, 64), Field(RING64, 64)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return bits as numbers, products."""
        bits = unpack_bits(free[0], 64 * count).astype(np.uint64)
        return [bits, bits * free[1]]


@dataclass(frozen=True, slots=True)
class Gates(Kind):
    """64 times: random bits and random numbers; the bits as numbers, and the product of every bit with every number."""

    n_bits: int
    n_numbers: int

    @property
    def label(self) -> str:
        """Name of the kind."""
        return f"gates {self.n_bits} {self.n_numbers}"

    @property
    def free(self) -> tuple[Field, ...]:
        """The bits as words, a row for each; the numbers, a row for each."""
        return Field(BITS, rows=self.n_bits), Field(RING64, 64, rows=self.n_numbers)

    @property
    def tied(self) -> tuple[Field, ...]:
        """The bits as numbers; products, the rows of bit 0 first."""
        return Field(RING64, 64, rows=self.n_bits), Field(RING64, 64, rows=self.n_bits * self.n_numbers)

    def tie(self, free: Sequence[Elements], count: int) -> list[Elements]:
        """Return bits as numbers, products."""
        bits = unpack_bits(free[0], 64 * count).astype(np.uint64)
        return [bits, (bits[:, None] * free[1]).reshape(self.n_bits * self.n_numbers, 64 * count)]
