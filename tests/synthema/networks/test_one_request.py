"""All sites of an attempt answer one request: the same study, by the same researcher, for the same key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, LocalFederation, Researcher, small_study

from synthema.errors import SiteFailed
from synthema.networks.base import run_job
from synthema.networks.in_process import InsecureLocalHub
from synthema.submission import Submission


class TwoFaced(InsecureLocalHub):
    """A hub that hands some sites another request for the same study."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Submission | None = None
        self.deceived: frozenset[str] = frozenset()

    def _tell(self, site: str, what: str, *arguments: Any) -> None:
        if what == "offer" and site in self.deceived and self.other is not None:
            arguments = (arguments[0], self.other.encode())
        super()._tell(site, what, *arguments)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[LocalFederation]:
    found = LocalFederation(tmp_path, hub=TwoFaced())
    found.begin()
    yield found
    found.close()


@pytest.mark.parametrize("deceived", [{"vienna"}, {"milan"}])
@pytest.mark.parametrize("other", ["another researcher", "another key"])
def test_a_hub_that_offers_one_study_for_two_researchers_costs_nobody_anything(
    federation: LocalFederation, deceived: set[str], other: str
) -> None:
    study, mine = small_study(), federation.researcher
    who = Researcher() if other == "another researcher" else Researcher(key=mine.key)
    federation.network.other = who.submission(study)
    federation.network.deceived = frozenset(deceived)
    assert federation.network.other.job_id == mine.submission(study).job_id
    with pytest.raises(SiteFailed):
        run_job(federation.network, mine.submission(study), offer_within=10.0, within=30.0)
    assert federation.spent() == dict.fromkeys(SITES, 0.0)
