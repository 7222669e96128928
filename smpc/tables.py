"""Public tables at shared places, and the power of two that brings a shared number to a fixed size.

z_i   shared bit [x >= t_i] for public thresholds t_i, all of them from one opening (`smpc.comparison.at_least`)

Whatever is public for each place is linear in the bits: T(x) = T_0 + sum_i z_i (T_i - T_{i-1}), where T_i holds from
t_i on. So a table of any width costs one comparison for each row, and nothing for each column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smpc._real import words_of
from smpc.comparison import at_least, width_for
from smpc.conversion import numbers_of
from smpc.ring import RING64, Words
from smpc.session import Session
from smpc.shared import Shared

# Bits at a time: the digits of one comparison are some twenty bytes for each threshold.
_AT_ONCE = 1 << 21


async def lookup(session: Session, x: Shared, table: npt.NDArray[np.int64]) -> Shared:
    """Return the rows of a public table at shared places. Three or four rounds.

    Parameters
    ----------
    x
        Integers from 0 to the number of rows less one, shape (n,), in RING64. A number beyond takes the nearest row.
    table
        Shape (rows, columns).

    Returns
    -------
    Shape (n, columns), without a declared range: columns may have very different ones.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await lookup(s, a[0] + a[1], np.array([[7, 0], [5, 1], [-3, 2]])))
    >>> run_local(protocol, inputs=[[0, 1, 1, 9], [0, 0, 1, 0]]).results[0].tolist()
    [[7, 0], [5, 1], [-3, 2], [-3, 2]]
    """
    return await _steps(session, x, range(1, len(table)), table)


async def leading_power(
    session: Session, x: Shared, *, least: int, most: int, also: Sequence[int] = ()
) -> tuple[Shared, Shared]:
    """Return 2^(K - k) for positive integers of highest bit k, and a public number for each k. Three or four rounds.

    2^(K - k) x lies in [2^K, 2^(K + 1)): in the ring this product is exact, however large its factors are.

    Parameters
    ----------
    x
        Integers, shape (n,), in RING64; the caller vouches that least <= x <= most.
    also
        Numbers for k = k0..K, where k0 and K are the highest bits of `least` and `most`; zeros if left out.

    Returns
    -------
    Shape (n,) each.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(*await leading_power(s, a[0], least=1, most=20, also=[0, 1, 2, 3, 4]))
    >>> run_local(protocol, inputs=[[1, 5, 20], [0, 0, 0]]).results[0]
    (array([16,  4,  1]), array([0, 2, 4]))
    """
    if not 0 < least <= most:
        raise ValueError("least and most must be 0 < least <= most")
    lowest, highest = least.bit_length() - 1, most.bit_length() - 1
    powers = [1 << (highest - k) for k in range(lowest, highest + 1)]
    table = np.array([powers, list(also) or [0] * len(powers)], dtype=np.int64).T
    thresholds = [1 << k for k in range(lowest + 1, highest + 1)]
    found = await _steps(session, x.declare(most), thresholds, table)
    return found[:, 0], found[:, 1]


async def _steps(session: Session, x: Shared, thresholds: Sequence[int], table: npt.NDArray[np.int64]) -> Shared:
    words, rows = words_of(x), table.astype(np.uint64)
    most = max([0 if x.bound is None else x.bound, *thresholds])
    width = 64 if x.bound is None else width_for(2 * most)
    size = max(_AT_ONCE // max(len(thresholds), 1), 1)
    parts = [words[start : start + size] for start in range(0, len(words), size)]
    found = [await _look(session, part, thresholds, rows, width) for part in parts]
    out = np.concatenate(found) if found else np.zeros((0, rows.shape[1]), dtype=np.uint64)
    return Shared(session, RING64, out)


async def _look(session: Session, x: Words, thresholds: Sequence[int], rows: Words, width: int) -> Words:
    out = np.zeros((len(x), rows.shape[1]), dtype=np.uint64)
    if session.party == 0:
        out += rows[0]
    if len(thresholds):
        z = await numbers_of(session, await at_least(session, x, thresholds, width), len(x))
        out += RING64.matmul(np.ascontiguousarray(z.T), rows[1:] - rows[:-1])
    return out
