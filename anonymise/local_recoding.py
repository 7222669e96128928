"""Local recoding and cell suppression: what a full-domain generalisation would suppress is generalised on its own.

step        a node and the tuples that are released at it
rest        the tuples that no step has released; they are anonymised by themselves in the next step

`local_recoding` takes the best node for all rows, any number of them being suppressed, then the best node for those
rows, and so on, as long as something can be released. A step that leaves a rest of which too much is certainly lost
(too few rows, or too skewed) is not taken. Where the steps end with too large a rest, the best node *within the limit*
is sought, steps being undone from the last until there is one, so that local recoding succeeds whenever full-domain
generalisation does. It never loses more: each step releases rows that would cost 1 each.

`cell_suppression` does the same after the first step with hierarchies of two levels, the first node's text and "*": a
failing row keeps its text except for some cells. A "*" is a value of its own here: a class is equal text, cell for
cell. Whoever reads it as "anything" finds larger classes, never smaller ones.

Both can be attacked: that a row was not released at an earlier node tells about it (`AttackableRelease`).
Compare: ARX's iterative local recoding (Prasser et al. 2020, doi:10.1002/spe.2812).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from anonymise.checking import Checker, failing_tuples
from anonymise.classes import IntArray
from anonymise.encoded import Encoded, Node
from anonymise.errors import NotAnonymisable
from anonymise.hierarchies import ALL, Hierarchy
from anonymise.lattice import search
from anonymise.loss import Metric
from anonymise.models import Model

Tuples = npt.NDArray[np.intp]
MetricOf = Callable[[Sequence[Hierarchy]], Metric]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Step:
    """A node, the hierarchies whose levels it names, and the tuples that are released at it, shape (n_some,)."""

    hierarchies: tuple[Hierarchy, ...]
    node: Node
    tuples: Tuples


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Steps:
    """What is released at which node, how many nodes were checked, and the loss of the release, in [0, 1].

    Tuples of no step are suppressed.
    """

    steps: tuple[Step, ...]
    n_checked: int
    score: float


def local_recoding(encoded: Encoded, metric_of: MetricOf, models: Sequence[Model], *, max_suppressed: int) -> Steps:
    """Return the steps of local recoding. Raises NotAnonymisable if the rows cannot be released within the limit."""
    return _refined(encoded, metric_of, models, max_suppressed=max_suppressed, after_first=None)


def cell_suppression(encoded: Encoded, metric_of: MetricOf, models: Sequence[Model], *, max_suppressed: int) -> Steps:
    """Return the steps of cell suppression: one full-domain node, then that node with some columns "*".

    Raises NotAnonymisable if the rows cannot be released within the limit.
    """
    return _refined(encoded, metric_of, models, max_suppressed=max_suppressed, after_first=text_or_star)


def text_or_star(hierarchies: Sequence[Hierarchy], node: Node) -> tuple[Hierarchy, ...]:
    """Return the hierarchies of two levels: the node's text, and "*"."""
    return tuple(
        replace(
            hierarchy,
            labels=(hierarchy.labels[level], (ALL,)),
            codes=(hierarchy.codes[level], np.zeros(hierarchy.n_leaves, dtype=np.int64)),
        )
        for hierarchy, level in zip(hierarchies, node, strict=True)
    )


def _refined(
    encoded: Encoded,
    metric_of: MetricOf,
    models: Sequence[Model],
    *,
    max_suppressed: int,
    after_first: Callable[[Sequence[Hierarchy], Node], tuple[Hierarchy, ...]] | None,
) -> Steps:
    steps: list[Step] = []
    hierarchies = encoded.hierarchies
    rest: Tuples = np.flatnonzero(encoded.counts > 0)
    n_checked = 0

    def release(most: int) -> bool:
        """Release the best part of the rest at one node, leaving at most so many patients; return if it is released."""
        nonlocal hierarchies, rest, n_checked
        part = rest_of(encoded, hierarchies, rest)
        best = search(part, metric_of(hierarchies), models, max_suppressed=most)
        if best is None:
            return False
        n_checked += best.n_checked
        failing = failing_tuples(part, models, best.node)
        if failing.all() or (best.n_suppressed > max_suppressed and stuck(rest[failing])):
            return False
        steps.append(Step(hierarchies, best.node, rest[~failing]))
        rest = rest[failing]
        if len(steps) == 1 and after_first is not None:
            hierarchies = after_first(hierarchies, best.node)
        return True

    def stuck(tuples: Tuples) -> bool:
        """Return whether more than the limit is certainly lost of these tuples, whatever steps follow."""
        part = rest_of(encoded, encoded.hierarchies, tuples)
        top = tuple(levels - 1 for levels in part.shape)
        return Checker(part, models).check(top, max_suppressed=max_suppressed).n_below > max_suppressed

    while rest.size and release(int(encoded.counts[rest].sum()) - 1):
        pass
    # What is left is too much. The last steps are undone until a node within the limit releases what they did.
    while int(encoded.counts[rest].sum()) > max_suppressed and not release(max_suppressed):
        if not steps:
            raise NotAnonymisable(
                rule="no combination of levels satisfies the models within the suppression limit",
                way_out="let the hierarchies end in one group (*), raise suppression_limit, or relax the models",
            )
        undone = steps.pop()
        hierarchies = undone.hierarchies
        rest = np.sort(np.concatenate([undone.tuples, rest]))
    lost = float(encoded.counts[rest].sum())
    for step in steps:
        losses = metric_of(step.hierarchies).row_losses(encoded.leaves[:, step.tuples], step.node)
        lost += float(np.dot(losses, encoded.counts[step.tuples]))
    return Steps(tuple(steps), n_checked, lost / encoded.n_rows)


def rest_of(encoded: Encoded, hierarchies: tuple[Hierarchy, ...], tuples: Tuples) -> Encoded:
    """Return the table of some tuples alone; the size of the table and the overall distributions remain the whole's."""
    number = np.full(encoded.n_tuples, -1, dtype=np.int64)
    number[tuples] = np.arange(tuples.size)
    attributes = {}
    for name, attribute in encoded.attributes.items():
        local = number[attribute.tuples]
        some = local >= 0
        attributes[name] = replace(
            attribute, tuples=local[some], values=attribute.values[some], counts=attribute.counts[some]
        )
    # A search takes only their number from the rows: models and scores speak of the whole table.
    row_tuple: IntArray = encoded.row_tuple
    return Encoded(
        hierarchies=hierarchies,
        leaves=np.ascontiguousarray(encoded.leaves[:, tuples]),
        counts=encoded.counts[tuples],
        row_tuple=row_tuple,
        attributes=attributes,
    )
