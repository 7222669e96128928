"""Anonymise a small registry whose columns need more than intervals: ages, codes of a classification, sets, stages.

The schema is public; the patients are made up.

Run: python examples/anonymise_hierarchies.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from anonymise import KAnonymity, Schema, anonymise, build_hierarchy

SCHEMA = """
version = 1
[columns.born]                       # released as the age at diagnosis, from 80 on as "80+"
role = "quasi-identifier"
kind = "date"
hierarchy = { age = [10, 40], at = "diagnosed", top = 80 }

[columns.diagnosed]
role = "quasi-identifier"
kind = "date"
bounds = ["2010-01-01", "2019-12-31"]
hierarchy = { date = ["month", "quarter", "year"], keep_levels = [2, 4] }    # never finer than a quarter

[columns.diagnosis]
role = "quasi-identifier"
categories = ["C91.0", "C92.0", "C92.4", "D46.2", "D46.6"]
hierarchy = { tree = "icd10_haematology" }

[columns.other]                      # other diagnoses, up to two in a cell
role = "quasi-identifier"
kind = "set"
categories = ["D57.0", "D61.9", "D69.3"]
max_members = 2
hierarchy = { tree = "icd10_haematology" }
nullable = true
missing = "own_value"

[columns.stage]
role = "quasi-identifier"
kind = "ordinal"
categories = ["I", "II", "III", "IV"]
hierarchy = { order = [[["early", 2], ["late", 2]]] }

[columns.notes]                      # free text is dropped
role = "identifier"
kind = "text"
"""


def patients(n: int = 200) -> pd.DataFrame:
    """Return patients who do not exist."""
    rng = np.random.default_rng(7)
    day = np.datetime64("2010-01-01") + rng.integers(0, 3652, n)
    return pd.DataFrame(
        {
            "born": (day - rng.integers(18 * 366, 90 * 365, n)).astype(str),
            "diagnosed": day.astype(str),
            "diagnosis": rng.choice(["C91.0", "C92.0", "C92.4", "D46.2", "D46.6"], n),
            "other": rng.choice([None, "D57.0", "D61.9;D69.3", "D69.3"], n, p=[0.7, 0.1, 0.1, 0.1]),
            "stage": rng.choice(["I", "II", "III", "IV"], n),
            "notes": [f"note {i}" for i in range(n)],
        }
    )


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "schema.toml"
    path.write_text(SCHEMA, encoding="utf-8")
    schema = Schema.load(path)

for name in schema.quasi_identifiers:
    levels = build_hierarchy(schema.column(name)).labels
    print(f"{name:<10}", " | ".join(f"{len(labels)}: {labels[0]}" for labels in levels))

result = anonymise(patients(), schema, models=[KAnonymity(5)], suppression_limit=0.05)
print("levels    ", dict(result.node))
print(result.table.drop_duplicates().sort_values(list(result.table.columns)).head(8).to_string(index=False))
