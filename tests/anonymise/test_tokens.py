import json
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from anonymise import KeyRing, PseudonymKey, TokenRejected, decrypt_ids, encrypt_ids, reencrypt_ids

VECTORS = json.loads((Path(__file__).parent / "vectors" / "aes_siv.json").read_text(encoding="utf-8"))
SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
DOMAIN = ("aml-2026", "patient")


def doubled(block):
    number = int.from_bytes(block, "big") << 1
    return ((number ^ 0x87) & ((1 << 128) - 1) if number >> 128 else number).to_bytes(16, "big")


def cmac(key, data):
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def siv(key, plaintext, associated):
    """RFC 5297, sections 2.4 and 2.6, word by word."""
    first, second = key[: len(key) // 2], key[len(key) // 2 :]
    d = cmac(first, bytes(16))
    for data in associated:
        d = xor(doubled(d), cmac(first, data))
    if len(plaintext) >= 16:
        t = plaintext[:-16] + xor(plaintext[-16:], d)
    else:
        t = xor(doubled(d), plaintext + b"\x80" + bytes(15 - len(plaintext)))
    tag = cmac(first, t)
    q = (int.from_bytes(tag, "big") & ~(1 << 63) & ~(1 << 31)).to_bytes(16, "big")
    stream = Cipher(algorithms.AES(second), modes.CTR(q)).encryptor()
    return tag + stream.update(plaintext) + stream.finalize()


@pytest.mark.parametrize("case", VECTORS["tests"], ids=lambda case: case["comment"])
def test_rfc_5297_vectors(case):
    key, plaintext, sealed = (bytes.fromhex(case[name]) for name in ("key", "plaintext", "sealed"))
    associated = [bytes.fromhex(data) for data in case["associated"]]
    assert siv(key, plaintext, associated) == sealed
    assert AESSIV(key).encrypt(plaintext, associated) == sealed


def test_a_token_is_siv_of_the_padded_id_under_the_domains_sub_key():
    subkey = PseudonymKey(SECRET).subkey("token", DOMAIN, length=64)
    for text, padded in (
        ("MRN-1", b"MRN-1\x80" + bytes(10)),
        ("x" * 15, b"x" * 15 + b"\x80"),
        ("x" * 16, b"x" * 16 + b"\x80" + bytes(15)),
    ):
        assert encrypt_ids([text], SECRET, domain=DOMAIN)[0] == siv(subkey, padded, []).hex()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1))
def test_decryption_gives_the_ids_back(ids):
    from anonymise.pseudonyms import id_text

    tokens = encrypt_ids(ids, SECRET, domain=DOMAIN)
    assert decrypt_ids(tokens, SECRET, domain=DOMAIN).tolist() == [id_text(value) for value in ids]
    names = [id_text(value) for value in ids]
    assert len(set(tokens)) == len(set(names))


def test_ids_of_every_kind_and_length_come_back_in_their_rows():
    ids = pd.Series([7, 12, 7, 10**40], dtype=object)
    tokens = encrypt_ids(ids, SECRET, domain=DOMAIN)
    assert tokens[0] == tokens[2] != tokens[1]
    assert decrypt_ids(tokens, SECRET, domain=DOMAIN).tolist() == ["7", "12", "7", str(10**40)]
    assert decrypt_ids(pd.Series(tokens, dtype="category"), SECRET, domain=DOMAIN).tolist()[1] == "12"
    assert encrypt_ids([], SECRET, domain=DOMAIN).shape == decrypt_ids([], SECRET, domain=DOMAIN).shape == (0,)


def test_lengths_show_in_steps_of_16_bytes_only():
    lengths = [len(token) for token in (encrypt_ids(["x" * n], SECRET, domain=DOMAIN)[0] for n in range(1, 33))]
    assert lengths == [64] * 15 + [96] * 16 + [128]


@pytest.mark.parametrize("at", [0, 15, 31, 32, 48, 63])
def test_a_token_with_one_flipped_bit_is_refused(at):
    token = encrypt_ids(["MRN-secret"], SECRET, domain=DOMAIN)[0]
    digits = string.hexdigits[:16]
    for bit in range(4):
        changed = token[:at] + digits[digits.index(token[at]) ^ (1 << bit)] + token[at + 1 :]
        with pytest.raises(TokenRejected, match="column 'mrn': holds a token that was changed") as caught:
            decrypt_ids(pd.Series([token, changed], name="mrn"), SECRET, domain=DOMAIN)
        assert "secret" not in str(caught.value)
        assert changed not in str(caught.value)


@pytest.mark.parametrize("domain", [("aml-2027", "patient"), ("aml-2026", "sample"), ("aml-2026", "patient", "vienna")])
def test_another_domain_or_key_reads_nothing(domain):
    tokens = encrypt_ids(["MRN-1"], SECRET, domain=DOMAIN)
    with pytest.raises(TokenRejected, match="another key or domain"):
        decrypt_ids(tokens, SECRET, domain=domain)
    with pytest.raises(TokenRejected, match="another key or domain"):
        decrypt_ids(tokens, OTHER, domain=DOMAIN)
    assert encrypt_ids(["MRN-1"], SECRET, domain=domain)[0] != tokens[0]


@pytest.mark.parametrize(
    "bad", ["", "MRN-1", "00" * 31, "zz" * 32, "v0." + "00" * 32, "00" * 32 + "\n", None, 7, b"00"]
)
def test_what_is_no_token_is_refused_without_being_named(bad):
    with pytest.raises(TokenRejected, match="column 'patient': holds a value that is no token") as caught:
        decrypt_ids([bad], SECRET, domain=DOMAIN)
    assert "MRN" not in str(caught.value)


def test_a_rotation_reads_both_versions_and_makes_new_ones():
    old = KeyRing({1: PseudonymKey(SECRET)})
    ring = old.rotated(PseudonymKey(OTHER))
    ids = ["MRN-1", "MRN-2"]
    mixed = [*encrypt_ids(ids, old, domain=DOMAIN), *encrypt_ids(ids, ring, domain=DOMAIN)]
    assert [token[:3] for token in mixed] == ["v1.", "v1.", "v2.", "v2."]
    assert decrypt_ids(mixed, ring, domain=DOMAIN).tolist() == ids * 2
    new = reencrypt_ids(mixed, ring, domain=DOMAIN)
    assert new.tolist() == mixed[2:] * 2
    # After the transition the old key goes.
    assert decrypt_ids(new, ring.without(1), domain=DOMAIN).tolist() == ids * 2
    with pytest.raises(TokenRejected, match="a version that the key ring does not have"):
        decrypt_ids(mixed, ring.without(1), domain=DOMAIN)


def test_a_token_under_another_version_is_refused():
    ring = KeyRing({1: PseudonymKey(SECRET), 2: PseudonymKey(OTHER)})
    token = encrypt_ids(["MRN-1"], ring, domain=DOMAIN)[0]
    with pytest.raises(TokenRejected, match="changed"):
        decrypt_ids(["v1." + token[3:]], ring, domain=DOMAIN)
    with pytest.raises(TokenRejected, match="a version that the key ring does not have"):
        decrypt_ids([token[3:]], ring, domain=DOMAIN)
    with pytest.raises(TokenRejected, match="give the key ring"):
        decrypt_ids([token], PseudonymKey(OTHER), domain=DOMAIN)


@pytest.mark.parametrize("bad", [None, "", float("nan"), pd.NA, 1.5, True, b"MRN", 2.0**60, "\ud800"])
def test_a_bad_id_is_refused_with_column_and_rule(bad):
    ids = pd.Series(["MRN-secret", bad], dtype=object, name="mrn")
    with pytest.raises(ValueError, match=r"column 'mrn': an id .*; every row needs one") as caught:
        encrypt_ids(ids, SECRET, domain=DOMAIN)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_true_is_not_the_patient_number_one():
    with pytest.raises(ValueError, match="neither text nor a whole number"):
        encrypt_ids(np.array([1, True], dtype=object), SECRET, domain=DOMAIN)
