"""TLS 1.3 with certificates on both sides, and which certificate is whose.

Being signed by a trusted issuer is not enough: the certificate must be the one that the roster pins for this party, or
carry the name that the roster gives. A certificate of another member of the same roster is refused in its place.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path

from smpc.transport.roster import Member, check_private_file, write_private


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A party's own certificate and key, and the certificates that it trusts (PEM): the peers' own, or their issuer's.

    Raises
    ------
    ValueError
        When used, if others may read the key or a file is not what it should be.
    """

    certificate: Path
    key: Path
    trusted: tuple[Path, ...]

    def context(self, *, server_side: bool) -> ssl.SSLContext:
        """Return a context that speaks TLS 1.3 only, shows our certificate and demands one."""
        check_private_file(self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Names are compared with the roster, which may pin the certificate itself.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            for path in self.trusted:
                context.load_verify_locations(path)
        except ssl.SSLError:
            raise ValueError(
                f"{self.certificate.name}, {self.key.name} or a trusted certificate is no PEM file, or they do not fit"
            ) from None
        # No resumption: every connection shows certificates, and nothing unread is left when a line is closed.
        if server_side:
            context.num_tickets = 0
        return context


def certificate_fingerprint(path: Path) -> bytes:
    """Return the SHA-256 of a PEM certificate's DER bytes, 32 bytes.

    Raises
    ------
    ValueError
        If the file holds no certificate.
    """
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii").strip())).digest()
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"{path.name} holds no PEM certificate") from None


def belongs_to(member: Member, certificate: bytes, names: frozenset[str]) -> bool:
    """Return whether a verified certificate (DER, with its DNS names) is this member's."""
    if member.fingerprint:
        return hmac.compare_digest(hashlib.sha256(certificate).digest(), member.fingerprint)
    return member.name in names


def new_certificate_files(name: str, certificate: Path, key: Path, *, days: int = 825) -> bytes:
    """Write a new P-256 key (mode 0600) and a self-signed certificate for a name; return its fingerprint, 32 bytes.

    Raises
    ------
    FileExistsError
        Nothing is overwritten.
    ValueError
        If the name does not fit into a certificate.
    """
    # Only those who make certificates wait for these modules.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if certificate.exists():
        raise FileExistsError(certificate)
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        # A day of grace for clocks that run behind.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .sign(secret, hashes.SHA256())
    )
    write_private(key, secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(built.public_bytes(Encoding.PEM))
    return hashlib.sha256(built.public_bytes(Encoding.DER)).digest()
