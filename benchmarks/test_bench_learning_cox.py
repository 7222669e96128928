"""Joint Cox regression of LeukSurv over hub, agents and dealer in processes of their own, and a site's own work.

Five made-up hospitals by district, three of them compute parties; a 30-day grid, Efron's ties, four covariates. Each
step divides on shares at 201 times and 16 nodes. `extra_info` holds rounds and bytes of the whole fit.
"""

import numpy as np
import pytest

from synthema.demo import demo_frames, demo_study
from synthema.learning.cox import CoxSpec
from synthema.learning.cox_sums import Cells, Encoding, Patients, contribution, sorted_by_cell
from synthema.local_federation import make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

pytestmark = pytest.mark.slow


def _study(name, ties):
    demo = demo_study()
    spec = CoxSpec(covariates=("age", "sex", "wbc", "tpi"), grid_days=30, ties=ties)
    return Study(
        name=name,
        purpose=demo.purpose,
        neighbours=demo.neighbours,
        data_schema=demo.data_schema,
        budget={"epsilon": 1.0, "delta": 1e-6},
        federation={"compute_parties": ("alder", "birch", "cedar"), "dealer": "dealer"},
        synthesis=None,
        sites={site: {} for site in demo.sites},
        models={f"cox-{ties}": spec},
    )


@pytest.mark.benchmark(group="learning: Cox, end to end")
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_leukaemia_over_the_relay(benchmark, tmp_path, ties):
    first = _study("first", ties)
    made = make_federation(tmp_path / "all", first, {site: demo_frames()[site] for site in first.sites}, studies=50, policy="allow_exact = true\nmin_grid_days = 30")
    with running(made), ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        # A question that was answered is not asked again: each run is of other rules for small cells.
        cells = iter(range(5, 20))
        results = []

        def submit():
            study = _study(f"study-{len(results)}", ties)
            [(name, model)] = study.models.items()
            again = {name: model.model_copy(update={"min_cell": next(cells)})}
            results.append(desk.submit(study.model_copy(update={"models": again})))

        benchmark.pedantic(submit, rounds=3)
        step = results[-1]["costs"]["steps"][-1]
        benchmark.extra_info["first_seconds"] = None if benchmark.disabled else benchmark.stats.stats.data[0]
        benchmark.extra_info["rounds"], benchmark.extra_info["bytes_sent"] = step["rounds"], step["bytes_sent"]
        found = [float(text) for _, text, _ in results[-1]["released"]["models"][0]["answer"]["coefficients"]]
        assert found[0] == pytest.approx(0.0293, abs=2e-3)


@pytest.mark.benchmark(group="learning: Cox, a site's part of a step")
@pytest.mark.parametrize("p", [4, 20])
def test_a_million_rows_of_one_site(benchmark, p):
    rng = np.random.default_rng(0)
    n, cells = 1_000_000, Cells(1, 201)
    x = rng.uniform(-1, 1, (n, p))
    patients = sorted_by_cell(Patients(x, rng.integers(0, 201, n), np.zeros(n, dtype=np.int64), rng.random(n) < 0.5))
    encoding = Encoding.of((-4.0, 4.0), most_rows=1 << 24)
    benchmark.pedantic(lambda: contribution(patients, cells, np.full(p, 0.1), encoding), rounds=3)
