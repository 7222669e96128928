"""Reading a column's hierarchy from a schema: a rule, rows, a tree, or the CSV file that holds one.

A CSV file is separated by semicolons if its first line has one, else by commas; fields may be quoted; no header.
    rows   value;level 1;...;level n, as ARX writes them
    tree   child;parent; a root stands alone or has an empty parent
A table without ".csv" in its name is one of the classifications that come with the package.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from privacy._hierarchy_spec import FIRST, OPTIONS_OF, HierarchyKind, HierarchySpec, Step

Bad = Callable[[str, str, str], bool]

CLASSIFICATIONS = ("aml_mds_icc2022", "aml_mds_who2022", "icd10_haematology", "scd_genotypes")
_OLDEST = 200
_FORMS = (
    "give a CSV file, { interval = [5, 10] }, { order = [2, 2] }, { prefix = [3, 1] }, { redact = [1, 2] }, "
    '{ date = ["month", "year"] }, { age = [5, 10], at = "2020-12-31" }, { tree = "codes.csv" } or { rows = [...] }'
)


class HierarchyReader:
    """Turns the schema's words on one column's hierarchy into a value, and reports what is wrong through `bad`."""

    def __init__(self, name: str, bad: Bad, *, folder: Path | None) -> None:
        self.name = name
        self._bad = bad
        self.folder = folder

    def bad(self, rule: str, way_out: str) -> None:
        self._bad(self.name, rule, way_out)

    def spec(self, value: Any) -> HierarchySpec | None:
        if value is None:
            return None
        if isinstance(value, str):
            value = {"rows": value}
        kinds = [kind for kind in get_args(HierarchyKind) if isinstance(value, Mapping) and kind in value]
        if len(kinds) != 1:
            self.bad("hierarchy is not one of the known forms", _FORMS)
            return None
        kind: HierarchyKind = kinds[0]
        unknown = sorted(set(value) - OPTIONS_OF[kind] - {kind, "keep_levels"})
        if unknown:
            known = ", ".join(sorted(OPTIONS_OF[kind] | {"keep_levels"}))
            self.bad(f"hierarchy {kind!r} has no option {unknown[0]!r}", f"its options are {known}")
            return None
        options = self.options(kind, {key: item for key, item in value.items() if key != kind})
        body = value[kind]
        if kind in ("rows", "tree"):
            rows = self.table(body) if isinstance(body, str) else self.rows(body)
            return None if rows is None or options is None else HierarchySpec(kind, rows=rows, **options)
        steps = self.steps(kind, body)
        return None if steps is None or options is None else HierarchySpec(kind, steps=steps, **options)

    def steps(self, kind: str, body: Any) -> tuple[Step, ...] | None:
        if isinstance(body, list | tuple) and body:
            if kind == "order":
                levels = [_order_level(level) for level in body]
            elif kind == "interval":
                levels = [_cut_points(level) if isinstance(level, list | tuple) else level for level in body]
            else:
                levels = [None if isinstance(level, list | tuple | Mapping) else level for level in body]
            if all(level is not None for level in levels):
                return tuple(level for level in levels if level is not None)
        self.bad(f"hierarchy {kind!r} does not list its levels", _FORMS)
        return None

    def options(self, kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        wrong: list[tuple[str, str]] = []
        for key in ("bottom", "top", "origin"):
            if key in given and not _is_number(given[key]):
                wrong.append((f"{key} must be a number", f"write {key} = 90"))
            elif key in given:
                found[key] = float(given[key])
        if "oldest" in given:
            found["oldest"] = given["oldest"]
            if type(given["oldest"]) is not int or not 1 <= given["oldest"] <= _OLDEST:
                wrong.append((f"oldest must be a whole number from 1 to {_OLDEST}", "write oldest = 110"))
        for key in ("side", "align"):
            if key in given and given[key] not in ("left", "right"):
                wrong.append((f'{key} is "left" or "right"', "correct it"))
            elif key in given:
                found[key] = given[key]
        for key in ("mask", "pad"):
            if key in given and not (isinstance(given[key], str) and len(given[key]) == 1):
                wrong.append((f"{key} must be one character", f'write {key} = "*"'))
            elif key in given:
                found[key] = given[key]
        if kind == "age":
            at = given.get("at")
            if not isinstance(at, str | dt.date) or isinstance(at, dt.datetime) or not str(at):
                wrong.append(("an age needs its reference", 'write at = "2020-12-31", or the name of a date column'))
            else:
                found["at"] = str(at)
        if "preferred" in given:
            pairs = given["preferred"]
            if pairs == FIRST:
                found["preferred"] = FIRST
            elif isinstance(pairs, list | tuple) and all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
                found["preferred"] = tuple((str(child), str(parent)) for child, parent in pairs)
            else:
                wrong.append(
                    ("preferred lists pairs of child and parent", 'write preferred = [["C", "P"]], or "first"')
                )
        if "keep_levels" in given:
            ends = given["keep_levels"]
            if not (isinstance(ends, list | tuple) and len(ends) == 2 and all(type(end) is int for end in ends)):
                wrong.append(("keep_levels must be two whole numbers", "write keep_levels = [1, 3]"))
            elif not 0 <= ends[0] <= ends[1]:
                wrong.append(("keep_levels must ascend from 0", "write keep_levels = [1, 3]"))
            else:
                found["keep_levels"] = (ends[0], ends[1])
        for rule, way_out in wrong:
            self.bad(rule, way_out)
        return None if wrong else found

    def rows(self, body: Any) -> tuple[tuple[str, ...], ...] | None:
        if not isinstance(body, list | tuple) or not all(isinstance(row, list | tuple) for row in body):
            self.bad("a hierarchy's rows are lists of texts", _FORMS)
            return None
        return tuple(tuple(str(cell) for cell in row) for row in body)

    def table(self, file: str) -> tuple[tuple[str, ...], ...] | None:
        if not Path(file).suffix:
            if file in CLASSIFICATIONS:
                return shipped_table(file)
            self.bad(
                f"{file!r} is no classification that comes with the package",
                f"name a file that ends in .csv, or one of {', '.join(CLASSIFICATIONS)}",
            )
            return None
        if self.folder is None:
            self.bad(f"hierarchy file {file!r} cannot be found without a folder", "load the schema from a file")
            return None
        try:
            text = (self.folder / file).read_text(encoding="utf-8-sig")
            return parse_table(text)
        except (OSError, UnicodeDecodeError, csv.Error):
            self.bad(f"hierarchy file {file!r} cannot be read", "give a UTF-8 CSV file beside the schema")
            return None


def parse_table(text: str) -> tuple[tuple[str, ...], ...]:
    r"""Return the rows of a CSV text, outer blanks removed and empty lines left out.

    Examples
    --------
    >>> parse_table("C92.0;C92;*\nC91.0;C91;*\n")
    (('C92.0', 'C92', '*'), ('C91.0', 'C91', '*'))
    >>> parse_table('20,"[20, 30)"')
    (('20', '[20, 30)'),)
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    return tuple(tuple(cell.strip() for cell in row) for row in lines if any(cell.strip() for cell in row))


def shipped_table(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the (child, parent) rows of a classification that comes with the package."""
    text = (resources.files("privacy") / "classifications" / f"{name}.csv").read_text(encoding="utf-8")
    return parse_table("\n".join(line for line in text.splitlines() if not line.startswith("#")))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _cut_points(level: Any) -> tuple[float, ...] | None:
    return tuple(float(cut) for cut in level) if level and all(_is_number(cut) for cut in level) else None


def _order_level(level: Any) -> Step | None:
    """Return one level of the rule `order`: n, [n, m], ["first", "second"], [["name", n]] or [["name", "first"]]."""
    if type(level) is int:
        return level
    if not isinstance(level, list | tuple) or not level:
        return None
    groups = [tuple(group) if isinstance(group, list | tuple) else ("", group) for group in level]
    good = all(len(g) == 2 and isinstance(g[0], str) and type(g[1]) in (int, str) for g in groups)
    return tuple(groups) if good and len({type(group[1]) for group in groups}) == 1 else None
