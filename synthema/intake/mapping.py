"""From a site's own columns, codes and units to the common schema: a declarative, versioned map. No expressions.

source     a column of the site's table; target  a column of the common schema
rule       how a target comes from its source: renamed, recoded, converted to another unit, read as a date, or derived
           from dates (whole years of age; days from diagnosis to death or last contact; whether the patient died)

A map is written by the site and never sent. Each rule is one of a short list with a fixed meaning, which holds for
tables in memory (`apply_map`) and for tables that stay in a database (`synthema.intake.sql_map`) alike.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from privacy import Schema
from synthema.errors import TableError
from synthema.intake.spec import told

Name = Annotated[str, Field(min_length=1, max_length=200)]

# Conversions that are the same for every analyte: (factor, offset). Others are declared as numbers.
UNITS: dict[tuple[str, str], tuple[float, float]] = {
    ("g/dL", "g/L"): (10.0, 0.0),
    ("g/L", "g/dL"): (0.1, 0.0),
    ("mg/dL", "g/L"): (0.01, 0.0),
    ("mg/L", "mg/dL"): (0.1, 0.0),
    ("mg/dL", "mg/L"): (10.0, 0.0),
    ("10^3/uL", "10^9/L"): (1.0, 0.0),
    ("/uL", "10^9/L"): (0.001, 0.0),
    ("weeks", "days"): (7.0, 0.0),
    ("years", "days"): (365.25, 0.0),
    ("degF", "degC"): (5 / 9, -160 / 9),
    ("degC", "degF"): (1.8, 32.0),
}

# Directives that mean one thing in every language, with the year in full: 01/02/23 is four different days.
_DIRECTIVES = re.compile(r"(?:%[dmYHMS]|[^%A-Za-z0-9])+(?:T(?:%[HMS]|[^%A-Za-z0-9])+)?")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Unit(_Section):
    """value * factor + offset; or two names from `UNITS`."""

    from_unit: str | None = Field(default=None, alias="from")
    to_unit: str | None = Field(default=None, alias="to")
    factor: float | None = Field(default=None, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        named = self.from_unit is not None and self.to_unit is not None
        if named == (self.factor is not None) or (named and self.offset):
            raise ValueError("give factor (and offset), or from and to")
        if named and (self.from_unit, self.to_unit) not in UNITS:
            known = ", ".join(f"{a} to {b}" for a, b in UNITS)
            raise ValueError(f"no conversion of that name: give factor and offset; known: {known}")
        if self.factor == 0:
            raise ValueError("factor must not be 0")
        return self

    @property
    def line(self) -> tuple[float, float]:
        """Factor and offset."""
        if self.factor is not None:
            return self.factor, self.offset
        return UNITS[str(self.from_unit), str(self.to_unit)]


class Age(_Section):
    """Whole years between two dates, as people count them: on 28 February, one born on the 29th is not older yet."""

    born: Name
    at: Name


class FollowUp(_Section):
    """Days from the start to death, or else to the last contact."""

    start: Name
    death: Name
    last_contact: Name


class Died(_Section):
    """1 if there is a date of death, else 0 if there is a last contact, else missing."""

    death: Name
    last_contact: Name


class ColumnMap(_Section):
    """How one target comes about: at most one of `recode`, `unit`, `age`, `days` and `died`.

    source       the source column; the target's own name by default
    recode       source code -> label; every code that occurs must be listed
    missing      source codes that mean that a value is missing, beside the map's own
    date_format  e.g. "%d.%m.%Y"; ISO by default
    """

    source: Name | None = Field(default=None, alias="from")
    recode: dict[str, str] | None = None
    missing: tuple[str, ...] = ()
    unit: Unit | None = None
    date_format: str | None = None
    age: Age | None = None
    days: FollowUp | None = None
    died: Died | None = None

    @field_validator("missing", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("date_format")
    @classmethod
    def _known_directives(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _DIRECTIVES.fullmatch(value) or any(value.count(part) != 1 for part in ("%d", "%m", "%Y")):
            raise ValueError("must hold %d, %m and %Y once each, perhaps %H, %M, %S, and signs between them")
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        rules = [n for n in ("recode", "unit", "age", "days", "died") if getattr(self, n) is not None]
        if len(rules) > 1:
            raise ValueError(f"has two rules ({' and '.join(rules)}): keep one")
        if self.derived is not None and self.source is not None:
            raise ValueError(f"{rules[0]} names its own columns: drop from")
        return self

    @property
    def derived(self) -> Age | FollowUp | Died | None:
        """The rule that derives the target from dates, if it is one."""
        return self.age or self.days or self.died

    def sources(self, target: str) -> tuple[str, ...]:
        """Return the columns that the target is made of."""
        rule = self.derived
        return (self.source or target,) if rule is None else tuple(getattr(rule, n) for n in type(rule).model_fields)


class SiteMap(_Section):
    """A site's map into a common schema.

    columns  target -> its rule; targets that are not listed are taken as they are
    missing  source codes that mean "missing" in every column, e.g. ["-9", "NA"]
    others   what becomes of source columns that no target needs: "refuse" tells of them, "drop" leaves them out

    Examples
    --------
    >>> site_map = SiteMap.from_dict({"version": 1, "columns": {"sex": {"from": "GENDER", "recode": {"1": "M"}}}})
    >>> site_map.rule("sex").sources("sex"), site_map.rule("age").sources("age")
    (('GENDER',), ('age',))
    """

    version: Literal[1] = 1
    missing: tuple[str, ...] = ()
    others: Literal["refuse", "drop"] = "refuse"
    columns: dict[Name, ColumnMap] = Field(default_factory=dict)

    @field_validator("missing", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SiteMap:
        """Build a map from parsed TOML. Raises TableError naming every wrong entry."""
        if "version" not in data:
            raise TableError("the map has no version: write version = 1")
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise TableError(f"map: {told(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> SiteMap:
        """Read a map's TOML. Raises TableError."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
            raise TableError(f"{path.name} cannot be read ({reason})") from None
        return cls.from_dict(data)

    def rule(self, target: str) -> ColumnMap:
        """Return how the target comes about."""
        return self.columns.get(target, ColumnMap())

    def wanted(self, schema: Schema) -> tuple[str, ...]:
        """Return the source columns that the schema's columns are made of, each once."""
        return tuple(dict.fromkeys(s for target in schema.names for s in self.rule(target).sources(target)))

    def check(self, schema: Schema) -> list[tuple[str, str, str]]:
        """Return what is wrong with the map whatever the data: target, rule, way out."""
        found = []
        for target, rule in self.columns.items():
            if target not in schema.names:
                found.append(
                    (target, "is mapped, but is not in the schema", "take it out of the map, or correct its name")
                )
                continue
            column = schema.column(target)
            counted = rule.unit or rule.age or rule.days
            if counted and not column.is_numeric:
                found.append(
                    (target, f"is made a number, but its kind is {column.kind}", "correct the map or the schema")
                )
            if rule.date_format is not None and rule.derived is None and column.kind != "date":
                found.append(
                    (target, f"has a date_format, but its kind is {column.kind}", "correct the map or the schema")
                )
            if rule.died and not {"0", "1"} <= set(column.categories):
                found.append((target, 'is made "0" or "1", but its categories are others', "correct the schema"))
            if rule.recode is not None and column.categories:
                strange = sorted(set(rule.recode.values()) - set(column.categories) - {""})
                if strange and column.kind != "set":
                    rule_text = f"is recoded to {strange[0]!r}, which is none of its categories"
                    found.append((target, rule_text, 'correct the label; "" makes a value missing'))
        return found
