"""A joint synthetic table whose schema has dates, groups, patterns, orders and a horizon: sites and hub code alike."""

import numpy as np
import pandas as pd

from generators import Domain
from synthema.pipeline import simulate
from synthema.study import Study

COLUMNS = {
    "diagnosis": {"kind": "date", "bounds": ["2000-01-01", "2009-12-31"], "step": "year", "dtype": "text"},
    "transplant": {"kind": "date", "bounds": ["2000-01-01", "2012-12-31"], "step": "year", "nullable": True},
    "icd": {"categories": ["C91.0", "C92.0", "C92.1"], "hierarchy": {"prefix": [3]}, "model_level": 1},
    "wbc": {"kind": "continuous", "bounds": [0, 500], "edges": [50], "nullable": True},
    "ldh": {"kind": "continuous", "bounds": [0, 500], "edges": [250], "nullable": True},
    "time": {"kind": "integer", "bounds": [0, 6000], "edges": [365, 3650]},
    "event": {"categories": ["0", "1"]},
}


def table(seed):
    rng = np.random.default_rng(seed)
    n = 400
    diagnosis = np.datetime64("2000-01-01") + rng.integers(0, 3600, n)
    missing = rng.random(n) < 0.5
    return pd.DataFrame(
        {
            "diagnosis": diagnosis.astype(str),
            "transplant": (diagnosis + rng.integers(10, 900, n)).astype(str),
            "icd": rng.choice(["C91.0", "C92.0", "C92.1"], n),
            "wbc": np.where(missing, np.nan, rng.uniform(0, 100, n)),
            "ldh": np.where(missing, np.nan, rng.uniform(0, 500, n)),
            "time": rng.integers(1, 6000, n),
            "event": rng.choice(["0", "1"], n),
        }
    )


def test_a_joint_table_keeps_the_clinical_schema():
    sites = ("vienna", "madrid", "milan")
    study = Study.from_dict(
        {
            "study": {
                "name": "registry",
                "purpose": "a test of clinical columns",
                "schema": {
                    "columns": COLUMNS,
                    "survival": {"time": "time", "event": "event", "horizon": 3650},
                    "missing": {"patterns": [["wbc", "ldh"]]},
                    "rules": [{"order": ["diagnosis", "transplant"]}],
                },
            },
            "budget": {"epsilon": 8.0, "delta": 1e-6},
            "sites": {name: {"policy": {"epsilon_cap": 9.0, "delta_cap": 1e-6, "min_patients": 20}} for name in sites},
            "synthesis": {"rows": 600},
        }
    )
    outcome = simulate(study, {name: table(seed) for seed, name in enumerate(sites)})
    schema = study.data_schema
    schema.validate(outcome.table)
    assert Domain.from_schema(schema).columns[-1] == "missing(wbc,ldh)"
    assert outcome.table["time"].max() == 3650
    assert (outcome.table["wbc"].isna() == outcome.table["ldh"].isna()).mean() > 0.95
