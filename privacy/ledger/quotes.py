"""What something would cost before it is asked for, and what fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from privacy._units import float_up
from privacy.events import Event
from privacy.filters import check_whole
from privacy.ledger.accounts import epsilon_spent, filter_of, up
from privacy.ledger.books import AccountState, Books
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.requests import blocks_in
from privacy.ledger.rules import chain_of, over, price


@dataclass(frozen=True, slots=True)
class Quote:
    """What a release, or a batch of releases, would do to an account. Nothing is charged.

    fits            whether it would be admitted now, by the account and those above it
    cost            of each amount, rounded up
    epsilon_alone   what it would cost by itself at the account's delta
    epsilon_after   what everything charged, reserved and asked for implies together
    largest_count   how often the whole batch fits, one after the other
    """

    account: str
    fits: bool
    cost: dict[str, float]
    epsilon_alone: float
    epsilon_after: float
    epsilon_cap: float
    largest_count: int

    def __str__(self) -> str:
        """Return the quote in plain words."""
        costs = ", ".join(f"{name} = {value:.6g}" for name, value in self.cost.items() if value > 0)
        verdict = f"fits {self.largest_count} times" if self.fits else "does not fit"
        alone = up(self.epsilon_alone, 4)
        return (
            f"account {self.account!r}: it costs {costs} (epsilon {alone} by itself) and {verdict}; "
            f"afterwards epsilon {up(self.epsilon_after, 4)} of {self.epsilon_cap:.4g} would be spent"
        )


def quote(books: Books, state: AccountState, events: Event | Sequence[Event], blocks: Sequence[str]) -> Quote:
    """Return what the events would do to an account.

    Raises UnsupportedEvent, or LedgerRefused for an exact account or other blocks.
    """
    now = state.now
    if now.filter == "exact":
        raise LedgerRefused(f"account {now.name!r} holds exact releases, which have no price")
    batch = [events] if isinstance(events, Event) else list(events)
    rule, names = filter_of(now), blocks_in(state, sorted(blocks))
    total = [0] * len(rule.units)
    for event in batch:
        check_whole(event, now.neighbours or "", all_blocks=len(names) == len(state.charged))
        total = [a + b for a, b in zip(total, price(event, now), strict=True)]
    cost, states = tuple(total), chain_of(books, state)

    def fits(count: int) -> bool:
        return over(states, tuple([count * each for each in cost]), names) is None

    after = state.worst(
        lambda block: tuple([a + (b if block in names else 0) for a, b in zip(state.used(block), cost, strict=True)])
    )
    return Quote(
        account=now.name,
        fits=fits(1),
        cost={name: float_up(each, unit) for name, unit, each in zip(rule.amounts, rule.units, cost, strict=True)},
        epsilon_alone=epsilon_spent(now, cost),
        epsilon_after=epsilon_spent(now, after),
        epsilon_cap=now.epsilon or math.inf,
        largest_count=_largest(fits) if any(cost) else 0,
    )


def smallest_fitting(
    books: Books, state: AccountState, make_event: Callable[[float], Event], blocks: Sequence[str]
) -> float:
    """Return the smallest noise multiplier, to a relative 1e-9 and on the safe side, with which the release fits.

    `make_event` gives the release with a noise multiplier; more noise must not cost more. Infinity if none up to 1e15
    fits. Raises UnsupportedEvent.
    """
    names, states = blocks_in(state, sorted(blocks)), chain_of(books, state)

    def fits(log_noise: float) -> bool:
        event = make_event(math.exp(log_noise))
        check_whole(event, state.now.neighbours or "", all_blocks=len(names) == len(state.charged))
        return over(states, price(event, state.now), names) is None

    low, high = math.log(1e-6), math.log(1e15)
    if not fits(high):
        return math.inf
    while high - low > 5e-10:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return math.exp(high)


def _largest(fits: Callable[[int], bool]) -> int:
    if not fits(1):
        return 0
    high = 2
    while fits(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
