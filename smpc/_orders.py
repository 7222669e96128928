"""Comparisons, choices by secret conditions, and selection: methods of a session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy._checks import check_count
from smpc import comparison, selection
from smpc._products import Products, bits_of
from smpc._real import words_of
from smpc.binary import narrow
from smpc.bits import SharedBits
from smpc.conjunctions import conjunctions
from smpc.conversion import gated, numbers_of
from smpc.decomposition import binary_digits
from smpc.kinds import Conjunctions, Product, all_of
from smpc.ring import RING64, Domain, Words
from smpc.shared import Public, Shared, check_together


class Orders(Products):
    """What compares, and what chooses."""

    async def negative(self, x: Shared) -> Shared:
        """Return 1 where x < 0 and 0 elsewhere, shared. Three or four rounds: two or three to bits, one to numbers."""
        return (await self.to_numbers(await self.negative_bits(x))).reshape(x.shape)

    async def less(self, x: Shared | Public, y: Shared | Public) -> Shared:
        """Return 1 where x < y and 0 elsewhere, shared. Three or four rounds.

        Right for all signed integers. If the declared ranges say that the difference cannot wrap, one sign is enough;
        otherwise three are computed and combined, in one round more.
        """
        return (await self.to_numbers(await self.less_bits(x, y))).reshape(_shape(x, y))

    async def less_equal(self, x: Shared | Public, y: Shared | Public) -> Shared:
        """Return 1 where x <= y and 0 elsewhere, shared. As `less`."""
        return 1 - await self.less(y, x)

    async def equal(self, x: Shared | Public, y: Shared | Public) -> Shared:
        """Return 1 where x = y and 0 elsewhere, shared. Three or four rounds."""
        return (await self.to_numbers(await self.equal_bits(x, y))).reshape(_shape(x, y))

    async def negative_bits(self, x: Shared) -> SharedBits:
        """Return bits: whether x < 0, in one row. Two rounds for numbers declared below 2^15, three for others."""
        flat = self._flat(x)
        words = await comparison.negative(self, flat, comparison.width_for(x.bound))
        return SharedBits(self, words, len(flat))

    async def less_bits(self, x: Shared | Public, y: Shared | Public) -> SharedBits:
        """Return bits: whether x < y, in one row. Two rounds for numbers declared below 2^14, three for others."""
        left, right = self._pair(x, y)
        bound = _sum(left.bound, right.bound)
        if bound is not None and bound < 2**63:
            return await self.negative_bits(left - right)
        flat_left, flat_right = (self._flat(side) for side in (left, right))
        return SharedBits(self, await comparison.less_anywhere(self, flat_left, flat_right), len(flat_left))

    async def equal_bits(self, x: Shared | Public, y: Shared | Public) -> SharedBits:
        """Return bits: whether x = y, in one row. Two rounds for numbers declared below 2^14, three for others."""
        left, right = self._pair(x, y)
        bound = _sum(left.bound, right.bound)
        width = 64 if bound is None or bound >= 2**63 else comparison.width_for(bound)
        flat = self._flat(left) - self._flat(right)
        return SharedBits(self, await comparison.is_zero(self, flat, width), len(flat))

    async def both(self, x: SharedBits, y: SharedBits) -> SharedBits:
        """Return the conjunction of bits of one shape. One round."""
        return await self.conjunction([x, y])

    async def conjunction(self, bits: Sequence[SharedBits]) -> SharedBits:
        """Return the conjunction of 2..8 arrays of bits of one shape, in one round."""
        if not 2 <= len(bits) <= 8 or len({each.shape for each in bits}) != 1:
            raise ValueError("conjunction takes 2..8 arrays of bits of one shape")
        return (await self.conjunctions(all_of(len(bits)), bits))[0]

    async def conjunctions(self, kind: Conjunctions, bits: Sequence[SharedBits]) -> list[SharedBits]:
        """Return several conjunctions of some of the arrays of bits, in one round."""
        self._check_mine(*bits)
        if len(bits) != kind.n_variables or len({each.shape for each in bits}) != 1:
            raise ValueError(f"{kind.n_variables} arrays of bits of one shape are needed")
        words = np.stack([bits_of(each) for each in bits])
        products = await conjunctions(self, kind, words.reshape(len(bits), -1))
        return [SharedBits(self, row.reshape(words.shape[1:]), bits[0].length) for row in products]

    async def to_numbers(self, bits: SharedBits, domain: Domain = RING64) -> Shared:
        """Return bits as numbers 0 and 1, shape of the bits. One round."""
        self._check_mine(bits)
        words = await numbers_of(self, bits_of(bits), bits.length, domain)
        return Shared(self, domain, words.reshape(bits.shape), bound=1)

    async def to_bits(self, x: Shared, *, width: int = 64) -> SharedBits:
        """Return the binary digits of numbers, shape (width, size), lowest first; negative ones as two's complement.

        Parameters
        ----------
        width
            8, 16, 32 or 64: the number is taken modulo 2^width. 2, 3, 4 and 5 rounds.
        """
        narrow(width)
        flat = self._flat(x)
        return SharedBits(self, await binary_digits(self, flat, width), len(flat))

    async def from_bits(self, bits: SharedBits) -> Shared:
        """Return the numbers whose binary digits the bits are, as `to_bits` gives them; shape (size,). One round.

        Parameters
        ----------
        bits
            Shape (width, size), width 1..64; the last row is the sign: -2^(width - 1).
        """
        if len(bits.shape) != 2 or not 1 <= bits.shape[0] <= 64:
            raise ValueError(f"from_bits takes bits of shape (1..64, size), got {bits.shape}")
        numbers = words_of(await self.to_numbers(bits))
        weights = np.uint64(1) << np.arange(len(numbers), dtype=np.uint64)
        weights[-1:] = np.negative(weights[-1:])
        words = (numbers * weights[:, None]).sum(axis=0, dtype=np.uint64)
        bound = 2 ** (len(numbers) - 1)
        return Shared(self, RING64, words, bound=bound if bound <= RING64.largest else None)

    async def where(self, condition: SharedBits | Shared, x: Shared | Public, y: Shared | Public) -> Shared:
        """Return x where the condition holds and y elsewhere. One round.

        Parameters
        ----------
        condition
            Bits, or numbers that are 0 or 1.
        """
        left, right = self._pair(x, y)
        self._check_mine(condition)
        domain = left.domain
        # As words: the difference may wrap, what is added to it afterwards takes that back.
        difference = domain.sub(words_of(left), words_of(right))
        if isinstance(condition, Shared):
            check_together(condition, left)
            if condition.frac_bits:
                raise ValueError("a condition is bits, or integers that are 0 or 1; this one has fractional bits")
            factor, difference = np.broadcast_arrays(words_of(condition), difference)
            gate = (await self._multiply([(Product(domain), factor, difference)]))[0]
        else:
            _check_ring(domain)
            if left.size != condition.length or len(condition.shape) != 1:
                raise ValueError(f"condition of shape {condition.shape} does not fit numbers of shape {left.shape}")
            gate = (await gated(self, bits_of(condition), difference.reshape(-1))).reshape(left.shape)
        words = domain.add(gate, words_of(right))
        # The result is one of the two.
        bound = None if left.bound is None or right.bound is None else max(left.bound, right.bound)
        return Shared(self, domain, words, bound=bound, frac_bits=left.frac_bits)

    async def abs(self, x: Shared) -> Shared:
        """Return the absolute value; -2^63 of an undeclared range stays what it is. Three or four rounds."""
        return await self._signed(x, 2)

    async def relu(self, x: Shared) -> Shared:
        """Return max(x, 0). Three or four rounds."""
        return await self._signed(x, 1)

    async def _signed(self, x: Shared, times: int) -> Shared:
        """Return x less `times` the negative part of x."""
        bits = await self.negative_bits(x)
        flat = self._flat(x)
        words = flat - np.uint64(times) * await gated(self, bits_of(bits), flat)
        return Shared(self, RING64, words.reshape(x.shape), bound=x.bound, frac_bits=x.frac_bits)

    # Selection.

    async def argmax(self, x: Shared) -> Shared:
        """Return the index of the largest number along the last axis; of equal ones the first. See `max`."""
        return (await self.argmax_and_max(x))[0]

    async def argmin(self, x: Shared) -> Shared:
        """Return the index of the smallest number along the last axis; of equal ones the first."""
        return await self.argmax(self._reversed(x))

    async def max(self, x: Shared) -> Shared:
        """Return the largest number along the last axis. ceil(log4(n)) levels of four to six rounds."""
        return (await self.argmax_and_max(x))[1]

    async def min(self, x: Shared) -> Shared:
        """Return the smallest number along the last axis."""
        return self._reversed(await self.max(self._reversed(x)))

    def _reversed(self, x: Shared) -> Shared:
        """Return numbers in the opposite order: -x, or -1 - x where nothing says that -x does not wrap."""
        self._check_mine(x)
        if x.bound is not None:
            return -x
        words = np.negative(self._flat(x))
        if self.party == 0:
            words -= np.uint64(1)
        return Shared(self, x.domain, words.reshape(x.shape), frac_bits=x.frac_bits)

    async def argmax_and_max(self, x: Shared) -> tuple[Shared, Shared]:
        """Return index and value of the largest number along the last axis, at the cost of one of them.

        Four rounds a level for numbers declared below 2^14, five for others, six without a declared range.
        """
        flat = self._rows(x)
        index, value = await selection.argmax(self, flat, x.bound)
        lead = x.shape[:-1]
        return (
            Shared(self, RING64, index.reshape(lead), bound=max(x.shape[-1] - 1, 1)),
            Shared(self, RING64, value.reshape(lead), bound=x.bound, frac_bits=x.frac_bits),
        )

    async def top_k(self, x: Shared, k: int) -> tuple[Shared, Shared]:
        """Return the indices of the k largest numbers, largest first, and the numbers; of equal ones the first.

        Up to 512 numbers: eight rounds or fewer, n (n - 1) / 2 comparisons. More: k tournaments one after the other.

        Parameters
        ----------
        x
            Shape (n,).
        k
            1..n.
        """
        if x.ndim != 1:
            raise ValueError(f"top_k takes one row of numbers, got shape {x.shape}")
        check_count("k", k)
        if k > len(x):
            raise ValueError(f"k must be at most the {len(x)} numbers there are, got {k!r}")
        flat = self._flat(x)
        ranked = selection.top_k if len(x) <= selection.MOST_RANKED else selection.top_k_one_by_one
        index, value = await ranked(self, flat, k, x.bound)
        return (
            Shared(self, RING64, index, bound=max(len(x) - 1, 1)),
            Shared(self, RING64, value, bound=x.bound, frac_bits=x.frac_bits),
        )

    # Operands.

    def _flat(self, x: Shared) -> Words:
        self._check_mine(x)
        _check_ring(x.domain)
        return words_of(x).reshape(-1)

    def _rows(self, x: Shared) -> Words:
        if x.ndim == 0 or x.shape[-1] == 0:
            raise ValueError(f"there is no largest of no numbers: got shape {x.shape}")
        return self._flat(x).reshape(-1, x.shape[-1])

    def _pair(self, x: Shared | Public, y: Shared | Public) -> tuple[Shared, Shared]:
        """Return two shared arrays of one shape, domain and number of fractional bits."""
        known = next((side for side in (x, y) if isinstance(side, Shared)), None)
        if known is None:
            raise TypeError("two public operands need no protocol")
        left, right = (side if isinstance(side, Shared) else self._constant(side, known) for side in (x, y))
        self._check_mine(left, right)
        check_together(left, right)
        if left.frac_bits != right.frac_bits:
            raise ValueError(
                f"numbers with {left.frac_bits} and with {right.frac_bits} fractional bits cannot be compared"
            )
        shape = np.broadcast_shapes(left.shape, right.shape)
        return _broadcast(left, shape), _broadcast(right, shape)

    def _constant(self, value: Public, like: Shared) -> Shared:
        # Beside undeclared numbers a constant is an element like any other, -2^63 included.
        bound = None if like.bound is None else 0
        zeros = np.zeros(np.shape(value), dtype=np.uint64)
        return Shared(self, like.domain, zeros, bound=bound, frac_bits=like.frac_bits) + value


def _shape(x: Shared | Public, y: Shared | Public) -> tuple[int, ...]:
    return np.broadcast_shapes(*(side.shape if isinstance(side, Shared) else np.shape(side) for side in (x, y)))


def _broadcast(x: Shared, shape: tuple[int, ...]) -> Shared:
    if x.shape == shape:
        return x
    return Shared(x.session, x.domain, np.broadcast_to(words_of(x), shape), bound=x.bound, frac_bits=x.frac_bits)


def _check_ring(domain: Domain) -> None:
    if domain is not RING64:
        raise ValueError(f"numbers in {domain} have no order and no binary digits here: share them in RING64")


def _sum(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x + y
