"""One compute party's side of a protocol: what costs a message is awaited here.

All parties run the same coroutine. Security is semi-honest with a dishonest majority: up to n - 1 parties that follow
the protocol learn, from everything they see together, nothing beyond their inputs and what was opened (given a dealer
that colludes with none of them). Masked values and openings all pass through one function, `Rounds.reveal`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count, check_non_negative
from privacy.randomness import Rng
from smpc import comparison, selection
from smpc._rounds import Layout, Record
from smpc.beaver import matrix_product_share, product_share
from smpc.binary import BITS
from smpc.bitplanes import unpack_bits
from smpc.bits import SharedBits
from smpc.conjunctions import conjunctions
from smpc.conversion import gated, numbers_of
from smpc.errors import FrameRejected, RangeExceeded, SessionMismatch, UnsupportedSecurity
from smpc.fixed_point import FixedPoint
from smpc.functions import Functions
from smpc.kinds import Conjunctions, MatrixProduct, Product, Square, all_of
from smpc.material import MaterialStore
from smpc.prg import SEED_BYTES
from smpc.ring import RING64, Domain, Words
from smpc.shared import Public, Shared, check_bound, check_together
from smpc.sharing import expand_seed
from smpc.transport import Transport
from smpc.truncation import LIMIT, TRUNCATIONS, Truncating, truncated

Security = Literal["semi_honest", "malicious"]
SECURITY_LEVELS: tuple[Security, ...] = ("semi_honest",)

# An input that claims more elements is refused before memory is asked for.
_MOST_ELEMENTS = 2**31

Opened = npt.NDArray[Any]


def check_security(security: str) -> None:
    """Raise UnsupportedSecurity unless the protocols here reach this level."""
    if security not in SECURITY_LEVELS:
        raise UnsupportedSecurity(security, available=SECURITY_LEVELS)


class Session(Functions):
    """One party's side of a run.

    Parameters
    ----------
    party, n_parties
        0..n_parties - 1, and 2..5.
    transport
        Lines to the others.
    material
        This party's share of the correlated randomness.
    session_id
        16 bytes, the same at all parties and fresh for each run.
    security
        "semi_honest".
    truncation
        How products of fixed-point numbers are cut back: "exact" to the nearest, "stochastic" or "local"; see
        `smpc.truncation`.
    timeout
        Seconds that a round waits for the others' messages.
    record
        If given, everything received is appended to it. For tests.
    rng
        This party's own randomness.
    """

    def __init__(
        self,
        *,
        party: int,
        n_parties: int,
        transport: Transport,
        material: MaterialStore,
        session_id: bytes,
        security: Security = "semi_honest",
        truncation: Truncating = "exact",
        timeout: float = 60.0,
        record: Record | None = None,
        rng: Rng,
    ) -> None:
        check_security(security)
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}, got {truncation!r}")
        super().__init__(
            party=party,
            n_parties=n_parties,
            transport=transport,
            material=material,
            session_id=session_id,
            timeout=timeout,
            record=record,
            rng=rng,
        )
        self.security = security
        self.truncation = truncation

    # Where shared values come from.

    def shared(self, share: Words, domain: Domain = RING64, *, bound: int | None = None, frac_bits: int = 0) -> Shared:
        """Wrap a share that came from outside, for example from a hospital that is not a compute party.

        Raises
        ------
        ValueError, RangeExceeded
            If the array does not hold elements of the domain.
        """
        if share.dtype != np.uint64:
            raise ValueError(f"a share is an array of uint64 words, got dtype {share.dtype}")
        return Shared(self, domain, domain.checked(share), bound=bound, frac_bits=frac_bits)

    async def input(
        self,
        x: npt.ArrayLike,
        *,
        domain: Domain = RING64,
        max_abs: float | None = None,
        frac_bits: int = 0,
    ) -> list[Shared]:
        """Share one array from each party. One round, 32 bytes and the shape to each other party.

        Shapes may differ between parties; they are public.

        Parameters
        ----------
        x
            Integers, or real numbers if `frac_bits` is given.
        max_abs
            Declared range, the same at all parties: comparisons and products of declared numbers cannot wrap, and
            comparisons are faster. Without it, integers are elements of the domain and wrap like them.
        frac_bits
            Fractional bits of real numbers; 0 for integers. Needs `max_abs`.

        Returns
        -------
        Item i: what party i put in.

        Raises
        ------
        RangeExceeded
            If a number lies beyond the declared range, or the domain does not hold it. Nothing was sent.
        """
        elements, bound = _encode(x, domain, max_abs, frac_bits)
        seeds = [b"" if peer == self.party else self.rng.bytes(SEED_BYTES) for peer in range(self.n_parties)]
        shape = struct.pack(f"<{elements.ndim}Q", *elements.shape)
        payloads = [np.frombuffer(seed + shape, dtype=np.uint8) for seed in seeds]
        received = await self._exchange(f"input {domain} {bound} {frac_bits}", payloads)
        shares = []
        for sender, payload in enumerate(received):
            if sender == self.party:
                # The one who knows the value keeps the difference; the others hold streams of fresh seeds.
                rest = elements
                for seed in seeds:
                    if seed:
                        rest = domain.sub(rest, expand_seed(seed, domain, elements.shape))
                shares.append(rest)
            else:
                shares.append(_expand_input(payload.tobytes(), domain, sender))
        return [Shared(self, domain, words, bound=bound, frac_bits=frac_bits) for words in shares]

    def random(self, shape: int | tuple[int, ...], domain: Domain = RING64) -> Shared:
        """Return uniform elements that no coalition of n - 1 parties knows. Local: each draws its share."""
        lengths = (shape,) if isinstance(shape, int) else shape
        return Shared(self, domain, domain.random(lengths, self.rng))

    def random_bits(self, length: int, *lead: int) -> SharedBits:
        """Return uniform bits that no coalition of n - 1 parties knows, shape (*lead, length). Local."""
        words = BITS.random((*lead, -(-length // 64)), self.rng)
        return SharedBits(self, words, length)

    # Opening.

    @overload
    async def open(self, x: Shared | SharedBits, /) -> Opened: ...

    @overload
    async def open(
        self, x: Shared | SharedBits, y: Shared | SharedBits, /, *more: Shared | SharedBits
    ) -> tuple[Opened, ...]: ...

    async def open(self, *xs: Shared | SharedBits) -> Opened | tuple[Opened, ...]:
        """Make shared arrays known to all parties, in one round, whatever their domains.

        Returns
        -------
        Signed integers, real numbers of fixed-point arrays, or booleans of bits, shape of each array: one array, or a
        tuple if several were given.
        """
        self._check_mine(*xs)
        layout = Layout([_part(x) for x in xs])
        shares = [_bits(x) if isinstance(x, SharedBits) else _words(x) for x in xs]
        if len(shares) == 1 and shares[0].flags.c_contiguous:
            # A share is never written to, so it can be sent from where it is.
            buffer = shares[0].reshape(-1).view(np.uint8)
        else:
            buffer = layout.buffer()
            for share, view in zip(shares, layout.views(buffer), strict=True):
                view[...] = share
        words = await self.reveal("open", layout, buffer)
        opened = tuple(_decode(x, part) for x, part in zip(xs, words, strict=True))
        return opened[0] if len(opened) == 1 else opened

    # Products.

    async def mul(self, x: Shared, y: Shared | Public) -> Shared:
        """Return the elementwise product; shapes broadcast. One round, one triple and 16 bytes per element and peer.

        Products of fixed-point numbers are truncated, which costs more rounds: see `truncate`. A public factor is taken
        for the convenience of fixed-point numbers: an integer costs nothing, a real number is encoded.
        """
        if not isinstance(y, Shared):
            return await self._scale(x, y)
        return (await self.mul_many([(x, y)]))[0]

    async def mul_many(self, pairs: Sequence[tuple[Shared, Shared]]) -> list[Shared]:
        """Return the elementwise products of independent pairs, all in the rounds of one."""
        operands, bounds = [], []
        for x, y in pairs:
            self._check_mine(x, y)
            check_together(x, y)
            bounds.append(self._product_bound(x, y))
            left, right = np.broadcast_arrays(_words(x), _words(y))
            operands.append((Product(x.domain), left, right))
        products = await self._multiply(operands)
        results = [
            Shared(self, x.domain, words, bound=bound, frac_bits=x.frac_bits + y.frac_bits)
            for (x, y), words, bound in zip(pairs, products, bounds, strict=True)
        ]
        return await self._truncate_products(results, [min(x.frac_bits, y.frac_bits) for x, y in pairs])

    async def square(self, x: Shared) -> Shared:
        """Return the elementwise square. One round, 8 bytes per element and peer; truncated as in `mul`."""
        self._check_mine(x)
        bound = self._product_bound(x, x)
        a, c = self.take(Square(x.domain), x.size)
        layout = Layout([(x.domain, (x.size,))])
        buffer = layout.buffer()
        x.domain.sub(_words(x).reshape(-1), a, out=layout.views(buffer)[0])
        (d,) = await self.reveal("square", layout, buffer)
        # (d + a)^2 = d (d + 2 a) + c, and d^2 is public.
        twice = x.domain.add(a, a)
        factor = x.domain.add(twice, d) if self.party == 0 else twice
        words = x.domain.add(x.domain.mul(d, factor), c).reshape(x.shape)
        result = Shared(self, x.domain, words, bound=bound, frac_bits=2 * x.frac_bits)
        return (await self._truncate_products([result], [x.frac_bits]))[0]

    async def matmul(self, x: Shared, y: Shared) -> Shared:
        """Return the product of matrices of shapes (m, k) and (k, n). One round, 8 k (m + n) bytes to each peer.

        Products of fixed-point matrices are truncated, as in `mul`, after the sums were taken.
        """
        self._check_mine(x, y)
        check_together(x, y)
        if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[0]:
            raise ValueError(f"matmul needs matrices of shapes (m, k) and (k, n), got {x.shape} and {y.shape}")
        bound = self._product_bound(x, y, n_terms=x.shape[1])
        kind = MatrixProduct(x.domain, x.shape[0], x.shape[1], y.shape[1])
        words = (await self._multiply([(kind, _words(x), _words(y))]))[0]
        result = Shared(self, x.domain, words, bound=bound, frac_bits=x.frac_bits + y.frac_bits)
        return (await self._truncate_products([result], [min(x.frac_bits, y.frac_bits)]))[0]

    def _product_bound(self, x: Shared, y: Shared, *, n_terms: int = 1) -> int | None:
        """Return the bound of a sum of products, or raise RangeExceeded if it could wrap or could not be truncated.

        Asked before anything is sent: afterwards the other parties would have to be told.
        """
        bound = check_bound(_product(_product(x.bound, y.bound), n_terms), x.domain)
        n_bits = min(x.frac_bits, y.frac_bits)
        if n_bits:
            self._check_truncation(x.domain, bound, n_bits, self.truncation)
        return bound

    async def _multiply(self, operands: Sequence[tuple[Product | MatrixProduct, Words, Words]]) -> list[Words]:
        """Beaver's products. With d = x - a and e = y - b opened: x y = c + d b + a e + d e."""
        if not operands:
            return []
        layout = Layout([(kind.domain, part.shape) for kind, *parts in operands for part in parts])
        buffer = layout.buffer()
        views = layout.views(buffer)
        triples = []
        for i, (kind, x, y) in enumerate(operands):
            a, b, c = self.take(kind, x.size if isinstance(kind, Product) else 1)
            triples.append((a, b, c))
            kind.domain.sub(x, a.reshape(x.shape), out=views[2 * i])
            kind.domain.sub(y, b.reshape(y.shape), out=views[2 * i + 1])
        opened = await self.reveal("mul", layout, buffer)
        products = []
        for i, (kind, x, _) in enumerate(operands):
            d, e = opened[2 * i], opened[2 * i + 1]
            if isinstance(kind, Product):
                share = product_share(kind.domain, (d, e), triples[i], first=self.party == 0).reshape(x.shape)
            else:
                share = matrix_product_share(kind.domain, (d, e), triples[i], first=self.party == 0)
            products.append(share)
        return products

    async def _scale(self, x: Shared, factor: Public) -> Shared:
        array = np.asarray(factor)
        if array.dtype.kind != "f" or not x.frac_bits:
            return x * factor
        largest = float(np.max(np.abs(array), initial=0.0))
        encoded = FixedPoint(x.frac_bits, x.domain).encode(array, max_abs=max(largest, 2.0**-x.frac_bits))
        product = x * encoded
        wide = Shared(self, x.domain, _words(product), bound=product.bound, frac_bits=2 * x.frac_bits)
        return (await self._truncate_products([wide], [x.frac_bits]))[0]

    async def truncate(self, x: Shared, n_bits: int, *, how: Truncating | None = None) -> Shared:
        """Return x / 2^n_bits as integers, rounded; a fixed-point number keeps its value and loses fractional bits.

        Parameters
        ----------
        x
            In RING64, of a declared range below 2^62 units.
        how
            "exact" (to the nearest, ties up; 3 or 4 rounds), "stochastic" (1 round) or "local" (no round, two parties;
            a result is worthless with probability at most 2^(l - 63) for numbers below 2^l); the session's by default.

        Raises
        ------
        RangeExceeded
            If the range is not declared, or too large.
        """
        self._check_mine(x)
        check_count("n_bits", n_bits)
        if n_bits > 62:
            raise ValueError(f"n_bits must be at most 62, got {n_bits!r}")
        how = self.truncation if how is None else how
        if how not in TRUNCATIONS:
            raise ValueError(f"how must be one of {', '.join(TRUNCATIONS)}, got {how!r}")
        self._check_truncation(x.domain, x.bound, n_bits, how)
        # The check says so already.
        bound = 0 if x.bound is None else x.bound
        words = await truncated(self, _words(x).reshape(-1), n_bits, how)
        return Shared(
            self,
            RING64,
            words.reshape(x.shape),
            bound=(bound >> n_bits) + 1,
            frac_bits=max(x.frac_bits - n_bits, 0),
        )

    def _check_truncation(self, domain: Domain, bound: int | None, n_bits: int, how: Truncating) -> None:
        if domain is not RING64:
            raise ValueError(f"numbers in {domain} cannot be truncated: share them in RING64")
        if how == "local" and self.n_parties != 2:
            raise ValueError("local truncation is for two parties: with more, shares wrap more than once")
        if bound is None or bound >= LIMIT - 2 ** (n_bits - 1):
            raise RangeExceeded(
                rule="a number to be truncated must have a declared range below 2^62",
                way_out="declare max_abs with the input, a smaller one, or use fewer fractional bits",
            )

    async def _truncate_products(self, products: Sequence[Shared], n_bits: Sequence[int]) -> list[Shared]:
        """Truncate several arrays, in the rounds of the longest."""
        cut = [i for i, bits in enumerate(n_bits) if bits]
        results = list(products)
        if len(cut) == 1:
            results[cut[0]] = await self.truncate(products[cut[0]], n_bits[cut[0]])
        elif cut:
            for i, result in zip(
                cut, await self.together(*(self.truncate(products[i], n_bits[i]) for i in cut)), strict=True
            ):
                results[i] = result
        return results

    # Comparisons.

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
        words = np.stack([_bits(each) for each in bits])
        products = await conjunctions(self, kind, words.reshape(len(bits), -1))
        return [SharedBits(self, row.reshape(words.shape[1:]), bits[0].length) for row in products]

    async def to_numbers(self, bits: SharedBits, domain: Domain = RING64) -> Shared:
        """Return bits as numbers 0 and 1, shape of the bits. One round."""
        self._check_mine(bits)
        words = await numbers_of(self, _bits(bits), bits.length, domain)
        return Shared(self, domain, words.reshape(bits.shape), bound=1)

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
        difference = domain.sub(_words(left), _words(right))
        if isinstance(condition, Shared):
            check_together(condition, left)
            if condition.frac_bits:
                raise ValueError("a condition is bits, or integers that are 0 or 1; this one has fractional bits")
            factor, difference = np.broadcast_arrays(_words(condition), difference)
            gate = (await self._multiply([(Product(domain), factor, difference)]))[0]
        else:
            _check_ring(domain)
            if left.size != condition.length or len(condition.shape) != 1:
                raise ValueError(f"condition of shape {condition.shape} does not fit numbers of shape {left.shape}")
            gate = (await gated(self, _bits(condition), difference.reshape(-1))).reshape(left.shape)
        words = domain.add(gate, _words(right))
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
        words = flat - np.uint64(times) * await gated(self, _bits(bits), flat)
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
        return _words(x).reshape(-1)

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

    def _check_mine(self, *xs: Shared | SharedBits) -> None:
        for x in xs:
            if not isinstance(x, Shared | SharedBits):
                raise TypeError(f"expected Shared values, got {type(x).__name__}; public operands need no round")
            if x.session is not self:
                raise SessionMismatch


def _part(x: Shared | SharedBits) -> tuple[Domain, tuple[int, ...]]:
    return (BITS, _bits(x).shape) if isinstance(x, SharedBits) else (x.domain, x.shape)


def _decode(x: Shared | SharedBits, words: Words) -> Opened:
    if isinstance(x, SharedBits):
        return unpack_bits(words, x.length).astype(bool)
    # The words were added up for this opening and are nobody else's: no copy is needed to read them as signed.
    integers = words.view(np.int64) if x.domain is RING64 else x.domain.to_signed(words)
    return FixedPoint(x.frac_bits, x.domain).decode(integers) if x.frac_bits else integers


def _shape(x: Shared | Public, y: Shared | Public) -> tuple[int, ...]:
    return np.broadcast_shapes(*(side.shape if isinstance(side, Shared) else np.shape(side) for side in (x, y)))


def _words(x: Shared) -> Words:
    return x._share  # noqa: SLF001 - the session is the one friend of the shared value


def _bits(x: SharedBits) -> Words:
    return x._words  # noqa: SLF001 - as above


def _broadcast(x: Shared, shape: tuple[int, ...]) -> Shared:
    if x.shape == shape:
        return x
    return Shared(x.session, x.domain, np.broadcast_to(_words(x), shape), bound=x.bound, frac_bits=x.frac_bits)


def _check_ring(domain: Domain) -> None:
    if domain is not RING64:
        raise ValueError(f"numbers in {domain} have no order and no binary digits here: share them in RING64")


def _product(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x * y


def _sum(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x + y


def _encode(x: npt.ArrayLike, domain: Domain, max_abs: float | None, frac_bits: int) -> tuple[Words, int | None]:
    """Return the elements of an input, and their declared bound in units of 2^-frac_bits."""
    if frac_bits:
        if max_abs is None:
            raise ValueError("real numbers need a declared range: max_abs")
        # Checks the range as well.
        encoded = FixedPoint(frac_bits, domain).encode(x, max_abs=max_abs)
        return domain.from_signed(encoded), math.ceil(Fraction(max_abs) * 2**frac_bits)
    elements = domain.from_signed(x)
    if max_abs is None:
        return elements, None
    check_non_negative("max_abs", max_abs)
    bound = math.floor(max_abs)
    check_bound(bound, domain)
    signed = domain.to_signed(elements)
    if signed.size and (int(signed.max()) > bound or int(signed.min()) < -bound):
        raise RangeExceeded(
            rule=f"a value is not within the declared bound of {max_abs!r}",
            way_out="clip to the public bound, or declare a larger one",
        )
    return elements, bound


def _expand_input(payload: bytes, domain: Domain, sender: int) -> Words:
    """Return this party's share of a peer's input from its seed and shape."""
    seed, lengths = payload[:SEED_BYTES], payload[SEED_BYTES:]
    if len(seed) != SEED_BYTES or len(lengths) % 8 or len(lengths) > 8 * 32:
        raise FrameRejected("it is not a seed and a shape", sender=sender)
    shape = struct.unpack(f"<{len(lengths) // 8}Q", lengths)
    if math.prod(max(length, 1) for length in shape) > _MOST_ELEMENTS:
        raise FrameRejected("the input is too large", sender=sender)
    return expand_seed(seed, domain, shape)
