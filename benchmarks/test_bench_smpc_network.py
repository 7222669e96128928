"""Speed of the protocols between two processes on loopback, inside mutual TLS 1.3 and, beside it, over plain TCP.

Inputs are shared and material is expanded in memory before the time is taken; opening is included. One thread each.

Run: pytest benchmarks/test_bench_smpc_network.py --benchmark-enable --benchmark-group-by=param:task
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import _smpc_tasks as tasks
from _smpc_pair import KINDS, Pair

ROUNDS = 9


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    with Pair(request.param) as parties:
        yield parties


@pytest.mark.parametrize("task", tasks.TASKS)
def test_task_between_two_processes(benchmark, pair, task):
    benchmark.group = task
    timed = []

    def run():
        timed.append(pair.ask(f"run {task}"))

    benchmark.pedantic(run, setup=lambda: pair.ask(f"prepare {task}") and None, rounds=ROUNDS, warmup_rounds=2)
    assert {answer["rounds"] for answer in timed} == {timed[0]["rounds"]}
    # As the parties measured it, without the way of the command.
    benchmark.extra_info["milliseconds"] = 1e3 * statistics.median(answer["seconds"] for answer in timed[-ROUNDS:])
    benchmark.extra_info["cpu_milliseconds"] = 1e3 * statistics.median(
        answer["cpu_seconds"] for answer in timed[-ROUNDS:]
    )
    benchmark.extra_info["rounds"] = timed[0]["rounds"]
    benchmark.extra_info["bytes_sent"] = timed[0]["bytes_sent"]


def test_mpyc_beside(benchmark):
    """Three parties without TLS: two would have no privacy there. Sizes in the extra information; one run is all."""
    pytest.importorskip("mpyc", reason="extra bench")
    benchmark.group = "MPyC"
    script = Path(__file__).parent / "_mpyc_tasks.py"
    environment = os.environ | {"FULL_SIZE": str(int(benchmark.enabled))}

    def run():
        done = subprocess.run(
            [sys.executable, str(script), "-M3", "--no-log"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        return json.loads(done.stdout.splitlines()[-1])

    for name, result in benchmark.pedantic(run, rounds=1).items():
        benchmark.extra_info[f"{name} of {result['size']}, milliseconds"] = 1e3 * result["seconds"]
