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
from collections import Counter
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.errors import TooManyRecords
from privacy import Rng, SchemaError, SchemaProblem, SecureRng
from privacy._checks import check_count
from privacy._values import is_missing, text_of

Keep = Literal["all", "random"]

# From here on two whole numbers may be the same double, and one number two texts.
_INEXACT = 2.0**53


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
    names = patient_names(np.asarray(frame[patient_id].to_numpy()), patient_id)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    kept = np.zeros(len(frame), dtype=bool)
    for name, mine in rows.items():
        if name and len(mine) > most:
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


def check_records(frame: pd.DataFrame, patient_id: str, most: int) -> None:
    """Raise TooManyRecords if a patient has more than `most` rows; rows without a name are taken for one patient's."""
    values = np.asarray(frame[patient_id].to_numpy())
    # Whole numbers of one type are their own names.
    names = values.tolist() if values.dtype.kind in "iu" else patient_names(values, patient_id)
    if max(Counter(names).values(), default=0) > most:
        raise TooManyRecords.of(most)


def patient_names(values: npt.NDArray[Any], patient_id: str) -> list[str]:
    """Return the name of each row's patient, empty where it is missing.

    7, 7.0 and "7" are one name, as are texts that differ in outer blanks: who is taken for two patients is protected as
    either, but not as both. Raises SchemaError if names are doubles too large to tell patients apart.
    """
    missing = is_missing(values)
    present = values[~missing]
    doubles = (
        present
        if present.dtype.kind == "f"
        else [each for each in present.tolist() if isinstance(each, float | np.floating)]
    )
    if len(doubles) and float(np.abs(np.asarray(doubles, dtype=np.float64)).max()) >= _INEXACT:
        raise SchemaError(
            [
                SchemaProblem(
                    patient_id,
                    "holds doubles of 2^53 or more, which do not tell patients apart",
                    "read it as text, or as whole numbers without missing ones",
                )
            ]
        )
    texts = iter(text_of(present))
    return ["" if gone else next(texts) for gone in missing.ravel().tolist()]


def _number(key: bytes, name: str, rank: int) -> bytes:
    return hashlib.blake2b(f"{name}/{rank}".encode("utf-8", "surrogatepass"), key=key, digest_size=16).digest()
