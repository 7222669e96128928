"""Whatever is changed in the file is found: digits, entries, order, answers, tables; and what "chain" cannot see."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from file_owner import Open, change, check, documents, entries, reseal, rewrite_states

from privacy import DiscreteGaussian, LedgerCorrupt, ZeroConcentratedDP
from privacy.ledger import open_ledger, verification, verify
from privacy.ledger.notes import Signer

FLIPPED_BYTES = 400


@pytest.mark.slow
def test_every_changed_digit_of_every_entry_and_hash_is_found(copy):
    url = f"sqlite:///{copy}"
    rows = entries(copy)
    changed = 0
    db = sqlite3.connect(copy, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE name = 'entry_update'").fetchall()

    def restore_schema():
        for _, sql in triggers:
            db.execute(sql)

    def drop():
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")

    drop()
    restore_schema()
    assert verify(url).ok, "the untouched copy verifies, so what follows is found by content"
    for seq, body, digest in rows:
        digits = [i for i, byte in enumerate(body) if 48 <= byte < 58]
        for column, data, positions in (("body", body, digits), ("hash", digest, range(0, 32, 8))):
            for position in positions:
                new = bytearray(data)
                new[position] = 48 + (new[position] - 48 + 1) % 10 if column == "body" else new[position] ^ 1
                drop()
                db.execute(f"UPDATE entry SET {column} = ? WHERE seq = ?", (bytes(new), seq))
                restore_schema()
                assert not verify(url).ok, (seq, column, position)
                changed += 1
        drop()
        db.execute("UPDATE entry SET body = ?, hash = ? WHERE seq = ?", (body, digest, seq))
        restore_schema()
    db.close()
    assert verify(url).ok
    assert changed > 500


def test_a_changed_entry_stops_the_ledger_from_opening(copy):
    with Open(copy) as db:
        db.execute(
            "UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'vienna', 'madrid') AS BLOB) WHERE seq = 1"
        )
    with pytest.raises(LedgerCorrupt, match="entry 1"):
        open_ledger(f"sqlite:///{copy}")


@pytest.mark.parametrize("seq", [1, 2, 5, 9])
def test_a_dropped_entry_is_found(copy, seq):
    with Open(copy) as db:
        db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
    assert any(f"entry {seq}" in problem for problem in check(copy).problems)
    with pytest.raises(LedgerCorrupt):
        open_ledger(f"sqlite:///{copy}")


def test_swapped_and_duplicated_entries_are_found(copy, original, tmp_path):
    with Open(copy) as db:
        db.execute("UPDATE entry SET seq = -1 WHERE seq = 4")
        db.execute("UPDATE entry SET seq = 4 WHERE seq = 7")
        db.execute("UPDATE entry SET seq = 7 WHERE seq = -1")
    assert not check(copy).ok
    second = shutil.copy(original, tmp_path / "second.db")
    with Open(second) as db:
        db.execute("INSERT INTO entry SELECT max(seq) + 1, body, hash FROM entry")
    assert not check(second).ok


def test_renumbering_after_a_drop_is_found(copy):
    with Open(copy) as db:
        db.execute("DELETE FROM entry WHERE seq = 5")
        db.execute("UPDATE entry SET seq = seq - 1 WHERE seq > 5")
    assert not check(copy).ok


def test_truncation_is_found_by_a_head_from_elsewhere_and_only_by_that(copy):
    rows = entries(copy)
    head = rows[-1][2].hex()
    assert check(copy, head=head).assurance == "chain+head"
    assert check(copy, head=rows[2][2].hex()).ok
    with Open(copy) as db:
        db.execute("DELETE FROM entry WHERE seq > ?", (rows[-1][0] - 3,))  # reserve, start and post of the curve
        db.execute("DELETE FROM answer WHERE rowid = (SELECT max(rowid) FROM answer)")
        rewrite_states(db)
    assert check(copy).ok
    assert check(copy).assurance == "chain"
    result = check(copy, head=head)
    assert not result.ok
    assert result.assurance == "none"
    assert "head" in result.problems[0]
    assert not check(copy, head="").ok
    assert not check(copy, head="no hash").ok


def test_a_history_that_was_put_back_is_found_by_a_ledger_that_is_open(copy, tmp_path):
    url = f"sqlite:///{copy}"
    old = shutil.copy(copy, tmp_path / "old.db")
    with open_ledger(url) as ledger:
        with ledger.spend("aml", ZeroConcentratedDP(0.001), key="new", purpose="p"):
            pass
        old.replace(copy)
        for log in ("-wal", "-shm"):  # with its log, the old file is the new history again
            Path(f"{copy}{log}").unlink()
        for _ in range(2):
            with pytest.raises(LedgerCorrupt), ledger.spend("aml", ZeroConcentratedDP(0.001), key="x", purpose="p"):
                pytest.fail("the block must not run")


def test_entries_that_another_hand_removes_while_the_ledger_is_open_are_missed(copy):
    with open_ledger(f"sqlite:///{copy}") as ledger:
        ledger.note("remember me")
        with Open(copy) as db:
            db.execute("DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)")
        with pytest.raises(LedgerCorrupt, match="last entry"):
            ledger.note("x")


def test_a_last_entry_that_another_hand_rewrites_while_the_ledger_is_open_is_noticed(copy):
    with open_ledger(f"sqlite:///{copy}") as ledger:
        ledger.note("remember me")
        reseal(copy, change(documents(copy), ledger.head[0] - 1, at="2026-01-01T00:00:00Z"))
        assert check(copy).ok
        for _ in range(2):
            with pytest.raises(LedgerCorrupt, match="changed"):
                ledger.note("x")


def test_every_changed_byte_of_an_answer_is_found_and_never_given_out(copy):
    with Open(copy) as db:
        rows = db.execute("SELECT key_digest, body FROM answer").fetchall()
    changed = 0
    for digest, body in rows:
        for position in range(0, len(body), 5):
            new = bytearray(body)
            new[position] ^= 1 << position % 8
            with Open(copy) as db:
                db.execute("UPDATE answer SET body = ? WHERE key_digest = ?", (bytes(new), digest))
            assert any("answer" in problem for problem in check(copy).problems)
            changed += 1
    assert changed > 0
    with (
        open_ledger(f"sqlite:///{copy}") as ledger,
        pytest.raises(LedgerCorrupt, match="answer"),
        ledger.spend("aml", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="a count"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM answer WHERE rowid = 1",
        "INSERT INTO answer VALUES (x'00', x'00')",
        "UPDATE answer SET key_digest = x'00' WHERE rowid = 1",
        "CREATE TABLE balance (account TEXT, cap TEXT)",
        "CREATE VIEW free AS SELECT 1",
        "CREATE INDEX e ON entry (hash)",
        "CREATE TRIGGER quiet BEFORE INSERT ON entry BEGIN SELECT RAISE(IGNORE); END",
        "ANALYZE",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
        "ALTER TABLE entry ADD COLUMN more TEXT",
        "DROP TABLE answer",
        "DELETE FROM entry",
    ],
)
def test_stray_and_missing_things_are_found(copy, statement):
    with Open(copy) as db:
        db.execute(statement)
        if "DROP TABLE" in statement:
            db.execute("CREATE TABLE answer (x)")  # so that the triggers can be put back
            db.execute("ALTER TABLE answer ADD COLUMN key_digest")
    assert not check(copy).ok


def test_missing_triggers_are_found_and_stop_the_spending(copy):
    with Open(copy) as db:
        pass
    with open_ledger(f"sqlite:///{copy}") as ledger:
        db = sqlite3.connect(copy)
        db.execute("DROP TRIGGER entry_delete")
        db.commit()
        db.close()
        assert not check(copy).ok
        with pytest.raises(LedgerCorrupt, match="triggers"):
            ledger.note("x")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = body",
        "DELETE FROM entry",
        "INSERT OR REPLACE INTO entry SELECT * FROM entry WHERE seq = 2",
        "INSERT INTO entry SELECT seq + 100, body, hash FROM entry WHERE seq = 2",
        "INSERT INTO entry SELECT seq + 12, 'text', hash FROM entry WHERE seq = 1",
        "UPDATE answer SET body = x'00'",
        "DELETE FROM answer",
        "INSERT OR REPLACE INTO answer SELECT key_digest, x'00' FROM answer",
    ],
)
def test_the_tables_only_grow(copy, statement):
    db = sqlite3.connect(copy)
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    db.close()
    assert check(copy).ok


# Garbage


def test_no_flipped_byte_makes_verify_throw_and_none_in_an_entry_passes(original, tmp_path):
    data = original.read_bytes()
    rows = entries(shutil.copy(original, tmp_path / "rows.db"))
    step = max(1, len(data) // FLIPPED_BYTES)
    path = tmp_path / "flipped.db"
    inside = 0
    for position in range(0, len(data), step):
        flipped = bytearray(data)
        flipped[position] ^= 0x11
        path.write_bytes(flipped)
        result = check(path)
        if not result.ok:
            inside += 1
            continue
        # Free space and counters: the content must be the same to the last byte.
        assert entries(path) == rows, position
    assert inside > FLIPPED_BYTES // 5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_torn_file_is_a_problem_and_no_exception(original, tmp_path, share):
    data = original.read_bytes()
    path = tmp_path / "torn.db"
    path.write_bytes(data[: int(len(data) * share)])
    assert not check(path).ok
    assert not check(tmp_path).ok
    assert check(tmp_path / "nowhere.db").problems == ("there is no such file",)


def test_verifying_changes_nothing_and_leaves_nothing(original, tmp_path):
    path = shutil.copy(original, tmp_path / "copy.db")
    before = path.read_bytes(), sorted(tmp_path.iterdir())
    assert check(path).ok
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == before


def test_verifying_sees_what_is_still_in_the_log(copy):
    with open_ledger(f"sqlite:///{copy}") as ledger:
        ledger.note("in the log only")
        assert check(copy, head=ledger.head[1]).ok
        assert check(copy).entries == ledger.head[0]


def spend_between(monkeypatch, spend):
    """Let somebody spend once, after `verify` has read the entries and before it reads the answers."""
    original, times = verification.Audit.check_answers, []

    def check_answers(*arguments):
        times.append(1)
        if len(times) == 1:
            spend()
        original(*arguments)

    monkeypatch.setattr(verification.Audit, "check_answers", check_answers)
    return times


def test_verifying_sees_one_state_while_somebody_spends(copy, monkeypatch):
    with open_ledger(f"sqlite:///{copy}") as ledger:
        size = ledger.head[0]

        def spend():
            with ledger.spend("aml", ZeroConcentratedDP(0.001), key="new", purpose="p") as block:
                block.release(1)

        times = spend_between(monkeypatch, spend)
        result = check(copy)
        assert result.ok, result.problems
        assert (result.entries, len(times)) == (size, 1)
        assert check(copy).entries == size + 3


def test_a_file_that_is_opened_while_it_is_verified_is_read_again(copy, monkeypatch):
    size = check(copy).entries

    def spend():
        with (
            open_ledger(f"sqlite:///{copy}") as ledger,
            ledger.spend("aml", ZeroConcentratedDP(0.001), key="new", purpose="p") as block,
        ):
            block.release(1)

    times = spend_between(monkeypatch, spend)
    result = check(copy)
    assert result.ok, result.problems
    assert (result.entries, len(times)) == (size + 3, 2)


def test_a_checkpoint_entry_signed_by_the_auditors_key_is_assurance_signed_and_by_another_key_is_a_problem(tmp_path):
    path = tmp_path / "signed.db"
    site, other = (Signer(name, Ed25519PrivateKey.generate()) for name in ("vienna/ledger", "other/ledger"))
    with open_ledger(f"sqlite:///{path}", site="vienna", signer=site) as ledger:
        ledger.set_key("site", site.verifier.vkey, reason="first", holder=site)
        ledger.checkpoint()
        ledger.note("after it")
    result = check(path, site_key=site.verifier.vkey)
    assert (result.ok, result.assurance, result.covered) == (True, "signed", 2)
    result = check(path)
    assert (result.ok, result.assurance, result.covered) == (True, "chain", 0)
    result = check(path, site_key=other.verifier.vkey)
    assert (result.ok, result.assurance, result.covered) == (False, "none", 0)
