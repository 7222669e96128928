"""Files with secrets: made with mode 0600, never over another file, and read only if nobody else could touch them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from privacy._secret_files import read_secret

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
        data = read_secret(path, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    if not data.isascii():
        raise ValueError(f"{path.name} holds no key")
    return data.decode("ascii")
