"""Patients for tests of Cox's model, and its sums written down term by term."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from clinics import job

from synthema.learning.cox_newton import CoxNewton
from synthema.learning.design import Design
from synthema.study import Study

Floats = npt.NDArray[np.float64]

EXACT_TIMES = {"epsilon_cap": 10.0, "delta_cap": 1e-5, "allow_exact": True, "min_grid_days": 1}
SITES = ("vienna", "madrid", "milan")
COLUMNS: dict[str, Any] = {
    "days": {"kind": "integer", "bounds": [0, 40]},
    "died": {"categories": ["0", "1"]},
    "dose": {"kind": "continuous", "bounds": [-1, 1]},
    "age": {"kind": "integer", "bounds": [0, 100]},
    "grade": {"categories": ["low", "mid", "high"]},
    "ward": {"categories": ["a", "b"]},
}
SCHEMA = {"columns": COLUMNS, "survival": {"time": "days", "event": "died"}}


def terms(x: Any, time: Any, died: Any, stratum: Any, beta: Any, ties: str) -> tuple[Floats, Floats, float]:
    """Score, information and log partial likelihood: a loop over strata, times and ranks of tied deaths."""
    w, p = np.exp(x @ beta), x.shape[1]
    score, information, value = np.zeros(p), np.zeros((p, p)), 0.0
    for g in np.unique(stratum):
        for t in np.unique(time[died & (stratum == g)]):
            dying, risk = died & (time == t) & (stratum == g), (time >= t) & (stratum == g)
            score += x[dying].sum(axis=0)
            value += float((x[dying] @ beta).sum())
            for rank in range(np.count_nonzero(dying)):
                part = rank / np.count_nonzero(dying) if ties == "efron" else 0.0
                weight = w * (risk - part * dying)
                mean = weight @ x / weight.sum()
                score -= mean
                information += (x * weight[:, None]).T @ x / weight.sum() - np.outer(mean, mean)
                value -= float(np.log(weight.sum()))
    return score, information, value


def maximum(x: Any, time: Any, died: Any, stratum: Any, ties: str) -> tuple[Floats, Floats, float]:
    """Coefficients, standard errors and log partial likelihood by Newton's method on these."""
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        score, information, value = terms(x, time, died, stratum, beta, ties)
        beta = beta + np.linalg.solve(information, score)
    return beta, np.sqrt(np.diag(np.linalg.inv(information))), value


def frames(n: int = 150, seed: int = 0, **columns: Any) -> dict[str, pd.DataFrame]:
    """Simulated patients at three sites, fixed; `columns` of the first site's kind replace those of all."""
    out = {}
    for i, site in enumerate(SITES):
        random = np.random.default_rng([seed, i])
        dose, age = random.uniform(-1, 1, n), random.integers(20, 90, n)
        grade, ward = random.choice(["low", "mid", "high"], n), random.choice(["a", "b"], n)
        hazard = np.exp(0.8 * dose + 0.02 * (age - 55) + 0.5 * (grade == "high"))
        time = np.minimum(random.exponential(15 / hazard), random.uniform(5, 40, n))
        table = pd.DataFrame(
            {
                "days": np.ceil(time).astype(np.int64),
                "died": np.where(random.random(n) < 0.7, "1", "0"),
                "dose": dose,
                "age": age,
                "grade": grade,
                "ward": ward,
            }
        )
        out[site] = table.assign(**{name: make(table) for name, make in columns.items()})
    return out


def small_job(**changes: Any) -> Study:
    """A job about them."""
    parties = {"compute_parties": SITES[:2]}
    return job(SCHEMA, SITES, **({"policy": EXACT_TIMES, "federation": parties} | changes))


def raw_design(table: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    """The columns in their own units, categories as dummies against the first."""
    out: list[Any] = []
    for name in names:
        categories = COLUMNS[name].get("categories")
        if categories:
            out.extend((table[name] == category).to_numpy(dtype=float) for category in categories[1:])
        else:
            out.append(table[name].to_numpy(dtype=float))
    return np.column_stack(out)


def plain_newton(p: int) -> CoxNewton:
    """Newton's method at its start for covariates that are in [-1, 1] already."""
    names = tuple((f"x{j}", "") for j in range(p))
    return CoxNewton(Design(names, (0.0,) * (p + 1), (1.0,) * (p + 1)), most_rows=1 << 20)


def opened_next(newton: CoxNewton, x: Any, time: Any, died: Any, ties: str = "efron") -> Floats:
    """What is opened next, of all rows."""
    stratum = np.zeros(len(time), dtype=int)
    score, information, _ = terms(x, time, died, stratum, newton.beta, ties)
    sums = score if newton.score_alone else np.concatenate([score, information[np.triu_indices(len(score))]])
    return np.rint(np.ldexp(sums, newton.frac_bits)) / 2.0**newton.frac_bits
