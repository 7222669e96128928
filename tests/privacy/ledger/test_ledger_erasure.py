"""An erased version of the data: its answers are gone, nothing more is released from it, and the books still verify."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from privacy import LedgerCorrupt, ZeroConcentratedDP
from privacy.ledger import LedgerRefused, verify

EVENT = ZeroConcentratedDP(0.001)


def ask(ledger, key, version="v1"):
    return ledger.reserve("aml", EVENT, key=key, purpose="p", data_version=version)


def erase(ledger, version="v1"):
    ledger.record_data(version, change="erasure", reason="a patient's wish")


def test_an_answer_that_was_erased_is_gone_and_the_books_verify(ledger, url):
    for key, version in (("1", "v1"), ("2", "v2")):
        one = ask(ledger, key, version)
        one.start()
        one.release(42)
    erase(ledger)
    with pytest.raises(LedgerRefused, match="erased"):
        ask(ledger, "1")
    assert ask(ledger, "2", "v2").stored == 42
    with pytest.raises(LedgerRefused, match="erased"):
        ask(ledger, "3")
    assert verify(url).ok


@pytest.mark.parametrize("start", [False, True])
def test_what_is_running_while_its_data_are_erased_starts_and_releases_nothing(ledger, url, start):
    one = ask(ledger, "1")
    if start:
        one.start()
    erase(ledger)
    act = (lambda: one.release(42)) if start else one.start
    with pytest.raises(LedgerRefused, match="erased"):
        act()
    with (
        pytest.raises(LedgerRefused, match="erased"),
        ledger.spend("aml", EVENT, key="2", purpose="p", data_version="v1"),
    ):
        pytest.fail("the block must not run")
    one.abandon()
    assert ledger.entries()[-1].kind == ("post" if start else "void")
    assert verify(url).ok


def test_data_erased_inside_a_block_release_nothing_and_the_charge_stays(ledger, url):
    with ledger.spend("aml", EVENT, key="1", purpose="p", data_version="v1") as block:
        erase(ledger)
        with pytest.raises(LedgerRefused, match="erased"):
            block.release(42)
    assert ledger.events("aml") == (EVENT,)
    assert verify(url).ok


def test_an_answer_that_was_lost_is_not_said_to_be_erased(ledger, tmp_path):
    one = ask(ledger, "1")
    one.start()
    one.release(42)
    with closing(sqlite3.connect(tmp_path / "site.db", isolation_level=None)) as db:
        sql = db.execute("SELECT sql FROM sqlite_master WHERE name = 'answer_delete'").fetchone()[0]
        db.execute("DROP TRIGGER answer_delete")
        db.execute("DELETE FROM answer")
        db.execute(sql)
    with pytest.raises(LedgerCorrupt, match="missing or was changed"):
        ask(ledger, "1")
