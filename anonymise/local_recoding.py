"""Local recoding and cell suppression: what a full-domain generalisation would suppress is generalised on its own.

step        a node and the tuples that are released at it
rest        the tuples that no step has released; they are anonymised by themselves in the next step

`local_recoding` takes the best node for all rows, any number of them being suppressed, then the best node for those
rows, and so on. A step is only taken if the rest is within the limit, or the most general node could release it: so no
step leads astray. Otherwise the best node *within the limit* is the last step but for what it leaves. Local recoding
therefore succeeds whenever full-domain generalisation does, and never loses more: each step releases rows that would
cost 1 each.

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
    # The best node at all, and where it leaves a rest that could not be released, the best within the limit.
    limits = [max_suppressed, encoded.n_rows]
    while rest.size and limits:
        part = rest_of(encoded, hierarchies, rest)
        n_rest = int(part.counts.sum())
        best = search(part, metric_of(hierarchies), models, max_suppressed=min(limits[-1], n_rest - 1))
        n_checked += 0 if best is None else best.n_checked
        failing = None if best is None else failing_tuples(part, models, best.node)
        if best is None or failing is None or failing.all():
            limits.pop()
            continue
        after = hierarchies if steps or after_first is None else after_first(hierarchies, best.node)
        if best.n_suppressed > max_suppressed and not _releasable(
            rest_of(encoded, after, rest[failing]), models, max_suppressed=max_suppressed
        ):
            limits.pop()
            continue
        steps.append(Step(hierarchies, best.node, rest[~failing]))
        rest, hierarchies = rest[failing], after
    if int(encoded.counts[rest].sum()) > max_suppressed:
        raise NotAnonymisable(
            rule="no combination of levels satisfies the models within the suppression limit",
            way_out="let the hierarchies end in one group (*), raise suppression_limit, or relax the models",
        )
    lost = float(encoded.counts[rest].sum())
    for step in steps:
        losses = metric_of(step.hierarchies).row_losses(encoded.leaves[:, step.tuples], step.node)
        lost += float(np.dot(losses, encoded.counts[step.tuples]))
    return Steps(tuple(steps), n_checked, lost / encoded.n_rows)


def _releasable(part: Encoded, models: Sequence[Model], *, max_suppressed: int) -> bool:
    """Return whether the most general node releases a table within the limit: then some step always can."""
    top = tuple(levels - 1 for levels in part.shape)
    checked = Checker(part, models).check(top, max_suppressed=max_suppressed)
    return checked.failing is not None and checked.n_failing <= max_suppressed


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
