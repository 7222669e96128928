"""What RFC 8032 leaves to the verifier has one strict answer: small orders, second spellings, large S are refused."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.ledger.notes import Signer, Verifier, sign_statement, verify_statement

# RFC 8032, section 7.1: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
# Every encoding that decodes to a point of small order: y, y + p where it fits, each with both signs.
SMALL_ORDER = [
    (y + sign * 2**255).to_bytes(32, "little") for y in (0, 1, P - 1, ORDER_8, P - ORDER_8, P, P + 1) for sign in (0, 1)
]
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(secret, public, message, signature):
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert private.public_key().public_bytes_raw().hex() == public
    assert private.sign(bytes.fromhex(message)).hex() == signature
    assert Signer("a", private).public.hex() == public


def test_there_are_fourteen_encodings_of_small_order_and_all_are_refused():
    assert len(set(SMALL_ORDER)) == 14
    for public in SMALL_ORDER:
        with pytest.raises(ValueError):
            Verifier("a", public)
        assert not verify_statement(public, "a", b"body", bytes(64))


@pytest.mark.parametrize("public", SMALL_ORDER, ids=bytes.hex)
def test_without_the_refusal_anybody_could_sign_under_a_small_order(public):
    # The negative control: with S = 0, one of the points of small order is the right R for most messages.
    forged = 0
    for body in range(20):
        for point in SMALL_ORDER:
            signature, body_bytes = point + bytes(32), b"%d" % body
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, b"synthema/a\n" + body_bytes)
            except InvalidSignature:
                continue
            forged += 1
            assert not verify_statement(public, "a", body_bytes, signature)
    assert forged > 0


def test_honest_keys_of_either_sign_are_taken():
    signs = set()
    for seed in range(16):
        signer = Signer("a", Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))
        assert verify_statement(signer.public, "a", b"body", signer.sign_statement("a", b"body"))
        signs.add(signer.public[31] >> 7)
    assert signs == {0, 1}


def test_public_keys_in_a_second_spelling_are_refused():
    for y in range(19):
        for sign in (0, 1):
            public = (P + y + sign * 2**255).to_bytes(32, "little")
            with pytest.raises(ValueError):
                Verifier("a", public)


def test_a_second_s_for_the_same_signature_is_refused():
    signature = sign_statement(PRIVATE, "a", b"body")
    s = int.from_bytes(signature[32:], "little")
    assert verify_statement(PUBLIC, "a", b"body", signature)
    for k in range(1, 16):
        if s + k * ORDER < 2**256:
            second = signature[:32] + (s + k * ORDER).to_bytes(32, "little")
            assert not verify_statement(PUBLIC, "a", b"body", second)
            with pytest.raises(InvalidSignature):
                PRIVATE.public_key().verify(second, b"synthema/a\nbody")


def test_a_statement_is_good_for_its_purpose_and_its_bytes_only():
    signature = sign_statement(PRIVATE, "restore-1", b"body")
    assert verify_statement(PUBLIC, "restore-1", b"body", signature)
    PRIVATE.public_key().verify(signature, b"synthema/restore-1\nbody")
    assert not verify_statement(PUBLIC, "restore-2", b"body", signature)
    assert not verify_statement(PUBLIC, "restore-1", b"body ", signature)
    assert not verify_statement(PUBLIC, "restore-1", b"", signature)
    for at in range(64):
        assert not verify_statement(PUBLIC, "restore-1", b"body", flipped(signature, at))
    for wrong in (b"", signature[:-1], signature + b"\0", None, signature.hex()):
        assert not verify_statement(PUBLIC, "restore-1", b"body", wrong)
    for wrong in (b"", PUBLIC[:-1], PUBLIC + b"\0", None, PUBLIC.hex()):
        assert not verify_statement(wrong, "restore-1", b"body", signature)
    for purpose in ("", "A", "a b", "a\n", "a/b", "é", None, b"a"):
        with pytest.raises(ValueError):
            sign_statement(PRIVATE, purpose, b"")
        with pytest.raises(ValueError):
            verify_statement(PUBLIC, purpose, b"", signature)
    with pytest.raises(ValueError):
        sign_statement(PRIVATE, "a", "text")
