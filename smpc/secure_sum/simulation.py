"""A whole sum in this process: every site and the server with its own object, joined by bytes only.

For tests, demonstrations and forecasts. Whoever runs this sees every vector, so it protects nobody by itself; the same
objects run unchanged where each site is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng, SecureRng
from smpc.errors import RangeExceeded, SmpcError
from smpc.secure_sum.client import ClientRun, SecureSumClient
from smpc.secure_sum.messages import Step
from smpc.secure_sum.plan import SumPlan, plan_sum
from smpc.secure_sum.server import SecureSumServer

STEPS = (Step.ADVERTISE, Step.SHARE, Step.MASK, Step.CONFIRM, Step.UNMASK)

T = TypeVar("T")


@dataclass(slots=True)
class SumCost:
    """What a run cost. Bytes are those of whole messages, without what a transport adds.

    bytes_sent, bytes_received   by each site
    client_seconds               of computing, by each site
    step_seconds                 of computing, by all sites together, in each step
    server_seconds               of computing
    """

    bytes_sent: list[int]
    bytes_received: list[int]
    client_seconds: list[float]
    step_seconds: dict[str, float] = field(default_factory=lambda: {str(step): 0.0 for step in STEPS})
    server_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Computing of all sites and the server together."""
        return sum(self.client_seconds) + self.server_seconds


@dataclass(frozen=True, slots=True, eq=False)
class SumRun:
    """Outcome of a run.

    total         int64, shape (n_counters,)
    contributors  sites whose vectors are in it, ascending
    refusals      errors of the sites that refused to go on
    """

    total: npt.NDArray[np.int64]
    contributors: tuple[int, ...]
    cost: SumCost
    refusals: dict[int, SmpcError]


def secure_sum_local(
    vectors: Sequence[npt.ArrayLike],
    *,
    max_abs: int,
    dropouts: Mapping[str, Collection[int]] | None = None,
    threshold: int | None = None,
    min_contributors: int | None = None,
    corruption: float = 0.05,
    dropout: float = 0.05,
    rng: Rng | None = None,
) -> SumRun:
    """Sum one vector of integers from each site, by the protocol that sites in their own processes would run.

    Parameters
    ----------
    vectors
        One for each of 3..10,000 sites; integers, all of one length.
    max_abs
        Largest absolute value of a counter at one site, noise included.
    dropouts
        Sites that send nothing any more from a step on: "advertise", "share", "mask", "confirm" or "unmask".
    threshold, min_contributors, corruption, dropout
        As `plan_sum`.
    rng
        Source of everything that is drawn; the operating system's by default.

    Raises
    ------
    RangeExceeded
        If a counter exceeds max_abs, or the sum of all could leave the range of int64.
    TooFewContributors, RecoveryFailed
        If too many dropped out.

    Examples
    --------
    >>> run = secure_sum_local([[1, -2], [10, 20], [100, 200], [7, 7]], max_abs=1000, dropouts={"mask": [3]})
    >>> run.total, run.contributors
    (array([111, 218]), (0, 1, 2))
    """
    missing = {Step(step): frozenset(sites) for step, sites in (dropouts or {}).items()}
    if not missing.keys() <= set(STEPS):
        raise ValueError(f"dropouts must name steps of {', '.join(map(str, STEPS))}")
    source = SecureRng() if rng is None else rng
    clients = _new_sites(len(vectors), source)
    plan = plan_sum(
        [client.public_key for client in clients],
        np.asarray(vectors[0]).size if len(vectors) else 1,
        max_abs=max_abs,
        threshold=threshold,
        min_contributors=min_contributors,
        corruption=corruption,
        dropout=dropout,
        rng=source,
    )
    return _Simulation(plan, clients, vectors).run(missing)


def _new_sites(n_sites: int, rng: Rng) -> list[SecureSumClient]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return [SecureSumClient(Ed25519PrivateKey.from_private_bytes(rng.bytes(32)), rng=rng) for _ in range(n_sites)]


class _Simulation:
    """The loop that a network would be."""

    def __init__(self, plan: SumPlan, clients: Sequence[SecureSumClient], vectors: Sequence[npt.ArrayLike]) -> None:
        n = plan.n_sites
        self._vectors = vectors
        self._cost = SumCost([0] * n, [0] * n, [0.0] * n)
        self._step = Step.ADVERTISE
        self._server = SecureSumServer(plan)
        self._refusals: dict[int, SmpcError] = {}
        self._runs = [self._at_site(site, client.start, plan) for site, client in enumerate(clients)]

    def run(self, missing: Mapping[Step, Collection[int]]) -> SumRun:
        answers: dict[int, bytes] = dict.fromkeys(range(len(self._runs)), b"")
        gone: set[int] = set()
        for step in STEPS:
            self._step = step
            gone.update(missing.get(step, ()))
            for site, answer in answers.items():
                if site not in gone:
                    self._turn(site, answer)
            answers = self._at_server(self._server.close)
        result = self._server.result()
        return SumRun(result.total, result.contributors, self._cost, self._refusals)

    def _turn(self, site: int, answer: bytes) -> None:
        self._cost.bytes_received[site] += len(answer)
        try:
            message = self._at_site(site, self._say, self._runs[site], answer)
        except SmpcError as error:
            if self._step is Step.MASK and isinstance(error, RangeExceeded):
                raise
            self._refusals[site] = error
            return
        self._cost.bytes_sent[site] += len(message)
        self._at_server(self._server.receive, site, message)

    def _say(self, run: ClientRun, answer: bytes) -> bytes:
        match self._step:
            case Step.ADVERTISE:
                return run.advertise()
            case Step.SHARE:
                return run.share(answer)
            case Step.MASK:
                return run.mask(answer, self._vectors[run.site])
            case Step.CONFIRM:
                return run.confirm(answer)
            case _:
                return run.unmask(answer)

    def _at_site(self, site: int, function: Callable[..., T], *arguments: object) -> T:
        started = perf_counter()
        try:
            return function(*arguments)
        finally:
            seconds = perf_counter() - started
            self._cost.client_seconds[site] += seconds
            self._cost.step_seconds[self._step] += seconds

    def _at_server(self, function: Callable[..., T], *arguments: object) -> T:
        started = perf_counter()
        try:
            return function(*arguments)
        finally:
            self._cost.server_seconds += perf_counter() - started
