"""Filters admit or refuse the next release, and what they admit is covered whatever was seen before.

An analyst who chooses the next release after seeing the last answer is adaptive. Three kinds of amounts add up under
full adaptivity, so a cap on their sum holds whatever is chosen, and whenever one stops:

pure       sum of epsilons (and of deltas): basic composition
zCDP       sum of rhos
Renyi      sum of divergences at one order fixed in advance, or at several orders each of which has its own cap;
           "as long as some order is below its cap" is not valid: the analyst steers between the orders
Releases that are (epsilon, delta)-DP add their deltas to a part of delta set aside at opening.

A tight numerical accountant is none of these: its epsilon is for a schedule that was fixed. The types keep them apart.

Sources: Rogers, Roth, Ullman, Vadhan 2016, arXiv:1605.08294 (filters); Lecuyer 2021, arXiv:2103.01379, and
Feldman, Zrnic 2021, arXiv:2008.11193 (Renyi filter of one order, at no loss); Whitehouse, Ramdas, Rogers, Wu 2023,
arXiv:2203.05481 (approximate zCDP filter).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from threading import Lock

import numpy as np

from privacy._checks import check_count, check_positive, check_probability
from privacy._renyi import divergence, failure_of, pure_part
from privacy._units import FAILURE, LOSS, decimal, float_down, float_up, round_down, round_up
from privacy.accountant import leaves
from privacy.errors import PrivacyError, UnsupportedEvent
from privacy.events import (
    DiscreteLaplace,
    Event,
    Laplace,
    PoissonSampled,
    RandomizedResponse,
    SampledWithoutReplacement,
)
from privacy.neighbours import Neighbours, check_neighbours
from privacy.rdp import epsilon_at_orders
from privacy.zcdp import epsilon_to_rho, rho_of, rho_to_epsilon

Amounts = tuple[int, ...]

_GUARD = 1e-12
# Prices that are remembered; beyond, all are forgotten and computed anew when they are asked for.
MOST_PRICES = 4096


class SpendRefused(PrivacyError):
    """A filter refused a release because its cap does not cover it. Nothing was charged.

    amount             which amount is short: "rho", "epsilon", "delta", "divergence of order 8"
    requested, left    what the release costs, rounded up, and what the cap still allows, rounded down
    block              the block of patients whose cap it is, or None
    """

    def __init__(self, *, amount: str, requested: float, left: float, block: str | None = None) -> None:
        self.amount = amount
        self.requested = requested
        self.left = left
        self.block = block
        where = "" if block is None else f" of block {block!r}"
        super().__init__(
            f"the release costs {amount} = {requested:.6g} and {left:.6g}{where} is left; "
            "add noise, release less, or open a filter with a larger cap"
        )


class Filter(ABC):
    """Base of the filters: amounts that add up under full adaptivity, each below its cap.

    The decision depends on the events alone, never on data or answers. `spend` may be called from several threads.

    neighbours         the relation under which the events' guarantees hold
    epsilon, delta     what holds for everything the filter admits, at any time
    amounts            names of the amounts that are added up
    """

    def __init__(
        self, *, neighbours: Neighbours, epsilon: float, delta: float, amounts: Sequence[str], caps: Amounts
    ) -> None:
        check_neighbours(neighbours)
        self.neighbours = neighbours
        self.epsilon = epsilon
        self.delta = delta
        self.amounts = tuple(amounts)
        # The last amount is delta, with its own unit; the others are losses.
        self._units = (LOSS,) * (len(caps) - 1) + (FAILURE,)
        self._caps = caps
        self._spent: Amounts = (0,) * len(caps)
        self._prices: dict[Event, Amounts] = {}
        self._lock = Lock()

    @property
    def caps(self) -> Amounts:
        """The cap of each amount in whole units (`privacy._units`), rounded down."""
        return self._caps

    @property
    def units(self) -> Amounts:
        """How many units of each amount make 1."""
        return self._units

    def price(self, event: Event) -> Amounts:
        """Return what the event costs of each amount in whole units, rounded up. Raises UnsupportedEvent."""
        return self._price(event)

    @abstractmethod
    def _losses(self, event: Event) -> Iterable[float | Fraction]:
        """Return what a single release costs in each amount but delta, rounded up. May raise UnsupportedEvent."""

    def _price(self, event: Event) -> Amounts:
        price = self._prices.get(event)
        if price is None:
            price = self._sum_of_prices(event)
            if len(self._prices) >= MOST_PRICES:
                self._prices.clear()
            self._prices[event] = price
        return price

    def _sum_of_prices(self, event: Event) -> Amounts:
        total = [0] * len(self._caps)
        for leaf, count in leaves(event):
            values = (*self._losses(leaf), failure_of(leaf))
            if any(isinstance(value, float) and not math.isfinite(value) for value in values):
                raise UnsupportedEvent(leaf, accountant="the filter", reason="its cost is not finite")
            for i, (value, unit) in enumerate(zip(values, self._units, strict=True)):
                total[i] += count * round_up(value, unit)
        return tuple(total)

    def spend(self, event: Event, *, count: int = 1) -> None:
        """Charge `count` releases of the event, before any of them is made.

        Raises
        ------
        SpendRefused
            If a cap does not cover them; nothing is charged.
        UnsupportedEvent
            If the filter cannot price the event; nothing is charged.
        """
        check_count("count", count)
        price = self._price(event)
        with self._lock:
            after = tuple([spent + count * cost for spent, cost in zip(self._spent, price, strict=True)])
            for new, cap in zip(after, self._caps, strict=True):
                if new > cap:
                    self._refuse(price, count, self._spent)
            self._spent = after

    def _refuse(self, price: Amounts, count: int, spent: Amounts, block: str | None = None) -> None:
        for name, unit, cost, before, cap in zip(self.amounts, self._units, price, spent, self._caps, strict=True):
            if before + count * cost > cap:
                raise SpendRefused(
                    amount=name,
                    requested=float_up(count * cost, unit),
                    left=float_down(cap - before, unit),
                    block=block,
                )

    def would_admit(self, event: Event, *, count: int = 1) -> bool:
        """Return whether `spend` would charge it now. Raises UnsupportedEvent as `spend` does."""
        check_count("count", count)
        price = self._price(event)
        return all(s + count * p <= cap for s, p, cap in zip(self._spent, price, self._caps, strict=True))

    @property
    def spent(self) -> dict[str, float]:
        """What was charged of each amount, rounded up."""
        return {n: float_up(s, u) for n, s, u in zip(self.amounts, self._spent, self._units, strict=True)}

    @property
    def left(self) -> dict[str, float]:
        """What each cap still allows, rounded down."""
        return {
            n: float_down(cap - s, u)
            for n, s, cap, u in zip(self.amounts, self._spent, self._caps, self._units, strict=True)
        }

    @abstractmethod
    def epsilon_so_far(self, *, delta: float) -> float:
        """Return the epsilon of what was charged so far, at this delta, if the moment of asking was fixed in advance.

        A report, not a promise: an analyst who stops because of what was seen is covered by the filter's own
        `epsilon` and `delta`, or by an odometer (`privacy.odometer`).
        """

    def _left_of(self, delta: float) -> float:
        """Return what remains of delta after the deltas charged so far; may be negative."""
        check_probability("delta", delta)
        return delta - float_up(self._spent[-1], FAILURE)


class PureFilter(Filter):
    """Caps the sum of epsilons, and of deltas, which is 0 unless set aside.

    Examples
    --------
    >>> from privacy.events import PureDP
    >>> budget = PureFilter(1.0, neighbours="add_remove_one")
    >>> budget.spend(PureDP(0.1), count=10)
    >>> budget.would_admit(PureDP(1e-9))
    False
    """

    def __init__(self, epsilon: float, *, neighbours: Neighbours, delta: float = 0.0) -> None:
        check_positive("epsilon", epsilon)
        check_part("delta", delta, 1.0)
        super().__init__(
            neighbours=neighbours,
            epsilon=epsilon,
            delta=delta,
            amounts=("epsilon", "delta"),
            caps=(round_down(epsilon, LOSS), round_down(delta, FAILURE)),
        )

    def _losses(self, event: Event) -> Iterable[float | Fraction]:
        # Its bound under this relation, if there is one, says whether the event is known at all.
        divergence(event, np.ones(1), neighbours=self.neighbours, accountant="the pure filter")
        if isinstance(event, Laplace | DiscreteLaplace):
            return (1 / decimal(event.noise_multiplier),)
        epsilon = pure_part(event)
        if math.isinf(epsilon):
            raise UnsupportedEvent(event, accountant="the pure filter", reason="it is epsilon-DP for no epsilon")
        return (epsilon,)

    def epsilon_so_far(self, *, delta: float) -> float:
        """Return the sum of epsilons, or infinity if the deltas exceed `delta`. Holds at any time."""
        return float_up(self._spent[0], LOSS) if self._left_of(delta) >= 0 else math.inf


class ZcdpFilter(Filter):
    """Caps the sum of rhos at the largest rho that implies (epsilon, delta). The default for releases with noise.

    `approximate_delta`: the part of `delta` set aside for the deltas of releases that are (epsilon, delta)-DP.

    Examples
    --------
    >>> from privacy.events import DiscreteGaussian
    >>> budget = ZcdpFilter(1.0, 1e-6, neighbours="add_remove_one")
    >>> budget.spend(DiscreteGaussian(noise_multiplier=20.0), count=10)
    >>> round(budget.left["rho"], 4)
    0.0119
    """

    def __init__(self, epsilon: float, delta: float, *, neighbours: Neighbours, approximate_delta: float = 0.0) -> None:
        check_positive("epsilon", epsilon)
        check_probability("delta", delta)
        check_part("approximate_delta", approximate_delta, delta)
        rho = epsilon_to_rho(epsilon, rest_of(delta, approximate_delta))
        super().__init__(
            neighbours=neighbours,
            epsilon=epsilon,
            delta=delta,
            amounts=("rho", "delta"),
            caps=(round_down(rho, LOSS), round_down(approximate_delta, FAILURE)),
        )

    def _losses(self, event: Event) -> Iterable[float | Fraction]:
        if failure_of(event) > 0:
            # arXiv:1605.02065, Proposition 3.3, for the part that is pure.
            divergence(event, np.ones(1), neighbours=self.neighbours, accountant="the zCDP filter")
            epsilon = pure_part(event)
            return (min(epsilon * epsilon / 2, epsilon) * (1 + _GUARD),)
        return (rho_of(event, neighbours=self.neighbours),)

    def epsilon_so_far(self, *, delta: float) -> float:
        """Return the epsilon of the rho charged so far; see `Filter.epsilon_so_far`."""
        left = self._left_of(delta)
        return rho_to_epsilon(float_up(self._spent[0], LOSS), left) if left > 0 else math.inf


class RdpFilter(Filter):
    """Caps the sum of Renyi divergences at one order, which is fixed now.

    Prices what zCDP cannot, such as Poisson-sampled releases. Without `order`, the one that leaves most room for
    Gaussian noise is taken; for sampled releases a larger one is often better: try it with an `RdpAccountant`.
    `approximate_delta`: the part of `delta` set aside for the deltas of releases that are (epsilon, delta)-DP.
    `RdpFilter.under_curve` caps several orders instead, each of which must hold.

    Examples
    --------
    >>> from privacy.events import Gaussian, PoissonSampled
    >>> budget = RdpFilter(3.0, 1e-5, order=8.0, neighbours="add_remove_one")
    >>> budget.spend(PoissonSampled(Gaussian(1.0), sampling_rate=0.01), count=1000)
    >>> round(budget.left["divergence of order 8"], 3)
    0.892
    """

    def __init__(
        self,
        epsilon: float,
        delta: float,
        *,
        neighbours: Neighbours,
        order: float | None = None,
        approximate_delta: float = 0.0,
    ) -> None:
        check_positive("epsilon", epsilon)
        check_probability("delta", delta)
        check_part("approximate_delta", approximate_delta, delta)
        rest = rest_of(delta, approximate_delta)
        chosen = _roomiest_order(epsilon, rest) if order is None else order
        _check_orders((chosen,))
        cap = _cap_at(chosen, epsilon, rest)
        if cap <= 0:
            raise ValueError(
                f"order {chosen!r} leaves no room for (epsilon, delta) = ({epsilon!r}, {delta!r}); take a larger order"
            )
        self._open({chosen: cap}, neighbours, epsilon, delta, approximate_delta)

    @classmethod
    def under_curve(
        cls,
        caps: Mapping[float, float],
        *,
        delta: float,
        neighbours: Neighbours,
        approximate_delta: float = 0.0,
    ) -> RdpFilter:
        """Return a filter that keeps the divergence at each order below that order's cap.

        The composition of what it admits respects the whole curve, so the best order's epsilon at `delta` holds.

        Examples
        --------
        >>> budget = RdpFilter.under_curve({4.0: 0.4, 16.0: 1.6}, delta=1e-6, neighbours="add_remove_one")
        >>> round(budget.epsilon, 3)
        2.272
        """
        _check_orders(tuple(caps))
        for cap in caps.values():
            check_positive("cap", cap)
        check_probability("delta", delta)
        check_part("approximate_delta", approximate_delta, delta)
        self = cls.__new__(cls)
        epsilon = _epsilon_of(caps, rest_of(delta, approximate_delta))
        self._open(dict(caps), neighbours, epsilon, delta, approximate_delta)
        return self

    def _open(
        self,
        caps: Mapping[float, float],
        neighbours: Neighbours,
        epsilon: float,
        delta: float,
        approximate_delta: float,
    ) -> None:
        self.orders = tuple(float(order) for order in caps)
        self._order_minus_one = np.array(self.orders) - 1
        super().__init__(
            neighbours=neighbours,
            epsilon=epsilon,
            delta=delta,
            amounts=(*(f"divergence of order {order:.12g}" for order in self.orders), "delta"),
            caps=(*(round_down(cap, LOSS) for cap in caps.values()), round_down(approximate_delta, FAILURE)),
        )

    def _losses(self, event: Event) -> Iterable[float | Fraction]:
        value = divergence(event, self._order_minus_one, neighbours=self.neighbours, accountant="the Renyi filter")
        return (float(part) for part in value)

    def epsilon_so_far(self, *, delta: float) -> float:
        """Return the epsilon of the divergences charged so far; see `Filter.epsilon_so_far`."""
        left = self._left_of(delta)
        if left <= 0:
            return math.inf
        if not any(self._spent[:-1]):
            return 0.0
        spent = {order: float_up(s, LOSS) for order, s in zip(self.orders, self._spent, strict=False)}
        return _epsilon_of(spent, left)


def check_part(name: str, value: float, whole: float) -> None:
    """Raise ValueError unless 0 <= value < whole: a part that is set aside leaves something."""
    if not 0 <= value < whole:
        raise ValueError(f"{name} must be at least 0 and less than {whole!r}, got {value!r}")


def rest_of(delta: float, part: float) -> float:
    """Return delta - part, rounded down and still > 0."""
    if part == 0:
        return delta
    rest = (delta - part) * (1 - 4 * 2.0**-53)
    if rest <= 0:
        raise ValueError("approximate_delta leaves nothing of delta; set less aside")
    return rest


def _check_orders(orders: Sequence[float]) -> None:
    if not orders:
        raise ValueError("give at least one order")
    for order in orders:
        if not (order > 1 and math.isfinite(order)):
            raise ValueError(f"orders must be finite numbers > 1, got {order!r}")


def _epsilon_of(divergences: Mapping[float, float], delta: float) -> float:
    orders = np.array(list(divergences), dtype=np.float64)
    values = epsilon_at_orders(np.array(list(divergences.values())), orders - 1, delta)
    return max(0.0, float(values.min()))


def _cap_at(order: float, epsilon: float, delta: float) -> float:
    """Return the largest divergence at the order that implies (epsilon, delta), rounded down; may be negative."""
    # `epsilon_at_orders` adds the divergence to what the order itself costs.
    own = float(epsilon_at_orders(np.zeros(1), np.array([order - 1.0]), delta)[0])
    cap = epsilon - own
    return cap - 16 * 2.0**-53 * (abs(epsilon) + abs(own))


def _roomiest_order(epsilon: float, delta: float) -> float:
    a = np.geomspace(1e-6, 1e9, 1501)
    with np.errstate(over="ignore"):
        room = (epsilon - epsilon_at_orders(np.zeros_like(a), a, delta)) / (1 + a)
    return float(1 + a[int(np.argmax(room))])


class Blocks:
    """Parallel composition: one cap per block of patients, charged only by releases that touch the block.

    A block is a set of patients given by a rule that does not depend on private data and puts each patient into
    exactly one (a year of diagnosis, a site if no patient visits two). The filter given states the caps; it must not
    have been spent from, and is not spent from.

    Under add_remove_one, the neighbours differ in one block, and each block has the whole cap.

    Under replace_one a patient may be replaced by one of another block. Releases that touch neither block see the same
    data; every other one costs what its event says, if that holds for *the whole table* of which one record is
    replaced by any other, of the same block or not. So both blocks are charged: the two blocks that have spent most
    must stay below the cap together. A guarantee for a block's own table, where a record is replaced within the block
    and the number of records is public, does not do: for that table the patient has been removed, or added. A release
    that shows how many records a block has needs noise for that, too. Randomised response keeps every record's place
    and so shows the number: under replace_one it is accepted for all blocks at once only.

    Examples
    --------
    >>> from privacy.events import PureDP
    >>> blocks = Blocks(PureFilter(1.0, neighbours="add_remove_one"), ["2024", "2025"])
    >>> blocks.spend(PureDP(0.7), blocks=["2024"])
    >>> blocks.spend(PureDP(0.7), blocks=["2025"])
    >>> blocks.would_admit(PureDP(0.7), blocks=["2025"])
    False
    """

    def __init__(self, caps: Filter, blocks: Iterable[str]) -> None:
        self._filter = require_filter(caps)
        if any(self._filter.spent.values()):
            raise ValueError("the filter that states the caps must be unspent; open a new one")
        names = list(blocks)
        if not names or len(set(names)) != len(names):
            raise ValueError("blocks must be distinct names, at least one")
        zero = (0,) * len(self._filter.amounts)
        self._spent: dict[str, Amounts] = dict.fromkeys(names, zero)
        # The largest and the second largest block of each amount: sums only grow, so no search is needed.
        self._largest: list[dict[str, int]] = [{} for _ in zero]
        self._lock = Lock()

    @property
    def neighbours(self) -> Neighbours:
        """The relation under which the events' guarantees hold."""
        return self._filter.neighbours

    @property
    def names(self) -> tuple[str, ...]:
        """The declared blocks."""
        return tuple(self._spent)

    def spend(self, event: Event, *, blocks: Iterable[str], count: int = 1) -> None:
        """Charge the release to every block it touches, or to none.

        Raises
        ------
        SpendRefused
            If a block's cap does not cover it; names the block.
        UnsupportedEvent
            If the filter cannot price the event, or its guarantee cannot hold for the whole table.
        ValueError
            For a block that was not declared, or none.
        """
        check_count("count", count)
        touched = self._touched(blocks)
        self._check_whole(event, touched)
        price = self._filter.price(event)
        cost = tuple(count * part for part in price)
        with self._lock:
            after = {name: _added(self._spent[name], cost) for name in touched}
            block = self._over(after)
            if block is not None:
                # All costs of this spend, for this block's worst pair, against what it had before.
                before = tuple(b - c for b, c in zip(self._worst(block, after), self._charge(after, cost), strict=True))
                self._filter._refuse(self._charge(after, cost), 1, before, block)  # noqa: SLF001
            self._spent.update(after)
            for name, amounts in after.items():
                self._remember(name, amounts)

    def would_admit(self, event: Event, *, blocks: Iterable[str], count: int = 1) -> bool:
        """Return whether `spend` would charge it now. Raises UnsupportedEvent as `spend` does."""
        check_count("count", count)
        touched = self._touched(blocks)
        self._check_whole(event, touched)
        cost = tuple(count * part for part in self._filter.price(event))
        return self._over({name: _added(self._spent[name], cost) for name in touched}) is None

    def spent(self, block: str) -> dict[str, float]:
        """Return what was charged to a block, rounded up."""
        (name,) = self._touched([block])
        units = self._filter.units
        return {
            amount: float_up(value, unit)
            for amount, value, unit in zip(self._filter.amounts, self._spent[name], units, strict=True)
        }

    def _check_whole(self, event: Event, touched: Sequence[str]) -> None:
        check_whole(event, self.neighbours, all_blocks=len(touched) == len(self._spent))

    def _touched(self, blocks: Iterable[str]) -> tuple[str, ...]:
        if isinstance(blocks, str):
            raise TypeError("blocks must be several names, not one string; write [name]")
        touched = tuple(dict.fromkeys(blocks))
        unknown = [name for name in touched if name not in self._spent]
        if unknown or not touched:
            raise ValueError(f"blocks must be declared ones, at least one, got {unknown or 'none'}")
        return touched

    def _over(self, after: Mapping[str, Amounts]) -> str | None:
        """Return a block whose cap the new sums exceed, or None."""
        for name in after:
            if any(new > cap for new, cap in zip(self._worst(name, after), self._filter.caps, strict=True)):
                return name
        return None

    def _worst(self, name: str, after: Mapping[str, Amounts]) -> Amounts:
        """Return what the worst neighbour of this block's patient would see, in each amount."""
        own = after[name]
        if self.neighbours == "add_remove_one":
            return own
        return tuple(value + self._other(name, i, after) for i, value in enumerate(own))

    def _other(self, name: str, i: int, after: Mapping[str, Amounts]) -> int:
        """Return the largest amount i of any other block."""
        known = [value for other, value in self._largest[i].items() if other != name]
        return max([0, *known, *(amounts[i] for other, amounts in after.items() if other != name)])

    def _charge(self, after: Mapping[str, Amounts], cost: Amounts) -> Amounts:
        """Return what this spend adds for the worst pair: twice the cost if it touches both blocks of a pair."""
        twice = self.neighbours == "replace_one" and len(after) > 1
        return tuple(2 * part if twice else part for part in cost)

    def _remember(self, name: str, amounts: Amounts) -> None:
        for largest, value in zip(self._largest, amounts, strict=True):
            largest[name] = value
            if len(largest) > 2:
                del largest[min(largest, key=largest.__getitem__)]


def check_whole(event: Event, neighbours: str, *, all_blocks: bool) -> None:
    """Raise UnsupportedEvent if the event's guarantee cannot hold for the whole table when it touches some blocks."""
    if neighbours != "replace_one" or all_blocks:
        return
    for leaf in _innermost(event):
        if isinstance(leaf, RandomizedResponse):
            raise UnsupportedEvent(
                leaf, accountant="the blocks", reason="on some blocks only it shows how many records they have"
            )


def _innermost(event: Event) -> Iterator[Event]:
    """Yield the releases in the event, also those on samples."""
    for leaf, _ in leaves(event):
        if isinstance(leaf, PoissonSampled | SampledWithoutReplacement):
            yield from _innermost(leaf.event)
        else:
            yield leaf


def _added(first: Amounts, second: Amounts) -> Amounts:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def require_filter(value: Filter) -> Filter:
    """Return `value` if it is a filter. Raises TypeError for anything else, such as an accountant."""
    if not isinstance(value, Filter):
        raise TypeError(
            f"a filter is needed to enforce a budget, got {type(value).__name__}: an accountant's epsilon does not "
            "hold when releases are chosen after seeing answers; use ZcdpFilter, PureFilter or RdpFilter"
        )
    return value
