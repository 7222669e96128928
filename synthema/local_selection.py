"""The cheap mode: sites choose on their own tables, and only sums are made jointly.

k    sites;  n_i  public size of site i, approximate;  w_i = n_i / sum of all
E    public estimate of a candidate's marginal, for all sites together
m    sites that may know the same patient (`max_sites_per_patient`)

In each selection every site runs the exponential mechanism on its own rows, with the score

    weight * (||M_i - w_i E||_1 - w_i penalty),

and says which candidate it chose. The candidate whose sites are largest together wins, of equals the first.
Measurements are those of the oracle that does them: a secure sum with joint noise. No arg max on shares, so no triples
and no rounds.

What a selection costs. The votes are public, and each is an exponential mechanism at epsilon on one site's rows. A
patient at one site is in one vote: by parallel composition over sites the selection costs each patient what it costs at
one table, epsilon^2 / 8 of rho. This holds for m = 1 only. A patient at m sites is in m votes; each is then made at
epsilon / sqrt(m), so that together they cost m (epsilon / sqrt(m))^2 / 8, the same. (As pure differential privacy that
is sqrt(m) epsilon.) The event in `events` says so; each site's own oracle holds the event of its own vote.

What it loses. A site scores a sample of n_i rows with noise made for n_i rows, so its vote is weaker than one on all
rows; and a sample of few rows lies far from any distribution over many cells, so large candidates are over-rated. Where
sites differ, a site's table stays far from the estimate in the columns in which it differs, however well that fits all
sites together: votes go there again and again, and to no column that only the pooled table would show to be wrong.
Measured: docs/federation/accuracy.md.

Source: local marginal choice and secure sums, FLAIM: Maddock, Cormode, Maple 2023, arXiv:2310.03447. There one site is
drawn for each choice; here all vote, which costs a patient the same. The correction c_i takes the place of their
correction for heterogeneity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from generators import DomainMismatch, MarginalOracle, Measurement
from generators.domain import Clique, Domain
from generators.grouping import Groups
from generators.oracle import LazyEstimates
from privacy import Event, ExponentialMechanism, Repeated
from privacy._checks import check_count, check_positive
from privacy.neighbours import Neighbours
from synthema.errors import StudyError

# A share of the budget that is a square root must not be a rounding more than that share.
_GUARD = 1 - 1e-12


class Chooser(Protocol):
    """Who selects on one site's rows: any `generators` oracle of that site's table."""

    domain: Domain
    neighbours: Neighbours

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[npt.NDArray[np.float64]],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """As `MarginalOracle.select`, priced at this site."""
        ...


class LocalSelection:
    """A `generators.MarginalOracle` that measures jointly and lets the sites vote on what.

    Parameters
    ----------
    joint
        Measures: marginals of all sites together with joint noise. Its events are this oracle's.
    sites
        Each site's oracle of its own table, by name.
    sizes
        About how many rows each site has: public numbers, such as the noisy counts of a catalogue. They are not checked
        against the rows; wrong ones make choices worse, not dearer.
    max_sites_per_patient
        m.

    Raises
    ------
    StudyError
        If the sites and the sizes do not name the same sites, or speak of other columns or neighbours than `joint`.

    Examples
    --------
    >>> import pandas as pd
    >>> from generators import MST, LocalTableOracle
    >>> from privacy import Schema
    >>> from synthema.embedded_marginals import EmbeddedMarginals
    >>> schema = Schema.from_dict({
    ...     "columns": {"sex": {"categories": ["F", "M"]}, "event": {"categories": ["0", "1"]}}})
    >>> frame = pd.DataFrame({"sex": ["F", "M"] * 200, "event": ["0", "1"] * 200})
    >>> tables = {"north": frame[:100], "south": frame[100:]}
    >>> oracle = LocalSelection(
    ...     EmbeddedMarginals(tables, schema),
    ...     {site: LocalTableOracle(table, schema) for site, table in tables.items()},
    ...     sizes={"north": 100, "south": 300},
    ... )
    >>> [type(event).__name__ for event in MST(rho=1.0).fit(None, schema, oracle=oracle).events]
    ['DistributedDiscreteGaussian', 'ExponentialMechanism', 'DistributedDiscreteGaussian']
    """

    def __init__(
        self,
        joint: MarginalOracle,
        sites: Mapping[str, Chooser],
        *,
        sizes: Mapping[str, float],
        max_sites_per_patient: int = 1,
    ) -> None:
        check_count("max_sites_per_patient", max_sites_per_patient)
        if not sites or set(sites) != set(sizes):
            raise StudyError("sites and sizes must name the same sites, at least one")
        for name, site in sites.items():
            check_positive(f"size of {name}", sizes[name])
            if site.domain != joint.domain or site.neighbours != joint.neighbours:
                raise StudyError(f"site {name!r} has other columns, sizes or neighbours than the joint oracle")
        total = math.fsum(sizes.values())
        self.domain = joint.domain
        self.neighbours: Neighbours = joint.neighbours
        self._joint = joint
        self._sites = dict(sites)
        self._parts = {name: sizes[name] / total for name in sites}
        self._overlap = max_sites_per_patient
        # One list: measurements and selections in the order in which they were paid for.
        self.events: list[Event] = joint.events

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with joint noise, in order: one vector release that costs at most `rho`."""
        return self._joint.measure(cliques, rho=rho, groups=groups)

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[npt.NDArray[np.float64]],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """Return the index of the candidate that most patients' sites chose; see above."""
        if not candidates or len(candidates) != len(estimates):
            raise DomainMismatch("select needs at least one candidate, and one estimate for each")
        known = _Known(estimates)
        owed = [0.0] * len(candidates) if penalties is None else list(penalties)
        # The price of the votes together is noted before the first of them is drawn.
        at_one = ExponentialMechanism(epsilon)
        if self._overlap > 1:
            at_one = ExponentialMechanism(epsilon / math.sqrt(self._overlap) * _GUARD)
        self.events.append(at_one if self._overlap == 1 else Repeated(at_one, self._overlap))
        votes = np.zeros(len(candidates))
        for name, site in self._sites.items():
            part = self._parts[name]
            chosen = site.select(
                candidates,
                known.times(part),
                epsilon=at_one.epsilon,
                weights=weights,
                penalties=[part * due for due in owed],
                groups=groups,
            )
            votes[chosen] += part
        return int(np.argmax(votes))


class _Known:
    """Public estimates, each computed once for all sites, and only if one of them asks for it."""

    def __init__(self, estimates: Sequence[npt.NDArray[np.float64]]) -> None:
        self._estimates = estimates
        self._known: dict[int, npt.NDArray[np.float64]] = {}

    def times(self, part: float) -> Sequence[npt.NDArray[np.float64]]:
        """Return the estimates of a part of the rows; lazy if they are."""
        if isinstance(self._estimates, LazyEstimates):
            total = part * self._estimates.total
            return LazyEstimates(len(self._estimates), lambda i: part * self._of(i), total=total)
        return [part * self._of(i) for i in range(len(self._estimates))]

    def _of(self, i: int) -> npt.NDArray[np.float64]:
        if i not in self._known:
            self._known[i] = np.asarray(self._estimates[i], dtype=np.float64)
        return self._known[i]
