"""Direct lines against strangers: who may connect, with which certificate, and what a flood of callers costs."""

import datetime as dt
import os
import socket
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from networks import outcomes

from smpc import FrameRejected, PeerUnavailable, ProtocolAbort, SmpcError
from smpc.transport import DirectTransport, InsecurePlainTransport, Roster, TlsFiles, certificate_fingerprint, dial

DAY = dt.timedelta(days=1)


class Issuer:
    """A certificate authority of a test."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        self.certificate = folder / "issuer.crt"
        self._write(self.certificate, self.name, self.key.public_key(), DAY, is_authority=True)

    def _write(self, path, subject, public, lifetime, *, is_authority=False, dns=None):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9 * DAY)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if dns is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name, *, lifetime=DAY, file=None):
        key = ec.generate_private_key(ec.SECP256R1())
        place = self.folder / (file or name)
        certificate, key_file = Path(f"{place}.crt"), Path(f"{place}.key")
        self._write(
            certificate,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            lifetime,
            dns=name,
        )
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_file.chmod(0o600)
        return TlsFiles(certificate, key_file, (self.certificate,))


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


def connect(network, roster, sockets, tls, within=3.0, identities=None):
    """Connect all parties, each with its own files and maybe its own roster; return transports and errors."""
    rosters = roster if isinstance(roster, list) else [roster] * len(sockets)
    return outcomes(
        [
            lambda i=i: DirectTransport.connect(
                rosters[i],
                (identities or network.identities)[i],
                run="run",
                tls=tls[i],
                listener=sockets[i],
                within=within,
            )
            for i in range(len(sockets))
        ]
    )


def closed(results):
    for each in results:
        if not isinstance(each, BaseException):
            each.close()
    return results


def by_name(roster):
    """The roster without pinned certificates: a trusted issuer and the name count."""
    return Roster(tuple(replace(member, fingerprint=b"") for member in roster.members))


def test_certificates_of_one_issuer_are_told_apart_by_the_names_of_the_roster(network, issuer):
    roster, sockets = network.listening(2)
    results = connect(network, by_name(roster), sockets, [issuer.issue("a"), issuer.issue("b")])
    assert [type(each) for each in closed(results)] == [DirectTransport] * 2


def test_the_right_issuer_but_another_party_is_refused(network, issuer):
    roster, sockets = network.listening(2)
    results = connect(network, by_name(roster), sockets, [issuer.issue("a"), issuer.issue("c")], within=0.5)
    assert isinstance(results[0], PeerUnavailable)
    assert "its certificate is not the one that the roster lists for party 1" in str(results[0])
    assert isinstance(results[1], PeerUnavailable)


def test_a_listener_with_the_certificate_of_another_party_is_refused(network, issuer):
    roster, sockets = network.listening(2)
    results = connect(network, by_name(roster), sockets, [issuer.issue("c"), issuer.issue("b")], within=0.5)
    assert isinstance(results[1], PeerUnavailable)
    assert results[1].party == 0
    assert "not the one that the roster lists" in str(results[1])


def test_a_pinned_certificate_is_not_replaced_by_another_of_the_same_name(network, issuer):
    roster, sockets = network.listening(2)
    files = [issuer.issue("a"), issuer.issue("b")]
    pinned = Roster(
        tuple(
            replace(member, fingerprint=certificate_fingerprint(each.certificate))
            for member, each in zip(roster.members, files, strict=True)
        )
    )
    twin = issuer.issue("b", file="twin")
    results = connect(network, pinned, sockets, [files[0], twin], within=0.5)
    assert isinstance(results[0], PeerUnavailable)
    assert "roster lists for party 1" in str(results[0])


def test_an_expired_certificate_is_refused(network, issuer):
    roster, sockets = network.listening(2)
    files = [issuer.issue("a"), issuer.issue("b", lifetime=-DAY)]
    results = connect(network, by_name(roster), sockets, files, within=0.5)
    assert isinstance(results[0], PeerUnavailable)
    assert "certificate has expired" in str(results[0])


def test_a_certificate_of_an_unknown_issuer_is_refused_at_both_ends(network, issuer, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Issuer(tmp_path / "other")
    for files in (
        [issuer.issue("a"), replace(stranger.issue("b"), trusted=(issuer.certificate,))],
        [replace(stranger.issue("a"), trusted=(issuer.certificate,)), issuer.issue("b")],
    ):
        roster, sockets = network.listening(2)
        results = connect(network, by_name(roster), sockets, files, within=0.5)
        assert all(isinstance(each, PeerUnavailable) for each in results)
        assert any("its certificate was not accepted" in str(each) for each in results), results


def test_the_right_certificate_with_another_identity_key_is_refused(network):
    """Someone holds a party's TLS key, and not the key that signs."""
    roster, sockets = network.listening(2)
    forged = Roster((roster[0], replace(roster[1], identity=network.identities[2].public)))
    identities = [network.identities[0], type(network.identities[2])(1, network.identities[2]._key)]
    tls = [network.tls(0), network.tls(1)]
    results = connect(network, [roster, forged], sockets, tls, identities=identities)
    assert isinstance(results[0], FrameRejected)
    assert results[0].sender == 1
    assert isinstance(results[1], SmpcError)


def _listening_party(network, roster, sockets, within):
    results = []
    thread = threading.Thread(
        target=lambda: results.extend(
            outcomes(
                [
                    lambda: DirectTransport.connect(
                        roster, network.identities[0], run="run", tls=network.tls(0), listener=sockets[0], within=within
                    )
                ]
            )
        )
    )
    thread.start()
    return thread, results


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_is_refused(network, version):
    roster, sockets = network.listening(2)
    thread, results = _listening_party(network, roster, sockets, within=0.4)
    context = network.tls(1).context(server_side=False)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", roster[0].port)) as raw:
        if version is ssl.TLSVersion.TLSv1_2:
            with pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(raw)
        else:
            # The control: the same call with 1.3 succeeds.
            with context.wrap_socket(raw) as wrapped:
                assert wrapped.version() == "TLSv1.3"
    thread.join()
    assert isinstance(results[0], PeerUnavailable)


def _greet(context, raw):
    """Greet as party 1. In TLS 1.3 a refusal comes with the first read."""
    with context.wrap_socket(raw) as wrapped:
        wrapped.send(dial._GREETING.pack(b"SYP1", 1))
        if not wrapped.recv(1):
            raise ConnectionResetError


def test_a_caller_without_a_certificate_is_refused(network):
    roster, sockets = network.listening(2)
    thread, results = _listening_party(network, roster, sockets, within=0.4)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", roster[0].port)) as raw, pytest.raises((ssl.SSLError, OSError)):
        _greet(context, raw)
    thread.join()
    assert isinstance(results[0], PeerUnavailable)
    assert "did not return a certificate" in str(results[0])


def test_a_flood_of_half_open_connections_costs_little_and_keeps_nobody_out(network):
    roster, sockets = network.listening(2)
    files = len(list(Path("/proc/self/fd").iterdir()))
    thread, results = _listening_party(network, roster, sockets, within=20.0)
    flood = []
    for _ in range(300):
        flood.append(socket.create_connection(("127.0.0.1", roster[0].port)))
        # Ours are in this process as well: what the listener keeps is what is over.
        kept = len(list(Path("/proc/self/fd").iterdir())) - files - len(flood)
        assert kept <= dial.MOST_PENDING + 4
    one = DirectTransport.connect(roster, network.identities[1], run="run", tls=network.tls(1), within=10)
    thread.join()
    zero = results[0]
    assert isinstance(zero, DirectTransport)
    assert zero.session_id == one.session_id
    for each in (*flood, zero, one):
        each.close()


def test_an_address_where_nobody_listens_is_a_party_that_cannot_be_reached(network):
    roster, sockets = network.listening(2)
    sockets[0].close()
    for kind, options in ((DirectTransport, {"tls": network.tls(1)}), (InsecurePlainTransport, {})):
        with pytest.raises(PeerUnavailable, match=r"party 0 failed: no line within 0\.2 s: it cannot be reached"):
            kind.connect(roster, network.identities[1], run="run", within=0.2, **options)
    with pytest.raises(PeerUnavailable, match=r"party 1 failed: no line within 0\.2 s: it did not call"):
        InsecurePlainTransport.connect(replace_port(roster, 0), network.identities[0], run="run", within=0.2)


def replace_port(roster, port):
    return Roster(tuple(replace(member, port=port) for member in roster.members))


def test_files_that_do_not_fit_are_bad_arguments(network, tmp_path):
    own = network.keys[0]
    with pytest.raises(ValueError, match="do not fit"):
        TlsFiles(own.certificate, network.keys[1].tls_key, ()).context(server_side=True)
    loose = tmp_path / "loose.key"
    loose.write_bytes(own.tls_key.read_bytes())
    loose.chmod(0o644)
    with pytest.raises(ValueError, match="mode 0644"):
        TlsFiles(own.certificate, loose, ()).context(server_side=True)
    with pytest.raises(ValueError, match="no PEM certificate"):
        certificate_fingerprint(own.tls_key)


def test_a_tls_record_that_was_changed_on_the_way_is_rejected(network):
    import asyncio

    import numpy as np

    from smpc.transport import Frame

    zero, one = network.connect("direct", 2)
    (port,) = one._ports
    raw = socket.socket(fileno=os.dup(port.stream.fileno()))
    # As whoever holds the wire does: a TLS record with the right shape and other bytes.
    raw.send(b"\x17\x03\x03\x00\x40" + bytes(64))
    with pytest.raises(FrameRejected, match="TLS") as caught:
        asyncio.run(zero.exchange({}, frozenset({1}), within=5))
    assert caught.value.sender == 1
    with pytest.raises((PeerUnavailable, ProtocolAbort, FrameRejected)):
        asyncio.run(
            one.exchange({0: Frame(bytes(16), bytes(8), 0, 1, np.zeros(1, np.uint64))}, frozenset({0}), within=5)
        )
    raw.close()
    one.close()
