"""Summaries of joint models: tables for people, as text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthema.learning.model import Mode, Table

_COVERED = {
    "exact": "Exact: equal to the pooled computation. No epsilon covers it.",
    "private": "Differentially private: joint noise, paid for in every site's ledger.",
}


def shown(value: str | float | None) -> str:
    """Return a cell as text: numbers to four significant digits, whole ones as they are.

    Examples
    --------
    >>> [shown(each) for each in ("age", 12, 0.123456, 1234567.0, 1e-9, None)]
    ['age', '12', '0.1235', '1234567', '1e-09', '']
    """
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model says of itself. `str` gives aligned text; notebooks show tables. `mode`: None says nothing of it."""

    title: str
    mode: Mode | None
    tables: tuple[Table, ...]

    def __str__(self) -> str:
        """Return the tables as aligned text."""
        lines = [self.title, *([_COVERED[self.mode]] if self.mode is not None else [])]
        for table in self.tables:
            rows = [table.columns, *(tuple(shown(cell) for cell in row) for row in table.rows)]
            widths = [max(len(row[j]) for row in rows) for j in range(len(table.columns))]
            numeric = [all(not isinstance(row[j], str) for row in table.rows) for j in range(len(table.columns))]
            lines += ["", table.title]
            for row in rows:
                cells = (
                    cell.rjust(width) if number else cell.ljust(width)
                    for cell, width, number in zip(row, widths, numeric, strict=True)
                )
                lines.append("  ".join(cells).rstrip())
            if table.note:
                lines.append(table.note)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        covered = f"<p>{escape(_COVERED[self.mode])}</p>" if self.mode is not None else ""
        parts = [f"<h3>{escape(self.title)}</h3>{covered}"]
        for table in self.tables:
            head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(shown(cell))}</td>" for cell in row) + "</tr>" for row in table.rows
            )
            note = f"<p>{escape(table.note)}</p>" if table.note else ""
            parts.append(
                f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead>"
                f"<tbody>{body}</tbody></table>{note}"
            )
        return "".join(parts)
