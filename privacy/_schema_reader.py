"""Reading a schema from parsed TOML: every problem is collected and reported at once."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np

from privacy._columns import MISSING, Column, DateType, Kind, MissingChoice, Role
from privacy._dates import STEPS, UNITS, Resolution, calendar_edges, one_unit
from privacy._hierarchy_reader import HierarchyReader
from privacy._hierarchy_spec import HierarchySpec
from privacy._rules_reader import RulesReader
from privacy.errors import SchemaError, SchemaProblem
from privacy.schema import VERSION, Schema, Survival, pattern_name

_COLUMN_KEYS = {
    *("role", "kind", "categories", "bounds", "edges", "bins", "nullable", "hierarchy", "decimals"),
    *("step", "resolution", "dtype", "model_level", "refined", "weights"),
    *("missing", "separator", "max_members", "allow_text"),
}
_TABLE_KEYS = {"version", "table", "columns", "survival", "missing", "rules"}
_SURVIVAL_KEYS = {"time", "event", "competing", "horizon", "strata"}

# A schema may come from a file of somebody else's; these bound what its few characters can ask for.
_MOST_BINS = 1 << 20
_MOST_DECIMALS = 15
_MOST_MEMBERS = 16

# A pattern of k columns has 2^k codes.
_LARGEST_PATTERN = 8


class SchemaReader:
    """Turns parsed TOML into a schema and collects every problem on the way."""

    def __init__(self, *, folder: Path | None) -> None:
        self.folder = folder
        self.found: list[SchemaProblem] = []

    def schema(self, data: Mapping[str, Any]) -> Schema:
        for key in sorted(set(data) - _TABLE_KEYS):
            self.bad("-", f"unknown section [{key}]", f"known sections: {', '.join(sorted(_TABLE_KEYS))}")
        version = data.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            rule = f"has version {version!r}, this package reads version {VERSION}"
            raise SchemaError([SchemaProblem("-", rule, "use the package that wrote it, or a newer one")])
        table = data.get("table", {})
        raw = data.get("columns", {})
        if not isinstance(table, Mapping) or not isinstance(raw, Mapping) or not raw:
            self.bad("-", "a schema needs [table] and at least one [columns.NAME]", "see the README for an example")
            raise SchemaError(self.found)
        columns = tuple(
            self.column(str(name), body)
            for name, body in raw.items()
            if isinstance(body, Mapping) or self.bad(str(name), "must be a section [columns.NAME]", "write it as one")
        )
        names = {column.name for column in columns}
        patient_id = table.get("patient_id")
        if patient_id is not None and patient_id not in names:
            self.bad(str(patient_id), "is named as patient_id but is no column", "describe it under [columns]")
        by_name = {column.name: column for column in columns}
        self.references(by_name)
        schema = Schema(
            name=str(table.get("name", "table")),
            columns=columns,
            patient_id=patient_id,
            survival=self.survival(data.get("survival"), by_name),
            rules=RulesReader(by_name, self.bad).rules(data.get("rules", ())),
            missing_patterns=self.patterns(data.get("missing"), by_name),
        )
        if self.found:
            raise SchemaError(self.found)
        return schema

    def bad(self, column: str, rule: str, way_out: str) -> bool:
        self.found.append(SchemaProblem(column, rule, way_out))
        return False

    def column(self, name: str, body: Mapping[str, Any]) -> Column:
        for key in sorted(set(body) - _COLUMN_KEYS):
            self.bad(name, f"unknown key {key!r}", f"known keys: {', '.join(sorted(_COLUMN_KEYS))}")
        role, kind = body.get("role", "insensitive"), body.get("kind", "categorical")
        if role not in get_args(Role):
            self.bad(name, f"role {role!r} is unknown", f"use one of {', '.join(get_args(Role))}")
        if kind not in get_args(Kind):
            self.bad(name, f"kind {kind!r} is unknown", f"use one of {', '.join(get_args(Kind))}")
        spec = HierarchyReader(name, self.bad, folder=self.folder).spec(body.get("hierarchy"))
        categories = self.categories(name, body.get("categories", ()), spec)
        if len(set(categories)) < len(categories):
            self.bad(name, "lists a category twice", "list each once")
        nullable = body.get("nullable", False)
        if not isinstance(nullable, bool):
            self.bad(name, "nullable must be true or false", "write it without quotes")
        if nullable and MISSING in categories:
            self.bad(name, f"{MISSING!r} is the label of a missing value", "rename that category or drop nullable")
        resolution = self.resolution(name, kind, body)
        bounds = self.numbers(name, "bounds", body.get("bounds"), resolution)
        edges = self.numbers(name, "edges", body.get("edges"), resolution) or ()
        numeric = kind in ("integer", "continuous") or resolution is not None
        if numeric and role != "identifier":
            if bounds is None or len(bounds) != 2:
                self.bad(name, "a number needs public bounds", "give bounds = [low, high]; never read them from data")
                bounds = None
            elif "bins" in body:
                edges = self.bins(name, body["bins"], bounds, edges, whole=kind != "continuous")
            elif "step" in body:
                edges = self.calendar(name, body["step"], bounds, edges, resolution)
        if kind in ("categorical", "ordinal", "set") and role != "identifier" and not categories:
            self.bad(name, "needs its public list of categories", 'give categories = ["...", "..."]')
        if bounds is not None:
            inside = [bounds[0], *edges, bounds[-1]]
            if any(not low < high for low, high in pairwise(inside)):
                self.bad(
                    name, "bounds and edges must ascend strictly, edges inside the bounds", "sort and correct them"
                )
        decimals = body.get("decimals")
        if decimals is not None and (
            isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= _MOST_DECIMALS
        ):
            rule = f"decimals must be a whole number from 0 to {_MOST_DECIMALS}"
            self.bad(name, rule, "give the digits after the point")
        column = Column(
            name=name,
            role=role,
            kind=kind,
            categories=categories,
            bounds=(bounds[0], bounds[1]) if bounds is not None and len(bounds) == 2 else None,
            edges=tuple(edges),
            nullable=bool(nullable),
            hierarchy=spec,
            decimals=decimals,
            resolution=resolution,
            dtype=self.dtype(name, kind, body.get("dtype", "datetime64")),
            missing=self.missing(name, role, nullable is True, body.get("missing", "own_value")),
            separator=self.separator(name, kind, categories, body),
            max_members=self.max_members(name, kind, body),
            allow_text=self.allow_text(name, body.get("allow_text", False)),
        )
        if kind == "text" and (categories or bounds or spec or role == "quasi-identifier"):
            self.bad(
                name,
                "free text has no public values: it is no quasi-identifier, and has no categories, bounds or hierarchy",
                'make it an identifier (it is dropped), or give it kind "categorical" and its categories',
            )
        return self.with_level(column, body)

    def references(self, columns: Mapping[str, Column]) -> None:
        """Check that an age is of a date, and counted at a day or at another date column."""
        for column in columns.values():
            spec = column.hierarchy
            if spec is None or spec.kind != "age":
                continue
            if column.kind != "date" or column.categories:
                self.bad(column.name, "an age is counted from a column of kind date", "set kind = 'date'")
            at = columns.get(spec.at)
            if at is not None and (at.kind != "date" or at is column):
                self.bad(column.name, "the reference of its ages is no other date column", "name one of kind date")
            if at is None:
                try:
                    one_unit(spec.at, "day")
                except ValueError:
                    way_out = 'write at = "2020-12-31", or the name of a date column'
                    self.bad(column.name, "the reference of its ages is neither a day nor a column", way_out)

    def categories(self, name: str, value: Any, spec: HierarchySpec | None) -> tuple[str, ...]:
        """Return the listed categories; "hierarchy": all values of the column's rows, or all nodes of its tree."""
        if value == "hierarchy" and spec is not None and spec.kind in ("rows", "tree"):
            cells = [row[:1] if spec.kind == "rows" else row for row in spec.rows]
            return tuple(dict.fromkeys(cell for row in cells for cell in row if cell))
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.bad(name, "categories must be a list", 'give categories = ["...", "..."], or "hierarchy" with a table')
            return ()
        return tuple(str(category) for category in value)

    def missing(self, name: str, role: str, nullable: bool, value: Any) -> MissingChoice:  # noqa: FBT001
        if value not in get_args(MissingChoice):
            self.bad(name, f"missing is one of {', '.join(get_args(MissingChoice))}", 'write missing = "own_value"')
            return "own_value"
        if value != "own_value" and (not nullable or role != "quasi-identifier"):
            self.bad(name, f"missing = {value!r} is of a quasi-identifier that is nullable", "set nullable = true")
        found: MissingChoice = value
        return found

    def separator(self, name: str, kind: str, categories: Sequence[str], body: Mapping[str, Any]) -> str:
        value = body.get("separator", ";")
        if not isinstance(value, str) or not value.strip() or ("separator" in body and kind != "set"):
            self.bad(name, 'separator is a text between the members of kind "set"', 'write separator = ";"')
            return ";"
        if kind == "set" and any(value in category or category != category.strip() for category in categories):
            self.bad(name, "a category holds the separator, or outer blanks", "use another separator")
        return value

    def max_members(self, name: str, kind: str, body: Mapping[str, Any]) -> int:
        value = body.get("max_members", 3)
        if type(value) is not int or not 1 <= value <= _MOST_MEMBERS or ("max_members" in body and kind != "set"):
            self.bad(name, f'max_members is a whole number from 1 to {_MOST_MEMBERS}, of kind "set"', "correct it")
            return 3
        return value

    def allow_text(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.bad(name, "allow_text must be true or false", "write it without quotes")
        return value is True

    def resolution(self, name: str, kind: str, body: Mapping[str, Any]) -> Resolution | None:
        """Return the unit of a date's values; None for anything else, and for a date whose bounds are years."""
        value = body.get("resolution")
        ends = body.get("bounds")
        dated = kind == "date" and isinstance(ends, list) and any(isinstance(end, str | dt.date) for end in ends)
        if value is None:
            return "day" if dated else None
        if not dated or value not in UNITS:
            self.bad(name, "resolution is day, hour, minute or second, of a date with ISO bounds", "correct it")
            return None
        found: Resolution = value
        return found

    def dtype(self, name: str, kind: str, value: Any) -> DateType:
        if value not in get_args(DateType) or (kind != "date" and value != "datetime64"):
            self.bad(name, 'dtype is "datetime64" or "text", of a date', "correct it, or leave it out")
            return "datetime64"
        found: DateType = value
        return found

    def with_level(self, column: Column, body: Mapping[str, Any]) -> Column:
        """Return the column with the level at which it is modelled, if the schema names one."""
        name, level = column.name, body.get("model_level", 0)
        if not {"model_level", "refined", "weights"} & set(body):
            return column
        spec = column.hierarchy
        most = 0
        if column.categories and spec is not None and spec.kind == "prefix":
            most = len(spec.steps)
        elif column.categories and spec is not None and spec.kind == "rows":
            rows = {row[0]: row for row in spec.rows}
            most = min((len(rows[value]) - 1 if value in rows else 0) for value in column.categories)
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= most:
            self.bad(
                name,
                "model_level must be a level that its hierarchy of categories has for each of them",
                "give a hierarchy of rows or prefix, and model_level = 1",
            )
            return column
        refined = tuple(str(value) for value in body.get("refined", ()))
        if not set(refined) <= set(column.categories):
            self.bad(name, "refined names no category", "name categories that are modelled by themselves")
            return column
        weights = self.numbers(name, "weights", body.get("weights")) or ()
        if weights and (len(weights) != len(column.categories) or min(weights) < 0):
            self.bad(name, "weights must be one number >= 0 for each category", "correct or drop them")
            return column
        grown = replace(column, model_level=level, refined=refined, weights=weights)
        groups = grown.group_labels()
        clash = set(refined) & {group for value, group in zip(column.categories, groups, strict=True) if group != value}
        if clash or (column.nullable and MISSING in groups):
            self.bad(name, "a group has the name of a refined category, or of a missing value", "rename the group")
        return grown

    def patterns(self, value: Any, columns: Mapping[str, Column]) -> tuple[tuple[str, ...], ...]:
        if value is None:
            return ()
        lists = value.get("patterns") if isinstance(value, Mapping) and set(value) == {"patterns"} else None
        if not isinstance(lists, list) or not all(isinstance(names, list) and names for names in lists):
            self.bad("-", "[missing] must hold patterns, lists of columns", 'write patterns = [["a", "b"]]')
            return ()
        for name in sorted({str(name) for names in lists for name in names}):
            if name not in columns or not columns[name].nullable or not columns[name].is_coded:
                self.bad(name, "a pattern of missing values needs coded columns that are nullable", "correct the list")
        for names in lists:
            if len(set(names)) < len(names) or not 2 <= len(names) <= _LARGEST_PATTERN:
                self.bad("-", f"a pattern has 2 to {_LARGEST_PATTERN} different columns", "split the list")
            elif pattern_name(names) in columns:
                self.bad(pattern_name(names), "is the name of a pattern of missing values", "rename the column")
        found = tuple(tuple(str(name) for name in names) for names in lists)
        if len(set(found)) < len(found):
            self.bad("-", "a pattern of missing values is listed twice", "list each once")
        return found

    def numbers(
        self, name: str, key: str, value: Any, resolution: Resolution | None = None
    ) -> tuple[float, ...] | None:
        if value is None:
            return None
        if resolution is not None:
            try:
                return tuple(float(one_unit(item, resolution)) for item in value)
            except (TypeError, ValueError):
                self.bad(name, f"{key} must be a list of ISO dates", f'write {key} = ["2001-01-01", "2020-12-31"]')
                return None
        good = isinstance(value, list) and all(
            isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item) for item in value
        )
        if not good:
            self.bad(name, f"{key} must be a list of finite numbers", f"write {key} = [1, 2]")
            return None
        return tuple(float(item) for item in value)

    def bins(
        self, name: str, bins: Any, bounds: Sequence[float], edges: tuple[float, ...], *, whole: bool
    ) -> tuple[float, ...]:
        if edges:
            self.bad(name, "has both bins and edges", "keep one of them")
        if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= _MOST_BINS:
            self.bad(name, f"bins must be a whole number from 1 to {_MOST_BINS}", "give the number of equal bins")
            return edges
        inner = np.linspace(bounds[0], bounds[1], bins + 1)[1:-1]
        return tuple(float(edge) for edge in (np.unique(np.round(inner)) if whole else inner))

    def calendar(
        self,
        name: str,
        step: Any,
        bounds: Sequence[float],
        edges: tuple[float, ...],
        resolution: Resolution | None,
    ) -> tuple[float, ...]:
        if resolution is None or step not in STEPS or edges or bounds[0] >= bounds[1]:
            self.bad(name, "step is month, quarter or year, of a date with ISO bounds, without edges", "correct it")
            return edges
        return tuple(float(edge) for edge in calendar_edges(int(bounds[0]), int(bounds[1]), step, resolution))

    def survival(self, value: Any, columns: Mapping[str, Column]) -> Survival | None:
        if value is None:
            return None
        time, event = (str(value.get("time")), str(value.get("event"))) if isinstance(value, Mapping) else ("", "")
        if time not in columns or event not in columns:
            self.bad("-", "[survival] must name a time and an event column", 'write time = "..." and event = "..."')
            return None
        for key in sorted(set(value) - _SURVIVAL_KEYS):
            self.bad("-", f"[survival] has an unknown key {key!r}", f"known keys: {', '.join(sorted(_SURVIVAL_KEYS))}")
        if not columns[time].is_numeric:
            self.bad(time, "the survival time must be a number", "use kind integer or continuous")
        competing = value.get("competing", {})
        if not isinstance(competing, Mapping) or "0" in competing:
            self.bad("-", "competing names each event category but 0", 'write competing = { "1" = "relapse", ... }')
            competing = {}
        events = {"0", *map(str, competing or ("1",))}
        if set(columns[event].categories) != events:
            kinds = " and ".join(sorted(events))
            self.bad(event, f"the event column must have the categories {kinds}", 'give categories = ["0", "1"]')
        horizon = value.get("horizon")
        if horizon is not None and (columns[time].edges or (None,))[-1] != horizon:
            self.bad(time, "the horizon must be the last of its edges", "end the edges with the horizon")
            horizon = None
        strata = value.get("strata", [])
        if not isinstance(strata, list) or len(set(map(str, strata))) < len(strata):
            self.bad("-", "strata is a list of different columns", 'write strata = ["sex"]')
            strata = []
        for name in strata:
            if name not in columns or not columns[name].is_coded or name in (time, event):
                self.bad(str(name), "is named in strata but is no other column with codes", "correct the list")
        return Survival(
            time=time,
            event=event,
            competing=tuple((str(category), str(what)) for category, what in competing.items()),
            horizon=None if horizon is None else float(horizon),
            strata=tuple(str(name) for name in strata),
        )
