"""The algorithms that choose class by class, behind one door that warns: Mondrian, local recoding, cell suppression.

They keep more detail than one generalisation for all, and their choices leak. Every one is opt-in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from anonymise.classes import IntArray
from anonymise.encoded import Encoded
from anonymise.errors import AttackableRelease, NotAnonymisable
from anonymise.local_recoding import MetricOf, Steps, cell_suppression, local_recoding
from anonymise.missing import wildcard_columns
from anonymise.models import AnyModel, Model
from anonymise.mondrian import mondrian_classes
from anonymise.preparing import Prepared
from anonymise.recoding import Texts
from anonymise.spans import Spans

Algorithm = Literal["optimal", "mondrian", "local", "cell_suppression"]
LocalAlgorithm = Literal["mondrian", "local", "cell_suppression"]

ALGORITHMS: Final = ("optimal", "mondrian", "local", "cell_suppression")

_RULED_OUT: Final = (
    "finer values can be ruled out from the table alone (combinatorial refinement: arXiv 2509.03350; downcoding: "
    "Cohen 2022)"
)
_COSTS: Final[dict[str, str]] = {
    "mondrian": "its classes are minimal and their texts name values that somebody in the class has, so finer values "
    "can be inferred from the table alone, some with certainty (downcoding: Cohen 2022)",
    "local": f"a row that is generalised further than others was in a failing class before, so {_RULED_OUT}",
    "cell_suppression": f"a row with a suppressed cell was in a failing class before, so {_RULED_OUT}",
}
_MINIMALITY: Final = (
    "with models of sensitive values, that a class was not released finer also tells about these (minimality: "
    "Wong et al. 2007)"
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Choice:
    """The texts that an algorithm chose.

    score         loss of the release, in [0, 1]: `anonymise.loss`, for the values that each text stands for
    n_suppressed  patients who are left out
    n_checked     nodes whose classes were counted
    """

    texts: Texts
    score: float
    n_suppressed: int
    n_checked: int


def choose(
    algorithm: LocalAlgorithm,
    prepared: Prepared,
    models: Sequence[AnyModel],
    *,
    metric_of: MetricOf,
) -> Choice:
    """Return the texts that an opt-in algorithm gives to the tuples, and warn of what it costs.

    Raises ValueError for a model that the algorithm cannot hold, NotAnonymisable if the models cannot be satisfied, or
    the table has wildcards or several rows a patient.
    """
    encoded = prepared.encoded
    if prepared.patients is not None:
        raise NotAnonymisable(
            rule=f"algorithm={algorithm!r} recodes rows, and a patient has several",
            way_out="use algorithm='optimal', which protects patients by all of their rows",
        )
    if wildcard_columns(encoded.hierarchies):
        raise NotAnonymisable(
            rule=f"missing = 'wildcard' has no meaning for algorithm={algorithm!r}, whose classes are equal text",
            way_out="set missing = 'own_value' or 'suppress', or use algorithm='optimal'",
        )
    by_class = [_held(model, algorithm) for model in models]
    more = f"; {_MINIMALITY}" if any(model.attribute is not None for model in by_class) else ""
    warnings.warn(
        f"algorithm={algorithm!r} can be attacked: {_COSTS[algorithm]}{more}; algorithm='optimal' recodes all alike",
        AttackableRelease,
        stacklevel=4,
    )
    if algorithm == "mondrian":
        return _mondrian(encoded, by_class)
    refine = _REFINE[algorithm]
    return _stepwise(encoded, refine(encoded, metric_of, by_class, max_suppressed=prepared.max_suppressed))


_REFINE: Final[dict[str, Callable[..., Steps]]] = {"local": local_recoding, "cell_suppression": cell_suppression}


def _held(model: AnyModel, algorithm: str) -> Model:
    """Return the model if it speaks of each class by itself and of merged classes alike; raise ValueError if not."""
    if not isinstance(model, Model):
        reason = "it speaks of the release as a whole"
    elif model.needs_population:
        reason = "it compares with the population at one node"
    elif not model.monotone:
        # Two classes can get the same text, and are one class then.
        reason = "a union of classes that satisfy it may fail it"
    else:
        return model
    raise ValueError(f"algorithm={algorithm!r} cannot hold {model!r}: {reason}; use algorithm='optimal'")


def _mondrian(encoded: Encoded, models: Sequence[Model]) -> Choice:
    spans = [Spans.of(hierarchy) for hierarchy in encoded.hierarchies]
    class_of_tuple = mondrian_classes(encoded, models, spans)
    n_classes = int(class_of_tuple.max()) + 1
    weights = np.bincount(class_of_tuple, weights=encoded.counts, minlength=n_classes)
    order = np.argsort(class_of_tuple, kind="stable")
    starts = np.searchsorted(class_of_tuple[order], np.arange(n_classes))
    texts, codes, lost = [], [], 0.0
    for span, leaves in zip(spans, encoded.leaves, strict=True):
        rank = span.rank[leaves[order]]
        first, last = np.minimum.reduceat(rank, starts), np.maximum.reduceat(rank, starts)
        if span.notation == "set":
            found, losses = span.set_texts(_leaf_sets(class_of_tuple, leaves, span.hierarchy.n_leaves))
        else:
            found, losses = span.texts(first, last)
        # Sorted: the order in which classes were found has no business in the table.
        index = {text: at for at, text in enumerate(sorted(set(found)))}
        texts.append(tuple(index))
        codes.append(np.array([index[text] for text in found], dtype=np.int64)[class_of_tuple])
        lost += float(np.dot(losses, weights))
    return Choice(
        Texts(tuple(texts), tuple(codes), np.ones(encoded.n_tuples, dtype=np.bool_)),
        score=lost / (len(spans) * encoded.n_rows),
        n_suppressed=0,
        n_checked=0,
    )


def _leaf_sets(class_of_tuple: IntArray, leaves: npt.NDArray[np.int32], n_leaves: int) -> list[tuple[int, ...]]:
    """Return the leaves that occur in each class, ascending."""
    pairs = np.unique(class_of_tuple * n_leaves + leaves)
    found = (pairs % n_leaves).tolist()
    ends = np.searchsorted(pairs, np.arange(1, int(class_of_tuple.max()) + 2) * n_leaves).tolist()
    return [tuple(found[begin:end]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def _stepwise(encoded: Encoded, steps: Steps) -> Choice:
    kept = np.zeros(encoded.n_tuples, dtype=np.bool_)
    codes = np.zeros((len(encoded.hierarchies), encoded.n_tuples), dtype=np.int64)
    used = [
        {label for step in steps.steps for label in step.hierarchies[at].labels[step.node[at]]}
        for at in range(len(encoded.hierarchies))
    ]
    indices = [{label: at for at, label in enumerate(sorted(labels))} for labels in used]
    for step in steps.steps:
        kept[step.tuples] = True
        for at, (hierarchy, level, index) in enumerate(zip(step.hierarchies, step.node, indices, strict=True)):
            number = np.array([index[label] for label in hierarchy.labels[level]])
            codes[at, step.tuples] = number[hierarchy.codes[level][encoded.leaves[at, step.tuples]]]
    return Choice(
        Texts(tuple(tuple(index) for index in indices), tuple(codes), kept),
        score=steps.score,
        n_suppressed=int(encoded.counts[~kept].sum()),
        n_checked=steps.n_checked,
    )
