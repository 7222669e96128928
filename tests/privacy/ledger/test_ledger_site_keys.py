"""Keys in force: who vouches for a new one, what an old signature is good for, and processes that missed a change."""

from __future__ import annotations

import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger import LedgerRefused, LedgerUnavailable, Signer, open_ledger, verify
from privacy.ledger.rules import BrokenRule


def signer(name):
    return Signer(name, Ed25519PrivateKey.generate())


@pytest.fixture
def site():
    return signer("site")


@pytest.fixture
def keyed(ledger, site):
    put(ledger, "site", site)
    return ledger


def put(ledger, role, holder, reason="r"):
    ledger.set_key(role, holder.verifier.vkey, reason=reason, holder=holder)


def test_what_the_rules_refuse_is_refused_by_the_ledger(ledger, site):
    with pytest.raises(LedgerRefused, match="site's own key comes first"):
        put(ledger, "officer", signer("officer"))
    put(ledger, "site", site)
    for role, key, holder in (
        ("officer", site.verifier.vkey, site),
        ("officer", signer("officer").verifier.vkey, None),
        ("officer", signer("officer").verifier.vkey, signer("another")),
        ("site", "", None),
        ("king", signer("king").verifier.vkey, None),
    ):
        with pytest.raises(LedgerRefused, match="is not set"):
            ledger.set_key(role, key, reason="r", holder=holder)


def test_the_signatures_of_a_key_that_was_taken_away_do_not_bring_it_back(keyed, url):
    officer = signer("officer")
    put(keyed, "officer", officer)
    first = dict(keyed.entries()[-1].body)
    keyed.set_key("officer", "", reason="left the hospital")
    again = {name: first[name] for name in first.keys() - {"seq", "kind", "at"}}
    with pytest.raises(BrokenRule, match="does not follow"), keyed._journal.writing() as books:
        keyed._journal.append(books, "rotate_key", **again)
    with (
        pytest.raises(BrokenRule, match="signature does not fit"),
        keyed._journal.writing() as books,
    ):
        keyed._journal.append(books, "rotate_key", **{**again, "after": books.head.keyed_at})
    put(keyed, "officer", officer, reason="is back")
    assert verify(url, site_key=keyed._journal.document(3)["key"]).ok


def test_a_process_that_missed_the_new_site_key_is_told_to_open_again(keyed, url, site):
    new = signer("site-2")
    with open_ledger(url, signer=site) as other:
        put(keyed, "site", new)
        for act in (other.checkpoint, lambda: other.open_exact_account("x")):
            with pytest.raises(LedgerRefused, match="was replaced"):
                act()
    with pytest.raises(LedgerRefused, match="not the site's key in force"):
        open_ledger(url, signer=site)
    with open_ledger(url, signer=new) as other:
        other.checkpoint()
    assert verify(url, site_key=new.verifier.vkey).ok


@pytest.mark.parametrize("reached", [False, True])
def test_a_rotation_that_was_not_confirmed_leaves_a_ledger_that_signs(keyed, monkeypatch, reached):
    import contextlib

    original = keyed._journal.store._transaction

    @contextlib.contextmanager
    def late(begin):
        with original(begin):
            yield
            if not reached:
                raise sqlite3.OperationalError("disk I/O error")
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(keyed._journal.store, "_transaction", late)
    with pytest.raises(LedgerUnavailable):
        put(keyed, "site", signer("site-2"))
    monkeypatch.undo()
    assert keyed.checkpoint()
    assert [entry.kind for entry in keyed.entries()].count("rotate_key") == 1 + reached
