"""One node of the lattice, checked: which tuples fail, and what that proves of every more specific node.

For a node n and all p <= n (no level of p above n's), classes at p are parts of classes at n. So

    S_n   tuples of classes that fail a downward closed model at n: they fail at p as well
    c_C   for a class C that fails another model: patients of C who are suppressed at p, whatever its parts are
          (`Model.least_lost`)

A row costs at least loss_p(row), and 1 where it is suppressed, and loss_p(row) <= loss_n(C) for a row of C. Hence

    N score(p) >= sum over rows outside S_n of loss_p(row) + |S_n| + sum over C of c_C (1 - loss_n(C)),

and p suppresses at least |S_n| + sum of c_C patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from anonymise.classes import BoolArray, Classes, IntArray
from anonymise.encoded import Encoded, Keys, Node
from anonymise.missing import Wildcards, wildcard_k
from anonymise.models import AnyModel, DeltaPresence, Model, TableModel
from anonymise.refining import ClassKeys

# Distributions are counted for so many (class, value) cells at a time.
_CELLS: Final = 4_000_000
_NONE: Final = np.empty(0, dtype=np.int64)
_NOBODY: Final = np.empty(0, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a node found.

    failing         entries that are suppressed at the node, shape (n_entries,); None if the node was given up early
                    because the limit is exceeded below it
    failing_below   entries known to be suppressed at every more specific node
    n_failing       patients suppressed at the node
    n_below         patients suppressed at every more specific node, at least: those of `failing_below`, and the
                    certified losses of other failing classes, or of the statements on the table
    n_certain       patients of `failing_below`
    partly          an entry of each class that fails another model and loses patients below, shape (n_partly,)
    partly_lost     how many it loses, at least, shape (n_partly,)
    """

    failing: BoolArray | None
    failing_below: BoolArray
    n_failing: int
    n_below: int
    n_certain: int
    partly: IntArray
    partly_lost: IntArray


class Checker:
    """Counts classes at nodes; holds what all checks share."""

    def __init__(self, encoded: Encoded, models: Sequence[AnyModel]) -> None:
        self.encoded = encoded
        self._weights = encoded.counts.astype(np.float64)
        self._people = None if encoded.people is None else encoded.people.astype(np.float64)
        by_class = [model for model in models if isinstance(model, Model)]
        # Sizes alone are cheap; and what fails a closed model needs no other look.
        by_class.sort(key=lambda model: (not model.downward_closed, model.attribute is not None))
        closed = [model for model in by_class if model.downward_closed]
        self._by_size = [model for model in closed if model.attribute is None and not model.needs_population]
        self._closed = [model for model in closed if model not in self._by_size]
        self._open = [model for model in by_class if not model.downward_closed]
        self._table = [model for model in models if isinstance(model, TableModel)]
        # Which of equal classes a statement on the table suppresses is decided by their numbers, so these must not
        # depend on the way to the node.
        self._classes_at = _without_history(encoded) if self._table else ClassKeys(encoded).at
        # No class with fewer patients satisfies all models.
        self._least = max((model.least_rows for model in by_class), default=1)
        # The people of a class without patients are certainly not in the table, and cannot be suppressed.
        self._all_people = any(isinstance(model, DeltaPresence) and model.low > 0 for model in models)
        k = wildcard_k(encoded.hierarchies, models)
        self._wildcards = None if k is None else Wildcards(encoded, k)

    def check(self, node: Node, *, max_suppressed: int, above: Node | None = None) -> Checked:
        """Return which entries fail at a node and below it; `above`: a more general node that was checked before.

        Where too many are certain to fail, `failing_below` may be left empty: nothing below the node is of interest.
        """
        if self._wildcards is not None:
            return self._check_wildcards(self._wildcards, node, max_suppressed)
        return self._check_classes(*self._classes_at(node, above), max_suppressed, name_lost=False)

    def check_with_keys(self, node: Node, *, max_suppressed: int) -> tuple[Checked, Keys, int]:
        """Return what `check` returns, the key of each entry's class, and a bound above all keys."""
        key, size = self._classes_at(node, None)
        if self._wildcards is not None:
            return self._check_wildcards(self._wildcards, node, max_suppressed), key, size
        return self._check_classes(key, size, max_suppressed), key, size

    def _check_classes(self, key: Keys, size: int, max_suppressed: int, *, name_lost: bool = True) -> Checked:
        # Whole numbers below 2^53 are exact in float64.
        counts = np.bincount(key, weights=self._weights, minlength=size)
        sizes = counts.astype(np.int64)
        standing = counts > 0
        if self._all_people and not standing[key].all():
            return Checked(None, ~standing[key], 0, self.encoded.n_rows + 1, 0, _NONE, _NONE)
        if self._by_size:
            # An empty class is asked as if it held one patient; the answer is not used.
            classes = Classes(sizes=np.maximum(sizes, 1), n_rows=self.encoded.n_rows)
            for model in self._by_size:
                standing &= ~model.class_fails(classes)
        if self._closed:
            self._judge(self._closed, standing, key, sizes)
        closed = ~standing
        n_certain = int(counts @ closed)
        if n_certain > max_suppressed and not name_lost:
            return Checked(None, _NOBODY, n_certain, n_certain, n_certain, _NONE, _NONE)
        failing_below = closed.take(key)
        if n_certain > max_suppressed:
            return Checked(None, failing_below, n_certain, n_certain, n_certain, _NONE, _NONE)
        if not self._open and not self._table:
            return Checked(failing_below, failing_below, n_certain, n_certain, n_certain, _NONE, _NONE)
        n_below = n_certain + self._least_suppressed(standing, sizes)
        if n_below > max_suppressed:
            return Checked(None, failing_below, n_below, n_below, n_certain, _NONE, _NONE)
        lost = self._judge(self._open, standing, key, sizes)
        n_below = max(n_below, n_certain + int(lost.sum()))
        if n_below > max_suppressed:
            return Checked(None, failing_below, n_below, n_below, n_certain, _NONE, _NONE)
        whole = (lost > 0) & (lost == sizes)
        if whole.any():
            # Nothing of these classes is ever released: they count like those that fail a closed model.
            closed |= whole
            failing_below = closed[key]
            n_certain = int(sizes[closed].sum())
            lost[whole] = 0
        partly = np.flatnonzero(lost)
        tuples = _NONE
        if partly.size:
            some_tuple = np.zeros(size, dtype=np.int64)
            some_tuple[key] = np.arange(key.size)
            tuples = some_tuple[partly]
        self._suppress_smallest(standing, sizes)
        n_failing = int(sizes[~standing].sum())
        failing = failing_below if n_failing == n_certain else ~standing[key]
        return Checked(failing, failing_below, n_failing, n_below, n_certain, tuples, lost[partly])

    def _check_wildcards(self, wildcards: Wildcards, node: Node, max_suppressed: int) -> Checked:
        failing = wildcards.failing(node, max_suppressed=max_suppressed)
        n_failing = int(self.encoded.counts[failing].sum())
        whole = None if n_failing > max_suppressed else failing
        return Checked(whole, failing, n_failing, n_failing, n_failing, _NONE, _NONE)

    def failing(self, node: Node) -> BoolArray:
        """Return which entries are suppressed at a node, shape (n_entries,)."""
        failing = self.check(node, max_suppressed=self.encoded.n_rows).failing
        if failing is None:
            raise TypeError("no more patients can fail than there are")
        return failing

    def _judge(self, models: Sequence[Model], standing: BoolArray, key: Keys, sizes: IntArray) -> IntArray:
        """Clear the mark of classes that fail; return the certified losses of each class, shape of `sizes`."""
        lost = np.zeros(sizes.size, dtype=np.int64)
        people: IntArray | None = None
        for model in models:
            asked = np.flatnonzero(standing)
            if not asked.size:
                break
            if model.needs_population and people is None and self._people is not None:
                people = np.bincount(key, weights=self._people, minlength=sizes.size).astype(np.int64)
            if model.attribute is None:
                blocks = [asked]
            else:
                n_values = self.encoded.attributes[model.attribute].n_values
                blocks = np.array_split(asked, -(-asked.size * n_values // _CELLS))
            for block in blocks:
                classes = self._classes(model, block, key, sizes, people)
                fails = model.class_fails(classes)
                if fails.any():
                    standing[block[fails]] = False
                    if not model.downward_closed:
                        lost[block[fails]] = model.least_lost(classes.subset(fails))
        # What certainly loses so many that no class is left of it loses all.
        return np.where((lost > 0) & (sizes - lost < self._least), sizes, lost)

    def _classes(
        self, model: Model, block: npt.NDArray[np.intp], key: Keys, sizes: IntArray, people: IntArray | None
    ) -> Classes:
        places = None
        if model.attribute is not None:
            position = np.full(sizes.size, -1, dtype=np.int64)
            position[block] = np.arange(block.size)
            places = position[key]
        return Classes(
            sizes=sizes[block],
            n_rows=self.encoded.n_rows,
            attributes=self.encoded.attributes,
            places=places,
            people=None if people is None else people[block],
        )

    def _least_suppressed(self, standing: BoolArray, sizes: IntArray) -> int:
        """Return how many patients of the standing classes are suppressed below for the statements on the table.

        What is kept below satisfies a monotone statement; so do the classes here that it touches, taken whole, since
        merging and adding to classes break none. Of these choices of classes the largest leaves out the smallest.
        """
        kept = np.sort(sizes[standing])
        dropped = [model.least_dropped(kept) for model in self._table if model.monotone and not model.satisfied(kept)]
        return int(kept[: max(dropped, default=0)].sum())

    def _suppress_smallest(self, standing: BoolArray, sizes: IntArray) -> None:
        """Suppress the smallest classes until each statement on the table holds."""
        if not self._table:
            return
        places = np.flatnonzero(standing)
        # Among classes of one size the order of their keys decides: that of public codes, not of rows.
        places = places[np.argsort(sizes[places], kind="stable")]
        # Suppressing for one statement can break another, so they take turns until none asks for more.
        while True:
            kept = sizes[places]
            broken = [model for model in self._table if kept.size and not model.satisfied(kept)]
            if not broken:
                return
            dropped = max(model.least_dropped(kept) for model in broken)
            standing[places[:dropped]] = False
            places = places[dropped:]


def _without_history(encoded: Encoded) -> Callable[[Node, Node | None], tuple[Keys, int]]:
    classes_at = encoded.classes_at_nodes()
    return lambda node, _above: classes_at(node)


def failing_tuples(encoded: Encoded, models: Sequence[AnyModel], node: Node) -> BoolArray:
    """Return which entries lie in a class that fails some model at a node, shape (n_entries,)."""
    return Checker(encoded, models).failing(node)
