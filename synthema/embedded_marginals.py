"""Any mechanism over many sites: its questions answered on secret shares, sites and compute parties in one process.

counts        of the cliques asked for, by each site of its own rows, secret-shared among the compute parties
measure       the shares are added up, noise that no party knows is added, and only the sum is opened
select        the scores are computed and compared on shares, and only the index of the winner is opened

The price of a measurement is that of joint noise when as many parties collude as stated (`steps.cheapest_joint_noise`).
A selection at epsilon is made by geometric noisy max at epsilon / 2: pure differential privacy (but for a delta below
2^-64) at (epsilon / 2)^2 / 2 = epsilon^2 / 8 of rho, which is what the exponential mechanism costs elsewhere.

Everything runs in this process with a simulated dealer: it shows and tests what a mechanism needs of a federation, it
is not a deployment. Studies use `JointMarginals`, whose releases are priced, approved and booked by each site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators import Domain, DomainMismatch, Measurement, encode
from generators.domain import Clique
from generators.grouping import Groups, check_groups, merge_codes
from generators.marginals import count_marginals
from privacy import Event, Schema
from privacy._checks import check_count
from privacy.neighbours import Neighbours
from smpc import RING64, Session, Shared, SharePackage, joint_discrete_gaussian, noisy_argmax, run_local, share
from smpc.noise.choice import noisy_argmax_law
from synthema.errors import StudyError
from synthema.steps import cheapest_joint_noise

# Public estimates are rounded to sixteenths of a row, so that scores are integers.
_SCORE_BITS = 4

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
        most_rows: int = 1 << 24,
    ) -> None:
        check_count("max_sites_per_patient", max_sites_per_patient)
        check_count("most_rows", most_rows)
        threshold = n_parties - 1 if collusion_threshold is None else collusion_threshold
        if not 1 <= threshold < n_parties:
            raise StudyError(f"of {n_parties} compute parties, 1 to {n_parties - 1} may collude, not {threshold}")
        for frame in frames.values():
            schema.validate(frame)
        if sum(map(len, frames.values())) > most_rows:
            raise StudyError(f"there are more rows than most_rows = {most_rows}: state a larger public bound")
        self.domain = Domain.from_schema(schema)
        self.events: list[Event] = []
        self._codes = {site: encode(frame, schema) for site, frame in frames.items()}
        self._n_parties, self._threshold = n_parties, threshold
        self._change, self._most_rows = max_sites_per_patient, most_rows

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with joint noise, in order: one vector release that costs at most `rho`."""
        if not cliques:
            raise DomainMismatch("measure at least one clique")
        merged = check_groups(groups, self.domain)
        shapes, shared = self._shared(cliques, merged)
        sizes = [math.prod(shape) for shape in shapes]
        event = cheapest_joint_noise(
            self._n_parties - self._threshold,
            rho,
            dimension=sum(sizes),
            l1_sensitivity=len(cliques) * self._change,
            l2_sensitivity_squared=len(cliques) * self._change**2,
        )

        async def protocol(session: Session, packages: Packages) -> npt.NDArray[np.int64]:
            total = self._pooled(session, packages)
            noisy = await joint_discrete_gaussian(
                session, total, event.per_party_scale, collusion_threshold=self._threshold
            )
            opened: npt.NDArray[np.int64] = await session.open(noisy)
            return opened

        self.events.append(event)
        vector = run_local(protocol, shared).results[0]
        std = event.per_party_scale * math.sqrt(self._n_parties)
        return [
            Measurement(
                tuple(clique), part.reshape(shape), std, tuple(merged.get(name) for name in clique) if merged else ()
            )
            for clique, shape, part in zip(cliques, shapes, np.split(vector, np.cumsum(sizes)[:-1]), strict=True)
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
        shapes, shared = self._shared(candidates, check_groups(groups, self.domain))
        sizes = [math.prod(shape) for shape in shapes]
        factors = [1] * len(candidates) if weights is None else [int(weight) for weight in weights]
        offsets = np.zeros(len(candidates)) if penalties is None else np.asarray(penalties, dtype=np.float64)
        public = _rounded(np.concatenate([np.asarray(estimates[i]).ravel() for i in range(len(candidates))]))
        if public.size != sum(sizes):
            raise DomainMismatch("an estimate must have the shape of its candidate's marginal")
        owed = _rounded(offsets) * np.array(factors)
        # Row by row the candidate that a cell belongs to: sums of cells are a product with public numbers, local.
        belongs = np.zeros((public.size, len(candidates)), dtype=np.int64)
        belongs[np.arange(public.size), np.repeat(np.arange(len(candidates)), sizes)] = np.repeat(factors, sizes)
        sensitivity = max(factors) * self._change << _SCORE_BITS
        _, event = noisy_argmax_law(epsilon / 2, sensitivity, len(candidates))

        async def protocol(session: Session, packages: Packages) -> int:
            counts = self._pooled(session, packages)
            distances = await session.abs(counts * (1 << _SCORE_BITS) - public)
            index, _ = await noisy_argmax(
                session, distances @ belongs - owed, sensitivity=sensitivity, epsilon=epsilon / 2
            )
            return int(await session.open(index))

        self.events.append(event)
        return int(run_local(protocol, shared).results[0])

    def _shared(self, cliques: Sequence[Clique], groups: Groups) -> tuple[list[tuple[int, ...]], list[Packages]]:
        """Return the shapes of the counts, and for each compute party one package of every site."""
        shapes: list[tuple[int, ...]] = []
        by_site = []
        for codes in self._codes.values():
            counts = count_marginals(codes, self.domain, cliques)
            parts = [merge_codes(part, clique, groups) for part, clique in zip(counts, cliques, strict=True)]
            shapes = [part.shape for part in parts]
            by_site.append(share(np.concatenate([part.ravel() for part in parts]), self._n_parties))
        return shapes, [list(packages) for packages in zip(*by_site, strict=True)]

    def _pooled(self, session: Session, packages: Packages) -> Shared:
        total = session.shared(packages[0].expand(), RING64)
        for package in packages[1:]:
            total = total + session.shared(package.expand(), RING64)
        return total.declare(self._most_rows)


def _rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    scaled = np.rint(values * (1 << _SCORE_BITS))
    if not np.isfinite(scaled).all() or np.abs(scaled).max(initial=0.0) > 2.0**40:
        raise DomainMismatch("estimates and penalties must be finite numbers of rows, far below 2^40")
    integers: npt.NDArray[np.int64] = scaled.astype(np.int64)
    return integers
