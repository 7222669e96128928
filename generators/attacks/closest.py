"""Distance to the closest record, and its ratio to the second closest: customary figures that guarantee nothing.

DCR        Gower distance of a row to the nearest synthetic row
NNDR       distance to the nearest over distance to the second nearest synthetic row, in [0, 1]; 1 if both are 0
copies     share of rows with an identical synthetic row
Each for rows that the generator saw and for reference rows. The reference is the control; without one, distances of
real rows to other real rows stand in, which is what an equally large table of other people would show.

These figures are NOT a guarantee: a table can pass every such test and let records be reconstructed, also because the
figures themselves, given out, tell about the rows: Ganev, De Cristofaro 2023, On the Inadequacy of Similarity-based
Privacy Metrics, arXiv:2312.05114.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.attacks.neighbours import NeighbourSearch
from generators.attacks.table import Rows
from privacy._rates import CONFIDENCE, Rate

NOT_A_GUARANTEE = (
    "Distances are no guarantee of privacy: tables that pass such tests have let records be reconstructed "
    "(Ganev, De Cristofaro 2023, arXiv:2312.05114)."
)

_NEAR = 0.05


@dataclass(frozen=True, slots=True)
class Distances:
    """Quantiles over rows: 5 %, 50 %, 95 %; and the share of exact copies."""

    dcr: tuple[float, float, float]
    nndr: tuple[float, float, float]
    copies: Rate

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "dcr": dict(zip(("5%", "50%", "95%"), self.dcr, strict=True)),
            "nndr": dict(zip(("5%", "50%", "95%"), self.nndr, strict=True)),
            "copies": self.copies.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class ClosestRecords:
    """Nearness of the synthetic table to the rows it was made from, and to a reference. INTERNAL; not a guarantee.

    nearer     share of real rows nearer to the synthetic table than 5 % of the reference rows are: 5 % if nothing
               leaks, less where distances tie
    """

    real: Distances
    reference: Distances
    reference_is_control: bool
    nearer: Rate

    @property
    def meaning(self) -> str:
        """A sentence or two for a reader who is no statistician."""
        who = "people the generator never saw" if self.reference_is_control else "other real rows of the same table"
        return (
            f"{self.real.copies.value or 0:.1%} of the real rows have an identical synthetic row; for {who} it is "
            f"{self.reference.copies.value or 0:.1%}. {self.nearer.value or 0:.1%} of the real rows are nearer to the "
            f"synthetic table than the nearest 5% of the reference. {NOT_A_GUARANTEE}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the meaning in words."""
        return {
            "attack": "closest records",
            "guarantee": False,
            "real": self.real.to_dict(),
            "reference": self.reference.to_dict(),
            "reference_is": "control" if self.reference_is_control else "real rows to other real rows",
            "nearer_than_5_percent_of_reference": self.nearer.to_dict(),
            "meaning": self.meaning,
            "notes": [NOT_A_GUARANTEE],
        }


def closest_records(
    real: Rows,
    synthetic: Rows,
    control: Rows | None = None,
    *,
    n_attacks: int = 2000,
    confidence: float = CONFIDENCE,
    rng: np.random.Generator,
) -> ClosestRecords:
    """Measure how near the synthetic table is to real rows and to reference rows. INTERNAL: reads real rows.

    Parameters
    ----------
    real, synthetic, control
        Rows the generator saw, rows it made (at least two), rows it never saw.
    n_attacks
        Rows of each kind; all if there are fewer. Without control, at most a quarter of the real rows.
    confidence
        Of the intervals.
    """
    if control is not None:
        search = NeighbourSearch(synthetic, rng=rng)
        targets, others = real.sample(n_attacks, rng=rng), control.sample(n_attacks, rng=rng)
        of_reference, near_reference = _distances(search, synthetic, others, confidence)
    else:
        # Real rows to other real rows. A larger table is nearer to everybody, so both tables are cut to one size.
        order = rng.permutation(len(real))
        n = min(n_attacks, max(1, len(real) // 4))
        size = min(len(real) - n, len(synthetic))
        targets, rest = real.take(order[:n]), real.take(order[n : n + size])
        of_reference, near_reference = _distances(NeighbourSearch(rest, rng=rng), rest, targets, confidence)
        search = NeighbourSearch(synthetic.sample(size, rng=rng), rng=rng)
    of_real, near_real = _distances(search, synthetic, targets, confidence)
    limit = np.quantile(near_reference, _NEAR)
    nearer = Rate.of(int((near_real < limit).sum()), len(near_real), confidence=confidence)
    return ClosestRecords(of_real, of_reference, control is not None, nearer)


def _distances(
    search: NeighbourSearch, table: Rows, rows: Rows, confidence: float
) -> tuple[Distances, npt.NDArray[np.float64]]:
    _, d = search.nearest(rows, [range(len(rows.names))], n_neighbours=min(2, len(search)))
    nearest, second = d[0, :, 0], d[0, :, -1]
    ratio = np.divide(nearest, second, out=np.ones_like(nearest), where=second > 0)
    copies = Rate.of(int(rows.found_in(table).sum()), len(rows), confidence=confidence)
    return Distances(_quantiles(nearest), _quantiles(ratio), copies), nearest


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = (float(q) for q in np.quantile(values, (0.05, 0.5, 0.95)))
    return low, middle, high
