"""Linkability: whether synthetic rows connect two data sets that hold different columns of the same people.

A target is linked if one synthetic row is among the k nearest of both halves of the target's row. Random guesses name k
synthetic rows for each half.

Source: Giomi et al. 2023, arXiv:2211.10459, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from generators.attacks.neighbours import NeighbourSearch
from generators.attacks.results import AttackResult, control_note, made_note
from generators.attacks.table import Rows
from generators.errors import DomainMismatch
from privacy._rates import Rate, excess_risk

Halves = tuple[Sequence[str], Sequence[str]]


def linkability(
    real: Rows,
    synthetic: Rows,
    control: Rows | None = None,
    *,
    halves: Halves | None = None,
    n_attacks: int = 2000,
    n_neighbours: int = 1,
    rng: np.random.Generator,
) -> AttackResult:
    """Attack random real rows (and control rows) through the synthetic ones. INTERNAL: reads real rows.

    Parameters
    ----------
    real, synthetic, control
        Rows the generator saw, rows it made, rows it never saw.
    halves
        Two disjoint lists of columns; None: every other column, which gives both halves a part of everything.
    n_attacks
        Targets; all rows if there are fewer.
    n_neighbours
        k, at most the number of synthetic rows.
    """
    first, second = (real.names[::2], real.names[1::2]) if halves is None else halves
    if not first or not second or set(first) & set(second):
        raise DomainMismatch("halves must be two disjoint lists of at least one column each")
    views = [real.positions(first), real.positions(second)]
    k = min(n_neighbours, len(synthetic))
    search = NeighbourSearch(synthetic, rng=rng)

    def attack(table: Rows) -> Rate:
        targets = table.sample(n_attacks, rng=rng)
        (one, other), _ = search.nearest(targets, views, n_neighbours=k)
        linked = (one[:, :, None] == other[:, None, :]).any(axis=(1, 2))
        return Rate.of(int(linked.sum()), len(targets))

    success = attack(real)
    seen = None if control is None else attack(control)
    n = len(synthetic)
    # Two random sets of k of the n rows are disjoint with probability C(n - k, k) / C(n, k).
    by_chance = 1 - math.prod((n - k - i) / (n - i) for i in range(k))
    baseline = Rate.of(int(rng.binomial(success.attempts, min(1.0, max(0.0, by_chance)))), success.attempts)
    notes = [made_note(success.attempts, n_attacks), control_note(seen, n_attacks)]
    return AttackResult(
        attack="linkability",
        asked=n_attacks,
        success=success,
        baseline=baseline,
        control=seen,
        risk=excess_risk(success, baseline if seen is None else seen),
        notes=tuple(note for note in notes if note),
    )
