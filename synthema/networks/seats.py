"""A member's seat in the rounds of a run, at the hub's relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smpc.transport import NetworkTransport
    from smpc.transport.roster import Identity, Roster
    from synthema.networks.line_connection import HubAddress, MemberFiles


def take_seat(
    address: HubAddress,
    files: MemberFiles,
    roster: Roster,
    identity: Identity,
    run: str,
    *,
    within: float,
    stopped: Callable[[], bool],
) -> NetworkTransport:
    """Connect with the other members of a roster through the hub's relay; errors as `RelayTransport.connect`."""
    from smpc.transport import RelayTransport

    return RelayTransport.connect(
        roster,
        identity,
        run=run,
        relay=(address.host, address.port),
        relay_fingerprint=address.fingerprint,
        tls=files.tls(),
        within=within,
        stopped=stopped,
    )
