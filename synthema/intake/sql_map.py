"""The map on a table in a database: one SQL expression for each of the schema's columns, so it is counted in place.

Everything here is built from quoted names, quoted texts and numbers; nothing of a map is ever parsed as SQL. Results
are those of `apply_map` on the same rows: arithmetic is on doubles in both, and codes that the map does not cover
become a text that no schema has, so they are told and never counted.
"""

# ruff: noqa: S608 - names are quoted (`quoted`), texts are escaped (`_text`); all else in the queries are numbers.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from generators.sql import SqlTable, quoted
from privacy import Schema, SchemaError, SchemaProblem
from privacy.schema import Column
from synthema.intake.mapping import Age, ColumnMap, FollowUp, SiteMap

# What no schema has: dates in the wrong order, or a code that the map lacks, must be told and not counted.
NOT_COVERED = "\x01 not in the map"
IMPOSSIBLE = -1_000_000

_POSTGRES = {
    **dict.fromkeys((20, 21, 23, 700, 701, 1700), "number"),
    **dict.fromkeys((25, 1042, 1043), "text"),
    **dict.fromkeys((1082, 1114), "date"),
    16: "boolean",
}


def mapped_table(table: SqlTable, schema: Schema, site_map: SiteMap) -> SqlTable:
    """Return the table as the schema has it: a query in place of its name.

    Raises
    ------
    SchemaError
        If the map does not fit the table's columns or their types: every problem.
    """
    kinds = {name: kind_of(table, code) for name, code in table.types()}
    problems = [SchemaProblem(*found) for found in site_map.check(schema)]
    expressions = []
    for column in schema.columns:
        rule = site_map.rule(column.name)
        lacking = [source for source in rule.sources(column.name) if source not in kinds]
        if lacking:
            own = lacking == [column.name]
            text = "is missing from the table" if own else f"its source {lacking[0]!r} is not in the table"
            problems.append(SchemaProblem(column.name, text, "correct the source's name in the map, or add the column"))
            continue
        said = _type_problem(column, rule, [kinds[source] for source in rule.sources(column.name)])
        if said is not None:
            problems.append(said)
            continue
        expressions.append(f"{_expression(column, rule, site_map, kinds)} AS {quoted(column.name)}")
    if problems:
        raise SchemaError(problems)
    return SqlTable(table.connection, f"(SELECT {', '.join(expressions)} FROM {table.name}) AS mapped")


def kind_of(table: SqlTable, code: Any) -> str:
    """Return the kind of a column's type: "number", "text", "date", "boolean" or "other"."""
    if table.driver == "psycopg":
        return _POSTGRES.get(code, "other")
    name = str(code).partition("(")[0]
    if name.endswith(("INT", "INTEGER")) or name in ("FLOAT", "DOUBLE", "DECIMAL"):
        return "number"
    return {"VARCHAR": "text", "DATE": "date", "TIMESTAMP": "date", "BOOLEAN": "boolean"}.get(name, "other")


def _type_problem(column: Column, rule: ColumnMap, kinds: list[str]) -> SchemaProblem | None:
    """Return why the rule cannot be done in the database, or None."""
    if rule.derived is not None or column.kind == "date":
        if any(kind != "date" for kind in kinds) or rule.date_format is not None:
            rule_text = "is made of a column that is no date in the database"
            return SchemaProblem(column.name, rule_text, "make it a date there (a view), and drop date_format")
    elif column.is_numeric and column.is_coded and rule.recode is None and kinds != ["number"]:
        rule_text = f"must have a numeric type in the database (kind {column.kind})"
        return SchemaProblem(column.name, rule_text, "change the column's type, or make a view that casts it")
    elif column.is_numeric and rule.recode is not None:
        return SchemaProblem(column.name, "a number cannot be recoded in a database", "use missing, or make a view")
    return None


def _expression(column: Column, rule: ColumnMap, site_map: SiteMap, kinds: dict[str, str]) -> str:
    sources = rule.sources(column.name)
    gone = {*site_map.missing, *rule.missing}
    present = [_present(source, kinds[source], gone) for source in sources]
    if isinstance(rule.derived, Age):
        return _age(*present)
    if isinstance(rule.derived, FollowUp):
        start, death, contact = (f"CAST({name} AS DATE)" for name in present)
        return f"CASE WHEN {contact} > {death} THEN {IMPOSSIBLE} ELSE COALESCE({death}, {contact}) - {start} END"
    if rule.derived is not None:
        death, contact = present
        wrong = f"WHEN {contact} > {death} THEN {_text(NOT_COVERED)}"
        return f"CASE {wrong} WHEN {death} IS NOT NULL THEN '1' WHEN {contact} IS NOT NULL THEN '0' END"
    [value] = present
    if rule.recode is not None:
        text = _as_text(value, kinds[sources[0]])
        cases = "".join(f" WHEN {text} = {_text(code)} THEN {_text(label)}" for code, label in rule.recode.items())
        blank = f" WHEN {value} IS NULL OR {text} = '' THEN NULL"
        return f"CASE{blank}{cases} ELSE {_text(NOT_COVERED)} END"
    if rule.unit is not None:
        factor, offset = rule.unit.line
        return f"(CAST({value} AS DOUBLE PRECISION) * {_number(factor)} + {_number(offset)})"
    return value


def _present(source: str, kind: str, gone: Iterable[str]) -> str:
    """Return the source, NULL where a code says that the value is missing."""
    name = quoted(source)
    if kind == "number":
        numbers = sorted({_number(float(code)) for code in gone if _is_plain_number(code)})
        return f"CASE WHEN {name} IN ({', '.join(numbers)}) THEN NULL ELSE {name} END" if numbers else name
    texts = sorted(_text(code) for code in gone)
    if kind != "text" or not texts:
        return name
    return f"CASE WHEN TRIM({name}) IN ({', '.join(texts)}) THEN NULL ELSE {name} END"


def _as_text(value: str, kind: str) -> str:
    """Return the value as the text by which a map names it: 1, 1.0 and TRUE are "1"."""
    if kind == "boolean":
        return f"CASE WHEN {value} THEN '1' WHEN NOT {value} THEN '0' END"
    if kind == "number":
        whole = f"CAST(CAST({value} AS DECIMAL(38, 0)) AS VARCHAR(64))"
        return f"CASE WHEN {value} = ROUND({value}) THEN {whole} ELSE CAST({value} AS VARCHAR(64)) END"
    return f"TRIM(CAST({value} AS VARCHAR(4000)))"


def _age(born: str, at: str) -> str:
    years = f"EXTRACT(YEAR FROM {at}) - EXTRACT(YEAR FROM {born})"
    days = [f"(100 * EXTRACT(MONTH FROM {day}) + EXTRACT(DAY FROM {day}))" for day in (at, born)]
    whole = f"CAST({years} AS INTEGER) - CASE WHEN {days[0]} < {days[1]} THEN 1 ELSE 0 END"
    return f"CASE WHEN {born} > {at} THEN {IMPOSSIBLE} ELSE {whole} END"


def _is_plain_number(code: str) -> bool:
    try:
        return abs(float(code)) < 1e300
    except ValueError:
        return False


def _number(value: float) -> str:
    return f"CAST({value!r} AS DOUBLE PRECISION)"


def _text(value: str) -> str:
    """Return a text as SQL: a quote is doubled, and no other sign is special (standard_conforming_strings is on)."""
    if "\0" in value:
        raise SchemaError([SchemaProblem("-", "a text of the map holds a null character", "take it out")])
    return "'" + value.replace("'", "''") + "'"
