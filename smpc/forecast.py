"""What a run will cost, before it: rounds, bytes, material, and seconds on a given network.

The protocol runs dry: the same coroutines, all parties of them, on shares and material that are zeros, with inputs of
which only shapes matter. What is opened means nothing, and is replaced: by zeros, and in further rehearsals by random
elements. The shapes and rounds of a protocol depend on public things only; but opened values are public, and a protocol
may go by them (iterate until something small is opened). If the rehearsals differ, the forecast says so: `certain` is
false, and what is reported is the most of any of them.

Rehearsals that agree prove nothing about a protocol that goes another way for rare openings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from privacy._checks import check_count, check_non_negative, check_positive
from privacy.randomness import InsecureSeededRng
from smpc._rounds import Layout, Octets
from smpc.errors import PartyFailed, SmpcError
from smpc.local import Cost, cost_of, run_sessions
from smpc.material import Elements, Kind, MaterialStore
from smpc.plans import describe_amounts, plan_text
from smpc.prg import SEED_BYTES
from smpc.session import Security, Session, check_security
from smpc.sharing import check_parties
from smpc.transport import SESSION_ID_BYTES, InProcessTransport

# Zeros, then two different draws.
_REHEARSALS = 3
_MOST_ROUNDS = 100_000


class ForecastImpossible(SmpcError):
    """The protocol did not come to an end with any of the made-up openings. `__cause__` holds an error."""

    def __init__(self) -> None:
        super().__init__(
            "the protocol fails on all made-up openings (the cause is attached): if it is right, it goes by what is "
            "opened, and a run on made-up inputs has to be counted instead, by run_local(...).cost"
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will cost.

    rounds               of messages
    bytes_sent_by_party  headers included, to all other parties
    material             items of each kind of correlated randomness
    dealer_bytes         seeds and corrections: offline, before the run
    expanded_bytes       what one party expands or reads of its material: offline if it is prepared
    certain              whether rehearsals with different openings cost the same
    """

    n_parties: int
    rounds: int
    bytes_sent_by_party: tuple[int, ...]
    material: Mapping[Kind, int]
    dealer_bytes: int
    expanded_bytes: int
    certain: bool

    def seconds(self, *, rtt: float = 0.03, bandwidth: float = 12.5e6) -> float:
        """Return rounds * rtt + bytes / bandwidth: the time on the network, computing not included.

        Parameters
        ----------
        rtt
            Seconds that a round takes on an empty line: there and back, or to a relay and on.
        bandwidth
            Bytes a second that a party can send; 12.5e6 is 100 Mbit/s.

        Returns
        -------
        For the party that sends most.

        Examples
        --------
        >>> Forecast(2, 10, (1000, 2000), {}, 64, 0, True).seconds(rtt=0.05, bandwidth=1000.0)
        2.5
        """
        check_non_negative("rtt", rtt)
        check_positive("bandwidth", bandwidth)
        return self.rounds * rtt + max(self.bytes_sent_by_party) / bandwidth

    def plan(self, runs: int = 1) -> str:
        """Return what a dealer has to make for so many runs, as the JSON text that `synthema dealer make` reads."""
        return plan_text({kind: count * runs for kind, count in self.material.items()}, self.n_parties)

    def to_json(self, *, rtt: float = 0.03, bandwidth: float = 12.5e6) -> str:
        """Return all of this as one JSON document."""
        body = {
            "n_parties": self.n_parties,
            "certain": self.certain,
            "online": {
                "rounds": self.rounds,
                "bytes_sent_by_party": list(self.bytes_sent_by_party),
                "rtt_seconds": rtt,
                "bandwidth_bytes_per_second": bandwidth,
                "network_seconds": self.seconds(rtt=rtt, bandwidth=bandwidth),
            },
            "offline": {
                "dealer_bytes": self.dealer_bytes,
                "expanded_bytes_per_party": self.expanded_bytes,
                "material": describe_amounts(self.material),
            },
        }
        return json.dumps(body, indent=2, allow_nan=False)

    def text(self, *, rtt: float = 0.03, bandwidth: float = 12.5e6) -> str:
        """Return all of this as lines for people."""
        seconds = self.seconds(rtt=rtt, bandwidth=bandwidth)
        online = (
            f"online, {self.n_parties} parties: {self.rounds} rounds, {max(self.bytes_sent_by_party):,} bytes sent by "
            "the party that sends most\n"
            f"  network: at least {seconds:.3g} s = {self.rounds} x {rtt:g} s + bytes / {bandwidth / 1e6:g} MB/s, "
            "without computing"
        )
        offline = (
            f"offline: {self.dealer_bytes:,} bytes from the dealer, {self.expanded_bytes:,} bytes expanded by each "
            "party"
        )
        lines = [online, offline, *(f"  {count:>12,} x {kind.label}" for kind, count in self.material.items())]
        if not self.certain:
            lines.append(
                "not certain: the cost depends on what is opened; this is the most of several made-up runs, and a real "
                "one may cost more"
            )
        return "\n".join(lines)


def forecast(
    protocol: Callable[[Session, Any], Awaitable[Any]],
    inputs: Sequence[Any],
    *,
    security: Security = "semi_honest",
    rehearsals: int = _REHEARSALS,
    most_rounds: int = _MOST_ROUNDS,
) -> Forecast:
    """Return what `run_local(protocol, inputs)` and a run between processes will cost.

    Parameters
    ----------
    protocol
        Coroutine function of the session and the party's own input.
    inputs
        2..5 items, in the form that the protocol expects. Values do not matter; zeros of the right shape will do.
    security
        As for the run.
    rehearsals
        How many different openings are tried, >= 1.
    most_rounds
        A rehearsal that goes on for longer is given up: with made-up openings a loop may never end.

    Raises
    ------
    ForecastImpossible
        If the protocol fails on all of them.

    Examples
    --------
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await s.open(await s.mul(a[0], a[1]))
    >>> cost = forecast(protocol, [np.zeros(1000, dtype=int)] * 2)
    >>> cost.rounds, cost.bytes_sent_by_party, cost.certain
    (3, (24256, 24256), True)
    >>> print(cost.text(rtt=0.03, bandwidth=12.5e6))
    online, 2 parties: 3 rounds, 24,256 bytes sent by the party that sends most
      network: at least 0.0919 s = 3 x 0.03 s + bytes / 12.5 MB/s, without computing
    offline: 8,064 bytes from the dealer, 24,000 bytes expanded by each party
             1,000 x product RING64
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SmpcError("forecast starts an event loop and one is running here: await forecast_async(...) instead")
    return asyncio.run(
        forecast_async(protocol, inputs, security=security, rehearsals=rehearsals, most_rounds=most_rounds)
    )


async def forecast_async(
    protocol: Callable[[Session, Any], Awaitable[Any]],
    inputs: Sequence[Any],
    *,
    security: Security = "semi_honest",
    rehearsals: int = _REHEARSALS,
    most_rounds: int = _MOST_ROUNDS,
) -> Forecast:
    """As `forecast`, inside a running event loop (a notebook, a service)."""
    check_security(security)
    check_parties(len(inputs))
    check_count("rehearsals", rehearsals)
    check_count("most_rounds", most_rounds)
    costs: list[Cost] = []
    failure: Exception | None = None
    for number in range(rehearsals):
        try:
            costs.append(await _rehearse(protocol, inputs, security, number, most_rounds))
        except Exception as error:  # noqa: BLE001 - whatever a protocol raises on an opening that means nothing
            failure = error
    if not costs:
        raise ForecastImpossible from (failure.__cause__ if isinstance(failure, PartyFailed) else failure)
    certain = failure is None and all(cost == costs[0] for cost in costs)
    most = costs[0] if certain else _most(costs)
    return Forecast(
        n_parties=len(inputs),
        rounds=most.rounds,
        bytes_sent_by_party=most.bytes_sent_by_party,
        material=most.material,
        dealer_bytes=most.dealer_bytes,
        expanded_bytes=sum(kind.n_bytes(count) for kind, count in most.material.items()),
        certain=certain,
    )


class _NoMaterial(MaterialStore):
    """Zeros of the right shapes: nothing is expanded."""

    def __init__(self) -> None:
        super().__init__(bytes(SEED_BYTES), corrections=None)

    def take(self, kind: Kind, count: int) -> list[Elements]:
        return [np.zeros(field.shape(count), dtype=field.domain.dtype) for field in (*kind.free, *kind.tied)]


class _DrySession(Session):
    """A session whose openings are made up: zeros, or what all parties draw alike."""

    def __init__(self, *, rehearsal: int, most_rounds: int, **parts: Any) -> None:
        super().__init__(**parts)
        self._most_rounds = most_rounds
        self._openings = InsecureSeededRng(rehearsal) if rehearsal else None

    async def reveal(self, operation: str, layout: Layout, buffer: Octets) -> list[Elements]:
        opened = await super().reveal(operation, layout, buffer)
        if self._openings is None:
            return [np.zeros_like(words) for words in opened]
        return [
            domain.random(words.shape, self._openings) for domain, words in zip(layout.domains, opened, strict=True)
        ]

    async def _exchange(self, operation: str, payloads: Sequence[Octets]) -> list[Octets]:
        if self.usage.rounds >= self._most_rounds:
            raise SmpcError(f"the protocol went on for more than {self._most_rounds} rounds")
        return await super()._exchange(operation, payloads)


async def _rehearse(
    protocol: Callable[[Session, Any], Awaitable[Any]],
    inputs: Sequence[Any],
    security: Security,
    number: int,
    most_rounds: int,
) -> Cost:
    n_parties = len(inputs)
    transports = InProcessTransport.connect(n_parties)
    sessions = [
        _DrySession(
            rehearsal=number,
            most_rounds=most_rounds,
            party=party,
            n_parties=n_parties,
            transport=transports[party],
            material=_NoMaterial(),
            session_id=bytes(SESSION_ID_BYTES),
            security=security,
            # Nothing secret is in a rehearsal.
            rng=InsecureSeededRng(number * n_parties + party),
        )
        for party in range(n_parties)
    ]
    await run_sessions(protocol, inputs, sessions, transports)
    material = sessions[0].usage.material
    dealt = SEED_BYTES * n_parties + sum(kind.dealer_bytes(count) for kind, count in material.items())
    return cost_of(sessions, dealt)


def _most(costs: Sequence[Cost]) -> Cost:
    kinds = {kind: None for cost in costs for kind in cost.material}
    return replace(
        costs[0],
        rounds=max(cost.rounds for cost in costs),
        bytes_sent_by_party=tuple(map(max, zip(*(cost.bytes_sent_by_party for cost in costs), strict=True))),
        material={kind: max(cost.material.get(kind, 0) for cost in costs) for kind in kinds},
        dealer_bytes=max(cost.dealer_bytes for cost in costs),
    )
