"""The write-ahead log cut off or damaged anywhere: what is left is an exact prefix of the commits.

SQLite takes the frames up to the first that is not whole and rolls the rest back without a word. That the history got
shorter is for an anchor or a witness to see; that it is a history, is tested here.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from privacy import ZeroConcentratedDP
from privacy.ledger import open_ledger, verify

SPENDS = 14
CUT_EVERY = 64
# The suite cuts at every so-manieth of these places.
STRIDE = 101
LOG_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
FRAME = FRAME_HEADER + PAGE
# Of the last so many frames, one byte each is flipped.
FLIPPED_FRAMES = 40


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A ledger, its log of some 30 commits as it lies there while the ledger is open, and the entries after each."""
    path = tmp_path_factory.mktemp("ledger") / "site.db"
    with open_ledger(f"sqlite:///{path}") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
    with open_ledger(f"sqlite:///{path}") as ledger:
        connection = ledger._journal.store._open()
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        commits = [ledger.entries()]
        for i in range(SPENDS):
            with ledger.spend("aml", ZeroConcentratedDP(1e-6), key=f"{i}", purpose="p" * 10 * (i + 1)) as spend:
                commits.append(ledger.entries())
                spend.release("a" * 100 * i)
            commits.append(ledger.entries())
        ledger.reserve_many("aml", [(f"b{i}", ZeroConcentratedDP(1e-6)) for i in range(12)], purpose="batch")
        commits.append(ledger.entries())
        return path.read_bytes(), Path(f"{path}-wal").read_bytes(), commits


def commits_in(log):
    """How many commits whole frames up to some length hold: a frame of a commit's end says how large the file is."""
    whole = (len(log) - LOG_HEADER) // FRAME if len(log) >= LOG_HEADER else 0
    places = range(LOG_HEADER, LOG_HEADER + whole * FRAME, FRAME)
    return sum(struct.unpack(">I", log[place + 4 : place + 8])[0] > 0 for place in places)


def found(folder, file, log):
    """Put file and log there, as a crash leaves them; verify, and return the entries."""
    path = folder / "copy.db"
    for suffix, data in (("", file), ("-wal", log), ("-shm", None)):
        place = Path(f"{path}{suffix}")
        place.unlink(missing_ok=True)
        if data is not None:
            place.write_bytes(data)
    result = verify(f"sqlite:///{path}")
    assert result.ok, result.problems
    with open_ledger(f"sqlite:///{path}", check="head") as ledger:
        entries = ledger.entries()
        assert result.entries == len(entries)
    return entries


def check_cut(recorded, folder, length):
    file, log, commits = recorded
    cut = log[:length]
    assert found(folder, file, cut) == commits[commits_in(cut)], length


def test_a_log_that_is_cut_off_leaves_the_commits_before_the_cut(recorded, tmp_path):
    log = recorded[1]
    assert commits_in(log) == len(recorded[2]) - 1 == 2 * SPENDS + 1
    for length in [*range(0, len(log), CUT_EVERY * STRIDE), len(log)]:
        check_cut(recorded, tmp_path, length)


@pytest.mark.slow
def test_a_log_that_is_cut_off_at_every_64_bytes_leaves_the_commits_before_the_cut(recorded, tmp_path):
    log = recorded[1]
    for length in [*range(0, len(log), CUT_EVERY), len(log)]:
        check_cut(recorded, tmp_path, length)


def test_a_flipped_byte_in_a_frame_leaves_the_commits_before_it(recorded, tmp_path):
    file, log, commits = recorded
    rng = random.Random(20261126)
    frames = (len(log) - LOG_HEADER) // FRAME
    for frame in range(max(0, frames - FLIPPED_FRAMES), frames):
        place = LOG_HEADER + frame * FRAME + rng.randrange(FRAME)
        changed = bytearray(log)
        changed[place] ^= 1 << rng.randrange(8)
        assert found(tmp_path, file, bytes(changed)) == commits[commits_in(log[: LOG_HEADER + frame * FRAME])], place


def test_a_spend_goes_on_after_a_cut_and_a_key_that_was_cut_off_is_charged_once(recorded, tmp_path):
    file, log, _ = recorded
    entries = found(tmp_path, file, log[: len(log) // 2])
    known = {entry.body["key"] for entry in entries if entry.kind == "start"}
    url = f"sqlite:///{tmp_path}/copy.db"
    with open_ledger(url) as ledger:
        lost = next(f"{i}" for i in range(SPENDS) if f"{i}" not in known)
        purpose = "p" * 10 * (int(lost) + 1)
        with ledger.spend("aml", ZeroConcentratedDP(1e-6), key=lost, purpose=purpose) as spend:
            spend.release("anew")
        assert [entry.kind for entry in ledger.entries() if entry.body.get("key") == lost] == [
            "reserve",
            "start",
            "post",
        ]
    assert verify(url).ok


def test_a_page_put_into_the_file_without_its_log_is_found(recorded, tmp_path):
    """The negative control: half a commit, as a store without checksums and commit marks would leave it."""
    file, log, _ = recorded
    frames = [log[place : place + FRAME] for place in range(LOG_HEADER, len(log) - FRAME + 1, FRAME)]
    wrong = 0
    for frame in frames[1:12]:
        page = struct.unpack(">I", frame[:4])[0]
        torn = bytearray(file.ljust(page * PAGE, b"\0"))
        torn[(page - 1) * PAGE : page * PAGE] = frame[FRAME_HEADER:]
        path = tmp_path / f"torn{wrong}.db"
        path.write_bytes(bytes(torn))
        wrong += not verify(f"sqlite:///{path}").ok
        path.unlink()
    assert wrong > 5
