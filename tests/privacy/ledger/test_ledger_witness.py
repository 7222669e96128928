"""A witness never countersigns two stories: rollbacks, forks, rewritten histories, strangers and races are refused."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerError
from privacy.ledger.merkle import EMPTY_ROOT, Tree, leaf_hash
from privacy.ledger.notes import Checkpoint, Note, Signer, Verifier, cosignature_time
from privacy.ledger.witness import LocalWitness, WitnessConflict, WitnessRefused, WitnessUnavailable

RACER = Path(__file__).with_name("witness_racer.py")
RACE_ROUNDS = 6
ORIGIN = "vienna.example/ledger"
NOW = 1_800_000_000


def key(seed):
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


LOG, OTHER_LOG, STRANGER = Signer(ORIGIN, key(1)), Signer("linz.example/ledger", key(2)), Signer(ORIGIN, key(3))
SIGNER = Signer("graz.example/witness", key(4))


def tree_of(*leaves):
    tree = Tree()
    tree.extend([leaf_hash(str(leaf).encode()) for leaf in leaves])
    return tree


def note_of(tree, size=None, *, origin=ORIGIN, signer=LOG):
    size = tree.size if size is None else size
    text = Checkpoint(origin, size, tree.root(size)).text
    return Note(text, (signer.sign_note(text),)).render()


HONEST = tree_of(*range(20))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "witness.db"


def witness_at(path, cls=LocalWitness):
    logs = {ORIGIN: LOG.verifier, OTHER_LOG.name: OTHER_LOG.verifier}
    return cls(path, SIGNER, logs, clock=lambda: NOW)


@pytest.fixture
def witness(path):
    """A witness whose last checkpoint is of size 10."""
    witness = witness_at(path)
    witness.add_checkpoint(old_size=0, proof=(), note=note_of(HONEST, 10))
    return witness


def ask(witness, tree, size, old_size=10, **options):
    proof = tree.consistency_proof(old_size, size) if old_size <= size else ()
    return witness.add_checkpoint(old_size=old_size, proof=proof, note=note_of(tree, size, **options))


def refused(witness, reason, tree, size, old_size=10, **options):
    before = witness.latest(ORIGIN)
    with pytest.raises(WitnessRefused) as caught:
        ask(witness, tree, size, old_size, **options)
    assert caught.value.reason == reason
    assert witness.latest(ORIGIN) == before
    return caught.value


def is_cosigned(witness, tree, size, line):
    text = Checkpoint(ORIGIN, size, tree.root(size)).text
    return Verifier.parse(witness.vkey).verify(text, line)


def test_a_growing_journal_is_countersigned_at_each_size(path):
    witness, old = witness_at(path), 0
    assert witness.latest(ORIGIN) is None
    for size in (1, 2, 3, 8, 15, 20):
        line = ask(witness, HONEST, size, old)
        assert is_cosigned(witness, HONEST, size, line)
        assert cosignature_time(line) == NOW
        last = witness.latest(ORIGIN)
        assert Checkpoint.parse(last.text) == Checkpoint(ORIGIN, size, HONEST.root(size))
        assert last.signed_by(LOG.verifier)
        assert last.with_signatures([line]).signed_by(Verifier.parse(witness.vkey))
        old = size
    assert witness.name == SIGNER.name
    assert witness.latest(OTHER_LOG.name) is None


def test_an_empty_journal_may_be_the_first_and_grow(path):
    witness = witness_at(path)
    assert is_cosigned(witness, HONEST, 0, ask(witness, HONEST, 0, 0))
    assert Checkpoint.parse(witness.latest(ORIGIN).text).root == EMPTY_ROOT
    assert is_cosigned(witness, HONEST, 7, ask(witness, HONEST, 7, 0))
    refused(witness, "smaller", HONEST, 0, 0)


def test_journals_do_not_touch_each_other(witness):
    text = Checkpoint(OTHER_LOG.name, 3, HONEST.root(3)).text
    witness.add_checkpoint(old_size=0, proof=(), note=Note(text, (OTHER_LOG.sign_note(text),)).render())
    assert Checkpoint.parse(witness.latest(ORIGIN).text).size == 10
    assert Checkpoint.parse(witness.latest(OTHER_LOG.name).text).size == 3


def test_another_size_than_the_caller_believed_is_told(witness):
    for old_size in (0, 9, 11):
        with pytest.raises(WitnessConflict) as caught:
            ask(witness, HONEST, 15, old_size)
        assert caught.value.size == 10
    assert is_cosigned(witness, HONEST, 15, ask(witness, HONEST, 15, caught.value.size))


def test_a_rollback_is_refused(witness):
    for old_size in (0, 9, 10):
        error = refused(witness, "smaller", HONEST, 9, old_size)
        assert error.size == 10


def test_a_fork_is_refused_whatever_the_caller_says_of_the_old_size(witness):
    forked = tree_of(*range(9), "changed")
    for old_size in (0, 9, 10):
        assert refused(witness, "fork", forked, 10, old_size).size == 10


def test_a_rewritten_history_is_refused(witness):
    for changed in range(10):
        rewritten = tree_of(*range(changed), "changed", *range(changed + 1, 20))
        assert refused(witness, "inconsistent", rewritten, 20).size == 10
        with pytest.raises(WitnessRefused):
            witness.add_checkpoint(old_size=10, proof=HONEST.consistency_proof(10, 20), note=note_of(rewritten))


def test_proofs_that_are_missing_changed_or_out_of_place_are_refused(witness):
    proof = HONEST.consistency_proof(10, 20)
    wrong = [(), proof[:-1], proof[1:], (*proof, proof[0]), (bytes(32), *proof[1:]), (b"short", *proof[1:]), (None,)]
    for nodes in wrong:
        with pytest.raises(WitnessRefused) as caught:
            witness.add_checkpoint(old_size=10, proof=nodes, note=note_of(HONEST, 20))
        assert caught.value.reason == "inconsistent"
    with pytest.raises(WitnessRefused) as caught:
        witness.add_checkpoint(old_size=10, proof=proof, note=note_of(HONEST, 10))
    assert caught.value.reason == "bad_request"
    refused(witness, "bad_request", HONEST, 12, 13)
    for old_size in (-1, True, "10", None, 2**63):
        with pytest.raises(WitnessRefused) as caught:
            witness.add_checkpoint(old_size=old_size, proof=proof, note=note_of(HONEST, 20))
        assert caught.value.reason == "malformed"
    for nodes in (None, b"", "", 5):
        with pytest.raises(WitnessRefused) as caught:
            witness.add_checkpoint(old_size=10, proof=nodes, note=note_of(HONEST, 20))
        assert caught.value.reason == "malformed"
    assert is_cosigned(witness, HONEST, 20, ask(witness, HONEST, 20))


def test_a_first_checkpoint_comes_without_a_proof_and_from_a_known_journal(path):
    witness = witness_at(path)
    with pytest.raises(WitnessRefused) as caught:
        witness.add_checkpoint(old_size=0, proof=HONEST.consistency_proof(3, 10), note=note_of(HONEST, 10))
    assert caught.value.reason == "bad_request"
    refused(witness, "unknown_log", HONEST, 10, 0, origin="nobody.example/ledger")
    with pytest.raises(WitnessConflict):
        ask(witness, HONEST, 10, 5)


def test_the_wrong_key_is_refused(witness):
    refused(witness, "bad_signature", HONEST, 12, signer=STRANGER)
    refused(witness, "bad_signature", HONEST, 12, signer=OTHER_LOG)
    refused(witness, "bad_signature", HONEST, 12, signer=SIGNER)
    text = Checkpoint(ORIGIN, 12, HONEST.root(12)).text
    # A cosignature, even by the journal's own key, does not open a checkpoint.
    with pytest.raises(WitnessRefused) as caught:
        witness.add_checkpoint(old_size=10, proof=(), note=Note(text, (LOG.cosign(text, time=NOW),)).render())
    assert caught.value.reason == "bad_signature"
    with pytest.raises(ValueError):
        LocalWitness("unused", SIGNER, {ORIGIN: LOG.cosignature_verifier})


def test_an_old_note_that_is_sent_again_is_refused(witness):
    old = note_of(HONEST, 10)
    ask(witness, HONEST, 20)
    for old_size in (0, 10, 20):
        with pytest.raises(WitnessRefused) as caught:
            witness.add_checkpoint(old_size=old_size, proof=(), note=old)
        assert (caught.value.reason, caught.value.size) == ("smaller", 20)


def test_a_note_with_any_changed_byte_is_refused(witness):
    data, proof = note_of(HONEST, 20).encode(), HONEST.consistency_proof(10, 20)
    for at in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            # What is not UTF-8 never becomes a text; here it is carried as one that cannot be written.
            changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            with pytest.raises(WitnessRefused):
                witness.add_checkpoint(old_size=10, proof=proof, note=changed.decode(errors="surrogateescape"))
    for note in ("", None, data, note_of(HONEST, 20) + "\n", HONEST.root(20).hex()):
        with pytest.raises(WitnessRefused):
            witness.add_checkpoint(old_size=10, proof=proof, note=note)
    assert Checkpoint.parse(witness.latest(ORIGIN).text).size == 10


def test_only_the_journals_own_signature_is_kept(witness):
    note = Note.parse(note_of(HONEST, 20)).with_signatures([STRANGER.sign_note("something else\n")] * 50)
    witness.add_checkpoint(old_size=10, proof=HONEST.consistency_proof(10, 20), note=note.render())
    assert witness.latest(ORIGIN).render() == note_of(HONEST, 20)


class DiesAfterCommit(LocalWitness):
    @staticmethod
    def _commit(connection):
        LocalWitness._commit(connection)
        raise KeyboardInterrupt


class DiesBeforeCommit(LocalWitness):
    @staticmethod
    def _commit(_connection):
        raise KeyboardInterrupt


@pytest.mark.usefixtures("witness")
def test_a_witness_that_dies_after_it_remembered_gives_the_cosignature_when_asked_again(path):
    with pytest.raises(KeyboardInterrupt):
        ask(witness_at(path, DiesAfterCommit), HONEST, 20)
    again = witness_at(path)
    # It holds to what it remembered, although nobody ever got the cosignature.
    refused(again, "fork", tree_of(*range(19), "changed"), 20)
    with pytest.raises(WitnessConflict) as caught:
        ask(again, HONEST, 20)
    assert is_cosigned(again, HONEST, 20, ask(again, HONEST, 20, caught.value.size))
    assert is_cosigned(again, HONEST, 20, ask(again, HONEST, 20, 20))


def test_a_witness_that_dies_before_it_remembered_has_said_nothing(path, witness):
    with pytest.raises(KeyboardInterrupt):
        ask(witness_at(path, DiesBeforeCommit), HONEST, 20)
    assert Checkpoint.parse(witness.latest(ORIGIN).text).size == 10
    assert is_cosigned(witness, HONEST, 15, ask(witness, HONEST, 15))


def test_racing_processes_never_get_two_stories_countersigned(tmp_path):
    arguments = [sys.executable, RACER, str(tmp_path / "witness.db"), str(RACE_ROUNDS)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert not done.stderr
    for result in json.loads(done.stdout):
        lines = [said for said in result["said"] if said.startswith("— ")]
        assert len(lines) == 1
        assert all(said.startswith(("— ", "WitnessConflict ", "WitnessRefused ")) for said in result["said"])
        assert Verifier.parse(result["vkey"]).verify(result["last"], lines[0])


@pytest.mark.usefixtures("witness")
def test_the_file_itself_refuses_to_go_back(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in (
            "UPDATE last SET size = 9",
            "UPDATE last SET root = zeroblob(32)",
            "UPDATE last SET origin = 'other'",
            "DELETE FROM last",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


@pytest.mark.parametrize(
    "change", ["size = 11", "note = 'no note'", "note = replace(note, char(10) || '10', char(10) || '11')"]
)
def test_nothing_is_signed_from_a_state_that_contradicts_itself(path, witness, change):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE last SET {change}")
        connection.commit()
    with pytest.raises(WitnessUnavailable, match="find out why"):
        ask(witness, HONEST, 20)
    with pytest.raises(WitnessUnavailable):
        witness.latest(ORIGIN)


def test_a_file_that_is_lost_foreign_or_unreachable_is_not_taken_for_a_new_witness(path, witness, tmp_path):
    path.rename(tmp_path / "moved.db")
    for call in (lambda: ask(witness, HONEST, 20), lambda: witness.latest(ORIGIN)):
        with pytest.raises(WitnessUnavailable):
            call()
    assert not path.exists()
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at as one" * 20)
    (tmp_path / "gone.db-journal").write_bytes(b"rest")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nowhere")
    for name in ("empty.db", "text.db", "gone.db", "dangling.db", "no folder/witness.db"):
        with pytest.raises(WitnessUnavailable):
            witness_at(tmp_path / name)
    assert is_cosigned(witness, HONEST, 20, ask(witness_at(tmp_path / "moved.db"), HONEST, 20))


@pytest.mark.usefixtures("witness")
def test_the_state_is_private_and_leaves_no_other_file(path):
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_errors_are_the_ledgers():
    assert all(issubclass(error, LedgerError) for error in (WitnessConflict, WitnessRefused, WitnessUnavailable))
