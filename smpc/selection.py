"""The largest of several numbers, and the largest few: tournaments on shares.

Ties go to the lower index. What is selected, index and value alike, stays shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smpc.comparison import is_zero, less_anywhere, negative, width_for
from smpc.conjunctions import conjunctions
from smpc.conversion import gated, numbers_of
from smpc.kinds import all_of
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

# All pairs are compared at once up to this many numbers, in as many rounds as one comparison.
MOST_RANKED = 512

_GROUP = 4


async def argmax(session: Rounds, x: Words, bound: int | None) -> tuple[Words, Words]:
    """Return shares of the index of the largest number of each row, and of that number. ceil(log4(n)) levels.

    A level takes groups of four: all six pairs are compared at once, a candidate wins if it wins its three pairs, and
    what sets it apart from the first of the group, value and index, is gated by that. Five rounds or fewer a level, for
    a quarter of the candidates: halving them would take four rounds or fewer, for twice as many levels.

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
    difference_bound = None if bound is None else 2 * bound
    index = np.arange(x.shape[1], dtype=np.uint64) if session.party == 0 else np.zeros(x.shape[1], dtype=np.uint64)
    # Value and index side by side: shape (2, rows, n).
    candidates = np.stack([x, np.broadcast_to(index, x.shape)])
    while candidates.shape[2] > 1:
        radix = min(candidates.shape[2], _GROUP)
        n_groups = candidates.shape[2] // radix
        whole = n_groups * radix
        groups = candidates[:, :, :whole].reshape(2, -1, radix)
        winners = await _winners(session, np.ascontiguousarray(groups.transpose(0, 2, 1)), difference_bound)
        # What does not fill a group waits for the next level, behind the groups.
        candidates = np.concatenate([winners.reshape(2, -1, n_groups), candidates[:, :, whole:]], axis=2)
    value, place = candidates[:, :, 0]
    return place, value


async def _winners(session: Rounds, groups: Words, difference_bound: int | None) -> Words:
    """Return shares of value and index of the winner of each group.

    Parameters
    ----------
    groups
        Shares of values and of indices, shape (2, radix, n_groups); among equal values the first one wins.

    Returns
    -------
    Shape (2, n_groups).
    """
    _, radix, n_groups = groups.shape
    n_words = -(-n_groups // 64)
    left, right = np.triu_indices(radix, 1)
    padded = np.zeros((2, len(left), 64 * n_words), dtype=np.uint64)
    padded[0, :, :n_groups], padded[1, :, :n_groups] = groups[0, left], groups[0, right]
    right_wins = await _less(session, padded[0].reshape(-1), padded[1].reshape(-1), difference_bound)
    right_wins = right_wins.reshape(len(left), n_words)
    left_wins = ~right_wins if session.party == 0 else right_wins
    if radix == 2:
        wins = right_wins
    else:
        # For every candidate but the first, the outcome of its pairs: shape (radix - 1, radix - 1, n_words).
        outcomes = np.stack(
            [np.concatenate([right_wins[right == i], left_wins[left == i]]) for i in range(1, radix)],
            axis=1,
        )
        wins = await conjunctions(session, all_of(radix - 1), outcomes.reshape(radix - 1, -1))
        wins = wins.reshape(radix - 1, n_words)
    steps = groups[:, 1:] - groups[:, :1]
    gates = await gated(session, np.stack([wins.reshape(radix - 1, n_words)] * 2), steps)
    return np.asarray(groups[:, 0] + gates.sum(axis=1, dtype=np.uint64))


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
