"""Singling out: predicates that match exactly one synthetic row, tried on the real rows.

univariate    one condition: a value that only one row has, an extreme that only one reaches, the only missing value
multivariate  conditions on k columns of one synthetic row: its category, or "at least" / "at most" its number,
              whichever points away from the median
An attack succeeds if its predicate matches exactly one row. Repeated rows count once.

The control's rate is taken to the real table's number of rows (see `privacy._table_size`).

Sources: Cohen, Nissim 2020, PNAS 117:8344 (predicate singling out); Giomi et al. 2023, arXiv:2211.10459, section 4.1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from generators.attacks.predicates import Conjunctions, Matcher, Relation
from generators.attacks.results import AttackResult, made_note
from generators.attacks.table import IntArray, Rows
from privacy._rates import Rate, Risk, excess_risk
from privacy._table_size import rate_at_size

Mode = Literal["univariate", "multivariate"]

# Predicates tried for each one wanted, before the attack makes do with those it has.
_TRIES = 100
_BATCH = 2048


def singling_out(
    real: Rows,
    synthetic: Rows,
    control: Rows | None = None,
    *,
    mode: Mode = "multivariate",
    n_attacks: int = 2000,
    n_columns: int = 3,
    rng: np.random.Generator,
) -> AttackResult:
    """Attack the real rows with predicates from the synthetic ones. INTERNAL: reads real rows.

    Parameters
    ----------
    real, synthetic, control
        Rows the generator saw, rows it made, rows it never saw.
    mode
        Which predicates.
    n_attacks
        Predicates asked for; fewer are made where fewer single out a synthetic row.
    n_columns
        Columns in a multivariate predicate.
    """
    real, synthetic = real.distinct(), synthetic.distinct()
    if mode == "univariate":
        asked, width = _univariate(synthetic, n_attacks, rng=rng), 1
    else:
        width = min(n_columns, len(real.names))
        asked = _multivariate(synthetic, n_attacks, width, rng=rng)
    made = len(asked)
    of_real = Matcher(real)
    matches = of_real.count(asked)
    success = Rate.of(int((matches == 1).sum()), made)
    guesses = _random_predicates(synthetic, made, width, rng=rng)
    baseline = Rate.of(int((of_real.count(guesses) == 1).sum()), made)
    notes = [made_note(made, n_attacks)]
    if mode == "univariate" and made:
        columns = np.bincount(asked.columns[:, 0], minlength=len(real.names))
        used = ", ".join(f"{name} {count}" for name, count in zip(real.names, columns.tolist(), strict=True) if count)
        notes.append(f"predicates by column: {used}")
    seen: Rate | None = None
    risk: Risk
    if control is None:
        risk = excess_risk(success, baseline)
    else:
        control = control.distinct()
        seen = rate_at_size(Matcher(control).count(asked), len(control), len(real), rng=rng)
        risk = excess_risk(success, seen)
        if len(control) != len(real) and made:
            notes.append("the control's rate is taken to the number of rows of the real table")
    return AttackResult(
        attack=f"singling out ({mode})",
        asked=n_attacks,
        success=success,
        baseline=baseline,
        control=seen,
        risk=risk,
        notes=tuple(note for note in notes if note),
    )


def _univariate(synthetic: Rows, n_attacks: int, *, rng: np.random.Generator) -> Conjunctions:
    """Return conditions that match one row, taken from the columns in turn: no column may crowd out the others."""
    by_column = []
    for i, (column, numeric) in enumerate(zip(synthetic.columns, synthetic.numeric, strict=True)):
        conditions: list[tuple[int, int, float]] = []
        missing = np.isnan(column) if numeric else np.zeros(len(column), dtype=bool)
        if missing.sum() == 1:
            conditions.append((i, Relation.MISSING, 0.0))
        values, counts = np.unique(column[~missing], return_counts=True)
        conditions.extend((i, Relation.EQUAL, float(value)) for value in values[counts == 1])
        if numeric and len(values):
            if counts[0] == 1:
                conditions.append((i, Relation.AT_MOST, float(values[0])))
            if counts[-1] == 1:
                conditions.append((i, Relation.AT_LEAST, float(values[-1])))
        by_column.append([conditions[j] for j in rng.permutation(len(conditions))])
    longest = max(len(conditions) for conditions in by_column)
    in_turn = [conditions[j] for j in range(longest) for conditions in by_column if j < len(conditions)][:n_attacks]
    table = np.array(in_turn, dtype=np.float64).reshape(-1, 3)
    return Conjunctions(table[:, :1].astype(np.int64), table[:, 1:2].astype(np.int64), table[:, 2:])


def _multivariate(synthetic: Rows, n_attacks: int, width: int, *, rng: np.random.Generator) -> Conjunctions:
    """Return distinct conjunctions from random rows and columns that match one synthetic row."""
    middle = [
        float(np.median(column[~np.isnan(column)])) if numeric and not np.isnan(column).all() else 0.0
        for column, numeric in zip(synthetic.columns, synthetic.numeric, strict=True)
    ]
    matcher = Matcher(synthetic)
    found = _none(width)
    for _ in range(-(-_TRIES * n_attacks // _BATCH)):
        source = rng.integers(len(synthetic), size=_BATCH)
        columns = _random_columns(len(synthetic.names), _BATCH, width, rng=rng)
        relations = np.empty(columns.shape, dtype=np.int64)
        values = np.empty(columns.shape)
        for i, (column, numeric) in enumerate(zip(synthetic.columns, synthetic.numeric, strict=True)):
            here = columns == i
            value = column[source[np.nonzero(here)[0]]].astype(np.float64)
            relation = np.full(len(value), int(Relation.EQUAL))
            if numeric:
                relation = np.where(value > middle[i], int(Relation.AT_LEAST), int(Relation.AT_MOST))
                relation[np.isnan(value)] = Relation.MISSING
            relations[here], values[here] = relation, np.nan_to_num(value)
        tried = Conjunctions(columns, relations, values)
        found = found.joined(tried.take(np.flatnonzero(matcher.count(tried) == 1)))
        found = found.take(found.first_occurrences())
        if len(found) >= n_attacks:
            break
    return found.take(np.arange(min(n_attacks, len(found))))


def _random_predicates(synthetic: Rows, n_attacks: int, width: int, *, rng: np.random.Generator) -> Conjunctions:
    """Return conjunctions of random relations to random values that occur: what guessing would reach."""
    columns = _random_columns(len(synthetic.names), n_attacks, width, rng=rng)
    relations = np.empty(columns.shape, dtype=np.int64)
    values = np.empty(columns.shape)
    of_number = [r for r in Relation if r is not Relation.MISSING]
    for i, (column, numeric) in enumerate(zip(synthetic.columns, synthetic.numeric, strict=True)):
        here = columns == i
        value = rng.choice(np.unique(column), size=int(here.sum())).astype(np.float64)
        relation = rng.choice(of_number if numeric else [Relation.EQUAL, Relation.UNEQUAL], size=len(value))
        relations[here] = np.where(np.isnan(value), int(Relation.MISSING), relation)
        values[here] = np.nan_to_num(value)
    return Conjunctions(columns, relations, values)


def _random_columns(n_columns: int, n: int, width: int, *, rng: np.random.Generator) -> IntArray:
    return np.sort(rng.random((n, n_columns)).argsort(axis=1)[:, :width], axis=1)


def _none(width: int) -> Conjunctions:
    return Conjunctions(
        np.empty((0, width), dtype=np.int64), np.empty((0, width), dtype=np.int64), np.empty((0, width))
    )
