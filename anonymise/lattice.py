"""The best full-domain generalisation, with proof: branch and bound over boxes of the lattice of levels.

node n       one level per column; p <= n: no level of p is above n's (p is more specific)
box          all nodes p with lo <= p <= hi, and the floor of a checked node at or above hi
floor        proven lower bound of the score of every p below a checked node (`anonymise.floors`)
S_n          rows of classes that fail a downward closed model at n; they are suppressed there and below
c_C          patients of a class C failing another model who are lost at every p <= n, at least
score(n)     ( sum over kept rows of loss_n(row) + suppressed rows ) / N

The bound. For p <= n classes at p are parts of classes at n, so what fails a downward closed model at n fails at p,
and of other failing classes a certified number of patients is lost (`anonymise.checking`). A row that is not suppressed
at n costs at least loss_p(row) at p, kept or not, because a row's loss is at most 1. Hence for all p <= n at once

    score(p) >= ( sum over rows outside S_n of loss_p(row) + |S_n| + sum over C of c_C (1 - loss_n(C)) ) / N,

a sum of one term a column, least at the most specific node. If more patients are certainly lost than may be suppressed,
nothing below n is feasible. A box is treated so:

1  Drop it if its bound shows that it cannot hold a better node than the best one known.
2  Cut levels of hi: where the bound of p with only column j raised to level l is too high, all p with p_j >= l are out.
   If hi came down, check the new hi: it bounds the box better, and the cut is tried again.
3  Split it at the column that can still change the bound most, halfway: the upper part keeps hi and its floor, the
   lower part gets a new hi, which is checked.

Every check is of a real node, so every one can improve the best node known. Of the open boxes the one with the lowest
bound is treated next; a third of the steps follow a box down to good nodes, whatever their bounds. The lowest bound of
the open boxes is a proven bound of every score, so the search may be stopped at any time with an honest gap; none left
is the proof of the optimum.

Compare: Kohlmayer, Prasser, Eckert, Kemper, Kuhn 2012 (Flash), where a check bounds the checked node alone; Land, Doig
1960, Econometrica 28(3) (branch and bound).
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from anonymise.checking import Checker
from anonymise.encoded import Encoded, Node
from anonymise.errors import TimeLimitReached
from anonymise.floors import Floor, Floors
from anonymise.loss import Metric
from anonymise.models import AnyModel

# A score is a sum of at most N terms in [0, 1], divided by N: rounding stays far below. Closer scores are tied.
TIE: Final = 1e-12
# So many boxes may be open before the search follows each one to its end, which needs no more memory. One that shares
# no array with another holds about 2 kB and a bit per distinct tuple.
MOST_BOXES: Final = 200_000
_MOST_BYTES: Final = 1 << 29
# Share of the steps that follow a box down instead of taking the box with the lowest bound.
_DIVES: Final = 1 / 3
_SECONDS_BETWEEN_REPORTS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best node, and what its proof took.

    node          level of each column
    score         loss of the node, in [0, 1]
    n_suppressed  patients of failing classes
    n_checked     nodes whose classes were counted
    bound         proven lower bound of the score of every node; `score` itself where the optimum is proven
    """

    node: Node
    score: float
    n_suppressed: int
    n_checked: int
    bound: float

    @property
    def proven(self) -> bool:
        """Whether no node has a lower score."""
        return self.bound >= self.score

    @property
    def gap(self) -> float:
        """How much lower the best score could be, at most."""
        return max(0.0, self.score - self.bound)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands. Score and bound depend on exact counts of patients: for the site's own eyes.

    score      of the best node so far; inf before one is found
    bound      proven lower bound of every score
    n_checked  nodes whose classes were counted
    n_open     boxes that are still open
    seconds    since the start
    """

    score: float
    bound: float
    n_checked: int
    n_open: int
    seconds: float


def search(
    encoded: Encoded,
    metric: Metric,
    models: Sequence[AnyModel],
    *,
    max_suppressed: int,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    max_boxes: int = MOST_BOXES,
) -> Optimum | None:
    """Return the node of least score among those that suppress at most `max_suppressed` patients, or None.

    Among nodes with equal scores (to 1e-12) the lexicographically lowest level vector wins, so the answer does not
    depend on the order of rows. None is a proof as well: no node is feasible.

    Parameters
    ----------
    time_limit
        Seconds after which the best node so far is returned with the bound proven so far. Raises TimeLimitReached if
        none is known by then.
    progress
        Called a few times a second.
    max_boxes
        Open boxes up to which the one with the lowest bound is treated next.
    """
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a number of seconds > 0, got {time_limit!r}")
    return _Search(encoded, metric, models, max_suppressed, max_boxes).run(time_limit, progress)


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """All nodes between two; `floor` is that of `hi` or of a node above it, `bound` holds in the box."""

    bound: float
    lo: Node
    hi: Node
    floor: Floor


class _Search:
    """The open boxes, the best node so far, and the steps from one to the other."""

    def __init__(
        self, encoded: Encoded, metric: Metric, models: Sequence[AnyModel], max_suppressed: int, max_boxes: int
    ) -> None:
        self._top = tuple(levels - 1 for levels in encoded.shape)
        self._n_records = encoded.n_records
        self._checker = Checker(encoded, models)
        self._floors = Floors(encoded, metric)
        self._max_suppressed = max_suppressed
        self._max_boxes = min(max_boxes, max(1000, _MOST_BYTES // (2048 + encoded.n_entries // 8)))
        # Lowest bound first; of equal bounds the latest box, which is the smallest.
        self._heap: list[tuple[float, int, _Box]] = []
        # Boxes that are followed to their end before the heap is looked at again, the next one last.
        self._stack: list[_Box] = []
        self._best: tuple[Node, float, int] | None = None
        self._n_checked = self._n_pushed = 0

    def run(self, time_limit: float | None, progress: Callable[[Progress], None] | None) -> Optimum | None:
        started = time.monotonic()
        reported = started
        floor = self._visit(self._top, None, None)
        if floor is not None:
            lo = (0,) * len(self._top)
            self._push(_Box(self._bound(floor, lo), lo, self._top, floor))
        n_steps = n_dives = 0
        while self._stack or self._heap:
            now = time.monotonic()
            if time_limit is not None and now - started > time_limit:
                break
            if progress is not None and now - reported > _SECONDS_BETWEEN_REPORTS:
                reported = now
                score = math.inf if self._best is None else self._best[1]
                progress(Progress(score, self._open_bound(), self._n_checked, self._n_open, now - started))
            diving = bool(self._stack)
            box = self._stack.pop() if diving else heapq.heappop(self._heap)[2]
            n_steps += 1
            n_dives += diving
            parts = self._treat(box, from_heap=not diving)
            if len(self._heap) >= self._max_boxes:
                self._stack += parts
            else:
                # Without a feasible node nothing can be dropped, so the first one is looked for straight down.
                if parts and (self._best is None or n_dives <= _DIVES * n_steps):
                    self._stack.append(parts.pop())
                for part in parts:
                    self._push(part)
        if self._best is None:
            if self._n_open:
                raise TimeLimitReached(seconds=time.monotonic() - started)
            return None
        node, score, n_suppressed = self._best
        bound = self._open_bound()
        # Boxes may be open that hold a tie at most.
        return Optimum(node, score, n_suppressed, self._n_checked, score if bound >= score - TIE else bound)

    @property
    def _n_open(self) -> int:
        return len(self._heap) + len(self._stack)

    def _open_bound(self) -> float:
        """Return a lower bound of every score: that of the open boxes, since no better node is in a closed one."""
        bound = math.inf if self._best is None else self._best[1]
        if self._heap:
            bound = min(bound, self._heap[0][0])
        return min([bound, *(box.bound for box in self._stack)])

    def _push(self, box: _Box) -> None:
        self._n_pushed += 1
        heapq.heappush(self._heap, (box.bound, -self._n_pushed, box))

    def _bound(self, floor: Floor, lo: Node) -> float:
        return floor.at(lo) / self._n_records

    def _ceiling(self, lo: Node) -> float:
        """Return the bound from which on no node of a box can become the best one.

        A node becomes it by a lower score, or by a tie and a lower place in lexicographic order, of which `lo` has the
        lowest in the box.
        """
        if self._best is None:
            return math.inf
        node, score, _ = self._best
        return score + (TIE if lo < node else -TIE)

    def _visit(self, node: Node, above: Node | None, floor: Floor | None) -> Floor | None:
        """Check a node, below a checked one and its floor; return its floor, None if nothing below is feasible."""
        self._n_checked += 1
        checked = self._checker.check(node, max_suppressed=self._max_suppressed, above=above)
        if checked.n_below > self._max_suppressed or checked.failing is None:
            return None
        floor = self._floors.floor(checked, node, floor)
        if checked.n_failing <= self._max_suppressed:
            score = self._floors.score(checked, node, floor) / self._n_records
            if score < self._ceiling(node):
                self._best = node, score, checked.n_failing
        return floor

    def _treat(self, box: _Box, *, from_heap: bool) -> list[_Box]:
        """Return what is left of a box: nothing, the box with a better bound, or two parts, the lower bound last."""
        tight = self._tightened(box)
        if tight is None or tight.lo == tight.hi:
            return []
        if from_heap and self._heap and tight.bound > max(box.bound + TIE, self._heap[0][0]):
            return [tight]
        bound, lo, hi, floor = tight.bound, tight.lo, tight.hi, tight.floor
        column, level = _halfway(floor.terms.tolist(), lo, hi)
        parts = []
        up = (*lo[:column], level + 1, *lo[column + 1 :])
        parts.append(_Box(max(bound, self._bound(floor, up)), up, hi, floor))
        down = (*hi[:column], level, *hi[column + 1 :])
        below = self._visit(down, hi, floor)
        if below is not None:
            parts.append(_Box(max(bound, self._bound(below, lo)), lo, down, below))
        parts = [part for part in parts if part.bound < self._ceiling(part.lo)]
        return sorted(parts, key=lambda part: -part.bound)

    def _tightened(self, box: _Box) -> _Box | None:
        """Cut levels off a box that no node worth having has; None if nothing is left."""
        bound, lo, hi, floor = box.bound, box.lo, box.hi, box.floor
        while True:
            bound = max(bound, self._bound(floor, lo))
            ceiling = self._ceiling(lo)
            if bound >= ceiling:
                return None
            if math.isinf(ceiling):
                return box
            # What a column may lose more than at its lowest level, while all others are at theirs.
            room = ceiling * self._n_records - floor.at(lo)
            terms = floor.terms.tolist()
            cut = tuple(_highest(of_level, room, *ends) for of_level, *ends in zip(terms, lo, hi, strict=True))
            if cut == hi:
                return _Box(bound, lo, hi, floor)
            below = self._visit(cut, hi, floor)
            if below is None:
                return None
            hi, floor = cut, below


def _highest(terms: Sequence[float], room: float, low: int, high: int) -> int:
    """Return the highest level from `low` to `high` whose term is less than `room` above that of `low`, else `low`."""
    limit = terms[low] + room
    while high > low and terms[high] >= limit:
        high -= 1
    return high


def _halfway(terms: Sequence[Sequence[float]], lo: Node, hi: Node) -> tuple[int, int]:
    """Return the column whose term can still change most, and the highest level in the lower half of its change."""
    column, most = 0, -1.0
    for j, (of_level, low, high) in enumerate(zip(terms, lo, hi, strict=True)):
        if low < high and of_level[high] - of_level[low] > most:
            column, most = j, of_level[high] - of_level[low]
    of_level, low, high = terms[column], lo[column], hi[column]
    middle = (of_level[low] + of_level[high]) / 2
    return column, low + sum(term <= middle for term in of_level[low + 1 : high])
