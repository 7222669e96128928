"""A large release as a file: all rows in one uniform random order, without ever holding them in memory.

Each released row goes to a bucket chosen at random; then each bucket is shuffled in memory and appended. Ordering rows
by a random number, of which the bucket is the leading digits, is the same: every order is equally likely.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from anonymise.large.plan import Plan
from privacy.randomness import Rng, SecureRng

_BUCKET_ROWS: Final = 1_000_000


def release_to_csv(
    plan: Plan, source: Any, path: str | Path, *, bucket_rows: int = _BUCKET_ROWS, rng: Rng | None = None
) -> None:
    """Write the release of a table to a CSV file that appears when it is complete and checked, or not at all.

    bucket_rows   about so many rows are held in memory at a time

    Raises what `Plan.release` raises, and FileExistsError if the file exists. Parts of the release, never raw rows,
    are kept in a private folder beside the file meanwhile.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path.name} exists; remove it, or write to another file")
    rng = SecureRng() if rng is None else rng
    n_buckets = max(1, -(-plan.n_rows // bucket_rows))
    with tempfile.TemporaryDirectory(prefix=".release-", dir=path.parent) as folder:
        buckets = [Path(folder) / f"{at}.csv" for at in range(n_buckets)]
        for part in plan.release(source, rng=rng):
            bucket = rng.below(n_buckets, len(part))
            for at in np.unique(bucket).tolist():
                part[bucket == at].to_csv(buckets[at], mode="a", header=False, index=False)
        whole = Path(folder) / "whole.csv"
        pd.DataFrame(columns=list(plan.columns)).to_csv(whole, index=False)
        for bucket_file in buckets:
            if bucket_file.exists():
                # As text: numbers are written as they came, and an empty cell stays one.
                rows = pd.read_csv(bucket_file, header=None, dtype=str, keep_default_na=False)
                rows.iloc[rng.permutation(len(rows))].to_csv(whole, mode="a", header=False, index=False)
                bucket_file.unlink()
        with whole.open("rb+") as written:
            os.fsync(written.fileno())
        whole.replace(path)
