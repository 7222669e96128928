"""Patients for tests of regressions, and the fits of all rows that an answer is compared with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from clinics import job

from synthema.learning.design import Design
from synthema.learning.families import FAMILIES
from synthema.learning.glm_sums import site_sums
from synthema.learning.newton import Newton
from synthema.learning.responses import Patients, Response
from synthema.study import Study

FLAGS = ("fin", "race", "wexp", "mar", "paro")
COVARIATES = ("fin", "age", "race", "wexp", "mar", "paro", "prio")
# Flags as numbers: as categories, their table with the outcome has cells of fewer than five men.
COLUMNS: dict[str, Any] = {
    "week": {"kind": "integer", "bounds": [1, 52]},
    "arrest": {"categories": ["0", "1"]},
    **{name: {"kind": "continuous", "bounds": [0, 1]} for name in FLAGS},
    "age": {"kind": "integer", "bounds": [15, 60]},
    "prio": {"kind": "integer", "bounds": [0, 25]},
}


def rossi() -> pd.DataFrame:
    """432 men after their release (Rossi, Berk and Lenihan 1980), as lifelines packages them."""
    found = importlib.util.find_spec("lifelines")
    assert found is not None
    assert found.origin is not None
    table = pd.read_csv(Path(found.origin).parent / "datasets" / "rossi.csv")
    return table[list(COLUMNS)].assign(arrest=table["arrest"].astype(str))


def three_sites(**changes: Any) -> tuple[dict[str, pd.DataFrame], Study]:
    """The men at three places of 267, 124 and 41, and a job about them."""
    table = rossi()
    cuts = {"north": table.iloc[:267], "south": table.iloc[267:391], "west": table.iloc[391:]}
    frames = {site: rows.reset_index(drop=True) for site, rows in cuts.items()}
    return frames, job({"columns": COLUMNS}, tuple(frames), **changes)


def plain_newton(kind: str, x: npt.NDArray[Any], y: npt.NDArray[Any], **fields: Any) -> Newton:
    """Newton's method at its start for covariates that are in [-1, 1] already."""
    p = x.shape[1]
    design = Design(tuple((f"x{j}", "") for j in range(1, p)), (0.0,) * p, (1.0,) * p)
    log_rate = float(np.log(y.mean())) if kind == "poisson" else None
    terms = {"n_sites": 3, "most_rows": 1 << 20} | fields
    return Newton(FAMILIES[kind], design, Response(high=100.0), log_rate=log_rate, **terms)


def sums_at(newton: Newton, x: npt.NDArray[Any], y: npt.NDArray[Any], *, rounded: bool) -> npt.NDArray[np.float64]:
    """What is opened next, of all rows: with the rounding of one site, or without any."""
    patients = Patients(x, y.astype(float), None)
    sums = site_sums(newton.family, patients, newton.beta, score_alone=newton.score_alone)
    return newton.encoding.decode(newton.encoding.encode(sums).reshape(3, -1)[0]) if rounded else sums.values


def irls(kind: str, x: npt.NDArray[Any], y: npt.NDArray[Any], offset: Any = 0.0) -> tuple[Any, Any]:
    """Coefficients and standard errors by iteratively reweighted least squares, written without the code under test."""
    beta = np.zeros(x.shape[1])
    if kind == "poisson":
        beta[0] = np.log(y.sum() / np.exp(offset + np.zeros(len(y))).sum())
    for _ in range(60):
        eta = x @ beta + offset
        mean = 1 / (1 + np.exp(-eta)) if kind == "logistic" else np.exp(eta)
        weight = mean * (1 - mean) if kind == "logistic" else mean
        root = np.sqrt(weight)
        working = eta - offset + (y - mean) / weight
        beta, *_ = np.linalg.lstsq(root[:, None] * x, root * working, rcond=None)
    return beta, np.sqrt(np.diag(np.linalg.inv((x * weight[:, None]).T @ x)))
