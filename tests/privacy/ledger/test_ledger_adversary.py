"""Who owns the file, or the site's key, or a budget: what verify, the anchor, witnesses and caps make of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from file_owner import Open

from privacy import DiscreteGaussian, ZeroConcentratedDP
from privacy.ledger import (
    LedgerRefused,
    LedgerRestored,
    LocalWitness,
    Signer,
    WitnessPolicy,
    WitnessRefused,
    WitnessUnavailable,
    canonical,
    notes,
    open_ledger,
    signatures,
    verify,
)
from privacy.ledger.books import Books
from privacy.ledger.chain import entry_hash
from privacy.ledger.merkle import Tree, leaf_hash
from privacy.ledger.notes import Checkpoint, Note
from privacy.ledger.rules import BrokenRule, Replay, origin_of
from privacy.ledger.signatures import PURPOSE, signed

# Each flip that is tried costs a whole verification; the slow run tries every bit of every byte.
FLIPPED_EVERY = 23
LEAST_FLIPS = 240
SMALL = ZeroConcentratedDP(0.001)


def signer(name):
    return Signer(name, Ed25519PrivateKey.generate())


@dataclass
class World:
    """A ledger at rest, an earlier copy of it, and all who have keys."""

    path: Path
    old: Path
    anchor: Path
    site: Signer
    officer: Signer
    witnesses: list
    origin: str
    cosigned: str
    size: int

    def in_folder(self, folder):
        """Return a world of its own for a test: files copied, the same keys."""
        copies = {}
        for name in ("path", "old", "anchor"):
            copies[name] = Path(shutil.copy(getattr(self, name), folder))
        shutil.copy(f"{self.path}-answers.key", folder)
        logs = {self.origin: self.site.verifier}
        witnesses = [LocalWitness(shutil.copy(one._path, folder), one._signer, logs) for one in self.witnesses]
        return World(**{**vars(self), **copies, "witnesses": witnesses})

    @property
    def url(self):
        return f"sqlite:///{self.path}"

    @property
    def honest(self):
        """Return the note that the second witness keeps: the first may be in league with the site."""
        return self.witnesses[1].latest(self.origin).render()

    def verify(self, **more):
        keys = {"site_key": self.site.verifier.vkey, "witness_keys": [one.vkey for one in self.witnesses]}
        return verify(self.url, **(keys | more))

    def open(self, witnesses=None, **more):
        policy = None if witnesses is None else WitnessPolicy(witnesses, **more)
        return open_ledger(self.url, signer=self.site, witnesses=policy)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    path, anchor = folder / "site.db", folder / "anchor"
    site, officer = signer("site"), signer("officer")
    url = f"sqlite:///{path}"
    with open_ledger(url, anchor=anchor) as ledger:
        origin = origin_of(ledger.ledger_id)
        witnesses = [
            LocalWitness(folder / f"witness{i}.db", signer(f"witness{i}"), {origin: site.verifier}) for i in (1, 2)
        ]
        ledger.set_key("site", site.verifier.vkey, reason="r", holder=site)
        ledger.set_key("officer", officer.verifier.vkey, reason="r", holder=officer)
        for one in witnesses:
            ledger.set_key(f"witness {one.name}", one.vkey, reason="r")
    with open_ledger(url, anchor=anchor, signer=site, witnesses=WitnessPolicy(witnesses, needed=2)) as ledger:
        ledger.open_account("aml", epsilon=1.0, delta=1e-6, neighbours="replace_one", approximate_delta=1e-7)
        with ledger.spend("aml", SMALL, key="1", purpose="p", data_version="v1") as block:
            block.release([1, 2])
        ledger.note("one")
        ledger.note("two")
    old = Path(shutil.copy(path, folder / "old.db"))
    with open_ledger(url, anchor=anchor, signer=site, witnesses=WitnessPolicy(witnesses, needed=2)) as ledger:
        ledger.set_cap("aml", epsilon=1.5, delta=1e-6, reason="r", officer=officer)
        with ledger.spend("aml", DiscreteGaussian(noise_multiplier=40.0), key="2", purpose="p") as block:
            block.release(7)
        ledger.record_data("v1", change="erasure", reason="a patient's wish")
        cosigned, size = ledger.checkpoint(), ledger.head[0]
    return World(path, old, anchor, site, officer, witnesses, origin, cosigned, size)


@pytest.fixture
def world(original, tmp_path):
    return original.in_folder(tmp_path)


def test_the_honest_ledger_is_witnessed(world):
    result = world.verify(notes=[world.honest, world.cosigned])
    assert result.ok, result.problems
    assert (result.assurance, result.covered, result.entries) == ("witnessed", world.size, world.size)
    assert world.verify(witness_keys=[]).assurance == "signed"


# Bits


def contents(data):
    """Return all that the file says, or None if it cannot be read: what SQLite makes of these bytes."""
    plain = bytearray(data)
    plain[18:20] = b"\x01\x01"  # no log: a file in memory has none
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        try:
            db.deserialize(bytes(plain))
            tables = [db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()]
            tables += [db.execute(f"PRAGMA {mark}").fetchone() for mark in ("application_id", "user_version")]
            for table in ("entry", "answer", "erased", "state"):
                tables.append([tuple(map(repr, row)) for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")])
        except (sqlite3.Error, UnicodeDecodeError):
            return None
    return tables


@pytest.fixture
def dense(world, monkeypatch):
    """The same ledger with hardly any free space in the file, and signatures that are checked once."""
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as db:
        for statement in (
            "PRAGMA journal_mode = DELETE",
            "PRAGMA page_size = 512",
            "VACUUM",
            "PRAGMA journal_mode = WAL",
        ):
            db.execute(statement)
    monkeypatch.setattr(notes, "is_signature", lru_cache(notes.is_signature))
    monkeypatch.setattr(signatures, "verify_statement", lru_cache(signatures.verify_statement))
    assert world.verify(notes=[world.honest]).ok
    return world


def flip(world, places):
    """Flip bits, one at a time; return how many changed what the file says, and which of these verify passed."""
    data = world.path.read_bytes()
    wanted = contents(data)
    honest = world.honest
    changed, missed = 0, []
    file = os.open(world.path, os.O_RDWR)
    try:
        for byte, bit in places(len(data)):
            flipped = bytes([data[byte] ^ 1 << bit])
            found = contents(data[:byte] + flipped + data[byte + 1 :])
            if found == wanted:
                continue
            changed += 1
            os.pwrite(file, flipped, byte)
            if world.verify(notes=[honest]).ok:
                missed.append((byte, bit))
            os.pwrite(file, data[byte : byte + 1], byte)
    finally:
        os.close(file)
    assert world.verify(notes=[honest]).ok, "the untouched file verifies, so what was found was found by content"
    return changed, missed


def test_flipped_bits_that_change_what_the_file_says_are_found(dense):
    changed, missed = flip(
        dense, lambda size: ((byte, byte // FLIPPED_EVERY % 8) for byte in range(0, size, FLIPPED_EVERY))
    )
    assert missed == []
    assert changed > LEAST_FLIPS


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_every_flipped_byte_that_changes_what_the_file_says_is_found(dense, part):
    """One bit of every byte. With SYNTHEMA_ALL_BITS=1, all eight: 15 minutes on one core."""
    bits = range(8) if os.environ.get("SYNTHEMA_ALL_BITS") else [None]
    changed, missed = flip(
        dense,
        lambda size: ((byte, byte % 8 if bit is None else bit) for bit in bits for byte in range(part, size, 2)),
    )
    assert missed == []
    assert changed > 2 * LEAST_FLIPS


# Histories


def documents(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [canonical.decode(body) for (body,) in db.execute("SELECT body FROM entry ORDER BY seq")]


def rewrite(world, history, signers):
    """Write another history, with hashes, signatures and books that fit: `signers` has a key for every key's text."""
    books, bodies = Books(), []
    replay = Replay(books, lambda seq: bodies[seq - 1])
    rows = []
    for document in history:
        head = books.head
        changed = {**document, "seq": head.size + 1}
        if changed["kind"] == "rotate_key" and changed["key"] in signers:
            changed["key"] = signers[changed["key"]].verifier.vkey
        if changed["kind"] == "checkpoint":
            text = Checkpoint(origin_of(head.ledger_id), head.size, head.frontier.root).text
            changed["note"] = Note(text, (signers[world.site.verifier.vkey].sign_note(text),)).render()
        elif "signatures" in changed:
            keys = [signers[key] for key, _ in document["signatures"]]
            changed["signatures"] = signed(changed, head.ledger_id, keys)
        body = canonical.encode(changed)
        digest = entry_hash(head.hash, body)
        replay.apply(changed, body, digest)
        bodies.append(body)
        rows.append((len(bodies), body, digest))
    with Open(world.path) as db:
        for table in ("entry", "state"):
            db.execute(f"DELETE FROM {table}")
        db.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
        db.executemany("INSERT INTO state VALUES (?, ?)", books.documents())
        kept = {key.answer for _, key in books.all_keys()}
        if None in kept or len(kept) < 2:
            db.execute("DELETE FROM answer")
        if not books.data("v1"):
            db.execute("DELETE FROM erased")


def keys_of(world):
    return {one.verifier.vkey: one for one in (world.site, world.officer)}


def is_found(world, match):
    """With the honest witness's note it is found; without it, this history is as good as any."""
    alone = verify(world.url)
    assert alone.ok, alone.problems
    result = world.verify(notes=[world.honest])
    assert not result.ok
    assert any(match in problem for problem in result.problems), result.problems


@pytest.mark.parametrize("kept", [6, 8, -1])
def test_a_truncated_history_is_found(world, kept):
    rewrite(world, documents(world.path)[:kept], keys_of(world))
    is_found(world, "entries were removed")


def test_an_old_copy_is_found_by_notes_anchor_and_witnesses(world):
    shutil.copy(world.old, world.path)
    is_found(world, "an old copy was put back")
    with pytest.raises(LedgerRestored, match="an old copy"):
        open_ledger(world.url, anchor=world.anchor)
    before = world.path.read_bytes()
    with pytest.raises(LedgerRestored, match="an old copy"):
        world.open(world.witnesses)
    assert world.path.read_bytes() == before


def test_a_fork_is_found_and_no_witness_signs_it(world):
    shutil.copy(world.old, world.path)
    with world.open() as ledger:
        while ledger.head[0] < world.size:
            ledger.note("another story")
    is_found(world, "are not those that a checkpoint covers")
    with pytest.raises(LedgerRestored):
        world.open(world.witnesses)
    with world.open() as ledger:
        ledger.note("and longer")
    with pytest.raises(LedgerRestored):
        world.open(world.witnesses)


def test_a_witness_refuses_the_fork_itself(world):
    tree = Tree()
    tree.extend(leaf_hash(bytes([i])) for i in range(world.size + 3))
    last = world.witnesses[1].latest(world.origin)
    size = Checkpoint.parse(last.text).size
    for new, reason in ((size, "fork"), (size + 2, "inconsistent"), (size - 1, "smaller")):
        text = Checkpoint(world.origin, new, tree.root(new)).text
        note = Note(text, (world.site.sign_note(text),)).render()
        proof = tree.consistency_proof(size, new) if new > size else ()
        with pytest.raises(WitnessRefused) as caught:
            world.witnesses[1].add_checkpoint(old_size=size, proof=proof, note=note)
        assert caught.value.reason == reason
    assert world.witnesses[1].latest(world.origin) == last


def test_a_reordered_history_is_found_even_if_the_site_signs_it(world):
    history = documents(world.path)
    place = next(i for i, body in enumerate(history) if body.get("text") == "one")
    history[place], history[place + 1] = history[place + 1], history[place]
    rewrite(world, history, keys_of(world))
    is_found(world, "are not those that a checkpoint covers")


def test_a_history_signed_anew_with_another_key_is_found(world):
    mallory = signer("site")
    rewrite(world, documents(world.path), {**keys_of(world), world.site.verifier.vkey: mallory})
    is_found(world, "are not those that a checkpoint covers")
    result = world.verify()
    assert not result.ok
    assert "the given site key was never in force" in result.problems[0]


def test_a_rewritten_amount_is_found_though_every_rule_holds(world):
    history = documents(world.path)
    place = next(i for i, body in enumerate(history) if body["kind"] == "open_account")
    history[place] |= {"block_rule": "", "at": "2020-01-01T00:00:00Z"}
    rewrite(world, history, keys_of(world))
    is_found(world, "are not those that a checkpoint covers")


@pytest.mark.parametrize("change", ["signature", "stranger", "unsigned"])
def test_a_kept_checkpoint_that_was_changed_is_found(world, change):
    note = Note.parse(world.cosigned)
    first, *others = note.signatures
    stranger = signer("stranger").sign_note(note.text)
    forged = signer("site")
    lines = {
        "signature": (first, forged.cosign(note.text, time=1).replace("site", "witness1"), *others[1:]),
        "stranger": (first, stranger, *others),
        "unsigned": tuple(others),
    }[change]
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as db:
        text = Note(note.text, lines).render()
        db.execute("UPDATE state SET value = ? WHERE name = 'cosigned'", (text.encode(),))
    result = world.verify()
    assert not result.ok
    assert "the kept checkpoint" in result.problems[0]


# Witnesses that do not answer


class Silent:
    """A witness that cannot be reached."""

    def __init__(self, other):
        self.name, self.vkey = other.name, other.vkey

    def add_checkpoint(self, **_):
        raise WitnessUnavailable("no route")


def silent(world):
    return [Silent(one) for one in world.witnesses]


def spend(ledger, key):
    with ledger.spend("aml", SMALL, key=key, purpose="p") as block:
        block.release(1)


def test_a_spend_that_no_witness_sees_is_refused_and_charges_nothing(world):
    with world.open(silent(world)) as ledger:
        before, events = ledger.remaining("aml"), ledger.events("aml")
        with pytest.raises(WitnessUnavailable, match="0 of 1"):
            spend(ledger, "new")
        assert (ledger.remaining("aml"), ledger.events("aml"), ledger.pending()) == (before, events, ())
    assert world.verify(notes=[world.honest]).ok
    with (
        world.open([world.witnesses[0], silent(world)[1]], needed=2) as ledger,
        pytest.raises(WitnessUnavailable, match="1 of 2"),
    ):
        spend(ledger, "new")
    with world.open([world.witnesses[0], silent(world)[1]]) as ledger:
        spend(ledger, "new")


def test_the_window_admits_so_many_entries_and_no_more(world):
    with world.open(world.witnesses) as ledger:
        ledger.checkpoint()
    with world.open(silent(world), window=8) as ledger:
        # Each spend adds three entries, of which the reservation comes before the question.
        for key in ("a", "b", "c"):
            spend(ledger, key)
        with pytest.raises(WitnessUnavailable):
            spend(ledger, "d")
        assert len(ledger.events("aml")) == 5
    with world.open(world.witnesses, window=8) as ledger:
        spend(ledger, "d")


@pytest.mark.parametrize("by", ["the site alone", "one of two", "another root"])
def test_a_forged_cosigned_checkpoint_does_not_widen_the_window(world, by):
    with world.open() as ledger:
        for _ in range(20):
            ledger.note("x")
        with ledger._journal.reading() as books:
            head = books.head
    root = head.frontier.root if by != "another root" else bytes(32)
    text = Checkpoint(world.origin, head.size, root).text
    who = {"the site alone": [], "one of two": world.witnesses[:1], "another root": world.witnesses}[by]
    lines = (world.site.sign_note(text), *(one._signer.cosign(text, time=1) for one in who))
    with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as db:
        db.execute("UPDATE state SET value = ? WHERE name = 'cosigned'", (Note(text, lines).render().encode(),))
    with world.open(silent(world), window=5, needed=2) as ledger, pytest.raises(WitnessUnavailable):
        spend(ledger, "new")
    with world.open(world.witnesses, needed=2) as ledger:
        spend(ledger, "new")
    assert world.verify(notes=[world.honest]).ok


def test_a_witness_that_does_not_know_the_key_does_not_stop_the_others(world):
    other = signer("other")
    keys = [one._signer for one in world.witnesses]
    lost = LocalWitness(world.path.with_name("lost.db"), keys[1], {world.origin: other.verifier})
    with world.open([world.witnesses[0], lost]) as ledger:
        spend(ledger, "new")
    with (
        world.open([world.witnesses[0], lost], needed=2) as ledger,
        pytest.raises(WitnessUnavailable, match="1 of 2"),
    ):
        spend(ledger, "next")


def test_one_witness_is_not_two_and_a_stranger_is_none(world):
    with pytest.raises(ValueError, match="different keys"):
        WitnessPolicy([world.witnesses[0], world.witnesses[0]], needed=2)
    stranger = LocalWitness(world.path.with_name("s.db"), signer("stranger"), {world.origin: world.site.verifier})
    with world.open([stranger]) as ledger, pytest.raises(WitnessUnavailable, match="not among the witnesses"):
        spend(ledger, "new")


# Caps


def raw_cap(ledger, fields, keys, *, replaces=None):
    """Append a cap with these signatures, past the ledger's own door."""
    with ledger._journal.writing() as books:
        fields = {**fields, "replaces": books.account("aml").capped_at if replaces is None else replaces}
        made = keys if isinstance(keys, list) and keys and isinstance(keys[0], list) else None
        signatures_ = made or signed({"kind": "set_cap", **fields}, ledger.ledger_id, keys)
        ledger._journal.append(books, "set_cap", **fields, signatures=signatures_)


def cap_fields(ledger, epsilon):
    fields = canonical.decode(ledger.cap_statement("aml", epsilon=epsilon, delta=1e-6, reason="r"))
    return {name: value for name, value in fields.items() if name not in ("kind", "ledger_id", "replaces")}


def test_a_cap_rises_only_by_two_different_signatures(world):
    site, officer, other = world.site, world.officer, signer("officer")
    with world.open() as ledger:
        for wrong in (None, site, other):
            with pytest.raises(LedgerRefused, match="only be lowered"):
                ledger.set_cap("aml", epsilon=2.0, delta=1e-6, reason="r", officer=wrong)
        fields, size = cap_fields(ledger, 2.0), ledger.head[0]
        for keys in ([], [site], [officer], [site, site], [officer, officer], [site, other], [site, officer, officer]):
            with pytest.raises(BrokenRule):
                raw_cap(ledger, fields, keys)
        assert ledger.head[0] == size
        raw_cap(ledger, fields, [site, officer])
        assert ledger.remaining("aml").epsilon_cap == 2.0
    assert world.verify(notes=[world.honest]).ok


def test_an_officers_signature_is_good_for_one_cap_once(world):
    with world.open() as ledger:
        ledger.set_cap("aml", epsilon=2.0, delta=1e-6, reason="r", officer=world.officer)
        signed_once = dict(ledger.entries()[-1].body)
        fields = {
            name: signed_once[name] for name in signed_once.keys() - {"seq", "at", "kind", "signatures", "replaces"}
        }
        ledger.set_cap("aml", epsilon=1.0, delta=1e-6, reason="r")
        for replaces in (signed_once["replaces"], None):
            with pytest.raises(BrokenRule, match=r"does not replace|does not fit"):
                raw_cap(ledger, fields, signed_once["signatures"], replaces=replaces)
        with pytest.raises(BrokenRule, match="does not fit"):
            raw_cap(ledger, cap_fields(ledger, 3.0), signed_once["signatures"])
        # A signature that the officer gave in advance dies with the cap that it was meant to replace.
        statement = ledger.cap_statement("aml", epsilon=1.2, delta=1e-6, reason="r")
        fields = cap_fields(ledger, 1.2)
        pairs = [
            [one.verifier.vkey, signatures.base64.b64encode(one.sign_statement(PURPOSE, statement)).decode()]
            for one in (world.site, world.officer)
        ]
        ledger.set_cap("aml", epsilon=0.9, delta=1e-6, reason="r")
        with pytest.raises(BrokenRule, match="does not fit"):
            raw_cap(ledger, fields, pairs)
        assert ledger.remaining("aml").epsilon_cap == 0.9
