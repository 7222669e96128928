"""What an operator should know about a ledger's surroundings before trusting them: disk, files, keys, clocks, locks.

Whether the entries are right is another question, which `verify` answers. Nothing here writes to the ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from privacy.errors import LedgerError
from privacy.ledger._checkup import Finding, journal_findings
from privacy.ledger._host import file_system_of, holder_of
from privacy.ledger._snapshot import from_snapshot
from privacy.ledger._sqlite_library import known_bug, sqlite_of

# What is written is small, and a commit that fails is whole or not there: these are for the operator's comfort.
_NO_ROOM_BYTES, _LITTLE_ROOM_BYTES = 16_000_000, 256_000_000
_LARGE_LOG_BYTES = 64_000_000
_QUEUE_SECONDS = 1.0
_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}


def doctor(
    path: str | os.PathLike[str],
    anchor: str | os.PathLike[str] | None = None,
    *,
    answer_key: str | os.PathLike[str] | None = None,
    signing_key: str | os.PathLike[str] | None = None,
    now: float | None = None,
) -> list[Finding]:
    """Look at an SQLite ledger's surroundings; the worst comes first. Never raises for what it finds.

    Parameters
    ----------
    path
        The ledger's file.
    anchor, answer_key, signing_key
        The other files; the answer key is by default the one beside the ledger.
    now
        Unix seconds; by default this machine's clock.
    """
    place = Path(path).absolute()
    keep = None if anchor is None else Path(anchor).absolute()
    answers = Path(f"{place}-answers.key") if answer_key is None else Path(answer_key).absolute()
    signing = None if signing_key is None else Path(signing_key).absolute()
    clock = time.time() if now is None else now
    found = [_library(), _disk_kind(place)]
    if not place.is_file():
        found.append(_missing(place))
    else:
        found += [_room(place), _log(place), _queue(place), *_permissions(place, answers, signing, keep)]
        found += [*_settings(place), *_anchor_place(place, keep)]
        try:
            found += from_snapshot(f"sqlite:///{place}", partial(journal_findings, now=clock, anchor=keep))
        except (LedgerError, ValueError) as error:
            found.append(Finding("error", "journal", f"{error}", "Run verify; restore the latest copy if it fails"))
    return sorted(found, key=lambda each: ("error", "warn", "ok").index(each.level))


def _library() -> Finding:
    library = sqlite_of()
    if known_bug(library.version):
        return Finding(
            "warn",
            "sqlite",
            f"{library} has the WAL-reset bug (3.7.0 to 3.51.2), which can, rarely, damage the file",
            "Install the extra: pip install 'synthema[apsw]' brings a fixed SQLite; keep backups",
        )
    return Finding("ok", "sqlite", f"{library} does not have the WAL-reset bug")


def _missing(place: Path) -> Finding:
    log = Path(f"{place}-wal")
    if log.exists() and log.stat().st_size:
        return Finding(
            "error",
            "log",
            f"{place.name} is gone but its log is there: acknowledged spends may be in it alone",
            "Do not make a new ledger here; bring the file back beside its log, or restore and check with the anchor",
        )
    return Finding("error", "file", f"{place.name} is not there", "Give the ledger's file, or make one with init")


def _disk_kind(place: Path) -> Finding:
    kind = file_system_of(place.parent)
    if kind in _NETWORK or kind.startswith("fuse.ssh"):
        return Finding(
            "error",
            "disk",
            f"{place.name} is on a network file system ({kind}): locks and shared memory cannot be relied on",
            "Move it to a local disk of the machine that spends; use PostgreSQL for several machines",
        )
    return Finding("ok", "disk", f"a local file system ({kind or 'unknown'})")


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place.parent).free
    text = f"{free / 1e6:.0f} MB are free"
    if free < _NO_ROOM_BYTES:
        return Finding("error", "room", text, "Make room: spends are refused as soon as an entry cannot be written")
    if free < max(_LITTLE_ROOM_BYTES, 2 * place.stat().st_size):
        return Finding("warn", "room", text, "Make room for the ledger's growth and a backup")
    return Finding("ok", "room", text)


def _log(place: Path) -> Finding:
    log = Path(f"{place}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _LARGE_LOG_BYTES:
        return Finding(
            "warn",
            "log",
            f"the write-ahead log has {size / 1e6:.0f} MB: some reader keeps it from being folded into the file",
            "Find the process that holds the ledger open for long, and close it",
        )
    return Finding("ok", "log", f"the write-ahead log has {size / 1e6:.1f} MB")


def _queue(place: Path) -> Finding:
    queue = Path(f"{place}-queue")
    try:
        file = os.open(queue, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Finding("ok", "queue", "nobody has written yet")
    except OSError as error:
        return Finding(
            "error", "queue", f"the writers' queue cannot be opened: {error.strerror}", "Mend its owner and mode"
        )
    try:
        deadline = time.monotonic() + _QUEUE_SECONDS
        while not _taken(file):
            if time.monotonic() > deadline:
                return _held(file)
            time.sleep(0.02)
    finally:
        os.close(file)
    return Finding("ok", "queue", "writers are let in")


def _taken(file: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _held(file: int) -> Finding:
    pid, state = holder_of(os.fstat(file))
    if state == "stopped":
        what, way_out = f"process {pid} is stopped and holds it", f"Let it go on (kill -CONT {pid}), or end it"
    elif state == "dead":
        what = f"process {pid}, which took it, is gone, and a child of it lives on with the lock"
        way_out = "End the processes that were started by it; what was acknowledged is safe"
    else:
        return Finding(
            "warn",
            "queue",
            f"writers waited for {_QUEUE_SECONDS:g} s behind process {pid or 'unknown'}",
            "Ask again; if it stays so, see what that process does",
        )
    return Finding("error", "queue", f"nobody can write: {what}", way_out)


def _permissions(place: Path, answers: Path, signing: Path | None, anchor: Path | None) -> Iterator[Finding]:
    beside = [Path(f"{place}{end}") for end in ("-wal", "-shm", "-queue")]
    bad = False
    for file, secret in [
        (place, False),
        *((each, False) for each in beside),
        (anchor, False),
        (answers, True),
        (signing, True),
    ]:
        if file is None or not file.exists():
            continue
        status = file.stat()
        mode = stat.S_IMODE(status.st_mode)
        others = mode & 0o077
        if others and (secret or others & 0o022):
            bad = True
            more = ", and make a new key if others may have read it" if secret else ""
            word = "touched" if secret else "written"
            yield Finding(
                "error", "files", f"{file.name} can be {word} by others (mode {mode:04o})", f"chmod 600{more}"
            )
        elif others:
            bad = True
            yield Finding("warn", "files", f"{file.name} can be read by others (mode {mode:04o})", "chmod 600")
        if status.st_uid not in (os.geteuid(), 0):
            bad = True
            yield Finding("warn", "files", f"{file.name} belongs to another user", "Run as the ledger's own user")
    if signing is not None and not signing.exists():
        bad = True
        yield Finding(
            "error", "files", f"the signing key {signing.name} is not there", "Bring it back, or rotate the key"
        )
    if not bad:
        yield Finding("ok", "files", "only their owner can touch the ledger and its keys")


def _settings(place: Path) -> Iterator[Finding]:
    try:
        with place.open("rb") as file:
            wal = file.read(20)[18:20] == b"\x02\x02"
        level = synchronous_level(place)
    except (OSError, sqlite3.Error) as error:
        yield Finding("error", "settings", f"{place.name} cannot be read: {error}", "Mend the disk or the file's owner")
        return
    if not wal:
        yield Finding(
            "warn",
            "settings",
            "the file is not in write-ahead-log mode: another tool changed it",
            "Find out which; the next opening sets it back",
        )
    if level < 2:
        yield Finding(
            "error",
            "settings",
            f"this SQLite keeps synchronous = {level} where FULL is asked for: a power cut forgets spends",
            "Use another build of SQLite, for example the extra apsw",
        )
    if wal and level >= 2:
        yield Finding("ok", "settings", "write-ahead log, and a sync for every commit")


def synchronous_level(place: Path) -> int:
    """Return what `PRAGMA synchronous` says after FULL was asked for, as every opening does: 2, or the library lies."""
    # Beside a log nobody is disturbed; without one, opening would make it.
    options = "mode=ro" if Path(f"{place}-wal").exists() else "mode=ro&immutable=1"
    with contextlib.closing(
        sqlite3.connect(f"file:{quote(str(place))}?{options}", uri=True, isolation_level=None)
    ) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])


def _anchor_place(place: Path, anchor: Path | None) -> Iterator[Finding]:
    if anchor is None:
        yield Finding(
            "warn",
            "anchor",
            "no anchor was given: without one, or witnesses, a restored backup spends again what was spent",
            "Open the ledger with an anchor, a file on another disk that backups leave out",
        )
    elif place.parent == anchor.parent or place.parent in anchor.parents:
        yield Finding(
            "error",
            "anchor",
            "the anchor is in the ledger's own folder: a backup takes both, and restores both",
            "Move it out of what is backed up, best to another disk",
        )
    elif not anchor.exists():
        yield Finding(
            "warn", "anchor", f"the anchor {anchor.name} is not there yet", "Open the ledger with it, and write"
        )
    elif anchor.stat().st_dev == place.stat().st_dev:
        yield Finding(
            "warn",
            "anchor",
            "the anchor is on the ledger's own file system: a snapshot of the disk restores both",
            "Move it to another disk or machine",
        )
    else:
        yield Finding("ok", "anchor", "the anchor is on another file system")
