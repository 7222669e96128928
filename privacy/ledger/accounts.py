"""Accounts: what may be spent, by which rule, and what the rest would buy.

An account's rule is one of the filters of `privacy.filters`, fixed when it is opened and written into the journal:

zcdp     sum of rho, and a sum of deltas where a part of delta was set aside for them (`approximate_delta`)
renyi    divergences at one order, or below a curve of caps each of which must hold, and the same sum of deltas
pure     sum of epsilons, and of deltas
exact    exact releases, which no epsilon covers

Why a filter is enough: whoever chose the events, and however they depended on earlier answers, what it admits together
is (epsilon, delta)-DP (sources in `privacy.filters`). Costs are rounded up and caps down, so the inequality between
integers implies the one between reals. The refusal depends on the events' public parameters alone.

The name of a rule stands for it for ever: another conversion is another name, and old ledgers keep their sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from functools import lru_cache
from typing import Literal, cast

import numpy as np

from privacy._units import FAILURE, LOSS, float_down, float_up
from privacy.events import DiscreteGaussian, DiscreteLaplace
from privacy.filters import Amounts, Filter, PureFilter, RdpFilter, ZcdpFilter
from privacy.neighbours import Neighbours
from privacy.rdp import epsilon_at_orders
from privacy.zcdp import rho_to_epsilon

Rule = Literal["zcdp", "renyi", "pure", "exact"]


@dataclass(frozen=True, slots=True)
class Account:
    """An account's terms.

    filter              "zcdp", "renyi", "pure", or "exact" for exact releases
    unit                whose data count as one: the patient
    neighbours          the relation under which sensitivities hold; None if exact
    epsilon             the cap at `delta`; both None if exact
    approximate_delta   the part of delta set aside for releases that have a delta of their own
    curve               (order, cap) of every Renyi order that is capped; empty for other rules
    parent              the account that is charged as well, with the same rule; None
    blocks              names of the blocks of patients, each of whom falls into exactly one; empty: one block
    block_rule          in plain words, which block a patient falls into: without looking at private data
    """

    name: str
    filter: Rule
    unit: str
    neighbours: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    approximate_delta: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()
    parent: str | None = None
    blocks: tuple[str, ...] = ()
    block_rule: str = ""


@lru_cache(maxsize=1024)
def filter_of(account: Account) -> Filter:
    """Return the filter that prices an account's events and states its caps: never spent from.

    Raises ValueError on impossible terms, or if nothing would fit.
    """
    if account.epsilon is None or account.delta is None or account.filter == "exact":
        raise ValueError(f"account {account.name!r} holds exact releases, which no filter covers")
    neighbours = cast("Neighbours", account.neighbours)
    match account.filter:
        case "zcdp":
            found: Filter = ZcdpFilter(
                account.epsilon, account.delta, neighbours=neighbours, approximate_delta=account.approximate_delta
            )
        case "pure":
            found = PureFilter(account.epsilon, delta=account.delta, neighbours=neighbours)
        case "renyi":
            found = RdpFilter.under_curve(
                dict(account.curve),
                delta=account.delta,
                neighbours=neighbours,
                approximate_delta=account.approximate_delta,
            )
            if found.epsilon > account.epsilon * (1 + 1e-9):
                raise ValueError("the curve of caps implies a larger epsilon than the account's")
    if min(found.caps[:-1]) < 1:
        raise ValueError(
            f"epsilon = {account.epsilon!r} at delta = {account.delta!r} allows less than 1e-18: nothing would fit"
        )
    return found


def curve_for(
    epsilon: float, delta: float, approximate_delta: float, order: float | None
) -> tuple[tuple[float, float], ...]:
    """Return the one capped order of a Renyi account, with the largest cap that implies (epsilon, delta).

    Without `order`, the one that leaves most room for Gaussian noise. Raises ValueError if there is no room.
    """
    one = RdpFilter(epsilon, delta, neighbours="add_remove_one", order=order, approximate_delta=approximate_delta)
    return ((one.orders[0], float_down(one.caps[0], LOSS)),)


def epsilon_spent(account: Account, spent: Amounts) -> float:
    """Return the epsilon that these amounts imply at the account's delta, rounded up; infinity if they exceed delta."""
    if account.delta is None or account.filter == "exact":
        return math.inf
    if account.filter == "pure":
        return float_up(spent[0], LOSS) if float_up(spent[1], FAILURE) <= account.delta else math.inf
    if not any(spent):
        return 0.0
    left = account.delta - float_up(spent[-1], FAILURE)
    left *= 1 - 4 * 2.0**-53
    if left <= 0:
        return math.inf
    if account.filter == "zcdp":
        return rho_to_epsilon(float_up(spent[0], LOSS), left)
    orders = np.array([order for order, _ in account.curve])
    divergences = np.array([float_up(each, LOSS) for each in spent[:-1]])
    return max(0.0, float(epsilon_at_orders(divergences, orders - 1, left).min()))


def smallest_noise(account: Account, left: Sequence[int]) -> DiscreteGaussian | DiscreteLaplace | None:
    """Return the release of one count of sensitivity 1 with the least noise that fits into these amounts, or None.

    Its noise multiplier is pushed up past the guards of the price, by a relative 1e-11.
    """
    losses = [float_down(max(each, 0), LOSS) for each in left[:-1]]
    if account.filter == "exact" or min(losses) <= 0:
        return None
    if account.filter == "pure":
        return DiscreteLaplace(1 / losses[0] * (1 + 1e-11))
    # The Renyi divergence of order a is a / (2 s^2), rho is 1 / (2 s^2).
    orders = [order for order, _ in account.curve] or [1.0]
    worst = max(order / loss for order, loss in zip(orders, losses, strict=True))
    return DiscreteGaussian(noise_multiplier=math.sqrt(0.5 * worst) * (1 + 1e-11))


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of an account, rounded to the safe side: spent up, left down.

    epsilon_cap, delta_cap   the cap
    epsilon_spent            what all charged events together imply at delta_cap
    spent, reserved, left    of every amount of the account's rule ("rho", "delta", ...), the worst block's where there
                             are several: charged (started or posted); reserved and not started; what one more may have
    """

    account: str
    filter: Rule
    neighbours: str
    epsilon_cap: float
    delta_cap: float
    epsilon_spent: float
    spent: dict[str, float]
    reserved: dict[str, float]
    left: dict[str, float]
    smallest_noise: DiscreteGaussian | DiscreteLaplace | None

    @property
    def smallest_noise_multiplier(self) -> float:
        """The scale of the least noise with which one count of sensitivity 1 would still fit; inf if none does."""
        match self.smallest_noise:
            case DiscreteLaplace(noise_multiplier=scale) | DiscreteGaussian(scale=scale):
                return scale
            case _:
                return math.inf

    @property
    def rho_spent(self) -> float:
        """Charged, of an account of rule "zcdp"."""
        return self.spent["rho"]

    @property
    def rho_reserved(self) -> float:
        """Reserved and not yet started: counts against the cap until it is voided."""
        return self.reserved["rho"]

    @property
    def rho_left(self) -> float:
        """The largest rho that one more event may have."""
        return self.left["rho"]

    def __str__(self) -> str:
        """Return the account in plain words."""
        noise = self.smallest_noise_multiplier
        kind = (
            "Laplace noise of scale"
            if isinstance(self.smallest_noise, DiscreteLaplace)
            else "noise of standard deviation"
        )
        buys = f"it buys one count with {kind} {up(noise)} or more" if noise < math.inf else "nothing more fits"
        # Of the losses; a delta that was set aside is not what a count costs.
        name, left = min(
            ((name, value) for name, value in self.left.items() if name != "delta"), key=lambda pair: pair[1]
        )
        reserved = f" ({name} = {self.reserved[name]:.6g} reserved)" if self.reserved[name] > 0 else ""
        spent = up(self.epsilon_spent, 4)
        return (
            f"account {self.account!r} ({self.neighbours}): epsilon {spent} of {self.epsilon_cap:.4g} "
            f"is spent at delta {self.delta_cap:g}; {name} = {down(left, 6)} is left{reserved}: {buys}"
        )


def down(value: float, digits: int = 3) -> str:
    """Return a number to so many significant digits, rounded down: what a text says is left is there."""
    return f"{float(Context(prec=digits, rounding=ROUND_FLOOR).create_decimal(repr(value))):.{digits}g}"


def up(value: float, digits: int = 3) -> str:
    """Return a number to so many significant digits, rounded up: what a text says is spent, or enough, is true.

    Examples
    --------
    >>> up(1.25501, 4), up(3.0, 4), up(2.711)
    ('1.256', '3', '2.72')
    """
    if not math.isfinite(value):
        return f"{value}"
    # Of the shortest decimal of the double, so that 0.1 stays 0.1.
    return f"{float(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(repr(value))):.6g}"
