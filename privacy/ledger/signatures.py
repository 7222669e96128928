"""Signatures of journal entries: who vouched for a cap or a key.

What is signed is the entry without its place, its time and its signatures, together with the ledger's identity: an
officer can sign it elsewhere before it is written. `replaces` of a cap and `after` of a key bind it to the state it was
made for, so that a signature is good for one entry.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from privacy.ledger import canonical
from privacy.ledger.notes import Signer, Verifier, verify_statement

PURPOSE = "ledger-entry"
_UNSIGNED = ("seq", "at", "signatures")


def statement(body: Mapping[str, Any], ledger_id: str) -> bytes:
    """Return what is signed of an entry."""
    return canonical.encode({**{k: v for k, v in body.items() if k not in _UNSIGNED}, "ledger_id": ledger_id})


def signed(body: Mapping[str, Any], ledger_id: str, signers: Sequence[Signer]) -> list[list[str]]:
    """Return the entry's signatures: pairs of verifier key and base64."""
    data = statement(body, ledger_id)
    return [[one.verifier.vkey, base64.b64encode(one.sign_statement(PURPOSE, data)).decode()] for one in signers]


def check_signatures(body: Mapping[str, Any], ledger_id: str, needed: Sequence[str]) -> None:
    """Raise ValueError unless exactly these keys, all different, have signed the entry."""
    found = body["signatures"]
    if any(type(pair) is not list or len(pair) != 2 or any(type(x) is not str for x in pair) for pair in found):
        raise ValueError("signatures are pairs of a key and base64")
    if sorted(key for key, _ in found) != sorted(set(needed)) or len(set(needed)) != len(needed):
        raise ValueError("it is not signed by the keys that it needs")
    data = statement(body, ledger_id)
    for key, signature in found:
        if not verify_statement(Verifier.parse(key).public, PURPOSE, data, base64.b64decode(signature, validate=True)):
            raise ValueError("a signature does not fit")
