"""An account admits exactly what its filter admits, release by release, and says beforehand what it will admit."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy import (
    ApproximateDP,
    BudgetExceeded,
    DiscreteGaussian,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    UnsupportedEvent,
    ZeroConcentratedDP,
)
from privacy._units import LOSS, float_down
from privacy.filters import Blocks, PureFilter, RdpFilter, SpendRefused, ZcdpFilter
from privacy.ledger import account_doors, open_ledger, quotes, requests, verify

DELTA, PART = 1e-6, 3e-7
CURVE = {4.0: 0.4, 16.0: 1.6}
NAMES = ["a", "b", "c"]
RELATIONS = ["add_remove_one", "replace_one"]

# From what hardly counts to what never fits.
RHO = [1e-20, 0.0004, 0.003, 0.011, 0.05, 0.3]
NOISY = [*map(ZeroConcentratedDP, RHO), DiscreteGaussian(noise_multiplier=15.0), PureDP(0.1)]
APPROXIMATE = [ApproximateDP(0.01, 1e-10), ApproximateDP(0.05, 1e-7), ApproximateDP(0.1, 2.9e-7)]
SAMPLED = [PoissonSampled(DiscreteGaussian(noise_multiplier=3.0), 0.01)]
EPSILONS = [1e-19, 0.001, 0.03, 0.2, 0.7]
PURE = [*map(PureDP, EPSILONS), ApproximateDP(0.01, 4e-7), ZeroConcentratedDP(0.1)]


def one_order(epsilon, order, relation):
    """Return the filter of one order, with its cap as a double: terms are written as doubles."""
    rest = {"neighbours": relation, "approximate_delta": PART}
    cap = float_down(RdpFilter(epsilon, DELTA, order=order, **rest).caps[0], LOSS)
    return RdpFilter.under_curve({order: cap}, delta=DELTA, **rest)


@pytest.fixture(autouse=True)
def no_epsilons(monkeypatch):
    """Leave out the epsilons that are only for people to read: they cost milliseconds and decide nothing."""
    for module in (account_doors, quotes, requests):
        monkeypatch.setattr(module, "epsilon_spent", lambda *_: 0.0)


@dataclass
class Kind:
    """A rule: what opens the account, the filter that it must agree with, and events to try."""

    terms: dict[str, Any]
    make: Any
    events: list[Any] = field(default_factory=list)


KINDS = {
    "zcdp": Kind(
        {"filter": "zcdp", "epsilon": 1.0},
        lambda n: ZcdpFilter(1.0, DELTA, neighbours=n),
        [*NOISY, *APPROXIMATE, *SAMPLED],
    ),
    "zcdp with deltas": Kind(
        {"filter": "zcdp", "epsilon": 1.0, "approximate_delta": PART},
        lambda n: ZcdpFilter(1.0, DELTA, neighbours=n, approximate_delta=PART),
        [*NOISY, *APPROXIMATE],
    ),
    "one order": Kind(
        {"filter": "renyi", "epsilon": 1.5, "order": 20.0, "approximate_delta": PART},
        lambda n: one_order(1.5, 20.0, n),
        [*NOISY, *APPROXIMATE, *SAMPLED],
    ),
    "curve": Kind(
        {"filter": "renyi", "epsilon": 2.5, "curve": CURVE},
        lambda n: RdpFilter.under_curve(CURVE, delta=DELTA, neighbours=n),
        [*NOISY, *SAMPLED, RandomizedResponse(0.2)],
    ),
    "pure": Kind(
        {"filter": "pure", "epsilon": 1.0},
        lambda n: PureFilter(1.0, delta=DELTA, neighbours=n),
        [*PURE, RandomizedResponse(0.2)],
    ),
}

checked = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
checked_long = settings(checked, max_examples=40)


def opened(folder, kind, relation, name="x", **more):
    ledger = open_ledger(f"sqlite:///{folder}/site.db")
    open_account(ledger, kind, relation, name, **more)
    return ledger


def open_account(ledger, kind, relation, name, **more):
    ledger.open_account(name, delta=DELTA, neighbours=relation, **{**KINDS[kind].terms, **more})


def admitted(act):
    """Return whether it was admitted, or that it has no price."""
    try:
        act()
    except (BudgetExceeded, SpendRefused):
        return False
    except UnsupportedEvent:
        return "no price"
    return True


def fitting(filter_, event, most=10**7, **where):
    """Return how often the filter would admit the event, by asking it."""
    low, high = 0, 1
    while high <= most and filter_.would_admit(event, count=high, **where):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if filter_.would_admit(event, count=middle, **where) else (low, middle)
    return low


def quoted(ledger, name, event, blocks=()):
    try:
        return ledger.dry_run(name, event, blocks=blocks)
    except UnsupportedEvent:
        return None


def check_one(ledger, beside, event, number, *, name="x", blocks=(), **where):
    """Ask the ledger and the filter for the same release; both, and the quote before, must say the same."""
    quote = quoted(ledger, name, event, blocks)
    if quote is not None:
        count = fitting(beside, event, **where)
        assert (quote.fits, min(quote.largest_count, 10**6)) == (count > 0, min(count, 10**6))
    expected = admitted(lambda: beside.spend(event, **where))
    found = admitted(lambda: ledger.reserve(name, event, key=f"{name} {number}", purpose="p", blocks=blocks).start())
    assert found == expected
    assert (quote.fits if quote is not None else "no price") == found


def check_left(ledger, beside, name="x"):
    """What the ledger says is left is what the filter says; of rho, less what is kept against rounding."""
    found = ledger.remaining(name)
    for amount, left in beside.left.items():
        assert found.left[amount] == pytest.approx(left, rel=3e-12 if amount == "rho" else 0, abs=0)
        assert found.left[amount] <= left
    for amount, spent in beside.spent.items():
        assert found.spent[amount] == spent


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_account_admits_exactly_what_its_filter_admits(kind, relation):
    @checked
    @given(st.lists(st.sampled_from(KINDS[kind].events), min_size=5, max_size=25))
    def holds(events):
        with tempfile.TemporaryDirectory() as folder, opened(folder, kind, relation) as ledger:
            beside = KINDS[kind].make(relation)
            for number, event in enumerate(events):
                check_one(ledger, beside, event, number)
            check_left(ledger, beside)
            ledger.close()
            assert verify(f"sqlite:///{folder}/site.db").ok

    holds()


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_admit_exactly_what_the_filters_blocks_admit(kind, relation):
    touched = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)

    @checked
    @given(st.lists(st.tuples(st.sampled_from(KINDS[kind].events), touched), min_size=5, max_size=25))
    def holds(releases):
        more = {"blocks": NAMES, "block_rule": "year of diagnosis"}
        with tempfile.TemporaryDirectory() as folder, opened(folder, kind, relation, **more) as ledger:
            beside = Blocks(KINDS[kind].make(relation), NAMES)
            for number, (event, blocks) in enumerate(releases):
                # The whole table is all blocks, named or not.
                named = () if len(blocks) == 3 and number % 2 else blocks
                blocks_of_both = {"blocks": blocks}
                check_blocks(ledger, beside, event, number, named, blocks_of_both)
            assert verify(f"sqlite:///{folder}/site.db").ok

    holds()


def check_blocks(ledger, beside, event, number, named, where):
    quote = quoted(ledger, "x", event, named)
    if quote is not None:
        count = fitting(beside, event, **where)
        assert (quote.fits, min(quote.largest_count, 10**6)) == (count > 0, min(count, 10**6))
    expected = admitted(lambda: beside.spend(event, **where))
    found = admitted(lambda: ledger.reserve("x", event, key=f"{number}", purpose="p", blocks=named).start())
    assert found == expected


class Family:
    """A filter for every account of a family: a release is admitted if the account's own and all above admit it."""

    def __init__(self, *filters):
        self.filters = filters

    def would_admit(self, event, *, count=1):
        return all(one.would_admit(event, count=count) for one in self.filters)

    def spend(self, event):
        if not self.would_admit(event):
            raise SpendRefused(amount="any", requested=0.0, left=0.0)
        for one in self.filters:
            one.spend(event)


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_admits_exactly_what_it_and_its_parents_filters_admit(kind):
    relation = "add_remove_one"
    whose = st.sampled_from(["all", "one", "two"])

    @checked
    @given(st.lists(st.tuples(st.sampled_from(KINDS[kind].events), whose), min_size=5, max_size=30))
    def holds(releases):
        with tempfile.TemporaryDirectory() as folder, opened(folder, kind, relation, name="all") as ledger:
            whole = KINDS[kind].make(relation)
            families = {"all": Family(whole)}
            for child in ("one", "two"):
                open_account(ledger, kind, relation, child, parent="all")
                families[child] = Family(KINDS[kind].make(relation), whole)
            for number, (event, name) in enumerate(releases):
                check_one(ledger, families[name], event, number, name=name)
            assert verify(f"sqlite:///{folder}/site.db").ok

    holds()


def test_a_filter_with_another_cap_is_told_apart():
    """The negative control: a cap that differs by a thousandth is noticed."""
    with tempfile.TemporaryDirectory() as folder, opened(folder, "pure", "add_remove_one", epsilon=1.001) as ledger:
        beside = KINDS["pure"].make("add_remove_one")
        with pytest.raises(AssertionError):
            check_one(ledger, beside, PureDP(0.001), 0)


@pytest.mark.slow
@pytest.mark.parametrize("relation", RELATIONS)
def test_long_random_sequences_over_all_kinds(relation):
    @checked_long
    @given(st.data(), st.sampled_from(sorted(KINDS)))
    def holds(data, kind):
        events = data.draw(st.lists(st.sampled_from(KINDS[kind].events), min_size=40, max_size=80))
        with tempfile.TemporaryDirectory() as folder, opened(folder, kind, relation) as ledger:
            beside = KINDS[kind].make(relation)
            for number, event in enumerate(events):
                check_one(ledger, beside, event, number)
            check_left(ledger, beside)
            assert verify(f"sqlite:///{folder}/site.db").ok

    holds()
