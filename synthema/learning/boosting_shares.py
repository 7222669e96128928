"""Exact boosted trees at the compute parties: from shared histograms to the best splits and the values of leaves.

Symbols as in `boosting_exact`. A level takes one batch of quotients for all sides of all splits of all its nodes, with
the tests of their numbers of patients beside it; a product for the gains; and one arg max with a row for each node.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smpc import Session, Shared
from smpc.shared import concatenate
from synthema.learning.boosting_exact import (
    GRADIENT_BITS,
    LARGEST_VALUE,
    N_STATISTICS,
    RATE_BITS,
    Ints,
    Rules,
)
from synthema.learning.ensemble import VALUE_BITS
from synthema.learning.tree_splits import Split


def split_matrix(splits: Sequence[Split], sizes: Sequence[int]) -> Ints:
    """Return which codes go left, shape (codes of all covariates, splits): histograms times it are the left sides."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    out = np.zeros((int(offsets[-1]), len(splits)), dtype=np.int64)
    for j, split in enumerate(splits):
        first = offsets[split.feature]
        out[first : first + sizes[split.feature], j] = split.goes_left
    return out


async def open_rate(session: Session, counts: Shared, *, least: int, most_patients: int) -> int | None:
    """Return the part of patients with the outcome, in units of 2^-12; None if too few have it, or have it not.

    Opens one yes or no, and if it is yes, that number. `counts`: with and without, shares in RING64.
    """
    counts = counts.declare(most_patients)
    rare = [session.negative_bits(counts[i : i + 1] - least) for i in range(2)]
    with_it, without = await session.together(*rare)
    if not (await session.open(await session.both(~with_it, ~without)))[0]:
        return None
    total = counts.sum().reshape(1).declare(most_patients)
    rate = await session.rounded_quotient(counts[:1], total, n_bits=RATE_BITS, least=2 * least, largest=1)
    return int((await session.open(rate))[0])


async def open_level(
    session: Session, histograms: Shared, matrix: Ints, rules: Rules, *, first_size: int, last: bool
) -> list[list[int]]:
    """Open the best split of each node, and the values of leaves; see `Course` for the form.

    Parameters
    ----------
    histograms
        Shares in RING64 of the pooled ones, shape (nodes, 4, codes).
    matrix
        See `split_matrix`.
    first_size
        Number of codes of the first covariate, over which every patient of a node is counted.
    last
        Whether the sides of the splits are leaves.
    """
    n_nodes, _, n_codes = histograms.shape
    n_splits = matrix.shape[1]
    # Every sum is one of some patients, whatever it was added up from.
    most = rules.most_patients
    bounds = (most << GRADIENT_BITS, (most << GRADIENT_BITS - 2) + most, most, most)
    node = histograms[:, :, :first_size].sum(axis=2)
    left = (histograms.reshape(n_nodes * N_STATISTICS, n_codes) @ matrix).reshape(n_nodes, N_STATISTICS, n_splits)
    sides: list[Shared] = []
    for statistic, bound in enumerate(bounds):
        whole, part = node[:, statistic], left[:, statistic]
        other = whole.reshape(n_nodes, 1) - part
        row = [each.reshape(each.size).declare(bound) for each in (whole, part, other)]
        sides.append(concatenate(*row))
    down, curvature, having, lacking = -sides[0], sides[1] + rules.l2_units, sides[2], sides[3]
    # What nodes are tested for was tested of them as sides.
    halves = [each[n_nodes:] for each in (having, lacking)]
    tests = concatenate(
        *(each - rules.min_cell for each in halves),
        (halves[0] + halves[1]).declare(most) - rules.min_leaf,
    )
    values, broken = await session.together(
        session.rounded_quotient(down, curvature, n_bits=VALUE_BITS, least=rules.l2_units, largest=LARGEST_VALUE),
        session.negative(tests),
    )
    gains = await session.mul(values, down)
    # No gain is larger than the numbers allow, and none below zero: |G| is at most LARGEST_VALUE (H + l2).
    both = gains[n_nodes:].reshape(2, n_nodes, n_splits).sum(axis=0)
    # Of three tests of either side, one that is broken takes more than any gain.
    n_broken = broken.reshape(6, n_nodes, n_splits).sum(axis=0)
    allowed = both - n_broken * (1 + (both.bound or 0))
    own = gains[:n_nodes] + rules.gain_units
    # A node's own gain stands first: a split has to be better.
    first = np.arange(n_nodes)[:, None]
    order = np.concatenate([first, n_nodes + n_splits * first + np.arange(n_splits)], axis=1)
    candidates = concatenate(own, allowed.reshape(n_nodes * n_splits))[order]
    numbers = [int(each) for each in await session.open(await session.argmax(candidates))]
    wanted: list[list[int]] = []
    for i, number in enumerate(numbers):
        left_side = n_nodes + i * n_splits + number - 1
        of_split = [left_side, left_side + n_nodes * n_splits] if last else []
        wanted.append(of_split if number else [i])
    places = [place for each in wanted for place in each]
    opened = iter(await _open_values(session, sides[0], curvature, places, rules) if places else ())
    return [[number, *(next(opened) for _ in each)] for number, each in zip(numbers, wanted, strict=True)]


async def _open_values(
    session: Session, gradient: Shared, curvature: Shared, places: list[int], rules: Rules
) -> list[int]:
    """Open the values of leaves, whose sums of g are rounded to whole numbers of `rounded_to` patients."""
    n_bits = GRADIENT_BITS + rules.rounded_to.bit_length() - 1
    rounded = await session.truncate(gradient[places], n_bits, how="exact")
    values = await session.rounded_quotient(
        -rounded * 2**n_bits, curvature[places], n_bits=VALUE_BITS, least=rules.l2_units, largest=LARGEST_VALUE
    )
    found: list[int] = (await session.open(values)).tolist()
    return found
