"""Agents as threads of one process: the same agents, lines and rounds as behind a hub, without hub and TLS.

For tests and simulations of what needs no second machine. Letters are carried by one thread, in order; parties connect
over loopback sockets without TLS, so whoever reads this machine's memory or loopback sees their frames.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smpc.errors import PeerUnavailable, SmpcError
from smpc.online_dealer import serve_run
from smpc.transport import InsecurePlainTransport
from smpc.transport.roster import Identity, Member, Roster
from synthema.networks.asking import Question
from synthema.networks.base import Decision, Ending, JobResult
from synthema.networks.lines import Letter, Stopped

if TYPE_CHECKING:
    from smpc.transport import NetworkTransport
    from synthema.agent.agent import Agent
    from synthema.study import Study
    from synthema.submission import Submission


# How often a wait looks whether it is over.
_LOOK_SECONDS = 0.1


class InsecureLocalHub:
    """Carries letters between agents of this process, and keeps what they decide (`synthema.networks.base.Network`)."""

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}
        self._letters: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._decisions: dict[str, dict[str, Decision]] = {}
        self._endings: dict[str, dict[str, Ending]] = {}
        self._results: dict[str, bytes] = {}
        self._sites: dict[str, tuple[str, ...]] = {}
        self._attempts: dict[str, int] = {}
        self._ports: dict[str, dict[str, int]] = {}
        self._studies: dict[str, Study] = {}
        self._dealers: dict[str, tuple[Identity, dict[str, bytes]]] = {}
        self._thread = threading.Thread(target=self._carry, name="letters", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"InsecureLocalHub({sorted(self._agents)})"

    def add(self, agent: Agent) -> None:
        """Take a member in, and start its threads."""
        self._agents[agent.name] = agent
        agent.begin()

    def add_dealer(self, name: str, identity: Identity, parties: Mapping[str, bytes]) -> None:
        """Have a thread of this process deal for the runs of studies that name this dealer."""
        self._dealers[name] = (identity, dict(parties))

    def close(self) -> None:
        """Stop all agents."""
        for agent in self._agents.values():
            agent.close()
        self._letters.put(None)
        self._thread.join(10)

    # For agents.

    def desk(self, site: str) -> Desk:
        """Return what an agent of this name talks to."""
        return Desk(self, site)

    def pass_on(self, task: Callable[[], None]) -> None:
        """Have the carrier do something, after all that it was given before."""
        self._letters.put(task)

    def member(self, name: str) -> Agent | None:
        """Return a member, or None if it is away."""
        return self._agents.get(name)

    def remove(self, name: str) -> None:
        """Forget a member: letters to it are lost from now on, and the others miss it."""
        with self._changed:
            self._agents.pop(name, None)
            self._changed.notify_all()
        for agent in list(self._agents.values()):
            agent.miss(name)

    def keep_decision(self, job_id: str, site: str, decision: Decision) -> None:
        """Take a site's decision."""
        with self._changed:
            self._decisions.setdefault(job_id, {})[site] = decision
            self._changed.notify_all()

    def keep_ending(self, job_id: str, site: str, ending: Ending, result: bytes) -> None:
        """Take how a job ended at a site. A failure is told to all others at once."""
        with self._changed:
            self._endings.setdefault(job_id, {})[site] = ending
            if result:
                self._results[job_id] = result
            self._changed.notify_all()
        if ending.state == "failed":
            self.cancel(job_id, site=ending.site or site, error=ending.error)

    def connect(
        self, roster: Roster, identity: Identity, run: str, within: float, stopped: Stopped = lambda: False
    ) -> NetworkTransport:
        """Connect with all parties of a roster, over loopback."""
        deadline = time.monotonic() + within
        listener = socket.create_server(("127.0.0.1", 0))
        with self._changed:
            ports = self._ports.setdefault(run, {})
            ports[roster[identity.party].name] = listener.getsockname()[1]
            self._changed.notify_all()
            while len(ports) < len(roster) and time.monotonic() < deadline and not stopped():
                self._changed.wait(_LOOK_SECONDS)
            if len(ports) < len(roster):
                listener.close()
                missing = next(i for i, member in enumerate(roster.members) if member.name not in ports)
                raise PeerUnavailable(missing, reason=f"it did not come within {within:g} s")
        members = tuple(replace(member, host="127.0.0.1", port=ports[member.name]) for member in roster.members)
        left = max(0.0, deadline - time.monotonic())
        return InsecurePlainTransport.connect(Roster(members), identity, run=run, listener=listener, within=left)

    # For the researcher.

    def offer(self, submission: Submission, *, within: float) -> Mapping[str, Decision]:
        """Offer a job to every site of its study."""
        from synthema.study import Study

        study = Study.from_document(submission.document.body)
        sites = tuple(study.sites)
        job_id, data = submission.job_id, submission.encode()
        with self._changed:
            self._sites[job_id], self._studies[job_id] = sites, study
            self._attempts[job_id] = self._attempts.get(job_id, 0) + 1
            self._decisions[job_id], self._endings[job_id] = {}, {}
            self._results.pop(job_id, None)
        for site in sites:
            self._tell(site, "offer", job_id, data)
        with self._changed:
            decided = self._decisions[job_id]
            self._changed.wait_for(lambda: self._have_all(decided, sites), within)
            return dict(decided)

    def run(self, job_id: str, *, within: float) -> JobResult:
        """Start a job, and wait until it ended at every site, or failed at one."""
        sites = self._sites[job_id]
        self._deal(job_id, within)
        for site in sites:
            self._tell(site, "start", job_id, self._attempts[job_id])
        with self._changed:
            endings = self._endings[job_id]
            self._changed.wait_for(
                lambda: self._have_all(endings, sites) or any(each.state == "failed" for each in endings.values()),
                within,
            )
            return JobResult(dict(self._decisions[job_id]), dict(endings), self._results.get(job_id, b""))

    def cancel(self, job_id: str, *, site: str, error: str) -> None:
        """Tell every site that the job is over."""
        for name in self._sites.get(job_id, ()):
            agent = self._agents.get(name)
            if agent is not None:
                agent.cancel(job_id, site=site, error=error)

    def _deal(self, job_id: str, within: float) -> None:
        study = self._studies[job_id]
        found = self._dealers.get(study.federation.dealer or "")
        if found is None:
            return
        identity, parties = found
        run = f"{job_id}/{self._attempts[job_id]}/deal"
        endings = self._endings[job_id]
        lines: list[NetworkTransport] = []

        def is_over() -> bool:
            return any(each.state == "failed" for each in list(endings.values()))

        def line(party: int) -> NetworkTransport:
            name = study.compute_parties[party]
            members = (Member(study.federation.dealer or "", identity.public), Member(name, parties[name]))
            made = self.connect(Roster(members), identity.at(0), f"{run}/{party}", within, is_over)
            lines.append(made)
            return made

        def deal() -> None:
            n_parties = len(study.compute_parties)
            # A run that fails fails at the parties, which say why.
            try:
                with contextlib.suppress(SmpcError), ThreadPoolExecutor(n_parties) as pool:
                    serve_run(list(pool.map(line, range(n_parties))), n_parties=n_parties, stopped=is_over)
            finally:
                for each in lines:
                    each.close()

        threading.Thread(target=deal, name="dealer", daemon=True).start()

    def _have_all(self, said: Mapping[str, object], sites: Iterable[str]) -> bool:
        """Whether all sites have said something; one that was removed does not come back."""
        return all(site in said or site not in self._agents for site in sites)

    def _tell(self, site: str, what: str, *arguments: Any) -> None:
        agent = self._agents.get(site)
        if agent is not None:
            getattr(agent, what)(*arguments)

    def _carry(self) -> None:
        while (task := self._letters.get()) is not None:
            with contextlib.suppress(Exception):
                task()


class Desk:
    """One agent's side of the local hub: control, courier and questions."""

    def __init__(self, hub: InsecureLocalHub, site: str) -> None:
        self._hub, self._site = hub, site

    def __repr__(self) -> str:
        return f"Desk({self._site!r})"

    def decision(self, job_id: str, decision: Decision) -> None:
        """Take a decision on an offer."""
        self._hub.keep_decision(job_id, self._site, decision)

    def ending(self, job_id: str, attempt: int, ending: Ending, result: bytes) -> None:
        """Take how a job ended here."""
        del attempt
        self._hub.keep_ending(job_id, self._site, ending, result)

    def dropped(self, job_id: str) -> None:
        """Nothing waits for it."""

    def post(self, to: str, letter: Letter) -> None:
        """Carry a letter, or lose it."""

        def carry() -> None:
            receiver = self._hub.member(to)
            if receiver is not None:
                receiver.letter(self._site, letter)

        self._hub.pass_on(carry)

    def ask(self, to: str, question: Question) -> bool:
        """Carry a question or an answer; return whether there is such a member."""

        def carry() -> None:
            receiver = self._hub.member(to)
            if receiver is not None:
                receiver.question(self._site, question)

        self._hub.pass_on(carry)
        return self._hub.member(to) is not None
