"""Counting marginals of a table of codes: mixed-radix indices, a block of rows at a time, one pass for many cliques.

Very many pairs of small columns in few rows are counted by one matrix product instead (`indicators`).

codes      integers of shape (n_rows, n_columns), columns in the domain's order, values in [0, n_codes); the smaller
           the type, and the closer together the values of one column, the faster
pass       one counting of all rows: the joint counts of some columns, from which the marginals of several cliques are
           summed. Four pairs that one pass over four columns answers cost half of four passes
left, right
           the two parts of a pass's columns; its index is left * cells(right) + right, and consecutive passes with
           the same left part share that part's index
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.errors import DomainMismatch, MarginalTooLarge
from generators.indicators import count_by_product, product_pays

Codes = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

# 2^18 rows: the index (2 MB as intp) stays in the second-level cache, and adding up the blocks' counts costs little.
_BLOCK_ROWS = 1 << 18

# 2^26 cells are 512 MB of counts.
MAX_CELLS = 1 << 26

# A pass for several cliques has at most so many cells: twice as many rows a second are counted into 2^14 cells as
# into 2^18, and beyond, the second-level cache is full and the gain is lost.
_PASS_CELLS = 1 << 18
_FAST_CELLS = 1 << 14

# Passes are counted together up to so many cells (16 MB).
_BATCH_CELLS = 1 << 21


def count_marginal(codes: Codes | Sequence[Codes], domain: Domain, columns: Sequence[str]) -> Counts:
    """Return how many rows have each combination of codes (`count_marginals` of one clique).

    Examples
    --------
    >>> codes = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.uint8)
    >>> count_marginal(codes, Domain(("sex", "event"), (2, 2)), ("sex", "event"))
    array([[0, 1],
           [1, 1]])
    """
    return count_marginals(codes, domain, [tuple(columns)])[0]


def count_marginals(codes: Codes | Sequence[Codes], domain: Domain, cliques: Sequence[Sequence[str]]) -> list[Counts]:
    """Return how many rows have each combination of codes, for each clique; the cliques share passes where that pays.

    Parameters
    ----------
    codes
        Shape (n_rows, n_columns), columns in the domain's order; or a sequence of such blocks of one table. Values
        outside [0, n_codes) are the caller's error; codes that come from a schema's columns have none.
    domain
        The columns and their numbers of codes.
    cliques
        Each names at least one column, none twice; the order of its columns is the order of its marginal's axes.

    Returns
    -------
    One array of shape `domain.sizes(clique)` for each clique. Exact counts: private.

    Raises
    ------
    MarginalTooLarge
        If a marginal has more than 2^26 cells.
    DomainMismatch
        If a clique names no column, or one twice, or the codes do not have the domain's number of columns.
    UnknownColumn
        If a column is not in the domain.

    Examples
    --------
    >>> codes = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.uint8)
    >>> count_marginals(codes, Domain(("sex", "event"), (2, 2)), [("sex",), ("event",)])
    [array([1, 2]), array([1, 2])]
    """
    blocks = [codes] if isinstance(codes, np.ndarray) else list(codes)
    if any(block.ndim != 2 or block.shape[1] != len(domain) for block in blocks):
        raise DomainMismatch(f"codes must have shape (n_rows, {len(domain)}), one column for each of the domain's")
    n_rows = sum(map(len, blocks))
    asked = [tuple(clique) for clique in cliques]
    for clique in asked:
        _check_clique(clique, domain)
    if product_pays(asked, domain, n_rows):
        return count_by_product(blocks, domain, asked)
    return count_in_passes(asked, domain, n_rows=n_rows, count=lambda passes: _count(blocks, domain, passes))


def count_in_passes(
    cliques: Sequence[Sequence[str]],
    domain: Domain,
    *,
    n_rows: int,
    count: Callable[[Sequence[Pass]], list[Counts]],
    most_cells: int = _PASS_CELLS,
) -> list[Counts]:
    """Return the counts of each clique, from whoever counts passes; arguments and errors as `count_marginals`.

    Parameters
    ----------
    cliques, domain
        What is asked for.
    n_rows
        Number of rows, by which passes are planned.
    count
        Returns for each pass its counts, flat, axes in the order of its left and right columns.
    most_cells
        Of a pass that several cliques share.
    """
    asked = [tuple(clique) for clique in cliques]
    for clique in asked:
        _check_clique(clique, domain)
    out: list[Counts | None] = [None] * len(asked)
    for batch in _batches(_plan(asked, domain, n_rows, most_cells)):
        totals = count(batch)
        # The last reference goes with each pass: its cells are not needed once its cliques are summed.
        for part in batch:
            _sum_out(totals.pop(0), part, domain, asked, out)
    return [counts for counts in out if counts is not None]


def smallest_dtype(domain: Domain) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every code of the domain."""
    return np.min_scalar_type(max(domain.n_codes) - 1)


@dataclass(frozen=True, slots=True)
class Pass:
    """Columns to be counted together, and the positions of the cliques that are summed from them."""

    left: Clique
    right: Clique
    cells: int
    answers: tuple[int, ...]


def _check_clique(clique: Clique, domain: Domain) -> None:
    if not clique or len(set(clique)) < len(clique):
        raise DomainMismatch("a marginal needs at least one column, each named once")
    cells = domain.cells(clique)
    if cells > MAX_CELLS:
        raise MarginalTooLarge(
            f"the marginal of {', '.join(clique)} has {cells} cells, more than {MAX_CELLS}; "
            "use fewer columns, or wider bins in the schema"
        )


def _plan(cliques: Sequence[Clique], domain: Domain, n_rows: int, most_cells: int = _PASS_CELLS) -> list[Pass]:
    """Return passes that answer every clique once, those with the same left part beside each other.

    Columns are put into groups, small ones together; cliques that touch the same groups share a pass over all the
    columns that they name there, unless counting each alone is cheaper.
    """
    most_cells = min(most_cells, n_rows)
    group_of: dict[str, int] = {}
    group, room = 0, 0
    for name in sorted({name for clique in cliques for name in clique}, key=lambda name: (domain[name], name)):
        if domain[name] > room:
            group, room = group + 1, math.isqrt(most_cells)
        group_of[name] = group
        room //= domain[name]
    touching: dict[tuple[int, ...], list[int]] = {}
    for position, clique in enumerate(cliques):
        touching.setdefault(tuple(sorted({group_of[name] for name in clique})), []).append(position)
    passes = []
    for groups, positions in touching.items():
        columns = sorted({name for i in positions for name in cliques[i]}, key=lambda name: (group_of[name], name))
        cells = domain.cells(columns)
        alone = sum(_pass_cost(domain.cells(cliques[i]), n_rows) for i in positions)
        if len(positions) > 1 and cells <= most_cells and _pass_cost(cells, n_rows) < alone:
            right = tuple(name for name in columns if group_of[name] == groups[-1])
            left = tuple(columns[: -len(right)])
            passes.append(Pass(left, right, cells, tuple(positions)))
        else:
            passes += [Pass(cliques[i][:-1], cliques[i][-1:], domain.cells(cliques[i]), (i,)) for i in positions]
    # The factor of the left part is the right part's number of cells, so equal ones beside each other share it too.
    return sorted(passes, key=lambda part: (part.left, domain.cells(part.right)))


def _pass_cost(cells: int, n_rows: int) -> int:
    """Return about how many nanoseconds a pass takes (measured: 1.8 or 3.6 a row; 3 a cell to sum out; the call)."""
    return n_rows * (18 if cells <= _FAST_CELLS else 36) // 10 + 3 * cells + 20_000


def _batches(passes: Sequence[Pass]) -> Iterator[list[Pass]]:
    batch: list[Pass] = []
    cells = 0
    for part in passes:
        if batch and cells + part.cells > _BATCH_CELLS:
            yield batch
            batch, cells = [], 0
        batch.append(part)
        cells += part.cells
    if batch:
        yield batch


def _count(blocks: Sequence[Codes], domain: Domain, passes: Sequence[Pass]) -> list[Counts]:
    """Return the counts of each pass, flat, in the order of its left and right columns."""
    totals: list[Counts | None] = [None] * len(passes)
    index = np.empty(min(_BLOCK_ROWS, max(map(len, blocks), default=0)), dtype=np.intp)
    scaled = np.empty_like(index)
    for block in blocks:
        for start in range(0, len(block), _BLOCK_ROWS):
            rows = block[start : start + _BLOCK_ROWS]
            into, raised = index[: len(rows)], scaled[: len(rows)]
            before: tuple[Clique, int] | None = None
            for i, part in enumerate(passes):
                right = _joint_codes(rows, domain, part.right)
                if part.left:
                    factor = domain.cells(part.right)
                    if before != (part.left, factor):
                        np.multiply(_joint_codes(rows, domain, part.left), factor, out=raised, dtype=np.intp)
                        before = part.left, factor
                    np.add(raised, right, out=into, dtype=np.intp)
                else:
                    into[:] = right
                total = totals[i]
                if total is None:
                    totals[i] = np.bincount(into, minlength=part.cells)
                elif part.cells <= 4 * len(rows):
                    total += np.bincount(into, minlength=part.cells)
                else:
                    # Many more cells than rows: only those that are hit are touched.
                    np.add.at(total, into, 1)
    return [
        np.zeros(part.cells, dtype=np.int64) if total is None else total
        for part, total in zip(passes, totals, strict=True)
    ]


def _joint_codes(rows: Codes, domain: Domain, columns: Clique) -> Codes:
    """Return one number for each row's codes in these columns, in the smallest type that holds it."""
    joint: Codes = rows[:, domain.position(columns[0])]
    if len(columns) > 1:
        joint = joint.astype(np.min_scalar_type(domain.cells(columns) - 1))
        for i, name in enumerate(columns[1:], 1):
            # After columns of one code all are zero, and a factor of 2^8 or 2^16 would not fit.
            if domain.cells(columns[:i]) > 1:
                joint *= joint.dtype.type(domain[name])
            joint += rows[:, domain.position(name)].astype(joint.dtype, copy=False)
    return joint


def _sum_out(total: Counts, part: Pass, domain: Domain, cliques: Sequence[Clique], out: list[Counts | None]) -> None:
    """Write the marginal of each clique that the pass answers to its place."""
    by_left: dict[Clique, Counts] = {}
    table = total.reshape(*domain.sizes(part.left), domain.cells(part.right))
    for position in part.answers:
        clique = cliques[position]
        left = tuple(name for name in part.left if name in clique)
        # Several cliques have the same columns on the left; these sums are over the whole table, so they are shared.
        if left not in by_left:
            by_left[left] = _sum_axes(table, [i for i, name in enumerate(part.left) if name not in clique])
        right = tuple(name for name in part.right if name in clique)
        shaped = by_left[left].reshape(*domain.sizes(left), *domain.sizes(part.right))
        counts = _sum_axes(shaped, [len(left) + i for i, name in enumerate(part.right) if name not in clique])
        order = (*left, *right)
        out[position] = np.ascontiguousarray(counts.transpose([order.index(name) for name in clique]))


def _sum_axes(table: Counts, axes: Sequence[int]) -> Counts:
    """Return the sum over these axes; the table itself, not a copy, if there are none."""
    return table.sum(axis=tuple(axes)) if axes else table
