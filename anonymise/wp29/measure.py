"""The door: from a raw and a released table to what attacks find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from anonymise.longitudinal import patient_codes
from anonymise.release import Result
from anonymise.wp29.attacks import infer, link_halves, match_register, single_out
from anonymise.wp29.cells import Cells, secret_of
from anonymise.wp29.results import Wp29Attack, Wp29Result
from privacy.schema import Column, Schema

Halves = tuple[Sequence[str], Sequence[str]]


def measure_wp29(
    raw: pd.DataFrame,
    released: Result | pd.DataFrame,
    schema: Schema,
    *,
    holdout: pd.DataFrame | None = None,
    known: Sequence[str] | None = None,
    secrets: Sequence[str] | None = None,
    halves: Halves | None = None,
    n_attacks: int = 2000,
    rng: np.random.Generator | None = None,
) -> Wp29Result:
    """Return how often attackers single out, link and infer with a release. INTERNAL: reads the raw rows.

    Parameters
    ----------
    raw
        The table that was released from, one row a patient.
    released
        What `anonymise` returned, or any table of generalised or unchanged values with the same column names.
    schema
        Roles and hierarchies of the columns.
    holdout
        People of the same population who are not in the table, raw: what an attacker reaches against them is no harm
        that the release did to anybody. Without them the reference is guessing.
    known
        Columns that the attacker knows of a person; the schema's quasi-identifiers by default.
    secrets
        Columns to infer; the schema's sensitive ones by default.
    halves
        Two disjoint lists of columns that two data sets hold; by default every other one of the known columns.
    n_attacks
        Tries of each attack; all rows where there are fewer.
    rng
        Which rows are tried.

    Raises
    ------
    ValueError
        A column that a table lacks, tables without rows, patients with several rows, or a released text that the
        schema's hierarchy does not explain.
    SchemaError
        A raw value outside of the schema.

    Examples
    --------
    >>> from anonymise import KAnonymity, anonymise
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [50]}},
    ...     "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC"]},
    ... }})
    >>> raw = pd.DataFrame({"age": range(20, 80), "genotype": ["HbSS", "HbSC"] * 30})
    >>> release = anonymise(raw, schema, models=[KAnonymity(10)])
    >>> found = measure_wp29(raw, release, schema)
    >>> [(attack.name, attack.success.value) for attack in found.of("singling out")]
    [('known columns', 0.0), ('all columns', 0.0)]
    >>> measure_wp29(raw, raw, schema).of("singling out")[0].success.value
    1.0
    """
    if n_attacks < 1:
        raise ValueError(f"n_attacks must be at least 1, got {n_attacks!r}")
    table = released.table if isinstance(released, Result) else released
    attacked = _attacked(schema, raw, table, holdout)
    names = tuple(column.name for column in attacked)
    chosen = _chosen("known", schema.quasi_identifiers if known is None else known, names)
    if not chosen:
        raise ValueError("known must list at least one column of the release (or the schema name quasi-identifiers)")
    listed = [name for name in schema.sensitive if name in names and name not in chosen] if secrets is None else secrets
    to_infer = _chosen("secrets", listed, names)
    first, second = (_chosen("halves", half, names) for half in (halves or (chosen[::2], chosen[1::2])))
    for what, overlap in (("secrets", set(to_infer) & set(chosen)), ("halves", set(first) & set(second))):
        if overlap:
            raise ValueError(f"{what} must not repeat {', '.join(map(repr, sorted(overlap)))}")
    rng = np.random.default_rng() if rng is None else rng
    cells = {column.name: _cells(column, table, raw, holdout) for column in attacked}
    of_known = [cells[name] for name in chosen]
    attacks: list[Wp29Attack] = [single_out(of_known, n_attacks=n_attacks, rng=rng)]
    if len(names) > len(chosen):
        attacks.append(single_out(list(cells.values()), beyond_known=True, n_attacks=n_attacks, rng=rng))
    if first and second:
        parts = ([cells[name] for name in half] for half in (first, second))
        attacks.append(link_halves(*parts, n_attacks=n_attacks, rng=rng))
    attacks.append(match_register(of_known, n_attacks=n_attacks, rng=rng))
    for name in to_infer:
        secret = secret_of(schema.column(name), table[name], raw[name], None if holdout is None else holdout[name])
        attacks.append(infer(of_known, secret, n_attacks=n_attacks, rng=rng))
    return Wp29Result(
        attacks=tuple(attacks),
        known=chosen,
        with_control=holdout is not None,
        not_attacked=tuple(str(name) for name in table.columns if str(name) not in names),
    )


def _attacked(
    schema: Schema, raw: pd.DataFrame, table: pd.DataFrame, holdout: pd.DataFrame | None
) -> tuple[Column, ...]:
    """Return the columns that raw and released table share; raise ValueError for tables that cannot be compared."""
    for what, frame in (("raw table", raw), ("release", table), ("holdout", holdout)):
        if frame is not None and not len(frame):
            raise ValueError(f"the {what} has no rows")
        if frame is not None and not frame.columns.is_unique:
            raise ValueError(f"the {what} has two columns of one name")
    patient = schema.patient_id
    if patient is not None and patient in raw.columns and int(patient_codes(raw[patient]).max()) + 1 < len(raw):
        raise ValueError(
            "patients have several rows: these attacks are defined for one row a patient; measure the first visits "
            "(first_visits), and what the number of visits tells by patient_class_sizes"
        )
    out = tuple(
        column
        for column in schema.columns
        if column.role != "identifier" and column.name in table.columns and column.name in raw.columns
    )
    if holdout is not None:
        for column in out:
            if column.name not in holdout.columns:
                raise ValueError(f"the holdout lacks column {column.name!r}")
    return out


def _cells(column: Column, table: pd.DataFrame, raw: pd.DataFrame, holdout: pd.DataFrame | None) -> Cells:
    name = column.name
    # What is no quasi-identifier leaves as it is, and its very value isolates, not the bin that it lies in.
    make = partial(Cells.generalised, column) if column.role == "quasi-identifier" else partial(Cells.exact, name)
    return make(table[name], raw[name], None if holdout is None else holdout[name])


def _chosen(argument: str, wanted: Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(wanted, str):
        raise ValueError(f"{argument} must be a list of columns")
    for name in wanted:
        if name not in names:
            raise ValueError(f"{argument}: column {name!r} is not in the schema, or not in both tables")
    if len(set(wanted)) < len(tuple(wanted)):
        raise ValueError(f"{argument} must list each column once")
    return tuple(wanted)
