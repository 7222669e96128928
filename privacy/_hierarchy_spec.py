"""What a schema says about how a column's values are generalised: a rule or a table, as a value.

The rules are carried out by `anonymise`; here they are only named, so that a schema stays one public document that is
written as TOML or JSON and hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

HierarchyKind = Literal["rows", "interval", "prefix", "date", "order", "redact", "age", "tree"]
Side = Literal["left", "right"]

# One level of the rule `order`: a number of consecutive groups, or (name, size or first value) of each group.
OrderGroup = tuple[str, int | str]
Step = float | str | tuple[float, ...] | tuple[OrderGroup, ...]

FIRST = "first"


@dataclass(frozen=True, slots=True)
class HierarchySpec:
    """How the values of a column are generalised: rows as ARX writes them, or a rule.

    rows         rows: (value, level 1, ..., level n), one tuple per value; tree: (child, parent)
    steps        one per level. interval: a width, or the inner cut points; prefix: characters kept; redact: characters
                 masked; date: "day", "week", "month", "quarter", "year", "decade", "century"; age: widths in years;
                 order: how many consecutive groups of the level below form one, or (name, size or first value) each
    bottom, top  interval, age: values below `bottom`, and from `top` on, are one value at every level
    origin       interval: where intervals are counted from; None: from the bottom code, or the lower bound
    at           age: the reference, an ISO day or the name of another date column
    oldest       age: the highest age there is, public
    side         redact: where masking begins
    align        redact: on which side shorter values stand; the other side is padded
    mask, pad    redact: the character that masks, and the one that fills up shorter values (None: the mask)
    preferred    tree: which parent counts where a child has several: pairs (child, parent), or "first" listed
    keep_levels  the lowest and the highest level that may be released, of all that the rule gives (0: values)
    """

    kind: HierarchyKind
    steps: tuple[Step, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    bottom: float | None = None
    top: float | None = None
    origin: float | None = None
    at: str = ""
    oldest: int = 120
    side: Side = "right"
    align: Side = "left"
    mask: str = "*"
    pad: str | None = None
    preferred: tuple[tuple[str, str], ...] | Literal["first"] = ()
    keep_levels: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain data; options that have their default are left out."""
        body = self.rows if self.kind in ("rows", "tree") else self.steps
        written = [_written(step) for step in body] if self.kind == "order" else [_plain(step) for step in body]
        out: dict[str, Any] = {self.kind: written}
        for name, default in OPTIONS.items():
            value = getattr(self, name)
            if value != default:
                out[name] = _plain(value)
        return out


OPTIONS: dict[str, Any] = {
    "bottom": None,
    "top": None,
    "origin": None,
    "at": "",
    "oldest": 120,
    "side": "right",
    "align": "left",
    "mask": "*",
    "pad": None,
    "preferred": (),
    "keep_levels": None,
}

# Which options each rule takes, beside keep_levels.
OPTIONS_OF: dict[str, frozenset[str]] = {
    "rows": frozenset(),
    "interval": frozenset({"bottom", "top", "origin"}),
    "prefix": frozenset(),
    "date": frozenset(),
    "order": frozenset(),
    "redact": frozenset({"side", "align", "mask", "pad"}),
    "age": frozenset({"at", "bottom", "top", "oldest"}),
    "tree": frozenset({"preferred"}),
}


def _written(level: Any) -> Any:
    """Return a level of the rule `order` without names where no group has one."""
    if isinstance(level, tuple) and not any(name for name, _ in level):
        return [size for _, size in level]
    return _plain(level)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
