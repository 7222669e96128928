"""What memory holds is what the store holds; and an anchor that moves while a ledger opens accuses nobody."""

from __future__ import annotations

import pytest

from privacy import ZeroConcentratedDP
from privacy.ledger import open_ledger, rules, verify
from privacy.ledger.anchor import Anchor

EVENT = ZeroConcentratedDP(0.01)


def test_a_signal_in_the_middle_of_an_entry_leaves_nothing_in_memory(ledger, url, monkeypatch):
    before = ledger.remaining("aml")
    original = rules._add

    def struck(*arguments):
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(rules, "_add", struck)
    with pytest.raises(KeyboardInterrupt):
        ledger.reserve("aml", EVENT, key="k", purpose="p")
    monkeypatch.undo()
    assert ledger.remaining("aml") == before
    ledger.reserve("aml", EVENT, key="k", purpose="p").start()
    assert verify(url).ok


def test_an_entry_appended_while_another_process_opens_is_no_restored_backup(tmp_path, monkeypatch):
    url, anchor = f"sqlite:///{tmp_path}/site.db", tmp_path / "anchor"
    with open_ledger(url, anchor=anchor) as first:
        first.note("one")
        original = Anchor.read

        def slowly(self):
            monkeypatch.undo()
            first.note("meanwhile")
            return original(self)

        monkeypatch.setattr(Anchor, "read", slowly)
        with open_ledger(url, anchor=anchor) as second:
            assert second.head == first.head
