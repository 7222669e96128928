"""The best generalisation of a table that is read in parts: counted first, recoded later, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._checks import check_suppression_limit
from anonymise._domains import is_age, reference_day
from anonymise._free_text import free_text_problems
from anonymise.checking import Checker
from anonymise.classes import Attribute, AttributeName, Classes
from anonymise.encoded import Codes, Keys, Node, dense_key, squeeze
from anonymise.errors import NotAnonymisable, TableChanged
from anonymise.hierarchies import Hierarchy, build_hierarchies, build_hierarchy
from anonymise.large.counting import TupleCounter, column_codes, counted_attribute, counted_tuples
from anonymise.large.sources import chunks, counted
from anonymise.lattice import search
from anonymise.loss import METRICS
from anonymise.models import AnyModel, Model
from anonymise.models.checks import check_kinds, check_models
from anonymise.preparing import check_columns, sensitive_columns
from anonymise.recoding import labelled, passed_on
from privacy.errors import SchemaError, SchemaProblem
from privacy.randomness import Rng, SecureRng
from privacy.schema import Column, Schema


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """How a large table is to be released. Only `node` and what `release` yields are meant to leave the site.

    node         level of each quasi-identifier, in the schema's order
    score        loss of the release in [0, 1]; it and `suppressed` depend on exact counts and stay inside
    suppressed   patients who are left out
    n_rows       rows that were counted
    n_checked    combinations of levels whose classes were counted
    """

    schema: Schema
    models: tuple[AnyModel, ...]
    node: Mapping[str, int]
    score: float
    suppressed: int
    n_rows: int
    n_checked: int
    _hierarchies: tuple[Hierarchy, ...] = field(repr=False)
    _failing: Codes = field(repr=False)
    _attributes: Mapping[AttributeName, Attribute] = field(repr=False)

    def __repr__(self) -> str:
        """Name the node only: counts are the patients'."""
        return f"Plan(node={dict(self.node)!r})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are released, in the schema's order."""
        return tuple(column.name for column in self.schema.columns if column.role != "identifier")

    def release(self, source: Any, *, rng: Rng | None = None) -> Iterator[pd.DataFrame]:
        """Yield the released rows of a table, part by part, each part in random order under a fresh index.

        Rows of a part of the table stay together, which tells an outsider who knows the parts of whom a row may be:
        shuffle them all before they leave, as `release_to_csv` does. After the last part, everything yielded is
        checked against the models; raises TableChanged if it does not hold, or if another number of rows came.
        """
        rng = SecureRng() if rng is None else rng
        node = tuple(self.node.values())
        sensitive = {name: attribute.hierarchies for name, attribute in self._attributes.items()}
        further = _further(sensitive)
        quasi = [hierarchy.n_groups(level) for hierarchy, level in zip(self._hierarchies, node, strict=True)]
        tally = TupleCounter([*quasi, *(hierarchy.n_leaves for hierarchy in further)])
        n_seen = 0
        for frame in chunks(source, self.columns):
            n_seen += len(frame)
            told = self.schema.subset(self.columns)
            check_columns(frame, told)
            free_text = free_text_problems(frame, told)
            if free_text:
                raise SchemaError(free_text)
            groups = [
                hierarchy.codes[level].astype(np.min_scalar_type(-hierarchy.n_groups(level)))[codes]
                for hierarchy, level, codes in zip(
                    self._hierarchies, node, column_codes(frame, self._hierarchies), strict=True
                )
            ]
            kept = np.flatnonzero(~self._fails(groups, quasi))
            order = kept[rng.permutation(kept.size)]
            values = [codes[order] for codes in column_codes(frame, further)]
            tally.add([*(codes[order] for codes in groups), *values], np.ones(order.size, dtype=np.int64))
            yield self._labelled(frame, groups, order, node)
        if n_seen != self.n_rows or not self._holds(tally, sensitive, [h.name for h in further]):
            raise TableChanged

    def _fails(self, groups: Sequence[Keys], sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
        n_failing = self._failing.shape[1]
        both = [np.concatenate([known, codes]) for known, codes in zip(self._failing, groups, strict=True)]
        key, size = squeeze(*dense_key(both, sizes))
        marks = np.zeros(size, dtype=np.bool_)
        marks[key[:n_failing]] = True
        return np.asarray(marks[key[n_failing:]])

    def _labelled(
        self, frame: pd.DataFrame, groups: Sequence[Keys], order: npt.NDArray[np.int64], node: Node
    ) -> pd.DataFrame:
        labels = {
            hierarchy.name: labelled(hierarchy.labels[level], codes[order])
            for hierarchy, level, codes in zip(self._hierarchies, node, groups, strict=True)
        }
        out = {
            name: labels[name] if name in labels else _alike(self.schema.column(name), passed_on(frame[name], order))
            for name in self.columns
        }
        return pd.DataFrame(out, index=pd.RangeIndex(order.size))

    def _holds(
        self, tally: TupleCounter, sensitive: Mapping[AttributeName, Sequence[Hierarchy]], further: Sequence[str]
    ) -> bool:
        """Return whether all models hold of what was released, counted anew."""
        if not tally.counts.size:
            return False
        n_quasi = len(self._hierarchies)
        quasi = [h.n_groups(level) for h, level in zip(self._hierarchies, self.node.values(), strict=True)]
        place, n_classes = squeeze(*dense_key(list(tally.codes[:n_quasi]), quasi))
        sizes = np.bincount(place, weights=tally.counts.astype(np.float64), minlength=n_classes).astype(np.int64)
        again = {}
        for name, hierarchies in sensitive.items():
            codes = [tally.codes[n_quasi + further.index(h.name)] for h in hierarchies]
            known = self._attributes[name].overall
            again[name] = counted_attribute(name, hierarchies, place, codes, tally.counts, overall=known)
        classes = Classes(
            sizes=sizes, n_rows=self.n_rows, attributes=again, places=np.arange(n_classes, dtype=np.int64)
        )
        return all(
            not model.class_fails(classes).any() if isinstance(model, Model) else model.satisfied(sizes)
            for model in self.models
        )


def plan_release(source: Any, schema: Schema, *, models: Sequence[AnyModel], suppression_limit: float = 0.0) -> Plan:
    """Return how to release a table of least loss that satisfies all models, among all full-domain generalisations.

    Parameters
    ----------
    source
        The table: a `SqlTable`; a frame of pandas or, with narwhals, of another library; a lazy frame, whose engine
        counts; or an iterable of frames that can be read again. One row a patient.
    schema, models, suppression_limit
        As for `anonymise`. Models that compare with a population, wildcards, missing = "suppress", rules between
        columns and ages at another column need the table in memory.

    Raises
    ------
    SchemaError, HierarchyError, NotAnonymisable
        As `anonymise`. Columns that are neither quasi-identifiers nor looked at by a model are checked when they are
        released.
    """
    check_suppression_limit(suppression_limit)
    check_kinds(models)
    _check_supported(schema, models)
    hierarchies = build_hierarchies(schema.column(name) for name in schema.quasi_identifiers)
    sensitive = {
        name: [build_hierarchy(schema.column(column)) for column in columns]
        for name, columns in sensitive_columns(schema, models).items()
    }
    known = [*hierarchies, *_further(sensitive)]
    names = [hierarchy.name for hierarchy in known]
    counter = TupleCounter([hierarchy.n_leaves for hierarchy in known])
    for frame, counts in counted(source, names):
        check_columns(frame, schema.subset(names))
        counter.add(column_codes(frame, known), counts)
    encoded = counted_tuples(counter, hierarchies, sensitive, names)
    n_rows = encoded.n_rows
    if n_rows < max(model.least_rows for model in models):
        raise NotAnonymisable(
            rule="the table has fewer patients than the models' smallest class",
            way_out="pool it with other sites, or do not release it",
        )
    check_models(models, encoded)
    limit = min(int(Fraction(repr(float(suppression_limit))) * n_rows), n_rows - 1)
    optimum = search(encoded, METRICS["loss"](hierarchies), models, max_suppressed=limit)
    if optimum is None:
        raise NotAnonymisable(
            rule="no combination of levels satisfies the models within the suppression limit",
            way_out="let the hierarchies end in one group (*), raise suppression_limit, or relax the models",
        )
    failing = np.flatnonzero(Checker(encoded, models).failing(optimum.node))
    return Plan(
        schema=schema,
        models=tuple(models),
        node=MappingProxyType(dict(zip(schema.quasi_identifiers, optimum.node, strict=True))),
        score=optimum.score,
        suppressed=optimum.n_suppressed,
        n_rows=n_rows,
        n_checked=optimum.n_checked,
        _hierarchies=tuple(hierarchies),
        _failing=_failing_groups(encoded.leaves[:, failing], hierarchies, optimum.node),
        _attributes=encoded.attributes,
    )


def _alike(column: Column, values: Any) -> Any:
    """Return the values of a part in the form that they have in every part.

    A missing value turns the integers of its part into floats: "1.0" in a file would say which rows were in one part.
    """
    if not pd.api.types.is_any_real_numeric_dtype(values.dtype):
        return values
    numbers = pd.array(values).astype("Float64")
    # Categories may be numbers with a fraction.
    has_fractions = column.kind == "continuous" or any("." in text for text in column.categories)
    return numbers if has_fractions else numbers.astype("Int64")


def _failing_groups(leaves: Codes, hierarchies: Sequence[Hierarchy], node: Node) -> Codes:
    """Return the generalised tuples of the suppressed classes, each once, shape (n_columns, n_failing)."""
    groups = np.stack(
        [h.codes[level][codes] for h, level, codes in zip(hierarchies, node, leaves, strict=True)]
    ).astype(np.int32)
    return np.ascontiguousarray(np.unique(groups, axis=1))


def _further(sensitive: Mapping[AttributeName, Sequence[Hierarchy]]) -> list[Hierarchy]:
    """Return the hierarchies of the columns that models look at besides the quasi-identifiers, each once."""
    out = {part.name: part for parts in sensitive.values() for part in parts}
    return list(out.values())


def _check_supported(schema: Schema, models: Sequence[AnyModel]) -> None:
    problems = []
    if not schema.quasi_identifiers:
        problems.append(
            SchemaProblem("-", "no column is a quasi-identifier", 'give at least one the role "quasi-identifier"')
        )
    if schema.rules:
        problems.append(SchemaProblem("-", "rules between columns need the table in memory", "use anonymise()"))
    if schema.patient_id is not None:
        problems.append(
            SchemaProblem(
                schema.patient_id,
                "tables of several rows a patient need to be in memory",
                "bring the table to one row a patient and leave patient_id out of its schema",
            )
        )
    problems += [
        SchemaProblem(column.name, f"missing = {column.missing!r} needs the table in memory", "use anonymise()")
        for column in schema.columns
        if column.missing in ("wildcard", "suppress")
    ]
    problems += [
        SchemaProblem(column.name, "an age at another column needs the table in memory", "use anonymise()")
        for column in schema.columns
        if column.role == "quasi-identifier" and is_age(column) and reference_day(column) is None
    ]
    if problems:
        raise SchemaError(problems)
    if any(isinstance(model, Model) and model.needs_population for model in models):
        raise NotAnonymisable(
            rule="models that compare with a population need the table in memory", way_out="use anonymise()"
        )
