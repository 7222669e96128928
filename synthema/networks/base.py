"""What a step of a study asks of a network, and what a site's side of a network asks of the lines between the members.

Steps (`synthema.joint`) are written once, against `StepNetwork`:

    gather    every site's contribution to a step: shares, one package for each compute party
    compute   what the compute parties make of the shares and open

`EmbeddedNetwork` holds all sites and parties in one process. `SiteNetwork` is one site's side where each is a process
of its own: all sites run the same steps, each contributes its own part, and what was opened comes to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from smpc import SharePackage

if TYPE_CHECKING:
    from smpc.transport import NetworkTransport
    from synthema.job import SiteJob
    from synthema.study import Study

T = TypeVar("T")


@dataclass(slots=True)
class Traffic:
    """What one step cost so far on a network."""

    rounds: int = 0
    bytes_sent: int = 0
    bytes_input: int = 0
    dealer_bytes: int = 0
    triples: int = 0


class StepNetwork(Protocol):
    """Where the steps of one accepted study run."""

    study: Study
    traffic: dict[str, Traffic]

    def run_step(
        self, step: str, work: Callable[[], T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> T:
        """Start the step at the sites, do the work, settle it with the answer; or return the answer it had before."""
        ...

    def run_site_step(self, step: str, work: Callable[[SiteJob], Any]) -> dict[str, Any]:
        """As `run_step` where each site releases an answer of its own. Returns the answers by site."""
        ...

    def gather(self, step: str, ask: Callable[[SiteJob], T]) -> dict[str, T]:
        """Return the contributions that this process holds, by site."""
        ...

    def compute(
        self, step: str, protocol: Callable[..., Any], contributions: Mapping[str, Sequence[SharePackage]]
    ) -> Any:
        """Return what the compute parties open. `protocol(session, packages)`, one package of every site, runs there.

        What it returns is an answer that a ledger can store: an array, a number, a text, or lists and maps of them.
        """
        ...

    def common_key(self, step: str) -> bytes:
        """Return 32 random bytes that all sites of the study share, and the hub does not know."""
        ...


class SiteLines(Protocol):
    """One site's lines to the other members during one attempt at a job."""

    site: str

    def send(self, to: str, what: str, payload: bytes) -> None:
        """Seal a payload for a member and send it; what cannot be sent now is kept and sent later."""
        ...

    def receive(self, sender: str, what: str, *, within: float) -> bytes:
        """Return what a member sent. Raises SiteFailed if it does not come in time, or the job was stopped."""
        ...

    def transport(self, members: Sequence[str], run: str, *, within: float) -> NetworkTransport:
        """Connect for rounds with other members, this one included: blocks until all are there."""
        ...
