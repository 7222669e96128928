"""Files with secrets are read only if nobody else could touch them."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_secret(path: Path, *, most_bytes: int) -> bytes:
    """Return the bytes of a regular file that only its owner (we, or root) can touch.

    Raises ValueError, naming the file, for another kind of file, other rights or owner, or more than `most_bytes`
    bytes, and OSError if it cannot be read.
    """
    try:
        # Without O_NONBLOCK, a pipe at this place would keep us waiting before it could be refused.
        place = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(place, "rb") as file:
            # Of the open file, not of the path: that could be exchanged in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path.name} is not a regular file")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise ValueError(
                    f"{path.name} can be touched by others (mode {mode:04o}): chmod 600, and make a new key if others "
                    "may have read it"
                )
            if status.st_uid not in (os.geteuid(), 0):
                raise ValueError(f"{path.name} belongs to another user: change its owner to the one we run as")
            data = file.read(most_bytes + 1)
    except IsADirectoryError:
        raise ValueError(f"{path.name} is not a regular file") from None
    if len(data) > most_bytes:
        raise ValueError(f"{path.name} holds no key: it is too large for a key")
    return data
