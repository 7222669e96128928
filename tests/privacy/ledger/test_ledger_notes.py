"""Notes, checkpoints and cosignatures are those of C2SP; what differs by a bit or was signed as another kind fails."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.ledger.merkle import EMPTY_ROOT, MAX_SIZE
from privacy.ledger.notes import (
    COSIGNATURE_TYPE,
    MAX_SIGNATURES,
    NOTE_TYPE,
    Checkpoint,
    Note,
    Signer,
    Verifier,
    cosignature_time,
    verify_statement,
)

# golang.org/x/mod/sumdb/note, the reference implementation's own example: key, seed, text, signature.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# Made by github.com/transparency-dev/formats, as kept in github.com/yaglo/signed_note, typed_notes.tsv.
FORMATS_VKEY = "vec.example/cosigv10+c12688da+BLMSTPoQj0PojM8eKiPf9xUT8g6b0OuMyvYb5sSu9JH5"
FORMATS_NOTE = base64.b64decode(
    "dmVjLmV4YW1wbGUvY29zaWd2MTAKNDIKQ3NVWWFwR0dQbzRka01nSUFVcW9tL1hhamo3aDJmQjJNUEEzajJqeHEyST0KCuKAlCB2ZWMuZXhhbXBs"
    "ZS9jb3NpZ3YxMCB3U2FJMmdBQUFBQnFiTDVRM0hqYlRDSmVxTWczdG1wZFlHQWcwNWlqVGk3azBweXJlSlNVTG10djNnK3lYSCtHL0tvODdKRytR"
    "a0xGNmFmOStHVlZObEVJZ2Y2VDBidzB3UXlNRHc9PQo="
).decode()
# The example of c2sp.org/tlog-cosignature; its keys are not published.
C2SP_NOTE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
TIME = 1_679_315_147


def signer(name="vienna.example/ledger", seed=1):
    return Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


LOG, WITNESS = signer(), signer("graz.example/witness", 2)
CHECKPOINT = Checkpoint("vienna.example/ledger", 5, bytes(range(32)))
BOTH = Note(CHECKPOINT.text, (LOG.sign_note(CHECKPOINT.text), WITNESS.cosign(CHECKPOINT.text, time=TIME)))


def accepted(data):
    try:
        note = Note.parse(data.decode())
        Checkpoint.parse(note.text)
    except ValueError:
        return False
    return note.signed_by(LOG.verifier) and note.signed_by(WITNESS.cosignature_verifier)


def test_the_go_reference_example_is_made_and_verified_bit_for_bit():
    peter = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(GO_SEED))
    assert peter.verifier.vkey == GO_VKEY
    assert peter.key_id == 0xC74F20A3
    assert peter.sign_note(GO_TEXT) == GO_LINE
    note = Note.parse(GO_TEXT + "\n" + GO_LINE)
    assert note == Note(GO_TEXT, (GO_LINE,))
    assert note.signed_by(Verifier.parse(GO_VKEY))


def test_a_cosignature_made_by_another_implementation_verifies():
    note, verifier = Note.parse(FORMATS_NOTE), Verifier.parse(FORMATS_VKEY)
    assert (verifier.kind, verifier.vkey) == (COSIGNATURE_TYPE, FORMATS_VKEY)
    assert note.signed_by(verifier)
    assert cosignature_time(note.signatures[0]) > TIME
    assert not note.signed_by(Verifier(verifier.name, verifier.public, NOTE_TYPE))
    assert not Note.parse(FORMATS_NOTE.replace("\n42\n", "\n43\n")).signed_by(verifier)


def test_the_example_of_the_specification_is_read_and_written():
    note = Note.parse(C2SP_NOTE)
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(checkpoint.root).decode() == "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert (checkpoint.text, note.render()) == (note.text, C2SP_NOTE)
    assert cosignature_time(note.signatures[1]) == TIME
    with pytest.raises(ValueError):
        cosignature_time(note.signatures[0])


def test_every_flipped_bit_of_a_note_is_noticed():
    data = BOTH.render().encode()
    assert accepted(data)
    for at in range(len(data)):
        for bit in range(8):
            assert not accepted(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


def test_every_missing_doubled_or_added_byte_of_a_note_is_noticed():
    data = BOTH.render().encode()
    for at in range(len(data)):
        assert not accepted(data[:at] + data[at + 1 :])
        assert not accepted(data[:at] + data[at : at + 1] + data[at:])
        assert not accepted(data[:at] + b"\r" + data[at:])
    assert not accepted(data + b"\n")


def test_signatures_of_strangers_are_carried_and_do_not_count():
    stranger = signer("linz.example/other", 3)
    note = BOTH.with_signatures([stranger.sign_note(CHECKPOINT.text), "— vienna.example/ledger AAAAAAAA\n"])
    assert Note.parse(note.render()) == note
    assert note.signed_by(LOG.verifier)
    assert note.signed_by(stranger.verifier)
    assert not note.signed_by(signer("linz.example/other", 4).verifier)
    assert not note.signed_by(signer("vienna.example/ledger", 3).verifier)


def test_one_wrong_line_in_a_keys_name_spoils_the_note():
    wrong = LOG.sign_note("another text\n")
    for lines in [(LOG.sign_note(CHECKPOINT.text), wrong), (wrong, LOG.sign_note(CHECKPOINT.text)), (wrong,)]:
        assert not Note(CHECKPOINT.text, lines).signed_by(LOG.verifier)


def test_one_key_signs_notes_cosignatures_and_statements_and_none_passes_for_another():
    text = CHECKPOINT.text
    line, cosigned = LOG.sign_note(text), LOG.cosign(text, time=TIME)
    assert LOG.key_id != LOG.cosignature_verifier.key_id
    assert LOG.verifier.verify(text, line)
    assert LOG.cosignature_verifier.verify(text, cosigned)
    assert not LOG.verifier.verify(text, cosigned)
    assert not LOG.cosignature_verifier.verify(text, line)

    def as_line(verifier, signature):
        data = verifier.key_id.to_bytes(4, "big") + signature
        return f"— {verifier.name} {base64.b64encode(data).decode()}\n"

    raw, stamped = base64.b64decode(line.split()[2])[4:], base64.b64decode(cosigned.split()[2])[4:]
    # The same signatures under the key id of the other kind, over every text that they could be claimed for.
    for claimed in (text, f"cosignature/v1\ntime {TIME}\n{text}"):
        assert not LOG.verifier.verify(claimed, as_line(LOG.verifier, stamped[8:]))
        assert not LOG.cosignature_verifier.verify(claimed, as_line(LOG.cosignature_verifier, stamped[:8] + raw))
    # The cosignature is a genuine Ed25519 signature over that text: only the refused header keeps it from being a note.
    Ed25519PublicKey.from_public_bytes(LOG.public).verify(stamped[8:], f"cosignature/v1\ntime {TIME}\n{text}".encode())
    body = b"5\n" + base64.b64encode(CHECKPOINT.root) + b"\n"
    statement = LOG.sign_statement("vienna", body)
    claimed = "synthema/vienna\n" + body.decode()
    Ed25519PublicKey.from_public_bytes(LOG.public).verify(statement, claimed.encode())
    assert not LOG.verifier.verify(claimed, as_line(LOG.verifier, statement))
    assert not verify_statement(LOG.public, "vienna", body, raw)
    assert not verify_statement(LOG.public, "vienna", text.encode(), raw)


@pytest.mark.parametrize("text", ["cosignature/v1\ntime 5\n", "synthema/\n", "synthema/restore\nbody\n", "synthema/x"])
def test_texts_that_begin_like_another_kind_are_neither_signed_nor_made(text):
    with pytest.raises(ValueError):
        LOG.sign_note(text)
    with pytest.raises(ValueError):
        Checkpoint(text.split("\n")[0] if text.startswith("synthema") else text, 1, bytes(32))


def test_a_cosignature_binds_its_time():
    line = WITNESS.cosign(CHECKPOINT.text, time=TIME)
    data = base64.b64decode(line.split()[2])
    for at in range(4, 12):
        other = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        changed = f"— {WITNESS.name} {base64.b64encode(other).decode()}\n"
        assert not WITNESS.cosignature_verifier.verify(CHECKPOINT.text, changed)
    for time in (-1, 2**63, True, 1.5, "5", None):
        with pytest.raises(ValueError):
            WITNESS.cosign(CHECKPOINT.text, time=time)
    for text in ("a text\n", CHECKPOINT.text + "extension\n", ""):
        with pytest.raises(ValueError):
            WITNESS.cosign(text, time=TIME)


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        f"a\n1\n{ROOT}",
        f"a\n1\n{ROOT}\n\n",
        f"a\n1\n{ROOT}\nextension\n",
        f"\n1\n{ROOT}\n",
        f"a\n01\n{ROOT}\n",
        f"a\n+1\n{ROOT}\n",
        f"a\n-1\n{ROOT}\n",
        f"a\n1 \n{ROOT}\n",
        f"a\n1_0\n{ROOT}\n",
        f"a\n١\n{ROOT}\n",
        f"a\n\n{ROOT}\n",
        f"a\n{MAX_SIZE + 1}\n{ROOT}\n",
        f"a\n{'9' * 5000}\n{ROOT}\n",
        f"a\n0\n{ROOT}\n",
        f"a\r\n1\n{ROOT}\n",
        f"a\tb\n1\n{ROOT}\n",
        f"a\ud800\n1\n{ROOT}\n",
        f"a\n1\n{ROOT[:-1]}\n",
        f"a\n1\n{ROOT[:-2]}B=\n",
        f"a\n1\n{ROOT[:-1]}==\n",
        f"a\n1\n {ROOT}\n",
        f"a\n1\n{ROOT[:-4]}\n",
        f"a\n1\n{ROOT.replace('A', '_')}\n",
        None,
        b"a",
    ],
)
def test_texts_that_are_no_checkpoint(text):
    with pytest.raises(ValueError):
        Checkpoint.parse(text)


def test_the_smallest_and_the_largest_checkpoint():
    for checkpoint in (Checkpoint("a b+é", 0, EMPTY_ROOT), Checkpoint("a", MAX_SIZE, bytes(32))):
        assert Checkpoint.parse(checkpoint.text) == checkpoint
    for arguments in [
        ("a", -1, bytes(32)),
        ("a", True, bytes(32)),
        ("a", 1, bytes(31)),
        ("a", 1, "x" * 32),
        (1, 1, bytes(32)),
    ]:
        with pytest.raises(ValueError):
            Checkpoint(*arguments)


@pytest.mark.parametrize(
    "rendered",
    [
        GO_TEXT,
        GO_TEXT + "\n",
        GO_TEXT + GO_LINE,
        GO_TEXT + "\n" + GO_LINE[:-1],
        GO_TEXT + "\n" + GO_LINE + "Unexpected line.\n",
        GO_TEXT + "\n" + GO_LINE + "\n",
        "\x01" + GO_TEXT + "\n" + GO_LINE,
        "\ud800" + GO_TEXT + "\n" + GO_LINE,
        GO_TEXT + "\n" + GO_LINE.replace("PeterNeumann", "Bad Name"),
        GO_TEXT + "\n" + GO_LINE.replace("PeterNeumann", "Bad+Name"),
        GO_TEXT + "\n" + GO_LINE.replace("PeterNeumann", "Bad\u2003Name"),
        GO_TEXT + "\n" + GO_LINE.replace("PeterNeumann", ""),
        GO_TEXT + "\n" + GO_LINE.replace("—", "-"),
        GO_TEXT + "\n" + GO_LINE.replace("— ", "—  "),
        GO_TEXT + "\n" + GO_LINE.replace("M=", "N="),
        GO_TEXT + "\n" + "— PeterNeumann x08gow==\n",
        GO_TEXT + "\n" + GO_LINE * (MAX_SIGNATURES + 1),
        "a" * 1_000_000 + "\n\n" + GO_LINE,
        "\n" + GO_LINE,
        None,
        b"",
    ],
)
def test_texts_that_are_no_note(rendered):
    with pytest.raises(ValueError):
        Note.parse(rendered)


def test_a_text_may_hold_blank_lines_and_a_note_many_signatures():
    for text in ("\n", "a\n\nb\n", "a\n\n", "— a AAAAAAAA\n", "a\u2028b\u0085\n"):
        note = Note(text, (LOG.sign_note(text),) * MAX_SIGNATURES)
        assert Note.parse(note.render()) == note
        assert note.signed_by(LOG.verifier)
    for lines in ((), [GO_LINE], ("nothing\n",), (GO_LINE, None)):
        with pytest.raises(ValueError):
            Note(GO_TEXT, lines)


def test_keys_as_text_are_read_only_as_they_are_written():
    for verifier in (LOG.verifier, WITNESS.cosignature_verifier):
        assert Verifier.parse(verifier.vkey) == verifier
        data = verifier.vkey.encode()
        for at in range(len(data)):
            for bit in range(8):
                with pytest.raises(ValueError):
                    Verifier.parse((data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]).decode())
    wrong = [
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        # From the reference implementation's tests: a key too long and an unknown type, each with the id to fit.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        "",
        None,
    ]
    for vkey in wrong:
        with pytest.raises(ValueError):
            Verifier.parse(vkey)
