"""A real SuperLink and SuperNodes, with TLS and node authentication, keep the contract of networks.

Needs Flower where the tests run (`flwr` 1.41, an environment of its own: docs/flower.md); with SYNTHEMA_REQUIRE_FLOWER
set, its absence is a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flower_members import MST, RUN_SECONDS, FlowerFederation, FlowerNet, make_leukaemia_federation, write_job
from network_contract import NetworkContract
from network_members import DEALER, small_study

from synthema.demo import demo_frames
from synthema.errors import JobFailed, SiteFailed
from synthema.flower.bundle import QUIET
from synthema.flower.submitting import hand_in
from synthema.job import SiteJob
from synthema.local_federation import LocalFederation, running

pytestmark = [
    pytest.mark.flower,
    pytest.mark.skipif(
        importlib.util.find_spec("flwr") is None and not os.environ.get("SYNTHEMA_REQUIRE_FLOWER"),
        reason="Flower is not installed here",
    ),
]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerNet]:
    found = FlowerNet(tmp_path_factory.mktemp("flower") / "net")
    try:
        found.begin()
        yield found
    finally:
        found.close()


@pytest.fixture
def federation(tmp_path: Path, net: FlowerNet) -> Iterator[FlowerFederation]:
    found = FlowerFederation(tmp_path, net)
    found.begin()
    yield found
    found.close()


class TestFlower(NetworkContract):
    """The contract, over Flower."""

    @pytest.fixture
    def federation(self, federation: FlowerFederation) -> Any:
        return federation


@pytest.fixture
def leukaemia(tmp_path_factory: pytest.TempPathFactory, net: FlowerNet) -> Iterator[LocalFederation]:
    made = make_leukaemia_federation(tmp_path_factory.mktemp("leukaemia") / "all", net)
    with running(made):
        yield made


def _by_command(made: LocalFederation, net: FlowerNet, name: str, asked: str) -> dict[str, Any]:
    """Hand a study in as a researcher does; return what was released."""
    out = made.folder / f"{name}-out"
    job = write_job(made.folder, name, asked)
    command = [sys.executable, "-m", "synthema", "flower", "submit", job, "--as", made.researcher, "--out", out]
    command += ["--superlink", "here", "--flwr", net.program("flwr"), "--json"]
    done = subprocess.run(command, env=net.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    released: dict[str, Any] = json.loads((out / "released.json").read_text(encoding="utf-8"))
    return released


def _pooled() -> pd.DataFrame:
    return pd.concat(list(demo_frames().values())[:3])


def test_statistics_of_three_hospitals(leukaemia: LocalFederation, net: FlowerNet) -> None:
    asked = '[exact]\nmin_cell = 5\n[exact.kaplan_meier]\ngroup = "sex"\ngrid_days = 180\n'
    released = _by_command(leukaemia, net, "curves", asked)
    sizes = _pooled()["sex"].value_counts()
    assert len(released["survival"]) == 2
    for curve in released["survival"]:
        # At the start everybody of the group is at risk.
        assert curve["steps"][0]["at_risk"] == sizes[curve["group"].removeprefix("sex = ")]


def test_a_logistic_model_of_three_hospitals_is_that_of_the_pooled_rows(
    leukaemia: LocalFederation, net: FlowerNet
) -> None:
    asked = '[exact.logistic]\nhorizon_days = 365\ncovariates = ["age", "sex", "wbc", "tpi"]\n'
    released = _by_command(leukaemia, net, "model", asked)
    pooled = _pooled()
    died = (pooled["event"] == "1") & (pooled["time"] <= 365)
    known = died | (pooled["time"] >= 365)
    columns = [pooled["age"], pooled["sex"] == "M", pooled["wbc"], pooled["tpi"]]
    raw = np.column_stack([np.ones(len(pooled)), *columns]).astype(float)[known]
    # Newton's method by hand: the pooled model's own score and information.
    beta = np.zeros(raw.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-raw @ beta))
        information = raw.T @ (raw * (chance * (1 - chance))[:, None])
        beta += np.linalg.solve(information, raw.T @ (died[known] - chance))
    estimates = [each["estimate"] for each in released["logistic"]["coefficients"]]
    np.testing.assert_allclose(estimates, beta, rtol=1e-4)


def test_synthetic_patients_of_three_hospitals(leukaemia: LocalFederation, net: FlowerNet) -> None:
    released = _by_command(leukaemia, net, "patients", MST)
    assert released["synthetic"]["rows"] == 1000


def test_a_supernode_that_is_killed_in_a_job_is_a_typed_failure_that_names_its_site(
    federation: FlowerFederation, net: FlowerNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = SiteJob.marginal_counts
    killed: list[float] = []

    def kills_milan(job: SiteJob) -> Any:
        if job.site.name == "vienna":
            net.kill("milan")
            killed.append(time.monotonic())
            # Milan's bridge has to notice that its SuperNode has gone: it looks five times a second.
            time.sleep(2.0)
        return count(job)

    monkeypatch.setattr(SiteJob, "marginal_counts", kills_milan)
    try:
        with pytest.raises(SiteFailed) as failed:
            federation.run(small_study())
        assert failed.value.site == "milan"
        # Long before anybody's patience with the job is over; most of it are Flower's own processes.
        assert time.monotonic() - killed[0] < RUN_SECONDS
        # Of the agent, told by the others; or of the SuperLink, if that was the first to notice.
        assert "went away" in failed.value.error or "reports error" in failed.value.error
    finally:
        monkeypatch.undo()
        net.replace_node("milan")
    assert len(killed) == 1
    assert len(set(federation.spent().values()) - {0.0}) == 1
    # The agent was not harmed: with its SuperNode back, the next job runs.
    assert federation.run(small_study("pilot-2"))["synthetic"]


def test_a_run_without_a_submission_ends_with_an_error(net: FlowerNet) -> None:
    class Nothing:
        def encode(self) -> bytes:
            return b"no submission"

    with pytest.raises(JobFailed, match="holds no submission"), net.environ():
        hand_in(Nothing(), superlink="here", program=str(net.program("flwr")))  # type: ignore[arg-type]


def test_nothing_of_the_sites_is_on_a_command_line_or_in_flowers_files(
    federation: FlowerFederation, net: FlowerNet
) -> None:
    lines: set[str] = set()
    loud: set[str] = set()
    over = threading.Event()
    own = f"FLWR_HOME={net.folder}"

    def look() -> None:
        while not over.wait(0.05):
            for place in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    environment = (place / "environ").read_bytes().decode(errors="replace").split("\0")
                    if "/fl" in line and any(each.startswith(own) for each in environment):
                        lines.add(line)
                        loud.update(line for name, value in QUIET.items() if f"{name}={value}" not in environment)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    result = federation.run(
        small_study("tree", epsilon=5.0, federation={"dealer": DEALER}, synthesis={"rows": 50, "mechanism": "mst"})
    )
    over.set()
    watcher.join(5.0)
    assert any("flwr-clientapp" in line for line in lines)
    assert loud == set()
    assert not [line for line in lines if "site.toml" in line or "doors-" in line or "allow-runtime" in line]
    first_row = result["synthetic"].splitlines()[1].encode()
    for file in net.folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert first_row not in data
            assert b"epsilon_cap" not in data
