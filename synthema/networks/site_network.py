"""One site's side of a network in which every site is a process of its own.

All sites run the same steps at the same time. Each starts a step in its own ledger before it contributes; packages of
shares go sealed to the compute parties, which are some of the sites; these run the protocol among themselves and send
what was opened to all others. No site takes an opened value unless all parties say the same: sites that are no party
are sent the value by each, the parties exchange digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from privacy.ledger.answers import decode_answer, encode_answer
from smpc import (
    FrameRejected,
    MaterialError,
    PartyFailed,
    ProtocolAbort,
    Session,
    SharePackage,
)
from smpc.errors import DealerUnavailable, RelayUnavailable
from smpc.kinds import Product
from smpc.material import MaterialStore
from smpc.party import NoMaterial
from synthema.errors import JobFailed, SiteFailed, SynthemaError
from synthema.job import SiteJob
from synthema.networks.base import Patience, SiteLines, Traffic
from synthema.networks.packages import decode_package, encode_package, padded, unpadded

if TYPE_CHECKING:
    from privacy.randomness import Rng
    from smpc.transport import NetworkTransport

T = TypeVar("T")

KEY_BYTES = 32


class SiteNetwork:
    """See `synthema.networks.base.StepNetwork`.

    Parameters
    ----------
    job
        This site's accepted study.
    lines
        To the other members, for this attempt.
    run
        Public name of the attempt: names the parties' session.
    material
        Gives this party's correlated randomness, when it is first needed; None: none, enough for sums.
    rng
        This party's own randomness in protocols; by default the site's.
    """

    def __init__(
        self,
        job: SiteJob,
        lines: SiteLines,
        *,
        run: str,
        material: Callable[[], MaterialStore] | None = None,
        patience: Patience | None = None,
        rng: Rng | None = None,
    ) -> None:
        self.study = job.study
        self.traffic: dict[str, Traffic] = {}
        self._job = job
        self._lines = lines
        self._run = run
        self._material = material
        self._patience = patience or Patience()
        self._rng = rng or job.site.rng
        self._me = job.site.name
        self._parties = job.study.compute_parties
        self._computed: dict[str, int] = {}
        self._loop: asyncio.Runner | None = None
        self._transport: NetworkTransport | None = None
        self._session: Session | None = None
        self._store: MaterialStore | None = None

    def __repr__(self) -> str:
        return f"SiteNetwork({self._me!r}, study={self.study.name!r})"

    @property
    def lead(self) -> str:
        """The compute party that puts the results together."""
        return self._parties[0]

    @property
    def is_lead(self) -> bool:
        """Whether this site is the lead."""
        return self._me == self.lead

    def meet(self) -> None:
        """Wait until every site of the study takes part in this attempt, before any step is charged.

        Every party waits for every site, and says so to all: a hub that starts the job at some sites only, or a site
        that died since it accepted, costs nobody anything.

        Raises
        ------
        SiteFailed
            Naming the site that is missing.
        """
        others = [site for site in self.study.sites if site != self._me]
        if self._me in self._parties:
            for site in others:
                self._lines.wait_for(site, within=self._patience.gather)
            for site in others:
                self._lines.send(site, "present", b"")
        for party in self._parties:
            if party != self._me:
                self._receive(party, "present")

    def run_step(
        self, step: str, work: Callable[[], T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> T:
        """Start the step here, do the work with the others, settle it with the answer; or return its stored answer.

        Raises
        ------
        SiteFailed
            A site failed. The step stays charged wherever it was started, later steps are voided.
        """
        self._enter(step)
        stored = self._job.stored(step)
        if stored is not None:
            return decode(stored)
        with self._own(step):
            self._job.start(step)
        result = work()
        with self._own(step):
            self._job.settle(step, encode(result))
        return result

    def run_site_step(self, step: str, work: Callable[[SiteJob], Any]) -> dict[str, Any]:
        """As `run_step` where each site releases an answer of its own: the lead returns all, another site its own."""
        self._enter(step)
        answer = self._job.stored(step)
        if answer is None:
            with self._own(step):
                self._job.start(step)
                answer = work(self._job)
                self._job.settle(step, answer)
        if not self.is_lead:
            # Who carries it is not to count its rows.
            self._lines.send(self.lead, f"{step}/answer", padded(encode_answer(answer)))
            return {self._me: answer}
        return {
            site: answer if site == self._me else self._decoded(site, self._unpadded(site, f"{step}/answer"))
            for site in self.study.sites
        }

    def gather(self, step: str, ask: Callable[[SiteJob], T]) -> dict[str, T]:
        """Return this site's own contribution."""
        with self._own(step):
            return {self._me: ask(self._job)}

    def compute(
        self, step: str, protocol: Callable[..., Any], contributions: Mapping[str, Sequence[SharePackage]]
    ) -> Any:
        """Send this site's packages to the parties; compute, as a party; return what was opened."""
        number = self._computed.get(step, 0)
        self._computed[step] = number + 1
        packages = contributions[self._me]
        traffic = self.traffic[step]
        for party, name in enumerate(self._parties):
            traffic.bytes_input += packages[party].n_bytes
            if name != self._me:
                self._lines.send(name, f"{step}/{number}/shares", encode_package(packages[party]))
        if self._me not in self._parties:
            return self._opened(f"{step}/{number}/opened")
        mine = packages[self._parties.index(self._me)]
        every = [
            mine if site == self._me else self._package(site, f"{step}/{number}/shares", mine)
            for site in self.study.sites
        ]
        result = self._play(protocol, every, traffic)
        opened = encode_answer(result)
        for site in self.study.sites:
            if site not in self._parties:
                self._lines.send(site, f"{step}/{number}/opened", opened)
        self._compare(f"{step}/{number}/digest", hashlib.sha256(opened).digest())
        return result

    def common_key(self, step: str) -> bytes:
        """Return a key that the lead draws and sends, sealed, to every site."""
        if not self.is_lead:
            key = self._receive(self.lead, f"{step}/key")
            if len(key) != KEY_BYTES:
                raise SiteFailed(site=self.lead, step=step, error="its key has another length")
            return key
        key = secrets.token_bytes(KEY_BYTES)
        for site in self.study.sites:
            if site != self._me:
                self._lines.send(site, f"{step}/key", key)
        return key

    def exchange_with_lead(self, what: str, value: Any) -> dict[str, Any]:
        """Send a public value to the lead; the lead returns all sites' values, another site its own."""
        if not self.is_lead:
            self._lines.send(self.lead, what, encode_answer(value))
            return {self._me: value}
        return {
            site: value if site == self._me else self._decoded(site, self._receive(site, what))
            for site in self.study.sites
        }

    def close(self) -> None:
        """Close the lines of the parties' session."""
        if self._transport is not None:
            self._transport.close()
        if self._store is not None:
            self._store.close()
        if self._loop is not None:
            self._loop.close()

    def finish(self) -> None:
        """As `close`, after all went well: what was sent reaches the other parties."""
        if self._transport is not None:
            self._transport.finish()
        self.close()

    def _enter(self, step: str) -> None:
        self.traffic.setdefault(step, Traffic())
        self._computed[step] = 0
        enter = getattr(self._lines, "enter", None)
        if enter is not None:
            enter(step)

    @contextmanager
    def _own(self, step: str) -> Iterator[None]:
        """Turn an unexpected error of this site's own work into SiteFailed with the error's type, never its text."""
        try:
            yield
        except SynthemaError:
            raise
        except Exception as error:  # noqa: BLE001 - the text could hold a patient's value
            raise SiteFailed(site=self._me, step=step, error=type(error).__name__) from None

    def _receive(self, site: str, what: str) -> bytes:
        return self._lines.receive(site, what, within=self._patience.gather)

    def _unpadded(self, site: str, what: str) -> bytes:
        try:
            return unpadded(self._receive(site, what))
        except ValueError:
            raise SiteFailed(site=site, step=what.partition("/")[0], error="what it sent is no answer") from None

    def _decoded(self, site: str, data: bytes) -> Any:
        try:
            return decode_answer(data)
        except ValueError:
            raise SiteFailed(site=site, step="result", error="what it sent is no answer") from None

    def _package(self, site: str, what: str, like: SharePackage) -> SharePackage:
        try:
            return decode_package(self._receive(site, what), like=like)
        except ValueError as error:
            raise SiteFailed(site=site, step=what.partition("/")[0], error=str(error)) from None

    def _opened(self, what: str) -> Any:
        within = self._patience.compute
        said = {party: self._lines.receive(party, what, within=within) for party in self._parties}
        _require_one(said, what)
        return self._decoded(self.lead, said[self.lead])

    def _compare(self, what: str, mine: bytes) -> None:
        """Make sure that all parties opened the same, before this one stores it as an answer."""
        others = [party for party in self._parties if party != self._me]
        for party in others:
            self._lines.send(party, what, mine)
        said = {self._me: mine} | {party: self._receive(party, what) for party in others}
        _require_one({party: said[party] for party in self._parties}, what)

    def _play(self, protocol: Callable[..., Any], packages: Sequence[SharePackage], traffic: Traffic) -> Any:
        try:
            session = self._connected()
            rounds, sent = session.usage.rounds, session.usage.bytes_sent
            triples, dealt = _triples(session), _dealt_bytes(session)
            result = self._runner().run(protocol(session, packages))
        except RelayUnavailable as error:
            raise JobFailed("relay", error.reason) from None
        except PartyFailed as error:
            raise SiteFailed(site=self._parties[error.party], step=self._step, error=error.reason) from None
        except FrameRejected as error:
            site = self._me if error.sender is None else self._parties[error.sender]
            raise SiteFailed(site=site, step=self._step, error=error.rule) from None
        except DealerUnavailable as error:
            dealer = self.study.federation.dealer or self._me
            raise SiteFailed(site=dealer, step=self._step, error=error.reason) from None
        except (MaterialError, ProtocolAbort) as error:
            party = getattr(error, "party", None)
            site = self._me if party is None else self._parties[party]
            raise SiteFailed(site=site, step=self._step, error=f"{type(error).__name__}: {error}") from None
        except SynthemaError:
            raise
        except Exception as error:  # noqa: BLE001 - the text could hold more than what was opened
            raise SiteFailed(site=self._me, step=self._step, error=type(error).__name__) from None
        traffic.rounds += session.usage.rounds - rounds
        traffic.bytes_sent += session.usage.bytes_sent - sent
        traffic.triples += _triples(session) - triples
        traffic.dealer_bytes += _dealt_bytes(session) - dealt
        return result

    @property
    def _step(self) -> str:
        return next(reversed(self._computed), "start")

    def _runner(self) -> asyncio.Runner:
        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop

    def _connected(self) -> Session:
        if self._session is None:
            # A party may come as late as it has to wait for shares, and names whom it waited for: that comes first.
            within = self._patience.gather + self._patience.round
            transport = self._lines.transport(self._parties, f"{self._run}/mpc", within=within)
            self._transport = transport
            self._store = NoMaterial() if self._material is None else self._material()
            session = Session(
                party=transport.party,
                n_parties=transport.n_parties,
                transport=transport,
                material=self._store,
                session_id=transport.session_id,
                timeout=within,
                rng=self._rng,
            )
            # Seeds of a dealer that was started again in between would make products wrong without anybody noticing.
            self._runner().run(session.agree_on_material())
            self._session = session
        return self._session


def _require_one(said: Mapping[str, bytes], what: str) -> None:
    """Raise SiteFailed unless all parties say the same; it names who stands against most of the others.

    Of two parties that differ, nobody else can tell which is wrong: then the text names both.
    """
    found = Counter(said.values())
    if len(found) == 1:
        return
    most, votes = found.most_common(1)[0]
    apart = [party for party, data in said.items() if data != most]
    with_most = next(party for party, data in said.items() if data == most)
    error = f"it says that another value was opened than {with_most}"
    if votes * 2 <= len(said):
        error += ": one of them is wrong, or a party told them different things"
    raise SiteFailed(site=apart[0], step=what.partition("/")[0], error=error)


def _triples(session: Session) -> int:
    return sum(count for kind, count in session.usage.material.items() if isinstance(kind, Product))


def _dealt_bytes(session: Session) -> int:
    """Return what the dealer sent for the material that was used: to the last party, the same word of all parties."""
    return sum(kind.dealer_bytes(count) for kind, count in session.usage.material.items())
