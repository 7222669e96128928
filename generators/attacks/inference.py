"""Inference: the attacker knows all but one column of a person and takes the last from the nearest synthetic row.

A guess is right if the category is the same, or the number within a tolerance of the guess (both missing counts as the
same). Random guesses take the value of a random synthetic row.

Source: Giomi et al. 2023, arXiv:2211.10459, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from generators.attacks.neighbours import NeighbourSearch
from generators.attacks.results import AttackResult, control_note, made_note
from generators.attacks.table import IntArray, Rows
from privacy._rates import Rate, excess_risk

TOLERANCE = 0.05


def inference(
    real: Rows,
    synthetic: Rows,
    control: Rows | None = None,
    *,
    secrets: Iterable[str] | None = None,
    n_attacks: int = 2000,
    tolerance: float = TOLERANCE,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> tuple[AttackResult, ...]:
    """Attack each secret column of random real rows (and control rows). INTERNAL: reads real rows.

    Parameters
    ----------
    real, synthetic, control
        Rows the generator saw, rows it made, rows it never saw.
    secrets
        Columns to infer, each from all others; None: every column.
    n_attacks
        Targets, the same for every secret; all rows if there are fewer.
    tolerance
        A guessed number g is right if the truth is within tolerance * |g| of it.
    confidence
        Of each interval, for each secret by itself.
    """
    positions = real.positions(real.names if secrets is None else secrets)
    views = [tuple(i for i in range(len(real.names)) if i != secret) for secret in positions]
    search = NeighbourSearch(synthetic, rng=rng)

    def attack(table: Rows) -> list[Rate]:
        targets = table.sample(n_attacks, rng=rng)
        nearest, _ = search.nearest(targets, views, n_neighbours=1)
        right = [
            _right(synthetic, targets, i, rows[:, 0], tolerance) for i, rows in zip(positions, nearest, strict=True)
        ]
        return [Rate.of(int(hits.sum()), len(targets), confidence=confidence) for hits in right]

    success = attack(real)
    seen: list[Rate | None] = [None] * len(positions) if control is None else [*attack(control)]
    guessed = real.sample(n_attacks, rng=rng)
    out = []
    for i, rate, control_rate in zip(positions, success, seen, strict=True):
        by_chance = _right(synthetic, guessed, i, rng.integers(len(synthetic), size=len(guessed)), tolerance)
        baseline = Rate.of(int(by_chance.sum()), len(guessed), confidence=confidence)
        notes = [made_note(rate.attempts, n_attacks), control_note(control_rate, n_attacks)]
        out.append(
            AttackResult(
                attack="inference",
                asked=n_attacks,
                success=rate,
                baseline=baseline,
                control=control_rate,
                risk=excess_risk(rate, baseline if control_rate is None else control_rate),
                notes=tuple(note for note in notes if note),
                secret=real.names[i],
            )
        )
    return tuple(out)


def _right(synthetic: Rows, targets: Rows, column: int, rows: IntArray, tolerance: float) -> npt.NDArray[np.bool_]:
    guess, truth = synthetic.columns[column][rows], targets.columns[column]
    if not synthetic.numeric[column]:
        same: npt.NDArray[np.bool_] = guess == truth
        return same
    near: npt.NDArray[np.bool_] = (np.abs(guess - truth) <= tolerance * np.abs(guess)) | (
        np.isnan(guess) & np.isnan(truth)
    )
    return near
