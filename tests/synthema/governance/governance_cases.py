"""A small registry with survival, studies of it, and sites that hold tables of it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from privacy.ledger import open_ledger
from synthema.policy import SitePolicy
from synthema.signing import Signer
from synthema.site import Site
from synthema.study import Study

SITES = ("vienna", "madrid", "milan")
EVERYBODY = frozenset({*SITES, "paris", "graz"})
ANNA, BELA = Signer(), Signer()
NOW = datetime(2031, 3, 5, 10, 0, tzinfo=UTC)  # a Wednesday, after any entry that these tests write

SCHEMA: dict[str, Any] = {
    "table": {"name": "registry", "patient_id": "id"},
    "columns": {
        "id": {"role": "identifier"},
        "age": {
            "role": "quasi-identifier",
            "kind": "integer",
            "bounds": [0, 99],
            "edges": [50],
            "hierarchy": {"interval": [25, 50]},
        },
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        "time": {"role": "sensitive", "kind": "integer", "bounds": [0, 720], "edges": [181, 361]},
        "event": {"role": "sensitive", "categories": ["0", "1"]},
    },
    "survival": {"time": "time", "event": "event"},
}
CURVES = {"kaplan_meier": {"group": "sex", "grid_days": 180}}
MODEL = {"logistic": {"horizon_days": 180, "covariates": ["age", "sex"]}}
BASE = SitePolicy(epsilon_cap=5.0, delta_cap=1e-6, partners=EVERYBODY, min_patients=20, min_k=3)


def study(*, sites: tuple[str, ...] = SITES, epsilon: float = 0.5, **sections: Any) -> Study:
    """Return a study: marginals alone, unless sections are given; `study={...}` changes its head."""
    data: dict[str, Any] = {
        "study": {"name": "pilot", "purpose": "survival after remission", "schema": SCHEMA},
        "budget": {"epsilon": epsilon, "delta": 1e-6},
        "sites": {name: {} for name in sites},
        "synthesis": {"rows": 50},
    }
    data["study"] |= sections.pop("study", {})
    full = data | sections
    return Study.from_dict({key: value for key, value in full.items() if value is not None} | _without(full))


def _without(data: dict[str, Any]) -> dict[str, Any]:
    # A study has a synthesis unless it says that it has none.
    return {"synthesis": None} if data["synthesis"] is None else {}


def frame(site: str, n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Return a table of one site."""
    rng = np.random.default_rng([seed, *site.encode()])
    return pd.DataFrame(
        {
            "id": [f"{site}-{i}" for i in range(n)],
            "age": rng.integers(20, 90, n),
            "sex": rng.choice(["F", "M"], n),
            "time": rng.integers(1, 700, n),
            "event": rng.choice(["0", "1"], n),
        }
    )


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def site(
    folder: Path,
    name: str = "vienna",
    *,
    table: pd.DataFrame | None = None,
    policy: SitePolicy = BASE,
    clock: Any = None,
    **changes: Any,
) -> Site:
    """Return a site with a ledger of its own in the folder."""
    asked = study()
    ledger = open_ledger(f"sqlite:///{folder}/{name}.db", site=name)
    return Site(
        name,
        frame(name) if table is None else table,
        asked.data_schema,
        ledger=ledger,
        policy=dataclasses.replace(policy, **changes),
        secret=b"s" * 32,
        clock=clock,
    )
