"""What leaves the house: an export and a proof are believed only as they were written, and only for what they say."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import DiscreteGaussian, LedgerCorrupt, NonPrivate, ZeroConcentratedDP
from privacy.ledger import (
    LedgerRefused,
    LedgerUnavailable,
    LocalWitness,
    ProofInvalid,
    Signer,
    WitnessPolicy,
    canonical,
    check_proof,
    open_ledger,
    prove,
    verify,
    verify_export,
    verify_file,
)
from privacy.ledger.chain import START, entry_hash
from privacy.ledger.export import export, tree_of
from privacy.ledger.history import history
from privacy.ledger.notes import Checkpoint, Note
from privacy.ledger.rules import origin_of

SITE, WITNESS, OTHER = (
    Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32))
    for i, name in enumerate(("vienna/ledger", "madrid/witness", "other/ledger"), start=1)
)
SITE_KEY, WITNESS_KEY = SITE.verifier.vkey, WITNESS.cosignature_verifier.vkey
SECRET = 987654321


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ledger with every kind of entry, cosigned at its end, and its export."""
    folder = tmp_path_factory.mktemp("export")
    url = f"sqlite:///{folder}/site.db"
    with open_ledger(url, site="vienna", signer=SITE) as ledger:
        ledger.set_key("site", SITE_KEY, reason="first", holder=SITE)
        origin = origin_of(ledger.ledger_id)
    witness = LocalWitness(folder / "witness.db", WITNESS, {origin: SITE.verifier})
    with open_ledger(url, signer=SITE, witnesses=WitnessPolicy([witness])) as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        ledger.open_account("part", epsilon=1.0, delta=1e-6, neighbours="add_remove_one", parent="aml")
        ledger.open_exact_account("exact")
        with ledger.spend("part", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="zählen ✓") as block:
            block.release(SECRET)
        ledger.reserve("aml", ZeroConcentratedDP(0.01), key="2", purpose="a count")
        ledger.void("2")
        ledger.reserve("aml", ZeroConcentratedDP(0.01), key="2", purpose="a count")
        ledger.set_cap("aml", epsilon=2.0, delta=1e-6, reason="ethics board")
        ledger.record_data("2026-11", change="refresh", reason="a new extract")
        with ledger.spend("exact", NonPrivate("a curve"), key="4", purpose="a curve") as block:
            block.release(5)
        ledger.checkpoint()
        assert export(ledger, folder / "site.export") == ledger.head[0]
    return folder


@pytest.fixture
def url(folder):
    return f"sqlite:///{folder}/site.db"


@pytest.fixture
def data(folder):
    return (folder / "site.export").read_bytes()


def checked(tmp_path, data, **brought):
    path = tmp_path / "changed.export"
    path.write_bytes(data)
    return verify_export(path, **brought)


def resealed(lines):
    """Lines with a last line that fits: what whoever holds the file can do."""
    body = b"".join(line + b"\n" for line in lines)
    return body + canonical.encode({"sha256": hashlib.sha256(body).hexdigest()}) + b"\n"


def rewritten(data, change):
    """The export with another history: every hash, the header and the last line fit."""
    header, *rows = [json.loads(line) for line in data.splitlines()[:-1]]
    documents = change([json.loads(row["body"]) for row in rows])
    last, lines = START, []
    for seq, document in enumerate(documents, start=1):
        body = canonical.encode(document | {"seq": seq})
        last = entry_hash(last, body)
        lines.append(canonical.encode({"seq": seq, "body": body.decode(), "hash": last.hex()}))
    header |= {"size": len(lines), "hash": last.hex(), "note": None}
    return resealed([canonical.encode(header), *lines])


# Exports


def test_an_export_verifies_offline_with_public_keys_alone_and_says_how_far_it_is_vouched_for(folder, url, data):
    path = folder / "site.export"
    size = verify(url).entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert verify_export(path).assurance == "chain"
    assert verify_export(path, site_key=SITE_KEY).assurance == "signed"
    assert "never in force" in verify_export(path, site_key=OTHER.verifier.vkey).problems[0]
    result = verify_export(path, site_key=SITE_KEY, witness_keys=[WITNESS_KEY])
    assert (result.ok, result.assurance, result.covered, result.entries) == (True, "witnessed", size, size)
    assert verify_export(path, head=json.loads(data.splitlines()[-2])["hash"]).assurance == "chain+head"
    assert verify_file(path) == verify_export(path)
    assert verify_file(folder / "site.db") == verify(url)


def test_an_export_holds_every_body_and_no_answer(url, data):
    header, *rows, _ = [json.loads(line) for line in data.splitlines()]
    with open_ledger(url) as ledger:
        entries = ledger.entries()
        assert (
            ledger.reserve("part", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="zählen ✓").stored
            == SECRET
        )
    assert [json.loads(row["body"]) for row in rows] == [entry.body for entry in entries]
    assert [row["hash"] for row in rows] == [entry.hash for entry in entries]
    assert header["note"].count("—") == 2
    assert str(SECRET).encode() not in data


def test_an_export_by_url_is_the_same_file_and_never_overwrites_one(url, data, tmp_path):
    export(url, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data
    with pytest.raises(LedgerRefused, match="exists"):
        export(url, tmp_path / "again")
    with pytest.raises(LedgerUnavailable, match="not there"):
        export(f"sqlite:///{tmp_path}/none.db", tmp_path / "new")
    with pytest.raises(LedgerUnavailable):
        export(url, tmp_path / "no-folder" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]


def test_what_is_no_ledger_is_not_exported(tmp_path):
    (tmp_path / "x.db").write_text("no database")
    with pytest.raises(LedgerCorrupt):
        export(f"sqlite:///{tmp_path}/x.db", tmp_path / "x")
    assert not (tmp_path / "x").exists()


# Seventeen and eight have no common divisor, so the bit changes from one position to the next.
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 17], ids=["all", "one in 17"])
def test_every_flipped_bit_of_a_small_export_is_rejected(tmp_path, step):
    with open_ledger(f"sqlite:///{tmp_path}/small.db", site="v") as ledger:
        export(ledger, tmp_path / "small")
    data = (tmp_path / "small").read_bytes()
    assert checked(tmp_path, data).ok, "the untouched file verifies, so what follows is found by content"
    for index in range(0, 8 * len(data), step):
        position, bit = divmod(index, 8)
        changed = bytearray(data)
        changed[position] ^= 1 << bit
        assert not checked(tmp_path, changed).ok, (position, bit)


def test_flipped_bits_of_a_long_export_are_rejected_and_the_first_bad_entry_is_named(tmp_path, data):
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for position in random.Random(1).sample(range(len(data)), 150):
        changed = bytearray(data)
        changed[position] ^= 1
        result = checked(tmp_path, changed)
        line = sum(start <= position for start in starts) - 1
        assert not result.ok, position
        assert result.assurance == "none"
        if 0 < line < len(starts) - 2 and changed[position] != 10:
            assert result.first_bad == line, position


@pytest.mark.parametrize("cut", [1, 2, 40, 400])
def test_a_truncated_export_and_one_with_something_after_its_end_are_rejected(tmp_path, data, cut):
    assert not checked(tmp_path, data[:-cut]).ok
    assert not checked(tmp_path, data + b"x" * cut).ok
    assert not checked(tmp_path, data + b"\n" * cut).ok


def test_lines_dropped_swapped_or_added_are_rejected_although_the_last_line_fits(tmp_path, data):
    lines = data.splitlines()[:-1]
    assert checked(tmp_path, resealed(lines)).ok
    for changed in (
        lines[:-1],
        lines[:5] + lines[6:],
        [*lines[:4], lines[5], lines[4], *lines[6:]],
        [*lines, lines[-1]],
    ):
        assert not checked(tmp_path, resealed(changed)).ok
    assert checked(tmp_path, resealed(lines[:5] + lines[6:])).first_bad == 5


@pytest.mark.parametrize(
    "change",
    [
        {"size": 3},
        {"hash": "0" * 64},
        {"ledger_id": "0" * 64},
        {"note": "x"},
        {"format": "2"},
        {"more": 1},
        {"size": True},
    ],
)
def test_a_header_that_says_something_else_is_rejected_although_the_last_line_fits(tmp_path, data, change):
    header, *rest = data.splitlines()[:-1]
    assert not checked(tmp_path, resealed([canonical.encode(json.loads(header) | change), *rest])).ok


def test_a_rewritten_history_with_fitting_hashes_fails_by_its_rules_or_by_the_note_that_others_kept(
    tmp_path, data, url
):
    with open_ledger(url) as ledger:
        note = ledger.cosigned
    assert checked(tmp_path, rewritten(data, lambda documents: documents)).ok, "the rewriting itself changes nothing"
    # What the site did not sign: the rules know.
    other = rewritten(data, lambda all_: [d | {"reason": "x"} if d["kind"] == "set_cap" else d for d in all_])
    assert "a signature does not fit" in checked(tmp_path, other).problems[0]
    # A charge that is gone: nothing within the file tells, and any checkpoint from elsewhere does.
    shorter = rewritten(data, lambda documents: documents[:4])
    assert checked(tmp_path, shorter).ok
    result = checked(tmp_path, shorter, notes=[note], site_key=SITE_KEY, witness_keys=[WITNESS_KEY])
    assert not result.ok
    assert "an old copy" in result.problems[0]


def test_a_line_without_end_is_not_read_into_memory(tmp_path, data, monkeypatch):
    monkeypatch.setattr("privacy.ledger.export._LONGEST_LINE", 4000)
    assert checked(tmp_path, data).ok
    lines = data.splitlines()
    long = json.loads(lines[3]) | {"body": "x" * 5000}
    assert not checked(tmp_path, resealed([*lines[:3], canonical.encode(long), *lines[4:-1]])).ok


@pytest.mark.parametrize("text", ["", "{", "{}\n", "[]\n", "nothing\n", '{"sha256":"x"}\n'])
def test_what_is_no_export_is_a_finding_and_no_error(tmp_path, text):
    assert not checked(tmp_path, text.encode()).ok
    assert not verify_file(tmp_path / "changed.export").ok
    assert not verify_export(tmp_path / "nowhere").ok
    with pytest.raises((ValueError, OSError)):
        tree_of(tmp_path / "changed.export")


def test_an_earlier_entry_is_found_again_in_a_long_export(tmp_path):
    with open_ledger(f"sqlite:///{tmp_path}/long.db") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        event = ZeroConcentratedDP(1e-6)
        ledger.reserve_many("aml", [(f"k{i}", event) for i in range(150)], purpose="p")
        for key in ("k0", "k70", "k149"):
            ledger.void(key)
            ledger.reserve_many("aml", [(key, event)], purpose="p")
        export(ledger, tmp_path / "long")
    assert verify_export(tmp_path / "long").ok
    # The terms of a key are looked up: other terms are found.
    data = (tmp_path / "long").read_bytes()
    other = rewritten(data, lambda all_: [*all_[:-1], all_[-1] | {"purpose": "q"}])
    assert "used before" in checked(tmp_path, other).problems[0]


# Proofs


@pytest.fixture
def bundle(url):
    return prove(url, 7)


def sealed(fields):
    fields = {name: value for name, value in fields.items() if name != "sha256"}
    return canonical.encode({**fields, "sha256": hashlib.sha256(canonical.encode(fields)).hexdigest()}) + b"\n"


def check(bundle, **more):
    return check_proof(bundle, **{"site_key": SITE_KEY, "witness_keys": [WITNESS_KEY], **more})


def test_a_proof_of_each_entry_says_what_the_journal_says_in_less_than_four_kilobytes(url):
    with open_ledger(url) as ledger:
        for entry in ledger.entries():
            bundle = prove(ledger, entry.seq)
            found = check(bundle, ledger_id=ledger.ledger_id)
            assert (found["entry"], found["seq"], found["assurance"]) == (entry.body, entry.seq, "witnessed")
            assert found["witnesses"][0][0] == "madrid/witness"
            assert len(bundle) < 4000
    assert check(bundle, witness_keys=[])["assurance"] == "signed"


def test_any_flipped_byte_of_a_proof_is_rejected(bundle):
    check(bundle)
    for position in range(len(bundle)):
        changed = bytearray(bundle)
        changed[position] ^= 1 + position % 127
        with pytest.raises(ProofInvalid):
            check_proof(bytes(changed), site_key=SITE_KEY)


def test_a_proof_that_was_changed_and_sealed_again_is_rejected(bundle):
    fields = json.loads(bundle)
    check(sealed(fields))
    changes = [{"index": 6 + 1}, {"size": fields["size"] - 1}, {"proof": fields["proof"][:-1]}, {"index": True}]
    changes += [
        {"body": fields["body"].replace("vienna", "madrid", 1) + " "},
        {"proof": [*fields["proof"], fields["proof"][0]]},
    ]
    changes += [
        {"note": fields["note"].replace(f"\n{fields['size']}\n", f"\n{fields['size'] - 1}\n")},
        {"proof": "x"},
        {"more": 1},
    ]
    for place in range(0, len(fields["note"]), 3):
        letter = "A" if fields["note"][place] != "A" else "B"
        changes.append({"note": fields["note"][:place] + letter + fields["note"][place + 1 :]})
    for i, each in enumerate(fields["proof"]):
        node = bytearray(base64.b64decode(each))
        node[0] ^= 1
        proof = [*fields["proof"]]
        proof[i] = base64.b64encode(node).decode()
        changes.append({"proof": proof})
    for change in changes:
        with pytest.raises(ProofInvalid):
            check(sealed(fields | change))


def test_a_proof_is_checked_against_the_keys_and_the_ledger_that_the_reader_had_from_elsewhere(bundle):
    with pytest.raises(ProofInvalid, match="not signed by the site"):
        check(bundle, site_key=OTHER.verifier.vkey)
    with pytest.raises(ProofInvalid, match="not cosigned"):
        check(bundle, witness_keys=[OTHER.cosignature_verifier.vkey])
    with pytest.raises(ProofInvalid, match="another ledger"):
        check(bundle, ledger_id="0" * 64)
    for keys in ({"site_key": WITNESS_KEY}, {"witness_keys": [SITE_KEY]}, {"site_key": "x"}):
        with pytest.raises(ValueError, match="key"):
            check(bundle, **keys)
    for nothing in (b"", b"\n", b"{}\n", "text", b"x" * 2_000_000):
        with pytest.raises(ProofInvalid):
            check(nothing)


def test_what_no_checkpoint_covers_is_not_proved(tmp_path):
    url = f"sqlite:///{tmp_path}/site.db"
    with open_ledger(url, signer=SITE) as ledger:
        with pytest.raises(LedgerRefused, match="no checkpoint covers entry 1"):
            prove(ledger, 1)
        ledger.set_key("site", SITE_KEY, reason="first", holder=SITE)
        note = ledger.checkpoint()
        assert check_proof(prove(ledger, 2), site_key=SITE_KEY)["kind"] == "rotate_key"
        assert prove(url, 2, note=note) == prove(url, 2)
        with pytest.raises(LedgerRefused, match="no checkpoint covers entry 3"):
            prove(ledger, 3)
        for seq in (0, 4, True, "1"):
            with pytest.raises(LedgerRefused, match="no entry"):
                prove(ledger, seq)
        text = Checkpoint(origin_of(ledger.ledger_id), 2, bytes(32)).text
        with pytest.raises(LedgerCorrupt):
            prove(ledger, 1, note=Note(text, (SITE.sign_note(text),)).render())
        text = Checkpoint(origin_of("0" * 64), 2, bytes(32)).text
        with pytest.raises(LedgerRefused, match="another ledger"):
            prove(ledger, 1, note=Note(text, (SITE.sign_note(text),)).render())


# Over time


def test_the_history_of_an_account_ends_where_it_stands_and_charges_the_account_above(url):
    with open_ledger(url) as ledger:
        found = {each.account: each.points for each in history(ledger)}
        assert set(found) == {"aml", "part"}, "an exact account has no epsilon"
        for name, points in found.items():
            left = ledger.remaining(name)
            assert (points[-1].epsilon_spent, points[-1].epsilon_cap) == (left.epsilon_spent, left.epsilon_cap)
            assert [point.seq for point in points] == sorted(point.seq for point in points)
    assert [point.epsilon_cap for point in found["aml"]] == [3.0, 3.0, 2.0]
    assert found["aml"][0].epsilon_spent == 0.0


def test_a_long_history_is_thinned_and_keeps_its_ends_and_its_caps(tmp_path, monkeypatch):
    monkeypatch.setattr("privacy.ledger.history.MOST_POINTS", 8)
    with open_ledger(f"sqlite:///{tmp_path}/long.db") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        for part in range(2):
            batch = ledger.reserve_many(
                "aml", [(f"{part}-{i}", ZeroConcentratedDP(1e-5)) for i in range(50)], purpose="p"
            )
            ledger.start_many(batch)
            ledger.set_cap("aml", epsilon=2.5 - part, delta=1e-6, reason="r")
        (found,) = history(ledger)
        assert len(found.points) < 24
        assert found.points[-1].epsilon_spent == ledger.remaining("aml").epsilon_spent
        assert {2.5, 1.5, 3.0} == {point.epsilon_cap for point in found.points}
