"""Questions answered on shares: is this count small, how many patients sit at several sites, an inner product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from smpc.errors import DomainMismatch
from smpc.ring import FIELD61
from smpc.session import Session
from smpc.shared import Shared, check_together

# Positions at a time in count_more_than: some twenty arrays of 1 MB for each party.
_POSITIONS = 1 << 17

# Each value below the threshold costs a product per cell.
_LARGEST_THRESHOLD = 1024


async def small_cells(session: Session, x: Shared, *, threshold: int = 5) -> npt.NDArray[np.bool_]:
    """Make known which counts lie in 1..threshold - 1, and nothing else about them.

    With r uniform in F_p and unknown to all, r * (x - 1) * ... * (x - (threshold - 1)) is opened. It is zero if the
    count is small. Otherwise the product is a non-zero element of a field, so the opened value is uniform, and with it
    independent of the count. r is zero with probability 2^-61; then a count is called small that is not.

    In Z_2^64 the same mask would leak: the factors of two of a product survive multiplication by r, so the number of
    trailing zero bits of the opened value tells how often 2 divides (x - 1) ... (x - (threshold - 1)).

    Parameters
    ----------
    x
        Counts in FIELD61, any shape. They must not be negative; no bound below p is needed.
    threshold
        Least count that is not small, 1..1024. Zero is never small.

    Returns
    -------
    Public, shape of `x`: True where 1 <= x < threshold.

    Raises
    ------
    DomainMismatch
        If x is not in FIELD61.

    Examples
    --------
    >>> from smpc import FIELD61, run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x, domain=FIELD61)
    ...     return await small_cells(s, a[0] + a[1], threshold=5)
    >>> run_local(protocol, inputs=[[0, 1, 3, 2], [0, 0, 1, 3]]).results[0]
    array([False,  True,  True, False])
    """
    if x.domain != FIELD61:
        raise DomainMismatch(x.domain.name, FIELD61.name)
    _check_small_threshold(threshold)
    if threshold == 1 or x.size == 0:
        return np.zeros(x.shape, dtype=bool)
    flat = x.reshape(x.size)
    factors = [flat - i for i in range(1, threshold)]
    masked = await product(session, [session.random(x.size, FIELD61), *factors])
    opened = await session.open(masked)
    return np.asarray(opened == 0).reshape(x.shape)


async def product(session: Session, factors: Sequence[Shared]) -> Shared:
    """Return the elementwise product of all factors, ceil(log2 of their number) rounds.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     return await s.open(await product(s, await s.input(x)))
    >>> run_local(protocol, inputs=[[2, 3], [4, 5], [6, 7]]).results[0]
    array([ 48, 105])
    """
    if not factors:
        raise ValueError("a product needs at least one factor")
    level = list(factors)
    while len(level) > 1:
        pairs = list(zip(level[0::2], level[1::2], strict=False))
        left_over = level[2 * len(pairs) :]
        level = [*await session.mul_many(pairs), *left_over]
    return level[0]


async def inner_product(session: Session, x: Shared, y: Shared) -> Shared:
    """Return the sum of x * y over all positions, shape (). One round, and 8 bytes from the dealer.

    Parameters
    ----------
    x, y
        Shape (n,) each.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await inner_product(s, a[0], a[1]))
    >>> int(run_local(protocol, inputs=[[1, 2, 3], [4, 5, 6]]).results[0])
    32
    """
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"inner_product needs two vectors of one length, got shapes {x.shape} and {y.shape}")
    return (await session.matmul(x.reshape(1, -1), y.reshape(-1, 1))).reshape(())


async def count_more_than(session: Session, indicators: Sequence[Shared], m: int) -> Shared:
    """Return the number of positions that more than m of the vectors mark, still shared, shape ().

    Vectors are taken one after the other. e[j] marks the positions that exactly j of them marked so far; a position is
    counted at the moment when it goes from m to m + 1:

        count += <b, e[m]>;   e[j] <- e[j] - b e[j] + b e[j-1]

    so the next vector b costs the products b e[0..m], all in one round, and the last one an inner product.

    Parameters
    ----------
    indicators
        Vectors of 0 and 1, shape (n,) each, in one domain. That they hold nothing else is up to those who share them.
    m
        >= 0.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     return await s.open(await count_more_than(s, await s.input(x), 1))
    >>> int(run_local(protocol, inputs=[[1, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1]]).results[0])
    2
    """
    check_count("m", m, least=0)
    if not indicators:
        raise ValueError("indicators must hold at least one vector")
    first = indicators[0]
    for other in indicators:
        check_together(first, other)
        if other.ndim != 1 or other.shape != first.shape:
            raise ValueError(f"indicators must be vectors of one length, got shapes {first.shape} and {other.shape}")
    total = first[:0].sum()
    if len(indicators) <= m:
        return total
    for start in range(0, len(first), _POSITIONS):
        part = [vector[start : start + _POSITIONS] for vector in indicators]
        total = total + await _count_chunk(session, part, m)
    return total


async def _count_chunk(session: Session, vectors: Sequence[Shared], m: int) -> Shared:
    first, *rest = vectors
    if m == 0:
        exactly, total = [1 - first], first.sum()
    else:
        exactly, total = [1 - first, first], first[:0].sum()
    for i, b in enumerate(rest):
        # While at most m vectors were seen, e[0..] covers every position and m is not reached yet, or just so.
        covers_all = len(exactly) == i + 2
        if i == len(rest) - 1:
            return total + await inner_product(session, b, exactly[m])
        # Where e[0..] covers all positions the products add up to b: the first one need not be computed.
        skipped = 1 if covers_all else 0
        products = await session.mul_many([(b, e) for e in exactly[skipped:]])
        if skipped:
            lowest = b
            for product in products:
                lowest = lowest - product
            products = [lowest, *products]
        if len(exactly) > m:
            total = total + products[m].sum()
        moved = [e - product for e, product in zip(exactly, products, strict=True)]
        exactly = [moved[0], *(e + product for e, product in zip(moved[1:], products, strict=False))]
        if len(exactly) <= m:
            exactly.append(products[-1])
    return total


async def any_small(session: Session, tests: Sequence[tuple[Shared, int]]) -> bool:
    """Make known whether any of the counts lies in 1..threshold - 1, and not which.

    As `small_cells` with the factors of all counts in one product: the opened value is zero if at least one factor is,
    otherwise uniform on the field without zero. Separate answers can add up to a count's exact value.

    Parameters
    ----------
    tests
        Pairs of a count in FIELD61, one element, and its threshold, 1..1024.

    Raises
    ------
    DomainMismatch
        If a count is not in FIELD61.

    Examples
    --------
    >>> from smpc import FIELD61, run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x, domain=FIELD61)
    ...     return await any_small(s, [(a[0], 5), (a[1], 3)])
    >>> run_local(protocol, inputs=[[7], [2]]).results[0], run_local(protocol, inputs=[[7], [3]]).results[0]
    (True, False)
    """
    factors: list[Shared] = []
    for x, threshold in tests:
        if x.domain != FIELD61:
            raise DomainMismatch(x.domain.name, FIELD61.name)
        if x.size != 1:
            raise ValueError(f"each count must be one element, got shape {x.shape}")
        _check_small_threshold(threshold)
        factors.extend(x.reshape(1) - i for i in range(1, threshold))
    if not factors:
        return False
    masked = await product(session, [session.random(1, FIELD61), *factors])
    return bool((await session.open(masked))[0] == 0)


def _check_small_threshold(threshold: int) -> None:
    check_count("threshold", threshold)
    if threshold > _LARGEST_THRESHOLD:
        raise ValueError(f"threshold must be at most {_LARGEST_THRESHOLD}, got {threshold!r}")
