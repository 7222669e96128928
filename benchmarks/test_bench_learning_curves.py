"""Joint curves and the log-rank test over a relay: hub, three hospitals and dealer in processes of their own.

LeukSurv by sex, after two private studies, so that everything is loaded. `extra_info` holds rounds and bytes.
"""

import numpy as np
import pytest

from privacy import InsecureSeededRng
from smpc import FIELD61, run_local, share
from synthema.demo import demo_frames, demo_study
from synthema.learning import KaplanMeier, LogRank
from synthema.learning.kaplan_meier import Grid, open_counts
from synthema.local_federation import make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

pytestmark = pytest.mark.slow

SITES = ("alder", "birch", "cedar")
PRIVATE = {"mode": "private", "budget_share": 1.0}


def _job(name):
    demo = demo_study()
    return Study(
        name=name,
        purpose=demo.purpose,
        data_schema=demo.data_schema,
        budget={"epsilon": 1.0, "delta": 1e-6},
        federation={"compute_parties": SITES, "dealer": "dealer"},
        synthesis=None,
        sites={site: {} for site in SITES},
    )


@pytest.mark.benchmark(group="curves: a study over a relay, three hospitals")
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (KaplanMeier, {"group": "sex", "grid_days": 180}),
        (KaplanMeier, {"group": "sex", "grid_days": 180} | PRIVATE),
        (LogRank, {"group": "sex", "grid_days": 30}),
        (LogRank, {"group": "sex", "grid_days": 180} | PRIVATE),
    ],
    ids=["kaplan-meier", "kaplan-meier, private", "log-rank", "log-rank, private"],
)
def test_a_study_of_one_model(benchmark, tmp_path, kind, fields):
    frames = {site: demo_frames()[site] for site in SITES}
    policy = "allow_exact = true\nmin_grid_days = 30\n"
    made = make_federation(tmp_path / "all", _job("first"), frames, studies=20, policy=policy)
    for site in made.sites:
        # Exact releases too are approved without a person.
        terms = made.site(site) / "site.toml"
        automatic = 'approve = "automatic"'
        terms.write_text(terms.read_text().replace(automatic, f'{automatic}\nautomatic = ["model"]'))
    with running(made), ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        # What every study loads, at all members.
        for i, each in enumerate((KaplanMeier, LogRank)):
            each(group="sex", grid_days=180, **PRIVATE).fit(desk, _job(f"warm-{i}"))
        fitted = []
        # A table makes its exact releases once: a second time would be given the stored answer.
        benchmark.pedantic(lambda: fitted.append(kind(**fields).fit(desk, _job("timed"))), rounds=1)
    [step] = fitted[0].released_["steps"]
    benchmark.extra_info["step"] = {key: step[key] for key in ("rounds", "bytes_sent") if key in step}


@pytest.mark.benchmark(group="curves: opening counts, three parties in one process")
@pytest.mark.parametrize("n_intervals", [34, 200])
def test_counts_are_tested_and_opened(benchmark, n_intervals):
    counts = np.random.default_rng(1).integers(0, 40, (2, 4, n_intervals))
    packages = share(counts, 3, domain=FIELD61, rng=InsecureSeededRng(2))

    async def protocol(session, package):
        return await open_counts(session, session.shared(package.expand(), FIELD61), Grid(30, n_intervals), min_cell=5)

    run = benchmark.pedantic(lambda: run_local(protocol, packages), rounds=3)
    benchmark.extra_info["rounds"], benchmark.extra_info["bytes_sent"] = run.cost.rounds, run.cost.bytes_sent
