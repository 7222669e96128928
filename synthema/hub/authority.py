"""The hub's own issuer of certificates: short-lived ones for members, a long one for the hub, which members pin."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from smpc.transport.roster import check_private_file, write_private

_CA_DAYS = 3650
_GRACE = dt.timedelta(days=1)
LONGEST_REQUEST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate (PEM), the SHA-256 of its DER bytes, and until when it holds (Unix seconds)."""

    pem: bytes
    fingerprint: bytes
    expires_at: float


class Authority:
    """The hub's issuer, read from its files. Its repr shows nothing of the key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        check_private_file(key)
        self.pem = certificate.read_bytes()
        self._certificate = x509.load_pem_x509_certificate(self.pem)
        loaded = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key.name} holds no elliptic curve key")
        self._key = loaded

    def __repr__(self) -> str:
        return "Authority()"

    def certify(self, request: bytes, *, name: str, role: str, days: int) -> Issued:
        """Return a member's certificate for the key of its request. Nothing else of the request is taken over.

        Raises
        ------
        ValueError
            If it is no request, its signature does not fit, or its key is not on P-256.
        """
        if len(request) > LONGEST_REQUEST_BYTES:
            raise ValueError("the certificate request is too long")
        parsed = x509.load_pem_x509_csr(request)
        key = parsed.public_key()
        if not parsed.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the certificate request is not signed by its key, or the key is none of P-256")
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the key of a certificate request is on P-256")
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            ]
        )
        return _signed(
            self._key,
            self._certificate.subject,
            subject,
            key,
            [x509.DNSName(name)],
            days,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        )


def new_authority(folder: Path, *, name: str, host: str) -> bytes:
    """Write ca.crt, ca.key, hub.crt, hub.key to a folder; return the fingerprint of hub.crt. Nothing is overwritten."""
    for path in ("ca.crt", "hub.crt"):
        if (folder / path).exists():
            raise FileExistsError(folder / path)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} issuer")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _GRACE)
        .not_valid_after(now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    hub_key = ec.generate_private_key(ec.SECP256R1())
    hub_subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    hub = _signed(
        key, subject, hub_subject, hub_key.public_key(), [_host_name(host)], _CA_DAYS, ExtendedKeyUsageOID.SERVER_AUTH
    )
    write_private(folder / "ca.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(folder / "hub.key", hub_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "hub.crt").write_bytes(hub.pem)
    return hub.fingerprint


def _signed(
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    days: int,
    use: x509.ObjectIdentifier,
) -> Issued:
    now = dt.datetime.now(dt.UTC)
    expires = now + dt.timedelta(days=days)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A day of grace for clocks that run behind.
        .not_valid_before(now - _GRACE)
        .not_valid_after(expires)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = built.public_bytes(Encoding.DER)
    return Issued(built.public_bytes(Encoding.PEM), hashlib.sha256(der).digest(), expires.timestamp())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
