"""Joint Cox regression of LeukSurv over hub, agents and dealer in processes of their own, and a site's own work.

Five made-up hospitals by district, three of them compute parties; a 30-day grid, four covariates. Each step of the
exact fit divides on shares at 201 times and, with Efron's ties, 16 nodes. `extra_info` holds rounds and bytes.
"""

import numpy as np
import pytest
from _learning_federation import learning_desk, learning_job

from synthema.learning import CoxRegression
from synthema.learning.cox_sums import Cells, Encoding, Patients, contribution, sorted_by_cell

pytestmark = pytest.mark.slow

COVARIATES = ["age", "sex", "wbc", "tpi"]


@pytest.mark.benchmark(group="learning: Cox, end to end")
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_leukaemia_over_the_relay(benchmark, tmp_path, ties):
    with learning_desk(tmp_path) as desk:
        # What agents load when they are first asked is not the fit's.
        noisy = CoxRegression(covariates=COVARIATES, grid_days=30, mode="private", budget_share=1.0)
        noisy.fit(desk, learning_job("before"))
        model = CoxRegression(covariates=COVARIATES, grid_days=30, ties=ties)
        benchmark.pedantic(lambda: model.fit(desk, learning_job("timed")), rounds=1)
    [step] = [each for each in model.released_["steps"] if each["step"].startswith("model-")]
    benchmark.extra_info["rounds"], benchmark.extra_info["bytes_sent"] = step["rounds"], step["bytes_sent"]
    benchmark.extra_info["openings"] = model.answer_["iterations"]
    assert model.coef_[0] == pytest.approx(0.0293, abs=2e-3)


@pytest.mark.benchmark(group="learning: Cox, a site's part of a step")
@pytest.mark.parametrize("p", [4, 20])
def test_a_million_rows_of_one_site(benchmark, p):
    rng = np.random.default_rng(0)
    n, cells = 1_000_000, Cells(1, 201)
    x = rng.uniform(-1, 1, (n, p))
    patients = sorted_by_cell(Patients(x, rng.integers(0, 201, n), np.zeros(n, dtype=np.int64), rng.random(n) < 0.5))
    encoding = Encoding.of((-4.0, 4.0), most_rows=1 << 24)
    benchmark.pedantic(lambda: contribution(patients, cells, np.full(p, 0.1), encoding), rounds=3)
