"""A job over Flower: a real SuperLink and three SuperNodes with TLS and node authentication, agents in own processes.

LeukSurv, three made-up hospitals. From the researcher's command to the result in hand: `flwr run` (some 3 s), the
ServerApp's process, one message to each site that offers and one that runs. A SuperNode that has nothing to do looks
every 3 s, and each message starts a process that imports Flower: that, and not the computation, is what is timed here.
`extra_info` holds the same job behind a hub alone. In an environment of its own (docs/flower.md):

    pytest benchmarks/test_bench_flower.py -m flower --benchmark-enable -W ignore::DeprecationWarning
"""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "synthema" / "networks"))

from synthema.local_federation import running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

pytestmark = pytest.mark.flower
flwr = pytest.importorskip("flwr")

ASKED = {
    "mst": '[synthesis]\nrows = 1000\nmechanism = "mst"\n',
    "statistics": '[exact.kaplan_meier]\ngroup = "sex"\ngrid_days = 180\n',
    "logistic": '[exact.logistic]\nhorizon_days = 365\ncovariates = ["age", "sex", "wbc", "tpi"]\n',
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    from flower_members import FlowerNet

    found = FlowerNet(tmp_path_factory.mktemp("flower") / "net")
    try:
        found.begin()
        yield found
    finally:
        found.close()


@pytest.fixture
def made(tmp_path, net):
    """Members of their own for each study: two exact releases of one table are refused."""
    from flower_members import make_leukaemia_federation

    found = make_leukaemia_federation(tmp_path / "all", net)
    with running(found):
        yield found


@pytest.mark.benchmark(group="flower: a study")
@pytest.mark.parametrize("asked", sorted(ASKED))
def test_a_study_is_handed_in_over_flower_and_its_result_comes_back(benchmark, net, made, asked):
    from flower_members import write_job

    from synthema.flower.submitting import FlowerDesk

    researcher = ResearcherConfig.load(made.researcher)
    names = iter(f"{asked}-{number}" for number in range(10))

    def study():
        return Study.load(write_job(made.folder, next(names), ASKED[asked]))

    def hand_in():
        with net.environ():
            return FlowerDesk(researcher, superlink="here", program=str(net.program("flwr"))).submit(study())

    result = benchmark.pedantic(hand_in, rounds=2)
    assert result["released"]["job_id"]
    with ResearchDesk(researcher) as desk:
        began = time.perf_counter()
        desk.submit(study())
        benchmark.extra_info["behind_a_hub_seconds"] = round(time.perf_counter() - began, 2)
    if not benchmark.disabled:
        assert benchmark.stats.stats.max <= 60
