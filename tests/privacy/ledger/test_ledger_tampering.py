"""Whatever is changed in the file is found: digits, entries, order, answers, tables; and what "chain" cannot see."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import DiscreteGaussian, LedgerCorrupt, NonPrivate, ZeroConcentratedDP, rho_of
from privacy._units import LOSS, round_up
from privacy.ledger import LedgerRefused, open_ledger, verification, verify
from privacy.ledger._sqlite_library import connect
from privacy.ledger.accounts import Account, filter_of
from privacy.ledger.amounts import texts_of
from privacy.ledger.books import Books
from privacy.ledger.chain import START, answer_hash, entry_hash
from privacy.ledger.notes import Signer
from privacy.ledger.rules import BrokenRule, Replay

FLIPPED_BYTES = 400


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "original.db"
    with open_ledger(f"sqlite:///{path}", site="vienna") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        ledger.open_exact_account("exact")
        with ledger.spend("aml", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="a count") as block:
            block.release([3, 4])
        with ledger.spend("aml", ZeroConcentratedDP(0.01), key="2", purpose="lost"):
            pass
        ledger.reserve("aml", ZeroConcentratedDP(0.01), key="3", purpose="never started")
        ledger.void("3")
        ledger.set_cap("aml", epsilon=2.0, delta=1e-6, reason="ethics board")
        with ledger.spend("exact", NonPrivate("a curve"), key="4", purpose="a curve") as block:
            block.release(5)
    assert verify(f"sqlite:///{path}").ok
    return path


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copy(original, tmp_path / "copy.db")


def check(path, **more):
    return verify(f"sqlite:///{path}", **more)


class Open:
    """The file in the hands of its owner: triggers lifted, and put back as they were."""

    def __init__(self, path):
        self.connection = connect(
            Path(path), "rw", 5.0
        )  # the process's own: two libraries would not see each other's locks
        self.connection.execute("PRAGMA synchronous = OFF")

    def __enter__(self):
        self.triggers = self.connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in self.triggers:
            self.connection.execute(f"DROP TRIGGER {name}")
        return self.connection

    def __exit__(self, *_):
        for _, sql in self.triggers:
            self.connection.execute(sql)
        self.connection.close()


def entries(path):
    with Open(path) as db:
        return [tuple(row) for row in db.execute("SELECT seq, body, hash FROM entry ORDER BY seq")]


def reseal(path, bodies):
    """Rewrite the whole history with hashes that fit: what somebody who owns the file can do."""
    with Open(path) as db:
        db.execute("DELETE FROM entry")
        head = START
        for seq, body in enumerate(bodies, start=1):
            data = body if isinstance(body, bytes) else canonical(body)
            head = entry_hash(head, data)
            db.execute("INSERT INTO entry VALUES (?, ?, ?)", (seq, data, head))
        rewrite_states(db)


def rewrite_states(db):
    """Keep beside the entries what they imply, as far as they imply anything."""
    bodies = dict(db.execute("SELECT seq, body FROM entry"))
    books = Books()
    replay = Replay(books, bodies.__getitem__)
    for row in db.execute("SELECT seq, body, hash FROM entry ORDER BY seq").fetchall():
        try:
            replay.extend(*row)
        except (BrokenRule, KeyError):
            break
    db.execute("DELETE FROM state")
    db.executemany("INSERT INTO state VALUES (?, ?)", books.documents())


def canonical(body):
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def documents(path):
    return [json.loads(body) for _, body, _ in entries(path)]


def numbered(bodies):
    return [body | {"seq": seq} for seq, body in enumerate(bodies, start=1)]


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


# With hashes that fit: only the rules are left to object.


def change(bodies, place, **fields):
    return [body | fields if body["seq"] == place else body for body in bodies]


def without(bodies, seq):
    return numbered([body for body in bodies if body["seq"] != seq])


def moved(bodies, seq, to):
    out = list(bodies)
    out.insert(to - 1, out.pop(seq - 1))
    return numbered(out)


def with_more(bodies, body, at=None):
    out = list(bodies)
    out.insert(len(out) if at is None else at - 1, {"at": bodies[0]["at"]} | body)
    return numbered(out)


NO_DELTA = "0." + 36 * "0"


def costing(rho):
    return {"amounts": [rho, NO_DELTA]}


def capped(epsilon, delta):
    rule = filter_of(Account("aml", "zcdp", "patient", "add_remove_one", epsilon, delta))
    return {"epsilon": repr(epsilon), "delta": repr(delta), "caps": texts_of(rule.caps, rule.units)}


RESERVE = {
    "kind": "reserve",
    "account": "aml",
    "key": "new",
    "purpose": "p",
    "data_version": "",
    "blocks": [],
    "event": {"kind": "zero_concentrated_dp", "rho": "0.1"},
} | costing("0.100000000000100000")
TOO_MUCH = RESERVE | {"event": {"kind": "zero_concentrated_dp", "rho": "0.2"}} | costing("0.200000000000200000")
CASES = {
    "a cost is lower than its event": lambda b: change(b, 4, **costing("0.000000000000000001")),
    "a cost is higher than its event": lambda b: change(b, 4, **costing("0.010000000000000000")),
    "a cost is nothing": lambda b: change(b, 4, **costing("0.000000000000000000")),
    "a cost is not an amount": lambda b: change(b, 4, **costing("0.1")),
    "a private release costs nothing": lambda b: change(b, 4, amounts=None),
    "an event is unknown": lambda b: change(b, 4, event={"kind": "free"}),
    "an event has another noise": lambda b: change(b, 4, event=b[3]["event"] | {"scale": "40.0"}),
    "a cap is higher than its epsilon": lambda b: change(b, 2, caps=["9.000000000000000000", NO_DELTA]),
    "an epsilon is higher than its cap": lambda b: change(b, 2, epsilon="9.0"),
    "an epsilon is written differently": lambda b: change(b, 2, epsilon="3.00"),
    "an epsilon is no number": lambda b: change(b, 2, epsilon="nan"),
    "a cap is raised": lambda b: change(b, 12, **capped(4.0, 1e-6)),
    "a cap is raised in delta": lambda b: change(b, 12, **capped(2.0, 1e-5)),
    "a cap has no reason": lambda b: change(b, 12, reason=""),
    "a cap is exceeded": lambda b: with_more(b, RESERVE),
    "a cap is exceeded for a moment": lambda b: with_more(
        with_more(b, TOO_MUCH, at=12), {"kind": "void", "key": "new"}, at=13
    ),
    "an account is opened twice": lambda b: with_more(b, {k: v for k, v in b[1].items() if k != "seq"}),
    "an account is under another relation": lambda b: with_more(
        b, {k: v for k, v in b[1].items() if k != "seq"} | {"account": "mds", "neighbours": "replace_one"}
    ),
    "an account has another unit": lambda b: change(b, 2, unit="row"),
    "an account has another filter": lambda b: change(b, 2, filter="free"),
    "an account was never opened": lambda b: without(b, 3),
    "an exact account holds noise": lambda b: change(b, 13, event={"kind": "pure_dp", "epsilon": "1.0"}),
    "an exact release is charged to epsilon": lambda b: change(b, 13, account="aml"),
    "a start without a reservation": lambda b: without(b, 4),
    "a post without a start": lambda b: without(b, 5),
    "a start twice": lambda b: with_more(b, {"kind": "start", "key": "2"}),
    "a post twice": lambda b: with_more(b, {"kind": "post", "key": "2", "answer": None}),
    "a post before its start": lambda b: moved(b, 6, 5),
    "a void after a start": lambda b: with_more(b, {"kind": "void", "key": "2"}),
    "a void twice": lambda b: with_more(b, {"kind": "void", "key": "3"}),
    "a key twice": lambda b: with_more(b, {k: v for k, v in b[3].items() if k not in ("seq", "at")}),
    "a voided key for something else": lambda b: with_more(
        b, {k: v for k, v in b[9].items() if k not in ("seq", "at")} | {"purpose": "x"}
    ),
    "an answer that is not there": lambda b: change(b, 9, answer="0" * 64),
    "an answer that is not named": lambda b: change(b, 6, answer=None),
    "a digest that is none": lambda b: change(b, 6, answer="0"),
    "another seq": lambda b: change(b, 6, seq=7),
    "a seq that is a bool": lambda b: change(b, 1, seq=True),
    "an unknown kind": lambda b: change(b, 12, kind="refund"),
    "a field too many": lambda b: change(b, 5, more="x"),
    "a field too few": lambda b: [{k: v for k, v in body.items() if k != "purpose"} for body in b],
    "a time that is none": lambda b: change(b, 5, at="yesterday"),
    "no first note": lambda b: without(b, 1),
    "another format": lambda b: change(b, 1, format="synthema-ledger-3"),
    "a second first note": lambda b: with_more(b, {k: v for k, v in b[0].items() if k != "seq"}),
    "no map": lambda b: [*b[:-1], b"[1]"],
    "no document": lambda b: [*b[:-1], b"\xff"],
    "whitespace": lambda b: [*b[:-1], canonical(b[-1]) + b" "],
    "a duplicate key": lambda b: [*b[:-1], canonical(b[-1])[:-1] + b',"seq":15}'],
    "a float": lambda b: [*b[:-1], canonical(b[-1])[:-1] + b',"x":1.5}'],
}


@pytest.mark.parametrize("case", CASES)
def test_a_resealed_history_that_breaks_a_rule_is_found(copy, case):
    bodies = documents(copy)
    assert [b["kind"] for b in bodies][3:6] == ["reserve", "start", "post"]
    assert bodies[9]["key"] == "3"
    assert bodies[11]["kind"] == "set_cap"
    reseal(copy, bodies)
    assert check(copy).ok, "resealing as it was is not what is found"
    reseal(copy, CASES[case](bodies))
    result = check(copy)
    assert not result.ok, case
    assert not any("hash" in problem for problem in result.problems)
    if case not in ("an answer that is not there", "an answer that is not named"):
        with pytest.raises(LedgerCorrupt):
            open_ledger(f"sqlite:///{copy}")


def test_a_resealed_history_that_keeps_the_rules_is_found_by_a_head_alone(copy):
    head = entries(copy)[-1][2].hex()
    reseal(copy, change(documents(copy), 4, purpose="a nicer purpose"))
    assert check(copy).ok
    assert not check(copy, head=head).ok


def test_an_answer_that_is_swapped_for_a_resealed_one_is_found_by_a_head_alone(copy, original):
    head = entries(copy)[-1][2].hex()
    new = b"another answer, sealed"
    bodies = documents(copy)
    with Open(copy) as db:
        db.execute("UPDATE answer SET body = ? WHERE rowid = 1", (new,))
    reseal(copy, change(bodies, 6, answer=answer_hash(new)))
    assert check(copy).ok
    assert not check(copy, head=head).ok
    # It was not encrypted with the site's key, and is not given out.
    with (
        open_ledger(f"sqlite:///{copy}", answer_key=f"{original}-answers.key") as ledger,
        pytest.raises(LedgerRefused, match="another key"),
        ledger.spend("aml", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="a count"),
    ):
        pytest.fail("the block must not run")


def test_a_cost_may_differ_by_the_last_bits_of_another_machine_and_no_more(copy):
    bodies = documents(copy)
    units = int(bodies[3]["amounts"][0].replace(".", ""))
    assert units == round_up(rho_of(DiscreteGaussian(noise_multiplier=20.0)), LOSS)
    for off, ok in ((1, True), (1000, True), (-1000, True), (2000, False), (-2000, False)):
        reseal(copy, change(bodies, 4, **costing(f"0.{units + off:018d}")))
        assert check(copy).ok is ok, off


# Garbage


def replayed(bodies):
    """Replay documents with hashes that fit; return the rule that the first bad one breaks, or None."""
    raw = {place: canonical(body) for place, body in enumerate(bodies, start=1)}
    replay = Replay(Books(), raw.__getitem__)
    head = START
    for place, body in enumerate(bodies, start=1):
        data = canonical(body)
        head = entry_hash(head, data)
        try:
            replay.extend(place, data, head)
        except BrokenRule as error:
            return str(error)
    return None


def test_no_value_in_a_resealed_document_makes_the_rules_throw(copy):
    # Every field of an entry of each kind, with every kind of value: broken rules, no other exceptions.
    bodies = documents(copy)
    assert replayed(bodies) is None
    values = [None, True, -1, 2**70, "", "x", "nan", "1e999", "0" * 64, [], [1], [["x", 1]], {}, {"kind": "gaussian"}]
    tried = 0
    for body in {body["kind"]: body for body in reversed(bodies)}.values():
        for name, value in itertools.product(body, values):
            if body[name] != value:
                seq = body["seq"]
                broken = replayed([{**each, name: value} if each["seq"] == seq else each for each in bodies])
                # Another text may be as good; the journal's answers are checked elsewhere.
                assert broken or isinstance(value, str) or (name, value) == ("answer", None), (
                    body["kind"],
                    name,
                    value,
                )
                tried += 1
    assert tried > 500


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
