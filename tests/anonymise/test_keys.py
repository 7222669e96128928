import copy
import os
import pickle
import traceback

import pytest

from anonymise import KeyDomain, KeyRing, PseudonymKey, decrypt_ids, encrypt_ids, pseudonymise
from anonymise.date_shift import patient_shifts

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
DOMAIN = ("aml-2026", "patient")


def ring():
    return KeyRing({1: PseudonymKey(SECRET), 2: PseudonymKey(OTHER)})


def test_a_key_file_keeps_the_key_and_is_its_owners_alone(tmp_path):
    PseudonymKey(SECRET).save(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert PseudonymKey.from_file(tmp_path / "key").same_as(PseudonymKey(SECRET))
    with pytest.raises(FileExistsError):
        PseudonymKey(OTHER).save(tmp_path / "key")
    assert PseudonymKey.from_file(str(tmp_path / "key")).same_as(PseudonymKey(SECRET))


def test_a_ring_file_keeps_all_versions(tmp_path):
    ring().save(tmp_path / "ring")
    assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o600
    read = KeyRing.from_file(tmp_path / "ring")
    assert (read.versions, read.current) == ((1, 2), 2)
    assert read.key(1).same_as(PseudonymKey(SECRET))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601])
def test_a_key_file_that_others_can_touch_is_refused(tmp_path, mode):
    PseudonymKey(SECRET).save(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ValueError, match=r"key can be touched by others \(mode 06"):
        PseudonymKey.from_file(tmp_path / "key")


def test_what_is_no_key_file_is_refused_without_being_repeated(tmp_path):
    def write(text):
        place = tmp_path / "key"
        place.write_bytes(text)
        place.chmod(0o600)
        return place

    for text in (b"", b"secret", b"0" * 63, b"0" * 65, b"g" * 64, "é".encode() * 32, b"0" * (1 << 21)):
        with pytest.raises(ValueError, match="holds no key") as caught:
            PseudonymKey.from_file(write(text))
        assert "secret" not in str(caught.value)
    line = b"v1 " + b"0" * 64 + b"\n"
    for text in (b"", b"0" * 64, line + line, b"v0 " + b"0" * 64, line + b"v2 " + b"0" * 63):
        with pytest.raises(ValueError, match=r"is not a key ring|at least one key"):
            KeyRing.from_file(write(text))
    with pytest.raises(ValueError, match="not a regular file"):
        PseudonymKey.from_file(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        PseudonymKey.from_file(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="not a regular file"):
        PseudonymKey.from_file(tmp_path / "pipe")


def test_a_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SYNTHEMA_PSEUDONYM_KEY", SECRET.hex())
    assert PseudonymKey.from_environment().same_as(PseudonymKey(SECRET))
    monkeypatch.setenv("SITE_KEY", "short-secret")
    with pytest.raises(ValueError, match="SITE_KEY holds no key") as caught:
        PseudonymKey.from_environment("SITE_KEY")
    assert "short-secret" not in str(caught.value)
    monkeypatch.delenv("SITE_KEY")
    with pytest.raises(ValueError, match="SITE_KEY is not set"):
        PseudonymKey.from_environment("SITE_KEY")


def test_rings_rotate_and_forget():
    rotated = KeyRing({3: PseudonymKey(SECRET)}).rotated(PseudonymKey(OTHER))
    assert (rotated.versions, rotated.current) == ((3, 4), 4)
    assert rotated.without(3).versions == (4,)
    with pytest.raises(ValueError, match="no version 3"):
        rotated.without(3).key(3)
    with pytest.raises(ValueError, match="rotate first"):
        rotated.without(4)
    assert KeyRing({1: PseudonymKey(SECRET), 2: PseudonymKey(OTHER)}, current=1).current == 1


@pytest.mark.parametrize(
    ("keys", "current", "rule"),
    [
        ({}, None, "at least one"),
        ({0: PseudonymKey(SECRET)}, None, "whole numbers"),
        ({True: PseudonymKey(SECRET)}, None, "whole numbers"),
        ({1: SECRET}, None, "must be a PseudonymKey"),
        ({1: PseudonymKey(SECRET), 2: PseudonymKey(SECRET)}, None, "same key"),
        ({1: PseudonymKey(SECRET)}, 2, "one of the versions"),
    ],
)
def test_a_ring_that_is_none_is_refused(keys, current, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        KeyRing(keys, current=current)
    assert repr(SECRET) not in str(caught.value)


@pytest.mark.parametrize("held", [PseudonymKey(SECRET), ring()], ids=["key", "ring"])
def test_keys_do_not_show_and_are_not_copied(held):
    for text in (repr(held), str(held), f"{held}", f"{held!r}"):
        assert SECRET.hex() not in text
        assert repr(SECRET)[2:-1] not in text
    for copied in (pickle.dumps, copy.copy, copy.deepcopy, lambda it: it.__reduce__(), lambda it: it.__getstate__()):
        with pytest.raises(TypeError):
            copied(held)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not serialised"):
            pickle.dumps(held, protocol=protocol)
    assert not hasattr(held, "__dict__")


def shown(error):
    """A traceback with the local variables of the package's own frames, as crash reporters print them."""
    lines = []
    for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack:
        if f"{os.sep}anonymise{os.sep}" in frame.filename and f"{os.sep}tests{os.sep}" not in frame.filename:
            lines += [frame.name, *(frame.locals or {}).values()]
    return "\n".join(lines)


def secrets_of(key):
    # The other purposes differ; these are the sub-keys that the calls below derive.
    subkeys = [key.subkey("pseudonym", DOMAIN), key.subkey("token", DOMAIN, length=64)]
    return [repr(secret)[2:-1] for secret in (SECRET, *subkeys)]


@pytest.mark.parametrize("given", [SECRET, PseudonymKey(SECRET)], ids=["bytes", "key"])
def test_a_traceback_with_local_variables_shows_no_key(given):
    key = PseudonymKey(SECRET)
    foreign = encrypt_ids(["MRN-1"], PseudonymKey(OTHER), domain=DOMAIN)
    calls = [
        lambda: pseudonymise(["MRN-1", None], given, domain=DOMAIN),
        lambda: encrypt_ids(["MRN-1", None], given, domain=DOMAIN),
        lambda: decrypt_ids(foreign, given, domain=DOMAIN),
        lambda: decrypt_ids(["no token"], given, domain=DOMAIN),
        lambda: patient_shifts([""], given, domain=DOMAIN, max_days=30),
        lambda: pseudonymise(["MRN-1"], given, domain=("", "patient")),
    ]
    for call in calls:
        with pytest.raises(Exception, match=r"column|domain") as caught:
            call()
        text = shown(caught.value)
        assert text
        assert not [secret for secret in secrets_of(key) if secret in text]
    with pytest.raises(ValueError, match="32 bytes") as caught:
        PseudonymKey(SECRET[:31])
    assert repr(SECRET[:31])[2:-1] not in shown(caught.value)


def test_the_search_for_keys_in_tracebacks_would_find_one():
    # Negative control: the sub-key is an argument of this call, and shows.
    from anonymise.pseudonyms import macs

    subkey = PseudonymKey(SECRET).subkey("pseudonym", DOMAIN)
    with pytest.raises(AttributeError) as caught:
        macs([None], subkey)
    assert secrets_of(PseudonymKey(SECRET))[1] in shown(caught.value)


def test_every_part_of_a_domain_and_the_version_make_another_sub_key():
    key = PseudonymKey(SECRET)
    found = {
        key.subkey("pseudonym", ("aml", "patient")),
        key.subkey("token", ("aml", "patient")),
        key.subkey("pseudonym", ("amlp", "atient")),
        key.subkey("pseudonym", ("aml", "patient", "vienna")),
        key.subkey("pseudonym", ("aml", "patient", "madrid")),
        key.subkey("pseudonym", ("aml", "patient", "1")),
        key.subkey("pseudonym", ("aml", "patient"), version=1),
        key.subkey("pseudonym", ("aml", "patient"), version=2),
        key.subkey("pseudonym", ("aml", "patient", "vienna"), version=1),
    }
    assert len(found) == 9
    assert key.subkey("a", KeyDomain("aml", "patient")) == key.subkey("a", ("aml", "patient"))
    # A longer sub-key starts with the shorter one: purposes keep lengths apart.
    assert len(key.subkey("token", ("aml", "patient"), length=64)) == 64


@pytest.mark.parametrize(
    "bad", ["aml", ("aml",), ("a", "b", "c", "d"), ("aml", ""), (" ", "x"), ("a", 1), ("a", "b", "")]
)
def test_a_domain_is_project_field_and_perhaps_site(bad):
    with pytest.raises(ValueError, match="domain"):
        pseudonymise(["MRN-1"], SECRET, domain=bad)


@pytest.mark.parametrize("name", [" aml", "aml\n", "Mu\u0308nchen"])
def test_a_domain_has_one_spelling(name):
    with pytest.raises(ValueError, match="write project without blanks"):
        KeyDomain(name, "patient")
