"""Made-up clinics for private regressions: known truths, and fits with continuous noise as the benchmark makes them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from privacy import epsilon_to_rho
from synthema.learning.design import Design
from synthema.learning.private_parts import vectors
from synthema.learning.private_questions import Shape
from synthema.learning.private_residuals import Kind
from synthema.learning.private_rounds import ROUND_SHARES, PrivateNewton
from synthema.learning.responses import Patients, Response

Floats = npt.NDArray[np.float64]

# Variance that three parties add, of which one may collude, over what is paid for.
JOINT = 1.5

SCHEMA = {
    "columns": {
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [20, 40, 60, 80]},
        "marker": {"kind": "continuous", "bounds": [0, 50], "edges": [5, 10, 20], "decimals": 2},
        "sex": {"categories": ["F", "M"]},
        "relapse": {"categories": ["no", "yes"]},
        "platelets": {"kind": "integer", "bounds": [0, 500], "edges": [50, 100, 200, 300]},
        "transfusions": {"kind": "integer", "bounds": [0, 60], "edges": [2, 5, 10, 20]},
        "months": {"kind": "continuous", "bounds": [1, 24], "edges": [6, 12], "decimals": 1},
    }
}


def clinics(n: int, sites: tuple[str, ...], *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Each clinic's rows: `n` patients in all, whose outcomes follow the three models."""
    random = np.random.default_rng(seed)
    age = np.clip(np.rint(random.normal(58, 15, n)), 0, 100)
    marker = np.clip(np.round(random.exponential(8, n), 2), 0, 50)
    male = random.random(n) < 0.45
    months = np.round(random.uniform(1, 24, n), 1)
    odds = -2.6 + 0.03 * age + 0.05 * marker + 0.3 * male
    rate = np.exp(-2.2 + 0.01 * age + 0.02 * marker - 0.2 * male) * months
    table = pd.DataFrame(
        {
            "age": age.astype(np.int64),
            "marker": marker,
            "sex": np.where(male, "M", "F"),
            "relapse": np.where(random.random(n) < 1 / (1 + np.exp(-odds)), "yes", "no"),
            "platelets": np.clip(
                np.rint(180 - 0.8 * age - 2 * marker + 10 * male + random.normal(0, 30, n)), 0, 500
            ).astype(np.int64),
            "transfusions": np.minimum(random.poisson(rate), 60).astype(np.int64),
            "months": months,
        }
    )
    where = random.integers(0, len(sites), n)
    return {site: table[where == i].reset_index(drop=True) for i, site in enumerate(sites)}


def made_up(kind: Kind, n: int, random: np.random.Generator) -> tuple[Shape, Patients, Floats]:
    """Return (shape, patients, coefficients): on the scale of the bounds."""
    x = np.ones((n, 5))
    x[:, 1] = np.clip(random.normal(0.1, 0.3, n), -1, 1)
    x[:, 2] = np.clip(-0.85 + random.exponential(0.2, n), -1, 1)
    x[:, 3] = random.random(n) < 0.5
    x[:, 4] = random.random(n) < 0.15
    design = Design((("age", ""), ("lab", ""), ("sex", "M"), ("group", "B")), (0.0,) * 5, (1.0,) * 5)
    match kind:
        case "logistic":
            beta = np.array([-0.2, 1.2, 0.8, 0.4, -0.6])
            y = (random.random(n) < 1 / (1 + np.exp(-x @ beta))).astype(np.float64)
            response = Response()
        case "poisson":
            beta = np.array([0.6, 0.8, 0.4, 0.3, -0.4])
            y = np.minimum(random.poisson(np.exp(x @ beta)), 40).astype(np.float64)
            response = Response(high=40.0)
        case "linear":
            beta = np.array([0.1, 0.3, 0.15, 0.08, -0.12])
            y = np.clip(x @ beta + random.normal(0, 0.15, n), -1, 1)
            response = Response(low=-1.0, high=1.0)
    return Shape(kind, design, response), Patients(x, y, None), beta


def stds_of(epsilon: float, factor: float = JOINT) -> tuple[float, ...]:
    """Standard deviation of the noise of each round, in units of the longest part of a patient."""
    rho = epsilon_to_rho(epsilon, 1e-6)
    return tuple(math.sqrt(factor / (2 * rho * share)) for share in ROUND_SHARES)


def fitted(
    shape: Shape,
    patients: Patients,
    stds: tuple[float, ...],
    random: np.random.Generator | None,
    *,
    more: float = 1.0,
) -> PrivateNewton:
    """All rounds with continuous noise, `more` times what the fit is told; without any if `random` is None."""
    newton = PrivateNewton(shape, stds)
    while not newton.done:
        total = vectors(shape, newton.question, patients).sum(axis=0)
        noise = np.zeros(len(total)) if random is None else random.normal(0, more * stds[newton.index], len(total))
        newton.update(total + noise)
    return newton
