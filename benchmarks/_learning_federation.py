"""Five hospitals behind a hub, in processes of their own, for benchmarks of joint models: a desk, and jobs to fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthema.demo import demo_frames, demo_study
from synthema.local_federation import make_federation, running
from synthema.researcher import ResearchDesk, ResearcherConfig
from synthema.study import Study

PARTIES = ("alder", "birch", "cedar")


def learning_job(name: str, n_sites: int = 5, *, epsilon: float = 1.0) -> Study:
    """A study without models, of the packaged patients, with a dealer."""
    demo = demo_study()
    return Study(
        name=name,
        purpose=demo.purpose,
        data_schema=demo.data_schema,
        budget={"epsilon": epsilon, "delta": 1e-6},
        federation={"compute_parties": PARTIES, "dealer": "dealer"},
        synthesis=None,
        sites={site: {} for site in tuple(demo.sites)[:n_sites]},
    )


@contextmanager
def learning_desk(folder: Path, n_sites: int = 5) -> Iterator[ResearchDesk]:
    """A running federation whose sites allow exact releases, and the researcher's line to it.

    A table makes the exact releases of one study only, and the same study again is the stored answer: a fit that is
    timed again needs a federation of its own.
    """
    job = learning_job("first", n_sites)
    frames = {site: demo_frames()[site] for site in job.sites}
    made = make_federation(
        folder / "all", job, frames, policy="allow_exact = true\nmin_grid_days = 30", automatic=["model"], studies=50
    )
    with running(made), ResearchDesk(ResearcherConfig.load(made.researcher)) as desk:
        yield desk
