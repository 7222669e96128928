"""Accounts: opening them, changing their caps, and what is left of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from privacy._units import float_down, float_up
from privacy.events import Event, event_from_json
from privacy.ledger import canonical
from privacy.ledger.accounts import Account, Remaining, Rule, epsilon_spent, filter_of, smallest_noise
from privacy.ledger.amounts import largest_rho
from privacy.ledger.books import AccountState, Books
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.journal import Journal
from privacy.ledger.notes import Signer
from privacy.ledger.quotes import Quote, quote, smallest_fitting
from privacy.ledger.requests import (
    account_in,
    account_terms,
    check_unit,
    name_of,
    open_fields,
    terms_fields,
    text_of,
)
from privacy.ledger.rules import raised
from privacy.ledger.signatures import statement
from privacy.ledger.site_key import SiteKey
from privacy.neighbours import Neighbours


class AccountDoors:
    """What a `Ledger` does with accounts."""

    _journal: Journal
    _site_key: SiteKey

    def open_account(
        self,
        name: str,
        *,
        epsilon: float,
        delta: float,
        neighbours: Neighbours,
        unit: Literal["patient"] = "patient",
        filter: Rule = "zcdp",  # noqa: A002 - the field's name
        approximate_delta: float = 0.0,
        order: float | None = None,
        curve: Mapping[float, float] | None = None,
        parent: str | None = None,
        blocks: Iterable[str] = (),
        block_rule: str = "",
    ) -> None:
        """Open an account that may spend (epsilon, delta) in all, for ever. Again with the same terms: does nothing.

        Parameters
        ----------
        neighbours
            The relation under which the events' sensitivities hold; one for all accounts of a ledger.
        filter
            How costs add up, for ever: "zcdp", "renyi" or "pure" (`privacy.filters`).
        approximate_delta
            The part of delta that is set aside for releases with a delta of their own.
        order, curve
            For "renyi": the one order that is capped, or the cap of several orders, each of which must hold.
        parent
            An account that is charged as well: this one is a part of it, for a purpose or a researcher.
        blocks, block_rule
            Parallel composition: names of the blocks, and the rule by which every patient (all of their rows) falls
            into exactly one, whatever the private data say. A release that names blocks is charged to these alone;
            under replace_one the two blocks that have spent most share the cap.

        Raises
        ------
        LedgerRefused
            The account exists with other terms, the ledger's accounts are under another relation, or the account above
            is of another kind.
        UnknownAccount
            There is no account `parent`.
        ValueError
            The terms are impossible.
        """
        account = account_terms(
            name,
            epsilon=epsilon,
            delta=delta,
            neighbours=neighbours,
            unit=unit,
            rule=filter,
            approximate_delta=approximate_delta,
            order=order,
            curve=curve,
            parent=parent,
            blocks=blocks,
            block_rule=block_rule,
        )
        with self._journal.writing() as books:
            if self._is_open(books, account):
                return
            if books.head.neighbours not in (None, neighbours):
                raise LedgerRefused(
                    f"this ledger's accounts are under {books.head.neighbours}: costs under two relations do not add "
                    "up; use that relation or another ledger"
                )
            if account.parent is not None:
                _check_like_parent(account, account_in(books, account.parent).opened)
            self._site_key.append(books, "open_account", **open_fields(account))

    def open_exact_account(self, name: str, *, unit: Literal["patient"] = "patient") -> None:
        """Open an account for exact releases (`NonPrivate` events), which no epsilon covers. Idempotent.

        Raises
        ------
        LedgerRefused
            The account exists with other terms.
        """
        check_unit(unit)
        account = Account(name_of("name", name), "exact", unit)
        with self._journal.writing() as books:
            if not self._is_open(books, account):
                self._site_key.append(books, "open_account", **open_fields(account))

    def cap_statement(self, name: str, *, epsilon: float, delta: float, reason: str, **terms: Any) -> bytes:
        """Return what the site and an officer sign to raise a cap; good for the cap that is in force now.

        An officer signs it elsewhere, `officer.sign_statement("ledger-entry", statement)`, and `set_cap` takes the
        signature; or hand it their signer. `terms` as for `set_cap`.
        """
        with self._journal.reading() as books:
            fields = self._cap_fields(account_in(books, name), epsilon, delta, text_of("reason", reason), **terms)
        return statement({"kind": "set_cap", **fields}, self._journal.ledger_id)

    def set_cap(
        self,
        name: str,
        *,
        epsilon: float,
        delta: float,
        reason: str,
        approximate_delta: float | None = None,
        curve: Mapping[float, float] | None = None,
        officer: Signer | bytes | None = None,
    ) -> None:
        """Set an account's cap; what was spent stays spent, even above the new cap. The same cap: does nothing.

        Lowering needs the site's key, if the ledger has one; raising needs a second, different one: the officer's
        signer, or the signature that they made of `cap_statement` elsewhere.

        Raises
        ------
        LedgerRefused
            The cap would rise without the officer's signature, or the account holds exact releases.
        """
        reason = text_of("reason", reason)
        with self._journal.writing() as books:
            state = account_in(books, name)
            fields = self._cap_fields(state, epsilon, delta, reason, approximate_delta=approximate_delta, curve=curve)
            account = self._with_cap(state, epsilon, delta, approximate_delta, curve)
            if account == state.now:
                return
            keys = books.head.keys
            if raised(state, account, filter_of(account).caps):
                now = state.now
                known = isinstance(officer, bytes) or (
                    officer is not None and keys.get("officer") == officer.verifier.vkey
                )
                if "site" not in keys or "officer" not in keys or not known:
                    raise LedgerRefused(
                        f"the cap of account {now.name!r} is epsilon {now.epsilon!r} at delta {now.delta!r} and can "
                        "only be lowered: patients were promised no more than this; raising it needs the keys of the "
                        "site and of an officer"
                    )
            else:
                officer = None
            self._site_key.append(books, "set_cap", officer, **fields)

    def _cap_fields(
        self,
        state: AccountState,
        epsilon: float,
        delta: float,
        reason: str,
        approximate_delta: float | None = None,
        curve: Mapping[float, float] | None = None,
    ) -> dict[str, Any]:
        account = self._with_cap(state, epsilon, delta, approximate_delta, curve)
        return {"account": account.name, "reason": reason, "replaces": state.capped_at, **terms_fields(account)}

    @staticmethod
    def _with_cap(
        state: AccountState,
        epsilon: float,
        delta: float,
        approximate_delta: float | None,
        curve: Mapping[float, float] | None,
    ) -> Account:
        now = state.now
        if now.filter == "exact" or now.neighbours is None:
            raise LedgerRefused(f"account {now.name!r} holds exact releases and has no cap")
        orders = [order for order, _ in now.curve]
        if curve is None and len(orders) > 1:
            raise ValueError("give the caps of all orders: curve={order: cap, ...}")
        if curve is not None and list(curve) != orders:
            raise LedgerRefused(f"account {now.name!r} keeps its orders: {orders}")
        return account_terms(
            now.name,
            epsilon=epsilon,
            delta=delta,
            neighbours=now.neighbours,
            unit=now.unit,
            rule=now.filter,
            approximate_delta=now.approximate_delta if approximate_delta is None else approximate_delta,
            order=orders[0] if orders and curve is None else None,
            curve=curve,
            parent=now.parent,
            blocks=now.blocks,
            block_rule=now.block_rule,
        )

    def accounts(self) -> tuple[Account, ...]:
        """Return the accounts with their present terms, in the order in which they were opened."""
        with self._journal.reading() as books:
            states = [
                books.account(name.removeprefix("account ")) for name, _ in self._journal.store.states("account ")
            ]
            opened = [(self._opened_at(state), state.now) for state in states if state is not None]
        return tuple(account for _, account in sorted(opened, key=lambda pair: pair[0]))

    def _opened_at(self, state: AccountState) -> int:
        # Through the caps that replaced each other, back to the entry that opened the account.
        seq = state.capped_at
        while (document := self._journal.document(seq))["kind"] == "set_cap":
            seq = document["replaces"]
        return seq

    def remaining(self, account: str) -> Remaining:
        """Return what is left of an account and what that would buy.

        Raises
        ------
        LedgerRefused
            The account holds exact releases: no number says what is left of it.
        """
        with self._journal.reading() as books:
            state = account_in(books, account)
            now = state.now
            if now.epsilon is None or now.delta is None or now.neighbours is None:
                raise LedgerRefused(f"account {now.name!r} holds exact releases, which no epsilon covers: see events()")
            left = list(state.left)
            above = state
            while above.now.parent is not None:
                above = account_in(books, above.now.parent)
                left = [min(pair) for pair in zip(left, above.left, strict=True)]
            charged = state.worst(lambda block: state.charged[block])
            reserved = state.worst(lambda block: state.reserved[block])
        rule = filter_of(now)
        named = list(zip(rule.amounts, rule.units, strict=True))
        return Remaining(
            account=now.name,
            filter=now.filter,
            neighbours=now.neighbours,
            epsilon_cap=now.epsilon,
            delta_cap=now.delta,
            epsilon_spent=epsilon_spent(now, charged),
            spent={name: float_up(value, unit) for (name, unit), value in zip(named, charged, strict=True)},
            reserved={name: float_up(value, unit) for (name, unit), value in zip(named, reserved, strict=True)},
            left={
                name: largest_rho(value) if name == "rho" else max(0.0, float_down(value, unit))
                for (name, unit), value in zip(named, left, strict=True)
            },
            smallest_noise=smallest_noise(now, left),
        )

    def events(self, account: str) -> tuple[Event, ...]:
        """Return what was charged to the account (started, whether or not an answer was stored), in order."""
        name = unicodedata.normalize("NFC", account)
        with self._journal.reading() as books:
            account_in(books, name)
            out = []
            for _, body, _ in self._journal.store.rows():
                document = canonical.decode(body)
                key = books.key(document["key"]) if document["kind"] == "start" else None
                if key is not None and key.account == name:
                    out.append(event_from_json(self._journal.document(key.seq)["event"]))
        return tuple(out)

    def dry_run(self, account: str, events: Event | Sequence[Event], *, blocks: Iterable[str] = ()) -> Quote:
        """Return what a release, or a batch, would cost, whether it fits, and what would be left. Spends nothing.

        Raises
        ------
        UnknownAccount, UnsupportedEvent
            As `spend`.
        LedgerRefused
            The account holds exact releases, or has other blocks.
        """
        with self._journal.reading() as books:
            return quote(books, account_in(books, account), events, tuple(blocks))

    def smallest_noise(
        self, account: str, make_event: Callable[[float], Event], *, blocks: Iterable[str] = ()
    ) -> float:
        """Return the smallest noise multiplier with which `make_event(noise_multiplier)` would be admitted now.

        To a relative 1e-9, on the safe side; infinity if nothing fits. Raises as `dry_run`.

        Examples
        --------
        `ledger.smallest_noise("aml", lambda s: Repeated(DiscreteGaussian(noise_multiplier=s), 10))`
        """
        with self._journal.reading() as books:
            return smallest_fitting(books, account_in(books, account), make_event, tuple(blocks))

    @staticmethod
    def _is_open(books: Books, terms: Account) -> bool:
        state = books.account(terms.name)
        if state is None:
            return False
        # The terms as opened still name the account after its cap was changed; the cap stays as it is.
        if terms not in (state.opened, state.now):
            now = state.now
            words = (
                "exact releases"
                if now.filter == "exact"
                else (f"{now.filter}, epsilon {now.epsilon!r}, delta {now.delta!r}, {now.neighbours}")
            )
            raise LedgerRefused(
                f"account {terms.name!r} is open with other terms ({words}): an account's terms are for ever; use "
                "them, change the cap with set_cap, or open another account"
            )
        return True


def _check_like_parent(account: Account, parent: Account) -> None:
    alike = ("filter", "unit", "neighbours", "blocks", "block_rule")
    different = [name for name in alike if getattr(account, name) != getattr(parent, name)]
    if not different and [order for order, _ in account.curve] != [order for order, _ in parent.curve]:
        different = ["orders"]
    if different:
        raise LedgerRefused(
            f"account {account.name!r} differs from the account above it in {', '.join(different)}: a part of an "
            "account adds up as the whole does"
        )
