"""Which search finds the optimum of which metric, and what a metric can be told.

A loss that is a sum over rows and columns, of which suppressing a row never costs less than releasing it, is searched
for by `anonymise.lattice`; everything else by `anonymise.class_search`. Both prove what they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from anonymise.class_search import class_search, problem_of
from anonymise.encoded import Encoded
from anonymise.lattice import Optimum, Progress, search
from anonymise.models import AnyModel
from anonymise.quality import QUALITIES, QualityName, column_weights
from anonymise.quality.separable import Separable


def check_quality(
    quality: QualityName, *, weights: Mapping[str, float] | None, suppression_factor: float, target: str | None
) -> None:
    """Raise ValueError for a metric that does not exist, or that cannot be told what it is told."""
    if quality not in QUALITIES:
        raise ValueError(f"quality must be one of {', '.join(sorted(QUALITIES))}, got {quality!r}")
    entry = QUALITIES[quality]
    if not 0.0 <= suppression_factor <= 1.0:
        raise ValueError(f"suppression_factor must be in [0, 1], got {suppression_factor!r}")
    if weights is not None and not entry.weights:
        able = ", ".join(name for name, other in QUALITIES.items() if other.weights)
        raise ValueError(f"quality {quality!r} looks at classes, not columns, and takes no weights; {able} do")
    if suppression_factor != 0.5 and not entry.factor:
        able = ", ".join(name for name, other in QUALITIES.items() if other.factor)
        raise ValueError(f"quality {quality!r} has its own cost of suppression and takes no factor; {able} do")
    if quality == "average_class_size" and suppression_factor == 0.0:
        raise ValueError("average_class_size needs a suppression_factor > 0: with 0 no released class would count")
    if entry.target and target is None:
        raise ValueError(f'quality {quality!r} needs target="...": the column that the release should predict')
    if target is not None and not entry.target:
        raise ValueError(f'only quality="classification" takes a target, not {quality!r}')


def find_optimum(
    encoded: Encoded,
    models: Sequence[AnyModel],
    *,
    quality: QualityName,
    max_suppressed: int,
    weights: Mapping[str, float] | None = None,
    suppression_factor: float = 0.5,
    target: str | None = None,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Optimum | None:
    """Return the node of least score among those that suppress at most `max_suppressed` rows; None if there is none.

    Parameters
    ----------
    weights
        Importance of quasi-identifiers; 1 for one that is not listed.
    suppression_factor
        Generalisation against suppression, as in ARX: 0 makes suppression cheap, 1 generalisation.
    target
        The attribute of the encoded table that the release should predict.
    time_limit, progress
        As in `anonymise.lattice.search`.
    """
    check_quality(quality, weights=weights, suppression_factor=suppression_factor, target=target)
    of_column = column_weights([hierarchy.name for hierarchy in encoded.hierarchies], weights)
    predicted = None if target is None else encoded.attributes[target]
    build = QUALITIES[quality].build
    problem = problem_of(
        encoded,
        models,
        max_suppressed=max_suppressed,
        factor=suppression_factor,
        weights=of_column,
        target=predicted,
    )
    metric = build(problem)
    if isinstance(metric, Separable):
        loss, scale = metric.as_row_loss()
        if loss is not None:
            report = progress
            if progress is not None and scale != 1.0:
                tell = progress

                def report(now: Progress) -> None:
                    tell(replace(now, score=now.score * scale, bound=now.bound * scale))

            optimum = search(
                encoded, loss, models, max_suppressed=max_suppressed, time_limit=time_limit, progress=report
            )
            return (
                None if optimum is None else replace(optimum, score=optimum.score * scale, bound=optimum.bound * scale)
            )
    return class_search(
        encoded, metric, models, max_suppressed=max_suppressed, time_limit=time_limit, progress=progress
    )
