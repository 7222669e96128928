"""A decision is about a study and whoever asked for it: nobody else takes it over."""

import dataclasses

import pytest
from governance_cases import ANNA, BASE, BELA, study

from synthema.agent.queue import ApprovalQueue, QueueApproval
from synthema.errors import SiteRefused
from synthema.governance.terms import Researcher, Terms

JOB = "ab" * 32
ANYTHING = Researcher("Anna Huber", ANNA.public_key, Terms(approve="automatic"))
NOTHING = Researcher("Bela Nagy", BELA.public_key, Terms(approve="ask"))


@pytest.fixture
def queue(tmp_path):
    with ApprovalQueue(tmp_path / "queue.db") as opened:
        yield opened


@pytest.mark.parametrize("by_the_policy", [True, False])
def test_what_was_approved_for_one_researcher_is_not_approved_for_another_with_the_same_text(queue, by_the_policy):
    policy = dataclasses.replace(BASE, listed=(ANYTHING, NOTHING)) if by_the_policy else BASE
    approval = QueueApproval(queue, "vienna", policy)
    approval.note(JOB, approval.ask(JOB, study(), ANNA.public_key, b"of Anna"))
    if not by_the_policy:
        queue.approve(JOB, by="Dr. Huber")
    assert approval.ask(JOB, study(), ANNA.public_key) == "accepted"
    with pytest.raises(SiteRefused) as refused:
        approval.ask(JOB, study(), BELA.public_key, b"of Bela")
    assert refused.value.reason == "researcher"
    assert approval.ask(JOB, study(), ANNA.public_key) == "accepted"


def test_what_is_taken_up_after_an_approval_is_what_was_handed_in_last(queue):
    approval = QueueApproval(queue, "vienna", BASE)
    for submission in (b"for an old key", b"for a new key", b""):
        approval.note(JOB, approval.ask(JOB, study(), ANNA.public_key, submission))
    with pytest.raises(SiteRefused):
        approval.ask(JOB, study(), BELA.public_key, b"of Bela")
    queue.approve(JOB, by="Dr. Huber")
    assert [submission for _, submission in queue.untold()] == [b"for a new key"]
