"""Speed and tightness of the numerical accountant, beside dp-accounting where it is installed.

Run: OPENBLAS_NUM_THREADS=1 pytest benchmarks/test_bench_numerical.py --benchmark-enable
"""

from __future__ import annotations

import numpy as np
import pytest

from privacy.calibration import calibrate_noise_multiplier
from privacy.events import Gaussian, Laplace, PoissonSampled, PureDP, Repeated
from privacy.numerical import NumericalAccountant

STEP = PoissonSampled(Gaussian(1.0), 0.01)
EXACT = {1_000: 1.828236666516577, 10_000: 6.187712389972, 100_000: 25.573106986521504}
MIXTURE = [(STEP, 1000), (Laplace(10.0), 100), (Gaussian(10.0), 20), (PureDP(0.05), 50)]

# Seconds, one thread.
MOST_STEPS = 0.025
MOST_MIXTURE = 0.020
MOST_CALIBRATION = 0.050
MOST_LAPLACE = 0.050
MOST_CURVE = 0.3


def price(pairs):
    accountant = NumericalAccountant(neighbours="add_remove_one")
    for event, count in pairs:
        accountant.compose(event, count=count)
    return accountant.epsilon_interval(delta=1e-5)


@pytest.mark.parametrize("steps", EXACT)
def test_steps_of_a_sampled_gaussian(benchmark, steps):
    benchmark.group = f"{steps} steps of a sampled Gaussian"
    low, high = benchmark.pedantic(price, args=([(STEP, steps)],), rounds=9, warmup_rounds=2)
    assert abs(high / EXACT[steps] - 1) < 1e-9
    assert high - low < 1e-9 * high
    benchmark.extra_info["interval"] = (low, high)
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_STEPS


def test_a_mixture_of_four_families(benchmark):
    low, high = benchmark.pedantic(price, args=(MIXTURE,), rounds=9, warmup_rounds=2)
    assert high - low < 1e-9 * high
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_MIXTURE


@pytest.mark.parametrize("pairs", [[(Laplace(1.0), 1)], [(Laplace(10.0), 100)], [(Laplace(1.0), 3), (PureDP(0.5), 5)]])
def test_laplace_releases(benchmark, pairs):
    low, high = benchmark.pedantic(price, args=(pairs,), rounds=9, warmup_rounds=2)
    assert high - low < 1e-9 * high
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_LAPLACE


def test_calibration_of_a_sampled_gaussian(benchmark):
    target = {"epsilon": 1.0, "delta": 1e-5, "accountant": NumericalAccountant, "neighbours": "add_remove_one"}
    found = benchmark.pedantic(
        calibrate_noise_multiplier,
        args=(lambda s: Repeated(PoissonSampled(Gaussian(s), 0.01), 1000),),
        kwargs=target,
        rounds=5,
        warmup_rounds=1,
    )
    assert 1.41 < found < 1.42
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_CALIBRATION


@pytest.mark.parametrize("rates", [8, 1000])
def test_a_trade_off_curve(benchmark, rates):
    def curve():
        accountant = NumericalAccountant(neighbours="add_remove_one")
        accountant.compose(STEP, count=1000)
        return accountant.trade_off(np.linspace(0, 1, rates))

    found = benchmark.pedantic(curve, rounds=5, warmup_rounds=1)
    assert 0.9 < found[0] <= 1
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_CURVE


@pytest.mark.parametrize("steps", EXACT)
def test_dp_accounting_on_the_same_steps(benchmark, steps):
    dp_accounting = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld")
    benchmark.group = f"{steps} steps of a sampled Gaussian"

    def price_there():
        accountant = pld.PLDAccountant()
        event = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
        return accountant.compose(event, steps).get_epsilon(1e-5)

    assert benchmark.pedantic(price_there, rounds=3) > EXACT[steps]
