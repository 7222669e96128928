"""Sites that vote instead of an arg max on shares: what is chosen, by which law, and what it costs whom."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from generators import AIM, MST, LocalTableOracle
from generators.errors import DomainMismatch
from generators.oracle import LazyEstimates
from privacy import ExponentialMechanism, Repeated, Schema, rho_of
from privacy.randomness import InsecureSeededRng
from smpc._rounds import Rounds
from synthema.embedded_marginals import EmbeddedMarginals
from synthema.errors import StudyError
from synthema.local_selection import LocalSelection

SCHEMA = Schema.from_dict({"columns": {name: {"categories": ["0", "1"]} for name in "abc"}})
SIZES = {"vienna": 400.0, "madrid": 300.0, "milan": 100.0}


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    return pd.DataFrame({"a": a, "b": np.where(rng.random(n) < 0.9, a, 1 - a), "c": rng.integers(0, 2, n)}).astype(str)


@pytest.fixture(scope="module")
def tables():
    return {site: frame_of(int(n), i) for i, (site, n) in enumerate(SIZES.items())}


def oracles_of(tables, seed=1, schema=SCHEMA):
    rng = InsecureSeededRng(seed)
    return {site: LocalTableOracle(table, schema, rng=rng) for site, table in tables.items()}


def voting(tables, *, sizes=None, m=1, seed=1):
    own = oracles_of(tables, seed)
    # All sites as one table that measures: noise is not the question here.
    joint = LocalTableOracle(pd.concat(tables.values(), ignore_index=True), SCHEMA, rng=InsecureSeededRng(seed))
    public = sizes or {site: len(table) for site, table in tables.items()}
    return LocalSelection(joint, own, sizes=public, max_sites_per_patient=m), own


# Mechanisms run unchanged.


@pytest.mark.parametrize("kind", [MST, AIM], ids=lambda kind: kind.__name__)
def test_a_mechanism_runs_on_votes_and_joint_sums_without_material_from_a_dealer(kind, tables, monkeypatch):
    def refuse(*_):
        raise AssertionError("no correlated randomness is needed")

    monkeypatch.setattr(Rounds, "take", refuse)
    own = oracles_of(tables)
    oracle = LocalSelection(EmbeddedMarginals(tables, SCHEMA), own, sizes=SIZES)
    model = kind(rho=20.0).fit(None, SCHEMA, oracle=oracle)
    frame = pd.concat(tables.values(), ignore_index=True)
    assert ("a", "b") in model.edges
    assert np.abs(model.marginal(["a", "b"]).estimate - pd.crosstab(frame["a"], frame["b"]).to_numpy()).max() < 20
    assert math.fsum(rho_of(event, neighbours="add_remove_one") for event in model.events) <= 20.0


# What it costs.


@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_selection_costs_a_patient_at_so_many_sites_what_it_costs_at_one_table(m, tables):
    oracle, own = voting(tables, m=m)
    oracle.select([("a",), ("b",)], [np.full(2, 400.0)] * 2, epsilon=0.5)
    [event] = oracle.events
    votes = [event for site in own.values() for event in site.events]
    assert votes == [event if m == 1 else event.event] * 3
    assert isinstance(event, ExponentialMechanism if m == 1 else Repeated)
    # A patient is in the votes of at most m of the three sites.
    at_most = m * rho_of(votes[0], neighbours="add_remove_one")
    assert at_most <= rho_of(event, neighbours="add_remove_one") * (1 + 1e-12) <= 0.5**2 / 8 * (1 + 1e-9)
    assert at_most > 0.5**2 / 8 * (1 - 1e-9)


def test_a_whole_run_costs_every_site_at_most_the_budget(tables):
    oracle, own = voting(tables)
    model = AIM(rho=0.5).fit(None, SCHEMA, oracle=oracle)
    assert math.fsum(rho_of(event, neighbours="add_remove_one") for event in model.events) <= 0.5
    selections = [event for event in model.events if isinstance(event, ExponentialMechanism)]
    assert len(selections) > 1
    assert all(site.events == selections for site in own.values())


# What is chosen.


def law_of(tables, candidates, estimates, sizes, epsilon):
    """Probability of each winner, by the definition: softmax of each site's scores, all combinations of votes."""
    total = sum(sizes.values())
    each = []
    for site, table in tables.items():
        part = sizes[site] / total
        scores = []
        for clique, estimate in zip(candidates, estimates, strict=True):
            counts = table[list(clique)].value_counts().reindex(
                pd.MultiIndex.from_product([["0", "1"]] * len(clique)), fill_value=0
            )  # fmt: skip
            scores.append(np.abs(counts.to_numpy() - part * estimate.ravel()).sum())
        weights = np.exp(epsilon / 2 * (np.array(scores) - max(scores)))
        each.append((sizes[site], weights / weights.sum()))
    out = np.zeros(len(candidates))
    for votes in itertools.product(range(len(candidates)), repeat=len(each)):
        chosen = np.zeros(len(candidates))
        for vote, (size, _) in zip(votes, each, strict=True):
            chosen[vote] += size
        out[np.argmax(chosen)] += math.prod(law[vote] for vote, (_, law) in zip(votes, each, strict=True))
    return out


def test_winners_have_the_law_of_weighted_votes():
    # N = 1,000 draws; negative control: the law of twice the epsilon is rejected.
    n_draws, alpha, caught = 1000, 1e-3, 1e-9
    tables = {"x": frame_of(12, 1), "y": frame_of(9, 2), "z": frame_of(8, 3)}
    sizes = {"x": 14.0, "y": 9.0, "z": 8.0}
    candidates = [("a",), ("a", "b"), ("b", "c")]
    estimates = [np.array([14.0, 15.0]), np.full((2, 2), 7.0), np.full((2, 2), 7.25)]
    oracle, _ = voting(tables, sizes=sizes, seed=11)
    found = np.bincount(
        [oracle.select(candidates, estimates, epsilon=0.3) for _ in range(n_draws)], minlength=len(candidates)
    )
    law = law_of(tables, candidates, estimates, sizes, 0.3)
    assert stats.chisquare(found, n_draws * law).pvalue > alpha
    other = law_of(tables, candidates, estimates, sizes, 0.6)
    assert stats.chisquare(found, n_draws * other).pvalue < caught


class Says:
    """A site that votes for what it is told to, and keeps what it was asked."""

    neighbours = "add_remove_one"

    def __init__(self, domain, vote):
        self.domain, self.vote, self.asked = domain, vote, []

    def select(self, candidates, estimates, **options):
        self.asked.append((candidates, list(estimates), options))
        return self.vote


def told(votes, sizes):
    joint = LocalTableOracle(frame_of(10, 1), SCHEMA)
    sites = {name: Says(joint.domain, vote) for name, vote in votes.items()}
    return LocalSelection(joint, sites, sizes=sizes), sites


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ({"vienna": 0, "madrid": 1, "milan": 1}, 0),
        ({"vienna": 2, "madrid": 1, "milan": 2}, 2),
        ({"vienna": 0, "madrid": 0, "milan": 1}, 0),
    ],
)
def test_the_candidate_of_most_patients_wins_and_of_equals_the_first(votes, winner):
    # 400 against 300 and 100: the first case is a tie.
    oracle, _ = told(votes, SIZES)
    assert oracle.select([("a",), ("b",), ("c",)], [np.full(2, 5.0)] * 3, epsilon=1.0) == winner


def test_sites_are_asked_about_their_part_of_the_estimates():
    oracle, sites = told(dict.fromkeys(SIZES, 0), SIZES)
    group = {"b": np.array([0, 0])}
    oracle.select(
        [("a",), ("b",)],
        [np.array([8.0, 16.0]), np.array([24.0])],
        epsilon=1.0,
        weights=[1, 3],
        penalties=[4.0, 0.0],
        groups=group,
    )
    [(_, estimates, options)] = sites["madrid"].asked
    assert [part.tolist() for part in estimates] == [[3.0, 6.0], [9.0]]
    assert options == {"epsilon": 1.0, "weights": [1, 3], "penalties": [1.5, 0.0], "groups": group}


def test_lazy_estimates_are_computed_once_for_all_sites():
    oracle, sites = told(dict.fromkeys(SIZES, 1), SIZES)
    computed = []

    def compute(i):
        computed.append(i)
        return np.full(2, 4.0 + i)

    oracle.select([("a",), ("b",)], LazyEstimates(2, compute, total=10.0), epsilon=1.0)
    assert sorted(computed) == [0, 1]
    [(_, estimates, _)] = sites["vienna"].asked
    assert [part.tolist() for part in estimates] == [[2.0, 2.0], [2.5, 2.5]]


def test_sites_that_differ_vote_for_what_already_fits_all_of_them_together():
    # Stated in the module: half of the sites hold a = 0, half a = 1, and the estimate of a is right for all of them;
    # that of (b, c) is not. One table chooses (b, c), votes choose a.
    def site(a, n=200):
        halves = ["0"] * (n // 2) + ["1"] * (n // 2)
        return pd.DataFrame({"a": [a] * n, "b": halves, "c": halves})

    tables = {"x": site("0"), "y": site("1")}
    candidates = [("a",), ("b", "c")]
    estimates = [np.full(2, 200.0), np.full((2, 2), 100.0) + 20 * np.array([[1, -1], [-1, 1]])]
    oracle, _ = voting(tables)
    assert oracle.select(candidates, estimates, epsilon=10.0) == 0
    pooled = LocalTableOracle(pd.concat(tables.values(), ignore_index=True), SCHEMA, rng=InsecureSeededRng(1))
    assert pooled.select(candidates, estimates, epsilon=10.0) == 1


# Refusals.


def test_sites_that_do_not_fit_are_refused(tables):
    joint = LocalTableOracle(tables["milan"], SCHEMA)
    own = oracles_of(tables)
    for sites, sizes in ((own, {"vienna": 1.0}), ({}, {})):
        with pytest.raises(StudyError, match="same sites"):
            LocalSelection(joint, sites, sizes=sizes)
    with pytest.raises(ValueError, match="size of vienna"):
        LocalSelection(joint, own, sizes=SIZES | {"vienna": 0.0})
    other = {site: LocalTableOracle(table[["a"]], SCHEMA.subset(["a"])) for site, table in tables.items()}
    with pytest.raises(StudyError, match="other columns"):
        LocalSelection(joint, other, sizes=SIZES)
    replaced = {site: LocalTableOracle(table, SCHEMA, neighbours="replace_one") for site, table in tables.items()}
    with pytest.raises(StudyError, match="neighbours"):
        LocalSelection(joint, replaced, sizes=SIZES)
    oracle = LocalSelection(joint, own, sizes=SIZES)
    for candidates, estimates in (([], []), ([("a",)], [])):
        with pytest.raises(DomainMismatch):
            oracle.select(candidates, estimates, epsilon=1.0)
    assert oracle.events == []
