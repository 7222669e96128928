"""Products of shared arrays, and the truncation that fixed-point products need: methods of a session.

Everything is refused before anything is sent: a product whose declared range does not fit, and one that could not be
truncated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy._checks import check_count
from smpc._real import words_of
from smpc._rounds import Layout
from smpc.beaver import matrix_product_share, product_share
from smpc.bits import SharedBits
from smpc.errors import RangeExceeded, SessionMismatch
from smpc.fixed_point import FixedPoint
from smpc.functions import Functions
from smpc.kinds import MatrixProduct, Product, Square
from smpc.ring import RING64, Domain, Words
from smpc.shared import Public, Shared, check_bound, check_together
from smpc.truncation import LIMIT, TRUNCATIONS, Truncating, truncated


class Products(Functions):
    """What multiplies, and what truncates."""

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
            left, right = np.broadcast_arrays(words_of(x), words_of(y))
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
        x.domain.sub(words_of(x).reshape(-1), a, out=layout.views(buffer)[0])
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
        words = (await self._multiply([(kind, words_of(x), words_of(y))]))[0]
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
        wide = Shared(self, x.domain, words_of(product), bound=product.bound, frac_bits=2 * x.frac_bits)
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
        words = await truncated(self, words_of(x).reshape(-1), n_bits, how)
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

    def _check_mine(self, *xs: Shared | SharedBits) -> None:
        for x in xs:
            if not isinstance(x, Shared | SharedBits):
                raise TypeError(f"expected Shared values, got {type(x).__name__}; public operands need no round")
            if x.session is not self:
                raise SessionMismatch


def bits_of(x: SharedBits) -> Words:
    return x._words  # noqa: SLF001 - as above


def _product(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x * y
