"""Measurements and choices on shares, against the same arithmetic in the clear."""

import math

import numpy as np
import pytest
from synthesis_members import pooled_frame, shared_out, small_frames, small_study

from generators import Domain, count_marginal, encode
from generators.grouping import merge_codes
from smpc import ConfirmationMissing, PartyFailed, RangeExceeded, SharePackage, run_local, share
from synthema.errors import StudyError
from synthema.joint_noise import JointTerms
from synthema.marginal_layout import synthesis_layout
from synthema.shared_marginals import SharedMarginals, pooled_words

STUDY = small_study("mst")
LAYOUT = synthesis_layout(STUDY)
DOMAIN = Domain.from_schema(STUDY.data_schema)
CODES = encode(pooled_frame(), STUDY.data_schema)
CLIQUES = [("a", "b"), ("c",), ("b", "d")]
GROUPS = {"b": np.array([0, 1, 1])}


def counted(cliques, groups=None):
    return [merge_codes(count_marginal(CODES, DOMAIN, clique), clique, groups or {}) for clique in cliques]


def on_shares(terms, ask):
    """What all parties return for `ask(counts)`, which each of them runs."""

    async def protocol(session, packages):
        return await ask(SharedMarginals(session, packages, LAYOUT, terms))

    results = run_local(protocol, shared_out(STUDY, small_frames())).results
    assert all(np.array_equal(result, results[0]) for result in results)
    return results[0]


# Three times 20 cells, opened 33 times: the sample variance of 1,980 draws has a standard error of 3.2 %. Noise lies
# within four of them; noise 30 % too small must not.
REPEATS, DRAWS = 33, 33 * 60
FAR = 4 * math.sqrt(2 / DRAWS)


@pytest.mark.parametrize("kind", ["shares", "joint"])
def test_noise_has_the_stated_size_and_law(kind):
    terms = JointTerms(3, 1, noise=kind)
    exact = np.concatenate([part.ravel() for part in counted(CLIQUES)] * 3)
    noise = terms.count_noise(0.3, n_marginals=9, dimension=exact.size)

    async def ask(counts):
        return np.stack([await counts.measure(CLIQUES * 3, noise, groups={}) for _ in range(REPEATS)])

    opened = on_shares(terms, ask)
    standardised = ((opened - exact) / terms.noise_std(noise)).ravel()
    assert standardised.size == DRAWS
    assert abs(standardised.var() - 1) < FAR
    assert abs((0.7 * standardised).var() - 1) > FAR
    assert abs(standardised.mean()) < 4 / math.sqrt(DRAWS)
    # All n parties add noise; the part that is paid for is that of n - t: 3 / 2 of the variance.
    paid = math.sqrt(9 / (2 * 0.3))
    assert terms.noise_std(noise) == pytest.approx(paid * (math.sqrt(1.5) if kind == "shares" else 1), rel=0.01)


def test_merged_codes_are_opened_together():
    terms = JointTerms(3, 1, noise="joint")
    exact = np.concatenate([part.ravel() for part in counted(CLIQUES, GROUPS)])
    # At this price the scale is 1/4: noise beyond 2 has a probability of e^-72.
    noise = terms.count_noise(1e4, n_marginals=3, dimension=exact.size)
    opened = on_shares(terms, lambda counts: counts.measure(CLIQUES, noise, groups=GROUPS))
    assert np.abs(opened - exact).max() <= 2


def best(distances, weights, penalties):
    return int(np.argmax([w * (d - p) for w, d, p in zip(weights, distances, penalties, strict=True)]))


@pytest.mark.parametrize("seed", range(6))
def test_a_choice_with_next_to_no_noise_is_the_largest_score(seed):
    rng = np.random.default_rng(seed)
    groups = GROUPS if seed % 2 else {}
    candidates = [("a",), ("a", "b"), ("c", "a"), ("b", "d"), ("d",)]
    counts = counted(candidates, groups)
    estimates = [rng.integers(0, 16 * 400, part.shape) for part in counts]
    distances = [int(np.abs(16 * part - guess).sum()) for part, guess in zip(counts, estimates, strict=True)]
    terms, public = JointTerms(3, 2), np.concatenate([guess.ravel() for guess in estimates])
    first = rng.integers(1, 9, 5).tolist(), rng.integers(0, 16 * 900, 5).tolist()
    again = [4, 2, 0, 1]
    second = rng.integers(1, 9, 4).tolist(), rng.integers(0, 16 * 900, 4).tolist()

    async def ask(counts):
        choice = terms.choice(1e6, largest_weight=8, n_candidates=5)
        one = await counts.select(
            candidates, [-1] * 5, public, choice, weights=first[0], penalties=first[1], groups=groups
        )
        # Distances that are known are used again, in another order, beside a new one.
        assert counts.is_distance(1, ("a", "b"), groups)
        assert not counts.is_distance(1, ("b", "d"), groups)
        assert not counts.is_distance(1, ("a", "b"), {"a": np.array([0, 0])})
        assert not counts.is_distance(5, ("a", "b"), groups)
        choice = terms.choice(1e6, largest_weight=8, n_candidates=4)
        known = [number if number != 1 else -1 for number in again]
        two = await counts.select(
            [candidates[i] for i in again],
            known,
            estimates[1].ravel(),
            choice,
            weights=second[0],
            penalties=second[1],
            groups=groups,
        )
        return one, two

    assert on_shares(terms, ask) == (best(distances, *first), best([distances[i] for i in again], *second))


def test_nothing_is_opened_for_a_party_that_confirms_something_else(monkeypatch):
    from smpc import Session

    opened = []
    monkeypatch.setattr(Session, "open", lambda *_: opened.append(1))
    terms = JointTerms(3, 1)
    noise = terms.count_noise(1.0, n_marginals=1, dimension=2)

    async def protocol(session, packages):
        counts = SharedMarginals(session, packages, LAYOUT, terms)
        await counts.measure([("a",)], noise, groups={}, confirmation=b"2" if session.party == 2 else b"1")

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, shared_out(STUDY, small_frames()))
    assert isinstance(failed.value.__cause__, ConfirmationMissing)
    assert not opened


def test_contributions_of_another_form_are_refused():
    words = np.zeros(LAYOUT.size, dtype=np.uint64)
    good = SharePackage(share([1], 2)[0].domain, (LAYOUT.size,), values=words)
    assert not pooled_words([good, good], LAYOUT.size).any()
    for bad in (
        [],
        [good, share([1, 2], 2)[0]],
        [good, SharePackage(good.domain, (1, LAYOUT.size), values=words[None])],
    ):
        with pytest.raises(StudyError):
            pooled_words(bad, LAYOUT.size)


@pytest.mark.parametrize(
    # A penalty's product with its weight of 2^64 would wrap round to none at all; a word does not hold 2^63.
    ("estimate", "penalty"),
    [(1 << 44, 0), (0, 1 << 44), (0, -(1 << 44)), (0, 1 << 43)],
)
def test_scores_beyond_the_ring_are_refused_before_anything_is_compared(estimate, penalty):
    terms = JointTerms(3, 1)

    async def ask(counts):
        choice = terms.choice(1.0, largest_weight=1 << 20, n_candidates=2)
        estimates = np.full(4, estimate)
        return await counts.select(
            [("a",), ("c",)],
            [-1, -1],
            estimates,
            choice,
            weights=[1 << 20] * 2,
            penalties=[penalty, 0],
            groups={},
        )

    with pytest.raises(PartyFailed) as failed:
        on_shares(terms, ask)
    assert isinstance(failed.value.__cause__, RangeExceeded)
