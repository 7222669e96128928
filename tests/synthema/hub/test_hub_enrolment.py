"""Joining a hub: an invitation holds once, for one name, for a time, at one hub; nothing secret is kept or shown."""

import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hubs import Caller, join, new_folder

from smpc.transport.roster import Identity
from synthema import enrolling
from synthema.enrolling import EnrolmentFailed, Invitation, enrol
from synthema.hub.authority import Authority
from synthema.messages import HUB, Assembler, Enrol, encode
from synthema.networks.line_wire import CLOSED, LINE_NOTICE


def refused(call):
    with pytest.raises(EnrolmentFailed) as caught:
        call()
    return caught.value.reason


def test_a_member_gets_a_certificate_for_its_name_and_role_and_keeps_its_keys(town, tmp_path):
    enrolled = join(town.files, tmp_path, "new-dealer", "dealer")
    certificate = x509.load_pem_x509_certificate(enrolled.files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["new-dealer"]
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value == "dealer"
    days = (certificate.not_valid_after_utc.timestamp() - time.time()) / 86400
    assert 396 < days < 398
    assert {path.stat().st_mode & 0o777 for path in (enrolled.files.identity, enrolled.files.tls_key)} == {0o600}
    assert Identity.load(0, enrolled.files.identity).public == enrolled.public
    issuer = x509.load_pem_x509_certificate(enrolled.files.hub_ca.read_bytes())
    certificate.verify_directly_issued_by(issuer)


def test_an_invitation_holds_once(town, tmp_path):
    token = town.files.invite("once", "site").text()
    enrol(token, "once", tmp_path / "first")
    assert refused(lambda: enrol(token, "once", tmp_path / "second")) == "no-invitation"
    assert list((tmp_path / "second").iterdir()) == []


def test_of_many_who_show_one_invitation_at_once_one_is_enrolled(town, tmp_path):
    token = town.files.invite("race", "site").text()
    results = []

    def show(i):
        try:
            results.append(enrol(token, "race", tmp_path / str(i)).name)
        except EnrolmentFailed as error:
            results.append(error.reason)

    threads = [threading.Thread(target=show, args=(i,)) for i in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(results) == ["no-invitation"] * 5 + ["race"]


def test_a_new_invitation_replaces_the_old_one_and_a_name_that_is_taken_is_not_given_again(town, tmp_path):
    old, new = (town.files.invite("twice", "site").text() for _ in range(2))
    assert refused(lambda: enrol(old, None, tmp_path / "old")) == "no-invitation"
    enrol(new, None, tmp_path / "new")
    with pytest.raises(Exception, match="revoke it first"):
        town.files.invite("twice", "site")
    store = town.files.store()
    store.revoke("twice", now=time.time())
    store.close()
    again = join(town.files, tmp_path, "twice")
    assert again.number > 0


def test_an_invitation_that_expired_is_refused(town, tmp_path):
    invitation = town.files.invite("late", "site")
    store = town.files.store()
    store.invite(bytes.fromhex(invitation.secret), name="late", role="site", now=time.time() - 100, seconds=99)
    store.close()
    assert refused(lambda: enrol(invitation.text(), None, tmp_path / "late")) == "expired"


def test_another_name_is_refused_at_both_ends(town, tmp_path):
    invitation = town.files.invite("named", "site")
    assert refused(lambda: enrol(invitation.text(), "other", tmp_path / "x")) == "other-name"
    assert not (tmp_path / "x").exists()
    forged = invitation.model_copy(update={"name": "other"})
    assert refused(lambda: enrol(forged.text(), "other", tmp_path / "y")) == "no-invitation"
    # It was not used up by that.
    assert enrol(invitation.text(), "named", tmp_path / "z").name == "named"


def test_another_hub_never_sees_the_secret(town, tmp_path):
    """Whoever answers in the hub's place with another certificate hears nothing but TLS."""
    other = new_folder(tmp_path / "other")
    heard = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "other" / "hub.crt", tmp_path / "other" / "hub.key")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as tls:
                tls.settimeout(5)
                heard.append(tls.recv(1 << 16))

        thread = threading.Thread(target=answer)
        thread.start()
        forged = town.files.invite("lured", "site").model_copy(update={"port": port})
        assert refused(lambda: enrol(forged.text(), None, tmp_path / "lured")) == "other-hub"
        thread.join(10)
        assert heard == [b""]
        # The control: with the fingerprint of the other one it is sent.
        trusting = forged.model_copy(update={"fingerprint": other.fingerprint.hex()})
        thread = threading.Thread(target=answer)
        thread.start()
        assert refused(lambda: enrol(trusting.text(), None, tmp_path / "lured")) == "no-answer"
        thread.join(10)
        assert forged.secret.encode() in heard[1]


def test_an_identity_key_that_is_not_the_members_own_is_refused(town, tmp_path, monkeypatch):
    token = town.files.invite("thief", "site").text()
    monkeypatch.setattr(enrolling, "proof_bytes", lambda *_: b"something else")
    # Sign other bytes; the hub, in this process, must not be fooled into checking the same ones.
    from synthema.hub import desk

    real = enrolling.verify_signature
    monkeypatch.setattr(desk, "is_proven", lambda head, request, fingerprint: _proven(real, head, request, fingerprint))
    assert refused(lambda: enrol(token, None, tmp_path / "thief")) == "not-proven"


def _proven(verify, head, request, fingerprint):
    import hashlib

    parts = (bytes.fromhex(head.secret), request, fingerprint)
    said = b"synthema/enrol/v1\n" + b"".join(hashlib.sha256(part).digest() for part in parts)
    return verify(bytes.fromhex(head.identity), bytes.fromhex(head.proof), said)


def test_keys_that_are_there_are_not_overwritten_and_the_hub_is_not_asked(town, tmp_path):
    token = town.files.invite("keeper", "site").text()
    (tmp_path / "tls.key").write_text("mine")
    with pytest.raises(FileExistsError):
        enrol(token, None, tmp_path)
    assert (tmp_path / "tls.key").read_text() == "mine"
    assert enrol(token, None, tmp_path / "elsewhere").name == "keeper"


def test_neither_invitation_nor_store_shows_the_secret(town):
    invitation = town.files.invite("quiet", "site")
    assert invitation.secret not in repr(invitation)
    for path in town.files.folder.glob("hub.sqlite*"):
        data = path.read_bytes()
        assert bytes.fromhex(invitation.secret) not in data
        assert invitation.secret.encode() not in data


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t[:30] + ("B" if t[30] == "A" else "A") + t[31:], lambda _: "", lambda t: t * 40],
)
def test_an_invitation_that_was_not_copied_whole_is_refused_before_anybody_is_asked(town, change):
    text = town.files.invite("typo", "site").text()
    assert Invitation.parse(f"  {text}\n").name == "typo"
    assert refused(lambda: Invitation.parse(change(text))) == "no-invitation"


def test_what_is_no_request_is_refused_and_the_invitation_stays(town, tmp_path):
    invitation = town.files.invite("asker", "site")
    authority = Authority(town.files.folder / "ca.crt", town.files.folder / "ca.key")
    assert repr(authority) == "Authority()"
    for request in (b"", b"x" * 9000, b"-----BEGIN CERTIFICATE REQUEST-----\n"):
        with pytest.raises(ValueError):
            authority.certify(request, name="a", role="site", days=1)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(weak, hashes.SHA256())
    with pytest.raises(ValueError, match="P-256"):
        authority.certify(request.public_bytes(Encoding.PEM), name="a", role="site", days=1)
    assert enrol(invitation.text(), None, tmp_path / "asker").name == "asker"


def test_a_stranger_who_sends_something_else_than_an_invitation_is_cut_off(town):
    wrong = Enrol(name="x", secret="0" * 64, identity="0" * 64, proof="0" * 128)
    stranger = Caller(town.members["a"].hub)
    stranger.say(next(encode(1, wrong, b"no request")))
    _, body = stranger.last_word()
    assert Assembler().add(HUB, body).head.reason == "no-invitation"
    stranger = Caller(town.members["a"].hub)
    # A message of two pieces: nothing of a stranger is kept.
    stranger.say(next(encode(1, wrong, bytes(1 << 17))))
    _, body = stranger.last_word()
    assert LINE_NOTICE.unpack(body)[0] == CLOSED
