"""Filters hold whatever is chosen next: caps in integers, the invalid rule shown to fail, blocks, types."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    ApproximateDP,
    Blocks,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    ExponentialMechanism,
    Filter,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    PureDP,
    PureFilter,
    RandomizedResponse,
    RdpAccountant,
    RdpFilter,
    RenyiOdometer,
    Repeated,
    SpendRefused,
    UnsupportedEvent,
    ZcdpAccountant,
    ZcdpFilter,
    ZeroConcentratedDP,
    require_filter,
)
from privacy._units import FAILURE, LOSS, float_down, float_up, round_down, round_up
from privacy.filters import _cap_at
from privacy.rdp import epsilon_at_orders

ADD_REMOVE = "add_remove_one"


def all_filters(**options):
    return [
        PureFilter(2.0, neighbours=ADD_REMOVE, **options),
        ZcdpFilter(2.0, 1e-6, neighbours=ADD_REMOVE),
        RdpFilter(2.0, 1e-6, neighbours=ADD_REMOVE),
        RdpFilter(2.0, 1e-6, order=30.0, neighbours=ADD_REMOVE),
        RdpFilter.under_curve({2.0: 0.1, 8.0: 0.4, 64.0: 3.0}, delta=1e-6, neighbours=ADD_REMOVE),
    ]


def name_of(value):
    return type(value).__name__


# ---------------------------------------------------------------- every filter


@pytest.mark.parametrize("budget", all_filters(), ids=name_of)
def test_a_filter_admits_up_to_its_cap_and_then_refuses_and_charges_nothing(budget):
    event = PureDP(0.01)
    admitted = 0
    while budget.would_admit(event):
        budget.spend(event)
        admitted += 1
    before, left = budget.spent, budget.left
    assert admitted > 0
    with pytest.raises(SpendRefused, match="is left") as caught:
        budget.spend(event)
    assert caught.value.requested > caught.value.left == left[caught.value.amount]
    assert caught.value.block is None
    assert (budget.spent, budget.left) == (before, left)
    # What the accountant of the same currency says of all of it is within the filter's own guarantee.
    report = RdpAccountant(neighbours=ADD_REMOVE)
    report.compose(event, count=admitted)
    assert report.epsilon(delta=budget.delta or 1e-6) <= budget.epsilon


@pytest.mark.parametrize("budget", all_filters(), ids=name_of)
def test_count_equals_that_many_singles_to_the_last_unit(budget):
    singles, counted, repeated = budget, *(_twin(budget) for _ in range(2))
    for _ in range(37):
        singles.spend(PureDP(1e-3))
    counted.spend(PureDP(1e-3), count=37)
    repeated.spend(Composed((Repeated(PureDP(1e-3), 36), PureDP(1e-3))))
    assert singles._spent == counted._spent == repeated._spent


def _twin(budget):
    """Return another filter of the same caps, unspent."""
    for other in all_filters():
        if type(other) is type(budget) and other._caps == budget._caps:
            return other
    raise AssertionError


@pytest.mark.parametrize("budget", all_filters(), ids=name_of)
@pytest.mark.parametrize(
    "event", [NonPrivate("x"), RandomizedResponse(0.1), Composed((PureDP(0.01), NonPrivate("x")))], ids=name_of
)
def test_what_a_filter_cannot_price_is_refused_by_name_and_charges_nothing(budget, event):
    budget.spend(PureDP(0.01))
    before = budget.spent
    for ask in (budget.spend, budget.would_admit):
        with pytest.raises(UnsupportedEvent, match="cannot price"):
            ask(event)
    with pytest.raises(ValueError, match="count"):
        budget.spend(PureDP(0.01), count=0)
    assert budget.spent == before


@pytest.mark.parametrize("budget", all_filters(), ids=name_of)
def test_the_smallest_spends_are_never_free(budget):
    for event in (PureDP(5e-324), Laplace(1e300)):
        before = budget._spent
        budget.spend(event)
        assert all(new >= old for new, old in zip(budget._spent, before, strict=True))
        assert budget._spent[0] > before[0]


@pytest.mark.parametrize("budget", all_filters()[:1] + all_filters()[1:3], ids=name_of)
def test_an_infinite_or_absurd_cost_is_refused(budget):
    with pytest.raises(SpendRefused):
        budget.spend(PureDP(0.5), count=10**400)
    with pytest.raises((UnsupportedEvent, SpendRefused)):
        budget.spend(Gaussian(1e-200))
    assert not any(budget.spent.values())


def test_only_the_allowed_number_of_racing_threads_get_through():
    budget = PureFilter(1.0, neighbours=ADD_REMOVE)
    event, admitted = PureDP(2.0**-7), []

    def racer():
        for _ in range(100):
            try:
                budget.spend(event)
            except SpendRefused:
                return
            admitted.append(1)

    threads = [threading.Thread(target=racer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 128
    assert budget.left["epsilon"] == 0


def test_more_kinds_of_events_than_prices_are_remembered_are_still_priced():
    budget = ZcdpFilter(50.0, 1e-6, neighbours=ADD_REMOVE)
    expected = 0
    for i in range(5000):
        budget.spend(ZeroConcentratedDP(1e-6 * (1 + i)))
        expected += Fraction(1e-6 * (1 + i))
    assert budget.spent["rho"] == pytest.approx(float(expected), rel=1e-11)
    assert budget.spent["rho"] >= expected


# ---------------------------------------------------------------- each currency


@pytest.mark.parametrize("event", [PureDP(0.1), Laplace(10.0), DiscreteLaplace(10.0), ExponentialMechanism(0.1)])
def test_ten_releases_of_a_tenth_fit_under_one_and_an_eleventh_of_anything_does_not(event):
    budget = PureFilter(1.0, neighbours=ADD_REMOVE)
    budget.spend(event, count=10)
    assert budget.left == {"epsilon": 0.0, "delta": 0.0}
    with pytest.raises(SpendRefused):
        budget.spend(PureDP(5e-324))


def test_a_pure_filter_adds_epsilons_and_deltas():
    budget = PureFilter(1.0, delta=1e-5, neighbours=ADD_REMOVE)
    for event in (Laplace(10.0), ExponentialMechanism(0.2), ApproximateDP(0.1, 4e-6)):
        budget.spend(event)
    assert budget.spent["epsilon"] == pytest.approx(0.4)
    assert budget.epsilon_so_far(delta=1e-5) == budget.spent["epsilon"]
    assert budget.epsilon_so_far(delta=3e-6) == math.inf
    with pytest.raises(SpendRefused) as caught:
        budget.spend(ApproximateDP(0.0, 7e-6))
    assert caught.value.amount == "delta"
    for event in (Gaussian(100.0), ZeroConcentratedDP(1e-9)):
        with pytest.raises(UnsupportedEvent, match="for no epsilon"):
            budget.spend(event)


def test_a_zcdp_filter_spends_what_the_accountant_counts():
    budget, accountant = ZcdpFilter(3.0, 1e-6, neighbours=ADD_REMOVE), ZcdpAccountant(neighbours=ADD_REMOVE)
    for event in (DiscreteGaussian(noise_multiplier=20.0), ExponentialMechanism(0.3), Gaussian(9.0)):
        budget.spend(event)
        accountant.compose(event)
    assert budget.spent["rho"] == pytest.approx(accountant.rho, rel=1e-11)
    assert budget.epsilon_so_far(delta=1e-6) == pytest.approx(accountant.epsilon(delta=1e-6), rel=1e-9)
    assert budget.epsilon_so_far(delta=1e-6) < budget.epsilon
    with pytest.raises(UnsupportedEvent, match="RDP accountant"):
        budget.spend(PoissonSampled(Gaussian(1.0), 0.1))


@pytest.mark.parametrize("order", [None, 1.5, 12.0, 400.0])
def test_a_renyi_filter_spent_to_its_cap_is_within_its_epsilon_and_not_far(order):
    epsilon, delta = 40.0, 1e-6
    budget = RdpFilter(epsilon, delta, order=order, neighbours=ADD_REMOVE)
    (own,) = budget.orders
    budget.spend(Gaussian(math.sqrt(own / 2 / (budget.left[budget.amounts[0]] * (1 - 1e-9)))))
    assert epsilon * (1 - 1e-6) < budget.epsilon_so_far(delta=delta) <= epsilon
    with pytest.raises(SpendRefused):
        budget.spend(Gaussian(100.0))


def test_the_default_order_admits_as_much_gaussian_noise_as_zcdp_does():
    renyi, zcdp = (make(1.0, 1e-6, neighbours=ADD_REMOVE) for make in (RdpFilter, ZcdpFilter))
    counts = []
    for budget in (renyi, zcdp):
        while budget.would_admit(Gaussian(100.0)):
            budget.spend(Gaussian(100.0))
        counts.append(round(next(iter(budget.spent.values())) * 1e6))
    assert renyi.spent[renyi.amounts[0]] / renyi.orders[0] == pytest.approx(zcdp.spent["rho"], rel=2e-3)


def test_a_renyi_filter_prices_samples_by_their_divergence():
    budget = RdpFilter(3.0, 1e-5, order=8.0, neighbours=ADD_REMOVE)
    budget.spend(PoissonSampled(Gaussian(1.0), 0.01), count=1000)
    assert budget.spent["divergence of order 8"] == pytest.approx(0.8936439076060318, rel=1e-11)
    assert budget.spent["divergence of order 8"] >= 0.8936439076060318
    with pytest.raises(UnsupportedEvent, match="add_remove_one only"):
        RdpFilter(3.0, 1e-5, order=8.0, neighbours="replace_one").spend(PoissonSampled(Gaussian(1.0), 0.01))


def test_a_cap_curve_holds_at_every_order():
    budget = RdpFilter.under_curve({2.0: 0.1, 8.0: 10.0}, delta=1e-6, neighbours=ADD_REMOVE)
    budget.spend(Gaussian(math.sqrt(10.0 + 1e-6)))
    with pytest.raises(SpendRefused) as caught:
        budget.spend(Gaussian(100.0))
    assert caught.value.amount == "divergence of order 2"
    expected = epsilon_at_orders(np.array([0.1, 10.0]), np.array([1.0, 7.0]), 1e-6).min()
    assert budget.epsilon == pytest.approx(expected)


def test_deltas_of_black_boxes_come_out_of_the_part_that_was_set_aside():
    for budget in (
        ZcdpFilter(2.0, 1e-5, approximate_delta=4e-6, neighbours=ADD_REMOVE),
        RdpFilter(2.0, 1e-5, approximate_delta=4e-6, neighbours=ADD_REMOVE),
        RdpFilter.under_curve({8.0: 2.0}, delta=1e-5, approximate_delta=4e-6, neighbours=ADD_REMOVE),
    ):
        budget.spend(ApproximateDP(0.01, 1e-6), count=3)
        assert budget.left["delta"] == pytest.approx(1e-6)
        with pytest.raises(SpendRefused) as caught:
            budget.spend(ApproximateDP(0.01, 1.1e-6))
        assert caught.value.amount == "delta"
        while budget.would_admit(PureDP(0.05)):
            budget.spend(PureDP(0.05))
        report = RdpAccountant(neighbours=ADD_REMOVE)
        report.compose(ApproximateDP(0.01, 1e-6), count=3)
        assert budget.epsilon_so_far(delta=1e-5) <= budget.epsilon
        assert report.epsilon(delta=1e-5) <= budget.epsilon
    with pytest.raises(SpendRefused):
        ZcdpFilter(2.0, 1e-5, neighbours=ADD_REMOVE).spend(ApproximateDP(0.01, 1e-300))


@given(
    epsilon=st.floats(1e-3, 100),
    log_delta=st.floats(-300, -0.5),
    order=st.floats(1.01, 1e5),
)
def test_a_cap_at_an_order_converts_back_to_no_more_than_its_epsilon(epsilon, log_delta, order):
    cap = _cap_at(order, epsilon, 10**log_delta)
    if cap > 0:
        back = epsilon_at_orders(np.array([cap]), np.array([order - 1]), 10**log_delta)[0]
        assert back <= epsilon
        with mpmath.workdps(30):
            alpha = mpmath.mpf(order)
            exact = cap + mpmath.log(1 - 1 / alpha) - mpmath.log(mpmath.mpf(10**log_delta) * alpha) / (alpha - 1)
            assert epsilon * (1 - mpmath.mpf("1e-12")) - mpmath.mpf("1e-11") <= exact <= epsilon


@pytest.mark.parametrize(
    "build",
    [
        lambda: PureFilter(0.0, neighbours=ADD_REMOVE),
        lambda: PureFilter(1.0, delta=1.0, neighbours=ADD_REMOVE),
        lambda: ZcdpFilter(1.0, 0.0, neighbours=ADD_REMOVE),
        lambda: ZcdpFilter(1.0, 1e-6, approximate_delta=1e-6, neighbours=ADD_REMOVE),
        lambda: ZcdpFilter(1.0, 1e-6, neighbours="whatever"),
        lambda: RdpFilter(1.0, 1e-6, order=1.0, neighbours=ADD_REMOVE),
        lambda: RdpFilter(0.1, 1e-6, order=2.0, neighbours=ADD_REMOVE),
        lambda: RdpFilter.under_curve({}, delta=1e-6, neighbours=ADD_REMOVE),
        lambda: RdpFilter.under_curve({2.0: math.inf}, delta=1e-6, neighbours=ADD_REMOVE),
        lambda: RdpFilter.under_curve({0.5: 1.0}, delta=1e-6, neighbours=ADD_REMOVE),
    ],
)
def test_a_filter_of_no_guarantee_is_refused(build):
    with pytest.raises(ValueError, match=r"must|leaves no room|at least one"):
        build()


def test_amounts_are_rounded_to_the_side_that_is_safe():
    for unit in (LOSS, FAILURE):
        for value in (0.1, 1 / 3, 5e-324, 1e-30, 7.0):
            exact = Fraction(repr(value))
            assert Fraction(round_down(value, unit), unit) <= exact <= Fraction(round_up(value, unit), unit)
        for units in (1, 3, 10**17 + 1, 10**40 + 1):
            assert float_down(units, unit) <= Fraction(units, unit) <= float_up(units, unit)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number >= 0"):
            round_up(bad, LOSS)


# ---------------------------------------------------------------- the rule that is not valid


@dataclass(frozen=True)
class TwoOutcomes(Event):
    """A release with two outcomes: the first has this probability and this log likelihood ratio."""

    kind = "two_outcomes"
    probability: float
    log_ratio: float

    def laws(self):
        p = mpmath.mpf(self.probability)
        q = p * mpmath.exp(-mpmath.mpf(self.log_ratio))
        return (p, 1 - p), (q, 1 - q)

    def divergence(self, order):
        """Return the larger divergence of both directions."""
        first, second = self.laws()
        return max(
            mpmath.log(sum(x**order * y ** (1 - order) for x, y in zip(a, b, strict=True))) / (order - 1)
            for a, b in ((first, second), (second, first))
        )


class TwoOutcomesFilter(RdpFilter):
    """The Renyi filter, for such releases."""

    def _losses(self, event):
        return [float(event.divergence(order)) * (1 + 1e-12) for order in self.orders]


EPSILON, DELTA, LOW, HIGH = 3.0, 1e-3, 3.0, 20.0
FIRST = TwoOutcomes(0.1, 0.5)


def _caps():
    return {order: _cap_at(order, EPSILON, DELTA) for order in (LOW, HIGH)}


def _steered(outcome, order):
    """Return the worst second release that fits under the cap of this order alone, after this first outcome.

    Its first outcome's log ratio is set where the conversion of the order is tight: the total loss is then
    epsilon + log(alpha / (alpha - 1)). The probability is the largest that fits.
    """
    first, second = FIRST.laws()
    log_ratio = EPSILON + math.log(order / (order - 1)) - float(mpmath.log(first[outcome] / second[outcome]))
    room = _caps()[order] - float(FIRST.divergence(order)) - 1e-9
    low, high = 0.0, 0.999
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if TwoOutcomes(middle, log_ratio).divergence(order) <= room else (low, middle)
    return TwoOutcomes(low, log_ratio)


# After the rare first outcome order 20 pays, after the other order 3.
SECOND = {0: _steered(0, HIGH), 1: _steered(1, LOW)}


def _exact_delta(releases):
    """Return the delta at EPSILON of FIRST followed by releases[outcome], by enumeration of the four outcomes."""
    first, second = FIRST.laws()
    total = mpmath.mpf(0)
    for outcome, then in releases.items():
        for p, q in zip(*then.laws(), strict=True):
            total += max(0, first[outcome] * p - mpmath.exp(EPSILON) * second[outcome] * q)
    return total


def test_some_order_below_its_cap_is_not_a_filter():
    caps = _caps()
    # The invalid rule admits both steps on both branches: some order is within its cap each time.
    for outcome, order in ((0, HIGH), (1, LOW)):
        assert any(FIRST.divergence(o) <= cap for o, cap in caps.items())
        assert FIRST.divergence(order) + SECOND[outcome].divergence(order) <= caps[order]
    delta = _exact_delta(SECOND)
    assert delta > 1.4 * DELTA
    assert float(delta) == pytest.approx(1.45e-3, rel=0.01)
    # Either branch alone, taken whatever the outcome, is as claimed: it is the steering that breaks the rule.
    for outcome in (0, 1):
        assert _exact_delta({0: SECOND[outcome], 1: SECOND[outcome]}) <= DELTA


@pytest.mark.parametrize("order", [LOW, HIGH])
def test_a_filter_of_one_order_refuses_the_steering_and_what_it_admits_holds(order):
    admitted = {}
    for outcome in (0, 1):
        budget = TwoOutcomesFilter(EPSILON, DELTA, order=order, neighbours=ADD_REMOVE)
        budget.spend(FIRST)
        admitted[outcome] = budget.would_admit(SECOND[outcome])
    assert admitted == {0: order == HIGH, 1: order == LOW}
    nothing = TwoOutcomes(0.5, 0.0)
    assert _exact_delta({i: SECOND[i] if admitted[i] else nothing for i in admitted}) <= DELTA


def test_a_cap_curve_refuses_both_branches():
    for outcome in (0, 1):
        budget = TwoOutcomesFilter.under_curve(_caps(), delta=DELTA, neighbours=ADD_REMOVE)
        assert budget.epsilon <= EPSILON
        budget.spend(FIRST)
        with pytest.raises(SpendRefused):
            budget.spend(SECOND[outcome])


# ---------------------------------------------------------------- blocks of patients


def test_blocks_are_charged_apart_under_add_remove_one():
    blocks = Blocks(PureFilter(1.0, neighbours=ADD_REMOVE), ["2023", "2024", "2025"])
    for name in blocks.names:
        blocks.spend(PureDP(0.75), blocks=[name])
    with pytest.raises(SpendRefused, match="of block '2024'") as caught:
        blocks.spend(PureDP(0.5), blocks=["2024"])
    assert (caught.value.block, caught.value.requested, caught.value.left) == ("2024", 0.5, 0.25)
    blocks.spend(PureDP(0.25), blocks=["2023", "2025"])
    assert [blocks.spent(name)["epsilon"] for name in blocks.names] == [1.0, 0.75, 1.0]


def test_a_spend_on_several_blocks_is_charged_to_all_or_none():
    blocks = Blocks(PureFilter(1.0, neighbours=ADD_REMOVE), ["a", "b"])
    blocks.spend(PureDP(0.75), blocks=["b"])
    with pytest.raises(SpendRefused, match="block 'b'"):
        blocks.spend(PureDP(0.5), blocks=["a", "b"])
    assert blocks.spent("a") == {"epsilon": 0.0, "delta": 0.0}
    assert blocks.would_admit(PureDP(1.0), blocks=["a"])


def test_under_replace_one_a_patient_may_move_so_both_blocks_are_charged():
    blocks = Blocks(PureFilter(1.0, neighbours="replace_one"), ["a", "b", "c"])
    blocks.spend(PureDP(0.75), blocks=["a"])
    assert not blocks.would_admit(PureDP(0.5), blocks=["b"])
    with pytest.raises(SpendRefused) as caught:
        blocks.spend(PureDP(0.5), blocks=["b"])
    assert (caught.value.block, caught.value.left) == ("b", 0.25)
    blocks.spend(PureDP(0.25), blocks=["b"])
    blocks.spend(PureDP(0.25), blocks=["c"])  # no patient is in b and c before and a after
    for name in "abc":
        assert not blocks.would_admit(PureDP(2.0**-20), blocks=[name]) or name != "a"
    assert blocks.would_admit(PureDP(0.25), blocks=["b"]) is False
    # A release on both blocks of a pair counts twice.
    pair = Blocks(PureFilter(1.0, neighbours="replace_one"), ["a", "b"])
    with pytest.raises(SpendRefused):
        pair.spend(PureDP(0.625), blocks=["a", "b"])
    pair.spend(PureDP(0.5), blocks=["a", "b"])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), max_size=60),
    st.sampled_from([ADD_REMOVE, "replace_one"]),
)
def test_blocks_equal_a_search_over_all_pairs(spends, neighbours):
    blocks = Blocks(PureFilter(1.0, neighbours=neighbours), [str(i) for i in range(5)])
    totals = [0] * 5
    for place, size in spends:
        after = totals.copy()
        after[place] += size
        if neighbours == ADD_REMOVE:
            fits = max(after) <= 128
        else:
            fits = all(after[i] + after[j] <= 128 for i in range(5) for j in range(i))
        assert blocks.would_admit(PureDP(size / 128), blocks=[str(place)]) == fits
        if fits:
            blocks.spend(PureDP(size / 128), blocks=[str(place)])
            totals = after


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: Repeated(e, 3), lambda e: Composed((PureDP(0.1), e))])
def test_randomised_response_on_some_blocks_shows_how_many_records_they_have(wrap):
    event = wrap(RandomizedResponse(0.1))
    blocks = Blocks(PureFilter(1.0, neighbours="replace_one"), ["a", "b", "c"])
    for ask in (blocks.spend, blocks.would_admit):
        with pytest.raises(UnsupportedEvent, match="how many records"):
            ask(event, blocks=["a", "b"])
    assert not any(blocks.spent(name)["epsilon"] for name in "abc")
    blocks.spend(event, blocks=["a", "b", "c"])  # the whole table: every record keeps its place


def test_blocks_are_declared_once_and_touched_by_name():
    with pytest.raises(ValueError, match="distinct"):
        Blocks(PureFilter(1.0, neighbours=ADD_REMOVE), ["a", "a"])
    with pytest.raises(ValueError, match="distinct"):
        Blocks(PureFilter(1.0, neighbours=ADD_REMOVE), [])
    used = PureFilter(1.0, neighbours=ADD_REMOVE)
    used.spend(PureDP(0.1))
    with pytest.raises(ValueError, match="unspent"):
        Blocks(used, ["a"])
    blocks = Blocks(ZcdpFilter(1.0, 1e-6, neighbours=ADD_REMOVE), ["a", "b"])
    for touched in ([], ["c"], ["a", "c"]):
        with pytest.raises(ValueError, match="declared"):
            blocks.spend(PureDP(0.1), blocks=touched)
    with pytest.raises(TypeError, match="one string"):
        blocks.spend(PureDP(0.1), blocks="a")
    with pytest.raises(UnsupportedEvent):
        blocks.spend(NonPrivate("x"), blocks=["a"])
    assert not any(blocks.spent("a").values())


# ---------------------------------------------------------------- filters and reports are different types


@pytest.mark.parametrize(
    "value",
    [
        ZcdpAccountant(neighbours=ADD_REMOVE),
        RdpAccountant(neighbours=ADD_REMOVE),
        RenyiOdometer(delta=1e-6, neighbours=ADD_REMOVE),
        None,
        PureFilter,
    ],
    ids=["zcdp", "rdp", "odometer", "none", "class"],
)
def test_what_is_no_filter_cannot_enforce_a_budget(value):
    with pytest.raises(TypeError, match="a filter is needed"):
        require_filter(value)
    with pytest.raises(TypeError, match="a filter is needed"):
        Blocks(value, ["a"])


def test_no_accountant_is_a_filter_and_no_filter_an_accountant():
    from privacy import Accountant

    for budget in all_filters():
        assert require_filter(budget) is budget
        assert not isinstance(budget, Accountant)
        assert not hasattr(budget, "compose")
    for accountant in (ZcdpAccountant(neighbours=ADD_REMOVE), RdpAccountant(neighbours=ADD_REMOVE)):
        assert not isinstance(accountant, Filter)
        assert not hasattr(accountant, "spend")
    with pytest.raises(TypeError, match="abstract"):
        Filter(neighbours=ADD_REMOVE, epsilon=1.0, delta=0.0, amounts=(), caps=())


@pytest.mark.slow  # needs the type checker of the group `lint`, as .ci/run has it
def test_the_type_checker_keeps_them_apart(tmp_path):
    script = tmp_path / "misuse.py"
    script.write_text(
        "from privacy.filters import Blocks, PureFilter, require_filter\n"
        "from privacy.rdp import RdpAccountant\n"
        'Blocks(PureFilter(1.0, neighbours="replace_one"), ["a"])\n'
        'Blocks(RdpAccountant(neighbours="replace_one"), ["a"])\n'
        'require_filter(RdpAccountant(neighbours="replace_one"))\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("incompatible type") == 2, done.stdout + done.stderr
    assert "misuse.py:4" in done.stdout
    assert "misuse.py:5" in done.stdout
    assert "misuse.py:3" not in done.stdout
