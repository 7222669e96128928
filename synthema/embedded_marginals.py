"""Any mechanism over many sites: its questions answered on secret shares, sites and compute parties in one process.

counts        of the cliques asked for, by each site of its own rows, secret-shared among the compute parties
measure       the shares are added up, noise that no party knows is added, and only the sum is opened
select        the scores are computed and compared on shares, and only the index of the winner is opened

Noise and prices are those of `joint_noise`, the protocols those of `shared_marginals`. Sites count anew for each
question, and everything runs in this process with a simulated dealer: it shows and tests what a mechanism needs of a
federation, it is not a deployment. Studies use `conducting`: priced in advance, approved and booked by each site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators import Domain, DomainMismatch, Measurement, encode
from generators.domain import Clique
from generators.grouping import Groups, check_groups, coarse_domain
from generators.marginals import count_marginals
from generators.oracle import checked_weights
from privacy import Event, Schema
from privacy._checks import check_count
from privacy.neighbours import Neighbours
from smpc import Session, SharePackage, run_local, share
from synthema.asking_oracle import rounded_estimate, rounded_penalties
from synthema.errors import StudyError
from synthema.joint_noise import JointTerms, event_of
from synthema.marginal_layout import SynthesisLayout
from synthema.shared_marginals import SharedMarginals, groups_of
from synthema.study import MOST_ROWS

Packages = Sequence[SharePackage]


class EmbeddedMarginals:
    """A `generators.MarginalOracle` whose rows stay with several sites.

    Parameters
    ----------
    frames
        Each site's table, by name; a row is a patient.
    schema
        The public description that all share.
    n_parties
        Compute parties, 2..5.
    collusion_threshold
        How many of them may collude, 1..n_parties - 1; all but one by default. More noise the more collude.
    max_sites_per_patient
        Sites that may know the same patient: sensitivities grow by it.
    most_rows
        Public bound on the rows of all sites together.

    Raises
    ------
    SchemaError
        If a table does not fit the schema.
    StudyError
        If there are more rows than `most_rows`, or parties and threshold do not fit each other.
    """

    neighbours: Neighbours = "add_remove_one"

    def __init__(
        self,
        frames: Mapping[str, pd.DataFrame],
        schema: Schema,
        *,
        n_parties: int = 3,
        collusion_threshold: int | None = None,
        max_sites_per_patient: int = 1,
        most_rows: int = MOST_ROWS,
    ) -> None:
        check_count("max_sites_per_patient", max_sites_per_patient)
        check_count("most_rows", most_rows)
        threshold = n_parties - 1 if collusion_threshold is None else collusion_threshold
        self._terms = JointTerms(n_parties, threshold, max_sites_per_patient, most_rows=most_rows)
        for frame in frames.values():
            schema.validate(frame)
        if sum(map(len, frames.values())) > most_rows:
            raise StudyError(f"there are more rows than most_rows = {most_rows}: state a larger public bound")
        self.domain = Domain.from_schema(schema)
        self.events: list[Event] = []
        self._codes = {site: encode(frame, schema) for site, frame in frames.items()}

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with joint noise, in order: one vector release that costs at most `rho`."""
        if not cliques:
            raise DomainMismatch("measure at least one clique")
        merged = check_groups(groups, self.domain)
        coarse, wanted = coarse_domain(self.domain, merged), [tuple(clique) for clique in cliques]
        shapes = [coarse.sizes(clique) for clique in wanted]
        sizes = [math.prod(shape) for shape in shapes]
        noise = self._terms.count_noise(rho, n_marginals=len(wanted), dimension=sum(sizes))
        layout, shared = self._shared(wanted)

        async def protocol(session: Session, packages: Packages) -> npt.NDArray[np.int64]:
            counts = SharedMarginals(session, packages, layout, self._terms)
            return await counts.measure(wanted, noise, groups=merged)

        self.events.append(event_of(noise))
        parts = np.split(run_local(protocol, shared).results[0], np.cumsum(sizes)[:-1])
        std = self._terms.noise_std(noise)
        return [
            Measurement(clique, part.reshape(shape), std, groups_of(clique, merged))
            for clique, part, shape in zip(wanted, parts, shapes, strict=True)
        ]

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
        """Return the index of a candidate whose marginal lies far, in L1, from its public estimate.

        Scores are those of `MarginalOracle.select`. All of them are computed: which could be left out is private.
        """
        if not candidates or len(candidates) != len(estimates):
            raise DomainMismatch("select needs at least one candidate, and one estimate for each")
        merged = check_groups(groups, self.domain)
        coarse, wanted = coarse_domain(self.domain, merged), [tuple(clique) for clique in candidates]
        factors = checked_weights(weights, len(wanted))
        offsets = rounded_penalties([0.0] * len(wanted) if penalties is None else penalties, len(wanted))
        parts = [rounded_estimate(estimates[i], coarse.sizes(clique)) for i, clique in enumerate(wanted)]
        public = np.concatenate([part.ravel() for part in parts])
        choice = self._terms.choice(epsilon, largest_weight=max(factors), n_candidates=len(wanted))
        layout, shared = self._shared(wanted)

        async def protocol(session: Session, packages: Packages) -> int:
            counts = SharedMarginals(session, packages, layout, self._terms)
            every = [-1] * len(wanted)
            return await counts.select(wanted, every, public, choice, weights=factors, penalties=offsets, groups=merged)

        self.events.append(choice.event)
        return run_local(protocol, shared).results[0]

    def _shared(self, cliques: Sequence[Clique]) -> tuple[SynthesisLayout, list[Packages]]:
        """Return where the counts lie, and for each compute party one package of every site."""
        layout = SynthesisLayout(dict(self.domain.items()), cliques)
        by_site = []
        for codes in self._codes.values():
            counts = count_marginals(codes, self.domain, layout.cliques)
            by_site.append(share(np.concatenate([part.ravel() for part in counts]), self._terms.n_parties))
        return layout, [list(packages) for packages in zip(*by_site, strict=True)]
