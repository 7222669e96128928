"""Hub, agents and dealer in processes of their own, over mutual TLS on this machine: ready, and a study end to end.

LeukSurv, five made-up hospitals by district, three of them compute parties. `extra_info` holds the resident memory of
an agent that waits (before its first job) and what the parties sent. The floor of the start is one process that imports
NumPy, pydantic and the cryptography library, times the number of processes over the number of cores.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from synthema.demo import demo_frames, demo_study
from synthema.local_federation import Running, make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

pytestmark = pytest.mark.slow

FLOOR = "import numpy, pydantic, sqlite3; from cryptography.hazmat.primitives.asymmetric import ed25519"


def _study(name, mechanism, sites=None):
    demo = demo_study()
    sections = {field: getattr(demo, field) for field in ("purpose", "neighbours", "data_schema")}
    named = tuple(demo.sites)[: sites or 5]
    return Study(
        **sections,
        name=name,
        budget={"epsilon": 1.0, "delta": 1e-6},
        federation={"compute_parties": ("alder", "birch", "cedar"), "dealer": "dealer"},
        synthesis={"rows": 1000, "mechanism": mechanism},
        sites={site: {} for site in named},
    )


def _made(folder, sites):
    study = _study("first", "mst", sites)
    return make_federation(folder / "all", study, {site: demo_frames()[site] for site in study.sites}, studies=50)


def _resident_megabytes(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return None


@pytest.mark.benchmark(group="federation: start")
def test_floor_one_process_with_its_libraries(benchmark):
    benchmark.pedantic(lambda: subprocess.run([sys.executable, "-c", FLOOR], check=True), rounds=5)


@pytest.mark.benchmark(group="federation: start")
def test_hub_and_three_agents_are_ready(benchmark, tmp_path):
    made = _made(tmp_path, 3)
    started = []

    def start():
        found = Running(made)
        started.append(found)
        for member in ("hub", *made.sites):
            (made.folder / f"{member}.log").write_bytes(b"")
            found.start(member)
        found.wait_until_ready()

    def stop():
        while started:
            started.pop().stop()

    try:
        benchmark.pedantic(start, setup=stop, rounds=5)
        benchmark.extra_info["agent_mb"] = _resident_megabytes(started[-1].processes["alder"])
        benchmark.extra_info["hub_mb"] = _resident_megabytes(started[-1].processes["hub"])
    finally:
        stop()


@pytest.mark.benchmark(group="federation: a study")
@pytest.mark.parametrize("mechanism", ["mst", "aim"])
def test_a_study_is_handed_in_and_its_table_comes_back(benchmark, tmp_path, mechanism):
    made = _made(tmp_path, 5)
    with running(made), ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        names = iter(f"study-{number}" for number in range(100))
        # The first one also loads pandas and the generators at every agent.
        results = []

        def submit():
            results.append(desk.submit(_study(next(names), mechanism)))

        benchmark.pedantic(submit, rounds=4)
        step = results[-1]["costs"]["steps"][-1]
        benchmark.extra_info["first_seconds"] = None if benchmark.disabled else benchmark.stats.stats.data[0]
        benchmark.extra_info["rounds"], benchmark.extra_info["bytes_sent"] = step["rounds"], step["bytes_sent"]
