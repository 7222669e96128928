"""Reading the schema's rules from parsed TOML. Problems name what the schema says; no table is at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from privacy._columns import Column
from privacy._rules import AnyRule, Determines, MissingTogether, OnlyIf, Order, Rule

Bad = Callable[[str, str, str], bool]

_EXAMPLE = (
    'write one of forbid = { column = "value", ... }, determines = ["hospital", "region"], '
    'column = "..." with only_if = { ... }, missing_together = ["...", "..."], order = ["...", "..."]'
)
_FORMS = {
    "forbid": {"forbid"},
    "determines": {"determines", "map", "level"},
    "only_if": {"column", "only_if", "always"},
    "missing_together": {"missing_together"},
    "order": {"order", "strict"},
}


class _Refused(Exception):
    """A rule cannot be read further; carries column, rule and way out to the one place that reports them."""


class RulesReader:
    """Turns each parsed rule into a value, and reports what is wrong with it through `bad`."""

    def __init__(self, columns: Mapping[str, Column], bad: Bad) -> None:
        self.columns = columns
        self.bad = bad

    def rules(self, values: Any) -> tuple[AnyRule, ...]:
        if not isinstance(values, list | tuple):
            self.bad("-", "rules must be sections [[rules]]", _EXAMPLE)
            return ()
        found = tuple(rule for value in values if (rule := self.rule(value)) is not None)
        self.no_cycle([rule for rule in found if isinstance(rule, Order)])
        return found

    def rule(self, value: Any) -> AnyRule | None:
        forms = [form for form in _FORMS if isinstance(value, Mapping) and form in value]
        if len(forms) != 1 or set(value) - _FORMS[forms[0]]:
            self.bad("-", "a rule has one known form (forbid = { column = value, ... }, or another)", _EXAMPLE)
            return None
        try:
            rule: AnyRule | None = getattr(self, forms[0])(value)
        except _Refused as refusal:
            self.bad(*refusal.args)
            return None
        return rule

    def forbid(self, value: Mapping[str, Any]) -> Rule | None:
        parts = value["forbid"]
        if not isinstance(parts, Mapping) or not parts or [] in parts.values():
            self.bad("-", "a rule needs forbid = { column = value, ... }", "see the README for an example")
            return None
        pairs = tuple(
            (str(name), str(label))
            for name, labels in parts.items()
            for label in (labels if isinstance(labels, list) else [labels])
        )
        good = [self.label(name, label) for name, label in pairs]
        return Rule(forbid=pairs) if all(good) else None

    def determines(self, value: Mapping[str, Any]) -> Determines | None:
        names = self.names(value["determines"], "determines", exactly=2)
        if names is None or not all(self.coded(name) for name in names):
            return None
        source, target = names
        pairs = self.pairs(value, source)
        if pairs is None:
            return None
        good = [self.label(target, right) for right in dict.fromkeys(pairs.values())]
        if set(pairs) != set(replace(self.columns[source], nullable=False).labels()):
            raise _Refused(source, "a rule's map must name each of its values once", "complete the map")
        return Determines(source, target, tuple(pairs.items())) if all(good) else None

    def pairs(self, value: Mapping[str, Any], source: str) -> dict[str, str] | None:
        given, level = value.get("map"), value.get("level")
        if isinstance(given, Mapping) and level is None:
            return {str(left): str(right) for left, right in given.items()}
        spec = self.columns[source].hierarchy
        if given is None and isinstance(level, int) and not isinstance(level, bool) and spec and spec.kind == "rows":
            if all(1 <= level < len(row) for row in spec.rows):
                known = set(self.columns[source].categories)
                return {row[0]: row[level] for row in spec.rows if row[0] in known}
            raise _Refused(source, "its hierarchy has no such level for each value", "correct level, or the rows")
        raise _Refused(
            source, "a rule says how it determines another column", "give map = { value = value, ... }, or level = 1"
        )

    def only_if(self, value: Mapping[str, Any]) -> OnlyIf | None:
        name, condition, always = value.get("column"), value["only_if"], value.get("always", False)
        if not isinstance(condition, Mapping) or not condition or not isinstance(always, bool):
            raise _Refused("-", "only_if needs { column = value, ... }, always true or false", _EXAMPLE)
        good = [self.label(str(other), str(label)) for other, label in condition.items()]
        if name in condition:
            raise _Refused(str(name), "a rule's condition speaks of another column", "take it out of only_if")
        if not self.nullable(str(name)) or not all(good):
            return None
        return OnlyIf(str(name), tuple((str(other), str(label)) for other, label in condition.items()), always)

    def missing_together(self, value: Mapping[str, Any]) -> MissingTogether | None:
        names = self.names(value["missing_together"], "missing_together")
        return MissingTogether(names) if names and all(self.nullable(name) for name in names) else None

    def order(self, value: Mapping[str, Any]) -> Order | None:
        names, strict = self.names(value["order"], "order"), value.get("strict", False)
        if names is None:
            return None
        if not isinstance(strict, bool) or (strict and len(names) != 2):
            raise _Refused("-", "strict is true or false, and for orders of two columns", "split the order in pairs")
        unfit = [name for name in names if name not in self.columns or not self.columns[name].is_binned]
        for name in unfit:
            self.bad(name, "an order compares numbers or dates with public bounds", "name such columns")
        if unfit:
            return None
        units = {(c.kind, c.decimals, c.resolution) for c in (self.columns[name] for name in names)}
        if len(units) > 1:
            raise _Refused(
                names[0], "an order compares values of one unit", "give its columns the same kind and decimals"
            )
        return Order(names, strict)

    def no_cycle(self, orders: list[Order]) -> None:
        later = {pair for rule in orders for pair in rule.pairs}
        while True:
            new = {(a, d) for a, b in later for c, d in later if b == c} - later
            if not new:
                break
            later |= new
        for name in sorted({a for a, b in later if a == b}):
            self.bad(name, "comes before itself by the rules of order", "take one of these rules out")

    def names(self, value: Any, what: str, *, exactly: int | None = None) -> tuple[str, ...] | None:
        good = isinstance(value, list | tuple) and len(value) >= 2 and len(set(map(str, value))) == len(value)
        if not good or (exactly is not None and len(value) != exactly):
            raise _Refused("-", f"{what} names {exactly or 'at least two'} different columns", _EXAMPLE)
        return tuple(str(name) for name in value)

    def coded(self, name: str) -> bool:
        return (name in self.columns and self.columns[name].is_coded) or self.bad(
            name, "a rule names an unknown column or value", "use a column's public labels"
        )

    def label(self, name: str, label: str) -> bool:
        try:
            known = name in self.columns and self.columns[name].is_coded
            return (known and bool(self.columns[name].codes_of(label).any())) or self.unknown(name)
        except KeyError:
            return self.unknown(name)

    def unknown(self, name: str) -> bool:
        return self.bad(name, "a rule names an unknown column or value", "use a column's public labels")

    def nullable(self, name: str) -> bool:
        return (self.coded(name) and self.columns[name].nullable) or self.bad(
            name, "a rule on missing values needs a coded column that is nullable", "set nullable = true"
        )
