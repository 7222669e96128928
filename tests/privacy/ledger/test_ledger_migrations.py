"""Tables of an earlier version: changed once, as a whole, with an entry that says so."""

from __future__ import annotations

import pytest

from privacy import LedgerCorrupt, ZeroConcentratedDP
from privacy.ledger import LedgerUnavailable, _sqlite, open_ledger, verify

NEXT = ("CREATE TABLE remark (seq INTEGER PRIMARY KEY, text TEXT NOT NULL)",)


def spend(ledger, key):
    with ledger.spend("aml", ZeroConcentratedDP(0.001), key=key, purpose="p") as block:
        block.release(1)


@pytest.fixture
def old(ledger, url):
    spend(ledger, "1")
    ledger.close()
    return url


def test_missing_scripts_are_run_once_and_the_journal_names_the_new_schema(old, monkeypatch):
    monkeypatch.setattr(_sqlite, "SCRIPTS", [*_sqlite.SCRIPTS, NEXT])
    assert any("version 2" in problem for problem in verify(old).problems)
    for _ in range(2):
        with open_ledger(old) as ledger:
            schemas = [entry.body["schema"] for entry in ledger.entries() if "schema" in entry.body]
            assert len(schemas) == 2
            assert schemas[-1].startswith("sqlite-3:")
            spend(ledger, f"after {ledger.head[0]}")
    assert verify(old).ok


def test_a_script_that_fails_leaves_everything_as_it_was(old, monkeypatch):
    before = verify(old)
    with monkeypatch.context() as patch:
        patch.setattr(
            _sqlite, "SCRIPTS", [*_sqlite.SCRIPTS, (*NEXT, "CREATE UNIQUE INDEX once ON entry (typeof(body))")]
        )
        with pytest.raises(LedgerUnavailable):
            open_ledger(old)
    assert verify(old) == before
    with open_ledger(old) as ledger:
        spend(ledger, "2")


def test_a_newer_version_is_refused(old, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_sqlite, "SCRIPTS", [*_sqlite.SCRIPTS, NEXT])
        open_ledger(old).close()
    with pytest.raises(LedgerCorrupt, match="version 3"):
        open_ledger(old)
