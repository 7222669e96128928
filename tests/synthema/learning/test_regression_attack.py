"""An outsider solves everything that a regression opens for the patients, near the least number of patients.

The outsider knows all outcomes, coefficients and roundings, and has no row. Around the truth the opened sums are linear
in the covariates; with a prior that knows a covariate up to PRIOR, what is left unknown of each patient is the standard
deviation of the posterior. Who knows all other patients' rows is another adversary: a sum of all but one is that one,
so exact sums withstand nobody who has such rows (docs/learning/regression.md).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from regression_cases import plain_newton, sums_at

from synthema.learning.families import FAMILIES
from synthema.learning.glm_sums import FRAC_BITS

PRIOR = 0.4
# A patient counts as told if a covariate is known to this part of the half range.
TOLD = 0.003


class Opened(NamedTuple):
    beta: Any
    frac_bits: int
    score_alone: bool


def patients(kind: str, p: int, n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), np.clip(rng.normal(0, PRIOR, (n, p - 1)), -1, 1)])
    eta = x @ rng.normal(0, 0.5, p)
    if kind == "linear":
        return x, np.clip(0.3 * eta + rng.normal(0, 0.2, n), -1, 1)
    if kind == "poisson":
        return x, rng.poisson(np.exp(eta))
    # As few events as the rule p <= 0.33 x events allows, and as few without one.
    y = np.zeros(n)
    y[np.argsort(-eta + rng.logistic(size=n))[: n // 2]] = 1
    return x, y


def opened(kind: str, x: Any, y: Any) -> list[Opened]:
    newton, out = plain_newton(kind, x, y), []
    while not newton.converged:
        out.append(Opened(newton.beta.copy(), newton.encoding.frac_bits, newton.score_alone))
        newton.update(sums_at(newton, x, y, rounded=True))
    return out


def each_patients_part(kind: str, x: Any, y: Any, asked: Opened) -> Any:
    """What each patient adds to the sums, shape (n, P), written without the code under test."""
    r, w, v = FAMILIES[kind].parts(x @ asked.beta, y)
    score = x * r[:, None]
    if asked.score_alone:
        return score
    j, k = np.triu_indices(x.shape[1])
    return np.column_stack([score, x[:, j] * x[:, k] * w[:, None], v])


def equations(kind: str, x: Any, y: Any, asked: list[Opened]) -> Any:
    """Derivatives of all sums by all covariates, in standard deviations of the rounding, shape (sums, n (p - 1))."""
    blocks = []
    for one in asked:
        columns = []
        for j in range(1, x.shape[1]):
            up, down = x.copy(), x.copy()
            up[:, j] += 1e-6
            down[:, j] -= 1e-6
            change = each_patients_part(kind, up, y, one) - each_patients_part(kind, down, y, one)
            columns.append(change / 2e-6)
        # Three sites round, each uniformly by half a unit.
        deviation = np.sqrt(3 / 12) * 2.0**-one.frac_bits
        blocks.append(np.stack(columns, axis=2).transpose(1, 0, 2).reshape(columns[0].shape[1], -1) / deviation)
    return np.concatenate(blocks)


def left_unknown(matrix: Any) -> Any:
    """Posterior standard deviation of every covariate of every patient."""
    _, sizes, directions = np.linalg.svd(matrix, full_matrices=True)
    precision = np.full(matrix.shape[1], 1 / PRIOR**2)
    precision[: len(sizes)] += sizes**2
    return np.sqrt(np.diag((directions.T / precision) @ directions))


@pytest.mark.parametrize("kind", ["logistic", "poisson", "linear"])
@pytest.mark.parametrize("p", [3, 5])
def test_all_that_is_opened_tells_no_patients_covariates(kind, p) -> None:
    # p / 0.33 with and without an event.
    for seed in range(3):
        x, y = patients(kind, p, 2 * (3 * p + 1), seed)
        asked = opened(kind, x, y)
        matrix = equations(kind, x, y, asked)
        unknown = left_unknown(matrix)
        assert np.linalg.matrix_rank(matrix, tol=1 / PRIOR) < 0.7 * matrix.shape[1]
        assert unknown.min() > TOLD
        assert np.median(unknown) > 0.6 * PRIOR


def test_the_same_steps_with_all_sums_opened_finely_would_tell_some() -> None:
    """What the coarse rounding on the way is for."""
    told = []
    for seed in range(6):
        x, y = patients("logistic", 2, 14, seed)
        asked = opened("logistic", x, y)
        fine = [Opened(one.beta, FRAC_BITS, score_alone=False) for one in asked]
        told.append(
            (
                left_unknown(equations("logistic", x, y, fine)).min(),
                left_unknown(equations("logistic", x, y, asked)).min(),
            )
        )
    worse, ours = np.array(told).T
    assert worse.min() < TOLD / 3
    assert np.median(ours / worse) > 10


@pytest.mark.parametrize("kind", ["logistic", "poisson"])
def test_sums_at_many_coefficients_of_the_attackers_choice_tell_everybody(kind) -> None:
    """The negative control: the same attack on what nobody can ask for finds every patient."""
    x, y = patients(kind, 3, 20, seed=5)
    chosen = [Opened(beta, FRAC_BITS, score_alone=False) for beta in np.random.default_rng(1).normal(0, 3, (60, 3))]
    assert left_unknown(equations(kind, x, y, chosen)).max() < 0.05


@pytest.mark.slow
def test_a_solver_finds_everybody_from_chosen_sums_and_others_from_those_of_a_fit() -> None:
    x, y = patients("logistic", 3, 20, seed=5)
    rng = np.random.default_rng(1)
    chosen = [Opened(beta, FRAC_BITS, score_alone=False) for beta in rng.normal(0, 3, (60, 3))]
    found = solve(x, y, chosen, rng)
    # Which of two patients of the same outcome is which no sum can tell.
    for outcome in (0, 1):
        apart = np.linalg.norm(found[y == outcome][:, None] - x[y == outcome][None], axis=2)
        assert apart.min(axis=0).max() < 1e-6
    # What a fit opens instead is explained as well by other patients.
    asked = opened("logistic", x, y)
    other = solve(x, y, asked, rng)
    for one in asked:
        sums, others = (each_patients_part("logistic", at, y, one).sum(axis=0) for at in (x, other))
        assert np.abs(sums - others).max() < 16 * 2.0**-one.frac_bits
    for outcome in (0, 1):
        apart = np.linalg.norm(other[y == outcome][:, None] - x[y == outcome][None], axis=2)
        assert apart.min(axis=0).max() > 0.05


def solve(x: Any, y: Any, asked: list[Opened], rng: Any) -> Any:
    """Return patients who explain the sums, by damped Gauss-Newton steps from guesses that are already near."""
    seen = [each_patients_part("logistic", x, y, one).sum(axis=0) for one in asked]
    guess = x.copy()
    guess[:, 1:] += rng.normal(0, 0.05, (len(x), x.shape[1] - 1))
    weights = np.concatenate([np.full(len(sums), 2.0**one.frac_bits) for one, sums in zip(asked, seen, strict=True)])

    def misses(at: Any) -> Any:
        parts = [each_patients_part("logistic", at, y, one).sum(axis=0) for one in asked]
        return (np.concatenate(seen) - np.concatenate(parts)) * weights

    for _ in range(60):
        scaled = equations("logistic", guess, y, asked) * np.sqrt(3 / 12)
        step, *_ = np.linalg.lstsq(scaled, misses(guess), rcond=1e-13)
        before = np.linalg.norm(misses(guess))
        for _ in range(30):
            tried = guess.copy()
            tried[:, 1:] += step.reshape(len(x), -1)
            if np.linalg.norm(misses(tried)) < before:
                guess = tried
                break
            step = step / 2
        else:
            break
    return guess
