"""Do small groups of patients survive the making of the table? Counts of rare combinations, by how rare they are.

combination   of values of up to three quasi-identifiers; without declared ones, of any two columns
band          combinations that so many real patients have: alone or in pairs, 3 to 10, 11 to 30, 31 to 100
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from generators.domain import Clique
from generators.quality.distances import cells_of
from generators.quality.features import FloatArray
from generators.quality.rulers import Bench, Figure, Verdict, by_limits, figure

BANDS = ((1, 2), (3, 10), (11, 30), (31, 100))
_MOST_CLIQUES = 60


@dataclass(frozen=True, slots=True)
class Band:
    """Combinations that `low` to `high` real patients have. INTERNAL.

    n_combinations   how many there are
    present          share of them that some synthetic row has
    frequency_ratio  synthetic over real frequency of all of them together
    expected_present, expected_ratio   the same for a resample of the real rows: what chance leaves
    """

    low: int
    high: int
    n_combinations: int
    present: float
    frequency_ratio: float
    expected_present: float
    expected_ratio: float


@dataclass(frozen=True, slots=True)
class Subgroups:
    """What became of rare combinations, and how many synthetic rows have one that no real patient has."""

    cliques: tuple[Clique, ...]
    bands: tuple[Band, ...]
    figures: tuple[Figure, ...]


def rare_subgroups(bench: Bench, *, rng: np.random.Generator) -> Subgroups:
    """Compare rare combinations of codes. INTERNAL on real rows."""
    cliques = _cliques(bench, rng)
    others = bench.others()
    low, high = np.array(BANDS).T
    n_combinations = np.zeros(len(BANDS))
    real_share = np.zeros(len(BANDS))
    present, share = np.zeros((2, len(others), len(BANDS)))
    invented = np.zeros(len(others))
    for clique in cliques:
        cells, counts = cells_of(bench.real.codes, bench.domain, clique)
        band = np.searchsorted(high, counts)
        n_combinations += np.bincount(band, minlength=len(BANDS) + 1)[:-1]
        real_share += np.bincount(band, weights=counts, minlength=len(BANDS) + 1)[:-1] / len(bench.real)
        for i, table in enumerate(others):
            there, there_counts = cells_of(table.codes, bench.domain, clique)
            at = np.minimum(np.searchsorted(cells, there), cells.size - 1)
            known = cells[at] == there
            of_band = band[at[known]]
            present[i] += np.bincount(of_band, minlength=len(BANDS) + 1)[:-1]
            weights = there_counts[known]
            share[i] += np.bincount(of_band, weights=weights, minlength=len(BANDS) + 1)[:-1] / len(table)
            invented[i] += there_counts[~known].sum() / len(table) / len(cliques)
    with np.errstate(invalid="ignore", divide="ignore"):
        present, ratio = present / n_combinations, share / real_share
    resampled = slice(2, 2 + len(bench.resamples))
    bands = tuple(
        Band(
            low=int(low[b]),
            high=int(high[b]),
            n_combinations=int(n_combinations[b]),
            present=float(present[0, b]),
            frequency_ratio=float(ratio[0, b]),
            expected_present=float(present[resampled, b].mean()),
            expected_ratio=float(ratio[resampled, b].mean()),
        )
        for b in range(len(BANDS))
        if n_combinations[b]
    )
    return Subgroups(cliques, bands, _figures(bench, ratio, invented))


def _figures(bench: Bench, ratio: FloatArray, invented: FloatArray) -> tuple[Figure, ...]:
    # What is rare among these patients is partly so by chance: among others of the same kind it is less rare, and they
    # bring combinations of their own. Only such others say what is normal; a resample of the same patients does not.
    def judge(values: FloatArray, good: float, fair: float) -> Callable[[float, float], Verdict] | None:
        return None if bench.holdout is None else lambda value, _: by_limits(good, fair)(value, values[-1] / 1.5)

    out = []
    rare = int(np.argmax([high == 30 for _, high in BANDS]))
    if not np.isnan(ratio[:, rare]).any():
        gaps = np.abs(ratio[:, rare] - 1)
        out.append(
            figure(
                "rare_frequency_gap",
                "Groups of 11 to 30 patients: change of their share",
                "How much more or less often the synthetic table has combinations that 11 to 30 real patients have, "
                "taken together: 0 = as often, 0.5 = half as often again, or half as often. Part of it is chance: what "
                "is rare among some patients is less so among others.",
                gaps.tolist(),
                bench,
                judge=judge(gaps, 0.1, 0.3),
            )
        )
    out.append(
        figure(
            "invented_share",
            "Synthetic rows with a combination that no real patient has",
            "Mean share over the combinations looked at. New combinations are expected of any table that does not copy "
            "its patients; many of them mean that the generator does not know which go together.",
            invented.tolist(),
            bench,
            judge=judge(invented, 0.02, 0.1),
        )
    )
    return tuple(out)


def _cliques(bench: Bench, rng: np.random.Generator) -> tuple[Clique, ...]:
    known = [name for name in bench.schema.quasi_identifiers if name in bench.domain]
    names, order = (known, min(3, len(known))) if known else (list(bench.domain), min(2, len(bench.domain)))
    every = list(itertools.combinations(names, order))
    if len(every) > _MOST_CLIQUES:
        every = [every[i] for i in sorted(rng.choice(len(every), _MOST_CLIQUES, replace=False).tolist())]
    return tuple(every)
