"""The hub has all results of a researcher, and can only hand out the one that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from network_members import LocalFederation, small_study

from synthema.errors import SynthemaError
from synthema.networks.base import run_job
from synthema.researcher import read_result


def test_the_result_of_another_job_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    federation = LocalFederation(tmp_path)
    federation.begin()
    try:
        mine, lead = federation.researcher, federation.keys["vienna"].public
        submissions = [mine.submission(small_study(name, epsilon=1.0)) for name in ("pilot", "other")]
        sealed = [run_job(federation.network, each) for each in submissions]
        for submission, result in zip(submissions, sealed, strict=True):
            found = read_result(result, mine.box, lead, job_id=submission.job_id)
            assert found["released"]["job_id"] == submission.job_id
        with pytest.raises(SynthemaError, match="another job"):
            read_result(sealed[0], mine.box, lead, job_id=submissions[1].job_id)
    finally:
        federation.close()


def test_questions_that_nobody_answers_do_not_fill_the_memory(tmp_path: Path) -> None:
    from synthema.networks.asking import Question

    federation = LocalFederation(tmp_path)
    federation.begin()
    agent = federation.agents["vienna"]
    federation.close()
    # Its threads have ended: what comes in now waits.
    for number in range(1000):
        agent.question("madrid", Question("witness", number, b"{}"))
        agent.question("madrid", Question("witness", number, bytes(1 << 20)))
        agent.question("nobody", Question("witness", number, b"{}"))
    waiting = [agent._questions.get_nowait() for _ in range(agent._questions.qsize())]
    assert 100 < len(waiting) <= 256
    assert {(sender, len(question.payload)) for sender, question in waiting} == {("madrid", 2)}
