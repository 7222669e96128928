"""A small clinic for the tests of `synthema.intake`: the common schema, the clinic's own columns, and its map."""

import datetime as dt

import numpy as np
import pandas as pd

from privacy import Schema
from synthema.intake import SiteMap

SCHEMA = Schema.from_dict(
    {
        "table": {"name": "aml", "patient_id": "id"},
        "columns": {
            "id": {"role": "identifier"},
            "sex": {"categories": ["F", "M"]},
            "age": {"kind": "integer", "bounds": [0, 110], "edges": [40, 60], "nullable": True},
            "hb": {"kind": "continuous", "bounds": [0, 250], "edges": [80, 100.5, 120], "nullable": True},
            "os_days": {"kind": "integer", "bounds": [0, 5000], "edges": [181, 365, 730]},
            "os_status": {"categories": ["0", "1"]},
        },
        "survival": {"time": "os_days", "event": "os_status"},
    }
)
MAP = {
    "version": 1,
    "missing": ["-9", "NA"],
    "others": "drop",
    "columns": {
        "id": {"from": "PATNR"},
        "sex": {"from": "GESCHLECHT", "recode": {"1": "M", "2": "F"}},
        "age": {"age": {"born": "GEBURT", "at": "DIAGNOSE"}},
        "hb": {"from": "HB", "unit": {"from": "g/dL", "to": "g/L"}, "missing": ["999"]},
        "os_days": {"days": {"start": "DIAGNOSE", "death": "TOD", "last_contact": "KONTAKT"}},
        "os_status": {"died": {"death": "TOD", "last_contact": "KONTAKT"}},
    },
}


def site_map(**columns):
    """The clinic's map, some rules changed."""
    return SiteMap.from_dict({**MAP, "columns": {**MAP["columns"], **columns}})


def patients(n=200, seed=1):
    """Rows as the clinic has them: lists of typed values by column, None where missing; one column is nobody's."""
    rng = np.random.default_rng(seed)
    born = [dt.date(1930, 1, 1) + dt.timedelta(int(days)) for days in rng.integers(0, 25_000, n)]
    diagnosed = [dt.date(2010, 1, 1) + dt.timedelta(int(days)) for days in rng.integers(0, 3000, n)]
    followed = rng.integers(0, 2000, n)
    died = rng.random(n) < 0.4
    ends = [day + dt.timedelta(int(days)) for day, days in zip(diagnosed, followed, strict=True)]
    hb = [None if rng.random() < 0.1 else round(float(value), 1) for value in rng.uniform(4, 18, n)]
    hb = [-9.0 if i % 17 == 0 else 999.0 if i % 23 == 0 else value for i, value in enumerate(hb)]
    return {
        "PATNR": [f"P{i:05}" for i in range(n)],
        "GESCHLECHT": [int(code) for code in rng.integers(1, 3, n)],
        "GEBURT": [None if i % 31 == 0 else day for i, day in enumerate(born)],
        "DIAGNOSE": diagnosed,
        "HB": hb,
        "TOD": [end if dead else None for end, dead in zip(ends, died, strict=True)],
        "KONTAKT": [None if dead and i % 2 else end for i, (end, dead) in enumerate(zip(ends, died, strict=True))],
        "BEMERKUNG": ['frei; mit "Text"' if i % 5 == 0 else None for i in range(n)],
    }


def expected(rows):
    """What the common schema's columns hold, row by row, in plain Python."""
    out = {name: [] for name in SCHEMA.names}
    for i in range(len(rows["PATNR"])):
        row = {name: values[i] for name, values in rows.items()}
        born, at, end = row["GEBURT"], row["DIAGNOSE"], row["TOD"] or row["KONTAKT"]
        out["id"].append(row["PATNR"])
        out["sex"].append({1: "M", 2: "F"}[row["GESCHLECHT"]])
        out["age"].append(born and at.year - born.year - ((at.month, at.day) < (born.month, born.day)))
        out["hb"].append(None if row["HB"] in (None, -9.0, 999.0) else row["HB"] * 10)
        out["os_days"].append((end - at).days)
        out["os_status"].append("1" if row["TOD"] else "0")
    return out


def same(frame, wanted):
    """Whether a frame has these values; numbers exactly, missing for None."""
    for name, values in wanted.items():
        for got, value in zip(frame[name].tolist(), values, strict=True):
            assert pd.isna(got) if value is None else got == value, name
    return True
