"""Does a model learned from synthetic patients work on real ones? Train on synthetic, test on real.

target  a column with categories (the rarer of two, or the most frequent against the rest), or a number (whether it is
        above the middle bin edge of the real rows)
TRTR   trained on real rows, tested on other real rows (the holdout, or a third of the real rows kept apart)
TSTR   trained on the synthetic rows, tested on the same real rows
AUC    chance that a patient with the outcome gets a higher prediction than one without;  loss = TRTR - TSTR
Brier  mean squared error of the predicted probability
Without a holdout the synthetic table has seen the test rows through its generator: its AUC is then a little flattered.
Source of the design: Esteban, Hyland, Rätsch 2017, arXiv:1706.02633, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.errors import DomainMismatch
from generators.marginals import count_marginal
from generators.quality.features import FloatArray, Groups, indicators
from generators.quality.hazards import follow_up_columns
from generators.quality.logistic import BoolArray, auc, brier, expit, fit_logistic, weighted_auc
from generators.quality.rulers import Bench, Figure, Table, Verdict, figure

# Learned from so many rows at most: more change the third digit of an AUC.
TRAINING_ROWS = 20_000
_GROUPS = 8
_RIDGE = 1.0
_BOOTSTRAPS = 200
_FEWEST_OF_EACH = 10
_MOST_CATEGORIES = 10
# Below this AUC the real rows themselves teach nearly nothing.
_LEARNABLE = 0.6
# Losses of AUC that do not matter, and that do; between them, one that chance in the test rows explains is let pass.
_SMALL, _LARGE = 0.02, 0.05


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well one column is predicted from the others. INTERNAL.

    target, outcome     the column, and what is predicted of it
    brier_prevalence    Brier score of the prediction that everybody has the average risk
    loss                figure: AUC of the model from real rows less that of the model from synthetic ones
    low, high           95 % interval of the loss over resamples of the test rows (both models held fixed)
    """

    target: str
    outcome: str
    auc_real: float
    auc_synthetic: float
    brier_real: float
    brier_synthetic: float
    brier_prevalence: float
    loss: Figure
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Utility:
    """Predictions made and, for targets that could not be predicted, why."""

    predictions: tuple[Prediction, ...]
    tested_on_holdout: bool
    skipped: tuple[tuple[str, str], ...]


def utility(bench: Bench, *, targets: Sequence[str] | None, at_most: int, rng: np.random.Generator) -> Utility:
    """Predict each target, or up to `at_most` categorical columns if none is named. INTERNAL on real rows."""
    names = default_targets(bench) if targets is None else tuple(targets)
    for name in names:
        if bench.domain[name] - bench.columns[name].nullable < 2:
            raise DomainMismatch(f"target {name!r} has one value or bin only, so it cannot be predicted; name another")
    train, test = _split(bench, rng)
    tables = [_sample(table, rng) for table in (train, bench.synthetic, bench.copy, *bench.resamples[:2])]
    groups = Groups.of(train.codes, bench.domain, bench.columns, at_most=_GROUPS)
    predictions: list[Prediction] = []
    skipped = []
    for name in names:
        if targets is None and len(predictions) == at_most:
            break
        outcome, label = _outcome(bench, train, name)
        columns = _predictors(bench, name)
        reason = _reason(bench, name, outcome, [*tables, test])
        if reason or not columns:
            skipped.append((name, reason or "there is no other column"))
            continue
        predictions.append(_predict(bench, (name, label), outcome, columns, groups, tables, test, rng))
    return Utility(tuple(predictions), bench.holdout is not None, tuple(skipped))


def default_targets(bench: Bench) -> tuple[str, ...]:
    """Return the columns to predict: sensitive ones first, few categories first; no follow-up, nothing too fine."""
    left_out = follow_up_columns(bench.schema)
    sensitive = set(bench.schema.sensitive)
    found = [
        name
        for name in bench.domain
        if name not in left_out
        and not bench.columns[name].missing_of
        and bench.domain[name] - bench.columns[name].nullable >= 2
        and (bench.columns[name].kind != "categorical" or bench.domain[name] <= _MOST_CATEGORIES)
    ]
    return tuple(sorted(found, key=lambda name: (name not in sensitive, bench.domain[name])))


def _split(bench: Bench, rng: np.random.Generator) -> tuple[Table, Table]:
    if bench.holdout is not None:
        return bench.real, _sample(bench.holdout, rng)
    order = rng.permutation(len(bench.real))
    third = len(order) // 3
    return bench.real.take(order[third:]), _sample(bench.real.take(order[:third]), rng)


def _sample(table: Table, rng: np.random.Generator) -> Table:
    return table if len(table) <= TRAINING_ROWS else table.take(rng.permutation(len(table))[:TRAINING_ROWS])


def _outcome(bench: Bench, train: Table, name: str) -> tuple[BoolArray, str]:
    """Return which codes are the outcome (a missing value has no part in it), and its words."""
    column = bench.columns[name]
    n_values = bench.domain[name] - column.nullable
    counts = count_marginal(train.codes, bench.domain, (name,))[:n_values]
    chosen = np.zeros(n_values, dtype=bool)
    if column.kind != "categorical" and n_values > 2:
        below = np.cumsum(counts)[:-1] / max(int(counts.sum()), 1)
        cut = 1 + int(np.argmin(np.abs(below - 0.5)))
        chosen[cut:] = True
        edge = column.labels()[cut] if column.categories else column.text([column.bin_edges[cut]])[0]
        return chosen, f"{name} ≥ {edge}"
    code = int(np.argmin(counts) if n_values == 2 else np.argmax(counts))
    chosen[code] = True
    return chosen, f"{name} = {column.labels()[code]}"


def _predictors(bench: Bench, target: str) -> list[int]:
    # An event is no predictor of what was known at diagnosis, nor is the time until then.
    left_out = {target} | follow_up_columns(bench.schema)
    return [i for i, name in enumerate(bench.domain) if name not in left_out]


def _reason(bench: Bench, name: str, outcome: BoolArray, tables: Sequence[Table]) -> str:
    at = bench.domain.position(name)
    for table in tables:
        counts = np.bincount(table.codes[:, at], minlength=bench.domain[name])[: outcome.size]
        if min(counts[outcome].sum(), counts[~outcome].sum()) < _FEWEST_OF_EACH:
            return f"fewer than {_FEWEST_OF_EACH} rows with or without the outcome in one of the tables"
    return ""


def _predict(
    bench: Bench,
    named: tuple[str, str],
    outcome: BoolArray,
    columns: list[int],
    groups: Groups,
    tables: Sequence[Table],
    test: Table,
    rng: np.random.Generator,
) -> Prediction:
    name, label = named
    at = bench.domain.position(name)

    def known(table: Table) -> tuple[FloatArray, BoolArray]:
        rows = table.codes[:, at] < outcome.size
        X = indicators(groups.apply(table.codes)[rows], groups.sizes, columns)
        return X, outcome[table.codes[rows, at]]

    X, y = known(test)
    fitted = [expit(X @ fit_logistic(*known(table), ridge=_RIDGE, tolerance=1e-4)) for table in tables]
    areas = [auc(p, y) for p in fitted]
    # In the order of a figure: synthetic, copy, resamples; real patients outside are what is tested on.
    losses = [areas[0] - area for area in areas[1:]] + ([] if bench.holdout is None else [math.nan])
    low, high = _interval(fitted[0], fitted[1], y, rng)
    learnable = areas[0] >= _LEARNABLE

    def judge(value: float, _floor: float) -> Verdict:
        if value <= _SMALL or (value <= _LARGE and low <= 0):
            return "good"
        return "fair" if value <= _LARGE else "poor"

    loss = figure(
        f"auc_loss[{name}]",
        f"Predicting {label}",
        "Loss of AUC by learning from synthetic instead of real patients, both tested on the same real patients."
        + ("" if learnable else " Even real patients hardly teach this, so there is little to lose and no verdict."),
        losses,
        bench,
        judge=judge if learnable else None,
    )
    return Prediction(
        target=name,
        outcome=label,
        auc_real=areas[0],
        auc_synthetic=areas[1],
        brier_real=brier(fitted[0], y),
        brier_synthetic=brier(fitted[1], y),
        brier_prevalence=brier(np.full(y.size, float(known(tables[0])[1].mean())), y),
        loss=loss,
        low=low,
        high=high,
    )


def _interval(real: FloatArray, synthetic: FloatArray, y: BoolArray, rng: np.random.Generator) -> tuple[float, float]:
    ranks: list[npt.NDArray[np.intp]] = [np.unique(p, return_inverse=True)[1] for p in (real, synthetic)]
    losses = np.empty(_BOOTSTRAPS)
    for b in range(_BOOTSTRAPS):
        weights = np.bincount(rng.integers(0, y.size, y.size), minlength=y.size).astype(np.float64)
        losses[b] = weighted_auc(ranks[0], y, weights) - weighted_auc(ranks[1], y, weights)
    low, high = np.nanquantile(losses, [0.025, 0.975])
    return float(low), float(high)
