"""Adversaries who read everything that a Cox regression opens.

One subtracts neighbouring sums: on a grid of days two sums at risk differ by those who left in between, often by one
patient, and that patient's covariates are a ratio of two differences. From sums at risk this finds hundreds of
patients; they stay on shares. From scores and informations it finds nobody.

The other solves for the patients near the least number of deaths, knowing all times and deaths, as in
test_regression_attack: around the truth the opened sums are linear in the covariates, and what a prior of PRIOR leaves
unknown of each patient is the standard deviation of the posterior.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from clinics import leukaemia, pooled
from cox_cases import opened_next, plain_newton, terms

from synthema.learning.cox import CoxSpec
from synthema.learning.cox_newton import CoxNewton
from synthema.learning.cox_sums import FRAC_BITS, cells_of, patients_of, sums_by_cell

COVARIATES = ("age", "sex", "wbc", "tpi")
PRIOR = 0.4
# A patient counts as told if a covariate is known to this part of the half range.
TOLD = 0.003
# Of 1,043 patients, sums at risk on a grid of days tell at least so many.
HUNDREDS = 300


def _recovered(sums: list[Any], x: Any) -> int:
    """How many patients' covariates are a ratio of two neighbouring sums' differences: (sum of w, sum of w x)."""
    known = {tuple(row) for row in np.round(x, 5)}
    found = set()
    for before, after in itertools.pairwise(sums):
        left = before - after
        if abs(left[0]) > 1e-9:
            candidate = tuple(np.round(left[1 : 1 + x.shape[1]] / left[0], 5))
            if candidate in known:
                found.add(candidate)
    return len(found)


def test_sums_at_risk_on_a_grid_of_days_would_tell_hundreds_and_what_is_opened_tells_nobody() -> None:
    table, job = leukaemia()
    schema, rows = job.data_schema, pooled(table)
    days = CoxSpec(covariates=COVARIATES, grid_days=1, max_ties=16)
    patients = patients_of(days, schema, rows)
    beta = np.array([1.6, 0.05, 0.7, 0.3])
    at_risk, _ = sums_by_cell(patients, cells_of(days, schema), beta, 3.0)
    assert _recovered(list(at_risk), patients.x) > HUNDREDS
    # All openings of a fit, in any two orders of their numbers, against any two neighbours.
    newton, seen = CoxNewton_of(schema), []
    while not newton.converged:
        opened = opened_next(newton, patients.x, patients.place, patients.died)
        seen.append(opened)
        newton.update(opened)
    full = [opened for opened in seen if len(opened) > len(COVARIATES)]
    p = len(COVARIATES)
    diagonals = np.cumsum([0, *range(p, 1, -1)]) + p
    sequences = [
        [np.concatenate([[1.0], opened[:p]]) for opened in seen],
        [np.concatenate([[opened[j]], opened[:p]]) for opened in full for j in range(len(opened))],
        [opened[np.concatenate([[diagonals[j]], p + np.arange(p)])] for opened in full for j in range(p)],
        [np.concatenate([[1.0], opened[start : start + p]]) for opened in full for start in range(len(opened) - p + 1)],
    ]
    assert sum(_recovered(sequence, patients.x) for sequence in sequences) == 0
    # Nor is an opened vector, or a ratio of two, a patient as it stands.
    alone = [np.zeros(p + 1)] + [
        each for sequence in sequences for pair in sequence for each in (pair, np.zeros(p + 1))
    ]
    assert _recovered(alone, patients.x) == 0


def CoxNewton_of(schema: Any) -> CoxNewton:  # noqa: N802 - as what it makes
    from synthema.learning.design import design_of

    return CoxNewton(design_of(schema, COVARIATES), most_rows=1 << 24)


def _few_patients(p: int, seed: int) -> tuple[Any, Any, Any]:
    """As few deaths as 3 for each coefficient, and as many patients who were lost."""
    rng = np.random.default_rng(seed)
    n = 2 * (3 * p + 1)
    x = np.clip(rng.normal(0, PRIOR, (n, p)), -1, 1)
    time = np.ceil(10 * rng.exponential(1 / np.exp(x @ rng.normal(0, 0.5, p))))
    died = np.zeros(n, dtype=bool)
    died[rng.permutation(n)[: n // 2]] = True
    return x, time, died


def _asked(x: Any, time: Any, died: Any) -> list[tuple[Any, int, bool]]:
    newton, out = plain_newton(x.shape[1]), []
    while not newton.converged:
        out.append((newton.beta.copy(), newton.frac_bits, newton.score_alone))
        newton.update(opened_next(newton, x, time, died))
    return out


def _equations(x: Any, time: Any, died: Any, asked: list[tuple[Any, int, bool]]) -> Any:
    """Derivatives of all sums by all covariates, in standard deviations of the rounding, shape (sums, n p)."""
    n, p = x.shape
    stratum, blocks = np.zeros(n, dtype=int), []

    def sums(at: Any, beta: Any, *, alone: bool) -> Any:
        score, information, _ = terms(at, time, died, stratum, beta, "efron")
        return score if alone else np.concatenate([score, information[np.triu_indices(p)]])

    for beta, bits, alone in asked:
        columns = []
        for i in range(n):
            for j in range(p):
                up, down = x.copy(), x.copy()
                up[i, j] += 1e-5
                down[i, j] -= 1e-5
                columns.append((sums(up, beta, alone=alone) - sums(down, beta, alone=alone)) / 2e-5)
        blocks.append(np.stack(columns, axis=1) * 2.0**bits * np.sqrt(12))
    return np.concatenate(blocks)


def _left_unknown(matrix: Any, p: int) -> Any:
    """Posterior standard deviations, of every covariate of every patient less its mean: no sum tells a common shift."""
    _, sizes, directions = np.linalg.svd(matrix, full_matrices=True)
    precision = np.full(matrix.shape[1], 1 / PRIOR**2)
    precision[: len(sizes)] += sizes**2
    n = matrix.shape[1] // p
    centre = np.kron(np.eye(n) - np.full((n, n), 1 / n), np.eye(p))
    return np.sqrt(np.diag(centre @ (directions.T / precision) @ directions @ centre))


def _unknown(p: int, seed: int, *, finely: bool = False) -> Any:
    x, time, died = _few_patients(p, seed)
    asked = _asked(x, time, died)
    if finely:
        asked = [(beta, FRAC_BITS, False) for beta, _, _ in asked]
    return _left_unknown(_equations(x, time, died, asked), p)


def test_all_that_is_opened_tells_no_patients_covariates() -> None:
    # Fits of so few do not always converge: these do.
    for p, seed in ((2, 0), (3, 1)):
        unknown = _unknown(p, seed)
        assert unknown.min() > TOLD
        assert np.median(unknown) > 0.5 * PRIOR


@pytest.mark.slow
def test_the_same_steps_with_all_sums_opened_finely_would_tell_more() -> None:
    """What the coarse rounding on the way is for."""
    assert _unknown(2, 2, finely=True).min() < _unknown(2, 2).min() / 3


@pytest.mark.slow
def test_sums_at_many_coefficients_of_the_attackers_choice_tell_patients() -> None:
    """The negative control: the same attack on what nobody can ask for."""
    x, time, died = _few_patients(2, 0)
    chosen = [(beta, FRAC_BITS, False) for beta in np.random.default_rng(1).normal(0, 3, (40, 2))]
    assert np.median(_left_unknown(_equations(x, time, died, chosen), 2)) < TOLD
