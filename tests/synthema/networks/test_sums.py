"""Sums of many simulated sites: the plain sum, what is sent, and what each compute party sees."""

import numpy as np
import pytest
from scipy import stats

from smpc import PartyFailed
from synthema.networks.sums import simulate_sums

SITES, ROUNDS, COUNTERS = 40, 25, 30


def counts(site: int, number: int) -> np.ndarray:
    return np.random.default_rng([site, number]).integers(-5, 50, COUNTERS)


@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_every_round_opens_the_plain_sum(n_parties):
    run = simulate_sums(counts, n_sites=SITES, n_rounds=ROUNDS, n_parties=n_parties)
    plain = np.array([sum(counts(site, number) for site in range(SITES)) for number in range(ROUNDS)])
    assert np.array_equal(run.sums, plain)
    # Seeds to all parties but one, words to that one.
    assert set(run.bytes_by_site) == {ROUNDS * (32 * (n_parties - 1) + 8 * COUNTERS)}
    assert run.rounds == ROUNDS


def test_shapes_may_change_between_rounds_only():
    run = simulate_sums(lambda site, number: [site + number], n_sites=3, n_rounds=2)
    assert run.sums.tolist() == [[3], [6]]
    with pytest.raises(PartyFailed):
        simulate_sums(lambda site, _: np.zeros(1 + site, dtype=np.int64), n_sites=3, n_rounds=1)


def test_what_one_party_is_sent_has_the_same_law_for_any_counts(monkeypatch):
    # 4,000 words of one party's pooled share, their top bits against the uniform law: p below 1e-6 is refused.
    seen: list[np.ndarray] = []
    import synthema.networks.sums as module

    original = module.pool

    def spy(packages):
        words = original(packages)
        if packages[0].values is not None:
            seen.append(words.copy())
        return words

    monkeypatch.setattr(module, "pool", spy)
    simulate_sums(lambda *_: np.zeros(1000, dtype=np.int64), n_sites=5, n_rounds=4)
    top = np.concatenate(seen) >> np.uint64(60)
    observed = np.bincount(top.astype(np.int64), minlength=16)
    assert observed.sum() == 4_000
    assert stats.chisquare(observed).pvalue > 1e-6
    # Negative control: what is opened, small counts, is anything but uniform.
    opened = np.bincount(np.zeros(4_000, dtype=np.int64), minlength=16)
    assert stats.chisquare(opened).pvalue < 1e-6


@pytest.mark.parametrize("wrong", [{"n_sites": 0, "n_rounds": 1}, {"n_sites": 1, "n_rounds": 0}])
def test_no_sites_or_rounds_are_refused(wrong):
    with pytest.raises(ValueError, match="n_"):
        simulate_sums(counts, **wrong)
