"""Exact regressions: a site's own work on a million patients, and a fit over a relay from submission to answer.

The floor of a site's work is its matrix products: X'WX of all patients, once for each opening that shows the
information.
"""

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthema.learning import LogisticRegression, TableOne
from synthema.learning.exact_glm import n_tested_of, newton_of, site_half
from synthema.learning.regression import LinearSpec, LogisticSpec, PoissonSpec
from synthema.local_federation import make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

pytestmark = pytest.mark.slow

N_PATIENTS, N_NUMBERS, N_GROUPS = 1_000_000, 13, 3
SITES = ("alder", "birch", "cedar")
FLAGS = ("fin", "race", "wexp", "mar", "paro")


def _large():
    """20 coefficients: an intercept, 13 numbers, and three columns of three categories."""
    rng = np.random.default_rng(0)
    columns = {f"x{j}": {"kind": "continuous", "bounds": [-5, 5]} for j in range(N_NUMBERS)}
    columns |= {f"c{j}": {"categories": ["a", "b", "c"]} for j in range(N_GROUPS)}
    rows = {f"x{j}": np.clip(rng.normal(size=N_PATIENTS), -5, 5) for j in range(N_NUMBERS)}
    rows |= {f"c{j}": rng.choice(["a", "b", "c"], N_PATIENTS) for j in range(N_GROUPS)}
    covariates = tuple(columns)
    eta = -1.5 + 0.3 * rows["x0"] - 0.2 * rows["x1"] + 0.2 * (rows["c0"] == "b")
    columns |= {"event": {"categories": ["0", "1"]}, "count": {"kind": "integer", "bounds": [0, 100]}}
    rows["event"] = np.where(rng.random(N_PATIENTS) < 1 / (1 + np.exp(-eta)), "1", "0")
    rows["count"] = np.minimum(rng.poisson(np.exp(eta)), 100)
    study = Study.from_dict(
        {
            "study": {"name": "large", "purpose": "a benchmark", "schema": {"columns": columns}},
            "budget": {"epsilon": 1.0, "delta": 1e-6},
            "sites": {site: {} for site in SITES},
            "models": {},
        }
    )
    return study, pd.DataFrame(rows), covariates


@pytest.fixture(scope="module")
def large():
    return _large()


@pytest.mark.benchmark(group="regression: a site's work on 1,000,000 patients and 20 coefficients")
@pytest.mark.parametrize("kind", ["logistic", "linear", "poisson"])
def test_all_rounds_of_a_fit_at_one_site(benchmark, large, kind):
    study, rows, covariates = large
    event = {"outcome": "event", "event_category": "1"}
    spec = {
        "logistic": LogisticSpec(**event, covariates=covariates),
        "linear": LinearSpec(outcome="x0", covariates=covariates[1:]),
        "poisson": PoissonSpec(outcome="count", covariates=covariates),
    }[kind]
    rounds = []

    def fit():
        half = site_half(spec, study, study.data_schema, rows)
        half.contribute("counts", None)
        totals = half.contribute("totals", None).values.reshape(3, -1)[0] if kind == "poisson" else None
        newton, opened = newton_of(spec, study, totals), totals
        while not newton.converged:
            tested = n_tested_of(newton)
            given = half.contribute(f"sums/{newton.iterations}", opened).values.ravel()
            opened = given[: (len(given) - 2 * tested) // 3]
            newton.update(newton.encoding.decode(opened))
        rounds.append(newton.iterations)

    benchmark.pedantic(fit, rounds=3)
    benchmark.extra_info["openings"] = rounds[-1]


def _men():
    path = Path(importlib.util.find_spec("lifelines").origin).parent / "datasets" / "rossi.csv"
    return pd.read_csv(path).astype({"arrest": str}).drop(columns="week")


def _job(name):
    columns = {
        "arrest": {"categories": ["0", "1"]},
        **{flag: {"kind": "continuous", "bounds": [0, 1]} for flag in FLAGS},
        "age": {"kind": "integer", "bounds": [15, 60]},
        "prio": {"kind": "integer", "bounds": [0, 25]},
    }
    return Study.from_dict(
        {
            "study": {"name": name, "purpose": "a benchmark", "schema": {"columns": columns}},
            "budget": {"epsilon": 1.0, "delta": 1e-6},
            "federation": {"compute_parties": list(SITES), "dealer": "dealer"},
            "sites": {site: {} for site in SITES},
            "models": {},
        }
    )


@pytest.mark.benchmark(group="regression: over a relay, from submission to answer")
def test_a_logistic_model_of_three_sites_over_a_relay(benchmark, tmp_path):
    men = _men()
    frames = {site: men.iloc[k::3].reset_index(drop=True) for k, site in enumerate(SITES)}
    automatic = ("model:logistic", "model:table-one-private")
    models = []
    # An exact model is a table's only one: every round needs a federation of its own.
    with contextlib.ExitStack() as stack:

        def setup():
            folder = tmp_path / str(len(models))
            made = make_federation(
                folder, _job("first"), frames, studies=20, policy="allow_exact = true", automatic=automatic
            )
            stack.enter_context(running(made))
            desk = stack.enter_context(ResearchDesk(ResearcherConfig.load(made.researcher)))
            # What every study loads, by a private one.
            TableOne(columns=["age"], mode="private", budget_share=0.5).fit(desk, _job("warm"))
            return (desk,), {}

        def fit(desk):
            model = LogisticRegression(outcome="arrest", event_category="1", covariates=[*FLAGS, "age", "prio"])
            models.append(model.fit(desk, _job("timed")))

        benchmark.pedantic(fit, setup=setup, rounds=1)
    benchmark.extra_info["openings"] = models[-1].answer_["iterations"]
    [step] = [each for each in models[-1].released_["steps"] if each["step"].startswith("model-")]
    benchmark.extra_info["rounds"], benchmark.extra_info["bytes_sent"] = step["rounds"], step["bytes_sent"]
