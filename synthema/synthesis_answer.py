"""What a joint synthesis gives, as plain data: what was opened, the table that was made of it, and what it cost.

    {"format": "synthema-synthesis-v1", "mechanism": "mst",
     "measurements": [{"columns", "shape", "values", "noise_std", "groups"}, ...]   in the order of opening
     "edges": [["age", "sex"], ...], "cliques": [["age", "sex"], ...]   pairs, and largest sets, of the model
     "table": [{"name", "type", "values"}, ...]   the synthetic patients, by column
     "cost": {"rho", "delta", "choices", "marginals"}}   of what was opened, rounded up

It is what the sites store as the step's answer, so it holds nothing that is not released. Types of a column: "text",
"integer", "number", "time" (seconds since 1970, UTC); a missing value is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from generators import Measurement
from privacy import Event, SchemaError
from privacy.ledger.answers import decode_answer
from synthema.errors import QuestionRefused
from synthema.joint_noise import rho_and_delta
from synthema.steps import mechanism_of
from synthema.study import Study

FORMAT = "synthema-synthesis-v1"

_FIELDS = {"format", "mechanism", "measurements", "edges", "cliques", "table", "cost"}


def make_answer(
    study: Study,
    measured: Sequence[Measurement],
    *,
    edges: Sequence[Sequence[str]],
    cliques: Sequence[Sequence[str]],
    table: pd.DataFrame,
    n_choices: int,
    spent: Sequence[Event],
) -> dict[str, Any]:
    """Return the answer of a synthesis."""
    return {
        "format": FORMAT,
        "mechanism": mechanism_of(study),
        "measurements": [_plain_measurement(item) for item in measured],
        "edges": [list(edge) for edge in edges],
        "cliques": [list(clique) for clique in cliques],
        "table": [_plain_column(name, table[name]) for name in table.columns],
        "cost": _cost(measured, n_choices, spent),
    }


def read_answer(data: bytes) -> dict[str, Any]:
    """Return the answer that was sent as bytes. Raises QuestionRefused unless it has the fields of one."""
    try:
        answer = decode_answer(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or set(answer) != _FIELDS or answer["format"] != FORMAT:
        raise QuestionRefused("the lead's answer is none")
    return answer


def check_answer(
    answer: Mapping[str, Any],
    study: Study,
    measured: Sequence[Measurement],
    *,
    n_choices: int,
    spent: Sequence[Event],
) -> None:
    """Check an answer against what this party saw and the study asks.

    Raises
    ------
    QuestionRefused
        If it says something else.
    """
    if answer["mechanism"] != mechanism_of(study):
        raise QuestionRefused("the lead's answer names another mechanism than the study")
    if answer["measurements"] != [_plain_measurement(item) for item in measured]:
        raise QuestionRefused("the lead's answer holds measurements that were not opened so")
    if answer["cost"] != _cost(measured, n_choices, spent):
        raise QuestionRefused("the lead's answer states another cost than what was opened has")
    known = {column.name for column in study.modelled_columns}
    for field in ("edges", "cliques"):
        named = answer[field]
        if not isinstance(named, list) or not all(
            isinstance(part, list) and all(isinstance(name, str) and name in known for name in part) for part in named
        ):
            raise QuestionRefused("the lead's answer names other columns than the study's")
    try:
        table = answer_table(answer)
        if list(table.columns) != list(study.synthesis_columns) or study.synthesis is None:
            raise QuestionRefused("the lead's table has other columns than the study's")
        if len(table) != study.synthesis.rows:
            raise QuestionRefused("the lead's table has another number of rows than the study's")
        study.data_schema.subset(study.synthesis_columns).validate(table)
    except (SchemaError, KeyError, TypeError, ValueError, OverflowError):
        raise QuestionRefused("the lead's table does not fit the study's schema") from None


def answer_measurements(answer: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """Return what was opened, in order."""
    out = []
    for item in answer["measurements"]:
        groups = {name: np.array(group, dtype=np.int64) for name, group in item["groups"].items()}
        out.append(
            Measurement(
                columns=tuple(item["columns"]),
                values=np.array(item["values"], dtype=np.int64).reshape(item["shape"]),
                noise_std=float(item["noise_std"]),
                groups=tuple(groups.get(name) for name in item["columns"]) if groups else (),
            )
        )
    return tuple(out)


def answer_table(answer: Mapping[str, Any]) -> pd.DataFrame:
    """Return the synthetic patients."""
    return pd.DataFrame({column["name"]: _series(column["type"], column["values"]) for column in answer["table"]})


def _plain_measurement(item: Measurement) -> dict[str, Any]:
    groups = zip(item.columns, item.groups, strict=False)
    return {
        "columns": list(item.columns),
        "shape": list(item.values.shape),
        "values": item.values.ravel().tolist(),
        "noise_std": item.noise_std,
        "groups": {name: group.tolist() for name, group in groups if group is not None},
    }


def _cost(measured: Sequence[Measurement], n_choices: int, spent: Sequence[Event]) -> dict[str, Any]:
    prices = [rho_and_delta(event) for event in spent]
    return {
        "rho": math.fsum(rho for rho, _ in prices),
        "delta": math.fsum(delta for _, delta in prices),
        "choices": n_choices,
        "marginals": len(measured),
    }


def _plain_column(name: str, values: pd.Series) -> dict[str, Any]:
    array = values.to_numpy()
    match array.dtype.kind:
        case "i" | "u":
            return {"name": name, "type": "integer", "values": array.tolist()}
        case "f":
            return {
                "name": name,
                "type": "number",
                "values": [None if math.isnan(value) else value for value in array.tolist()],
            }
        case "M":
            seconds = array.astype("datetime64[s]")
            missing = np.isnat(seconds).tolist()
            whole = seconds.astype(np.int64).tolist()
            plain = [None if gone else value for gone, value in zip(missing, whole, strict=True)]
            return {"name": name, "type": "time", "values": plain}
        case _:
            texts = values.astype(object)
            return {"name": name, "type": "text", "values": [None if pd.isna(value) else str(value) for value in texts]}


def _series(kind: str, values: list[Any]) -> pd.Series:
    match kind:
        case "integer":
            if not all(type(value) is int for value in values):
                raise ValueError("a value of a column of whole numbers is none")
            return pd.Series(values, dtype=np.int64)
        case "number":
            return pd.Series([math.nan if value is None else float(value) for value in values], dtype=np.float64)
        case "time":
            seconds = np.array(["NaT" if value is None else int(value) for value in values], dtype="datetime64[s]")
            return pd.Series(seconds)
        case "text":
            if not all(value is None or isinstance(value, str) for value in values):
                raise ValueError("a value of a column of texts is none")
            return pd.Series(values, dtype=object)
        case _:
            raise ValueError("a column has an unknown type")
