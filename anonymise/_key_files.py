"""Files with secrets: made with mode 0600, never over another file, and read only if nobody else could touch them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_MOST_BYTES: Final = 1 << 20


def write_key_file(path: Path, text: str) -> None:
    """Write a new file of mode 0600, on the disk when this returns. Raises FileExistsError rather than overwrite."""
    place = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(place, "wb") as file:
        # Also under an odd umask.
        os.fchmod(file.fileno(), 0o600)
        file.write(text.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def read_key_file(path: Path) -> str:
    """Return the text of a regular file that only its owner (we, or root) can touch. Raises ValueError otherwise."""
    try:
        # Without O_NONBLOCK, a pipe at this place would keep us waiting before it could be refused.
        place = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(place, "rb") as file:
            # Of the open file, not of the path: that could be exchanged in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path.name} is not a regular file")
            if status.st_mode & 0o077:
                raise ValueError(
                    f"{path.name} can be touched by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600, and "
                    "make a new key if others may have read it"
                )
            if status.st_uid not in (os.geteuid(), 0):
                raise ValueError(f"{path.name} belongs to another user: change its owner to the one we run as")
            data = file.read(_MOST_BYTES + 1)
    except IsADirectoryError:
        raise ValueError(f"{path.name} is not a regular file") from None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES or not data.isascii():
        raise ValueError(f"{path.name} holds no key")
    return data.decode("ascii")
