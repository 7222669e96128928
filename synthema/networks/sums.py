"""Many sites and many rounds of sums in one process: how a federation behaves that is larger than one can set up.

In each round every site shares a vector of counters among the compute parties, these add up what they were given, and
open the sum. Sites make their packages round by round, so memory does not grow with the number of rounds.

The sums are exact and no ledger is charged: this is for SIMULATED counts, for planning and for measuring. Studies open
sums with joint noise that every site has paid for (`synthema.joint`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from smpc import Session, SharePackage, pool, run_local, share

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSums:
    """What a simulation opened and sent.

    sums             shape (n_rounds, n_counters)
    bytes_by_site    sent by each site to all compute parties together, in all rounds
    bytes_between    sent by the compute parties to each other, headers included
    rounds           of messages between the compute parties
    """

    sums: Ints
    bytes_by_site: tuple[int, ...]
    bytes_between: int
    rounds: int


class _Sites:
    """All sites: makes a round's packages when a first party asks, and forgets them when the last has taken its own."""

    def __init__(self, contribute: Callable[[int, int], npt.ArrayLike], n_sites: int, n_parties: int) -> None:
        self._contribute, self._n_parties = contribute, n_parties
        self._left: dict[int, dict[int, list[SharePackage]]] = {}
        self.sent = np.zeros(n_sites, dtype=np.int64)

    def packages(self, number: int, party: int) -> list[SharePackage]:
        """Return what a party is sent in a round, one package from each site."""
        if number not in self._left:
            by_site = []
            for site in range(len(self.sent)):
                packages = share(self._contribute(site, number), self._n_parties)
                self.sent[site] += sum(package.n_bytes for package in packages)
                by_site.append(packages)
            self._left[number] = {one: list(column) for one, column in enumerate(zip(*by_site, strict=True))}
        mine = self._left[number].pop(party)
        if not self._left[number]:
            del self._left[number]
        return mine


def simulate_sums(
    contribute: Callable[[int, int], npt.ArrayLike], *, n_sites: int, n_rounds: int, n_parties: int = 3
) -> SimulatedSums:
    """Run rounds of sums over simulated sites.

    Parameters
    ----------
    contribute
        Called with the site's and the round's number; returns the site's integers, of one shape in all of a round.
    n_sites, n_rounds
        At least 1.
    n_parties
        Compute parties, 2..5.

    Raises
    ------
    PartyFailed
        If a site's vector is none of integers, or not of the others' shape.

    Examples
    --------
    >>> run = simulate_sums(lambda site, number: [site, number], n_sites=4, n_rounds=2)
    >>> run.sums
    array([[6, 0],
           [6, 4]])
    """
    check_count("n_sites", n_sites)
    check_count("n_rounds", n_rounds)
    sites = _Sites(contribute, n_sites, n_parties)

    async def protocol(session: Session, party: int) -> list[Ints]:
        return [await session.open(session.shared(pool(sites.packages(number, party)))) for number in range(n_rounds)]

    run = run_local(protocol, list(range(n_parties)))
    return SimulatedSums(
        sums=np.stack(run.results[0]),
        bytes_by_site=tuple(int(sent) for sent in sites.sent),
        bytes_between=run.cost.bytes_sent,
        rounds=run.cost.rounds,
    )
