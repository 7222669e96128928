"""A release without differential privacy, in the ledger: charged before a row is read, posted when it is durable.

No epsilon covers such a release, so it goes to an account of its own kind ("exact"), which counts and does not add up.
What was started counts for ever: a run that stopped may have shown its result to somebody.

Two releases of the same patients can be intersected: each class of the one is cut by those of the other, and a patient
stands in what is left. No privacy model of a single table bounds that, so every further release is pointed at.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from privacy import NonPrivate
from privacy.ledger import Ledger, LedgerRefused


@dataclass(frozen=True, slots=True)
class Recorded:
    """An exact release in the ledger.

    number    which exact release of this account it is, 1 for the first; earlier ones that stopped count as well
    earlier   what those before it opened, in the words of the ledger
    """

    ledger_id: str
    account: str
    key: str
    number: int
    earlier: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """What this release means together with the earlier ones; None for the first."""
        if not self.earlier:
            return None
        before = "one earlier release" if self.number == 2 else f"{self.number - 1} earlier releases"
        return (
            f"This is exact release {self.number} of account {self.account!r}, after {before}. Releases of the same "
            "patients can be intersected: whoever holds several may tell a patient from a crowd that each of them kept "
            "large enough. The models hold for each table alone, and nothing bounds what they tell together; where "
            "tables are released again and again, release synthetic ones with differential privacy (synthema generate)."
        )


def check_exact(ledger: Ledger, account: str) -> None:
    """Raise LedgerRefused if the account is there and takes no exact releases."""
    found = [each for each in ledger.accounts() if each.name == account]
    if found and found[0].filter != "exact":
        raise LedgerRefused(
            f"account {account!r} has a budget of epsilon, and an anonymised table has none: the site allows exact "
            "releases by opening an account for them (synthema ledger open-exact)"
        )


@contextmanager
def recorded(
    ledger: Ledger, account: str, *, what: str, purpose: str, table: str, key: str | None
) -> Iterator[Recorded]:
    """Charge an exact release on entering, post it on leaving; an exception on the way counts as a release, too.

    Parameters
    ----------
    what, purpose
        Public words: what is opened, and what for.
    table
        Public name of the table, for the key of the release.
    key
        Names the release for ever; by default a new name each time.

    Raises
    ------
    LedgerRefused, UnknownAccount, SpentWithoutAnswer, KeyReused
        On entering: nothing was charged.
    """
    check_exact(ledger, account)
    name = key or f"anonymise/{table[:100]}/{secrets.token_hex(8)}"
    with ledger.spend(account, NonPrivate(what), key=name, purpose=purpose):
        # Counted after the charge, so that two runs at once do not both take themselves for the first.
        yield _recorded(ledger, account, name)


def _recorded(ledger: Ledger, account: str, key: str) -> Recorded:
    opened = _exact_keys(ledger, account)
    place = [name for name, _ in opened].index(key)
    earlier: Sequence[tuple[str, str]] = opened[:place]
    return Recorded(ledger.ledger_id, account, key, place + 1, tuple(what for _, what in earlier))


def _exact_keys(ledger: Ledger, account: str) -> list[tuple[str, str]]:
    """Return key and words of every exact release that was started from an account, in order."""
    asked: dict[str, str] = {}
    started: list[tuple[str, str]] = []
    for entry in ledger.entries():
        if entry.kind == "reserve" and entry.body["account"] == account:
            asked[entry.body["key"]] = entry.body["event"]["what"]
        elif entry.kind == "start" and entry.body["key"] in asked:
            started.append((entry.body["key"], asked[entry.body["key"]]))
    return started
