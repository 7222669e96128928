"""`evaluate`: one call from tables to a report. INTERNAL to whoever holds the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from generators.errors import DomainMismatch
from generators.quality.fidelity import fidelity
from generators.quality.follow_up import follow_up
from generators.quality.privacy_section import attack
from generators.quality.report import Report
from generators.quality.rulers import Bench
from generators.quality.utility import utility
from privacy import Schema
from privacy._checks import check_count

# One seed for all reports: the same tables give the same page.
_SEED = 20_260


def evaluate(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    *,
    schema: Schema,
    holdout: pd.DataFrame | None = None,
    targets: Sequence[str] | None = None,
    max_targets: int = 3,
    group: str | None = None,
    covariates: Sequence[str] | None = None,
    attacks: bool = True,
    resamples: int = 3,
    rng: np.random.Generator | None = None,
    progress: Callable[[str], None] = lambda _step: None,
) -> Report:
    """Return what the synthetic table is worth, and whom it gives away. INTERNAL: nothing of this was paid for.

    Parameters
    ----------
    real
        The private rows that the synthetic table was made from.
    synthetic
        The table to judge; any number of rows.
    schema
        The public description of both.
    holdout
        Real patients whom the generator never saw: the best ruler, and what makes the attacks' control honest.
    targets, max_targets
        Categorical columns to predict from the others; by default up to `max_targets`, fewest categories first.
    group
        Column by whose values survival is compared; by default a quasi-identifier with few categories.
    covariates
        Columns of the Cox model; by default all that have few enough terms.
    attacks
        Whether to try singling out, linkability and inference.
    resamples
        Resamples of the real rows behind each floor, >= 1.
    rng
        Chooses resamples and subsets; by default a fixed seed, so that the same tables give the same report.
    progress
        Told the name of each step before it runs.

    Raises
    ------
    SchemaError
        If a table does not fit the schema.
    DomainMismatch
        If a table has under two rows, or a column that is named cannot be used for what it is named for.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]}}})
    >>> real = pd.DataFrame({"sex": ["F", "M"] * 100, "event": ["0", "0", "1", "1"] * 50})
    >>> report = evaluate(real, real, schema=schema, attacks=False)
    >>> report, report.figures["l1_2"].value, report.verdicts["fidelity"]
    (Report(INTERNAL, table='table'), 0.0, 'good')
    """
    check_count("resamples", resamples)
    check_count("max_targets", max_targets)
    rng = np.random.default_rng(_SEED) if rng is None else rng
    progress("reading the tables")
    bench = Bench.of(real, synthetic, holdout, schema, n_resamples=resamples, rng=rng)
    notes = []
    if holdout is None:
        notes.append(
            "There is no holdout of patients whom the generator never saw. With one, the report could say how near the "
            "table is to other patients of the same kind, and whether an attack works only on those who were used."
        )
    progress("fidelity")
    looks = fidelity(bench, rng=rng)
    progress("utility")
    learned = utility(bench, targets=targets, at_most=max_targets, rng=rng)
    survival = None
    if schema.survival is not None:
        progress("survival")
        survival = follow_up(bench, group=group, covariates=covariates, rng=rng)
    privacy = None
    if attacks:
        progress("attacks")
        try:
            privacy = attack(bench, rng=rng)
        except DomainMismatch as error:
            notes.append(f"No attack was possible: {error}.")
    else:
        notes.append("No attack was tried.")
    return Report(
        table=schema.name,
        rows_real=len(bench.real),
        rows_synthetic=len(bench.synthetic),
        rows_holdout=None if bench.holdout is None else len(bench.holdout),
        n_resamples=resamples,
        fidelity=looks,
        utility=learned if learned.predictions or learned.skipped else None,
        survival=survival,
        privacy=privacy,
        notes=tuple(notes),
    )
