"""A store of preprocessed material on disk, for one party: each item serves once, also after a crash.

A store is a folder that only its owner can enter:

    material  the dealer's package (`smpc.package`), never written to again
    record    what was used of it (`smpc.record`)

Items are handed out in order. Before the first masked opening that uses an item can leave, the record says on the disk
that it is used: ranges are reserved ahead in blocks, so that not every take waits for the disk. A block is 1/64 of what
the dealer made of a kind, and at most 4 MiB. A process that is killed wastes what was reserved and not handed out: up
to two blocks of each kind, what the last take asked for, and what the run said it would need. A store that is closed
gives it back.

One process at a time holds a store (a lock of the file); a forked child cannot use its parent's. What these cannot see,
a folder that was restored from a backup or copied, the parties find out together at the start of a run, before any item
is used (`smpc.agreement`); so nothing is handed out before `Session.agree_on_material`.

The material is secret as long as what it masked is: who reads it, and recorded the messages of a run, sees what the run
multiplied. Used items are not erased from the file, for the seed expands to all. Keep the folder on an encrypted disk
and outside of backups, and remove it when the batch is used up.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.randomness import SecureRng
from smpc.errors import (
    MaterialBusy,
    MaterialDamaged,
    MaterialDiscarded,
    MaterialExhausted,
    MaterialMismatch,
    MaterialNotAgreed,
    MaterialUnavailable,
    PackageRefused,
)
from smpc.material import Elements, Kind, MaterialStore
from smpc.package import Manifest, PackageFile
from smpc.record import TAG_BYTES, Entry, Record, Type
from smpc.sealed_files import opened
from smpc.store_anchor import StoreAnchor

PACKAGE_NAME = "material"
RECORD_NAME = "record"

_BLOCKS_OF_A_KIND = 64
_BLOCK_BYTES = 1 << 22


def install_package(
    package: Path, folder: Path, *, key: X25519PrivateKey | None = None, dealer: bytes | None = None
) -> Manifest:
    """Make a store of a dealer's package, and return what is in it.

    Parameters
    ----------
    package
        The file that came.
    folder
        The store to make; must not exist. A package makes one store, once.
    key, dealer
        This party's key and the dealer's public key (Ed25519, 32 bytes), if the package is sealed.

    Raises
    ------
    PackageRefused
        If the seal does not fit, or the folder exists.
    MaterialDamaged
        If the package is not whole.
    MaterialUnavailable
        If the disk fails. Nothing is left behind.
    """
    if (key is None) != (dealer is None):
        raise ValueError("a sealed package needs this party's key and the dealer's public key")
    if os.path.lexists(folder):
        raise PackageRefused(f"{folder.name} exists, and a store is never overwritten")
    new = folder.with_name(f"{folder.name}.new-{secrets.token_hex(8)}")
    try:
        with _disk(folder.name):
            new.mkdir(mode=0o700)
            with package.open("rb") as file:
                pieces = _plain(file) if key is None or dealer is None else opened(file, key, dealer)
                _write(new / PACKAGE_NAME, pieces)
            _write(new / RECORD_NAME, ())
            descriptor = os.open(new / PACKAGE_NAME, os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = PackageFile(descriptor, package.name)
                content.check()
            finally:
                os.close(descriptor)
            _sync_folder(new)
            new.rename(folder)
            _sync_folder(folder.absolute().parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return content.manifest


def open_store(
    path: str | os.PathLike[str],
    *,
    party: int | None = None,
    n_parties: int | None = None,
    anchor: str | os.PathLike[str] | None = None,
) -> StoredMaterial:
    """Return the store of a folder, locked for this process. Close it, or use it in a `with` block.

    Parameters
    ----------
    path
        The folder that `install_package` made.
    party, n_parties
        If given, whose store of how many it must be.
    anchor
        A small file outside of all backups of the folder, on another disk or host, made when it is first used: it
        finds a restored store even if all parties' stores were restored together.

    Raises
    ------
    MaterialBusy
        If it is open already.
    MaterialMismatch
        If it is another party's.
    MaterialDamaged, MaterialDiscarded, MaterialRolledBack, MaterialUnavailable
        If it must not or cannot be used.
    """
    return StoredMaterial(Path(path), party=party, n_parties=n_parties, anchor=None if anchor is None else Path(anchor))


class StoredMaterial(MaterialStore):
    """One party's material, from disk. See `open_store`."""

    def __init__(self, folder: Path, *, party: int | None, n_parties: int | None, anchor: Path | None) -> None:
        self._folder = folder
        self._agreed = False
        self._closed = False
        self._process = os.getpid()
        # Seconds spent on expanding seeds and reading corrections, and the items that came of it.
        self.expansion_seconds = 0.0
        self.items_expanded = 0
        descriptors: list[int] = []
        try:
            record = _open_private(folder / RECORD_NAME, os.O_RDWR, descriptors)
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MaterialBusy(folder.name) from None
            package = PackageFile(_open_private(folder / PACKAGE_NAME, os.O_RDONLY, descriptors), PACKAGE_NAME)
            self.manifest = package.manifest
            self._package = package
            self._check_owner(party, n_parties)
            self._record = Record(record, RECORD_NAME, fingerprint=self.manifest.fingerprint)
            self._check_record()
            self._anchor = None if anchor is None else StoreAnchor(anchor, self.manifest)
            if self._anchor is not None:
                self._anchor.check(self._record.statements)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        self._descriptors = descriptors
        super().__init__(package.seed, corrections=package if self.manifest.is_last else None)
        for number, kind in enumerate(self.manifest.kinds):
            super().skip(kind, self._record.marks.get(number, 0))

    def __repr__(self) -> str:
        return (
            f"StoredMaterial(party={self.manifest.party}, n_parties={self.manifest.n_parties}, kinds={len(self.left)})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def left(self) -> dict[Kind, int]:
        """How many items of each kind can still be handed out."""
        return {kind: total - self._used[kind] for kind, total in self.manifest.amounts.items()}

    def take(self, kind: Kind, count: int) -> list[Elements]:
        """Return this party's shares of the next items: free fields, then tied ones.

        Raises
        ------
        MaterialNotAgreed
            Before `Session.agree_on_material`.
        MaterialExhausted
            If the dealer did not make as many. None was taken.
        MaterialUnavailable, MaterialDamaged
            If the disk fails. The items count as used.
        """
        self._check_usable()
        if not self._agreed:
            raise MaterialNotAgreed
        start = self._used.get(kind, 0)
        self._check_left(kind, start, count)
        if count:
            self._reserve(kind, start + count)
        return super().take(kind, count)

    def prepare(self, amounts: Mapping[Kind, int]) -> None:
        """Expand items ahead of their use, into memory. May be done before the parties agree where to begin."""
        self._check_usable()
        for kind, count in amounts.items():
            self._check_left(kind, max(self._used.get(kind, 0), self._drawn.get(kind, 0)), count)
        super().prepare(amounts)

    def check(self) -> None:
        """Read all of the package; raises MaterialDamaged if a checksum is not right."""
        self._package.check()

    def close(self) -> None:
        """Give back what was reserved and not handed out, and unlock the store."""
        if self._closed:
            return
        self._closed = True
        try:
            # A forked child has the parent's descriptors, and no say in its record.
            if self._process == os.getpid() and self._agreed and not self._record.discarded and not self._record.broken:
                back = [
                    Entry(Type.CLOSED, number, self._used[kind])
                    for number, kind in enumerate(self.manifest.kinds)
                    if self._used[kind] < self._record.marks.get(number, 0)
                ]
                if back:
                    self._record.add(back)
        finally:
            for descriptor in self._descriptors:
                os.close(descriptor)

    def discard(self) -> None:
        """Give the store up, for good: it serves nothing any more, in this process or later."""
        self._agreed = False
        if not self._record.discarded:
            self._record.add([Entry(Type.DISCARDED)])

    # For `smpc.agreement`.

    def new_statement(self) -> int:
        """Write down that this party is about to say where it is; return the number of that statement."""
        self._check_usable()
        self._agreed = False
        tag = SecureRng().bytes(TAG_BYTES)
        number = len(self._record.statements) + 1
        self._record.add([Entry(Type.STATEMENT, value=number, tag=tag)])
        if self._anchor is not None:
            self._anchor.advance(number, tag)
        return number

    @property
    def statements(self) -> Sequence[bytes]:
        """Tags of all this party's statements; the first one has number 1."""
        return self._record.statements

    @property
    def memories(self) -> Mapping[int, tuple[int, bytes]]:
        """Number and tag of the last statement of each other party that is known here."""
        return self._record.memories

    @property
    def marks(self) -> list[int]:
        """For each kind, the first item that this party has not handed out."""
        return [self._used[kind] for kind in self.manifest.kinds]

    def reserve_from(
        self, marks: Sequence[int], memories: Mapping[int, tuple[int, bytes]], expected: Mapping[Kind, int]
    ) -> None:
        """Pass over what the others have used, remember what they said, and reserve what a run is expected to need.

        Raises
        ------
        MaterialExhausted
            If that is more than is left.
        """
        entries = [Entry(Type.MEMORY, party, number, tag) for party, (number, tag) in memories.items()]
        for kind, count in expected.items():
            if count and kind not in self.manifest.amounts:
                raise MaterialExhausted(kind.label, wanted=count, left=0)
        for number, (kind, mark) in enumerate(zip(self.manifest.kinds, marks, strict=True)):
            self._check_left(kind, mark, expected.get(kind, 0))
            end = min(mark + expected.get(kind, 0) + self._block(kind), self.manifest.amounts[kind])
            if end > self._record.marks.get(number, 0):
                entries.append(Entry(Type.MARK, number, end))
        self._record.add(entries)
        for kind, mark in zip(self.manifest.kinds, marks, strict=True):
            super().skip(kind, mark)

    def begin(self) -> None:
        """Let items be taken: every party has written down where the run begins."""
        self._agreed = True

    def _reserve(self, kind: Kind, end: int) -> None:
        """Make sure that the record covers items before `end`, and a block more.

        The block more is for a party that is killed: the marks of the others cover what it may have used in the round
        before they took theirs.
        """
        number = self._numbers[kind]
        total, block = self.manifest.amounts[kind], self._block(kind)
        if min(end + block, total) > self._record.marks.get(number, 0):
            self._record.add([Entry(Type.MARK, number, min(end + 2 * block, total))])

    def _block(self, kind: Kind) -> int:
        return self._blocks[kind]

    def _draw(self, kind: Kind, count: int) -> list[Elements]:
        began = time.perf_counter()
        arrays = super()._draw(kind, count)
        self.expansion_seconds += time.perf_counter() - began
        self.items_expanded += count
        return arrays

    def _check_usable(self) -> None:
        if self._record.discarded:
            raise MaterialDiscarded(self._folder.name)
        if self._closed or self._process != os.getpid():
            raise MaterialUnavailable(self._folder.name, reason="the store is closed, or another process opened it")
        if self._record.broken:
            raise MaterialUnavailable(self._folder.name, reason="its record could not be written")

    def _check_left(self, kind: Kind, start: int, count: int) -> None:
        left = self.manifest.amounts.get(kind, 0) - start
        if count > left:
            raise MaterialExhausted(kind.label, wanted=count, left=max(left, 0))

    def _check_owner(self, party: int | None, n_parties: int | None) -> None:
        mine = self.manifest
        if (party is not None and party != mine.party) or (n_parties is not None and n_parties != mine.n_parties):
            raise MaterialMismatch(mine.party, rule=f"it belongs to party {mine.party} of {mine.n_parties}")

    def _check_record(self) -> None:
        if self._record.discarded:
            raise MaterialDiscarded(self._folder.name)
        self._numbers = {kind: number for number, kind in enumerate(self.manifest.kinds)}
        self._blocks = {
            kind: max(1, min(-(-total // _BLOCKS_OF_A_KIND), _BLOCK_BYTES // kind.n_bytes(1)))
            for kind, total in self.manifest.amounts.items()
        }
        totals = list(self.manifest.amounts.values())
        if any(number >= len(totals) or mark > totals[number] for number, mark in self._record.marks.items()):
            raise MaterialDamaged(RECORD_NAME, rule="a mark lies beyond what the dealer made")
        if any(party >= self.manifest.n_parties for party in self._record.memories):
            raise MaterialDamaged(RECORD_NAME, rule="it remembers a party that there is not")


@contextmanager
def _disk(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MaterialUnavailable(name, reason=f"{error.strerror or error}") from error


def _open_private(path: Path, flags: int, opened_so_far: list[int]) -> int:
    """Return a descriptor of a regular file that only its owner can touch."""
    with _disk(path.name):
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        opened_so_far.append(descriptor)
        status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in {os.geteuid(), 0}:
        raise MaterialDamaged(path.name, rule="it is not a regular file that only its owner can read (mode 0600)")
    return descriptor


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(1 << 20):
        yield piece


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
