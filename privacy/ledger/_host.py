r"""What Linux says of a place and of a lock, for the `doctor`; elsewhere it says nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

State = Literal["running", "stopped", "dead", "unknown"]

_ESCAPE = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mounts: str | None = None) -> str:
    r"""Return the type of the file system that a path is on ("ext4", "nfs4"), or nothing if the system does not say.

    `mounts` stands for the text of /proc/self/mountinfo.

    Examples
    --------
    >>> file_system_of(Path("/srv/a b/x"), "1 0 8:1 / / rw - ext4 d rw\n2 1 0:9 / /srv/a\\040b rw - nfs4 h:/e rw\n")
    'nfs4'
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    place = str(path.resolve())
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mount = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        # Of several mounts on one place, the last is the one that is seen.
        if inside and len(mount) >= best:
            best, kind = len(mount), after.split()[0]
    return kind


def holder_of(status: os.stat_result) -> tuple[int, State]:
    """Return the process that took the lock (`flock`) on a file, 0 if unknown, and how it fares."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, "unknown"
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == place:
            pid = int(fields[4])
            return pid, _state(pid)
    return 0, "unknown"


def _state(pid: int) -> State:
    if pid <= 0:
        return "unknown"
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return "dead"
    except OSError:
        return "unknown"
    # The name before it may hold spaces and brackets.
    letter = text.rpartition(")")[2].split()[0]
    return "stopped" if letter in "Tt" else "dead" if letter in "ZX" else "running"
