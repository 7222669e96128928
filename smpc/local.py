"""All parties of a protocol in this process, each with its own session: for tests, demonstrations and simulations.

The parties share nothing but their lines. A triple dealer runs beside them. Whoever runs this sees everything, so it
protects nobody by itself; the same coroutine runs unchanged where each party is a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from privacy._checks import check_positive
from privacy.randomness import Rng, SecureRng
from smpc._rounds import Record
from smpc.errors import PartyFailed, SmpcError
from smpc.kinds import MatrixProduct, Product
from smpc.material import Dealer, Kind
from smpc.prg import SEED_BYTES, Prg
from smpc.session import Security, Session, check_security
from smpc.sharing import check_parties
from smpc.transport import SESSION_ID_BYTES, InProcessTransport

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost.

    rounds             of messages, at the party that needed most
    bytes_sent_by_party  headers included, to all other parties
    triples            elements of elementwise products
    matrix_products    elements of matrix products
    material           items of every kind of correlated randomness
    dealer_bytes       seeds and corrections, to all parties
    """

    rounds: int
    bytes_sent_by_party: tuple[int, ...]
    triples: int
    matrix_products: int
    material: Mapping[Kind, int]
    dealer_bytes: int

    @property
    def bytes_sent(self) -> int:
        """Bytes sent by all parties together, without the dealer's."""
        return sum(self.bytes_sent_by_party)


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """Everything that one party knows of a run: what an adversary has who reads its memory.

    input_value  its own input
    seed         from which all its own randomness follows
    record       frames received, shares of triples, opened values
    """

    party: int
    input_value: Any
    seed: bytes
    record: Record


@dataclass(frozen=True, slots=True, repr=False)
class LocalRun(Generic[T]):
    """Outcome of a run: each party's result, the cost, and, if asked for, each party's view."""

    results: list[T]
    cost: Cost
    views: list[View] | None

    def __repr__(self) -> str:
        return f"LocalRun(n_parties={len(self.results)}, cost={self.cost})"


def run_local(
    protocol: Callable[[Session, Any], Awaitable[T]],
    inputs: Sequence[Any],
    *,
    security: Security = "semi_honest",
    record_views: bool = False,
    timeout: float = 60.0,
    rng: Rng | None = None,
) -> LocalRun[T]:
    """Run a protocol at one party for each input.

    Parameters
    ----------
    protocol
        Coroutine function of the session and the party's own input; the same at every party.
    inputs
        2..5 items; party i is given `inputs[i]`.
    security
        "semi_honest"; "malicious" is not available yet.
    record_views
        Keep everything each party received.
    timeout
        Seconds that a round waits for a silent party.
    rng
        Source of all parties' and the dealer's seeds; the operating system's by default.

    Raises
    ------
    PartyFailed
        If a party raised an error (`__cause__`), returned before the others were done with it, or kept silent. All
        parties were stopped.
    UnsupportedSecurity
        For a level that is not available.
    SmpcError
        If called where an event loop runs, as in a notebook: await `run_local_async` there.

    Examples
    --------
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await s.mul(a[0], a[1]))
    >>> run = run_local(protocol, inputs=[[2, 3], [10, -10]])
    >>> run.results
    [array([ 20, -30]), array([ 20, -30])]
    >>> run.cost.rounds, run.cost.triples
    (3, 2)
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SmpcError("run_local starts an event loop and one is running here: await run_local_async(...) instead")
    return asyncio.run(
        run_local_async(protocol, inputs, security=security, record_views=record_views, timeout=timeout, rng=rng)
    )


async def run_local_async(
    protocol: Callable[[Session, Any], Awaitable[T]],
    inputs: Sequence[Any],
    *,
    security: Security = "semi_honest",
    record_views: bool = False,
    timeout: float = 60.0,  # noqa: ASYNC109 - handed on to the sessions, which name the silent party
    rng: Rng | None = None,
) -> LocalRun[T]:
    """As `run_local`, inside a running event loop (a notebook, a service)."""
    check_security(security)
    n_parties = len(inputs)
    check_parties(n_parties)
    check_positive("timeout", timeout)
    source = SecureRng() if rng is None else rng
    dealer = Dealer(n_parties, rng=source)
    session_id = source.bytes(SESSION_ID_BYTES)
    seeds = [source.bytes(SEED_BYTES) for _ in range(n_parties)]
    records = [Record() for _ in range(n_parties)]
    transports = InProcessTransport.connect(n_parties)
    sessions = [
        Session(
            party=party,
            n_parties=n_parties,
            transport=transports[party],
            material=dealer.store(party),
            session_id=session_id,
            security=security,
            timeout=timeout,
            record=records[party] if record_views else None,
            rng=Prg(seeds[party], b"party"),
        )
        for party in range(n_parties)
    ]
    results = await run_sessions(protocol, inputs, sessions, transports)
    cost = cost_of(sessions, dealer.bytes_sent)
    views = [View(party, inputs[party], seeds[party], records[party]) for party in range(n_parties)]
    return LocalRun(results, cost, views if record_views else None)


def cost_of(sessions: Sequence[Session], dealer_bytes: int) -> Cost:
    """Return what the parties of one run used."""
    material = dict(sessions[0].usage.material)
    return Cost(
        rounds=max(session.usage.rounds for session in sessions),
        bytes_sent_by_party=tuple(session.usage.bytes_sent for session in sessions),
        triples=sum(count for kind, count in material.items() if isinstance(kind, Product)),
        matrix_products=sum(
            kind.m * kind.n * count for kind, count in material.items() if isinstance(kind, MatrixProduct)
        ),
        material=material,
        dealer_bytes=dealer_bytes,
    )


async def run_sessions(
    protocol: Callable[[Session, Any], Awaitable[T]],
    inputs: Sequence[Any],
    sessions: Sequence[Session],
    transports: Sequence[InProcessTransport],
) -> list[T]:
    """Run a protocol at every party; return their results, or raise the failure that the others follow from."""

    async def one(party: int) -> T:
        try:
            return await protocol(sessions[party], inputs[party])
        finally:
            transports[party].close()

    tasks = [asyncio.create_task(one(party)) for party in range(len(sessions))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        # Retrieves every exception, so that none is reported as never looked at.
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [(party, error) for party, error in enumerate(outcomes) if isinstance(error, BaseException)]
    if failures:
        raise _root_failure(failures)
    return [task.result() for task in tasks]


def _root_failure(failures: Sequence[tuple[int, BaseException]]) -> BaseException:
    """Return the failure that the others follow from.

    A party that raised an error of its own comes before those that noticed a closed line, and those before the
    cancelled ones.
    """
    for party, error in failures:
        if not isinstance(error, asyncio.CancelledError | PartyFailed):
            failure = PartyFailed(party, reason=f"its protocol raised {type(error).__name__}")
            failure.__cause__ = error
            return failure
    return next((error for _, error in failures if isinstance(error, PartyFailed)), failures[0][1])
