"""The rules of the journal: the books after each entry, and the refusal of an entry that breaks a rule.

The spending path and `verify` derive everything with this one class, so what is enforced and what is audited cannot
differ.

A key's life:   reserve -> start -> post (with or without an answer)
                reserve -> void -> reserve (the same terms only) -> ...
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import add, sub
from typing import Any, ClassVar

from privacy.errors import LedgerError, UnsupportedEvent
from privacy.events import Event, NonPrivate, event_from_json
from privacy.filters import Amounts, check_whole
from privacy.ledger import canonical
from privacy.ledger.accounts import Account, filter_of
from privacy.ledger.amounts import amounts_of
from privacy.ledger.books import WHOLE, AccountState, Books, DataState, KeyState, Status
from privacy.ledger.chain import entry_hash
from privacy.ledger.merkle import leaf_hash
from privacy.ledger.notes import Checkpoint, Note, Verifier
from privacy.ledger.signatures import check_signatures
from privacy.neighbours import NEIGHBOURS

FORMAT = "synthema-ledger-2"
UNIT = "patient"
CHANGES = ("refresh", "opt_out", "erasure")

# What an amount may differ by when another machine recomputes it: exp and log are not the same to the last bit
# everywhere. Both lie below the guards of `privacy.zcdp`, so no guarantee depends on them.
_COST_TOLERANCE = 10**12
_CAP_TOLERANCE = 10**9

_MOST_PRICES = 4096

_AT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_NUMBER = re.compile(r"-?[0-9.]+(e[-+]?[0-9]+)?", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ROLE = re.compile(r"site|officer|witness [!-~]{1,200}", re.ASCII)

# Reads the body of an earlier entry, by seq.
Earlier = Callable[[int], bytes]


class BrokenRule(LedgerError):
    """An entry does not follow from the entries before it. Says which rule, never an answer."""


def _hashable(event: dict[str, Any]) -> tuple[tuple[str, str], ...] | bytes:
    # Most events are a few texts; True and 1 would be one key, so anything else is written out.
    return tuple(event.items()) if set(map(type, event.values())) == {str} else canonical.plain(event)


def price(event: Event, account: Account) -> Amounts:
    """Return what the event costs an account, in whole units rounded up; at least one of some amount.

    Raises UnsupportedEvent if the account's rule has no finite price for it.
    """
    found = filter_of(account).price(event)
    if not any(found):
        raise UnsupportedEvent(event, accountant="the ledger", reason="it would cost nothing")
    return found


def check_normal(document: Any, event: Event) -> None:
    """Raise UnsupportedEvent for an event with a subnormal parameter: it has lost digits, and what it means is unsure.

    document   the event as the journal writes it
    """
    if isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            check_normal(part, event)
    elif isinstance(document, str) and _NUMBER.fullmatch(document) and 0 < abs(float(document)) < sys.float_info.min:
        raise UnsupportedEvent(event, accountant="the ledger", reason="a subnormal number is in it")


def terms_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reservation is for: a key is bound to it for ever."""
    return {name: body[name] for name in ("account", "event", "purpose", "data_version", "blocks")}


def chain_of(books: Books, state: AccountState) -> list[AccountState]:
    """Return the account and all accounts above it."""
    if state.now.parent is None:
        return [state]
    found = [state]
    while (parent := found[-1].now.parent) is not None:
        above = books.account(parent)
        if above is None:
            raise BrokenRule("the account above was not opened")
        found.append(above)
    return found


def over(states: Sequence[AccountState], cost: Amounts, blocks: Sequence[str]) -> AccountState | None:
    """Return the first account whose cap would be exceeded, or None."""
    for state in states:

        def after(block: str, state: AccountState = state) -> Amounts:
            used = state.used(block)
            return tuple(map(add, used, cost)) if block in blocks else used

        # `not <=`, so that nothing that fails to compare is let through.
        if not all(used <= cap for used, cap in zip(state.worst(after), state.caps, strict=True)):
            return state
    return None


class Replay:
    """Takes entries into the books, one after the other.

    earlier   reads the body of an entry by its seq: which terms a key was reserved for is looked up there
    """

    def __init__(self, books: Books, earlier: Earlier) -> None:
        self.books = books
        self._earlier = earlier
        self._at = ""
        # Of accounts and events that came before: neither the rule of an account nor its relation ever changes.
        self._prices: dict[tuple[str, tuple[tuple[str, str], ...] | bytes], tuple[Event, Amounts]] = {}

    def extend(self, seq: int, body: bytes, digest: bytes) -> dict[str, Any]:
        """Take the next stored entry and return its document. Raises BrokenRule and stays as it was."""
        head = self.books.head
        if seq != head.size + 1:
            raise BrokenRule(f"entry {head.size + 1} is missing")
        if entry_hash(head.hash, body) != digest:
            raise BrokenRule("the hash does not fit the entry and the hash before it")
        try:
            document: dict[str, Any] = canonical.decode(body)
        except ValueError as error:
            raise BrokenRule(f"not a document of the journal: {error}") from None
        self.apply(document, body, digest)
        return document

    def apply(self, document: Any, body: bytes, digest: bytes) -> None:
        """Take the next entry's document on its own merit. Raises BrokenRule and stays as it was."""
        if type(document) is not dict:
            raise BrokenRule("the document is not a map")
        head = self.books.head
        kind = document.get("kind")
        rule = self._RULES.get(kind) if type(kind) is str else None
        if rule is None:
            raise BrokenRule("the kind of entry is unknown")
        seq = document.get("seq")
        if seq != head.size + 1 or type(seq) is not int:
            raise BrokenRule("the document's seq is not its place")
        at = document.get("at")
        # Many entries have the time of the one before.
        if type(at) is not str or (at != self._at and not _AT.fullmatch(at)):
            raise BrokenRule("at must be a UTC time")
        self._at = at
        if (head.size == 0) != ("format" in document):
            raise BrokenRule("the first entry, and no other, says what ledger this is")
        try:
            rule(self, document)
        except (ValueError, TypeError, ArithmeticError, UnsupportedEvent) as error:
            # What is raised before a rule is reached: numbers that are none, events that do not exist.
            raise BrokenRule(f"{kind}: {error}") from None
        head.size, head.hash = seq, digest
        head.frontier.append(leaf_hash(body))

    # The ledger itself

    def _note(self, body: dict[str, Any]) -> None:
        if "format" not in body:
            if "schema" in body:
                _need(body, "text", "schema")
                self.books.head.schema = body["schema"]
            else:
                _need(body, "text")
            return
        _need(body, "text", "format", "ledger_id", "site", "schema")
        if body["format"] != FORMAT:
            raise BrokenRule(f"the format is not {FORMAT}: another version wrote this ledger")
        if not _HEX.fullmatch(body["ledger_id"]):
            raise BrokenRule("the ledger's identity is not 64 hexadecimal digits")
        head = self.books.head
        head.format, head.schema = body["format"], body["schema"]
        head.ledger_id, head.site = body["ledger_id"], body["site"]

    def _rotate_key(self, body: dict[str, Any]) -> None:
        _need(body, "role", "key", "replaces", "reason", signatures=list, after=int)
        head = self.books.head
        role, key = body["role"], body["key"]
        if not _ROLE.fullmatch(role):
            raise BrokenRule("the role of a key is site, officer or witness and a name")
        if body["replaces"] != head.keys.get(role, ""):
            raise BrokenRule("the key does not replace the one in force")
        # A key that was taken away may come back, but not by the signatures of its first time.
        if body["after"] != head.keyed_at:
            raise BrokenRule("the change of keys does not follow the last one")
        # Whoever signs so far vouches for the new key; the holder shows that it is theirs, but for a witness's.
        needed = [key] if key and not role.startswith("witness") else []
        vouching = head.keys.get(role, "") if role == "site" else head.keys.get("site", "")
        if vouching:
            needed.append(vouching)
        elif role != "site":
            raise BrokenRule("the site's own key comes first")
        if not key and role == "site":
            raise BrokenRule("a site's key is replaced, not taken away")
        if key:
            public = Verifier.parse(key).public
            # Whatever it is called: two roles are two keys.
            if any(Verifier.parse(other).public == public for name, other in head.keys.items() if name != role):
                raise BrokenRule("the key has another role already")
        check_signatures(body, head.ledger_id, needed)
        if key:
            head.keys = {**head.keys, role: key}
        else:
            head.keys = {name: other for name, other in head.keys.items() if name != role}
        head.keyed_at = body["seq"]

    def _checkpoint(self, body: dict[str, Any]) -> None:
        _need(body, "note")
        head = self.books.head
        note = Note.parse(body["note"])
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != origin_of(head.ledger_id):
            raise BrokenRule("the checkpoint is of another ledger")
        if checkpoint.size == head.size:
            if checkpoint.root != head.frontier.root:
                raise BrokenRule("the checkpoint's root is not that of the entries")
        elif not head.checkpointed == checkpoint.size < head.size:
            raise BrokenRule("the checkpoint is neither of all entries so far nor of those of the last one")
        elif not self._same_checkpoint(checkpoint):
            raise BrokenRule("the checkpoint differs from the earlier one of its size")
        key = head.keys.get("site")
        if key is None or not note.signed_by(Verifier.parse(key)):
            raise BrokenRule("the checkpoint is not signed by the site's key")
        head.checkpointed = checkpoint.size

    def _same_checkpoint(self, checkpoint: Checkpoint) -> bool:
        # The earlier one is the entry right after what it covers.
        earlier = canonical.decode(self._earlier(checkpoint.size + 1))
        return earlier["kind"] == "checkpoint" and Note.parse(earlier["note"]).text == checkpoint.text

    def _data(self, body: dict[str, Any]) -> None:
        _need(body, "version", "change", "text")
        if body["change"] not in CHANGES or not body["version"] or not body["text"]:
            raise BrokenRule("a version of the data needs a name, a known change and a reason")
        known = self.books.data(body["version"])
        erasure = body["change"] == "erasure"
        if known is not None and (known.erased or not erasure):
            raise BrokenRule("the version of the data was named before")
        seq = body["seq"] if known is None else known.seq
        change = body["change"] if known is None else known.change
        self.books.put("data", body["version"], DataState(seq, change, erased=erasure))

    # Accounts

    def _open_account(self, body: dict[str, Any]) -> None:
        name = body.get("account")
        if type(name) is not str or not name:
            raise BrokenRule("account is missing or not a text")
        if self.books.account(name) is not None:
            raise BrokenRule("the account is open already")
        head = self.books.head
        caps: Amounts = ()
        if body.get("filter") == "exact":
            _need(body, "account", "filter", "unit", signatures=list)
            account, blocks = Account(name=name, filter="exact", unit=body["unit"]), [WHOLE]
        else:
            _need(
                body,
                *("account", "filter", "unit", "neighbours", "epsilon", "delta", "approximate_delta"),
                *("parent", "block_rule"),
                caps=list,
                curve=list,
                blocks=list,
                signatures=list,
            )
            account = _account_of(body)
            caps = self._caps(body, account)
            if account.neighbours not in NEIGHBOURS or account.neighbours != (head.neighbours or account.neighbours):
                raise BrokenRule("the neighbour relation is unknown or not that of the ledger's other accounts")
            if bool(account.blocks) != bool(account.block_rule) or len(set(account.blocks)) != len(account.blocks):
                raise BrokenRule("blocks need different names and a rule, and a rule needs blocks")
            if WHOLE in account.blocks:
                raise BrokenRule("a block has no name")
            if account.parent is not None:
                self._check_parent(account)
            blocks = list(account.blocks) or [WHOLE]
        if account.unit != UNIT:
            raise BrokenRule(f"the unit of privacy is not the {UNIT}")
        check_signatures(body, head.ledger_id, self._signers())
        zero = (0,) * len(caps)
        state = AccountState(
            account, account, caps, body["seq"], dict.fromkeys(blocks, zero), dict.fromkeys(blocks, zero)
        )
        self.books.put("account", name, state)
        head.neighbours = head.neighbours or account.neighbours

    def _check_parent(self, account: Account) -> None:
        parent = self.books.account(account.parent or "")
        if parent is None:
            raise BrokenRule("the account above was not opened")
        alike = ("filter", "unit", "neighbours", "blocks", "block_rule")
        if any(getattr(account, name) != getattr(parent.opened, name) for name in alike) or (
            [order for order, _ in account.curve] != [order for order, _ in parent.opened.curve]
        ):
            raise BrokenRule("an account has another rule or other blocks than the account above it")

    def _set_cap(self, body: dict[str, Any]) -> None:
        texts = ("account", "epsilon", "delta", "approximate_delta", "reason")
        _need(body, *texts, caps=list, curve=list, signatures=list, replaces=int)
        state = self._account(body)
        now = state.now
        if now.filter == "exact":
            raise BrokenRule("an exact account has no cap")
        if body["replaces"] != state.capped_at:
            raise BrokenRule("the cap does not replace the one in force")
        if not body["reason"]:
            raise BrokenRule("a change of the cap has no reason")
        account = _account_of(
            {
                **body,
                "filter": now.filter,
                "unit": now.unit,
                "neighbours": now.neighbours,
                "parent": now.parent or "",
                "blocks": list(now.blocks),
                "block_rule": now.block_rule,
            }
        )
        if [order for order, _ in account.curve] != [order for order, _ in now.curve]:
            raise BrokenRule("a Renyi account keeps its orders")
        caps = self._caps(body, account)
        needed = self._signers()
        if raised(state, account, caps):
            officer = self.books.head.keys.get("officer")
            if not needed or officer is None:
                raise BrokenRule("the cap is raised, which needs the keys of the site and of an officer")
            needed.append(officer)
        check_signatures(body, self.books.head.ledger_id, needed)
        self.books.put(
            "account",
            now.name,
            AccountState(state.opened, account, caps, body["seq"], state.charged, state.reserved),
        )

    def _caps(self, body: dict[str, Any], account: Account) -> Amounts:
        rule = filter_of(account)
        caps = amounts_of(body["caps"], rule.units)
        if min(caps[:-1]) < 1 or not all(map(_close, caps, rule.caps, [_CAP_TOLERANCE] * len(caps))):
            raise BrokenRule("the caps are not what epsilon and delta imply")
        return caps

    def _signers(self) -> list[str]:
        key = self.books.head.keys.get("site")
        return [] if key is None else [key]

    # Spending

    def _reserve(self, body: dict[str, Any]) -> None:
        exact = body.get("amounts", "") is None
        amounts_type = type(None) if exact else list
        _need(body, "account", "key", "purpose", "data_version", event=dict, amounts=amounts_type, blocks=list)
        state = self._account(body)
        now = state.now
        if not body["key"] or not body["purpose"]:
            raise BrokenRule("a reservation has no key or no purpose")
        before = self.books.key(body["key"])
        if before is not None and (before.status != "void" or not self._same_terms(before, body)):
            raise BrokenRule("the key was used before")
        version = body["data_version"]
        if is_erased(self.books, version):
            raise BrokenRule("the version of the data was erased")
        blocks = touched(state, body["blocks"])
        if exact != (now.filter == "exact"):
            raise BrokenRule("an exact account holds exact releases and no other account does")
        amounts: Amounts = ()
        if exact:
            if not isinstance(event_from_json(body["event"]), NonPrivate):
                raise BrokenRule("an exact account holds exact releases and no other account does")
        else:
            event, expected = self._priced(state, body["event"])
            amounts = amounts_of(body["amounts"], state.rule.units)
            if amounts != expected and not all(map(_close, amounts, expected, [_COST_TOLERANCE] * len(amounts))):
                raise BrokenRule("the cost is not what the event implies")
            if not any(amounts):
                raise BrokenRule("the cost is not what the event implies")
            check_whole(event, now.neighbours or "", all_blocks=len(blocks) == len(state.charged))
            states = chain_of(self.books, state)
            if over(states, amounts, blocks) is not None:
                raise BrokenRule("the account's cap is exceeded")
            for each in states:
                _add(each.reserved, amounts, blocks, 1)
                self.books.put("account", each.now.name, each)
        key = KeyState(now.name, body["seq"], amounts, blocks, version)
        self.books.put("key", body["key"], key)

    def _priced(self, state: AccountState, document: dict[str, Any]) -> tuple[Event, Amounts]:
        name = state.now.name, _hashable(document)
        found = self._prices.get(name)
        if found is None:
            if len(self._prices) >= _MOST_PRICES:
                self._prices.clear()
            event = event_from_json(document)
            check_normal(document, event)
            found = self._prices[name] = event, state.rule.price(event)
        return found

    def _same_terms(self, before: KeyState, body: dict[str, Any]) -> bool:
        return terms_of(canonical.decode(self._earlier(before.seq))) == terms_of(body)

    def _start(self, body: dict[str, Any]) -> None:
        name, key = self._key(body, "reserved")
        if is_erased(self.books, key.data_version):
            raise BrokenRule("the version of the data was erased")
        for state in self._charged_with(key):
            _add(state.reserved, key.amounts, key.blocks, -1)
            _add(state.charged, key.amounts, key.blocks, 1)
            self.books.put("account", state.now.name, state)
        key.status = "started"
        self.books.put("key", name, key)

    def _post(self, body: dict[str, Any]) -> None:
        answer = body.get("answer", "")
        if body.keys() != _POST or (answer is not None and type(answer) is not str):
            raise BrokenRule(f"post needs exactly the fields {', '.join(sorted(_POST))}")
        name, key = self._key(body, "started", more=("answer",))
        if answer is not None and not _HEX.fullmatch(answer):
            raise BrokenRule("the answer's digest is not 64 hexadecimal digits")
        if answer is not None and is_erased(self.books, key.data_version):
            raise BrokenRule("the version of the data was erased")
        key.status, key.answer = "posted", answer
        self.books.put("key", name, key)

    def _void(self, body: dict[str, Any]) -> None:
        name, key = self._key(body, "reserved")
        for state in self._charged_with(key):
            _add(state.reserved, key.amounts, key.blocks, -1)
            self.books.put("account", state.now.name, state)
        key.status = "void"
        self.books.put("key", name, key)

    def _charged_with(self, key: KeyState) -> list[AccountState]:
        state = self.books.account(key.account)
        if state is None:
            raise BrokenRule("the account was not opened")
        return chain_of(self.books, state) if key.amounts else []

    def _account(self, body: dict[str, Any]) -> AccountState:
        name = body.get("account")
        state = self.books.account(name) if type(name) is str else None
        if state is None:
            raise BrokenRule("the account was not opened")
        return state

    def _key(self, body: dict[str, Any], status: Status, more: tuple[str, ...] = ()) -> tuple[str, KeyState]:
        if not more:
            _need(body, "key")
        name = body["key"]
        key = self.books.key(name) if type(name) is str else None
        if key is None or key.status != status:
            raise BrokenRule(f"{body['kind']} needs a key that is {status}")
        return name, key

    _RULES: ClassVar[dict[str, Callable[[Replay, dict[str, Any]], None]]] = {
        "note": _note,
        "rotate_key": _rotate_key,
        "checkpoint": _checkpoint,
        "data": _data,
        "open_account": _open_account,
        "set_cap": _set_cap,
        "reserve": _reserve,
        "start": _start,
        "post": _post,
        "void": _void,
    }


_POST = {"answer", "at", "key", "kind", "seq"}


def origin_of(ledger_id: str) -> str:
    """Return the origin line of the ledger's checkpoints."""
    return f"synthema-ledger/{ledger_id}"


def is_erased(books: Books, version: str) -> bool:
    """Whether the journal says that a version of the data is gone."""
    data = books.data(version) if version else None
    return data is not None and data.erased


def touched(state: AccountState, blocks: Sequence[Any]) -> tuple[str, ...]:
    """Return the blocks that a release touches: all of them if none is named. Raises BrokenRule on unknown ones."""
    if not blocks:
        return tuple(state.charged)
    if len(set(blocks)) != len(blocks) or not set(blocks) <= set(state.now.blocks):
        raise BrokenRule("blocks must be different ones of the account's")
    return tuple(blocks)


def raised(state: AccountState, account: Account, caps: Amounts) -> bool:
    """Whether the new terms allow anything that those in force do not."""
    now = state.now
    old, new = ((each.epsilon or 0.0, each.delta or 0.0) for each in (now, account))
    return any(b > a for a, b in zip((*old, *state.caps), (*new, *caps), strict=True))


def _account_of(body: Mapping[str, Any]) -> Account:
    curve = body["curve"]
    if any(type(pair) is not list or len(pair) != 2 for pair in curve):
        raise BrokenRule("a curve is a list of orders and caps")
    if body["filter"] not in ("zcdp", "renyi", "pure"):
        raise BrokenRule("the filter is unknown")
    if not all(type(block) is str for block in body["blocks"]):
        raise BrokenRule("blocks are named by texts")
    return Account(
        name=body["account"],
        filter=body["filter"],
        unit=body["unit"],
        neighbours=body["neighbours"],
        epsilon=_float(body["epsilon"]),
        delta=_float(body["delta"]),
        approximate_delta=_float(body["approximate_delta"]),
        curve=tuple((_float(order), _float(cap)) for order, cap in curve),
        parent=body["parent"] or None,
        blocks=tuple(body["blocks"]),
        block_rule=body["block_rule"],
    )


def _add(amounts: dict[str, Amounts], cost: Amounts, blocks: Sequence[str], sign: int) -> None:
    move = add if sign > 0 else sub
    for block in blocks:
        amounts[block] = tuple(map(move, amounts[block], cost))


@lru_cache(maxsize=64)
def _wanted(
    texts: tuple[str, ...], others: tuple[tuple[str, type], ...]
) -> tuple[frozenset[str], list[str], list[type]]:
    wanted = dict.fromkeys(("at", "kind", *texts), str) | dict(others) | {"seq": int}
    return frozenset(wanted), list(wanted), list(wanted.values())


def _need(body: dict[str, Any], *texts: str, **others: type) -> None:
    """Raise BrokenRule unless the document has exactly these fields, texts where nothing else is said."""
    names, order, kinds = _wanted(texts, tuple(others.items()))
    if body.keys() != names or list(map(type, map(body.__getitem__, order))) != kinds:
        raise BrokenRule(f"{body['kind']} needs exactly the fields {', '.join(sorted(names))}")


def _float(text: Any) -> float:
    if type(text) is not str:
        raise BrokenRule("a number is not written as a text")
    value = float(text)
    if repr(value) != text:
        raise BrokenRule("a number is not the shortest decimal")
    return value


def _close(recorded: int, expected: int, tolerance: int) -> bool:
    return abs(recorded - expected) <= expected // tolerance + (1 if expected else 0)
