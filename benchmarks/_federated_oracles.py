"""Oracles of one pooled table whose answers have the law of a joint synthesis, for experiments of many seeds.

A sum on shares is the exact pooled count, and opening adds nothing. So what a federation answers is the pooled count
with the parties' noise, and an index drawn by the law of `smpc.noise.exponential_law` from the pooled scores:
`compare_federated.py --check-shares` shows on a real run that the two are equal, number by number, given the same
noise, and that the scores are. Seeded: these protect nobody.
"""

from __future__ import annotations

import math

import numpy as np

from generators import Measurement, TableOracle
from generators.grouping import check_groups
from generators.oracle import discrete_gaussian_for
from privacy import rho_of
from privacy.samplers import sample_discrete_gaussian
from smpc.noise.exponential_law import exponential_law
from smpc.noise.gaussian_table import gaussian_table
from synthema.steps import cheapest_joint_noise

# Scores are whole numbers of sixteenths of a row, as on shares.
_SCORE_BITS = 4


def _rounded(values):
    return np.rint(np.asarray(values, dtype=np.float64) * (1 << _SCORE_BITS)).astype(np.int64)


class _Pooled(TableOracle):
    """Counts of all sites together; a subclass says which noise is added."""

    def measure(self, cliques, *, rho, groups=None):
        merged = check_groups(groups, self.domain)
        counts = list(self._each_count(cliques, merged))
        noise, std, event = self.noise(sum(count.size for count in counts), len(cliques), rho)
        self.events.append(event)
        parts = np.split(noise, np.cumsum([count.size for count in counts])[:-1])
        return [
            Measurement(
                tuple(clique),
                count + part.reshape(count.shape),
                std,
                tuple(merged.get(name) for name in clique) if merged else (),
            )
            for clique, count, part in zip(cliques, counts, parts, strict=True)
        ]


class SameNoise(_Pooled):
    """One trusted party that adds as much noise as all parties would, and selects by the exponential mechanism.

    Its events are the joint ones: it is a ruler, not a release.
    """

    n_parties, threshold = 3, 1

    def noise(self, size, n_cliques, rho):
        event = cheapest_joint_noise(
            self.n_parties - self.threshold,
            rho,
            dimension=size,
            l1_sensitivity=n_cliques,
            l2_sensitivity_squared=n_cliques,
        )
        std = event.per_party_scale * math.sqrt(self.n_parties)
        return self.draw(size, event.per_party_scale, std), std, event

    def draw(self, size, per_party, std):
        del per_party
        return sample_discrete_gaussian(std, size, rng=self._rng)


class _Chosen:
    """Selection as on shares: the same integer scores, and the same law, cut and rate included.

    Rounding on shares moves no odds by more than the law's excess, a few thousandths of epsilon: it is left out.
    """

    def select(self, candidates, estimates, *, epsilon, weights=None, penalties=None, groups=None):
        factors = np.ones(len(candidates), dtype=np.int64) if weights is None else np.array(weights, dtype=np.int64)
        owed = np.zeros(len(candidates)) if penalties is None else penalties
        scores = -_rounded(owed) * factors
        merged = check_groups(groups, self.domain)
        for i, counts in enumerate(self._each_count(candidates, merged)):
            distance = np.abs((counts << _SCORE_BITS) - _rounded(estimates[i])).sum()
            scores[i] += int(factors[i]) * int(distance)
        sensitivity = int(factors.max()) << _SCORE_BITS
        law, event = exponential_law(epsilon, sensitivity, len(candidates))
        self.events.append(event)
        sums = np.cumsum(law.ideal(scores))
        return int(np.searchsorted(sums, float(self._rng.uint64(1)[0]) * 2.0**-64 * sums[-1], side="right"))


class Joint(_Chosen, SameNoise):
    """Each party adds noise of its own, and the choice is made on shares."""

    def draw(self, size, per_party, std):
        del std
        parts = [sample_discrete_gaussian(per_party, size, rng=self._rng) for _ in range(self.n_parties)]
        return np.sum(parts, axis=0)


class Sampled(_Chosen, _Pooled):
    """Noise that the parties draw together on shares, from a table of the discrete Gaussian; choices as `Joint`.

    The table's law differs from the discrete Gaussian by at most 2^-60 a number, so that is drawn; its price is the
    table's.
    """

    def noise(self, size, n_cliques, rho):
        scale = discrete_gaussian_for(rho, n_cliques, linf_sensitivity=1).scale
        while True:
            event = gaussian_table(scale).event(l2_sensitivity_squared=n_cliques, dimension=size)
            if rho_of(event.events[0]) <= rho:
                return sample_discrete_gaussian(scale, size, rng=self._rng), scale, event
            scale *= 1 + 1e-7
