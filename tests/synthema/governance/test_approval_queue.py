"""The operator's queue: decisions from another process, made once, kept over restarts and crashes."""

import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from governance_cases import ANNA, BASE, CURVES, Clock, study
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synthema.agent.queue import _FROM, ApprovalQueue, QueueApproval, QueueError
from synthema.governance.terms import Researcher, Terms

JOB, OTHER = "ab" * 32, "cd" * 32
KEY = ANNA.public_key
AUTOMATIC = Researcher("Anna Huber", KEY, Terms(approve="automatic"))


@pytest.fixture
def queue(tmp_path):
    with ApprovalQueue(tmp_path / "queue.db", clock=Clock()) as opened:
        yield opened


def offered(queue, job=JOB, site="vienna", policy=BASE, asked=None):
    approval = QueueApproval(queue, site, policy, price=lambda _: "epsilon 0.5 of 3")
    state = approval.ask(job, asked or study(), KEY, submission=b"the whole submission")
    approval.note(job, state)
    return approval


def test_a_job_waits_is_approved_and_runs(queue):
    approval = offered(queue)
    (job,) = queue.jobs("waiting")
    assert (job.study, job.purpose, job.price) == ("pilot", "survival after remission", "epsilon 0.5 of 3")
    assert queue.document(JOB, "vienna") == study().document()
    queue.approve(JOB[:8], by="Dr. Huber", note="ethics vote 12/2031")
    ((told, submission),) = queue.untold()
    assert (told.job_id, told.decision, submission) == (JOB, "approved", b"the whole submission")
    assert approval.ask(JOB, study(), KEY) == "accepted"
    approval.note(JOB, "accepted")
    assert queue.untold() == ()
    for state in ("running", "done"):
        approval.note(JOB, state)
    moves = [(move.state, move.who) for move in queue.moves(JOB)]
    assert moves == [("offered", ""), ("waiting", ""), ("approved", "Dr. Huber"), ("running", ""), ("done", "")]
    assert {move.at for move in queue.moves(JOB)} == {"2031-03-05T10:00:00Z"}


def test_what_the_policy_allows_without_a_person_is_decided_by_the_policy(queue):
    import dataclasses

    policy = dataclasses.replace(BASE, listed=(AUTOMATIC,))
    assert offered(queue, policy=policy).ask(JOB, study(), KEY) == "accepted"
    (job,) = queue.jobs()
    assert (job.decided_by, job.researcher_name) == ("policy", "Anna Huber")
    offered(queue, OTHER, policy=policy, asked=study(exact=CURVES))
    assert queue.find(OTHER).state == "waiting"


def test_an_offer_that_comes_again_has_the_decision_that_it_had(queue, tmp_path):
    approval = offered(queue)
    queue.refuse(JOB, by="Dr. Huber", reason="not-now")
    for _ in range(3):
        assert approval.ask(JOB, study(), KEY) == "refused"
    queue.close()
    with ApprovalQueue(tmp_path / "queue.db") as again:
        assert QueueApproval(again, "vienna", BASE).ask(JOB, study(), KEY) == "refused"
        assert len(again.jobs()) == 1


def test_a_decision_is_made_once(queue):
    offered(queue)
    queue.approve(JOB, by="Dr. Huber")
    assert queue.approve(JOB, by="Dr. Huber").decision == "approved"
    with pytest.raises(QueueError, match=r"approved by Dr\. Huber"):
        queue.refuse(JOB, by="Dr. Meier", reason="not-now")


def test_only_reasons_of_the_list_and_named_people(queue):
    offered(queue)
    with pytest.raises(QueueError, match="a reason is one of"):
        queue.refuse(JOB, by="Dr. Huber", reason="only 7 patients")
    for nobody in ("", "  ", "policy", "x" * 201):
        with pytest.raises(QueueError, match="who decides"):
            queue.approve(JOB, by=nobody)
    for unknown in ("", "ee", "a"):
        if unknown == "a":
            offered(queue, "ac" * 32)
        with pytest.raises(QueueError, match="begin"):
            queue.approve(unknown, by="Dr. Huber")


def test_tables_of_one_agent_are_decided_apart(queue):
    offered(queue)
    offered(queue, site="graz")
    with pytest.raises(QueueError, match="the table's name"):
        queue.approve(JOB, by="Dr. Huber")
    queue.approve(JOB, by="Dr. Huber", site="graz")
    assert {job.site: job.decision for job in queue.jobs()} == {"vienna": "", "graz": "approved"}


def test_the_file_is_its_owners_and_holds_no_more_than_it_was_given(queue, tmp_path):
    offered(queue)
    for name in ("queue.db", "queue.db-wal"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_another_version_of_the_file_is_refused(queue, tmp_path):
    queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(QueueError, match="version"):
        ApprovalQueue(tmp_path / "queue.db")


OPERATOR = """
import sys
from synthema.agent.queue import ApprovalQueue
with ApprovalQueue(sys.argv[1]) as queue:
    queue.refuse(sys.argv[2], by="Dr. Huber", reason="not-now")
"""


def operator(path):
    return subprocess.run(
        [sys.executable, "-c", OPERATOR, str(path), JOB],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_operator_in_another_process_decides_and_the_polling_agent_sees_it(queue, tmp_path):
    offered(queue)
    seen = []

    def poll():
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            seen.extend(job.decision for job, _ in queue.untold())
            time.sleep(0.01)

    agent = threading.Thread(target=poll)
    agent.start()
    assert operator(tmp_path / "queue.db").returncode == 0
    agent.join()
    assert seen == ["refused"]
    with pytest.raises(QueueError, match=r"was refused by Dr\. Huber"):
        queue.approve(JOB, by="Dr. Huber")


def test_of_two_operators_at_once_one_decides(tmp_path):
    with ApprovalQueue(tmp_path / "queue.db") as queue:
        offered(queue)
    path = tmp_path / "queue.db"

    def one(number):
        with ApprovalQueue(path) as mine:
            try:
                if number % 2:
                    mine.approve(JOB, by=f"operator {number}")
                else:
                    mine.refuse(JOB, by=f"operator {number}", reason="not-now")
            except QueueError:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(8)))
    with ApprovalQueue(path) as queue:
        (job,) = queue.jobs()
        decided = [move for move in queue.moves(JOB) if move.who]
    assert len(decided) == 1
    # Those who said the same afterwards were told that it is so; nobody who said the other was.
    assert all(ok == (number % 2 == (job.decision == "approved")) for number, ok in enumerate(done))


KILLED = """
import os, sys
from synthema.agent.queue import ApprovalQueue
queue = ApprovalQueue(sys.argv[1])
original = queue._log
def dying(*args):
    original(*args)
    os.kill(os.getpid(), 9)
queue._log = dying
queue.approve(sys.argv[2], by="Dr. Huber")
"""


def test_a_process_that_dies_in_the_middle_of_a_decision_has_decided_nothing(queue, tmp_path):
    offered(queue)
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "queue.db"), JOB], check=False, timeout=60, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL
    assert queue.find(JOB).decision == ""
    assert [move.state for move in queue.moves(JOB)] == ["offered", "waiting"]
    queue.approve(JOB, by="Dr. Huber")


def test_what_ran_when_the_agent_stopped_is_found_again(queue, tmp_path):
    approval = offered(queue)
    queue.approve(JOB, by="Dr. Huber")
    approval.note(JOB, "accepted")
    approval.note(JOB, "running")
    queue.close()
    with ApprovalQueue(tmp_path / "queue.db") as again:
        assert [job.job_id for job in again.interrupted()] == [JOB]
        QueueApproval(again, "vienna", BASE).note(JOB, "failed")
        assert again.interrupted() == ()


def test_a_job_that_another_site_ended_can_be_offered_again(queue):
    approval = offered(queue)
    approval.note(JOB, "cancelled")
    with pytest.raises(QueueError, match="only a waiting job"):
        queue.approve(JOB, by="Dr. Huber")
    assert approval.ask(JOB, study(), KEY) == "waiting"
    approval.note(JOB, "waiting")
    queue.approve(JOB, by="Dr. Huber")


class Life(RuleBasedStateMachine):
    """Any order of calls: states follow the map, decisions never change, and the log ends where the job stands."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.queue = ApprovalQueue(f"{self.folder.name}/queue.db")
        self.asked = study()
        QueueApproval(self.queue, "vienna", BASE).ask(JOB, self.asked, KEY)
        self.state, self.decision = "offered", ""

    def teardown(self):
        self.queue.close()
        self.folder.cleanup()

    @rule(state=st.sampled_from(sorted(_FROM)))
    def move(self, state):
        # A refusal that no operator made can be followed by what follows a cancelled job.
        now = "cancelled" if self.state == "refused" and self.decision != "refused" else self.state
        unapproved = state in ("approved", "running") and self.decision != "approved"
        try:
            self.queue.move(JOB, "vienna", state)
        except QueueError:
            assert now not in _FROM[state] or unapproved
        else:
            assert not unapproved
            assert now in _FROM[state] or state == self.state
            self.state = state

    @rule(approve=st.booleans())
    def decide(self, approve):
        possible = self.state == "waiting" and not self.decision
        said = "approved" if approve else "refused"
        try:
            if approve:
                self.queue.approve(JOB, by="Dr. Huber")
            else:
                self.queue.refuse(JOB, by="Dr. Huber", reason="not-now")
        except QueueError:
            assert not possible
            assert self.decision != said
        else:
            assert possible or self.decision == said
            if possible:
                self.state = self.decision = said

    @rule()
    def reopen(self):
        self.queue.close()
        self.queue = ApprovalQueue(f"{self.folder.name}/queue.db")

    @invariant()
    def as_it_was_told(self):
        (job,) = self.queue.jobs()
        assert (job.state, job.decision) == (self.state, self.decision)
        assert self.queue.moves(JOB)[-1].state == self.state


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
