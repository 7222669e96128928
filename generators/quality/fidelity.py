"""Does the synthetic table look like the real one? Marginals, associations, propensity, rare groups.

L1_k   mean over the marginals of k columns of sum |p - q|, 0 (equal) to 2 (nothing in common); half of it is the share
       of patients who would have to change for the two marginals to be equal
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, one_way_cliques
from generators.marginals import count_marginal
from generators.quality.association import cramers_v, spearman
from generators.quality.distances import distances, some_cliques
from generators.quality.features import FloatArray, is_ordered
from generators.quality.propensity import Propensity, propensity
from generators.quality.rulers import Bench, Figure, Table, Verdict, by_limits, figure
from generators.quality.subgroups import Subgroups, rare_subgroups

MOST_CLIQUES = 1000
# The propensity score's null does not depend on the number of rows, its cost does.
PROPENSITY_ROWS = 50_000
_LIMITS = {1: (0.05, 0.10), 2: (0.10, 0.20), 3: (0.20, 0.40)}
_WORDS = {1: "single columns", 2: "pairs of columns", 3: "triples of columns"}


@dataclass(frozen=True, slots=True)
class ColumnShares:
    """One column's counts in both tables, and the distance of their shares. INTERNAL."""

    name: str
    labels: tuple[str, ...]
    real: tuple[int, ...]
    synthetic: tuple[int, ...]
    distance: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns: distance of the joint shares, that of a resample, and the association in both tables. INTERNAL."""

    columns: tuple[str, str]
    distance: float
    floor: float
    measure: str
    real: float
    synthetic: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """All of it. `propensity` is None where the tables have one column only."""

    figures: tuple[Figure, ...]
    columns: tuple[ColumnShares, ...]
    pairs: tuple[Pair, ...]
    propensity: Propensity
    subgroups: Subgroups
    cliques_measured: dict[int, int]


def fidelity(bench: Bench, *, rng: np.random.Generator) -> Fidelity:
    """Compare the tables. INTERNAL on real rows."""
    figures, measured = [], {}
    pairs: tuple[Clique, ...] = ()
    pair_distances = np.empty((len(bench.others()), 0))
    codes = [table.codes for table in bench.others()]
    for order in range(1, min(3, len(bench.domain)) + 1):
        cliques = some_cliques(bench.domain, order, at_most=MOST_CLIQUES, rng=rng)
        found = distances(bench.real.codes, codes, bench.domain, cliques)
        measured[order] = len(cliques)
        if order == 2:
            pairs, pair_distances = cliques, found
        figures.append(
            figure(
                f"l1_{order}",
                f"Distance of {_WORDS[order]}",
                f"Mean over {len(cliques)} {_WORDS[order]}: 0 = equal, 2 = nothing in common. Half of it is the share "
                "of patients who would have to change to make the tables equal.",
                found.mean(axis=1).tolist(),
                bench,
                judge=by_limits(*_LIMITS[order]),
            )
        )
    associations = _associations(bench, pairs)
    if pairs:
        figures.append(
            figure(
                "association_gap",
                "Change of associations",
                "Mean absolute change, over pairs of columns, of how strongly the two go together (0 to 1).",
                np.abs(associations[1:] - associations[0]).mean(axis=1).tolist(),
                bench,
                judge=by_limits(0.03, 0.08),
            )
        )
    small = bench.limited(PROPENSITY_ROWS, rng=rng)
    scores = [
        propensity(small.real.codes, table.codes, bench.domain, bench.columns, rng=rng) for table in small.others()
    ]
    figures.append(
        figure(
            "pmse_ratio",
            "Telling synthetic from real (pMSE ratio)",
            "A model tries to tell the tables apart. 1 = it does as well as chance lets it on a resample of the real "
            "patients, 2 or so on other patients of the same kind. Many rows make small differences visible, so a "
            "table is also good if the model explains under 1 % of what certainty would (fair: 5 %).",
            [score.ratio for score in scores],
            bench,
            best=1.0,
            judge=lambda ratio, _floor: _told_apart(ratio, scores[0].share_of_most),
        )
    )
    subgroups = rare_subgroups(bench, rng=rng)
    figures.extend(subgroups.figures)
    resampled = slice(2, 2 + len(bench.resamples))
    return Fidelity(
        figures=tuple(figures),
        columns=_columns(bench),
        pairs=tuple(
            Pair(
                columns=(pair[0], pair[1]),
                distance=float(pair_distances[0, i]),
                floor=float(pair_distances[resampled, i].mean()),
                measure=_measure(bench, pair)[0],
                real=float(associations[0, i]),
                synthetic=float(associations[1, i]),
            )
            for i, pair in enumerate(pairs)
        ),
        propensity=scores[0],
        subgroups=subgroups,
        cliques_measured=measured,
    )


def _told_apart(ratio: float, share_of_most: float) -> Verdict:
    if ratio <= 3 or share_of_most <= 0.01:
        return "good"
    return "fair" if ratio <= 10 or share_of_most <= 0.05 else "poor"


def _columns(bench: Bench) -> tuple[ColumnShares, ...]:
    out = []
    shares = distances(bench.real.codes, [bench.synthetic.codes], bench.domain, one_way_cliques(bench.domain))[0]
    for name, distance in zip(bench.domain, shares.tolist(), strict=True):
        real, synthetic = (
            tuple(count_marginal(table.codes, bench.domain, (name,)).tolist())
            for table in (bench.real, bench.synthetic)
        )
        out.append(ColumnShares(name, bench.columns[name].labels(), real, synthetic, distance))
    return tuple(out)


def _associations(bench: Bench, pairs: tuple[Clique, ...]) -> FloatArray:
    """Return the association of each pair in the real table and in the others, shape (1 + n_others, n_pairs)."""
    tables = (bench.real, *bench.others())
    out = np.empty((len(tables), len(pairs)))
    for i, pair in enumerate(pairs):
        for t, table in enumerate(tables):
            out[t, i] = association(bench, table, pair)
    return out


def association(bench: Bench, table: Table, pair: Clique) -> float:
    """Return how strongly two columns go together: Spearman's rho if both have an order, else Cramer's V."""
    counts = count_marginal(table.codes, bench.domain, pair)
    name, measure = _measure(bench, pair)
    if name == "spearman":
        rows, columns = (bench.domain[one] - bench.columns[one].nullable for one in pair)
        counts = counts[:rows, :columns]
    return float(measure(counts))


def _measure(bench: Bench, pair: Clique) -> tuple[str, Callable[[npt.NDArray[np.int64]], float]]:
    if all(is_ordered(bench.columns[name]) for name in pair):
        return "spearman", spearman
    return "cramers_v", cramers_v
