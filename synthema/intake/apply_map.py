"""The map on a table in memory: texts in, the schema's columns out, and every problem by column, without a value."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from privacy import Schema, SchemaProblem
from privacy.schema import Column
from synthema.intake.mapping import Age, ColumnMap, FollowUp, SiteMap
from synthema.intake.raw import NumberForm, RawTable, Texts
from synthema.tables import fitted

_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?")


def mapped(table: RawTable, schema: Schema, site_map: SiteMap) -> pd.DataFrame:
    """Return the table as a frame that fits the schema.

    Raises
    ------
    SchemaError
        Every problem of map and table, by the schema's columns; no value is repeated.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> site_map = SiteMap.from_dict({"version": 1, "columns": {"sex": {"from": "G", "recode": {"1": "M", "2": "F"}}}})
    >>> mapped(RawTable("a.csv", {"G": np.array(["2", "1"], dtype=object)}), schema, site_map)["sex"].tolist()
    ['F', 'M']
    """
    problems = [SchemaProblem(*found) for found in site_map.check(schema)]
    problems += _other_columns(table, schema, site_map)
    columns: dict[str, npt.NDArray[Any]] = {}
    for column in schema.columns:
        made = _made(table, column, site_map)
        columns[column.name] = made.values
        problems += made.problems
    return fitted(columns, schema, problems=problems)


def unmapped(table: RawTable, schema: Schema, site_map: SiteMap, *, at_least: int) -> dict[str, list[str]]:
    """Return, for each recoded column, the source codes that the map does not cover and that many rows share.

    PRIVATE: for the eyes of whoever holds the rows. Codes of fewer than `at_least` rows are left out, as they may be
    names or numbers of patients that stand in the wrong column.
    """
    out: dict[str, list[str]] = {}
    for column in schema.columns:
        rule = site_map.rule(column.name)
        [source, *_] = rule.sources(column.name)
        allowed = set(rule.recode or ()) or set(column.categories)
        if rule.derived is not None or source not in table.columns or not allowed or column.kind == "set":
            continue
        texts, counts = np.unique(_present(table.columns[source], rule, site_map).astype(str), return_counts=True)
        found = [
            str(text) for text, n in zip(texts, counts, strict=True) if text and text not in allowed and n >= at_least
        ]
        if found:
            out[column.name] = found
    return out


@dataclass(frozen=True, slots=True)
class _Made:
    """A target's values, and what is wrong with them; then nothing else is said of the column."""

    values: npt.NDArray[Any]
    problems: list[SchemaProblem]


def _made(table: RawTable, column: Column, site_map: SiteMap) -> _Made:
    rule = site_map.rule(column.name)
    sources = rule.sources(column.name)
    n_rows = len(next(iter(table.columns.values()), ()))
    lacking = [source for source in sources if source not in table.columns]
    if lacking:
        told = (
            "is missing from the table"
            if lacking == [column.name]
            else f"its source {lacking[0]!r} is not in the table"
        )
        return _failed(column, n_rows, told, "correct the source's name in the map, or add the column")
    given = [_present(table.columns[source], rule, site_map) for source in sources]
    if rule.derived is not None:
        return _derived(column, rule, given)
    [texts] = given
    if rule.recode is not None:
        codes = set(texts.tolist()) - {""}
        if codes - set(rule.recode):
            return _failed(
                column,
                n_rows,
                "holds codes that the map does not cover",
                "add them to recode; `synthema site check --show-unmapped` lists frequent ones at your terminal",
            )
        texts = _each(texts, rule.recode)
    # A date whose bounds are years is written as the schema's owners agreed; only the map can say how.
    if column.kind == "date" and (rule.date_format is not None or column.is_binned):
        days = _parsed(texts, rule.date_format)
        if days is None:
            form = rule.date_format or "YYYY-MM-DD"
            return _failed(
                column, n_rows, f"holds a text that is no date of the form {form}", "correct date_format or the rows"
            )
        return _Made(_or_none(texts, days), [])
    if not (column.is_numeric and column.is_coded):
        return _Made(np.array([text or None for text in texts.tolist()], dtype=object), [])
    numbers = {text: table.numbers.parse(text) for text in set(texts.tolist()) if text}
    bad = [text for text, number in numbers.items() if number is None]
    if bad:
        return _failed(column, n_rows, f"must hold numbers (kind {column.kind})", table.numbers.way_out(bad))
    # A program that keeps doubles writes the code 999 as 999.0.
    gone = {NumberForm().parse(code) for code in (*site_map.missing, *rule.missing)}
    numbers = {text: np.nan if number in gone else number for text, number in numbers.items()}
    values = np.array([numbers.get(text, np.nan) for text in texts.tolist()], dtype=np.float64)
    if rule.unit is not None:
        factor, offset = rule.unit.line
        values = values * factor + offset
    return _Made(values, [])


def _derived(column: Column, rule: ColumnMap, given: Sequence[Texts]) -> _Made:
    """Return ages, days or deaths from columns of dates, in the order in which the rule names them."""
    n_rows = len(given[0])
    parsed = [
        _parsed(
            texts,
            rule.date_format,
        )
        for texts in given
    ]
    if any(days is None for days in parsed):
        form = rule.date_format or "YYYY-MM-DD"
        return _failed(column, n_rows, f"one of its dates is not of the form {form}", "correct date_format or the rows")
    dates = [
        np.array([days[text] if text else "NaT" for text in texts.tolist()], dtype="datetime64[D]")
        for texts, days in zip(given, parsed, strict=True)
        if days is not None
    ]
    kind = rule.derived
    if isinstance(kind, Age):
        born, at = dates
        if (born > at).any():
            return _failed(column, n_rows, "a patient is born after the date of the age", "correct these dates")
        return _Made(whole_years(born, at), [])
    death, contact = dates[-2:]
    if (contact > death).any():
        return _failed(column, n_rows, "a last contact lies after the death", "correct these dates")
    if isinstance(kind, FollowUp):
        end = np.where(np.isnat(death), contact, death)
        if (dates[0] > end).any():
            return _failed(column, n_rows, "a follow-up ends before it starts", "correct these dates")
        return _Made(_numbers((end - dates[0]).astype("timedelta64[D]")), [])
    died = np.full(n_rows, None, dtype=object)
    died[~np.isnat(contact)] = "0"
    died[~np.isnat(death)] = "1"
    return _Made(died, [])


def whole_years(born: npt.NDArray[Any], at: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return ages in whole years; NaN where a date is missing.

    Examples
    --------
    >>> days = np.array(["2000-02-29", "2000-02-29"], dtype="datetime64[D]")
    >>> whole_years(days, np.array(["2018-02-28", "2018-03-01"], dtype="datetime64[D]")).tolist()
    [17.0, 18.0]
    """
    missing = np.isnat(born) | np.isnat(at)
    years = [_year_and_day(np.where(missing, np.datetime64("1970-01-01"), days)) for days in (born, at)]
    ages = years[1][0] - years[0][0] - (years[1][1] < years[0][1])
    return np.where(missing, np.nan, ages.astype(np.float64))


def _year_and_day(days: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the year, and 100 * month + day."""
    months = days.astype("datetime64[M]")
    month = months.astype(np.int64) % 12 + 1
    day = (days.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    return days.astype("datetime64[Y]").astype(np.int64) + 1970, 100 * month + day


def _numbers(days: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(np.float64))


def _present(texts: Texts, rule: ColumnMap, site_map: SiteMap) -> Texts:
    """Return the texts, "" where a code says that the value is missing."""
    gone = {*site_map.missing, *rule.missing}
    return _each(texts, dict.fromkeys(gone, "")) if gone else texts


def _each(texts: Texts, new: dict[str, str]) -> Texts:
    out = np.empty(len(texts), dtype=object)
    out[:] = [new.get(text, text) for text in texts.tolist()]
    return out


def _parsed(texts: Texts, form: str | None) -> dict[str, str] | None:
    """Return each text's ISO text, or None if one is no date of that form."""
    out = {}
    for text in set(texts.tolist()) - {""}:
        try:
            if form is None:
                if not _ISO_DAY.fullmatch(text):
                    return None
                found = dt.datetime.fromisoformat(text)
            else:
                found = dt.datetime.strptime(text, form)  # noqa: DTZ007 - a clinic's days have no time zone
        except ValueError:
            return None
        midnight = found.time() == dt.time()
        out[text] = found.date().isoformat() if midnight else found.isoformat()
    return out


def _or_none(texts: Texts, new: dict[str, str]) -> npt.NDArray[Any]:
    return np.array([new[text] if text else None for text in texts.tolist()], dtype=object)


def _failed(column: Column, n_rows: int, rule: str, way_out: str) -> _Made:
    return _Made(np.full(n_rows, None, dtype=object), [SchemaProblem(column.name, rule, way_out)])


def _other_columns(table: RawTable, schema: Schema, site_map: SiteMap) -> list[SchemaProblem]:
    if site_map.others == "drop":
        return []
    wanted = set(site_map.wanted(schema))
    way_out = 'map it, describe it in the schema, or set others = "drop" in the map'
    return [SchemaProblem(name, "is not needed by the schema", way_out) for name in table.columns if name not in wanted]
