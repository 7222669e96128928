"""The schema's rules in the codes that generators model: combinations that cannot occur, and what is modelled together.

A combination is impossible if everything that it could mean breaks a rule: every leaf of a group, every pair of values
in a pair of bins. It becomes a structural zero, probability exactly zero, of a clique that is always in the model.
Where only some of what a combination means breaks a rule, it stays possible, and decoding draws values that obey.

Zeros are kept in the model as long as their clique has at most `RULE_CELLS` cells and the junction tree of all that is
always modelled at most `KNOWN_CELLS`; any other rule is kept by drawing rows that break it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.forest import Components, Edge, Forest
from generators.junction_tree import CliqueGraph, in_domain_order
from generators.marginals import Codes
from generators.ordering import Orders
from privacy import Schema
from privacy.schema import Impossible, Order

BoolArray = npt.NDArray[np.bool_]

# 65,536 cells: a pair of columns of 256 codes, or a thousand diagnoses in sixty regions.
RULE_CELLS = 1 << 16

# 1,048,576 cells (8 MB of probabilities) for everything that the model must hold before it looks at any count.
KNOWN_CELLS = 1 << 20

# The cells of a rule on leaves before they are joined to groups: 16 MB.
_LEAF_CELLS = 1 << 24


class CodeRule(Protocol):
    """A rule in codes: its columns in the domain's order, and which rows break it."""

    @property
    def columns(self) -> Clique:
        """The columns that the rule speaks of."""
        ...

    def broken_by(self, codes: Codes, domain: Domain) -> BoolArray:
        """Return which rows break the rule, shape (n_rows,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ImpossibleCells:
    """A rule as the cells of its columns' marginal that cannot occur; shape the columns' numbers of codes."""

    columns: Clique
    cells: BoolArray

    def broken_by(self, codes: Codes, domain: Domain) -> BoolArray:
        """Return which rows break the rule, shape (n_rows,)."""
        hit: BoolArray = self.cells[tuple(codes[:, domain.position(name)] for name in self.columns)]
        return hit


@dataclass(frozen=True, slots=True, eq=False)
class ImpossibleSets:
    """A rule on a marginal that is too large to list: no row has, in each column, a code of that column's set."""

    columns: Clique
    sets: tuple[BoolArray, ...]

    def broken_by(self, codes: Codes, domain: Domain) -> BoolArray:
        """Return which rows break the rule, shape (n_rows,)."""
        hit = np.ones(len(codes), dtype=bool)
        for name, members in zip(self.columns, self.sets, strict=True):
            hit &= members[codes[:, domain.position(name)]]
        return hit


@dataclass(frozen=True, slots=True)
class ImpossibleOrder:
    """All orders of the schema at once: bins that fit each other pair by pair may still hold no values in order."""

    columns: Clique
    orders: Orders = field(repr=False)

    def broken_by(self, codes: Codes, domain: Domain) -> BoolArray:
        """Return which rows break the rule, shape (n_rows,)."""
        return self.orders.infeasible({name: codes[:, domain.position(name)] for name in self.columns})


def forbidden_codes(schema: Schema) -> tuple[CodeRule, ...]:
    """Return everything that codes cannot be, by the schema's rules, patterns of missing values and horizon."""
    domain = Domain.from_schema(schema)
    orders = Orders.of(schema)
    rules: list[CodeRule] = [*_survival_rules(schema, domain), *_pattern_rules(schema, domain)]
    for rule in schema.rules:
        if isinstance(rule, Order):
            rules.extend(_pair(pair, domain, orders.impossible(*pair, strict=rule.strict)) for pair in rule.pairs)
        else:
            rules.extend(
                _in_groups(rule.impossible({column.name: column for column in schema.columns}), schema, domain)
            )
    if len(orders.columns) > 2:
        rules.append(ImpossibleOrder(in_domain_order(orders.columns, domain), orders))
    return tuple(rules)


def structural_zeros(schema: Schema) -> dict[Clique, BoolArray]:
    """Return where marginals must be zero: clique, in the domain's order -> True where a combination is impossible.

    Its cliques lie in `known_cliques`, or are single columns. Rules on larger cliques are kept by `any_broken`.

    Examples
    --------
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "pregnant": {"categories": ["no", "yes"]}},
    ...     "rules": [{"forbid": {"sex": "M", "pregnant": "yes"}}],
    ... })
    >>> structural_zeros(schema)
    {('sex', 'pregnant'): array([[False, False],
           [False,  True]])}
    """
    known = [set(clique) for clique in known_cliques(schema)]
    out: dict[Clique, BoolArray] = {}
    for rule in forbidden_codes(schema):
        if isinstance(rule, ImpossibleCells) and (
            len(rule.columns) == 1 or any(set(rule.columns) <= clique for clique in known)
        ):
            out[rule.columns] = out[rule.columns] | rule.cells if rule.columns in out else rule.cells
    return out


def known_cliques(schema: Schema) -> tuple[Clique, ...]:
    """Return what is modelled together whatever the counts are, none within another, columns in the domain's order.

    First survival time, event and strata; then patterns of missing values with their columns; then the rules' columns.
    What would make the model too large (`RULE_CELLS`, `KNOWN_CELLS`) is left out.

    Examples
    --------
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]},
    ...                 "time": {"kind": "integer", "bounds": [0, 4000], "edges": [365, 1825]}},
    ...     "survival": {"time": "time", "event": "event", "strata": ["sex"]},
    ... })
    >>> known_cliques(schema)
    (('sex', 'event', 'time'),)
    """
    domain = Domain.from_schema(schema)
    graph = CliqueGraph(domain)
    kept: list[Clique] = []
    for clique in _wanted(schema, domain):
        fits = domain.cells(clique) <= RULE_CELLS and graph.cells_with(clique) <= max(KNOWN_CELLS, graph.cells)
        if len(clique) > 1 and fits:
            graph.join(clique)
            kept.append(clique)
    largest = [clique for clique in kept if not any(set(clique) < set(other) for other in kept)]
    return tuple(dict.fromkeys(largest))


def known_edges(schema: Schema) -> tuple[Edge, ...]:
    """Return pairs that public knowledge joins, without cycles: what a forest can hold of `known_cliques`.

    Survival time and event come first, then patterns of missing values, rules on two columns, strata with the time.

    Examples
    --------
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "pregnant": {"categories": ["no", "yes"]}},
    ...     "rules": [{"forbid": {"sex": "M", "pregnant": "yes"}}],
    ... })
    >>> known_edges(schema)
    (('sex', 'pregnant'),)
    """
    domain = Domain.from_schema(schema)
    pairs: list[Clique] = [rule.columns for rule in forbidden_codes(schema) if len(rule.columns) == 2]
    survival = schema.survival
    if survival is not None and {survival.time, survival.event} <= set(domain):
        pairs.insert(0, in_domain_order((survival.time, survival.event), domain))
        pairs.extend(in_domain_order((survival.time, name), domain) for name in survival.strata)
    components = Components(domain.columns)
    return tuple(
        (pair[0], pair[1])
        for pair in dict.fromkeys(pairs)
        if domain.cells(pair) <= RULE_CELLS and components.join(pair[0], pair[1])
    )


def forest_zeros(zeros: Mapping[Clique, BoolArray], forest: Forest) -> dict[Clique, BoolArray]:
    """Return the zeros that a forest can hold: of single columns and of its edges."""
    joined = {frozenset(edge) for edge in forest.edges}
    return {clique: cells for clique, cells in zeros.items() if len(clique) == 1 or frozenset(clique) in joined}


def any_broken(rules: Iterable[CodeRule], codes: Codes, domain: Domain) -> BoolArray:
    """Return which rows break some rule, shape (n_rows,)."""
    hit = np.zeros(len(codes), dtype=bool)
    for rule in rules:
        hit |= rule.broken_by(codes, domain)
    return hit


def _wanted(schema: Schema, domain: Domain) -> Iterator[Clique]:
    survival = schema.survival
    if survival is not None and {survival.time, survival.event} <= set(domain):
        strata = tuple(name for name in survival.strata if name in domain)
        yield in_domain_order((survival.time, survival.event), domain)
        whole = in_domain_order((survival.time, survival.event, *strata), domain)
        yield whole
        if domain.cells(whole) > RULE_CELLS:
            yield from (in_domain_order((survival.time, survival.event, name), domain) for name in strata)
    yield from (rule.columns for rule in forbidden_codes(schema) if isinstance(rule, ImpossibleCells))


def _pair(pair: tuple[str, str], domain: Domain, cells: BoolArray) -> ImpossibleCells:
    columns = in_domain_order(pair, domain)
    return ImpossibleCells(columns, cells if columns == pair else cells.T)


def _survival_rules(schema: Schema, domain: Domain) -> Iterator[CodeRule]:
    survival = schema.survival
    if survival is None or survival.horizon is None or not {survival.time, survival.event} <= set(domain):
        return
    time, event = schema.column(survival.time), schema.column(survival.event)
    at_end = np.arange(time.n_codes) == len(time.edges)
    happened = ~(event.codes_of("0") | (event.codes_of("missing") if event.nullable else False))
    yield _pair((time.name, event.name), domain, np.outer(at_end, happened))


def _pattern_rules(schema: Schema, domain: Domain) -> Iterator[CodeRule]:
    for pattern in schema.derived:
        for bit, name in enumerate(pattern.missing_of):
            missing = domain[name] - 1
            in_pattern = (np.arange(pattern.n_codes) >> bit & 1).astype(bool)
            in_column = np.arange(domain[name]) == missing
            yield _pair((name, pattern.name), domain, in_column[:, None] != in_pattern[None, :])


def _in_groups(parts: tuple[Impossible, ...], schema: Schema, domain: Domain) -> Iterator[CodeRule]:
    """Yield the rules of one source, in the codes of the model: parts on the same columns are joined."""
    for columns in dict.fromkeys(part.columns for part in parts):
        same = [part.sets for part in parts if part.columns == columns]
        clique = in_domain_order(columns, domain)
        place = [columns.index(name) for name in clique]
        groups = [schema.column(name).model_codes() for name in clique]
        sets = [tuple(part[i] for i in place) for part in same]
        if domain.cells(clique) <= RULE_CELLS and math.prod(len(codes) for codes in groups) <= _LEAF_CELLS:
            leaves: Any = np.zeros([len(codes) for codes in groups], dtype=bool)
            for part in sets:
                leaves |= reduce(np.logical_and.outer, part)
            yield ImpossibleCells(clique, _all_leaves(leaves, groups, domain.sizes(clique)))
        else:
            for part in sets:
                whole = tuple(
                    _all_leaves(members, [codes], (domain[name],))
                    for members, codes, name in zip(part, groups, clique, strict=True)
                )
                yield ImpossibleSets(clique, whole)


def _all_leaves(leaves: BoolArray, groups: list[npt.NDArray[np.int64]], sizes: tuple[int, ...]) -> BoolArray:
    """Return where all leaves of a combination of groups are True, shape `sizes`."""
    out = leaves
    for axis, (codes, size) in enumerate(zip(groups, sizes, strict=True)):
        if len(codes) == size:
            continue
        joined = np.ones((size, *np.moveaxis(out, axis, 0).shape[1:]), dtype=bool)
        np.logical_and.at(joined, codes, np.moveaxis(out, axis, 0))
        out = np.moveaxis(joined, 0, axis)
    return out
