"""The largest of several numbers, and the largest few: tournaments on shares.

Ties go to the lower index. What is selected, index and value alike, stays shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smpc.comparison import is_zero, less_anywhere, negative, width_for
from smpc.conversion import gated, numbers_of
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

# All pairs are compared at once up to this many numbers, in as many rounds as one comparison.
MOST_RANKED = 512


async def argmax(session: Rounds, x: Words, bound: int | None) -> tuple[Words, Words]:
    """Return shares of the index of the largest number of each row, and of that number.

    A level halves the candidates: neighbours are compared, and difference and index are gated by the outcome. One
    comparison and one round more a level.

    Parameters
    ----------
    x
        Shares in RING64, shape (rows, n).
    bound
        No absolute value is larger; None if nothing is known.

    Returns
    -------
    Shape (rows,) each.
    """
    rows = len(x)
    difference_bound = None if bound is None else 2 * bound
    index = np.broadcast_to(np.arange(x.shape[1], dtype=np.uint64), x.shape)
    if session.party != 0:
        index = np.zeros_like(index)
    while x.shape[1] > 1:
        pairs = x.shape[1] // 2
        left, right = x[:, 0 : 2 * pairs : 2], x[:, 1 : 2 * pairs : 2]
        left_index, right_index = index[:, 0 : 2 * pairs : 2], index[:, 1 : 2 * pairs : 2]
        right_wins = await _less(session, left.reshape(-1), right.reshape(-1), difference_bound)
        steps = np.stack([(right - left).reshape(-1), (right_index - left_index).reshape(-1)])
        step, index_step = await gated(session, np.stack([right_wins, right_wins]), steps)
        x = np.concatenate([left + step.reshape(rows, pairs), x[:, 2 * pairs :]], axis=1)
        index = np.concatenate([left_index + index_step.reshape(rows, pairs), index[:, 2 * pairs :]], axis=1)
    return np.ascontiguousarray(index[:, 0]), np.ascontiguousarray(x[:, 0])


async def _less(session: Rounds, x: Words, y: Words, difference_bound: int | None) -> Words:
    """Return shares of whether x < y, packed."""
    if difference_bound is not None and difference_bound < 2**63:
        return await negative(session, x - y, width_for(difference_bound))
    return await less_anywhere(session, x, y)


async def top_k(session: Rounds, x: Words, k: int, bound: int | None) -> tuple[Words, Words]:
    """Return shares of the indices of the k largest numbers, largest first, and of the numbers; shape (k,) each.

    All pairs are compared at once. The rank of a number is how many beat it; the number of rank j is picked by testing
    every rank for j. Rounds do not depend on n and k.

    Parameters
    ----------
    x
        Shares in RING64, shape (n,), n at most `MOST_RANKED`.
    """
    n = len(x)
    low, high = np.triu_indices(n, 1)
    # Of two equal numbers the one of lower index wins.
    high_wins = await _less(session, x[low], x[high], None if bound is None else 2 * bound)
    wins = await numbers_of(session, high_wins, len(low))
    rank = np.zeros(n, dtype=np.uint64)
    np.add.at(rank, low, wins)
    np.subtract.at(rank, high, wins)
    if session.party == 0:
        # The lower of a pair beats the higher one unless that wins.
        rank += np.arange(n, dtype=np.uint64)
    wanted = np.arange(k, dtype=np.uint64)[:, None] if session.party == 0 else np.zeros((k, 1), dtype=np.uint64)
    n_words = -(-n // 64)
    padded = np.zeros((k, 64 * n_words), dtype=np.uint64)
    padded[:, :n] = rank[None, :] - wanted
    hit = (await is_zero(session, padded.reshape(-1), width_for(n))).reshape(k, n_words)
    indices = np.arange(n, dtype=np.uint64) if session.party == 0 else np.zeros(n, dtype=np.uint64)
    both = await gated(
        session, np.stack([hit, hit]), np.stack([np.broadcast_to(x, (k, n)), np.broadcast_to(indices, (k, n))])
    )
    return both[1].sum(axis=1, dtype=np.uint64), both[0].sum(axis=1, dtype=np.uint64)


async def top_k_one_by_one(session: Rounds, x: Words, k: int, bound: int | None) -> tuple[Words, Words]:
    """As `top_k` for any n: k tournaments, each followed by taking the winner out. The numbers must be bounded."""
    n = len(x)
    if bound is None or bound >= 2**61:
        raise ValueError("top_k of many numbers needs a declared range below 2^61")
    indices, values = [], []
    positions = np.arange(n, dtype=np.uint64) if session.party == 0 else np.zeros(n, dtype=np.uint64)
    # Lower than any number: a loser by this much is never taken again.
    penalty = np.uint64(2 * bound + 1)
    widest = bound
    for left in range(k, 0, -1):
        index, value = await argmax(session, x[None, :], widest)
        indices.append(index)
        values.append(value)
        if left > 1:
            hit = await is_zero(session, positions - index[0], width_for(n))
            x = x - penalty * await numbers_of(session, hit, n)
            widest = bound + 2 * bound + 1
    return np.concatenate(indices), np.concatenate(values)
