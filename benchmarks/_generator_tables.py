"""The benchmark tables: codes, schema, and the error of a synthetic table over all k-way marginals."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

DATA = Path(__file__).parent / "data"
TABLES = ("adult", "flchain", "leuksurv")


def load(name):
    """Return the codes, shape (n_rows, n_columns), columns contiguous, and the sizes of the columns by name."""
    sizes = json.loads((DATA / f"{name}_coded.domain.json").read_text())
    frame = pd.read_csv(DATA / f"{name}_coded.csv.gz")[list(sizes)]
    return np.asfortranarray(frame.to_numpy(dtype=np.uint8)), sizes


def schema_of(sizes):
    from generators import Schema

    return Schema.from_dict(
        {"columns": {name: {"categories": [str(i) for i in range(size)]} for name, size in sizes.items()}}
    )


def errors(real, synthetic, sizes):
    """Return L1_1, L1_2, L1_3: the mean over all k-way marginals of the sum of |p_real - p_synthetic|."""
    columns = list(sizes.values())
    tables = [np.ascontiguousarray(table.T).astype(np.int64) for table in (real, synthetic)]
    out = []
    for k in (1, 2, 3):
        distances = []
        for clique in itertools.combinations(range(len(columns)), k):
            shape = [columns[i] for i in clique]
            shares = [
                np.bincount(np.ravel_multi_index([table[i] for i in clique], shape), minlength=int(np.prod(shape)))
                / table.shape[1]
                for table in tables
            ]
            distances.append(np.abs(shares[0] - shares[1]).sum())
        out.append(float(np.mean(distances)))
    return out
