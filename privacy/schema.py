"""The schema: what is public about a private table. The only source of its domain.

Categories, bounds, bin edges and nullability come from here and never from the rows: reading a minimum, a maximum or
the set of values of private data is a release like any other. The schema is a value; it is written and read as TOML
or JSON.
No pandas here: any frame with `.columns` and `frame[name].to_numpy()` can be validated.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from privacy._columns import (
    MISSING,
    Column,
    DateType,
    IntArray,
    Kind,
    MissingChoice,
    Role,
    column_dict,
)
from privacy._dates import Resolution
from privacy._hierarchy_spec import HierarchyKind, HierarchySpec, Step
from privacy._rules import AnyRule, Determines, Impossible, MissingTogether, OnlyIf, Order, Rule
from privacy._toml import dump_toml
from privacy.errors import SchemaError, SchemaProblem

__all__ = [
    "MISSING",
    "AnyRule",
    "Column",
    "DateType",
    "Determines",
    "Frame",
    "HierarchyKind",
    "HierarchySpec",
    "Impossible",
    "Kind",
    "MissingChoice",
    "MissingTogether",
    "OnlyIf",
    "Order",
    "Resolution",
    "Role",
    "Rule",
    "Schema",
    "Step",
    "Survival",
    "pattern_name",
]


# Of the format. What an older reader would misread gets a new number; what it refuses as an unknown key does not.
VERSION = 1


class Frame(Protocol):
    """What `Schema.validate` needs of a data frame."""

    @property
    def columns(self) -> Iterable[Any]:
        """Names of the columns, in order."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """Return the column of that name: something with `.to_numpy()`."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...


@dataclass(frozen=True, slots=True)
class Survival:
    """Names of the follow-up time and of the event indicator (category "0": follow-up ended; "1": it happened).

    competing   event category -> what it is, where several events compete; then these are the categories beside "0"
    horizon     follow-up ends here by design: whoever is followed so long is coded as followed to the horizon, without
                event, whatever came later; the last edge of the time
    strata      columns by which survival is looked at: always modelled together with the time
    """

    time: str
    event: str
    competing: tuple[tuple[str, str], ...] = ()
    horizon: float | None = None
    strata: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the section as plain data."""
        out: dict[str, Any] = {"time": self.time, "event": self.event}
        if self.competing:
            out["competing"] = dict(self.competing)
        if self.horizon is not None:
            out["horizon"] = int(self.horizon) if float(self.horizon).is_integer() else self.horizon
        if self.strata:
            out["strata"] = list(self.strata)
        return out


@dataclass(frozen=True, slots=True)
class Schema:
    """A table's public description.

    Examples
    --------
    >>> schema = Schema.from_dict({
    ...     "table": {"name": "clinic"},
    ...     "columns": {"sex": {"role": "quasi-identifier", "kind": "categorical", "categories": ["F", "M"]}},
    ... })
    >>> schema.column("sex").n_codes
    2
    """

    name: str
    columns: tuple[Column, ...]
    patient_id: str | None = None
    survival: Survival | None = None
    rules: tuple[AnyRule, ...] = ()
    missing_patterns: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Read a TOML file, or JSON if its name ends in .json; hierarchy files beside it become part of the value."""
        path = Path(path)
        form = "JSON" if path.suffix.lower() == ".json" else "TOML"
        try:
            text = path.read_text(encoding="utf-8")
            data = json.loads(text) if form == "JSON" else tomllib.loads(text)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
            known = isinstance(error, json.JSONDecodeError | tomllib.TOMLDecodeError)
            reason = str(error) if known else type(error).__name__
            raise SchemaError(
                [SchemaProblem("-", f"schema file {path.name} cannot be read ({reason})", f"give a UTF-8 {form} file")]
            ) from None
        if not isinstance(data, dict):
            raise SchemaError([SchemaProblem("-", f"schema file {path.name} is no schema", "write one object")])
        return cls.from_dict(data, folder=path.parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: str | Path | None = None) -> Schema:
        """Build a schema from the parsed TOML. Raises SchemaError with all problems at once."""
        # The reader needs the values defined here, so it is imported when it is called.
        from privacy._schema_reader import SchemaReader

        return SchemaReader(folder=None if folder is None else Path(folder)).schema(data)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back to an equal schema."""
        out: dict[str, Any] = {"table": {"name": self.name}}
        if self.patient_id is not None:
            out["table"]["patient_id"] = self.patient_id
        out["columns"] = {column.name: column_dict(column) for column in self.columns}
        if self.survival is not None:
            out["survival"] = self.survival.to_dict()
        if self.missing_patterns:
            out["missing"] = {"patterns": [list(names) for names in self.missing_patterns]}
        if self.rules:
            out["rules"] = [rule.to_dict() for rule in self.rules]
        return out

    def save(self, path: str | Path) -> None:
        """Write the schema as TOML, or as JSON if the name ends in .json; the format's version stands first."""
        data = {"version": VERSION, **self.to_dict()}
        as_json = Path(path).suffix.lower() == ".json"
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n" if as_json else dump_toml(data)
        Path(path).write_text(text, encoding="utf-8")

    def content_hash(self) -> str:
        """Return the SHA-256 of the schema's canonical form: sites compare it before they start."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def column(self, name: str) -> Column:
        """Return the column of that name, derived ones too. Raises SchemaError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        for column in self.derived:
            if column.name == name:
                return column
        raise SchemaError([SchemaProblem(name, "is not in the schema", f"known: {', '.join(self.names)}")])

    def subset(self, names: Iterable[str]) -> Schema:
        """Return the schema of some of the columns, in this schema's order; rules on other columns are dropped.

        A pattern of missing values goes with its columns, whether it is named or not.
        """
        wanted = set(names)
        for name in wanted:
            self.column(name)
        survival = self.survival
        if survival is not None:
            survival = replace(survival, strata=tuple(name for name in survival.strata if name in wanted))
        return replace(
            self,
            columns=tuple(column for column in self.columns if column.name in wanted),
            patient_id=self.patient_id if self.patient_id in wanted else None,
            survival=survival if survival and {survival.time, survival.event} <= wanted else None,
            rules=tuple(rule for rule in self.rules if set(rule.columns) <= wanted),
            missing_patterns=tuple(pattern for pattern in self.missing_patterns if set(pattern) <= wanted),
        )

    def needed_for(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the table's columns, in order, on which the codes of some modelled columns depend.

        A pattern depends on the columns whose missing values it tells; the event on the time, where a horizon ends it.
        """
        wanted: set[str] = set()
        for name in names:
            wanted.update(self.column(name).missing_of or (name,))
        if self.survival is not None and self.survival.horizon is not None and self.survival.event in wanted:
            wanted.add(self.survival.time)
        return tuple(name for name in self.names if name in wanted)

    @property
    def derived(self) -> tuple[Column, ...]:
        """Columns that follow from the table's: one for each pattern of missing values."""
        return tuple(_pattern_column(names) for names in self.missing_patterns)

    @property
    def modelled(self) -> tuple[Column, ...]:
        """Columns as generators model them: the coded ones, groups in place of categories, then the derived ones."""
        return (*(column.modelled() for column in self.columns if column.is_coded), *self.derived)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def quasi_identifiers(self) -> tuple[str, ...]:
        """Names of the quasi-identifiers, in order."""
        return tuple(column.name for column in self.columns if column.role == "quasi-identifier")

    @property
    def sensitive(self) -> tuple[str, ...]:
        """Names of the sensitive columns, in order."""
        return tuple(column.name for column in self.columns if column.role == "sensitive")

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the columns with a finite public list of codes, in order."""
        return tuple(column.name for column in self.columns if column.is_coded)

    def validate(self, frame: Frame) -> None:
        """Check a table against the schema. Raises SchemaError with all problems, by column; changes nothing."""
        problems: list[SchemaProblem] = []
        given = [str(name) for name in frame.columns]
        if given and not set(given) & set(self.names) and len(given) > 1:
            # Names that are all unknown may be a patient's row, read as a header: they are not repeated.
            known = ", ".join(self.names)
            raise SchemaError([SchemaProblem("-", "the table has none of the schema's columns", f"name them: {known}")])
        problems.extend(
            SchemaProblem(name, "appears more than once in the table", "keep one of them")
            for name in sorted({name for name in given if given.count(name) > 1})
        )
        problems.extend(
            SchemaProblem(name, "is not in the schema", "drop it from the table, or describe it in the schema")
            for name in dict.fromkeys(given)
            if name not in self.names
        )
        if len(frame) == 0:
            problems.append(SchemaProblem("-", "the table has no rows", "check the file and the delimiter"))
        for column in self.columns:
            if column.name not in given:
                problems.append(SchemaProblem(column.name, "is missing from the table", _missing_way_out(given)))
            elif given.count(column.name) == 1:
                problems.extend(column.problems(np.asarray(frame[column.name].to_numpy())))
        if not problems:
            problems.extend(self._broken_rules(frame))
        if problems:
            raise SchemaError(problems)

    def _broken_rules(self, frame: Frame) -> list[SchemaProblem]:
        columns = {column.name: column for column in self.columns}
        values = {
            name: np.asarray(frame[name].to_numpy()) for name in {name for rule in self.rules for name in rule.columns}
        }
        codes: dict[str, IntArray] = {}
        out = []
        for rule in self.rules:
            if isinstance(rule, Order):
                numbers = {name: columns[name].numbers(values[name]) for name in rule.columns}
                broken = bool(rule.broken_by(numbers).any())
            else:
                codes |= {name: columns[name].encode(values[name]) for name in rule.columns if name not in codes}
                broken = any(bool(part.broken_by(codes).any()) for part in rule.impossible(columns))
            if broken:
                out.append(SchemaProblem(rule.columns[0], rule.text, "correct these rows"))
        return out


def pattern_name(names: Iterable[str]) -> str:
    """Return the name of the derived column that tells which of some columns are missing."""
    return f"missing({','.join(names)})"


def _pattern_column(names: tuple[str, ...]) -> Column:
    # Bit i of a pattern's code says that column i is missing.
    patterns = ["+".join(name for i, name in enumerate(names) if code >> i & 1) for code in range(1 << len(names))]
    return Column(name=pattern_name(names), categories=("none", *patterns[1:]), missing_of=names)


def _missing_way_out(given: list[str]) -> str:
    if len(given) == 1 and any(sign in given[0] for sign in ";\t|"):
        return "the file seems to use another delimiter: save it with commas"
    return "add it, or take it out of the schema"
