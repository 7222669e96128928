"""Agents behind a real hub, over TLS on loopback, keep the contract of networks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_contract import NetworkContract
from network_members import small_study
from relay_members import RelayFederation

from synthema.agent.service import PUBLISH_FILE
from synthema.messages import HUB, JobState, Message


class TestRelay(NetworkContract):
    """The contract, over a hub."""

    @pytest.fixture
    def federation(self, tmp_path: Path) -> Iterator[Any]:
        found = RelayFederation(tmp_path)
        found.begin()
        yield found
        found.close()

    def test_the_desk_sees_a_job_as_it_is_and_not_as_it_was(self, federation: RelayFederation) -> None:
        study = small_study()
        job = federation.desk.submission(study).job_id
        old = JobState(job=job, attempt=1, state="offered", content="decisions")
        # Read one by one, a quarter of a second apart, these would outlast the time for the job.
        for _ in range(100):
            federation.desk._states.put(Message(old, b"[]", HUB))
        assert federation.run(study, offer_within=5.0, within=5.0)["synthetic"]


CATALOGUE = """
[catalogue]
title = "Acute myeloid leukaemia, Vienna"
publisher = "AKH Wien"
spatial = "Lower Austria"
legal_basis = "broad consent"
purposes = ["survival"]
epsilon = 0.5
"""


def test_a_site_publishes_a_signed_entry_with_a_noisy_number_that_is_paid_once(tmp_path: Path) -> None:
    federation = RelayFederation(tmp_path)
    federation.begin()
    try:
        file = tmp_path / "vienna" / "site.toml"
        file.write_text(file.read_text(encoding="utf-8") + CATALOGUE, encoding="utf-8")
        numbers = []
        for _ in range(2):
            (tmp_path / "vienna" / PUBLISH_FILE).touch()
            federation.services["vienna"]._publish_if_wanted()
            assert federation.services["vienna"].agent.wait_until_idle(within=20.0)
            found = _published(federation)
            entry = found["vienna"]
            assert entry.description.spatial == "Lower Austria"
            assert entry.patients.kind == "noisy"
            numbers.append(entry.patients.number)
        # The number is drawn once; 60 patients, noise of a standard deviation of some ten.
        assert numbers[0] == numbers[1]
        assert 0 <= numbers[0] < 200
        spent = federation.spent()
        assert spent["vienna"] > 0 == spent["madrid"] == spent["milan"]
    finally:
        federation.close()


def _published(federation: RelayFederation) -> Any:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        found = federation.desk.catalogue()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("nothing was published")
