from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from privacy import Schema

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def leuk_frame() -> pd.DataFrame:
    return pd.read_csv(DATA / "leuksurv_coded.csv")


@pytest.fixture(scope="session")
def leuk_schema() -> Schema:
    sizes = json.loads((DATA / "leuksurv_coded.domain.json").read_text())
    return Schema.from_dict(
        {"columns": {name: {"categories": [str(i) for i in range(size)]} for name, size in sizes.items()}}
    )


@pytest.fixture(scope="session")
def clinic_schema() -> Schema:
    """A schema with every kind of column: identifier, text, categories, numbers, missing values, survival, rules."""
    return Schema.from_dict(
        {
            "table": {"name": "clinic", "patient_id": "pid"},
            "columns": {
                "pid": {"role": "identifier"},
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
                "pregnant": {"categories": ["no", "yes"], "nullable": True},
                "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 110], "edges": [20, 40, 60, 80]},
                "wbc": {
                    "kind": "continuous",
                    "bounds": [0.0, 500.0],
                    "edges": [1, 4.5, 10, 50],
                    "decimals": 1,
                    "nullable": True,
                },
                "blasts": {"kind": "continuous", "bounds": [0.0, 1.0], "edges": [0.05, 0.2]},
                "visits": {"kind": "integer", "bounds": [0, 9], "edges": [3], "nullable": True},
                "time": {"role": "sensitive", "kind": "integer", "bounds": [1, 5000], "edges": [90, 365, 1000]},
                "event": {"role": "sensitive", "categories": ["0", "1"]},
            },
            "survival": {"time": "time", "event": "event"},
            "rules": [{"forbid": {"sex": "M", "pregnant": "yes"}}],
        }
    )


@pytest.fixture
def clinic_frame(clinic_patients: pd.DataFrame) -> pd.DataFrame:
    """Those patients, for a test that may change them."""
    return clinic_patients.copy()


@pytest.fixture(scope="session")
def clinic_patients(clinic_schema: Schema) -> pd.DataFrame:
    """Made-up patients that fit the schema, event depending on age and time on event."""
    import numpy as np

    rng = np.random.default_rng(20261)
    n = 2000
    sex = rng.choice(["F", "M"], n)
    age = rng.integers(0, 111, n)
    event = (rng.random(n) < age / 120).astype(int)
    pregnant = np.where((sex == "F") & (rng.random(n) < 0.3), "yes", "no").astype(object)
    pregnant[rng.random(n) < 0.1] = None
    wbc = np.round(rng.gamma(1.5, 20, n).clip(0, 500), 1)
    wbc[rng.random(n) < 0.05] = np.nan
    visits = rng.integers(0, 10, n).astype(float)
    visits[rng.random(n) < 0.2] = np.nan
    frame = pd.DataFrame(
        {
            "pid": [f"p{i}" for i in range(n)],
            "sex": sex,
            "pregnant": pregnant,
            "age": age,
            "wbc": wbc,
            "blasts": rng.random(n),
            "visits": visits,
            "time": np.where(event == 1, rng.integers(1, 900, n), rng.integers(300, 5001, n)),
            "event": event.astype(str),
        }
    )
    clinic_schema.validate(frame)
    return frame
