"""Members that misbehave behind a real hub: messages that are none, jobs of others, nonsense to and from witnesses."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from network_members import small_study
from relay_members import RelayFederation

from synthema.errors import SiteFailed
from synthema.messages import FIRST, FIRST_MAGIC, Outcome
from synthema.networks.asking import Question
from synthema.networks.line_outbox import _Outgoing
from synthema.networks.lines import JobLines

pytestmark = pytest.mark.slow

TWO = ("vienna", "madrid")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayFederation]:
    found = RelayFederation(tmp_path_factory.mktemp("hub"), witnesses=1)
    found.begin()
    yield found
    found.close()


def _restart(federation: RelayFederation, site: str) -> None:
    federation.services[site].close()
    federation.start_site(site)


def test_an_outcome_of_a_job_that_it_takes_no_part_in_changes_nothing(federation: RelayFederation) -> None:
    study = small_study("not-yours", sites=TWO)
    job = federation.desk.submission(study).job_id
    over = threading.Event()

    def lie() -> None:
        line = federation.services["milan"].line
        while not over.wait(0.02):
            for state in ("done", "failed"):
                said = Outcome(job=job, attempt=1, state=state, site="vienna", explanation="a lie")
                line.send(None, said, b"a result" if state == "done" else b"")

    lying = threading.Thread(target=lie)
    lying.start()
    try:
        assert federation.run(study)["synthetic"]
    finally:
        over.set()
        lying.join(5)
    assert federation.spent()["milan"] == 0.0


def test_a_message_that_says_it_is_larger_than_any(
    federation: RelayFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = JobLines.send

    def oversized(lines: JobLines, to: str, what: str, payload: bytes) -> None:
        if lines.site == "milan" and what.endswith("/shares") and to == "vienna":
            line = federation.services["milan"].line
            head = FIRST.pack(FIRST_MAGIC, 7, 1 << 40, 20) + b"{" * 1000
            with line._outbox._lock:
                queue: Any = line._outbox._queues.setdefault(line.members["vienna"].number, deque())
                queue.append(_Outgoing(iter([head]), 0))
            line._waker.wake()
            return
        send(lines, to, what, payload)

    with monkeypatch.context() as patch:
        patch.setattr(JobLines, "send", oversized)
        with pytest.raises(SiteFailed) as failed:
            federation.run(small_study("oversized"))
    assert failed.value.site == "milan"
    assert "rejected" in failed.value.error
    # Vienna hears milan no more until it comes anew; the others go on without it.
    assert federation.run(small_study("without-milan", sites=TWO))["synthetic"]
    _restart(federation, "milan")
    assert federation.run(small_study("with-milan"))["synthetic"]


def test_a_partner_that_asks_nonsense_of_a_witness_and_answers_nonsense_as_one(
    federation: RelayFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    milan = federation.services["milan"]
    questions: list[Any] = [
        {"old_size": 2**80, "proof": [], "note": ""},
        {"old_size": -1, "proof": ["00"] * 1000, "note": "x\n"},
        {"old_size": [], "proof": {"a": 1}, "note": 3},
        {"old_size": 0, "proof": ["zz"], "note": None},
        {"old_size": 0, "proof": 5, "note": "\ud800"},
    ]
    payloads = [json.dumps(each).encode() for each in questions]
    for payload in (*payloads, b"", b"[" * 100_000, b"\xff", b"null", b"1e999"):
        for site in TWO:
            assert milan._ask(site, Question("witness", 1, payload))
            assert milan._ask(site, Question("answer", 2, payload))
    # Milan answers as no witness does: vienna and madrid have each other.
    from synthema.agent import agent as module

    answers = iter([b"", b"[]", b'{"line": ""}', b'{"line": "x\\n"}', b'{"conflict": -1}', b"{" * 10_000] * 50)
    answer = module.answer_as_witness

    def nonsense(witness: Any, payload: bytes) -> bytes:
        return next(answers) if threading.current_thread().name == "milan-witness" else answer(witness, payload)

    with monkeypatch.context() as patch:
        patch.setattr(module, "answer_as_witness", nonsense)
        began = time.monotonic()
        assert federation.run(small_study("nonsense", sites=TWO))["synthetic"]
        assert time.monotonic() - began < 30
    assert federation.run(small_study("sense"))["synthetic"]
