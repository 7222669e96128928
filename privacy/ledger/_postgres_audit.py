"""Verification of a ledger in PostgreSQL: one state of the database, read and never written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from privacy.errors import LedgerError
from privacy.filters import Amounts
from privacy.ledger import canonical
from privacy.ledger._postgres_link import Link
from privacy.ledger._postgres_schema import catalog_problems, schema_hash
from privacy.ledger.accounts import filter_of
from privacy.ledger.amounts import amounts_of
from privacy.ledger.books import AccountState
from privacy.ledger.rules import BrokenRule

if TYPE_CHECKING:
    import psycopg

    from privacy.ledger.verification import Audit, Verification

_ROWS_AT_ONCE = 2000


def audit_database(url: str, audit: Audit) -> Verification:
    """Feed the audit with what the database holds. Raises ValueError for a bad URL; all else is a problem found."""
    try:
        link = Link(url)
        with contextlib.closing(link.connect()) as connection:
            try:
                # Of one state, however long it takes to read; nothing else is asked on this connection.
                connection.execute("SET statement_timeout = 0")
                connection.execute("SET idle_in_transaction_session_timeout = 0")
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                _audit(connection, audit)
            except link.errors as error:
                raise link.translated(error) from None
    except LedgerError as error:
        audit.found.add(f"the database cannot be read as a ledger: {error}")
    return audit.result()


def _audit(connection: psycopg.Connection[Any], audit: Audit) -> None:
    for problem in catalog_problems(connection):
        audit.found.add(problem)
    if audit.found.problems:
        # What is not ours could be a view with code of its own: nothing is read through it.
        return
    cosigned = connection.execute("SELECT value FROM synthema_ledger.state WHERE name = 'cosigned'").fetchone()
    if cosigned is not None:
        audit.add_note(cosigned[0].decode(errors="replace"))
    body = partial(_body, connection)
    audit.replay(_read(connection, "SELECT seq, body, hash FROM synthema_ledger.entry ORDER BY seq"), body)
    if audit.books.head.schema != schema_hash():
        audit.found.add("the schema that the journal names is not this software's")
    audit.check_states(_read(connection, "SELECT name, value FROM synthema_ledger.state ORDER BY name"))
    answers = _read(connection, "SELECT key_digest, body FROM synthema_ledger.answer ORDER BY key_digest")
    erased = [row[0] for row in _read(connection, "SELECT key_digest FROM synthema_ledger.erased")]
    audit.check_answers(answers, erased)
    _check_balances(connection, audit)


def _read(connection: psycopg.Connection[Any], query: str) -> Iterator[tuple[Any, ...]]:
    # In pieces, with a cursor on the server: a history may be longer than memory. One is open at a time.
    with connection.cursor("synthema_audit") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        yield from cursor.execute(query.encode())


def _body(connection: psycopg.Connection[Any], seq: int) -> bytes:
    row = connection.execute("SELECT body FROM synthema_ledger.entry WHERE seq = %s", (seq,)).fetchone()
    if row is None:
        raise BrokenRule(f"entry {seq} is missing")
    return bytes(row[0])


def _check_balances(connection: psycopg.Connection[Any], audit: Audit) -> None:
    """Compare the balances with what the entries imply."""
    columns = "account, block, amount, cap, charged, reserved, most"
    kept = {tuple(row[:3]): row[3:] for row in _read(connection, f"SELECT {columns} FROM synthema_ledger.balance")}  # noqa: S608
    for state in audit.books.all_accounts():
        name = state.now.name
        try:
            most = _most(connection, state)
        except (BrokenRule, ValueError, KeyError, TypeError):
            audit.found.add(f"the caps of account {name!r} cannot be followed back to its opening")
            continue
        for block in state.charged:
            for i, cap in enumerate(state.caps):
                wanted = (cap, state.charged[block][i], state.reserved[block][i], most[i])
                if kept.pop((name, block, i), None) != wanted:
                    audit.found.add(f"the balance of account {name!r} is not what the entries imply")
    for place in kept:
        audit.found.add(f"a balance of {place[0]!r} is kept that no entry implies")


def _most(connection: psycopg.Connection[Any], state: AccountState) -> Amounts:
    """Return the largest caps ever in force, through the entries that replaced each other. Raises BrokenRule."""
    if not state.caps:
        return ()
    units, seq, caps = filter_of(state.now).units, state.capped_at, []
    while True:
        document = canonical.decode(_body(connection, seq))
        caps.append(amounts_of(document["caps"], units))
        if document["kind"] == "open_account":
            return tuple(map(max, zip(*caps, strict=True)))
        if document["replaces"] >= seq:
            raise BrokenRule("a cap replaces a later one")
        seq = document["replaces"]
