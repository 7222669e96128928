"""Membership: was this person among those the generator saw? Nearness to the table, against nearness to others.

d          Gower distance of a row to the nearest synthetic row
r          mean distance to the five nearest reference rows (half of the control, which the attacker knows)
score      -d / (r + 1/10): a row is suspicious if the synthetic table is nearer to it than the population is
members    rows that the generator saw; non-members: the other half of the control
AUC        probability that a member's score is above a non-member's: 1/2 is chance
TPR        share of members above the score that at most 1 % of the non-members exceed: what an attacker who must not
           be wrong often can do

The idea, density in the synthetic table relative to the population, is DOMIAS: van Breugel, Sun, Qian, van der Schaar
2023, AISTATS, arXiv:2302.12580. The low false-positive rate: Carlini et al. 2022, IEEE S&P, arXiv:2112.03570. Distances
stand for the densities here, because they suit mixed columns and need no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.attacks.neighbours import NeighbourSearch
from generators.attacks.table import Rows
from generators.errors import DomainMismatch
from privacy._rates import CONFIDENCE, Rate, auc, auc_interval

FALSE_POSITIVE_RATE = 0.01

_REFERENCE_NEIGHBOURS = 5
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class MembershipResult:
    """How well members are told from non-members. INTERNAL.

    auc            in [0, 1], with its interval [low, high]; 1/2 is chance
    tpr            share of members found where at most `FALSE_POSITIVE_RATE` of the non-members are accused
    n_members, n_others    rows attacked
    """

    auc: float
    low: float
    high: float
    tpr: Rate
    n_members: int
    n_others: int
    asked: int

    @property
    def meaning(self) -> str:
        """A sentence or two for a reader who is no statistician."""
        found = f"{self.tpr.value:.1%}" if self.tpr.value is not None else "none"
        verdict = (
            "better than chance, so the table gives away who was in the data"
            if self.low > 0.5
            else "no better than chance as far as this attack can see, which is no proof that a stronger one would fail"
        )
        return (
            f"Shown one person the generator saw and one it did not, an attacker who knows both in full and the table "
            f"picks the right one in {self.auc:.1%} of pairs ({self.low:.1%} to {self.high:.1%}; chance is 50%): "
            f"{verdict}. Accusing at most 1% of the others wrongly, the attacker finds {found} of those who were used."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the meaning in words."""
        few = min(self.n_members, self.n_others) < self.asked
        return {
            "attack": "membership",
            "asked": self.asked,
            "made": self.n_members,
            "auc": {"value": self.auc, "low": self.low, "high": self.high},
            "tpr_at_fpr": {"false_positive_rate": FALSE_POSITIVE_RATE, **self.tpr.to_dict()},
            "n_members": self.n_members,
            "n_others": self.n_others,
            "meaning": self.meaning,
            "notes": ["the tables gave fewer targets than asked for, which widens the intervals"] if few else [],
        }


def membership(
    real: Rows,
    synthetic: Rows,
    control: Rows,
    *,
    n_attacks: int = 2000,
    confidence: float = CONFIDENCE,
    rng: np.random.Generator,
) -> MembershipResult:
    """Tell real rows from control rows by the synthetic table. INTERNAL: reads real rows.

    Parameters
    ----------
    real, synthetic, control
        Rows the generator saw, rows it made, rows it never saw (at least four).
    n_attacks
        Members, and non-members, attacked; all rows if there are fewer.
    confidence
        Of the intervals.
    """
    if len(control) < 4:
        raise DomainMismatch("membership needs a control of at least four rows")
    reference, others = control.split(rng=rng)
    members, non_members = real.sample(n_attacks, rng=rng), others.sample(n_attacks, rng=rng)
    to_table = NeighbourSearch(synthetic, rng=rng)
    to_reference = NeighbourSearch(reference, rng=rng)
    view = [range(len(real.names))]
    k = min(_REFERENCE_NEIGHBOURS, len(reference))

    def score(rows: Rows) -> npt.NDArray[np.float64]:
        _, d = to_table.nearest(rows, view, n_neighbours=1)
        _, r = to_reference.nearest(rows, view, n_neighbours=k)
        values: npt.NDArray[np.float64] = -d[0, :, 0] / (r[0].mean(axis=1) + _SMOOTHING)
        return values

    of_members, of_others = score(members), score(non_members)
    value = auc(of_members, of_others)
    low, high = auc_interval(value, len(of_members), len(of_others), confidence=confidence)
    threshold = np.sort(of_others)[::-1][int(FALSE_POSITIVE_RATE * len(of_others))]
    found = Rate.of(int((of_members > threshold).sum()), len(of_members), confidence=confidence)
    return MembershipResult(value, low, high, found, len(of_members), len(of_others), n_attacks)
