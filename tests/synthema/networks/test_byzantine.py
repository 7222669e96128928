"""A site that does not do as agreed, and a hub that does not: named, cut off, nothing opened, and the next job runs.

The misbehaving site has its own keys, so what it sends is sealed and signed as it should be: only what is in it, when
it comes, and how often, is wrong.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deaths import draws, open_charges
from network_members import DEALER, LocalFederation, small_study

from privacy.ledger import open_ledger
from smpc import FIELD61, share
from smpc.transport import NetworkTransport
from synthema.errors import SiteFailed, SynthemaError
from synthema.job import SiteJob
from synthema.networks.base import Decision, Ending, Patience, raise_failure
from synthema.networks.in_process import Desk
from synthema.networks.lines import JobLines, Letter
from synthema.networks.packages import encode_package

PARTIES = ("vienna", "madrid", "milan")
FOUR = (*PARTIES, "berlin")
PATIENCE = Patience(gather=2.0, round=1.0, away=0.3)
LONG = 20.0


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[LocalFederation]:
    found = LocalFederation(tmp_path, patience=PATIENCE, sites=FOUR)
    found.begin()
    yield found
    found.close()


def _study(name: str = "pilot", **sections: Any) -> Any:
    return small_study(name.replace(" ", "-"), epsilon=1.0, sites=FOUR, **sections)


def _answers(federation: LocalFederation) -> dict[str, int]:
    """How many answers each site's ledger has stored."""
    for agent in federation.agents.values():
        assert agent.wait_until_idle(within=LONG)
    found = {}
    for site in FOUR:
        found[site] = 0
        if (federation.folder / f"{site}.db").exists():
            with open_ledger(f"sqlite:///{federation.folder / site}.db", site=site) as ledger:
                posts = [entry for entry in ledger.entries() if entry.kind == "post"]
                found[site] = sum(entry.body["answer"] is not None for entry in posts)
    return found


def _fails_naming(federation: LocalFederation, culprit: str, study: Any, *, answered: tuple[str, ...] = ()) -> str:
    """Run a study that the culprit spoils; return what it is said to have done."""
    with pytest.raises(SiteFailed) as failed:
        federation.run(study, within=LONG)
    assert failed.value.site == culprit
    stored = _answers(federation)
    assert {site for site, number in stored.items() if number and site != culprit} == set(answered)
    assert not any(open_charges(federation.folder, FOUR).values())
    return failed.value.error


def _go_on(federation: LocalFederation) -> None:
    """Run another job with the same agents."""
    assert federation.run(_study("afterwards"), within=LONG)["synthetic"]
    assert set(draws(federation.folder, FOUR).values()) == {1}


def _sends(monkeypatch: pytest.MonkeyPatch, site: str, change: Callable[[str, str, bytes], bytes | None]) -> None:
    """Have a site send something else in place of what it should: sealed by itself, or nothing."""
    send = JobLines.send

    def other(lines: JobLines, to: str, what: str, payload: bytes) -> None:
        changed = change(to, what, payload) if lines.site == site else payload
        if changed is not None:
            send(lines, to, what, changed)

    monkeypatch.setattr(JobLines, "send", other)


def _shares_of(values: Any, **options: Any) -> bytes:
    return encode_package(share(values, 3, **options)[0])


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        pytest.param(b"", "no package", id="nothing", marks=pytest.mark.slow),
        pytest.param(os.urandom(500), "no package", id="garbage", marks=pytest.mark.slow),
        pytest.param(_shares_of([1, 2, 3]), "another domain or shape", id="shape"),
        pytest.param(
            _shares_of(np.zeros(41, dtype=np.int64), domain=FIELD61),
            "another domain or shape",
            id="domain",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            b"SYP1\x01\x02\x01" + (2**62).to_bytes(8, "little"),
            "another domain or shape",
            id="huge",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_packages_that_are_none_or_do_not_fit(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, payload: bytes, rule: str
) -> None:
    with monkeypatch.context() as patch:
        _sends(patch, "berlin", lambda _to, what, sent: payload if what.endswith("/shares") else sent)
        assert rule in _fails_naming(federation, "berlin", _study())
    _go_on(federation)


def test_counts_that_no_table_of_patients_has(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    count = SiteJob.marginal_counts

    def one_too_many(job: SiteJob) -> Any:
        first, *others = count(job)
        if job.site.name == "berlin":
            words = first.expand().copy()
            words[0] += np.uint64(1)
            first = replace(first, seed=None, values=words)
        return [first, *others]

    study = _study(federation={"dealer": DEALER}, synthesis={"rows": 20, "mechanism": "mst"})
    with monkeypatch.context() as patch:
        patch.setattr(SiteJob, "marginal_counts", one_too_many)
        assert "cannot be counts" in _fails_naming(federation, "berlin", study)
    _go_on(federation)


@pytest.mark.slow
@pytest.mark.parametrize("culprit", ["berlin", "milan"])
def test_a_site_that_stalls_before_it_shares(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    with monkeypatch.context() as patch:
        _sends(patch, culprit, lambda _to, what, sent: None if what.endswith("/shares") else sent)
        began = time.monotonic()
        assert "sent nothing within 2 s" in _fails_naming(federation, culprit, _study())
        assert time.monotonic() - began < PATIENCE.gather + PATIENCE.round + LONG
    _go_on(federation)


@pytest.mark.slow
def test_a_party_that_stalls_in_a_round(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = NetworkTransport.exchange_blocking
    wakes = threading.Event()

    def sleepy(transport: NetworkTransport, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "milan-jobs":
            wakes.wait(LONG)
        return exchange(transport, *arguments, **options)

    def with_alarm(*arguments: Any, **options: Any) -> None:
        # The others have given up, and told milan.
        wakes.set()
        Desk_ending(*arguments, **options)

    Desk_ending = Desk.ending
    with monkeypatch.context() as patch:
        patch.setattr(NetworkTransport, "exchange_blocking", sleepy)
        patch.setattr(Desk, "ending", with_alarm)
        assert "nothing arrived" in _fails_naming(federation, "milan", _study())
    _go_on(federation)


@pytest.mark.slow
@pytest.mark.parametrize("liar", ["vienna", "milan"])
def test_a_party_that_tells_sites_another_value_than_was_opened(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    from privacy.ledger.answers import encode_answer

    with monkeypatch.context() as patch:
        _sends(patch, liar, lambda _to, what, sent: encode_answer([1]) if what.endswith("/opened") else sent)
        # What the parties opened is right, and they have it; berlin does not take a value that one of three denies.
        said = _fails_naming(federation, liar, _study(), answered=tuple(party for party in PARTIES if party != liar))
    assert "another value was opened" in said
    _go_on(federation)


@pytest.mark.parametrize("liar", [pytest.param("vienna", marks=pytest.mark.slow), "milan"])
def test_a_party_that_tells_parties_another_value_than_was_opened(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    with monkeypatch.context() as patch:
        _sends(patch, liar, lambda _to, what, sent: bytes(32) if what.endswith("/digest") else sent)
        with pytest.raises(SiteFailed) as failed:
            federation.run(_study(), within=LONG)
        assert failed.value.site == liar
        assert not any(_answers(federation)[party] for party in PARTIES if party != liar)
    _go_on(federation)


@pytest.mark.slow
def test_a_party_that_opens_different_things_to_different_parties(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = NetworkTransport.exchange_blocking
    rounds: list[int] = []

    def run(spoilt: int | None, name: str) -> Exception | None:
        rounds.clear()

        def two_faced(transport: NetworkTransport, outgoing: Any, *arguments: Any, **options: Any) -> Any:
            if threading.current_thread().name == "milan-jobs" and 0 in outgoing:
                rounds.append(len(rounds))
                if rounds[-1] == spoilt:
                    payload = outgoing[0].payload.copy()
                    payload.reshape(-1).view(np.uint8)[:1] ^= 1
                    outgoing = {**outgoing, 0: replace(outgoing[0], payload=payload)}
            return exchange(transport, outgoing, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(NetworkTransport, "exchange_blocking", two_faced)
            try:
                federation.run(_study(name), within=LONG)
            except SynthemaError as error:
                return error
        return None

    assert run(None, "as agreed") is None
    stored = _answers(federation)
    n_rounds = len(rounds)
    assert n_rounds >= 3
    for spoilt in range(n_rounds):
        error = run(spoilt, f"round {spoilt}")
        # Whichever round it is: no honest site stores an answer, or all store the same.
        now = _answers(federation)
        assert error is not None or now == {site: number + 1 for site, number in stored.items()}, spoilt
        if error is not None:
            assert all(now[site] == stored[site] for site in FOUR), (spoilt, error)
        stored = now
    _go_on(federation)


def _posts(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, str, Letter], list[tuple[str, Letter]]]) -> None:
    """Stand between a desk and the hub: for a letter of a site to another, give (sender, letter) in its place."""
    post = Desk.post

    def changed(desk: Desk, to: str, letter: Letter) -> None:
        for sender, each in change(desk._site, to, letter):
            post(desk if sender == desk._site else Desk(desk._hub, sender), to, each)

    monkeypatch.setattr(Desk, "post", changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hello", "mail"])
def test_letters_of_garbage(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def garbage(site: str, _to: str, letter: Letter) -> list[tuple[str, Letter]]:
        if site == "berlin" and letter.kind == kind:
            return [(site, replace(letter, payload=os.urandom(len(letter.payload))))]
        return [(site, letter)]

    with monkeypatch.context() as patch:
        _posts(patch, garbage)
        _fails_naming(federation, "berlin", _study())
    _go_on(federation)


def test_letters_of_an_earlier_attempt(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, Letter]] = []

    def keep(site: str, to: str, letter: Letter) -> list[tuple[str, Letter]]:
        if site == "madrid":
            kept.append((to, letter))
        return [(site, letter)]

    def replay(*, as_of_now: bool) -> Callable[[str, str, Letter], list[tuple[str, Letter]]]:
        def both(site: str, to: str, letter: Letter) -> list[tuple[str, Letter]]:
            old = [each for receiver, each in kept if receiver == to and each.kind == letter.kind]
            if site != "madrid":
                return [(site, letter)]
            if as_of_now:
                old = [replace(each, job=letter.job, attempt=letter.attempt) for each in old]
            return [*((site, each) for each in old), (site, letter)]

        return both

    with monkeypatch.context() as patch:
        _posts(patch, keep)
        federation.run(_study(), within=LONG)
    # As they were: of another job and attempt, so nobody reads them.
    with monkeypatch.context() as patch:
        _posts(patch, replay(as_of_now=False))
        federation.run(_study("second"), within=LONG)
    stored = _answers(federation)
    # Passed off as letters of the present attempt: they do not open, and the job ends.
    with monkeypatch.context() as patch:
        _posts(patch, replay(as_of_now=True))
        with pytest.raises(SiteFailed) as failed:
            federation.run(_study("third"), within=LONG)
    assert failed.value.site == "madrid"
    assert _answers(federation) == stored
    _go_on(federation)


@pytest.mark.slow
def test_a_flood_of_empty_letters(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    import synthema.networks.lines as module

    send = JobLines.send

    def flood(lines: JobLines, to: str, what: str, payload: bytes) -> None:
        if lines.site == "berlin":
            for number in range(200):
                send(lines, to, f"nobody/asked/{number}", b"")
        send(lines, to, what, payload)

    with monkeypatch.context() as patch:
        # Of what it takes otherwise, 2^28 bytes, a part: that many letters would take a while.
        patch.setattr(module, "MOST_WAITING_BYTES", 1 << 17)
        patch.setattr(JobLines, "send", flood)
        assert "further ahead" in _fails_naming(federation, "berlin", _study())
    _go_on(federation)


# The hub.
@pytest.mark.slow
def test_a_hub_that_starts_some_and_cancels_others(federation: LocalFederation) -> None:
    submission = federation.researcher.submission(_study())
    hub, job = federation.network, submission.job_id
    assert {each.state for each in hub.offer(submission, within=LONG).values()} == {"accepted"}
    for site in PARTIES:
        federation.agents[site].start(job, 1)
    federation.agents["berlin"].cancel(job, site="nobody", error="said the hub")
    assert not any(_answers(federation).values())
    assert not any(open_charges(federation.folder, FOUR).values())
    assert federation.spent()["berlin"] == 0.0
    _go_on(federation)


def test_a_hub_that_starts_twice_starts_what_was_not_accepted_or_another_attempt(federation: LocalFederation) -> None:
    federation.run(_study(), within=LONG)
    stored, spent = _answers(federation), federation.spent()
    job = federation.researcher.submission(_study()).job_id
    for attempt in (1, 2):
        for agent in federation.agents.values():
            agent.start(job, attempt)
            agent.start("f" * 64, attempt)
    assert _answers(federation) == stored
    assert federation.spent() == spent
    _go_on(federation)


def test_a_hub_that_offers_another_document(federation: LocalFederation) -> None:
    from synthema.submission import Submission

    honest = federation.researcher.submission(_study())
    body = honest.document.body.replace(b'"epsilon":1.0', b'"epsilon":9.0')
    assert body != honest.document.body
    changed = replace(honest, document=replace(honest.document, body=body))
    elsewhere = replace(honest, result_key=os.urandom(32))
    decisions: list[Decision] = []
    keep = federation.network.keep_decision
    federation.network.keep_decision = lambda _job, _site, decision: decisions.append(decision)  # type: ignore[method-assign]
    agent = federation.agents["vienna"]
    for job, submission in ((honest.job_id, changed), (changed.job_id, changed), (honest.job_id, elsewhere)):
        assert isinstance(submission, Submission)
        agent.offer(job, submission.encode())
    agent.offer(honest.job_id, b"{}")
    assert agent.wait_until_idle(within=LONG)
    assert [each.state for each in decisions] == ["refused"] * 4
    federation.network.keep_decision = keep  # type: ignore[method-assign]
    assert set(federation.spent().values()) == {0.0}
    _go_on(federation)


@pytest.mark.slow
def test_a_hub_that_exchanges_senders(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"madrid": "milan", "milan": "madrid"}
    with monkeypatch.context() as patch:
        _posts(patch, lambda site, to, letter: [(names.get(site, site) if to == "vienna" else site, letter)])
        with pytest.raises(SiteFailed):
            federation.run(_study(), within=LONG)
        assert not any(_answers(federation).values())
    _go_on(federation)


@pytest.mark.slow
def test_a_hub_that_keeps_the_result_for_itself(federation: LocalFederation) -> None:
    keep = federation.network.keep_ending

    def withhold(job: str, site: str, ending: Ending, result: bytes) -> None:
        if not result:
            keep(job, site, ending, result)

    federation.network.keep_ending = withhold  # type: ignore[method-assign]
    with pytest.raises(SiteFailed) as failed:
        federation.run(_study(), within=1.5)
    assert failed.value.site == "vienna"
    federation.network.keep_ending = keep  # type: ignore[method-assign]
    stored, spent = _answers(federation), federation.spent()
    assert set(stored.values()) == {1}
    # Handed in again it is the stored answer, which nobody pays for or draws again.
    assert federation.run(_study(), within=LONG)["synthetic"]
    assert (_answers(federation), federation.spent()) == (stored, spent)


def test_who_speaks_of_itself_is_believed_first_and_a_silent_site_last() -> None:
    said = {"vienna": Ending("failed", "milan", "s", "e"), "madrid": Ending("failed", "madrid", "s", "own")}
    with pytest.raises(SiteFailed, match="own"):
        raise_failure(FOUR, said)
    with pytest.raises(SiteFailed, match="berlin"):
        raise_failure(FOUR, {site: Ending("done") for site in PARTIES})
