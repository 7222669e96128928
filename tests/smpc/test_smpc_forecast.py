"""A forecast equals what a run costs, for protocols that do not go by what is opened; and says so where one does."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpc import FIELD61, SmpcError, count_more_than, joint_discrete_gaussian, run_local, small_cells
from smpc.forecast import Forecast, ForecastImpossible, forecast, forecast_async
from smpc.plans import read_plan


def summed(a):
    total = a[0]
    for each in a[1:]:
        total = total + each
    return total


async def product(s, x):
    a = await s.input(x)
    return await s.open(await s.mul(a[0], a[1]), summed(a))


async def gram(s, x):
    a = await s.input(x.reshape(1, -1))
    return await s.open(await s.matmul(a[0], a[1].T))


async def compared(s, x):
    a = await s.input(x, max_abs=10_000)
    return await s.open(*await s.together(s.less(a[0], a[1]), s.equal(a[0], 3), s.abs(a[1])))


async def compared_without_range(s, x):
    a = await s.input(x)
    return await s.open(await s.less(a[0], a[1]))


async def selected(s, x):
    a = await s.input(x, max_abs=10_000)
    index, value = await s.argmax_and_max(summed(a))
    best, _ = await s.top_k(a[0], 1)
    return await s.open(index, value, best)


async def fixed_point(s, x):
    a = await s.input(x / 7, max_abs=10, frac_bits=16)
    return await s.open(await s.mul(await s.square(a[0]), a[1]), await s.mul(a[0], 0.25))


async def cells(s, x):
    a = await s.input(x, domain=FIELD61)
    return await small_cells(s, summed(a), threshold=5)


async def noisy(s, x):
    a = await s.input(x)
    return await s.open(await joint_discrete_gaussian(s, summed(a), 10.0, collusion_threshold=1))


async def overlaps(s, x):
    return await s.open(await count_more_than(s, await s.input(x), 1))


async def checked(s, x):
    a = await s.input(x)
    await s.exchange(b"seven words")
    opened = await s.open(await s.square(a[0]))
    await s.check_transcripts()
    return opened


PROTOCOLS = [
    product,
    gram,
    compared,
    compared_without_range,
    selected,
    fixed_point,
    cells,
    noisy,
    overlaps,
    checked,
]


def same(cost, run):
    assert cost.certain
    assert cost.rounds == run.cost.rounds
    assert cost.bytes_sent_by_party == run.cost.bytes_sent_by_party
    assert cost.material == run.cost.material
    assert cost.dealer_bytes == run.cost.dealer_bytes


@pytest.mark.parametrize("n_parties", [2, 3, pytest.param(4, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_a_forecast_is_what_a_run_costs(protocol, n_parties):
    rng = np.random.default_rng(n_parties)
    inputs = [rng.integers(0, 2, 70) for _ in range(n_parties)]
    same(forecast(protocol, [np.zeros(70, dtype=int)] * n_parties, rehearsals=2), run_local(protocol, inputs))


@settings(max_examples=10)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    n_parties=st.integers(2, 5),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_a_forecast_is_what_a_run_costs_whatever_the_values(protocol, n_parties, size, seed):
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(0, 2, size) for _ in range(n_parties)]
    same(forecast(protocol, [np.zeros(size, dtype=int)] * n_parties), run_local(protocol, inputs))


def test_inputs_of_different_shapes_are_forecast_party_by_party():
    async def protocol(s, x):
        a = await s.input(x)
        return await s.open(a[0], a[1], a[2])

    inputs = [np.ones(5, dtype=int), np.ones((2, 3, 4), dtype=int), np.array(7)]
    same(forecast(protocol, [np.zeros_like(x) for x in inputs]), run_local(protocol, inputs))


def test_a_protocol_that_goes_by_what_is_opened_is_called_uncertain():
    async def protocol(s, x):
        a = await s.input(x)
        for _ in range(5):
            if (await s.open(a[0]))[0] == 0:
                break
            a = [await s.mul(a[0], a[0])]
        return await s.open(a[0])

    cost = forecast(protocol, [[1], [1]])
    assert not cost.certain
    # The most of the rehearsals: all five turns.
    assert cost.rounds == 1 + 5 * 2 + 1
    assert "not certain" in cost.text()
    assert json.loads(cost.to_json())["certain"] is False
    assert forecast(protocol, [[1], [1]], rehearsals=1).certain


def test_a_protocol_that_fails_on_every_made_up_opening_has_no_forecast():
    async def protocol(s, x):
        opened = await s.open((await s.input(x))[0])
        if opened[0] != 7:
            raise ZeroDivisionError

    with pytest.raises(ForecastImpossible) as caught:
        forecast(protocol, [[7], [7]])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_loop_that_waits_for_an_opening_is_given_up():
    async def protocol(s, x):
        a = await s.input(x)
        while (await s.open(a[0]))[0] != 7:
            pass

    with pytest.raises(ForecastImpossible):
        forecast(protocol, [[7], [7]], most_rounds=200)


def test_a_protocol_that_fails_on_some_openings_is_called_uncertain():
    async def protocol(s, x):
        opened = await s.open((await s.input(x))[0])
        return np.zeros(3)[opened[0]]

    cost = forecast(protocol, [[1], [1]])
    assert not cost.certain
    assert cost.rounds == 2


def test_the_time_on_the_network_is_rounds_and_bytes():
    cost = Forecast(3, 7, (10, 2_000_000, 30), {}, 96, 0, certain=True)
    assert cost.seconds(rtt=0.1, bandwidth=1e6) == pytest.approx(7 * 0.1 + 2.0)
    assert cost.seconds(rtt=0, bandwidth=1e6) == 2.0
    with pytest.raises(ValueError, match="bandwidth"):
        cost.seconds(bandwidth=0)
    with pytest.raises(ValueError, match="rtt"):
        cost.seconds(rtt=-1)


def test_a_plan_is_what_the_dealer_makes_for_that_many_runs():
    cost = forecast(fixed_point, [np.zeros(9, dtype=int)] * 2)
    amounts, n_parties = read_plan(cost.plan(runs=3))
    assert n_parties == 2
    assert amounts == {kind: 3 * count for kind, count in cost.material.items()}
    body = json.loads(cost.to_json(rtt=0.5))
    assert body["online"]["network_seconds"] == pytest.approx(cost.seconds(rtt=0.5))
    assert body["offline"]["expanded_bytes_per_party"] == sum(k.n_bytes(c) for k, c in cost.material.items())


def test_a_running_loop_is_told_to_await():
    async def inside():
        with pytest.raises(SmpcError, match="forecast_async"):
            forecast(product, [[1], [1]])
        return await forecast_async(product, [[1], [1]])

    assert asyncio.run(inside()).rounds == 3


def test_a_rehearsal_without_arguments_that_make_sense_is_refused():
    with pytest.raises(ValueError, match="n_parties"):
        forecast(product, [[1]])
    with pytest.raises(ValueError, match="rehearsals"):
        forecast(product, [[1], [1]], rehearsals=0)


async def sigmoids(s, x):
    a = await s.input(x / 7, max_abs=8, frac_bits=16)
    return await s.open(await s.sigmoid(a[0]))


@pytest.mark.parametrize("n_parties", [2, 3])
def test_functions_of_real_numbers_are_forecast_and_can_be_planned(n_parties):
    cost = forecast(sigmoids, [np.zeros(30, dtype=int)] * n_parties)
    same(cost, run_local(sigmoids, [np.arange(30)] * n_parties))
    assert read_plan(cost.plan()) == (cost.material, n_parties)
