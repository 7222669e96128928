"""Levels from a table: rows as ARX writes them, or a tree given by each node's parent.

rows   (value, level 1, ..., level n); may list more values than the schema, all of which are leaves
tree   (child, parent); a root has no parent. The column's values are nodes, at any depth: an ICD-10 column may hold
       "C92" beside "C92.0". A level is a depth: a node stands at its ancestor of that depth, or at itself where it is
       not deeper. Classifications in which a node has several parents (ORPHA) become a tree by preferred parents.
"""

from __future__ import annotations

from anonymise._domains import hierarchy_errors, named
from privacy.schema import Column, HierarchySpec

Levels = list[list[str]]
Problems = list[tuple[str, str]]


def row_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> tuple[Levels, list[int]]:
    """Return the label of each row's value at each level, and the row of each domain value."""
    rows = spec.rows
    problems: Problems = []
    if not rows or len(rows[0]) < 2:
        problems.append(("a hierarchy of rows needs a value and at least one level", "write value;level 1;...;*"))
        raise hierarchy_errors(column, problems)
    short = [(*row, "")[0] for row in rows if len(row) != len(rows[0])]
    if short:
        what = "the row of" if len(short) == 1 else f"{len(short)} rows:"
        verb = "has" if len(short) == 1 else "have"
        problems.append((f"{what} {named(short)} {verb} another number of levels", "give every row all levels"))
    leaf_of: dict[str, int] = {}
    twice: dict[str, None] = {}
    for leaf, row in enumerate(rows):
        value = (*row, "")[0]
        if value in leaf_of:
            twice[value] = None
        leaf_of.setdefault(value, leaf)
    if twice:
        problems.append((f"the hierarchy lists {named(list(twice))} twice", "list each value once"))
    lost = [label for label in domain if label not in leaf_of]
    if lost:
        rule = f"the hierarchy has no row for {len(lost)} value(s) of the schema: {named(lost)}"
        problems.append((rule, "add a row for each"))
    if problems:
        raise hierarchy_errors(column, problems)
    levels = [[row[level] for row in rows] for level in range(len(rows[0]))]
    return levels, [leaf_of[label] for label in domain]


def tree_levels(column: Column, spec: HierarchySpec, domain: list[str]) -> Levels:
    """Return the ancestor of each domain value at each depth, from the deepest but one up to the roots."""
    problems: Problems = []
    parent = _parents(spec, problems)
    lost = [label for label in domain if label not in parent]
    if lost and parent:
        problems.append((f"the tree lacks {len(lost)} value(s) of the schema: {named(lost)}", "add a row for each"))
    if problems:
        raise hierarchy_errors(column, problems)
    # From the root to the value.
    paths = []
    for label in domain:
        path = [label]
        while parent[path[-1]]:
            path.append(parent[path[-1]])
        paths.append(path[::-1])
    deepest = max(len(path) for path in paths)
    levels = [[path[min(depth, len(path)) - 1] for path in paths] for depth in range(deepest - 1, 0, -1)]
    # One root for all is the level "*", which every rule ends in.
    while levels and len(set(levels[-1])) == 1:
        levels.pop()
    return levels


def _parents(spec: HierarchySpec, problems: Problems) -> dict[str, str]:
    """Return the one parent of each node, "" for a root; a node in a cycle is left without one, and reported."""
    several: dict[str, dict[str, None]] = {}
    wrong = [row for row in spec.rows if len(row) not in (1, 2) or not row[0]]
    if wrong or not spec.rows:
        named_rows = named([";".join(row) for row in wrong])
        problems.append(
            (f"rows of a tree are child;parent, not {named_rows or 'none'}", "write C92.0;C92, and C92; for a root")
        )
        return {}
    for row in spec.rows:
        several.setdefault(row[0], {})[(*row, "")[1]] = None
    orphans = dict.fromkeys(p for parents in several.values() for p in parents if p and p not in several)
    if orphans:
        rule = f"the tree lacks the parent(s) {named(list(orphans))}"
        problems.append((rule, f"add a row for each; a root has no parent: '{next(iter(orphans))};'"))
    preferred = {} if spec.preferred == "first" else dict(spec.preferred)
    no_edge = [f"{child};{parent}" for child, parent in preferred.items() if parent not in several.get(child, {})]
    if no_edge:
        problems.append((f"preferred names {named(no_edge)}, which is no row of the tree", "correct it"))
    unclear = [
        child
        for child, parents in several.items()
        if len(parents) > 1 and child not in preferred and spec.preferred != "first"
    ]
    if unclear:
        rule = f"{len(unclear)} node(s) have several parents: {named(unclear)}"
        problems.append((rule, 'name the one that counts: preferred = [["child", "parent"]], or "first"'))
    parent = {child: preferred.get(child, next(iter(parents))) for child, parents in several.items()}
    cycle = _in_cycles(parent)
    if cycle:
        problems.append((f"the tree runs in a circle through {named(cycle)}", "take a parent out"))
    return {child: "" if child in set(cycle) else up for child, up in parent.items()}


def _in_cycles(parent: dict[str, str]) -> list[str]:
    """Return the nodes from which no root is reached, other than through a missing parent; those on the circles."""
    found: dict[str, None] = {}
    done: set[str] = {""}
    for node in parent:
        path: dict[str, None] = {}
        at = node
        while at not in done and at not in path:
            path[at] = None
            at = parent.get(at, "")
        if at in path:
            listed = list(path)
            found.update(dict.fromkeys(listed[listed.index(at) :]))
        done.update(path)
    return list(found)
