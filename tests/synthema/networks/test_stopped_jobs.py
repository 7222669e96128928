"""A job that is cancelled while its parties compute ends at every site, whatever its lead goes on with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from network_members import DEALER, SITES, LocalFederation, small_study

from synthema import conducting
from synthema.errors import SiteFailed
from synthema.questions import Wait, encode_question


async def goes_on_for_ever(session: Any, clerk: Any, _study: Any) -> None:
    """A lead that says again and again that it is computing."""
    while True:
        message = encode_question(Wait())
        await conducting._announced(session, message)
        await clerk.handle(message)
        await asyncio.sleep(0.05)


def test_a_lead_that_never_ends_does_not_hold_the_agents_once_the_job_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = LocalFederation(tmp_path)
    federation.begin()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(conducting, "_lead", goes_on_for_ever)
            study = small_study(
                "tree", epsilon=5.0, federation={"dealer": DEALER}, synthesis={"rows": 50, "mechanism": "mst"}
            )
            with pytest.raises(SiteFailed, match="did not say how"):
                federation.run(study, within=1.5)
            job_id = federation.researcher.submission(study).job_id
            federation.network.cancel(job_id, site="vienna", error="the lead sent no result in time")
            assert all(federation.agents[site].wait_until_idle(within=6.0) for site in SITES)
        endings = federation.network._endings[job_id]
        assert {(each.state, each.site) for each in endings.values()} == {("failed", "vienna")}
        # What follows is worked on.
        federation.run(small_study("pilot", epsilon=1.0))
    finally:
        federation.close()
