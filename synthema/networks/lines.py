"""One site's lines during one attempt at a job: letters that are sealed, kept until they arrived, and waited for.

    courier   takes letters to other members and brings theirs: through a hub, or from thread to thread
    hello     begins each pair of members (`synthema.networks.mail`); what is sealed before both hellos are here waits
    ack       the number up to which a member has opened letters; those are forgotten at the sender

A courier may lose letters while a line is down. `resume` sends again what no ack has come for, and a letter that comes
twice is dropped, so a job goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from smpc.transport.roster import Identity
from synthema.errors import MailRejected, SiteFailed
from synthema.networks.mail import Mailroom

if TYPE_CHECKING:
    from smpc.transport import NetworkTransport

# What one member may send ahead of its being asked for; a letter counts as more than its payload.
MOST_WAITING_BYTES = 1 << 28
_LETTER_BYTES = 1 << 10


@dataclass(frozen=True, slots=True, repr=False)
class Letter:
    """What a courier carries.

    what     public: which step and part of it the payload belongs to
    number   of a mail, counted from 0 for each pair of members; of an ack, the number that is due next
    """

    kind: Literal["hello", "mail", "ack"]
    job: str
    attempt: int
    number: int = 0
    what: str = ""
    payload: bytes = b""

    def __repr__(self) -> str:
        return f"Letter({self.kind}, number={self.number}, what={self.what!r})"


class Courier(Protocol):
    """Takes letters to other members. May lose them, never alters their order, and never blocks for long."""

    def post(self, to: str, letter: Letter) -> None:
        """Send a letter, or lose it if the member cannot be reached."""
        ...


Stopped = Callable[[], bool]
Connect = Callable[[Sequence[str], str, float, Stopped], "NetworkTransport"]


class JobLines:
    """See `SiteLines`. Letters come in by `deliver`, from the courier's thread.

    Parameters
    ----------
    site
        This member.
    identity
        Its Ed25519 key.
    partners
        The pinned public keys of the members that this one has to do with in this job.
    request
        The submission that this site accepted: partners that accepted another one are not talked to.
    connect
        Connects for rounds: members, run, seconds, and what says, asked while others are waited for, that it is over.
    away_seconds
        How long a member may be away from the hub before it is given up.
    """

    def __init__(
        self,
        site: str,
        identity: Identity,
        partners: Mapping[str, bytes],
        *,
        job_id: str,
        attempt: int,
        courier: Courier,
        connect: Connect,
        request: bytes = b"",
        away_seconds: float = 30.0,
    ) -> None:
        self.site = site
        self._job, self._attempt = job_id, attempt
        self._partners = frozenset(partners)
        self._courier = courier
        self._connect = connect
        self._away_seconds = away_seconds
        # Since when a member is away; any that is connected to the hub, also one that takes no part.
        self._away: dict[str, float] = {}
        self._watched = set(partners)
        self._mailroom = Mailroom(site, identity, partners, job_id=job_id, attempt=attempt, request=request)
        self._changed = threading.Condition()
        self._inbox: dict[tuple[str, str], deque[bytes]] = {}
        self._waiting_bytes: dict[str, int] = dict.fromkeys(partners, 0)
        self._unsealed: dict[str, list[tuple[str, bytes]]] = {partner: [] for partner in partners}
        self._unacked: dict[str, deque[Letter]] = {partner: deque() for partner in partners}
        self._failure: SiteFailed | None = None
        self._step = "start"

    def __repr__(self) -> str:
        return f"JobLines({self.site!r}, partners={sorted(self._partners)})"

    @property
    def partners(self) -> frozenset[str]:
        """The members that this one has to do with."""
        return self._partners

    def begin(self) -> None:
        """Say hello to all partners."""
        for partner in sorted(self._partners):
            self._courier.post(partner, self._letter("hello", payload=self._mailroom.hello))

    def resume(self, partner: str | None = None) -> None:
        """Send again what did not arrive: the line, or this partner, was away."""
        with self._changed:
            for each in sorted(self._partners) if partner is None else [partner]:
                self._away.pop(each, None)
                if each in self._partners and self._failure is None:
                    self._courier.post(each, self._letter("hello", payload=self._mailroom.hello))
                    for letter in self._unacked[each]:
                        self._courier.post(each, letter)

    def miss(self, partner: str) -> None:
        """Note that a member left the hub. It has a while to come back."""
        with self._changed:
            self._away.setdefault(partner, time.monotonic())
            self._changed.notify_all()

    def fail(self, site: str, error: str) -> None:
        """Stop: whoever waits here, or sends, is told that this site failed."""
        with self._changed:
            if self._failure is None:
                self._failure = SiteFailed(site=site, step=self._step, error=error)
            self._changed.notify_all()

    def explained(self, failed: SiteFailed, *, within: float = 1.0) -> SiteFailed:
        """Return what stopped the job: a party that closes its lines may only have been the first to notice.

        Waits a moment for word that somebody failed, or left the hub.
        """
        with self._changed:
            if failed.site != self.site and failed.site not in self._away:
                self._changed.wait_for(lambda: self._failure is not None or bool(self._missing), within)
            if self._failure is not None:
                return self._failure
            missing = self._missing
            if missing and failed.site not in missing and failed.site != self.site:
                return SiteFailed(site=min(missing), step=failed.step, error="it left the hub")
        return failed

    @property
    def _missing(self) -> set[str]:
        return self._watched & self._away.keys()

    @property
    def failure(self) -> SiteFailed | None:
        """Why the job was stopped, if it was."""
        return self._failure

    def enter(self, step: str) -> None:
        """Note which step the job is in, for errors. Raises SiteFailed if it was stopped."""
        self._step = step
        self._check()

    def send(self, to: str, what: str, payload: bytes) -> None:
        """Seal a payload for a member and send it; what cannot be sent now is kept and sent later."""
        with self._changed:
            self._check()
            if self._mailroom.knows(to):
                self._post(to, what, payload)
            else:
                self._unsealed[to].append((what, payload))

    def receive(self, sender: str, what: str, *, within: float) -> bytes:
        """Return what a member sent.

        Raises
        ------
        SiteFailed
            If it does not come in time, or the job was stopped.
        """
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                self._check()
                queue = self._inbox.get((sender, what))
                if queue:
                    payload = queue.popleft()
                    if not queue:
                        del self._inbox[(sender, what)]
                    self._waiting_bytes[sender] -= len(payload) + _LETTER_BYTES
                    return payload
                now = time.monotonic()
                given_up = self._away.get(sender, now) + self._away_seconds
                if now >= deadline:
                    raise SiteFailed(site=sender, step=self._step, error=f"it sent nothing within {within:g} s")
                if now >= given_up:
                    raise SiteFailed(site=sender, step=self._step, error="it left the hub and did not come back")
                self._changed.wait(min(deadline, given_up) - now)

    def wait_for(self, partner: str, *, within: float) -> None:
        """Wait until a partner has said hello: it takes part in this attempt, with the key that is pinned.

        Raises
        ------
        SiteFailed
            If it does not come in time, or the job was stopped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._mailroom.knows(partner), within)
            self._check()
            if not self._mailroom.knows(partner):
                raise SiteFailed(site=partner, step=self._step, error=f"it did not come within {within:g} s")

    def transport(self, members: Sequence[str], run: str, *, within: float) -> NetworkTransport:
        """Connect for rounds with other members, this one included.

        Raises
        ------
        SiteFailed
            If one does not come in time or left the hub, or the job was stopped.
        """
        self._check()
        self._watched.update(member for member in members if member != self.site)
        try:
            found = self._connect(
                members, run, within, lambda: self._failure is not None or self._gone(members) is not None
            )
        except SiteFailed:
            self._check()
            gone = self._gone(members)
            if gone is None:
                raise
            raise SiteFailed(site=gone, step=self._step, error="it left the hub and did not come back") from None
        # A job that was stopped ends in the middle of a protocol too, whatever the others go on with.
        found.stop_when(lambda: self._failure is not None)
        return found

    def deliver(self, sender: str, letter: Letter) -> None:
        """Take a letter that came from a member. One that is not right stops the job here, naming the member."""
        if letter.job != self._job or letter.attempt != self._attempt or sender not in self._partners:
            return
        with self._changed:
            try:
                self._take(sender, letter)
            except MailRejected as error:
                if self._failure is None:
                    self._failure = SiteFailed(site=sender, step=self._step, error=error.rule)
            self._changed.notify_all()

    def close(self) -> None:
        """Forget keys and letters."""
        with self._changed:
            self._mailroom.forget()
            self._inbox.clear()
            for queue in self._unacked.values():
                queue.clear()
            if self._failure is None:
                self._failure = SiteFailed(site=self.site, step=self._step, error="its lines are closed")
            self._changed.notify_all()

    def wait_until_read(self, *, within: float) -> bool:
        """Wait until all partners have opened what was sent to them; return whether they have.

        One that left the hub and did not come back is not waited for.
        """
        deadline = time.monotonic() + within
        with self._changed:
            while waiting := [name for name in self._partners if self._unacked[name] or self._unsealed[name]]:
                now = time.monotonic()
                until = min(deadline, max(self._away.get(name, deadline) + self._away_seconds for name in waiting))
                if now >= until or self._failure is not None:
                    return False
                self._changed.wait(until - now)
        return True

    def _gone(self, members: Sequence[str]) -> str | None:
        """Return a member that has been away for too long."""
        now = time.monotonic()
        with self._changed:
            return next((name for name in members if now - self._away.get(name, now) >= self._away_seconds > 0), None)

    def _take(self, sender: str, letter: Letter) -> None:
        match letter.kind:
            case "hello":
                is_new = not self._mailroom.knows(sender)
                self._mailroom.greet(sender, letter.payload)
                if is_new:
                    # Ours may have come before the partner had begun, and is lost then.
                    self._courier.post(sender, self._letter("hello", payload=self._mailroom.hello))
                waiting, self._unsealed[sender] = self._unsealed[sender], []
                for what, payload in waiting:
                    self._post(sender, what, payload)
            case "ack":
                unacked = self._unacked[sender]
                while unacked and unacked[0].number < letter.number:
                    unacked.popleft()
            case "mail":
                # One from before the hello is sent again, after it.
                if not self._mailroom.knows(sender) or letter.number > self._mailroom.expects(sender):
                    return
                if letter.number == self._mailroom.expects(sender):
                    self._waiting_bytes[sender] += len(letter.payload) + _LETTER_BYTES
                    if self._waiting_bytes[sender] > MOST_WAITING_BYTES:
                        raise MailRejected(sender, "it sends further ahead than any step needs")
                    payload = self._mailroom.open(sender, letter.what, letter.number, letter.payload)
                    self._waiting_bytes[sender] += len(payload) - len(letter.payload)
                    self._inbox.setdefault((sender, letter.what), deque()).append(payload)
                self._courier.post(sender, self._letter("ack", number=self._mailroom.expects(sender)))

    def _post(self, to: str, what: str, payload: bytes) -> None:
        number, sealed = self._mailroom.seal(to, what, payload)
        letter = self._letter("mail", number=number, what=what, payload=sealed)
        self._unacked[to].append(letter)
        self._courier.post(to, letter)

    def _letter(
        self, kind: Literal["hello", "mail", "ack"], *, number: int = 0, what: str = "", payload: bytes = b""
    ) -> Letter:
        return Letter(kind, self._job, self._attempt, number, what, payload)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
