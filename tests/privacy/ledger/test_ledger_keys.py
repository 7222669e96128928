"""Key files are private, whole, never overwritten; and no error quotes one."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from privacy.ledger import LedgerRefused, LedgerUnavailable
from privacy.ledger.keys import answer_key, generate_key, load_key

NAME = "vienna.example/ledger"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site.key"


@pytest.fixture
def loose_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("passphrase", [None, b"six random words or more, please"])
def test_a_key_reads_back(path, passphrase):
    made = generate_key(path, name=NAME, passphrase=passphrase)
    read = load_key(path, passphrase)
    assert (read.name, read.public, made.name) == (NAME, made.public, NAME)
    assert made.verifier.verify("text\n", read.sign_note("text\n"))
    assert NAME in repr(made)
    assert made.public.hex() not in repr(made)


@pytest.mark.usefixtures("loose_umask")
@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_files_are_private_whatever_the_umask_and_nothing_else_is_left(tmp_path, path, passphrase):
    generate_key(path, name=NAME, passphrase=passphrase)
    answer_key(tmp_path / "answers.key")
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {
        "site.key": 0o600,
        "answers.key": 0o600,
    }


def test_other_tools_read_the_file_in_spite_of_its_first_line(path):
    made = generate_key(path, name=NAME)
    data = path.read_bytes()
    assert data.startswith(b"# synthema key vienna.example/ledger\n-----BEGIN PRIVATE KEY-----\n")
    assert load_pem_private_key(data, None).public_key().public_bytes_raw() == made.public
    if openssl := shutil.which("openssl"):
        out = subprocess.run(
            [openssl, "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True, check=True
        )
        assert out.stdout.endswith(made.public)


def test_an_encrypted_file_does_not_hold_the_key(path):
    made = generate_key(path, name=NAME, passphrase=b"secret")
    seed = made._private.private_bytes_raw()
    data = path.read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in data
    assert seed not in base64.b64decode(b"".join(data.splitlines()[2:-1]))


def test_a_file_is_never_overwritten(path):
    generate_key(path, name=NAME)
    before = path.read_bytes()
    with pytest.raises(LedgerRefused):
        generate_key(path, name=NAME)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_files_that_others_can_touch_are_refused(tmp_path, path, mode):
    generate_key(path, name=NAME)
    answer_key(tmp_path / "answers.key")
    path.chmod(mode)
    (tmp_path / "answers.key").chmod(mode)
    with pytest.raises(LedgerRefused, match="chmod 600"):
        load_key(path)
    with pytest.raises(LedgerRefused, match="chmod 600"):
        answer_key(tmp_path / "answers.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path):
    generate_key(path, name=NAME)
    os.chown(path, 65_534, 65_534)
    with pytest.raises(LedgerRefused, match="another user"):
        load_key(path)


def test_what_is_no_file_is_refused_and_what_is_missing_unavailable(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for load in (load_key, answer_key):
        for name in ("pipe", "folder"):
            with pytest.raises(LedgerRefused, match="regular file"):
                load(tmp_path / name)
        with pytest.raises(LedgerUnavailable):
            load(tmp_path / "nowhere")
    with pytest.raises(LedgerUnavailable):
        load_key(tmp_path / "missing")
    for make in (answer_key, lambda path: generate_key(path, name=NAME)):
        with pytest.raises(LedgerUnavailable):
            make(tmp_path / "no folder" / "key")


def test_wrong_passphrases_are_refused_and_said_apart(path):
    generate_key(path, name=NAME, passphrase=b"secret")
    with pytest.raises(LedgerRefused, match="passphrase is wrong"):
        load_key(path, b"Secret")
    with pytest.raises(LedgerRefused, match="give its passphrase"):
        load_key(path)
    plain = path.with_name("plain.key")
    generate_key(plain, name=NAME)
    with pytest.raises(LedgerRefused, match="give no passphrase"):
        load_key(plain, b"secret")
    for passphrase in (b"", "secret"):
        with pytest.raises(ValueError):
            load_key(path, passphrase)
        with pytest.raises(ValueError):
            generate_key(path.with_name("other.key"), name=NAME, passphrase=passphrase)
    for name in ("", "a b", "a+b", "a\nb", None):
        with pytest.raises(ValueError):
            generate_key(path.with_name("other.key"), name=name)
    assert not path.with_name("other.key").exists()


def contents(path):
    generate_key(path, name=NAME)
    good = path.read_bytes()
    header, _, block = good.partition(b"\n")
    ec = generate_ec(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = load_pem_private_key(good, None).public_key()
    yield from (b"", header, header + b"\n", block, b"\xff\n" + block, b"# another tool's key a\n" + block)
    yield from (b"# synthema key \n" + block, b"# synthema key a b\n" + block, header + b"\n" + ec)
    yield header + b"\n" + block[: len(block) // 2]
    yield header + b"\n" + block.replace(b"PRIVATE", b"PUBLIC")
    yield good + b" " * 70_000
    yield header + b"\n" + public.public_bytes_raw().hex().encode()


def test_files_that_hold_no_signing_key_are_refused_without_a_word_of_them(path):
    for data in contents(path):
        path.write_bytes(data)
        with pytest.raises(LedgerRefused) as caught:
            load_key(path)
        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        said = str(error).encode()
        for line in data.splitlines()[1:]:
            assert not line.strip() or line not in said


def test_an_answer_key_is_made_once_and_read_for_ever(path):
    key = answer_key(path)
    assert len(key) == 32
    assert path.read_bytes() == key.hex().encode() + b"\n"
    assert answer_key(path) == answer_key(Path(path)) == key
    assert answer_key(path.with_name("other")) != key


def test_threads_that_make_an_answer_key_at_once_get_the_same(path):
    barrier, keys = threading.Barrier(8), []

    def work():
        barrier.wait()
        keys.append(answer_key(path))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"0" * 64, b"0" * 63 + b"\n", b"0" * 65 + b"\n", b"G" * 64 + b"\n", b"A" * 64 + b"\n"]
)
def test_a_damaged_answer_key_is_refused_and_kept(path, data):
    answer_key(path)
    path.write_bytes(data)
    with pytest.raises(LedgerRefused) as caught:
        answer_key(path)
    assert not data.strip() or data.decode().strip() not in str(caught.value)
    assert path.read_bytes() == data
