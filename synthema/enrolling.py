"""Joining a hub: an invitation is used once, and brings a certificate for keys that never leave the member.

The hub's operator hands over one line of text (out of band: it is a secret for as long as it is not used):

    "sy1." + base64url of JSON: the hub's host and port, the SHA-256 of its certificate, name, role, 256 random bits
    + "." + first 8 hex digits of the SHA-256 of what stands before, against typing errors

The joining side connects without a certificate, pins the hub by the fingerprint, and only then shows the secret, with
a certificate request (signed by its TLS key) and its identity key (a signature over secret, request and the hub's
fingerprint). The hub keeps the SHA-256 of the secret only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import select
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smpc.transport.relay_wire import RELAY, RecordReader, record
from smpc.transport.roster import Identity, new_identity_file, verify_signature, write_private
from smpc.transport.streams import StreamEnded, StreamViolated, TlsStream
from synthema.errors import SynthemaError
from synthema.messages import Assembler, Enrol, Enrolled, Hex32, MessageRejected, Name, Refused, Role, encode
from synthema.networks.line_connection import ConnectionOver, HubAddress, MemberFiles, check_hub

_PREFIX = "sy1."
_PROOF_LABEL = b"synthema/enrol/v1\n"
_LONGEST_INVITATION = 2000


class EnrolmentFailed(SynthemaError):
    """The hub did not enrol this member; `reason` is a fixed code, the message says what to do."""

    def __init__(self, reason: str, explanation: str) -> None:
        self.reason = reason
        super().__init__(f"not enrolled ({reason}): {explanation}")


class Invitation(BaseModel):
    """What an invitation says. Its repr does not show the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]
    fingerprint: Hex32
    name: Name
    role: Role
    secret: Annotated[Hex32, Field(repr=False)]

    @property
    def hub(self) -> HubAddress:
        """Where the hub is."""
        return HubAddress(self.host, self.port, bytes.fromhex(self.fingerprint))

    def text(self) -> str:
        """Return the line of text that is handed over."""
        body = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()
        text = _PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")
        return f"{text}.{_check_digits(text)}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Read an invitation.

        Raises
        ------
        EnrolmentFailed
            If it is none, or was changed on its way.
        """
        wrong = EnrolmentFailed("no-invitation", "this is no invitation, or not all of it: copy the whole line again")
        body, _, digits = text.strip().rpartition(".")
        if len(text) > _LONGEST_INVITATION or not body.startswith(_PREFIX) or digits != _check_digits(body):
            raise wrong
        encoded = body.removeprefix(_PREFIX)
        try:
            return cls.model_validate_json(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        except (ValidationError, binascii.Error, ValueError):
            raise wrong from None


@dataclass(frozen=True, slots=True)
class EnrolledFiles:
    """What a member has after joining.

    number   its address on the hub's lines
    public   its Ed25519 public key, which partners list
    """

    name: str
    role: str
    number: int
    hub: HubAddress
    files: MemberFiles
    public: bytes


def _check_digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def proof_bytes(secret: str, request: bytes, fingerprint: bytes) -> bytes:
    """Return what the identity key signs: this secret, this certificate request (PEM), this hub."""
    parts = (bytes.fromhex(secret), request, fingerprint)
    return _PROOF_LABEL + b"".join(hashlib.sha256(part).digest() for part in parts)


def is_proven(enrol: Enrol, request: bytes, fingerprint: bytes) -> bool:
    """Return whether the holder of the identity key signed."""
    said = proof_bytes(enrol.secret, request, fingerprint)
    return verify_signature(bytes.fromhex(enrol.identity), bytes.fromhex(enrol.proof), said)


def enrol(token: str, name: str | None, folder: Path, *, within: float = 30.0) -> EnrolledFiles:
    """Make keys in a folder, and have the hub certify them.

    Parameters
    ----------
    token
        The invitation.
    name
        What this member is called, if it should be compared with the invitation.
    folder
        Made if it does not exist. Gets identity.key, tls.key (both mode 0600), member.crt, hub-ca.crt.

    Raises
    ------
    EnrolmentFailed
        Nothing is left in the folder, but the invitation may be used up: ask for another.
    FileExistsError
        If keys are there already. Nothing is overwritten, and the hub is not asked.
    """
    invitation = Invitation.parse(token)
    if name is not None and name != invitation.name:
        raise EnrolmentFailed("other-name", f"the invitation is for {invitation.name!r}, not for {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    files = MemberFiles(*(folder / each for each in ("identity.key", "tls.key", "member.crt", "hub-ca.crt")))
    for path in (files.identity, files.tls_key, files.certificate, files.hub_ca):
        if path.exists():
            raise FileExistsError(path)
    try:
        public = new_identity_file(files.identity)
        request = _new_request(invitation.name, files.tls_key)
        said = proof_bytes(invitation.secret, request, invitation.hub.fingerprint)
        head = Enrol(
            name=invitation.name,
            secret=invitation.secret,
            identity=public.hex(),
            proof=Identity.load(0, files.identity).sign(said).hex(),
        )
        answer, payload = _ask(invitation.hub, head, request, within)
        _check_answer(answer, invitation)
        certificate, issuer = _certificates(payload)
        files.certificate.write_text(certificate, encoding="ascii")
        files.hub_ca.write_text(issuer, encoding="ascii")
        try:
            files.tls().context(server_side=False)
        except ValueError:
            raise EnrolmentFailed("other-answer", "the hub's certificate is not for this key") from None
    except BaseException:
        for path in (files.identity, files.tls_key, files.certificate, files.hub_ca):
            path.unlink(missing_ok=True)
        raise
    return EnrolledFiles(answer.name, answer.role, answer.number, invitation.hub, files, public)


def _new_request(name: str, key: Path) -> bytes:
    """Write a new P-256 key; return a certificate request (PEM) for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(secret, hashes.SHA256())
    write_private(key, secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return request.public_bytes(Encoding.PEM)


def _check_answer(answer: Enrolled, invitation: Invitation) -> None:
    if answer.name != invitation.name or answer.role != invitation.role:
        raise EnrolmentFailed("other-answer", "the hub certified another name or role")


def _certificates(payload: bytes) -> tuple[str, str]:
    end = "-----END CERTIFICATE-----\n"
    try:
        first, second, rest = payload.decode("ascii").split(end)
    except ValueError:
        raise EnrolmentFailed("other-answer", "the hub did not send two certificates") from None
    if rest:
        raise EnrolmentFailed("other-answer", "the hub did not send two certificates")
    return first + end, second + end


def _ask(hub: HubAddress, head: Enrol, request: bytes, within: float) -> tuple[Enrolled, bytes]:
    # The hub is known by the fingerprint of its certificate, which the invitation brought; no issuer is trusted yet.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    deadline = time.monotonic() + within
    try:
        sock = socket.create_connection((hub.host, hub.port), timeout=within)
    except OSError as error:
        raise EnrolmentFailed("no-hub", f"the hub cannot be reached: {error}") from None
    stream = TlsStream(sock, context, server_side=False)
    try:
        while not stream.handshake():
            _wait(stream, stream.waits_for, deadline)
        # Before the secret leaves.
        check_hub(stream, hub)
        (piece,) = encode(1, head, request)
        unsent = memoryview(record(RELAY, piece))
        while unsent:
            sent = stream.send(unsent)
            unsent = unsent[sent:]
            if not sent:
                _wait(stream, select.POLLOUT, deadline)
        return _answer(stream, deadline)
    except ConnectionOver as over:
        raise EnrolmentFailed("other-hub", over.reason) from None
    except (StreamEnded, StreamViolated) as error:
        raise EnrolmentFailed("no-answer", f"{error}; the invitation may be used up: ask for another") from None
    finally:
        stream.close()


def _answer(stream: TlsStream, deadline: float) -> tuple[Enrolled, bytes]:
    reader, assembler = RecordReader(), Assembler()
    while True:
        reader.fill(stream)
        try:
            taken = reader.take()
            message = None if taken is None else assembler.add("", taken[1])
        except (ValueError, MessageRejected):
            raise EnrolmentFailed("other-answer", "what the hub answered cannot be understood") from None
        if message is not None and isinstance(message.head, Enrolled):
            return message.head, message.payload
        if message is not None and isinstance(message.head, Refused):
            raise EnrolmentFailed(message.head.reason, message.head.explanation)
        if taken is None and not stream.has_buffered:
            _wait(stream, select.POLLIN, deadline)


def _wait(stream: TlsStream, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(stream.fileno(), events)
    if not poll.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        raise EnrolmentFailed("no-answer", "the hub did not answer in time; the invitation may be used up")
