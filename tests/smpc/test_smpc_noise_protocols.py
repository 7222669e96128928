"""Noise and noisy choices on shares: of exactly the law that the event stands for, at the cost of the closed forms."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from noise_checks import fit_pvalue

from privacy import ApproximateDP, DistributedDiscreteGaussian, Repeated, rho_of
from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, PartyFailed, RangeExceeded, run_local
from smpc.noise import (
    discrete_laplace_law,
    gaussian_table,
    geometric_law,
    joint_discrete_gaussian,
    joint_discrete_laplace,
    joint_geometric,
    joint_table_gaussian,
    noisy_argmax,
    noisy_argmax_law,
    priced_discrete_gaussian,
)
from smpc.noise.coins import tree_cost
from smpc.noise.gaussian import sample_cost
from smpc.transport import HEADER_BYTES

SAMPLE_SIZE = 20_000
ALPHA = 1e-6


def opened(add, x, *, n_parties=2, domain=RING64, max_abs=None, frac_bits=0, seed=9):
    """Results at party 0 of adding noise to what party 0 puts in, opened, and the cost."""

    async def protocol(s, mine):
        a = (await s.input(mine, domain=domain, max_abs=max_abs, frac_bits=frac_bits))[0]
        noisy, event = await add(s, a)
        return await s.open(noisy), event, noisy.bound

    return run_local(protocol, [x] * n_parties, rng=InsecureSeededRng(seed))


def difference(pmf):
    n = len(pmf)
    return {x: sum((pmf[g] * pmf[g + abs(x)] for g in range(n - abs(x))), Fraction(0)) for x in range(-n + 1, n)}


# Discrete Laplace.


@pytest.mark.parametrize(
    ("domain", "n_parties"), [(RING64, 2), pytest.param(RING64, 3, marks=pytest.mark.slow), (FIELD61, 2)]
)
def test_discrete_laplace_noise_has_its_exact_law(domain, n_parties):
    epsilon, truth = 0.7, 1000

    async def add(s, a):
        return await joint_discrete_laplace(s, a, epsilon=epsilon, l1_sensitivity=1)

    done = opened(add, np.full(SAMPLE_SIZE, truth), n_parties=n_parties, domain=domain, max_abs=truth)
    noisy, event, bound = done.results[0]
    law, same = discrete_laplace_law(epsilon, 1, SAMPLE_SIZE)
    assert event == same == ApproximateDP(epsilon, event.delta)
    assert bound == truth + law.largest
    exact = {truth + x: p for x, p in difference(law.pmf()).items()}
    assert fit_pvalue(noisy, exact) > ALPHA
    # The textbook's law, in doubles, is the same to this test.
    q = math.exp(-epsilon)
    textbook = {truth + x: (1 - q) / (1 + q) * q ** abs(x) for x in range(-law.largest, law.largest + 1)}
    assert fit_pvalue(noisy, textbook) > ALPHA
    # Negative control: the law of noise 30 % larger, which makes this noise 30 % too small.
    larger = difference(geometric_law(Fraction(49, 100), 1, Fraction(1, 2**64)).pmf())
    assert fit_pvalue(noisy, {truth + x: p for x, p in larger.items()}) < ALPHA


def test_discrete_laplace_noise_costs_the_rounds_and_bytes_of_the_closed_form():
    async def add(s, a):
        return await joint_discrete_laplace(s, a, epsilon=1.0, l1_sensitivity=1)

    length = 100
    law, _ = discrete_laplace_law(1.0, 1, length)
    cost = opened(add, np.zeros(length, dtype=int), n_parties=3).cost
    rounds, bits = tree_cost(64)
    assert cost.rounds == 1 + (1 + rounds + 1) + 1
    n_words = -(-2 * length // 64)
    payload = 40 + 8 * n_words * law.n_digits * (64 + bits + 1) + 8 * length
    assert cost.bytes_sent_by_party == (2 * (cost.rounds * HEADER_BYTES + payload),) * 3


@pytest.mark.parametrize("shape", [(3, 5), (1,), (0,), ()])
def test_noise_keeps_the_shape(shape):
    async def add(s, a):
        noisy, event = await joint_discrete_laplace(s, a, epsilon=0.1, l1_sensitivity=2)
        noisy, _ = await joint_table_gaussian(s, noisy, gaussian_table(1.0), l2_sensitivity_squared=1)
        return noisy, event

    noisy, event, _ = opened(add, np.zeros(shape, dtype=int)).results[0]
    assert noisy.shape == shape
    assert event == discrete_laplace_law(0.1, 2, max(math.prod(shape), 1))[1]


def test_noise_on_fixed_point_numbers_is_in_their_units():
    async def add(s, a):
        return await joint_discrete_laplace(s, a, epsilon=1.0, l1_sensitivity=1)

    noisy, _, _ = opened(add, np.full(500, 0.25), max_abs=10, frac_bits=4).results[0]
    units = (noisy - 0.25) * 16
    assert (units == np.rint(units)).all()
    assert 0.8 < np.std(units) < 2.2


def test_a_geometric_variable_has_its_law():
    law = geometric_law(Fraction(1, 3), 1, Fraction(1, 1000), 16)

    async def protocol(s, _):
        return await s.open(await joint_geometric(s, law, SAMPLE_SIZE))

    sample = run_local(protocol, [None] * 2, rng=InsecureSeededRng(4)).results[0]
    assert fit_pvalue(sample, dict(enumerate(law.pmf()))) > ALPHA
    other = geometric_law(Fraction(10, 21), 1, Fraction(1, 1000), 16).pmf()
    assert fit_pvalue(sample, dict(enumerate(other + [Fraction(0)] * len(law.pmf())))) < ALPHA


# Discrete Gaussian by table.


@pytest.mark.parametrize(("scale", "n_parties"), [(0.6, 2), (3.0, 2), (3.0, 3)])
def test_noise_by_table_has_its_exact_law(scale, n_parties):
    table = gaussian_table(scale)

    async def add(s, a):
        return await joint_table_gaussian(s, a, table, l2_sensitivity_squared=1)

    noisy, event, bound = opened(add, np.full(SAMPLE_SIZE, -7), n_parties=n_parties, max_abs=7).results[0]
    assert event == table.event(l2_sensitivity_squared=1, dimension=SAMPLE_SIZE)
    assert bound == 7 + table.largest
    half = table.pmf()
    assert fit_pvalue(noisy, {h - 7: half[abs(h)] for h in range(-table.largest, table.largest + 1)}) > ALPHA
    larger = gaussian_table(scale / 0.7).pmf()
    assert fit_pvalue(noisy, {h - 7: larger[abs(h)] for h in range(-len(larger) + 1, len(larger))}) < ALPHA


@pytest.mark.parametrize(("length", "n_bits"), [(64, 128), (200, 64)])
def test_noise_by_table_costs_the_rounds_and_bytes_of_the_closed_form(length, n_bits):
    table = gaussian_table(2.0, max_delta=2.0**-30, n_bits=n_bits)

    async def add(s, a):
        return await joint_table_gaussian(s, a, table, l2_sensitivity_squared=1)

    cost = opened(add, np.zeros(length, dtype=int), n_parties=3).cost
    rounds, bits = sample_cost(table)
    n_words = -(-length // 64)
    assert cost.rounds == 1 + rounds + 1
    # All but the gated numbers travel as words of 64 samples.
    payload = 40 + 8 * n_words * (bits - 64) + 8 * length + 8 * length
    assert cost.bytes_sent_by_party == (2 * (cost.rounds * HEADER_BYTES + payload),) * 3


def test_samples_of_several_batches_are_all_different(monkeypatch):
    monkeypatch.setattr("smpc.noise.gaussian._BATCH_COMPARISONS", 1)
    table = gaussian_table(20.0)

    async def add(s, a):
        return await joint_table_gaussian(s, a, table, l2_sensitivity_squared=1)

    done = opened(add, np.zeros(150, dtype=int))
    noise = done.results[0][0]
    assert noise.shape == (150,)
    assert done.cost.rounds == 2 + 3 * sample_cost(table)[0]
    assert not (noise[:64] == noise[64:128]).all()
    assert 14 < np.std(noise) < 27


# Discrete Gaussian by shares.


def test_noise_by_shares_names_its_event_before_anything_is_sent():
    async def add(s, a):
        return await priced_discrete_gaussian(
            s, a, 4.0, collusion_threshold=1, l1_sensitivity=3, l2_sensitivity_squared=5
        )

    noisy, event, _ = opened(add, np.zeros((50, 40), dtype=int), n_parties=3).results[0]
    assert event == DistributedDiscreteGaussian(4.0, 2, 2000, 3, 5)
    assert 6 < np.std(noisy) < 8  # 4 sqrt(3)


@pytest.mark.parametrize("coalition", [(0,), (1, 2)])
def test_a_coalition_that_subtracts_its_own_noise_still_faces_that_of_the_others(coalition):
    scale, n_parties = 2.0, 3

    async def protocol(s, mine):
        a = (await s.input(mine))[0]
        noisy = await joint_discrete_gaussian(s, a, scale, collusion_threshold=len(coalition))
        return await s.open(noisy), (noisy - a)._share.view(np.int64)

    results = run_local(protocol, [np.full(SAMPLE_SIZE, 30)] * n_parties, rng=InsecureSeededRng(6)).results
    rest = results[0][0] - 30 - sum(results[party][1] for party in coalition)
    law = {0: 1.0}
    for _ in range(n_parties - len(coalition)):
        law = convolved(law, discrete_gaussian(scale))
    assert fit_pvalue(rest, law) > ALPHA
    larger = {0: 1.0}
    for _ in range(n_parties - len(coalition)):
        larger = convolved(larger, discrete_gaussian(scale / 0.7))
    assert fit_pvalue(rest, larger) < ALPHA


def discrete_gaussian(scale):
    weights = {h: math.exp(-h * h / (2 * scale * scale)) for h in range(-60, 61)}
    total = math.fsum(weights.values())
    return {h: w / total for h, w in weights.items()}


def convolved(first, second):
    out = {}
    for (x, p), (y, q) in itertools.product(first.items(), second.items()):
        out[x + y] = out.get(x + y, 0.0) + p * q
    return out


@pytest.mark.parametrize(("scale", "dearer"), [(0.7, 1.01), (1.0, 1.0001), (math.sqrt(2), 1 + 1e-8)])
def test_a_variance_below_two_is_paid_for(scale, dearer):
    event = DistributedDiscreteGaussian(scale, 2, 10, 1, 1)
    assert rho_of(event) > 1 / (4 * scale**2) * dearer
    assert rho_of(DistributedDiscreteGaussian(2.0, 2, 10, 1, 1)) < 1 / 16 * (1 + 1e-7)


# The best of several.


def winners(scores, pmf):
    """Exact probabilities: the largest noisy score wins, the lowest index among equal ones."""
    wins = dict.fromkeys(range(len(scores)), Fraction(0))
    for noise in itertools.product(range(len(pmf)), repeat=len(scores)):
        noisy = [s + g for s, g in zip(scores, noise, strict=True)]
        wins[noisy.index(max(noisy))] += math.prod((pmf[g] for g in noise), start=Fraction(1))
    return wins


@pytest.mark.parametrize(("scores", "n_parties"), [((0, 0, 0), 2), ((-1, 1, 0), 3), ((5, 2), 2)])
def test_noisy_arg_max_chooses_with_the_exact_probabilities(scores, n_parties):
    epsilon, max_delta = 1.5, 1e-2

    async def add(s, a):
        return await noisy_argmax(s, a, sensitivity=1, epsilon=epsilon, max_delta=max_delta)

    done = opened(add, np.tile(scores, (SAMPLE_SIZE, 1)), n_parties=n_parties, max_abs=5)
    chosen, event, _ = done.results[0]
    law, once = noisy_argmax_law(epsilon, 1, len(scores), max_delta=max_delta)
    assert event == Repeated(once, SAMPLE_SIZE)
    exact = winners(scores, law.pmf())
    assert fit_pvalue(chosen, exact) > ALPHA
    # Negative control: noise 30 % too small, and ties that go to the last.
    larger, _ = noisy_argmax_law(0.7 * epsilon, 1, len(scores), max_delta=max_delta)
    if len(set(scores)) > 1:
        assert fit_pvalue(chosen, winners(scores, larger.pmf())) < ALPHA
    last = {len(scores) - 1 - i: p for i, p in winners(scores[::-1], law.pmf()).items()}
    assert fit_pvalue(chosen, last) < ALPHA


@pytest.mark.parametrize("monotone", [False, True])
def test_noisy_arg_max_of_a_thousand_finds_a_clear_winner(monotone):
    async def add(s, a):
        return await noisy_argmax(s, a, sensitivity=3, epsilon=1.0, monotone=monotone)

    scores = np.zeros(1000, dtype=int)
    scores[617] = 1000
    done = opened(add, scores, max_abs=1000)
    index, event, bound = done.results[0]
    assert (int(index), bound) == (617, 999)
    assert event == noisy_argmax_law(1.0, 3, 1000, monotone=monotone)[1]

    async def bare(s, a):
        return await s.argmax(a), None

    law, _ = noisy_argmax_law(1.0, 3, 1000, monotone=monotone)
    assert done.cost.rounds == opened(bare, scores, max_abs=1000 + law.largest).cost.rounds + 4


def test_scores_in_fixed_point_are_compared_in_their_units():
    async def add(s, a):
        return await noisy_argmax(s, a, sensitivity=1, epsilon=1.0)

    index, _, _ = opened(add, [0.0, 60.0, 0.0], max_abs=100, frac_bits=4).results[0]
    assert int(index) == 1


@pytest.mark.parametrize(
    ("add", "x", "options", "error"),
    [
        (lambda s, a: noisy_argmax(s, a, sensitivity=1, epsilon=1.0), [1, 2], {}, RangeExceeded),
        (lambda s, a: noisy_argmax(s, a, sensitivity=1, epsilon=1.0), [1, 2], {"max_abs": 2**62 - 10}, RangeExceeded),
        (lambda s, a: noisy_argmax(s, a, sensitivity=1, epsilon=1.0), 1, {"max_abs": 2}, ValueError),
        (lambda s, a: noisy_argmax(s, a, sensitivity=1, epsilon=1.0), [], {"max_abs": 2}, ValueError),
        (lambda s, a: noisy_argmax(s, a, sensitivity=0, epsilon=1.0), [1], {"max_abs": 2}, ValueError),
        (
            lambda s, a: noisy_argmax(s, a, sensitivity=1, epsilon=1.0),
            [1],
            {"max_abs": 2, "domain": FIELD61},
            ValueError,
        ),
        (lambda s, a: joint_discrete_laplace(s, a, epsilon=-1.0, l1_sensitivity=1), [1], {}, ValueError),
        (
            lambda s, a: joint_discrete_laplace(s, a, epsilon=1.0, l1_sensitivity=1),
            [1],
            {"max_abs": 2**63 - 2},
            RangeExceeded,
        ),
        (
            lambda s, a: joint_table_gaussian(s, a, gaussian_table(1.0), l2_sensitivity_squared=1),
            [1],
            {"domain": FIELD61},
            ValueError,
        ),
        (
            lambda s, a: joint_table_gaussian(s, a, gaussian_table(1.0), l2_sensitivity_squared=0),
            [1],
            {},
            ValueError,
        ),
        (
            lambda s, a: priced_discrete_gaussian(
                s, a, 1.0, collusion_threshold=1, l1_sensitivity=0, l2_sensitivity_squared=1
            ),
            [1],
            {},
            ValueError,
        ),
    ],
)
def test_what_would_wrap_or_cannot_be_priced_is_refused(add, x, options, error):
    with pytest.raises(PartyFailed) as caught:
        opened(add, x, **options)
    assert isinstance(caught.value.__cause__, error)
