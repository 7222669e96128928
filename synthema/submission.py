"""What a researcher hands in: a signed study, and the key for which its result is to be sealed.

The hub passes both on and can change neither: the result's key is signed by the researcher together with the study's
identity. Parsing is strict, and nothing of a submission is executed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpc.errors import PackageRefused
from smpc.sealed_files import KEY_BYTES, opened, sealed
from smpc.transport.roster import Identity, verify_signature
from synthema.errors import SignatureInvalid, StudyError, SynthemaError
from synthema.signing import SignedDocument, canonical_json

# A study with a schema of a thousand columns is well below this.
MOST_SUBMISSION_BYTES = 1 << 22
_FORMAT = "synthema-submission-v1"
_LABEL = b"synthema/result-key/v1\n"
_FIELDS = frozenset({"format", "document", "public_key", "signature", "result_key", "result_key_signature"})


@dataclass(frozen=True, slots=True)
class Submission:
    """A signed study and where its result goes.

    result_key            X25519 public key of the researcher, 32 bytes
    result_key_signature  Ed25519, by the key that signed the study
    """

    document: SignedDocument
    result_key: bytes
    result_key_signature: bytes

    @classmethod
    def new(cls, document: SignedDocument, result_key: bytes, researcher: Identity) -> Submission:
        """Return a submission. `researcher`: the key that signed the document.

        Raises StudyError if it is another key.
        """
        if researcher.public.hex() != document.public_key:
            raise StudyError("the study is signed by another key than the one that hands it in")
        return cls(document, result_key, researcher.sign(_statement(document, result_key)))

    @property
    def job_id(self) -> str:
        """The job's identity: that of the study, whoever reads the result."""
        return self.document.document_id

    def verify(self) -> None:
        """Raise SignatureInvalid unless both signatures are by the researcher's key."""
        self.document.verify()
        key = bytes.fromhex(self.document.public_key)
        if not verify_signature(key, self.result_key_signature, _statement(self.document, self.result_key)):
            raise SignatureInvalid("the key for the result is not signed by the researcher; ask for the study again")

    def encode(self) -> bytes:
        """Return the submission's bytes."""
        return canonical_json(
            {
                "format": _FORMAT,
                "document": self.document.body.decode("ascii"),
                "public_key": self.document.public_key,
                "signature": self.document.signature.hex(),
                "result_key": self.result_key.hex(),
                "result_key_signature": self.result_key_signature.hex(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Submission:
        """Return what `encode` wrote. Raises StudyError on anything else."""
        if len(data) > MOST_SUBMISSION_BYTES:
            raise StudyError(f"a submission has at most {MOST_SUBMISSION_BYTES} bytes")
        try:
            fields: Any = json.loads(data)
            if fields.keys() != _FIELDS or fields["format"] != _FORMAT:
                raise StudyError("it is no submission of this version; update this site")
            document = SignedDocument(
                body=fields["document"].encode("ascii"),
                public_key=fields["public_key"],
                signature=bytes.fromhex(fields["signature"]),
            )
            result_key = bytes.fromhex(fields["result_key"])
            made = cls(document, result_key, bytes.fromhex(fields["result_key_signature"]))
            if len(bytes.fromhex(document.public_key)) != KEY_BYTES or len(result_key) != KEY_BYTES:
                raise StudyError("a key of the submission has another length")
            if made.encode() != data:
                raise StudyError("the submission is not written in the one way there is")
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise StudyError("it is no submission") from None
        return made


def seal_result(payload: bytes, recipient: bytes, lead: Identity) -> bytes:
    """Return a result that only the researcher reads, signed by the lead party."""
    return b"".join(sealed([payload], recipient, lead))


def open_result(data: bytes, key: X25519PrivateKey, lead: bytes) -> bytes:
    """Return what the lead party sealed for this researcher. `lead`: its Ed25519 public key.

    Raises SynthemaError if it is sealed for or by somebody else, or was changed.
    """
    try:
        pieces: Iterator[bytes] = opened(io.BytesIO(data), key, lead)
        return b"".join(pieces)
    except PackageRefused as error:
        raise SynthemaError(f"the result is not what the lead party sealed for this researcher: {error}") from None


def _statement(document: SignedDocument, result_key: bytes) -> bytes:
    return _LABEL + bytes.fromhex(document.document_id) + result_key
