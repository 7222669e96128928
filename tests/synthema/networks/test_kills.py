"""Sites die at every step of a job: a right result or a typed failure, in time, no charge lost, no second draw for one.

One of three, and any three of ten at once, parties or not, with and without a dealer. See `deaths` for what a step is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from deaths import Executioner, draws, open_charges, settle_as_a_restart_does
from network_members import DEALER, SITES, LocalFederation, small_study

from synthema.errors import JobFailed, SiteFailed, SiteRefused
from synthema.networks.base import Patience

# Who is dead closes nothing: the collector of garbage finds its sockets, and whichever test runs then is told.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# All that a healthy site may need on a busy machine; what a test waits for a dead one.
OFFER = 3.0
PATIENCE = Patience(gather=3.0, round=1.0, away=0.3)
# Of the job: it is what ends one whose lead dies after all others are done. Longer than a party that waits for one that
# itself waits for a share, and a second to ask who it was.
RUN = 6.0
DEADLINE = RUN + 1.0
# What a machine that does other things as well may add to that.
BUSY = 5.0

# SYNTHEMA_DEATH_STRIDE=1 lets them die at every single event, also where that takes minutes.
STRIDE = int(os.environ.get("SYNTHEMA_DEATH_STRIDE", "0"))

TEN = tuple(f"site-{i}" for i in range(10))
PARTIES = TEN[:3]
TRIPLES = {
    "the lead, a party and a site": ("site-0", "site-1", "site-7"),
    "all parties": PARTIES,
    "a party and two sites": ("site-2", "site-4", "site-9"),
    "no party": ("site-3", "site-5", "site-8"),
}


def _study(name: str, mechanism: str, sites: tuple[str, ...]) -> Any:
    federation = {"federation": {"dealer": DEALER}} if mechanism == "mst" else {}
    return small_study(name, epsilon=0.5, sites=sites, synthesis={"rows": 20, "mechanism": mechanism}, **federation)


def _outcome(federation: LocalFederation, study: Any) -> tuple[str, str, Any]:
    """Run a study; return how it ended, who is named, and what was released."""
    try:
        result = federation.run(study, offer_within=OFFER, within=RUN)
    except SiteFailed as failed:
        return "failed", failed.site, None
    except SiteRefused as refused:
        return f"refused {refused.reason}", refused.site, None
    except JobFailed as failed:
        return "failed", failed.rule, None
    return "done", "", result["released"]["synthetic"]


def _dies(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    victims: tuple[str, ...],
    at: int,
    mechanism: str = "chow-liu",
    sites: tuple[str, ...] = SITES,
) -> bool:
    """Let the victims die at one event, look at all ledgers, and try again; return whether it came to that event."""
    folder = folder / f"{'-'.join(victims)}-{at}"
    folder.mkdir()
    study = _study("death", mechanism, sites)
    alive = set(sites) - set(victims)
    federation = LocalFederation(folder, patience=PATIENCE, sites=sites)
    federation.begin()
    executioner = Executioner(federation, victims, at)
    try:
        with executioner.at_work(monkeypatch):
            began = time.monotonic()
            how, named, opened = _outcome(federation, study)
            took = time.monotonic() - began
            for site in alive:
                assert federation.agents[site].wait_until_idle(within=DEADLINE + BUSY)
            for site in victims:
                federation.agents[site].close()
    finally:
        federation.network.close()
    case = (victims, at, how, named)
    assert how == "done" or named in victims, case
    assert took < DEADLINE + BUSY, (*case, took)

    # Whoever lives has nothing open; the dead have paid for all that was started, and a restart closes it.
    federation.agents.clear()
    left = open_charges(folder, sites)
    assert not any(left[site] for site in alive), (*case, left)
    settle_as_a_restart_does(folder, sites)
    assert not any(open_charges(folder, sites).values()), case
    spent = federation.spent()
    if how == "done":
        assert min(spent.values()) > 0, (*case, spent)

    # The same study again: the same answer at no cost, a refusal because it is spent, or, if nothing was, a new charge.
    again = LocalFederation(folder, patience=PATIENCE, sites=sites)
    again.researcher = federation.researcher
    again.begin()
    try:
        how_now, _, opened_now = _outcome(again, study)
        spent_now = again.spent()
    finally:
        again.network.close()
    if how_now == "done":
        assert len(set(spent_now.values())) == 1, (*case, spent_now)
        if how == "done":
            assert (opened_now, spent_now) == (opened, spent), case
    else:
        assert how_now == "refused spent", (*case, how_now)
        assert how != "done", case
        assert max(spent.values()) > 0, case
        assert spent_now == spent, case
    assert set(draws(folder, sites).values()) <= {1}, case
    return executioner.is_over


@pytest.mark.parametrize(("victim", "at"), [("vienna", 12), ("milan", 7), ("milan", 18)])
def test_a_site_dies_at_some_steps(tmp_path: Path, victim: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _dies(tmp_path, monkeypatch, victims=(victim,), at=at)


@pytest.mark.slow
@pytest.mark.parametrize("victim", SITES)
def test_a_site_dies_at_every_step(tmp_path: Path, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The lead at every second event; the others, whose events are like its own, at every fifth.
    stride = STRIDE or (2 if victim == SITES[0] else 5)
    at = 1 + SITES.index(victim) % stride
    while _dies(tmp_path, monkeypatch, victims=(victim,), at=at):
        at += stride
        assert at < 200
    # Offer, hello, shares, rounds, settling and ending were all reached.
    assert at > 20


@pytest.mark.slow
def test_the_lead_dies_at_every_step_of_a_synthesis_with_a_dealer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rounds of a choice on shares are many and alike: the first steps nearly one by one, then with a stride.
    at = 1
    while _dies(tmp_path, monkeypatch, victims=("vienna",), at=at, mechanism="mst"):
        at += STRIDE or (4 if at < 20 else 19)
        assert at < 1000
    assert at > 60


@pytest.mark.parametrize(("who", "at"), [("the lead, a party and a site", 40)])
def test_three_of_ten_die_at_some_steps(tmp_path: Path, who: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _dies(tmp_path, monkeypatch, victims=TRIPLES[who], at=at, sites=TEN)


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["chow-liu", "mst"])
@pytest.mark.parametrize("who", TRIPLES)
def test_three_of_ten_die_at_every_step(
    tmp_path: Path, who: str, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Triples begin at different events, so that together they meet more of them.
    stride = STRIDE or (61 if mechanism == "chow-liu" else 151)
    at = 1 + 4 * list(TRIPLES).index(who)
    while _dies(tmp_path, monkeypatch, victims=TRIPLES[who], at=at, mechanism=mechanism, sites=TEN):
        at += stride
        assert at < 2000
    assert at > 50
