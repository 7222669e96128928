"""One party as a process of its own: the same protocol that `run_local` runs, over lines to the other parties.

The protocol is a function that the operator of this party installed and named. No party ever sends code.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from privacy.randomness import Rng, SecureRng
from smpc._rounds import Usage
from smpc.errors import MaterialMissing
from smpc.material import Elements, Kind, MaterialStore
from smpc.session import Security, Session
from smpc.transport.pump import NetworkTransport

T = TypeVar("T")


class NoMaterial(MaterialStore):
    """The material of a run that has none: enough for inputs, sums, public multiples and openings."""

    def __init__(self) -> None:
        super().__init__(b"", corrections=None)

    def _draw(self, kind: Kind, count: int) -> list[Elements]:
        del count
        raise MaterialMissing(str(kind))


@dataclass(frozen=True, slots=True, repr=False)
class PartyRun(Generic[T]):
    """What a protocol returned at this party, and what it used."""

    result: T
    usage: Usage
    session_id: bytes

    def __repr__(self) -> str:
        return f"PartyRun(rounds={self.usage.rounds}, bytes_sent={self.usage.bytes_sent})"


def run_party(
    protocol: Callable[[Session, Any], Awaitable[T]],
    data: Any,
    *,
    transport: NetworkTransport,
    material: MaterialStore,
    security: Security = "semi_honest",
    timeout: float = 60.0,
    rng: Rng | None = None,
) -> PartyRun[T]:
    """Run one party's side of a protocol to its end. Blocks; closes the lines, so that the others never wait in vain.

    Parameters
    ----------
    protocol
        Coroutine function of a session and this party's input, the same at all parties.
    data
        This party's input.
    transport
        Connected lines. Their session id is the run's.
    material
        This party's share of the correlated randomness; `NoMaterial()` for sums and openings. With a store on disk the
        parties first agree where to begin, in two rounds. Closed at the end.
    security
        "semi_honest".
    timeout
        Seconds that a round waits for the others.
    rng
        This party's own randomness; by default the operating system's.

    Raises
    ------
    PeerUnavailable, FrameRejected, ProtocolAbort, MaterialError
        If a line fails, or the stores do not fit together; whatever the protocol raises.
    """
    try:
        session = Session(
            party=transport.party,
            n_parties=transport.n_parties,
            transport=transport,
            material=material,
            session_id=transport.session_id,
            security=security,
            timeout=timeout,
            rng=rng or SecureRng(),
        )

        async def play() -> T:
            await session.agree_on_material()
            return await protocol(session, data)

        result = asyncio.run(play())
        transport.finish()
    finally:
        transport.close()
        material.close()
    return PartyRun(result, session.usage, transport.session_id)


def installed_function(path: str) -> Callable[[Session, Any], Awaitable[Any]]:
    """Return the function that "module:function" names.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> installed_function("smpc.protocols:inner_product").__name__
    'inner_product'
    """
    module, colon, name = path.partition(":")
    if not (colon and module and name.isidentifier()):
        raise ValueError(f'protocol must be written "module:function", got {path!r}')
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"protocol {path!r} is not found: no module {error.name!r}; install it, or set PYTHONPATH"
        ) from None
    if not callable(found):
        raise ValueError(f"protocol {path!r} is not found: the module has no function of this name")
    function: Callable[[Session, Any], Awaitable[Any]] = found
    return function
