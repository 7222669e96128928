"""The best full-domain generalisation for any quality metric that has bounds, with proof.

One lower bound per node of the lattice, raised by three kinds of proof (`anonymise.quality.base`): before anything is
counted, below each checked node, and above it. If more patients are certain to be lost below a node than may be
suppressed, everything below is infeasible. A node is dropped when its bound shows that it cannot replace the incumbent;
the search ends when none is left, which proves the optimum however weak the bounds are.

It differs from `anonymise.lattice` in that a score need not be a sum over rows and columns, that suppressing may be
cheaper than releasing, and that nodes above a checked one are bounded as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from anonymise.checking import Checker
from anonymise.classes import Attribute, FloatArray, IntArray
from anonymise.encoded import Encoded, Node
from anonymise.errors import LatticeTooLarge, TimeLimitReached
from anonymise.lattice import Optimum, Progress
from anonymise.missing import wildcard_columns
from anonymise.models import AnyModel, Model
from anonymise.quality.base import NodeClasses, Problem, Quality, outer_sum

MAX_NODES: Final = 50_000_000
# Scores are sums of up to N terms in some order; closer than this, relatively, they are tied.
TIE: Final = 1e-11
_SECONDS_BETWEEN_REPORTS: Final = 0.2


def class_search(
    encoded: Encoded,
    quality: Quality,
    models: Sequence[AnyModel],
    *,
    max_suppressed: int,
    max_nodes: int = MAX_NODES,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Optimum | None:
    """Return the node of least score among those that suppress at most `max_suppressed` rows; None if there is none.

    The metric must have been built for these models and this limit (`problem_of`). Among nodes with equal scores
    (relatively, to 1e-11) the lexicographically lowest level vector wins. Raises LatticeTooLarge above `max_nodes`.

    time_limit   seconds after which the best node so far is returned with the bound proven so far; TimeLimitReached if
                 none is known by then
    progress     called a few times a second
    """
    shape = encoded.shape
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a number of seconds > 0, got {time_limit!r}")
    n_nodes = math.prod(shape)
    if n_nodes > max_nodes:
        raise LatticeTooLarge(n_nodes=n_nodes, limit=max_nodes)
    view = NodeView(encoded, models, max_suppressed)
    bound = quality.prior()
    flat = bound.reshape(-1)
    height = outer_sum([np.arange(levels, dtype=np.int16) for levels in shape]).reshape(-1)
    # Ascending height, and ascending index (= lexicographic order) within a height.
    alive = np.argsort(height, kind="stable")
    best: Optimum | None = None
    best_index, best_score, tie, n_checked = n_nodes, math.inf, 0.0, 0
    started = reported = time.monotonic()
    lowest = math.inf
    while True:
        alive = alive[flat[alive] < best_score + np.where(alive < best_index, tie, -tie)]
        if not alive.size:
            break
        now = time.monotonic()
        if time_limit is not None and now - started > time_limit:
            if best is None:
                raise TimeLimitReached(seconds=now - started)
            lowest = float(flat[alive].min())
            break
        if progress is not None and now - reported > _SECONDS_BETWEEN_REPORTS:
            reported = now
            open_bound = min(best_score, float(flat[alive].min()))
            progress(Progress(best_score, open_bound, n_checked, int(alive.size), now - started))
        # The most general nodes first, since they bound the largest down-sets; among them the lowest bound.
        top = alive[np.searchsorted(height[alive], height[alive[-1]]) :]
        index = int(top[flat[top].argmin()])
        node = tuple(int(level) for level in np.unravel_index(index, shape))
        n_checked += 1
        classes, n_below, known = view.classes(node)
        up_set = bound[tuple(slice(level, None) for level in node)]
        np.maximum(up_set, quality.above(classes), out=up_set)
        down_set = bound[tuple(slice(0, level + 1) for level in node)]
        if n_below > max_suppressed:
            down_set[...] = math.inf
            continue
        np.maximum(down_set, quality.below(classes), out=down_set)
        flat[index] = math.inf
        n_suppressed = classes.n_suppressed
        if not known or n_suppressed > max_suppressed:
            continue
        score = quality.score(classes)
        if score < best_score + (tie if index < best_index else -tie):
            best, best_index, best_score = Optimum(node, score, n_suppressed, 0, score), index, score
            tie = TIE * max(1.0, abs(score))
    return None if best is None else replace(best, n_checked=n_checked, bound=min(best_score, lowest))


def problem_of(
    encoded: Encoded,
    models: Sequence[AnyModel],
    *,
    max_suppressed: int,
    factor: float = 0.5,
    weights: FloatArray | None = None,
    target: Attribute | None = None,
) -> Problem:
    """Return what a metric needs to know of a table and its models; equal weights by default."""
    number = np.cumsum(encoded.counts > 0) - 1
    return Problem(
        encoded=_patients_only(encoded, number),
        max_suppressed=max_suppressed,
        least_class=_least_class(encoded, models),
        weights=np.ones(len(encoded.shape)) if weights is None else weights,
        factor=factor,
        target=None if target is None else replace(target, tuples=number[target.tuples]),
    )


class NodeView:
    """The classes of nodes as metrics see them: those that hold patients, numbered from 0."""

    def __init__(self, encoded: Encoded, models: Sequence[AnyModel], max_suppressed: int) -> None:
        self._checker = Checker(encoded, models)
        self._max_suppressed = max_suppressed
        self._weights = encoded.counts.astype(np.float64)
        self._present = None if encoded.counts.all() else np.flatnonzero(encoded.counts)

    def classes(self, node: Node) -> tuple[NodeClasses, int, bool]:
        """Return the classes of a node, how many patients are lost below it at least, and if `suppressed` is final.

        If it is not, the node was given up because it cannot be feasible; `suppressed` are then the certain ones.
        """
        checked, key, size = self._checker.check_with_keys(node, max_suppressed=self._max_suppressed)
        sizes = np.bincount(key, weights=self._weights, minlength=size).astype(np.int64)
        used = np.flatnonzero(sizes)
        number = np.full(size, -1, dtype=np.int64)
        number[used] = np.arange(used.size)
        class_of = number[key]
        certain_rows = np.zeros(used.size + 1, dtype=np.int64)
        certain_rows[class_of[checked.partly]] = checked.partly_lost
        below = np.zeros(used.size + 1, dtype=np.bool_)
        below[class_of[checked.failing_below]] = True
        suppressed = below
        if checked.failing is not None and checked.failing is not checked.failing_below:
            suppressed = np.zeros(used.size + 1, dtype=np.bool_)
            suppressed[class_of[checked.failing]] = True
        sizes = sizes[used]
        return (
            NodeClasses(
                node=node,
                class_of=class_of if self._present is None else class_of[self._present],
                sizes=sizes,
                suppressed=suppressed[:-1],
                certain_rows=np.where(below[:-1], sizes, certain_rows[:-1]),
            ),
            checked.n_below,
            checked.failing is not None,
        )


def _least_class(encoded: Encoded, models: Sequence[AnyModel]) -> int:
    if wildcard_columns(encoded.hierarchies):
        return 1  # Rows of other classes stand in the crowd of a row whose values match theirs.
    # What a model asks of a table that is one class, it asks of every class.
    return max((model.least_rows for model in models if isinstance(model, Model)), default=1)


def _patients_only(encoded: Encoded, number: IntArray) -> Encoded:
    """Return the table without the tuples that only the population has; `number` is the new one of each tuple."""
    if encoded.counts.all():
        return encoded
    present = encoded.counts > 0
    return replace(
        encoded,
        leaves=np.ascontiguousarray(encoded.leaves[:, present]),
        counts=encoded.counts[present],
        row_tuple=number[encoded.row_tuple],
        attributes={},
        people=None,
    )
