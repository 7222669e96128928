"""Processes that are killed at every step of writing, and disks that fail: no item is handed out again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import material_parties as parties
import pytest

from smpc.errors import (
    MaterialBusy,
    MaterialDamaged,
    MaterialExhausted,
    MaterialUnavailable,
    TripleReused,
)
from smpc.kinds import Product
from smpc.ring import RING64
from smpc.store import install_package, open_store

PRODUCT = Product(RING64)
TOTAL = 256
BLOCK = TOTAL // 64
# Two blocks, and the item that was being taken.
LOST = 2 * BLOCK + 1
# Writes are counted; a run makes fewer than this, so that every one of them is killed at.
MOST_WRITES = 80
PARTIES = Path(__file__).with_name("material_parties.py")


@pytest.fixture
def folder(tmp_path):
    return parties.dealt({PRODUCT: TOTAL}, 2, tmp_path)[0]


def begun(folder):
    store = open_store(folder)
    store.new_statement()
    store.reserve_from(store.marks, {}, {})
    store.begin()
    return store


def killed(folder, point, number):
    """Return what a process said that was killed at a point, and whether it came to the end."""
    done = subprocess.run(
        [sys.executable, PARTIES, "take", folder, point, str(number)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {0, -9}, done.stderr
    lines = done.stdout.split()
    return [int(line) for line in lines if line != "end"], done.returncode == 0


def forked(folder, point, number):
    """As `killed`, in a child of this process: a few milliseconds."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(write, 1)
            parties.take(folder, point, number)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as stream:
        lines = stream.read().split()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, -9}
    return [int(line) for line in lines if line != "end"], code == 0


def test_a_process_that_is_killed_from_a_shell_loses_two_blocks_at_most(folder):
    said, ended = killed(folder, "fsync-after", 9)
    assert not ended
    assert said
    with open_store(folder) as store:
        assert max(said) < store.marks[0] <= max(said) + 1 + LOST


POINTS = ["pwrite-before", "pwrite-within", "pwrite-after", "fsync-before", "fsync-after"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_write_no_item_serves_twice_and_little_is_lost(tmp_path, point):
    # The slow suite goes through all writes; here each point has writes of its own.
    for number in range(1 + POINTS.index(point), MOST_WRITES // 2, 11):
        die_and_go_on(tmp_path, point, number)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_write_no_item_serves_twice_and_little_is_lost(tmp_path, point):
    number = 1
    while not die_and_go_on(tmp_path, point, number):
        number += 1
    assert TOTAL // (2 * BLOCK) < number < MOST_WRITES


def die_and_go_on(tmp_path, point, number):
    """Let a process die at a write of a new store, and another take the rest; return whether it came to the end."""
    place = tmp_path / str(number)
    place.mkdir()
    folder = parties.dealt({PRODUCT: TOTAL}, 2, place)[0]
    first, ended = forked(folder, point, number)
    second, whole = forked(folder, "none", 0)
    assert whole
    assert not set(first) & set(second)
    assert len(first) + len(second) >= TOTAL - LOST
    with begun(folder) as store, pytest.raises(MaterialExhausted):
        store.take(PRODUCT, 1)
    return ended


def test_killed_again_and_again_no_item_serves_twice(folder):
    served = []
    for number in range(2, 12):
        said, _ = forked(folder, "fsync-after", number)
        served += said
    assert len(served) == len(set(served))
    assert served == sorted(served)


def test_a_mark_that_was_not_written_first_would_serve_items_twice(folder, monkeypatch):
    """The negative control: taking without reserving, a killed process leaves no trace."""
    monkeypatch.setattr("smpc.store.StoredMaterial._reserve", lambda *_: None)
    monkeypatch.setattr("smpc.store.StoredMaterial.reserve_from", lambda *_: None)
    first, _ = forked(folder, "pwrite-before", 3)
    second, _ = forked(folder, "none", 0)
    assert set(first) & set(second)


def test_items_before_the_mark_are_refused_after_a_crash(folder):
    store = begun(folder)
    store.take(PRODUCT, 10)
    parties.crash(store)
    with begun(folder) as again:
        for start in range(10):
            with pytest.raises(TripleReused):
                again.take_at(PRODUCT, start, 1)
        with pytest.raises(TripleReused):
            again.skip(PRODUCT, 9)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_hands_out_nothing_more_and_the_store_goes_on_later(folder, monkeypatch, call, number, code):
    original, calls, taken = getattr(os, call), [], []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(code, "injected")
        return original(*arguments)

    with monkeypatch.context() as patch:
        store = open_store(folder)
        patch.setattr(os, call, fail)

        def take_all():
            store.new_statement()
            store.reserve_from(store.marks, {1: (1, bytes(16))}, {})
            store.begin()
            for start in range(TOTAL):
                store.take_at(PRODUCT, start, 1)
                taken.append(start)

        with pytest.raises(MaterialUnavailable):
            take_all()
        # Not even what was reserved before.
        with pytest.raises(MaterialUnavailable):
            store.take(PRODUCT, 1)
        with pytest.raises(MaterialUnavailable):
            store.new_statement()
    parties.crash(store)
    with begun(folder) as again:
        assert again.marks[0] >= len(taken)
        again.take(PRODUCT, 1)


def test_a_write_that_is_cut_off_by_a_full_disk_is_finished_or_fails(folder, monkeypatch):
    original = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, start: original(descriptor, bytes(data)[:7], start))
    with begun(folder) as store:
        store.take(PRODUCT, 5)
    monkeypatch.undo()
    with open_store(folder) as store:
        assert store.marks == [5]


def test_one_process_at_a_time_holds_a_store(folder):
    with open_store(folder):
        with pytest.raises(MaterialBusy):
            open_store(folder)
        done = subprocess.run(
            [sys.executable, PARTIES, "take", folder, "none", "0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "MaterialBusy" in done.stderr
    open_store(folder).close()


def test_a_forked_child_cannot_use_its_parents_store(folder):
    with begun(folder) as store:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    store.take(PRODUCT, 1)
                except MaterialUnavailable:
                    code = 0
                store.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.take(PRODUCT, 3)
    with open_store(folder) as again:
        assert again.marks == [3]


def test_every_altered_byte_of_a_record_is_an_error(folder):
    with begun(folder) as store:
        store.take(PRODUCT, 3)
    record = folder / "record"
    data = record.read_bytes()
    assert len(data) >= 4 * 64
    for i in range(len(data)):
        record.write_bytes(data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :])
        with pytest.raises(MaterialDamaged):
            open_store(folder)
    # Entries that are doubled, exchanged or taken out.
    for other in (data + data[-64:], data[64:128] + data[:64] + data[128:], data[64:], data + bytes(64)):
        record.write_bytes(other)
        with pytest.raises(MaterialDamaged):
            open_store(folder)


@pytest.mark.parametrize("length", range(1, 64, 9))
def test_an_entry_that_is_not_whole_was_never_acknowledged_and_is_cut_off(folder, length):
    with begun(folder) as store:
        store.take(PRODUCT, 3)
    record = folder / "record"
    data = record.read_bytes()
    record.write_bytes(data + data[-64:][:length])
    with begun(folder) as store:
        assert store.marks == [3]
        store.take(PRODUCT, 1)
    open_store(folder).close()


def test_files_that_others_can_read_are_refused(folder):
    assert (folder / "material").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "material").chmod(0o640)
    with pytest.raises(MaterialDamaged, match="0600"):
        open_store(folder)


def test_a_store_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    parties.dealt({PRODUCT: TOTAL}, 2, tmp_path)
    package = tmp_path / "packages" / "party-1.package"

    def fail(_):
        raise OSError(errno.ENOSPC, "injected")

    for number in range(5):
        calls = []
        original = os.fsync

        def fsync(descriptor, number=number, calls=calls, original=original):
            calls.append(descriptor)
            return fail(descriptor) if len(calls) == number + 1 else original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                install_package(package, tmp_path / "new")
            except MaterialUnavailable:
                # The last sync is of the folder above: by then the store is there, and whole.
                assert not (tmp_path / "new").exists() or len(calls) == 4
        assert not list(tmp_path.glob("new.new-*"))
        if (tmp_path / "new").exists():
            break
    open_store(tmp_path / "new").close()
