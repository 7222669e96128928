"""The dealer as a member of the network: it waits for runs, and serves material to their compute parties.

    offer    a researcher's signed study; whether this dealer serves it is its operator's choice
    start    a job begins: the dealer opens a line of two members to each party, "{job}/{attempt}/deal/{i}", over the
             hub's relay, and serves until the parties are done (`smpc.online_dealer`)
    cancel   a job does not go on

The hub says which parties take part; whom the dealer talks to is settled by the keys that its operator pinned. So a hub
that lies makes a run fail, and learns nothing. The dealer keeps nothing of a run when it is over, and logs what it
served without a word about data, of which it sees none. After a restart it serves the runs that begin then: one that
was under way has to be started again, because its seeds are gone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from smpc.dealing import check_separate
from smpc.errors import DealerNotSeparate, PeerUnavailable, ProtocolAbort, SmpcError
from smpc.transport.roster import Identity, Member, Roster
from synthema.dealer_config import DealerService
from synthema.errors import SynthemaError
from synthema.messages import Cancel, Decision, Head, Message, Offer, Outcome, Start
from synthema.networks.line import Line, LineBusy, LineDown
from synthema.networks.seats import take_seat

if TYPE_CHECKING:
    from smpc.online_dealer import DealtSummary
    from smpc.transport import NetworkTransport

_log = logging.getLogger(__name__)

# The last one is asked now and then whether the wait is to end.
Connect = Callable[[Roster, Identity, str, float, Callable[[], bool]], "NetworkTransport"]
# Offers that were accepted and have not begun: one more pushes out the oldest.
_MOST_OFFERS = 1000
_FAREWELL_SECONDS = 5.0


class DealerRefused(SynthemaError):
    """The dealer does not serve a job, for a reason that everybody may know."""

    def __init__(self, reason: str, explanation: str) -> None:
        self.reason = reason
        self.explanation = explanation
        super().__init__(explanation)


class DealerMember:
    """Serves the runs that the hub announces, within what its operator allows.

    Parameters
    ----------
    config
        The dealer's file.
    identity
        Its Ed25519 key.
    connect
        Connects two members: roster, identity, run, seconds, whether to stop.
    tell
        Sends a head to the hub; must not block for long.
    """

    def __init__(
        self, config: DealerService, *, identity: Identity, connect: Connect, tell: Callable[[Head], None]
    ) -> None:
        self._config = config
        self._limits = config.run_limits()
        self._identity = identity
        self._connect = connect
        self._tell = tell
        self._lock = threading.Lock()
        self._offers: dict[str, None] = {}
        self._stops: dict[tuple[str, int], threading.Event] = {}
        self._begun: set[tuple[str, int]] = set()
        self._threads: set[threading.Thread] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"DealerMember({self._config.name!r}, runs={len(self._stops)})"

    def handle(self, message: Message) -> None:
        """Take a message from the hub, in the line's thread. Returns at once; a run has a thread of its own."""
        head = message.head
        match head:
            case Offer():
                self._offer(head, message.payload)
            case Start():
                self._start(head)
            case Cancel():
                self._stop(head.job, head.attempt)
            case Outcome():
                if head.state == "failed":
                    self._stop(head.job, head.attempt)
            case _:
                pass

    def close(self) -> None:
        """End all runs, and wait a short time until their parties were told."""
        with self._lock:
            self._closing = True
            for stop in self._stops.values():
                stop.set()
            threads = list(self._threads)
        for thread in threads:
            thread.join(_FAREWELL_SECONDS)

    def wait(self, within: float) -> bool:
        """Wait until no run is served; return whether that is so."""
        for thread in list(self._threads):
            thread.join(within)
        return not self._stops

    def _offer(self, head: Offer, payload: bytes) -> None:
        try:
            self._check_members(head.parties, head.dealer)
            self._check_researcher(head.job, payload)
        except DealerRefused as refusal:
            answer = Decision(
                job=head.job,
                attempt=head.attempt,
                decision="refused",
                reason=refusal.reason,
                explanation=refusal.explanation,
            )
        else:
            answer = Decision(job=head.job, attempt=head.attempt, decision="accepted")
            with self._lock:
                self._offers[head.job] = None
                while len(self._offers) > _MOST_OFFERS:
                    del self._offers[next(iter(self._offers))]
        _log.info("job %s: %s %s", head.job[:16], answer.decision, answer.reason)
        self._tell(answer)

    def _check_researcher(self, job: str, payload: bytes) -> None:
        from synthema.submission import Submission

        try:
            submission = Submission.decode(payload)
            submission.verify()
        except SynthemaError:
            raise DealerRefused("malformed", "the offer holds no signed study") from None
        if submission.job_id != job:
            raise DealerRefused("malformed", "the offer holds another study than it says")
        allowed = self._config.researchers
        if allowed is not None and submission.document.public_key not in allowed:
            raise DealerRefused("researcher", "this dealer does not serve this researcher")

    def _check_members(self, parties: Sequence[str], dealer: str | None) -> None:
        config = self._config
        if dealer != config.name:
            raise DealerRefused("dealer", "the job names another dealer")
        if not 2 <= len(set(parties)) == len(parties):
            raise DealerRefused("parties", "a run has two to five parties, each named once")
        unknown = sorted(set(parties) - config.partners.keys())
        if unknown:
            raise DealerRefused("parties", f"this dealer has not pinned the key of {unknown[0]!r}")
        try:
            operators = [config.partners[name].operator for name in parties]
            check_separate(config.operator, relay=config.hub.operator, parties=operators)
        except DealerNotSeparate as error:
            raise DealerRefused("not_separate", f"the dealer's operator is {error.role}") from None

    def _start(self, head: Start) -> None:
        run = (head.job, head.attempt)
        with self._lock:
            # Announced again by a hub that did not hear of it: the first announcement counts.
            if run in self._begun or self._closing:
                return
        try:
            self._check_members(head.parties, head.dealer)
            self._check_start(head.job)
        except DealerRefused as refusal:
            _log.warning("job %s/%d: refused, %s", head.job[:16], head.attempt, refusal.reason)
            self._failed(head, refusal.reason, refusal.explanation)
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._serve, args=(head, stop), name="dealing", daemon=True)
        with self._lock:
            self._begun.add(run)
            self._stops[run] = stop
            self._threads.add(thread)
        thread.start()

    def _check_start(self, job: str) -> None:
        if self._config.researchers is not None and job not in self._offers:
            raise DealerRefused("researcher", "this dealer was not offered the job, or refused it")
        if len(self._stops) >= self._config.most_runs:
            raise DealerRefused("busy", f"this dealer serves {self._config.most_runs} runs at a time")

    def _stop(self, job: str, attempt: int) -> None:
        with self._lock:
            self._offers.pop(job, None)
            stop = self._stops.get((job, attempt))
        if stop is not None:
            stop.set()

    def _serve(self, head: Start, stop: threading.Event) -> None:
        name = f"{head.job[:16]}/{head.attempt}"
        try:
            summary = self._deal(head, stop)
        except SmpcError as error:
            _log.warning("job %s: ended, %s: %s", name, type(error).__name__, error)
            if not stop.is_set():
                self._failed(head, type(error).__name__, "the dealer ended the run", site=_party_of(error, head))
        except Exception as error:  # noqa: BLE001 - the dealer outlives one run
            # No traceback: it may show values.
            _log.error("job %s: ended, %s", name, type(error).__name__)
            self._failed(head, "internal", "the dealer ended the run")
        else:
            _log.info(
                "job %s: served %d parties, dealing %s, %d requests, %d bytes, %.1f s%s",
                name,
                summary.n_parties,
                summary.dealing.hex()[:8],
                summary.requests,
                summary.n_bytes,
                summary.seconds,
                "" if all(summary.finished) else ", a party left without a word",
            )
        finally:
            with self._lock:
                self._stops.pop((head.job, head.attempt), None)
                self._threads.discard(threading.current_thread())

    def _deal(self, head: Start, stop: threading.Event) -> DealtSummary:
        from smpc.online_dealer import serve_run

        one_failed = threading.Event()

        def line(i: int) -> NetworkTransport:
            name = head.parties[i]
            members = (
                Member(self._config.name, self._identity.public),
                Member(name, bytes.fromhex(self._config.partners[name].identity)),
            )
            run = f"{head.job}/{head.attempt}/deal/{i}"
            within = self._config.connect_seconds
            try:
                return self._connect(
                    Roster(members), self._identity.at(0), run, within, lambda: stop.is_set() or one_failed.is_set()
                )
            except PeerUnavailable as error:
                one_failed.set()
                # Of two members of a line, number 1; of the run's parties, this one.
                raise PeerUnavailable(i, reason=error.reason) from None
            except BaseException:
                one_failed.set()
                raise

        n_parties = len(head.parties)
        with ThreadPoolExecutor(n_parties, thread_name_prefix="dealing") as pool:
            futures = [pool.submit(line, i) for i in range(n_parties)]
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        lines = [future.result() for future in futures if future.exception() is None]
        if errors:
            for each in lines:
                each.close()
            # Those that stopped waiting did so because of another.
            raise min(errors, key=lambda error: isinstance(error, ProtocolAbort))
        return serve_run(lines, n_parties=n_parties, limits=self._limits, stopped=stop.is_set)

    def _failed(self, head: Start, error: str, explanation: str, *, site: str | None = None) -> None:
        self._tell(
            Outcome(
                job=head.job,
                attempt=head.attempt,
                state="failed",
                error=error,
                explanation=explanation,
                site=site or self._config.name,
                step="material",
            )
        )


def _party_of(error: SmpcError, head: Start) -> str | None:
    """Return the party that left, was silent, or sent what it should not, if it was one."""
    number = getattr(error, "party", getattr(error, "sender", None))
    return head.parties[number] if isinstance(number, int) and number < len(head.parties) else None


class DealerProcess:
    """A dealer with its line to the hub.

    Parameters
    ----------
    config
        The dealer's file.
    """

    def __init__(self, config: DealerService) -> None:
        self._address = config.hub.hub_address()
        self._files = config.keys.member_files(config.folder)
        self._member = DealerMember(
            config,
            identity=Identity.load(0, self._files.identity),
            connect=self._connect,
            tell=self._tell,
        )
        self._line = Line(
            self._address,
            self._files,
            on_message=self._member.handle,
            on_change=lambda state: _log.info("the line to the hub is %s %s", state.kind, state.reason),
        )
        self._stopping = threading.Event()

    @property
    def line(self) -> Line:
        """The line to the hub."""
        return self._line

    def serve(self) -> None:
        """Work until `stop` is called."""
        self._line.start()
        try:
            self._stopping.wait()
        finally:
            self._member.close()
            self._line.close()

    def stop(self) -> None:
        """End `serve` soon; from any thread or a signal handler."""
        self._stopping.set()

    def _connect(
        self, roster: Roster, identity: Identity, run: str, within: float, stopped: Callable[[], bool]
    ) -> NetworkTransport:
        return take_seat(self._address, self._files, roster, identity, run, within=within, stopped=stopped)

    def _tell(self, head: Head) -> None:
        # What the hub does not hear of, the parties find out by themselves.
        with contextlib.suppress(LineDown, LineBusy):
            self._line.send(None, head)
