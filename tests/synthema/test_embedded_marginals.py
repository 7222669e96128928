"""The same mechanisms on secret shares of several sites as on one table."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from generators import AIM, MST, Adaptive, ChowLiu, DomainMismatch, Independent, PrivBayes
from privacy import DistributedDiscreteGaussian, ExponentialMechanism, Schema, SchemaError, rho_of
from privacy.samplers import sample_discrete_gaussian
from smpc.bitplanes import unpack_bits
from smpc.noise import exponential_law
from smpc.noise.exponential import random_words
from synthema.asking_oracle import AskingOracle
from synthema.embedded_marginals import EmbeddedMarginals
from synthema.errors import StudyError
from synthema.joint_noise import JointTerms

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "a": {"categories": ["0", "1"]},
            "b": {"categories": ["0", "1", "2"]},
            "c": {"categories": ["0", "1"]},
        }
    }
)
NONSENSE = [
    ({"weights": [-500, 1]}, "weights"),
    ({"weights": [0, 1]}, "weights"),
    ({"weights": [1.5, 1]}, "weights"),
    ({"weights": [1]}, "weights"),
    ({"penalties": [1.0]}, "penalties"),
    ({"penalties": [math.nan, 0.0]}, "penalties"),
    # As many cells in all, but not of these marginals.
    ({"estimates": [np.zeros((2, 3)), np.zeros(2)]}, "shape"),
    ({"estimates": [np.zeros(2), np.zeros((3, 2))]}, "shape"),
]
MECHANISMS = [Independent, ChowLiu, MST, PrivBayes, AIM, Adaptive]


@pytest.fixture(scope="module")
def sites():
    """Three sites of different sizes: b follows a, c is on its own."""
    rng = np.random.default_rng(1)
    out = {}
    for site, n in (("vienna", 400), ("madrid", 300), ("milan", 100)):
        a = rng.integers(0, 2, n)
        b = np.where(rng.random(n) < 0.9, a, 2)
        out[site] = pd.DataFrame({"a": a, "b": b, "c": rng.integers(0, 2, n)}).astype(str)
    return out


def pooled(sites, columns):
    frame = pd.concat(sites.values(), ignore_index=True)
    return pd.crosstab(*(frame[name] for name in columns)).to_numpy()


@pytest.mark.parametrize("kind", MECHANISMS, ids=lambda kind: kind.__name__)
def test_every_mechanism_runs_on_shares_and_finds_what_the_pooled_table_holds(kind, sites):
    model = kind(rho=50.0).fit(None, SCHEMA, oracle=EmbeddedMarginals(sites, SCHEMA))
    assert abs(model.total - 800) < 5
    if kind is not Independent:
        assert np.abs(model.marginal(["a", "b"]).estimate - pooled(sites, ["a", "b"])).max() < 20
        assert ("a", "b") in model.edges
    assert len(model.sample(50)) == 50


@pytest.mark.parametrize("kind", MECHANISMS, ids=lambda kind: kind.__name__)
def test_a_mechanism_on_shares_costs_at_most_its_budget(kind, sites):
    model = kind(rho=0.5).fit(None, SCHEMA, oracle=EmbeddedMarginals(sites, SCHEMA))
    assert math.fsum(rho_of(event, neighbours="add_remove_one") for event in model.events) <= 0.5
    assert {type(event) for event in model.events} <= {DistributedDiscreteGaussian, ExponentialMechanism}
    assert any(isinstance(event, DistributedDiscreteGaussian) for event in model.events)


def test_measured_counts_are_the_pooled_ones_with_noise_of_the_stated_size(sites):
    oracle = EmbeddedMarginals(sites, SCHEMA, n_parties=3, collusion_threshold=2)
    errors = []
    for _ in range(60):
        [part] = oracle.measure([("a", "b")], rho=0.02)
        errors.append(part.values - pooled(sites, ["a", "b"]))
    standardised = np.concatenate([error.ravel() for error in errors]) / part.noise_std
    # 360 draws: the sample variance lies within four of its standard deviations of one, noise 30 % too small does not.
    far = 4 * math.sqrt(2 / 360)
    assert abs(standardised.var() - 1) < far
    assert abs(0.7**2 - 1) > far
    # Two of three may collude, so each party's part alone must cost no more than the budget.
    assert part.noise_std == pytest.approx(oracle.events[0].per_party_scale * math.sqrt(3))


def test_answers_are_the_pooled_ones_given_the_parties_noise_and_random_number(sites, monkeypatch):
    # The protocol adds nothing: what is opened is the sum of all counts and all parties' noise, number by number, and
    # the index is where the parties' random number falls among the pooled scores' weights.
    noise, words = [], []

    def noting(scale, size, *, rng):
        noise.append(sample_discrete_gaussian(scale, size, rng=rng))
        return noise[-1]

    def noting_words(session, *shape):
        words.append(random_words(session, *shape))
        return words[-1]

    monkeypatch.setattr("smpc.noise.shares.sample_discrete_gaussian", noting)
    monkeypatch.setattr("smpc.noise.exponential.random_words", noting_words)
    oracle = EmbeddedMarginals(sites, SCHEMA)
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    counts = [pooled(sites, pair) for pair in pairs]
    measured = oracle.measure(pairs, rho=0.05)
    opened = np.concatenate([part.values.ravel() for part in measured])
    assert len(noise) == 3
    assert np.array_equal(opened, np.concatenate([part.ravel() for part in counts]) + np.sum(noise, axis=0))

    scores = [16 * int(np.abs(part - 130).sum()) for part in counts]
    law, _ = exponential_law(0.001, 16, 3)
    # So weak a choice is nearly even: that sixteen of them agree happens once in a million times.
    ends, seen = np.cumsum(law.ideal(scores)), set()
    for _ in range(16):
        words.clear()
        chosen = oracle.select(pairs, [np.full(part.shape, 130.0) for part in counts], epsilon=0.001)
        assert len(words) == 3
        bits = unpack_bits(np.bitwise_xor.reduce(words), 4 * law.n_limbs)
        r = sum(int(bit) << place for place, bit in enumerate(bits)) / 2.0 ** len(bits)
        # Nearer to an end than rounding reaches, it could be either: once in a million times.
        assert chosen == int(np.searchsorted(ends, r, side="right"))
        seen.add(chosen)
    assert len(seen) > 1


def test_merged_codes_are_counted_together(sites):
    group = np.array([0, 1, 1])
    [part] = EmbeddedMarginals(sites, SCHEMA).measure([("a", "b")], rho=5_000.0, groups={"b": group})
    want = pooled(sites, ["a", "b"])
    assert np.abs(part.values - np.stack([want[:, 0], want[:, 1] + want[:, 2]], axis=1)).max() <= 5
    assert np.array_equal(part.groups[1], group)


def test_weights_and_penalties_decide_a_selection(sites):
    oracle = EmbeddedMarginals(sites, SCHEMA)
    candidates = [("a",), ("c",)]
    far = [np.array([0.0, 0.0]), np.array([300.0, 500.0])]
    assert oracle.select(candidates, far, epsilon=20.0) == 0
    assert oracle.select(candidates, far, epsilon=20.0, penalties=[2_000.0, 0.0]) == 1
    assert oracle.select(candidates, [far[1], far[1] + 400], epsilon=20.0, weights=[1, 50]) == 1
    assert oracle.events == [ExponentialMechanism(20.0)] * 3


@pytest.mark.parametrize("m", [1, 2])
def test_no_score_moves_by_more_than_a_patient_at_so_many_sites_pays_for(m, sites, monkeypatch):
    # Scores as they are compared, opened here; weights, penalties and estimates of their own for each candidate.
    asked = []

    async def told(session, scores, law):
        opened = await session.open(scores)
        if session.party == 0:
            asked.append((opened, law))
        return 0

    monkeypatch.setattr("synthema.shared_marginals.opened_draw", told)
    rng = np.random.default_rng(m)
    candidates, weights, penalties = [("a",), ("a", "b"), ("c", "b")], [3, 7, 1], [2.03, -0.71, 11.0]

    def paid_for(extra):
        """Whether the law pays for the largest change of a score, in several trials; and that change."""
        changes = []
        for _ in range(6):
            estimates = [rng.random(shape) * 300 for shape in ((2,), (2, 3), (2, 3))]
            patient = [pd.DataFrame([[str(rng.integers(k)) for k in (2, 3, 2)]], columns=list("abc")) for _ in sites]
            there = {
                site: pd.concat([frame, row]) if i < extra else frame
                for i, ((site, frame), row) in enumerate(zip(sites.items(), patient, strict=True))
            }
            asked.clear()
            for frames in (sites, there):
                oracle = EmbeddedMarginals(frames, SCHEMA, max_sites_per_patient=m)
                oracle.select(candidates, estimates, epsilon=0.3, weights=weights, penalties=penalties)
            (before, law), (after, _) = asked
            changes.append(int(np.abs(after - before).max()))
        return 2 * law.rate * max(changes) + law.excess <= Fraction(0.3), max(changes)

    assert paid_for(m) == (True, 7 * 16 * m)
    # Negative control: one site more than was stated.
    assert not paid_for(m + 1)[0]


@pytest.mark.slow
def test_a_close_choice_is_random_and_a_weak_one_nearly_even(sites):
    oracle = EmbeddedMarginals(sites, SCHEMA)
    counts = [pooled(sites, ["a", name]).sum(axis=axis).astype(float) for name, axis in (("b", 1), ("c", 0))]
    # Scores 0 and 4 at an epsilon of 0.1: the second wins 55 of a hundred times, here 120.
    chosen = [oracle.select([("a",), ("c",)], [counts[0], counts[1] + 2], epsilon=0.1) for _ in range(120)]
    assert 30 < sum(chosen) < 100


def test_what_does_not_fit_is_refused(sites):
    with pytest.raises(StudyError, match="may collude"):
        EmbeddedMarginals(sites, SCHEMA, n_parties=3, collusion_threshold=3)
    with pytest.raises(StudyError, match="most_rows"):
        EmbeddedMarginals(sites, SCHEMA, most_rows=100)
    with pytest.raises(SchemaError):
        EmbeddedMarginals({"x": pd.DataFrame({"a": ["7"], "b": ["0"], "c": ["0"]})}, SCHEMA)
    oracle = EmbeddedMarginals(sites, SCHEMA)
    with pytest.raises(DomainMismatch):
        oracle.select([("a",)], [np.zeros(3)], epsilon=1.0)
    with pytest.raises(DomainMismatch):
        oracle.select([], [], epsilon=1.0)
    with pytest.raises(DomainMismatch):
        oracle.measure([], rho=1.0)
    assert oracle.events == []


@pytest.mark.parametrize(("options", "what"), NONSENSE)
def test_choices_with_senseless_weights_penalties_or_estimates_are_refused_and_cost_nothing(options, what, sites):
    # A weight below one would move a score by more than the largest weight pays for.
    choice = {"candidates": [("a",), ("a", "b")], "estimates": [np.zeros(2), np.zeros((2, 3))], "epsilon": 1.0}
    asked = []
    embedded = EmbeddedMarginals(sites, SCHEMA)
    asking = AskingOracle(embedded.domain, JointTerms(3, 1), send=asked.append)
    for oracle in (embedded, asking):
        with pytest.raises(DomainMismatch, match=what):
            oracle.select(**choice | options)
        assert oracle.events == []
    assert not asked
