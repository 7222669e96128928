"""Files that are written whole or not at all: staged beside their places, made durable, then renamed.

A reader never sees half a table, and a run that stops leaves what was there before. Nothing that exists is replaced
unless that was asked for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from synthema.errors import TableError

# What stays inside is for the account that made it alone.
SHARED: Final = 0o666
INTERNAL: Final = 0o600

Write = Callable[[IO[str]], object]


class Outputs:
    """Files of one run. `check` first, then `stage` each, then `commit` all."""

    def __init__(self, *, force: bool = False) -> None:
        self._force = force
        self._staged: list[tuple[Path, Path]] = []

    def check(self, *paths: Path | None, inputs: Sequence[Path | None] = ()) -> None:
        """Raise TableError for a place that nothing can be written to; what exists is refused unless forced.

        `inputs`: files of which none is ever replaced.
        """
        read = {path.resolve() for path in inputs if path is not None}
        named = [path for path in paths if path is not None]
        places = [path.absolute() for path in named]
        for path, place in zip(named, places, strict=True):
            if places.count(place) > 1:
                raise TableError(f"{path.name} is named for two outputs; give each a file of its own")
            if place.resolve() in read:
                raise TableError(f"{path.name} is read by this command; give the output another name")
            if not place.parent.is_dir():
                raise TableError(f"the folder of {path.name} is not there; make it first")
            if place.is_dir() or (place.exists() and not self._force):
                raise TableError(f"{path.name} exists; give another name, or --force to replace it")

    def stage(self, path: Path, write: Write, *, mode: int = SHARED) -> Path:
        """Write a file beside its place, make it durable and return where it is. `write` gets the open file."""
        place = path.absolute()
        beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}.part")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        self._staged.append((beside, place))
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        return beside

    def commit(self) -> None:
        """Rename every staged file to its place. Raises TableError if one has appeared there in the meantime."""
        for beside, place in self._staged:
            if self._force:
                beside.replace(place)
            else:
                _put(beside, place)
        for folder in {place.parent for _, place in self._staged}:
            _durable(folder)
        self._staged.clear()

    def abandon(self) -> None:
        """Remove what was staged and not committed."""
        for beside, _ in self._staged:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        self._staged.clear()


@contextmanager
def outputs(*, force: bool = False) -> Iterator[Outputs]:
    """Yield the files of one run; whatever was not committed is removed on the way out."""
    files = Outputs(force=force)
    try:
        yield files
    finally:
        files.abandon()


def _put(beside: Path, place: Path) -> None:
    """Rename a file to a place where nothing is; a plain rename would replace what came meanwhile."""
    try:
        os.link(beside, place)
    except FileExistsError:
        raise TableError(f"{place.name} exists; give another name, or --force to replace it") from None
    except OSError:
        # A file system without hard links.
        beside.replace(place)
    else:
        beside.unlink()


def _durable(folder: Path) -> None:
    """Make the renames last through a power cut, where folders can be synchronised."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
