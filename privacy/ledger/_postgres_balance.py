"""Balances in PostgreSQL: each moves by one UPDATE that holds only if its own row allows it.

A row must hold the cap in force, reach exactly what the books have after the entry, and, where something is added, be
covered by its cap. The CHECK of the table holds besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from privacy.errors import LedgerCorrupt
from privacy.ledger.store import Move

if TYPE_CHECKING:
    import psycopg

_MOVE = """UPDATE synthema_ledger.balance SET charged = charged + %(charged)s, reserved = reserved + %(reserved)s
WHERE account = %(account)s AND block = %(block)s AND amount = %(amount)s AND cap = %(cap)s
  AND charged + %(charged)s = %(charged_after)s AND reserved + %(reserved)s = %(reserved_after)s
  AND (%(charged)s + %(reserved)s <= 0 OR charged + reserved + %(charged)s + %(reserved)s <= cap)"""
_SET_CAP = """UPDATE synthema_ledger.balance SET cap = %(cap)s, most = greatest(most, %(cap)s)
WHERE account = %(account)s AND block = %(block)s AND amount = %(amount)s
  AND charged = %(charged_after)s AND reserved = %(reserved_after)s"""
_FIRST_CAP = """INSERT INTO synthema_ledger.balance (account, block, amount, cap, charged, reserved, most)
VALUES (%(account)s, %(block)s, %(amount)s, %(cap)s, 0, 0, %(cap)s) ON CONFLICT DO NOTHING"""


def move_balances(connection: psycopg.Connection[Any], moves: Sequence[Move], name: str) -> None:
    """Move the balances of a commit. Raises LedgerCorrupt, naming the ledger, if one does not allow it."""
    spends, caps = _merged(moves)
    cursor = connection.cursor()
    for move in caps:
        values = _values(move)
        if cursor.execute(_SET_CAP, values).rowcount == 1:
            continue
        # No row: of an account that was just opened, or one that somebody removed.
        if any(move.after) or cursor.execute(_FIRST_CAP, values).rowcount != 1:
            raise _unbalanced(move, name)
    if spends:
        cursor.executemany(_MOVE, [_values(move) for move in spends])
        if cursor.rowcount != len(spends):
            raise _unbalanced(spends[0], name)


def _unbalanced(move: Move, name: str) -> LedgerCorrupt:
    return LedgerCorrupt(
        f"{name}: the balance of account {move.place[0]!r} is not what the journal implies, or its cap does not cover "
        "the entry; nothing was written: see verify"
    )


def _merged(moves: Sequence[Move]) -> tuple[list[Move], list[Move]]:
    """Return what a commit does to each place in all, and the caps that it sets."""
    spends: dict[tuple[str, str, int], Move] = {}
    caps = []
    for move in moves:
        if move.sets_cap:
            caps.append(move)
            continue
        before = spends.get(move.place)
        if before is not None:
            charged, reserved = before.charged + move.charged, before.reserved + move.reserved
            move = replace(move, charged=charged, reserved=reserved)  # noqa: PLW2901 - the same move, summed up
        spends[move.place] = move
    return list(spends.values()), caps


def _values(move: Move) -> dict[str, object]:
    account, block, amount = move.place
    numbers = {
        "cap": move.cap,
        "charged": move.charged,
        "reserved": move.reserved,
        "charged_after": move.after[0],
        "reserved_after": move.after[1],
    }
    # Decimals are sent as NUMERIC whatever their size; an int as the smallest type that holds it.
    return {"account": account, "block": block, "amount": amount} | {k: Decimal(v) for k, v in numbers.items()}
