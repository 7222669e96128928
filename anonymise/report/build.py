"""The door to the report: measures the raw and the released table alike, and puts beside each other what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from anonymise.hierarchies import build_hierarchy
from anonymise.models import AnyModel
from anonymise.population import Estimator
from anonymise.release import Result
from anonymise.report.document import AttackFigure, ColumnFacts, ReleaseContext, ReleaseFacts, RiskDocument
from anonymise.risk import RiskReport, assess_risk, check_policy_0070, check_safe_harbor
from anonymise.risk.figures import Missing
from anonymise.wp29 import Wp29Result
from privacy.schema import Schema


def report_risk(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    released: Result | pd.DataFrame | None = None,
    models: Sequence[AnyModel] = (),
    population: pd.DataFrame | None = None,
    population_size: float | None = None,
    estimator: Estimator = "dankar",
    missing: Missing | None = None,
    threshold: float = 0.09,
    attacks: Sequence[AttackFigure] = (),
    wp29: Wp29Result | None = None,
    context: ReleaseContext | None = None,
) -> RiskDocument:
    """Return the report of a table, and of what was made of it.

    Parameters
    ----------
    frame
        The raw table.
    released
        What `anonymise` returned, or a table that somebody else made of it with the same column names.
    models
        Privacy models to check on both tables.
    population, population_size, estimator, missing, threshold
        As for `assess_risk`. The population is raw; for a `Result` it is generalised as the table was, and a table
        from elsewhere is compared by `population_size` only.
    attacks
        Figures of other attacks that were tried on the released table.
    wp29
        What `measure_wp29` found on the released table (on the raw one, if nothing was released).
    context
        What a person has to say about recipient, purpose and safeguards.

    Examples
    --------
    >>> from anonymise import KAnonymity, anonymise
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [50]}},
    ... }})
    >>> frame = pd.DataFrame({"age": [21, 24, 27, 52, 58]})
    >>> report = report_risk(frame, schema, released=anonymise(frame, schema, models=[KAnonymity(2)]))
    >>> report.before.smallest_class, report.after.smallest_class
    (1, 2)
    """
    given = {
        "estimator": estimator,
        "missing": missing,
        "threshold": threshold,
        "models": models,
        "population_size": population_size,
    }
    before = assess_risk(frame, schema, population=population, **given)  # type: ignore[arg-type]
    title = schema.name
    said = ReleaseContext() if context is None else context
    if released is None:
        findings = (*check_safe_harbor(frame, schema), *check_policy_0070(before))
        columns = _columns(schema, before, None, {})
        return RiskDocument(
            title, before, columns=columns, findings=findings, attacks=tuple(attacks), context=said, wp29=wp29
        )
    table = released.table if isinstance(released, Result) else released
    node: Mapping[str, int] = (released.node or {}) if isinstance(released, Result) else {}
    counted = None if population is None or not node else _generalised(population, schema, node)
    names = [str(name) for name in table.columns]
    kept = schema.subset(name for name in schema.names if name in names)
    after = assess_risk(table, kept, population=counted, **given)  # type: ignore[arg-type]
    return RiskDocument(
        title,
        before,
        after=after,
        release=ReleaseFacts(
            models=tuple(check.model for check in after.models if check.holds),
            suppressed=1.0 - len(table) / len(frame),
            score=released.score if isinstance(released, Result) else None,
            optimal=released.optimal if isinstance(released, Result) else None,
        ),
        columns=_columns(schema, before, after, node),
        findings=(*check_safe_harbor(table, kept), *check_policy_0070(after)),
        attacks=tuple(attacks),
        context=said,
        wp29=wp29,
    )


def _columns(
    schema: Schema, before: RiskReport, after: RiskReport | None, node: Mapping[str, int]
) -> tuple[ColumnFacts, ...]:
    left = {} if after is None else {column.name: column for column in after.columns}
    out = []
    for column in before.columns:
        role = schema.column(column.name).role if column.name in schema.names else "not in the schema"
        now = left.get(column.name)
        level = node.get(column.name)
        out.append(
            ColumnFacts(
                name=column.name,
                role=role,
                values_before=column.n_distinct,
                unique_before=column.uniqueness,
                values_after=None if now is None else now.n_distinct,
                unique_after=None if now is None else now.uniqueness,
                level=level,
                n_levels=None if level is None else build_hierarchy(schema.column(column.name)).n_levels,
            )
        )
    return tuple(out)


def _generalised(population: pd.DataFrame, schema: Schema, node: Mapping[str, int]) -> pd.DataFrame:
    out = {}
    for name, level in node.items():
        hierarchy = build_hierarchy(schema.column(name))
        codes = hierarchy.codes[level][hierarchy.encode(population[name].to_numpy())]
        out[name] = np.array(hierarchy.labels[level], dtype=object)[codes]
    return pd.DataFrame(out)
