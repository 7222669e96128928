"""Laws of the choices against closed forms, the threshold's guarantee computed exactly, and audits of every mechanism.

Each audit has a negative control: the same mechanism with noise 30 % or 50 % too small, or with a forgotten factor of
the sensitivity, must be caught at its claim.
"""

import itertools
import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from privacy import InsecureSeededRng
from privacy.auditing import audit, audit_scores
from privacy.events import ApproximateDP, ExponentialMechanism, PermuteAndFlip, Repeated
from privacy.mechanisms import (
    _noise,
    exponential_mechanism,
    noisy_count,
    noisy_histogram,
    noisy_max,
    noisy_mean,
    noisy_quantile,
    noisy_sum,
    noisy_top_k,
    permute_and_flip,
    release_threshold,
    thresholded_histogram,
)

N_DRAWS = 6_000
ALPHA, REJECTED = 1e-4, 1e-10
N_RUNS = 3_000
SCORES = [5, 3, 3, 0, -20]


def exponential_law(scores, rate):
    weights = np.exp(rate * (np.array(scores) - max(scores)))
    return weights / weights.sum()


def permute_and_flip_law(scores, rate):
    """Return the law by going through all orders of the candidates."""
    heads = np.exp(rate * (np.array(scores) - max(scores)))
    law = np.zeros(len(scores))
    for order in itertools.permutations(range(len(scores))):
        unchosen = 1.0
        for i in order:
            law[i] += unchosen * heads[i]
            unchosen *= 1 - heads[i]
    return law / math.factorial(len(scores))


def chi_square(draws, law):
    seen = np.bincount(draws, minlength=len(law))
    common = law * len(draws) >= 5
    expected = np.append(law[common], law[~common].sum()) * len(draws)
    observed = np.append(seen[common], seen[~common].sum())
    present = expected > 0
    return stats.chisquare(observed[present], expected[present]).pvalue


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choose", "law", "rate"),
    [
        (exponential_mechanism, exponential_law, 0.25),
        (partial(exponential_mechanism, monotone=True), exponential_law, 0.5),
        (permute_and_flip, permute_and_flip_law, 0.25),
    ],
    ids=["exponential", "monotone", "permute-and-flip"],
)
def test_a_choice_has_the_mechanisms_law(choose, law, rate):
    rng = InsecureSeededRng(11)
    draws = [choose(SCORES, epsilon=1.0, sensitivity=2, rng=rng) for _ in range(N_DRAWS)]
    assert chi_square(draws, law(SCORES, rate)) > ALPHA
    # Negative controls: half the rate; the other mechanism.
    assert chi_square(draws, law(SCORES, rate / 2)) < REJECTED
    other = exponential_law if law is permute_and_flip_law else permute_and_flip_law
    assert chi_square(draws, other(SCORES, rate)) < REJECTED


@pytest.mark.parametrize("law", [exponential_law, permute_and_flip_law])
def test_the_laws_themselves_are_as_private_as_their_events_say(law):
    # All scores within one of each other's: the worst case over a grid of changes by at most 1.
    epsilon = 0.8
    worst = 0.0
    for change in itertools.product((-1, 0, 1), repeat=4):
        one, other = law([3, 2, 0, 3], epsilon / 2), law(np.array([3, 2, 0, 3]) + change, epsilon / 2)
        worst = max(worst, np.abs(np.log(one / other)).max())
    assert 0.3 < worst <= epsilon * (1 + 1e-12)


def test_a_monotone_choice_keeps_its_bounded_range_without_the_factor_two():
    epsilon = 0.8
    for change in itertools.product((0, 1), repeat=4):
        losses = np.log(
            exponential_law([3, 2, 0, 3], epsilon) / exponential_law(np.array([3, 2, 0, 3]) + change, epsilon)
        )
        assert np.ptp(losses) <= epsilon * (1 + 1e-12)
    # Negative control: changes both ways need the factor.
    losses = np.log(exponential_law([3, 2, 0, 3], epsilon) / exponential_law([4, 1, 0, 3], epsilon))
    assert np.ptp(losses) > epsilon


def test_a_choice_of_one_is_that_one_and_events_say_the_mechanism():
    assert noisy_max([7], sensitivity=1, epsilon=0.1) == (0, PermuteAndFlip(0.1))
    assert noisy_max([7], sensitivity=1, epsilon=0.1, method="exponential") == (0, ExponentialMechanism(0.1))
    chosen, event = noisy_top_k([0, 1, 1, 2], n_categories=3, k=3, epsilon=0.5, neighbours="replace_one")
    assert sorted(chosen) == [0, 1, 2]
    assert event == Repeated(ExponentialMechanism(0.5), 3)


# ---------------------------------------------------------------- the threshold


def laplace_tail(t, s):
    """Return P[discrete Laplace >= t] for any integer t."""
    r = math.exp(-1 / s)
    return math.exp(-t / s) / (1 + r) if t >= 1 else 1 - math.exp((t - 1) / s) / (1 + r)


def released_law(count, scale, threshold, largest):
    """Return P[nothing], P[threshold], ..., P[>= largest] of one key's answer; a key without patients gives nothing."""
    if count == 0:
        return np.eye(largest - threshold + 2)[0]
    tails = [laplace_tail(t - count, scale) for t in range(threshold, largest + 1)]
    return np.array([1 - tails[0], *(-np.diff(tails)), tails[-1]])


def exact_delta(epsilon, before, after):
    """Return the hockey-stick divergence of products of the keys' laws, both ways."""
    P, Q = np.array([1.0]), np.array([1.0])
    for one, other in zip(before, after, strict=True):
        P, Q = np.outer(P, one).ravel(), np.outer(Q, other).ravel()
    return max(np.maximum(P - math.exp(epsilon) * Q, 0).sum(), np.maximum(Q - math.exp(epsilon) * P, 0).sum())


@pytest.mark.parametrize("relation", ["add_remove_one", "replace_one"])
@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-6), (2.0, 1e-2), (0.3, 1e-3), (0.05, 0.2), (4.0, 0.3)])
@pytest.mark.parametrize("m", [1, 2])
def test_the_threshold_keeps_its_promise_for_all_small_changes(relation, epsilon, delta, m):
    scale, threshold = release_threshold(epsilon=epsilon, delta=delta, max_contributions=m, neighbours=relation)
    # From max(count) on the likelihood ratio is constant, so that one cell for all larger answers loses nothing.
    s, largest = float(scale), threshold + 2

    def key_law(count):
        return released_law(count, s, threshold, largest)

    # Keys with 0, 1 or about the threshold's number of other patients; the patient has at most m of them.
    others = (0, 0, threshold - 1)
    mine = [keys for keys in itertools.product((0, 1), repeat=3) if 0 < sum(keys) <= m]
    pairs = [(keys, (0, 0, 0)) for keys in mine]
    if relation == "replace_one":
        pairs = list(itertools.product(mine, mine))
    worst = 0.0
    for one, other in pairs:
        laws = [[key_law(n + k) for n, k in zip(others, keys, strict=True)] for keys in (one, other)]
        worst = max(worst, exact_delta(epsilon, *laws))
    assert worst <= delta * (1 + 1e-9) + 1e-13
    if delta <= 1e-2 and epsilon >= 1:
        # The promise is used up to a factor of the noise's steps, and one threshold lower would break it.
        threshold -= 1
        largest -= 1
        lower = exact_delta(epsilon, [key_law(1)] * m, [key_law(0)] * m)
        assert lower > delta * (1 - 1 / (2 * m))


def test_rare_keys_stay_hidden_and_the_answer_is_sorted():
    keys = ["common"] * 500 + [f"rare {i}" for i in range(2000)] + ["also common"] * 400
    answer, event = thresholded_histogram(keys, epsilon=1.0, delta=1e-7, neighbours="add_remove_one")
    assert list(answer) == ["also common", "common"]
    assert event == ApproximateDP(1.0, 1e-7)
    shuffled = thresholded_histogram(keys[::-1], epsilon=1.0, delta=1e-7, neighbours="add_remove_one")[0]
    assert list(shuffled) == ["also common", "common"]


def test_a_patient_counts_once_for_a_key_and_for_so_many_keys():
    keys = [1, 1, 2, 3, 1] * 400
    patients = [i // 5 for i in range(2000)]
    one, _ = thresholded_histogram(keys, epsilon=5.0, delta=1e-6, neighbours="replace_one", patients=patients)
    assert list(one) == [1]
    assert abs(one[1] - 400) < 20
    two, _ = thresholded_histogram(
        keys, epsilon=5.0, delta=1e-6, neighbours="replace_one", patients=patients, max_contributions=2
    )
    assert list(two) == [1, 2]


@pytest.mark.parametrize(
    ("keys", "options", "rule"),
    [
        (["a", 1], {}, "all texts"),
        (["a", None], {}, "all texts"),
        ([1.5], {}, "all texts"),
        ([True], {}, "all texts"),
        (["a"], {"max_contributions": 2}, "patients="),
        (["a"], {"patients": [1, 2]}, "one patient"),
        (["a"], {"delta": 0.0}, "delta"),
        (["a"], {"epsilon": 0.0}, "epsilon"),
        (["a"], {"epsilon": 1e6}, "scale"),
    ],
)
def test_thresholded_histograms_refuse_what_they_cannot_protect(keys, options, rule):
    with pytest.raises(ValueError, match=rule):
        thresholded_histogram(keys, **{"epsilon": 1.0, "delta": 1e-6, "neighbours": "replace_one", **options})


# ---------------------------------------------------------------- audits


def first(release, **options):
    """Return a mechanism for the auditor: the answer alone."""
    return lambda table, rng: release(table, rng=rng, **options)[0]


EPSILON = 1.0
AUDITS = {
    "count": (first(noisy_count, neighbours="add_remove_one", epsilon=EPSILON), [1, 0, 1], [0, 1], None),
    "histogram": (
        first(noisy_histogram, n_categories=2, neighbours="replace_one", epsilon=EPSILON),
        [0, 1, 1],
        [0, 0, 1],
        lambda answer: int(answer[0] <= 1) + int(answer[1] >= 2),
    ),
    "sum": (first(noisy_sum, bounds=(-2, 10), neighbours="add_remove_one", epsilon=EPSILON), [10, 3], [3], None),
    "mean": (
        first(noisy_mean, bounds=(0, 10), neighbours="replace_one", epsilon=EPSILON),
        [0, 0, 0, 10],
        [0, 0, 0, 0],
        float,
    ),
    "quantile": (
        first(noisy_quantile, quantile=0.5, grid=[-1, 1, 2, 3, 4], neighbours="replace_one", epsilon=EPSILON),
        [-5, 0, 0, 5],
        [5, 0, 0, 5],
        lambda answer: float(answer == -1),
    ),
    "top one": (
        first(noisy_top_k, n_categories=2, k=1, neighbours="replace_one", epsilon=EPSILON),
        [0, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        lambda answer: float(answer[0]),
    ),
    "threshold": (
        first(thresholded_histogram, neighbours="add_remove_one", epsilon=EPSILON, delta=1e-2),
        ["x"] * 8,
        ["x"] * 7,
        lambda answer: float(answer.get("x", -1)),
    ),
    "max": (
        lambda scores, rng: noisy_max(scores, sensitivity=1, epsilon=EPSILON, rng=rng)[0],
        [1, 0],
        [0, 1],
        None,
    ),
}


@pytest.mark.parametrize("name", AUDITS)
def test_no_mechanism_is_less_private_than_its_event_says(name):
    mechanism, one, other, score = AUDITS[name]
    delta = 1e-2 if name == "threshold" else 0.0
    # The worst cases of choices are rarer.
    n_runs = N_RUNS if name in {"quantile", "top one"} else N_RUNS // 2
    result = audit(mechanism, one, other, n_runs=n_runs, delta=delta, score=score, rng=InsecureSeededRng(7))
    assert result.epsilon_lower <= EPSILON
    assert result.epsilon_lower > 0.4 * EPSILON, "the audit has power: the pair is close to the worst case"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["count", "histogram", "sum", "mean", "threshold"])
def test_noise_half_as_wide_is_caught(monkeypatch, name):
    original = _noise.sample_discrete_laplace
    for module in ("privacy.mechanisms._noise", "privacy.mechanisms.unknown_domain"):
        monkeypatch.setattr(
            f"{module}.sample_discrete_laplace", lambda scale, size, *, rng: original(scale / 2, size, rng=rng)
        )
    mechanism, one, other, score = AUDITS[name]
    delta = 1e-2 if name == "threshold" else 0.0
    result = audit(mechanism, one, other, n_runs=N_RUNS, delta=delta, score=score, rng=InsecureSeededRng(7))
    assert result.epsilon_lower > EPSILON


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quantile", "top one", "max"])
def test_a_forgotten_factor_of_a_choice_is_caught(monkeypatch, name):
    from privacy.mechanisms import choices

    # The scores' sensitivity taken for a third of what it is.
    for function in ("exponential_mechanism", "permute_and_flip"):
        original = getattr(choices, function)

        def broken(scores, original=original, **options):
            return original([3 * score for score in scores], **options)

        monkeypatch.setattr(choices, function, broken)
    mechanism, one, other, score = AUDITS[name]
    if name == "top one":
        # Scores three times as far apart make the honest worst case too rare to be seen.
        one, other = [0, 0, 1], [0, 1, 1]
    result = audit(mechanism, one, other, n_runs=N_RUNS, score=score, rng=InsecureSeededRng(7))
    assert result.epsilon_lower > EPSILON


def gaussian_delta(mu):
    return lambda epsilon: (
        stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
    )


def gaussian_sums(shrink):
    """Return answers of a noisy sum for two neighbours: bounds (0, 100), rho 1/2, so noise as wide as the bound."""
    rng = InsecureSeededRng(8)
    table = [50, 70]
    with pytest.MonkeyPatch.context() as patch:
        original = _noise.sample_discrete_gaussian
        patch.setattr(_noise, "sample_discrete_gaussian", lambda s, n, *, rng: original(s * shrink, n, rng=rng))
        options = {"bounds": (0, 100), "neighbours": "add_remove_one", "rho": 0.5, "rng": rng}
        return [[noisy_sum(data, **options)[0] for _ in range(N_RUNS)] for data in ([*table, 100], table)]


@pytest.mark.slow
def test_a_gaussian_sum_has_the_curve_of_its_event_and_thirty_percent_less_noise_is_caught():
    honest = audit_scores(*gaussian_sums(1.0))
    assert not honest.contradicts(gaussian_delta(1.0))
    assert 0.8 < honest.gaussian_dp_lower < 1.0
    broken = audit_scores(*gaussian_sums(0.7))
    assert broken.contradicts(gaussian_delta(1.0))
    assert broken.gaussian_dp_lower > 1.0


@pytest.mark.slow
def test_the_generators_marginals_have_the_curve_of_their_event_and_a_lost_factor_is_caught():
    import pandas as pd

    from generators.oracle import LocalTableOracle
    from privacy import Schema

    schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}, "dead": {"categories": ["0", "1"]}}})
    rows = [("F", "0"), ("M", "1"), ("M", "0")]
    frames = [pd.DataFrame(rows[:n], columns=["sex", "dead"]) for n in (3, 2)]

    def curve(n_queries_paid):
        seen = []
        for frame in frames:
            oracle = LocalTableOracle(frame, schema, rng=InsecureSeededRng(9 + len(frame)))
            answers = []
            for _ in range(N_RUNS):
                # Two marginals at rho 1/2 together; the patient ("M", "0") changes one cell of each by one.
                measured = [
                    m
                    for cliques in ([[("sex",), ("dead",)]] if n_queries_paid == 2 else [[("sex",)], [("dead",)]])
                    for m in oracle.measure(cliques, rho=0.5)
                ]
                answers.append(int(measured[0].values[1] + measured[1].values[0]))
            seen.append(answers)
        return audit_scores(*seen)

    assert not curve(2).contradicts(gaussian_delta(1.0))
    assert curve(2).gaussian_dp_lower > 0.7
    # Negative control: each marginal at rho 1/2 by itself, as if the second were free.
    assert curve(1).contradicts(gaussian_delta(1.0))
