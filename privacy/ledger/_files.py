"""New files that appear whole or not at all, for their owner alone, and never over another file."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from privacy.ledger.errors import LedgerRefused, LedgerUnavailable


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty file of mode 0600 beside `path`; on leaving, it is on the disk under its name.

    After an error in the block, nothing is left.

    Raises
    ------
    LedgerRefused
        There is such a file already: none is ever overwritten.
    LedgerUnavailable
        It cannot be written.
    """
    place = Path(path).absolute()
    refusal = LedgerRefused(f"{place.name} exists, and no file is overwritten: choose another name")
    if os.path.lexists(place):
        raise refusal
    new = place.with_name(f"{place.name}.new-{secrets.token_hex(8)}")
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        yield new
        _sync(new, os.O_RDONLY)
        try:
            # A rename would replace a file that came meanwhile.
            os.link(new, place)
        except FileExistsError:
            raise refusal from None
        new.unlink()
        _sync(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LedgerUnavailable(f"{place.name} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    place = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(place)
    finally:
        os.close(place)
