"""A backup is whole, verified and no way around the anchor; the doctor finds each thing that it is there to find."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import LedgerCorrupt, ZeroConcentratedDP
from privacy.ledger import (
    LedgerRefused,
    LedgerRestored,
    LedgerUnavailable,
    LocalWitness,
    Signer,
    WitnessPolicy,
    _host,
    doctor,
    open_ledger,
    verify,
)
from privacy.ledger._sqlite_library import Library
from privacy.ledger.backup import backup
from privacy.ledger.rules import origin_of

EVENT = ZeroConcentratedDP(0.001)
SITE = Signer("vienna/ledger", Ed25519PrivateKey.generate())


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "ledger" / "site.db"
    place.parent.mkdir()
    with open_ledger(f"sqlite:///{place}", site="vienna") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        spend(ledger, "1")
    return place


@pytest.fixture
def anchor(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "anchor"


def spend(ledger, key):
    with ledger.spend("aml", EVENT, key=key, purpose="a count") as block:
        block.release(7)


def url(path):
    return f"sqlite:///{path}"


# Backups


@pytest.mark.parametrize("source", ["open", "url", "path"])
def test_a_backup_has_the_same_head_verifies_and_stands_alone(path, tmp_path, source):
    with open_ledger(url(path)) as ledger:
        spend(ledger, "2")  # in the log, not yet in the file
        given = {"open": ledger, "url": url(path), "path": path}[source]
        done = backup(given, tmp_path / "copy.db")
        assert (done.entries, done.head) == ledger.head
    assert done.verification == verify(url(done.path), head=done.head)
    assert done.verification.ok
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o600
    assert done.bytes == done.path.stat().st_size
    assert "anchor" in str(done)
    assert "witnesses" in done.restoring
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "ledger"]


def test_a_backup_never_overwrites_and_leaves_nothing_after_a_failure(path, tmp_path):
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(LedgerRefused, match="exists"):
        backup(path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"
    with pytest.raises(LedgerUnavailable, match="not there"):
        backup(tmp_path / "none.db", tmp_path / "new.db")
    with pytest.raises(LedgerUnavailable):
        backup(path, tmp_path / "none" / "new.db")
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(LedgerCorrupt):
        backup(tmp_path / "text.db", tmp_path / "new.db")
    assert not [each for each in tmp_path.iterdir() if "new" in each.name]


def test_a_ledger_that_does_not_verify_is_not_taken_for_a_backup(path, tmp_path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE state SET value = CAST(replace(CAST(value AS TEXT), '3.0', '4.0') AS BLOB)")
    with pytest.raises(LedgerCorrupt, match="nothing was kept"):
        backup(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_restored_backup_is_refused_with_its_anchor_and_spends_twice_without(path, tmp_path, anchor):
    backup(path, tmp_path / "copy.db")
    with open_ledger(url(path), anchor=anchor) as ledger:
        spend(ledger, "2")
    for name in ("site.db", "site.db-wal", "site.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", path)
    with pytest.raises(LedgerRestored):
        open_ledger(url(path), anchor=anchor)
    with open_ledger(url(path)) as ledger:
        spend(ledger, "2")  # why the result says what restoring needs


def test_a_backup_beside_a_writer_is_of_one_moment(path, tmp_path):
    with open_ledger(url(path)) as ledger:
        for i in range(5):
            spend(ledger, f"k{i}")
            done = backup(path, tmp_path / f"copy{i}.db")
            assert (done.entries, done.head) == ledger.head


# The doctor


def findings(path, *args, **more):
    return {(each.level, each.check) for each in doctor.doctor(path, *args, **more)}


def what(path, check, *args, **more):
    return " ".join(f"{each}" for each in doctor.doctor(path, *args, **more) if each.check == check)


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """A machine on which there is nothing to find: what differs between machines is set."""
    monkeypatch.setattr(doctor, "sqlite_of", lambda: Library("sqlite3", (3, 51, 3)))
    monkeypatch.setattr(doctor, "file_system_of", lambda _path: "ext4")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 10**12))


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_with_the_bug_are_known(path, monkeypatch, version, bug):
    monkeypatch.setattr(doctor, "sqlite_of", lambda: Library("sqlite3", version))
    assert ("warn", "sqlite") in findings(path) if bug else ("ok", "sqlite") in findings(path)
    assert ("apsw" in what(path, "sqlite")) == bug


def test_a_healthy_ledger_has_no_warning_but_that_of_the_missing_anchor_and_key(path):
    assert {each for each in findings(path) if each[0] != "ok"} == {("warn", "anchor"), ("warn", "checkpoint")}


def test_the_doctor_writes_nothing(path):
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    doctor.doctor(path)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_settings_that_forget_spends_are_found(path, monkeypatch):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    assert ("warn", "settings") in findings(path)
    monkeypatch.setattr(doctor, "synchronous_level", lambda _path: 1)
    assert ("error", "settings") in findings(path)


@pytest.mark.parametrize(
    ("name", "mode", "level"),
    [
        ("site.db", 0o640, "warn"),
        ("site.db", 0o620, "error"),
        ("site.db-answers.key", 0o640, "error"),
        ("site.db-queue", 0o666, "error"),
    ],
)
def test_files_that_others_can_touch_are_found(path, name, mode, level):
    assert ("ok", "files") in findings(path)
    (path.parent / name).chmod(mode)
    assert (level, "files") in findings(path)
    assert name in what(path, "files")


def test_a_signing_key_and_an_anchor_are_looked_at_too(path, tmp_path, anchor):
    key = tmp_path / "site.key"
    assert ("error", "files") in findings(path, signing_key=key)
    key.write_text("secret")
    key.chmod(0o644)
    assert ("error", "files") in findings(path, signing_key=key)
    assert "secret" not in what(path, "files", signing_key=key)
    key.chmod(0o600)
    anchor.touch(0o666)
    anchor.chmod(0o666)
    assert ("error", "files") in findings(path, anchor, signing_key=key)


def test_an_anchor_that_a_backup_takes_along_is_found(path, anchor):
    assert ("warn", "anchor") in findings(path, anchor), "it is not there yet"
    with open_ledger(url(path), anchor=anchor) as ledger:
        spend(ledger, "2")
    assert "same" not in what(path, "anchor", anchor)
    assert "own file system" in what(path, "anchor", anchor)
    for inside in (path.parent / "anchor", path.parent / "deep" / "anchor"):
        assert ("error", "anchor") in findings(path, inside)
    # An anchor on another device is fine; there is one on every Linux.
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as other:
        assert Path(other.name).stat().st_dev != path.stat().st_dev
        assert ("ok", "anchor") in findings(path, other.name)


def test_a_ledger_behind_its_anchor_is_found_and_an_anchor_of_another_ledger(path, anchor, tmp_path):
    backup(path, tmp_path / "copy.db")
    with open_ledger(url(path), anchor=anchor) as ledger:
        spend(ledger, "2")
    assert ("error", "anchor") in findings(tmp_path / "copy.db", anchor)
    assert "old copy" in what(tmp_path / "copy.db", "anchor", anchor)
    open_ledger(url(tmp_path / "other.db")).close()
    assert "another ledger" in what(tmp_path / "other.db", "anchor", anchor)


def test_a_network_file_system_is_found(path, monkeypatch):
    for kind, level in (("nfs4", "error"), ("cifs", "error"), ("fuse.sshfs", "error"), ("xfs", "ok")):
        monkeypatch.setattr(doctor, "file_system_of", lambda _path, kind=kind: kind)
        assert (level, "disk") in findings(path)


def test_a_log_without_its_ledger_is_found_and_a_large_log(path, monkeypatch):
    shutil.copy(path, path.parent / "kept")
    path.with_name("site.db-wal").write_bytes(b"x")
    path.unlink()
    assert ("error", "log") in findings(path)
    path.with_name("site.db-wal").unlink()
    assert ("error", "file") in findings(path)
    (path.parent / "kept").replace(path)
    monkeypatch.setattr(doctor, "_LARGE_LOG_BYTES", 1000)
    with open_ledger(url(path)) as ledger:
        spend(ledger, "2")
        assert ("warn", "log") in findings(path)


def test_little_room_and_none_are_found(path, monkeypatch):
    for free, level in ((10**6, "error"), (10**8, "warn"), (10**12, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: Usage(0, 0, free))
        assert (level, "room") in findings(path)


def test_an_entry_in_the_future_is_found(path):
    assert ("ok", "clock") in findings(path)
    assert ("warn", "clock") in findings(path, now=time.time() - 3600)


def test_reservations_that_nobody_starts_are_found(path):
    later = time.time() + 2 * 86400
    assert ("ok", "pending") in findings(path, now=later)
    with open_ledger(url(path)) as ledger:
        ledger.reserve("aml", EVENT, key="left", purpose="p")
    assert ("ok", "pending") in findings(path)
    assert ("warn", "pending") in findings(path, now=later)


def test_old_checkpoints_and_cosignatures_are_found(path, tmp_path):
    witness_key = Signer("madrid/witness", Ed25519PrivateKey.generate())
    later = time.time() + 30 * 86400
    with open_ledger(url(path), signer=SITE) as ledger:
        ledger.set_key("site", SITE.verifier.vkey, reason="first", holder=SITE)
        assert "nothing was ever signed" in what(path, "checkpoint")
        ledger.set_key("witness madrid", witness_key.cosignature_verifier.vkey, reason="a witness")
        assert ("warn", "witness") in findings(path)
        logs = {origin_of(ledger.ledger_id): SITE.verifier}
    policy = WitnessPolicy([LocalWitness(tmp_path / "w.db", witness_key, logs)])
    with open_ledger(url(path), signer=SITE, witnesses=policy) as ledger:
        ledger.checkpoint()
    for now in (None, later):
        assert {("ok", "checkpoint"), ("ok", "witness")} <= findings(path, now=now), "nothing new since then"
    with open_ledger(url(path), signer=SITE) as ledger:
        ledger.note("news")
    assert {("ok", "checkpoint"), ("ok", "witness")} <= findings(path)
    assert {("warn", "checkpoint"), ("warn", "witness")} <= findings(path, now=later)


HOLD = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
os.set_inheritable(file, True)
child = os.fork() if sys.argv[2] == "dead" else 1
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
elif sys.argv[2] != "dead":
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("state", "level"), [("running", "warn"), ("stopped", "error"), ("dead", "error")])
def test_a_queue_that_is_held_is_found_with_who_holds_it(path, monkeypatch, state, level):
    monkeypatch.setattr(doctor, "_QUEUE_SECONDS", 0.05)
    assert ("ok", "queue") in findings(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, f"{path}-queue", state], stdout=subprocess.PIPE, text=True)
    alive = int(holder.stdout.readline())
    try:
        if state == "stopped":
            os.kill(alive, signal.SIGSTOP)
            os.waitpid(alive, os.WUNTRACED)
        if state == "dead":
            holder.wait(10)
        assert (level, "queue") in findings(path)
        assert str(holder.pid) in what(path, "queue")
    finally:
        os.kill(alive, signal.SIGKILL)
        holder.wait(10)
        holder.stdout.close()
    for _ in range(100):
        if ("ok", "queue") in findings(path):
            break
        time.sleep(0.02)
    assert ("ok", "queue") in findings(path)


def test_what_cannot_be_read_is_a_finding(path):
    path.write_bytes(b"no database at all" * 1000)
    assert ("error", "journal") in findings(path)
    assert ("error", "file") in findings(path.parent / "none.db")


def test_a_place_is_on_the_mount_that_is_nearest(tmp_path):
    mounts = (
        "1 0 8:1 / / rw - ext4 d rw\n2 1 0:9 / /data rw shared:1 - nfs4 h:/e rw\n3 1 0:9 / /database rw - xfs d rw\nx\n"
    )
    for place, kind in (("/data/x", "nfs4"), ("/data", "nfs4"), ("/database/x", "xfs"), ("/dat", "ext4")):
        assert _host.file_system_of(Path(place), mounts) == kind
    assert _host.file_system_of(tmp_path, "") == ""
    assert _host.file_system_of(tmp_path) != ""
