"""What every accountant must do. One suite, run on each of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy import (
    Accountant,
    ApproximateDP,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DistributedDiscreteGaussian,
    DistributedSkellam,
    Event,
    ExponentialMechanism,
    Filter,
    Gaussian,
    Laplace,
    NonPrivate,
    NumericalAccountant,
    PermuteAndFlip,
    PoissonSampled,
    PrvAccountant,
    PureDP,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    SampledWithoutReplacement,
    UnsupportedEvent,
    ZcdpAccountant,
    ZeroConcentratedDP,
)
from privacy._prv_worker import answer

ADD_REMOVE, REPLACE = "add_remove_one", "replace_one"
DELTA = 1e-5
# Two ways to the same composition may differ by rounding, and by how far a search or a certificate went.
SAME = 1e-7


class InProcessPrv(PrvAccountant):
    """The cross-check without its process, which takes a second to start; tests/privacy/test_prv.py tests that."""

    def _ask(self, of, values, delta_error):
        releases = [[*self._random_variable(event), count] for event, count in self._tally.counts.items()]
        error = self.epsilon_error
        return answer(
            {"releases": releases, "epsilon_error": error, "delta_error": delta_error, "of": of, "values": values}
        )


def _prv(*, neighbours):
    return InProcessPrv(neighbours=neighbours, epsilon_error=0.3)


ACCOUNTANTS = {"zcdp": ZcdpAccountant, "rdp": RdpAccountant, "numerical": NumericalAccountant, "prv": _prv}

# One of each kind. What holds under one relation only is tried under that one.
EVENTS = [
    Gaussian(3.0),
    DiscreteGaussian(noise_multiplier=3.0),
    DiscreteGaussian(scale=9.0, l2_sensitivity_squared=5, linf_sensitivity=2),
    DistributedDiscreteGaussian(5.0, 3, 4, 4, 6),
    DistributedSkellam(30.0, 3, 4, 4, 6),
    Laplace(4.0),
    DiscreteLaplace(4.0),
    RandomizedResponse(0.3),
    ExponentialMechanism(0.3),
    PermuteAndFlip(0.3),
    PureDP(0.3),
    ApproximateDP(0.3, 1e-8),
    ZeroConcentratedDP(0.05),
    PoissonSampled(Gaussian(1.0), 0.05),
    PoissonSampled(DiscreteGaussian(noise_multiplier=1.0), 0.05),
    PoissonSampled(PureDP(1.0), 0.05),
    SampledWithoutReplacement(Gaussian(2.0), 10, 200),
    Composed((Gaussian(4.0), Laplace(6.0))),
    Repeated(Gaussian(6.0), 3),
]


class Unknown(Event):
    """An event type that no accountant knows."""

    kind = "unknown"


UNSUPPORTED = [
    NonPrivate("an exact table"),
    Unknown(),
    Repeated(NonPrivate("x"), 2),
    Composed((Gaussian(1.0), Repeated(Composed((Unknown(),)), 3))),
]


@pytest.fixture(params=list(ACCOUNTANTS))
def make(request):
    """Return a function that makes the accountant of the relation and composes (event, count) pairs."""

    def build(*steps, neighbours=ADD_REMOVE):
        accountant = ACCOUNTANTS[request.param](neighbours=neighbours)
        for event, count in steps:
            accountant.compose(event, count=count)
        return accountant

    return build


def relation_of(make, event):
    """Return a relation under which the accountant supports the event, or None after seeing it refused by name."""
    for neighbours in (ADD_REMOVE, REPLACE):
        if make(neighbours=neighbours).supports(event):
            return neighbours
        with pytest.raises(UnsupportedEvent):
            make(neighbours=neighbours).compose(event)
    return None


def test_an_empty_account_has_cost_nothing(make):
    for neighbours in (ADD_REMOVE, REPLACE):
        accountant = make(neighbours=neighbours)
        assert accountant.neighbours == neighbours
        assert accountant.epsilon(delta=DELTA) == 0
        assert accountant.delta(epsilon=0.0) == 0
    with pytest.raises(ValueError, match="neighbours must be one of"):
        make(neighbours="whatever")


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_count_equals_that_many_singles_and_their_repetition(make, event):
    neighbours = relation_of(make, event)
    if neighbours is None:
        return
    counted = make((event, 7), neighbours=neighbours).epsilon(delta=DELTA)
    singles = make(*[(event, 1)] * 7, neighbours=neighbours).epsilon(delta=DELTA)
    repeated = make((Repeated(event, 7), 1), neighbours=neighbours).epsilon(delta=DELTA)
    mixed = make((Composed((event, Repeated(event, 2))), 2), (event, 1), neighbours=neighbours).epsilon(delta=DELTA)
    assert counted == pytest.approx(singles, rel=SAME)
    assert counted == pytest.approx(repeated, rel=SAME)
    assert counted == pytest.approx(mixed, rel=SAME)
    assert counted > 0


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_more_releases_cost_more_and_a_larger_delta_less(make, event):
    neighbours = relation_of(make, event)
    if neighbours is None:
        return
    counts = (1, 2, 50)
    accountants = [make((event, count), neighbours=neighbours) for count in counts]
    epsilons = [accountant.epsilon(delta=DELTA) for accountant in accountants]
    deltas = [accountant.delta(epsilon=0.5) for accountant in accountants]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] < epsilons[-1]
    assert deltas == sorted(deltas)
    last = accountants[-1]
    assert last.epsilon(delta=0.01) <= epsilons[-1]
    assert last.delta(epsilon=0.6) <= deltas[-1]
    assert all(0 <= delta <= 1 for delta in deltas)


def test_the_order_of_releases_does_not_matter(make):
    empty = make()
    # A sampled release takes prv-accountant a second, in whatever order.
    slow = PoissonSampled if isinstance(empty, PrvAccountant) else ()
    supported = [event for event in EVENTS if empty.supports(event) and not isinstance(event, slow)]
    steps = [(event, 1 + i % 3) for i, event in enumerate(supported)][:8]
    assert len(steps) >= 5
    forward, backward = make(*steps), make(*reversed(steps))
    assert forward.epsilon(delta=DELTA) == pytest.approx(backward.epsilon(delta=DELTA), rel=SAME)
    assert forward.delta(epsilon=2.0) == pytest.approx(backward.delta(epsilon=2.0), rel=1e-6)


@pytest.mark.parametrize("event", UNSUPPORTED, ids=lambda event: event.kind)
@pytest.mark.parametrize("neighbours", [ADD_REMOVE, REPLACE])
def test_what_cannot_be_priced_is_refused_and_leaves_the_account_as_it_was(make, event, neighbours):
    accountant = make((Gaussian(2.0), 3), neighbours=neighbours)
    before = accountant.epsilon(delta=DELTA)
    assert not accountant.supports(event)
    with pytest.raises(UnsupportedEvent) as caught:
        accountant.compose(event, count=2)
    assert isinstance(caught.value.event, NonPrivate | Unknown)
    for count in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="count"):
            accountant.compose(Gaussian(2.0), count=count)
    assert accountant.epsilon(delta=DELTA) == before


@pytest.mark.parametrize("event", EVENTS, ids=repr)
@pytest.mark.parametrize("neighbours", [ADD_REMOVE, REPLACE])
def test_supports_says_what_compose_does(make, event, neighbours):
    accountant = make(neighbours=neighbours)
    if accountant.supports(event):
        accountant.compose(event)
    else:
        with pytest.raises(UnsupportedEvent):
            accountant.compose(event)
        assert accountant.epsilon(delta=DELTA) == 0


@pytest.mark.parametrize(
    ("event", "neighbours"),
    [
        (RandomizedResponse(0.3), ADD_REMOVE),
        (PoissonSampled(RandomizedResponse(0.3), 0.1), ADD_REMOVE),
        (PoissonSampled(Gaussian(1.0), 0.1), REPLACE),
        (SampledWithoutReplacement(Gaussian(1.0), 1, 10), ADD_REMOVE),
    ],
    ids=repr,
)
def test_an_event_of_the_other_relation_is_never_mixed_in(make, event, neighbours):
    assert not make(neighbours=neighbours).supports(event)


@pytest.mark.parametrize("event", [Gaussian(2.0), Laplace(4.0), PureDP(0.2), DiscreteLaplace(4.0)], ids=repr)
def test_what_states_its_guarantee_under_either_relation_costs_the_same_under_both(make, event):
    both = [make((event, 5), neighbours=neighbours).epsilon(delta=DELTA) for neighbours in (ADD_REMOVE, REPLACE)]
    assert both[0] == pytest.approx(both[1], rel=SAME)


def test_replace_one_is_never_cheaper_than_add_remove_one_for_the_same_histogram(make):
    # One count more or less, sensitivity 1; one patient moved, sensitivity sqrt(2), by the same noise.
    noise = 8.0
    added = make((Gaussian(noise), 10), neighbours=ADD_REMOVE)
    moved = make((Gaussian(noise / math.sqrt(2)), 10), neighbours=REPLACE)
    assert moved.epsilon(delta=DELTA) > added.epsilon(delta=DELTA)


# (steps, relation, delta, exact epsilon): closed forms and 40-digit contour integrals.
EXACT_EPSILON = [
    ([(Gaussian(1.0), 1)], ADD_REMOVE, 1e-5, 4.37717809568122462765),
    ([(Gaussian(10.0), 1)], ADD_REMOVE, 1e-9, 0.535148231553172567232),
    ([(Gaussian(10.0), 100)], REPLACE, 1e-5, 4.37717809568122462765),
    ([(PoissonSampled(Gaussian(1.0), 0.01), 1000)], ADD_REMOVE, 1e-5, 1.828236666516577),
]
# (steps, relation, epsilon, exact delta)
EXACT_DELTA = [
    ([(Gaussian(1.0), 1)], ADD_REMOVE, 1.0, 0.126936737506643945800829624758),
    ([(Gaussian(5.0), 1)], ADD_REMOVE, 0.5, 0.000512536083158332474596934368162),
    ([(PureDP(0.1), 100)], ADD_REMOVE, 1.0, 0.1256883902406364251365028),
    ([(RandomizedResponse(0.1), 100)], REPLACE, 1.0, 0.1256883902406364251365028),
    ([(PermuteAndFlip(0.1), 100)], REPLACE, 1.0, 0.1256883902406364251365028),
    ([(Laplace(1.0), 1)], ADD_REMOVE, 0.5, 1 - math.exp(-0.25)),
    ([(DiscreteGaussian(noise_multiplier=2.0), 1)], ADD_REMOVE, 1.0, 0.007248776845952577949554827),
    ([(DiscreteGaussian(noise_multiplier=0.5), 1)], ADD_REMOVE, 3.0, 0.1014145341299396230297602),
]


@pytest.mark.parametrize(("steps", "neighbours", "delta", "exact"), EXACT_EPSILON)
def test_epsilon_is_never_below_the_exact_one(make, steps, neighbours, delta, exact):
    if not all(make(neighbours=neighbours).supports(event) for event, _ in steps):
        with pytest.raises(UnsupportedEvent):
            make(*steps, neighbours=neighbours)
        return
    epsilon = make(*steps, neighbours=neighbours).epsilon(delta=delta)
    assert epsilon >= exact * (1 - 1e-15)
    assert epsilon < 1.3 * exact + 0.4
    # Negative control: a release more, not accounted for, would be noticed by the check above.
    more = make(*[(event, 2 * count) for event, count in steps], neighbours=neighbours).epsilon(delta=delta)
    assert more > epsilon * 1.05


@pytest.mark.parametrize(("steps", "neighbours", "epsilon", "exact"), EXACT_DELTA)
def test_delta_is_never_below_the_exact_one(make, steps, neighbours, epsilon, exact):
    if not all(make(neighbours=neighbours).supports(event) for event, _ in steps):
        with pytest.raises(UnsupportedEvent):
            make(*steps, neighbours=neighbours)
        return
    assert exact * (1 - 1e-15) <= make(*steps, neighbours=neighbours).delta(epsilon=epsilon) <= 1


def test_epsilon_and_delta_are_two_readings_of_one_curve(make):
    accountant = make((Gaussian(3.0), 4), (Laplace(9.0), 2))
    epsilon = accountant.epsilon(delta=1e-4)
    # prv-accountant's two readings each carry its error.
    if not isinstance(accountant, PrvAccountant):
        assert accountant.delta(epsilon=epsilon) == pytest.approx(1e-4, rel=1e-5)
    assert accountant.delta(epsilon=epsilon * 2) < 1e-4


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, math.nan])
def test_arguments_are_checked(make, bad):
    accountant = make((Gaussian(1.0), 1))
    with pytest.raises(ValueError, match="delta"):
        accountant.epsilon(delta=bad)
    for epsilon in (-1.0, math.nan):
        with pytest.raises(ValueError, match="epsilon"):
            accountant.delta(epsilon=epsilon)


def test_a_trade_off_is_a_lower_bound_between_nothing_learnt_and_everything(make):
    accountant = make((Gaussian(1.0), 1))
    x = np.linspace(0, 1, 21)
    bound = accountant.trade_off(x)
    assert bound.shape == x.shape
    assert ((bound >= 0) & (bound <= 1 - x)).all()
    assert (np.diff(bound) <= 1e-9).all()
    # The exact curve of the Gaussian: normal cdf(normal quantile(1 - x) - 1 / noise multiplier).
    from statistics import NormalDist

    normal = NormalDist()
    exact = np.array([normal.cdf(normal.inv_cdf(1 - value) - 1) for value in x[1:-1]])
    assert (bound[1:-1] <= exact + 1e-9).all()
    if not isinstance(accountant, ZcdpAccountant | RdpAccountant):
        assert (bound[1:-1] >= exact - 0.11).all()
    with pytest.raises(ValueError, match="must lie"):
        accountant.trade_off(np.array([1.5]))


def test_what_lawyers_and_doctors_read_is_on_the_safe_side(make):
    accountant = make((Gaussian(1.0), 1))
    if not isinstance(accountant, Accountant):
        pytest.fail("an accountant inherits the readable numbers from privacy.Accountant")
    # Exact: total variation distance, power at 1 % false alarms, Bayes risk at even odds and at 1 : 9.
    assert 0.382924922548026207275409221217 <= accountant.attack_advantage() <= 1
    assert 0.0923 <= accountant.success_probability(0.01) <= 1
    assert 0 <= accountant.bayes_risk(0.5) <= (1 - 0.382924922548026207275409221217) / 2
    assert 0 <= accountant.bayes_risk(0.1) <= 0.1
    assert accountant.bayes_risk(0.1) == pytest.approx(accountant.bayes_risk(0.9), rel=1e-6)
    nothing = make()
    assert nothing.attack_advantage() == 0
    assert nothing.success_probability(0.01) == pytest.approx(0.01)
    assert nothing.bayes_risk(0.1) == pytest.approx(0.1)
    for prior in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="prior"):
            accountant.bayes_risk(prior)


def test_no_accountant_can_enforce_a_budget(make):
    assert not isinstance(make(), Filter)
    assert not hasattr(make(), "spend")
