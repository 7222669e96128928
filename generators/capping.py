"""At most m rows of each patient, chosen at random before anything is counted: several visits, one patient's privacy.

K    a fresh secret key of 256 bits, from the cryptographic source, independent of the table
m    the most rows of a patient that are kept

Each row gets the number BLAKE2b_K(patient, rank of the row among that patient's), and a patient's m smallest are kept.

Sensitivity. Fix K. Which rows of a patient are kept depends on K and on that patient's rows alone. So tables that
differ by one patient's rows become tables that differ by at most m rows, all of that patient: a counted marginal
changes by non-negative counts that sum to at most m, as `oracle` assumes. Whatever is released from the kept rows with
a guarantee for such tables has the same guarantee for each K, and hence on average over K, which the table does not
influence. (Choosing with one stream of random numbers for all rows has no such proof by a fixed key: a new patient's
draws would shift everybody's.)

Keeping m of many rows is a sample of visits, not of patients: those with many visits weigh less than in the table.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from privacy import Rng, SecureRng
from privacy._checks import check_count
from privacy._values import is_missing

Keep = Literal["all", "random"]


def keep_records(frame: pd.DataFrame, patient_id: str, *, most: int, rng: Rng | None = None) -> pd.DataFrame:
    """Return the table with at most `most` rows of each patient, in their order.

    Parameters
    ----------
    frame
        The private table; so is the result.
    patient_id
        Column that names the patient. Rows without a name are all kept: nobody knows whose they are.
    most
        The most rows of a patient, >= 1.
    rng
        Source of the key; the operating system's by default. Anything else protects nobody.

    Examples
    --------
    >>> visits = pd.DataFrame({"pid": ["a"] * 5 + ["b"], "blasts": [9, 8, 7, 6, 5, 1]})
    >>> keep_records(visits, "pid", most=2)["pid"].tolist()
    ['a', 'a', 'b']
    """
    check_count("most", most)
    key = (SecureRng() if rng is None else rng).uint64(4).tobytes()
    names = _names(np.asarray(frame[patient_id].to_numpy()))
    rows: dict[bytes | None, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    kept = np.zeros(len(frame), dtype=bool)
    for name, mine in rows.items():
        if name is not None and len(mine) > most:
            numbers = [_number(key, name, rank) for rank in range(len(mine))]
            chosen = sorted(range(len(mine)), key=numbers.__getitem__)[:most]
            kept[[mine[rank] for rank in chosen]] = True
        else:
            kept[mine] = True
    return frame.loc[kept]


def check_keep(keep: str) -> None:
    """Raise ValueError unless it is "all" or "random"."""
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be 'all' or 'random', got {keep!r}")


def _names(values: npt.NDArray[Any]) -> list[bytes | None]:
    """Return a name for each row, None where it is missing: the same for what pandas groups together, and only then."""
    return [
        None if gone else (f"text {value}" if isinstance(value, str) else f"number {_plain(value)}").encode()
        for value, gone in zip(values.tolist(), is_missing(values).tolist(), strict=True)
    ]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool | float) and float(value).is_integer() else value


def _number(key: bytes, name: bytes, rank: int) -> bytes:
    return hashlib.blake2b(name + b"/" + str(rank).encode(), key=key, digest_size=16).digest()
