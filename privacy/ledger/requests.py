"""What is asked of a ledger, checked and brought into the journal's form before anything is read or written."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from privacy._checks import check_positive, check_probability
from privacy._units import LOSS, float_down, float_up
from privacy.errors import BudgetExceeded, UnknownAccount, UnsupportedEvent
from privacy.events import Event, NonPrivate, event_from_json, event_to_json
from privacy.filters import Amounts, check_part, check_whole
from privacy.ledger import canonical
from privacy.ledger.accounts import Account, Rule, curve_for, epsilon_spent, filter_of
from privacy.ledger.amounts import largest_rho, texts_of
from privacy.ledger.books import AccountState, Books
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.rules import UNIT, BrokenRule, chain_of, check_normal, is_erased, over, price, touched
from privacy.neighbours import check_neighbours

_MAX_NAME = 255
_MAX_TEXT = 4000


def name_of(what: str, value: str) -> str:
    """Return a name in normal form. Raises ValueError for one that could be taken for another, or is none."""
    value = text_of(what, value, longest=_MAX_NAME)
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"{what} must be printable and must not begin or end with a space, got {value!r}")
    return value


def text_of(what: str, value: str, *, longest: int = _MAX_TEXT) -> str:
    """Return a text in normal form. Raises ValueError for an empty or too long one."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a text, got {type(value).__name__}")
    value = unicodedata.normalize("NFC", value)
    if not value.strip() or len(value) > longest:
        raise ValueError(f"{what} must have 1 to {longest} characters, got {len(value)}")
    return value


def check_unit(unit: str) -> None:
    """Raise ValueError for another unit than the patient."""
    if unit != UNIT:
        raise ValueError(f"unit must be {UNIT!r}: whoever gives several rows is protected as one, got {unit!r}")


def account_terms(
    name: str,
    *,
    epsilon: float,
    delta: float,
    neighbours: str,
    unit: str,
    rule: Rule,
    approximate_delta: float,
    order: float | None,
    curve: Mapping[float, float] | None,
    parent: str | None,
    blocks: Iterable[str],
    block_rule: str,
) -> Account:
    """Return an account's terms. Raises ValueError on impossible ones."""
    check_neighbours(neighbours)
    check_unit(unit)
    check_positive("epsilon", epsilon)
    check_probability("delta", delta)
    check_part("approximate_delta", approximate_delta, delta)
    if rule not in ("zcdp", "renyi", "pure"):
        raise ValueError(f"filter must be 'zcdp', 'renyi' or 'pure', got {rule!r}")
    if rule != "renyi" and (order is not None or curve is not None):
        raise ValueError("order and curve are for the filter 'renyi'")
    if rule == "pure" and approximate_delta:
        raise ValueError("the filter 'pure' adds up deltas below delta itself: approximate_delta is for the others")
    if isinstance(blocks, str):
        raise ValueError("blocks must be several names, not one string; write [name]")
    names = tuple(name_of("block", block) for block in blocks)
    if len(set(names)) != len(names):
        raise ValueError("blocks must have different names")
    if bool(names) != bool(block_rule):
        raise ValueError(
            "blocks need block_rule: in plain words, which block a patient falls into, whatever the private data say"
        )
    kept: tuple[tuple[float, float], ...] = ()
    if rule == "renyi":
        if curve is not None:
            if order is not None:
                raise ValueError("give order or curve")
            kept = tuple((float(each), float(cap)) for each, cap in curve.items())
        else:
            kept = curve_for(float(epsilon), float(delta), float(approximate_delta), order)
    account = Account(
        name_of("name", name),
        rule,
        unit,
        neighbours,
        float(epsilon),
        float(delta),
        float(approximate_delta),
        kept,
        None if parent is None else name_of("parent", parent),
        names,
        text_of("block_rule", block_rule) if block_rule else "",
    )
    filter_of(account)
    return account


def terms_fields(account: Account) -> dict[str, Any]:
    """Return the fields of an entry that say an account's cap."""
    rule = filter_of(account)
    return {
        "epsilon": repr(account.epsilon),
        "delta": repr(account.delta),
        "approximate_delta": repr(account.approximate_delta),
        "curve": [[repr(order), repr(cap)] for order, cap in account.curve],
        "caps": texts_of(rule.caps, rule.units),
    }


def open_fields(account: Account) -> dict[str, Any]:
    """Return the fields of the entry that opens an account."""
    if account.filter == "exact":
        return {"account": account.name, "filter": "exact", "unit": account.unit}
    return {
        "account": account.name,
        "filter": account.filter,
        "unit": account.unit,
        "neighbours": account.neighbours,
        "parent": account.parent or "",
        "blocks": list(account.blocks),
        "block_rule": account.block_rule,
        **terms_fields(account),
    }


def event_document(event: Event) -> Any:
    """Return an event as the journal writes it. Raises UnsupportedEvent for what is none, or has a subnormal number."""
    if not isinstance(event, Event):
        raise UnsupportedEvent(event, accountant="the ledger", reason="it is not an event")
    try:
        document = canonical.normalised(event_to_json(event))
        _event_of(canonical.encode(document))
    except (ValueError, TypeError, AttributeError) as error:
        raise UnsupportedEvent(event, accountant="the ledger", reason=f"it cannot be written: {error}") from None
    return document


@lru_cache(maxsize=4096)
def _event_of(document: bytes) -> Event:
    plain = canonical.decode(document)
    event = event_from_json(plain)
    check_normal(plain, event)
    return event


def account_in(books: Books, name: str) -> AccountState:
    """Return the state of an account. Raises UnknownAccount."""
    state = books.account(unicodedata.normalize("NFC", name))
    if state is None:
        raise UnknownAccount(name)
    return state


@dataclass(frozen=True, slots=True)
class Request:
    """A release that is asked for: `body` as the journal writes it, but for its price.

    What is priced is what the journal says, not the object that was handed in.
    """

    key: str
    event: Event
    body: dict[str, Any]

    @classmethod
    def of(
        cls, account: str, event: Event, *, key: str, purpose: str, data_version: str, blocks: Iterable[str]
    ) -> Request:
        """Return the request. Raises ValueError or UnsupportedEvent."""
        if isinstance(blocks, str):
            raise ValueError("blocks must be several names, not one string; write [name]")
        body = {
            "account": name_of("account", account),
            "event": event_document(event),
            "key": name_of("key", key),
            "purpose": text_of("purpose", purpose),
            "data_version": name_of("data_version", data_version) if data_version else "",
            "blocks": sorted(name_of("block", block) for block in blocks),
        }
        return cls(body["key"], _event_of(canonical.plain(body["event"])), body)


def admit(books: Books, state: AccountState, request: Request) -> list[str] | None:
    """Return the price of a request as the journal writes it, None for an exact release.

    Raises BudgetExceeded, UnsupportedEvent, or LedgerRefused for blocks or data that are not to be had.
    """
    now, event = state.now, request.event
    blocks = blocks_in(state, request.body["blocks"])
    check_not_erased(books, request.body["data_version"])
    if now.filter == "exact":
        if not isinstance(event, NonPrivate):
            raise UnsupportedEvent(
                event, accountant=f"exact account {now.name!r}", reason="it holds exact releases only"
            )
        return None
    cost = price(event, now)
    check_whole(event, now.neighbours or "", all_blocks=len(blocks) == len(state.charged))
    short = over(chain_of(books, state), cost, blocks)
    if short is not None:
        raise exceeded(short, cost, blocks)
    return texts_of(cost, filter_of(now).units)


def blocks_in(state: AccountState, names: Sequence[str]) -> tuple[str, ...]:
    """Return the blocks that a release touches. Raises LedgerRefused for others than the account's, or one twice."""
    try:
        return touched(state, names)
    except BrokenRule:
        known = ", ".join(state.now.blocks) or "(none)"
        raise LedgerRefused(f"account {state.now.name!r} has the blocks {known} only, each named once") from None


def check_not_erased(books: Books, version: str) -> None:
    """Raise LedgerRefused if the version of the data was erased."""
    if is_erased(books, version):
        raise LedgerRefused(f"the data version {version!r} was erased: nothing is released from it")


def exceeded(state: AccountState, cost: Amounts, blocks: tuple[str, ...]) -> BudgetExceeded:
    """Return the error that says what is short in an account."""
    now, rule = state.now, filter_of(state.now)
    # Of the blocks that the release touches and, where a patient may be replaced, of the worst other one.
    after = state.worst(lambda block: _sum(state.used(block), cost) if block in blocks else state.used(block))
    used = tuple([max(0, each - asked) for each, asked in zip(after, cost, strict=True)])
    left = tuple([cap - each for cap, each in zip(state.caps, used, strict=True)])
    short = next((i for i, (room, asked) in enumerate(zip(left, cost, strict=True)) if not asked <= room), 0)
    unit, amount = rule.units[short], rule.amounts[short]
    return BudgetExceeded(
        account=now.name,
        amount=amount,
        requested=float_up(cost[short], unit),
        requested_epsilon=_epsilon_or_inf(now, cost),
        epsilon_cap=now.epsilon or 0.0,
        epsilon_spent=_epsilon_or_inf(now, used),
        left=largest_rho(left[short]) if amount == "rho" else max(0.0, float_down(left[short], unit)),
    )


def _sum(first: Amounts, second: Amounts) -> Amounts:
    return tuple([a + b for a, b in zip(first, second, strict=True)])


def _epsilon_or_inf(account: Account, amounts: Amounts) -> float:
    # The conversion leaves the doubles for the largest amounts; infinity is an upper bound, too.
    return epsilon_spent(account, amounts) if max(amounts) < 10**100 * LOSS else math.inf
