"""A dealer's package: what one party gets of a batch of material, as a file.

header   JSON: batch (16 random bytes), n_parties, party, and the kinds with their counts, in order
seed     from which the party expands its shares (`smpc.streams`)
chunk    of about 1 MiB: the tied fields of consecutive items of one kind, the last party's corrections; at the other
         parties there is none

    "SYMATPK1", length of the header (4 bytes, little-endian), header, seed (32), SHA-256 of all this (32), then the
    chunks of the first kind, of the second and so on, each followed by 16 bytes of BLAKE2b over it, keyed by that
    SHA-256 and the chunk's place

The length of the file follows from the header. Nothing is unpickled; a chunk is checked before an item of it is used,
so that a flipped bit is an error and not a wrong triple. Checksums find accidents, not forgers: on its way, a package
is sealed (`smpc.sealed_files`). The file is a secret: it holds every mask of this party.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from smpc.errors import MaterialDamaged, MaterialUnavailable, PackageRefused
from smpc.material import Kind
from smpc.plans import amounts_of, describe_amounts, read_json
from smpc.prg import SEED_BYTES
from smpc.sharing import check_parties
from smpc.streams import Elements, Field

FORMAT = "synthema-material-1"
BATCH_BYTES = 16

_MAGIC = b"SYMATPK1"
_LENGTH = struct.Struct("<I")
_PLACE = struct.Struct("<IQ")
_DIGEST_BYTES = 32
_CHECK_BYTES = 16
_CHUNK_BYTES = 1 << 20
_MOST_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class Manifest:
    """What a package says of itself. The same at all parties, but for `party`.

    Raises
    ------
    PackageRefused
        If the numbers are not those of a batch.
    """

    batch: bytes
    n_parties: int
    party: int
    amounts: Mapping[Kind, int]

    def __post_init__(self) -> None:
        try:
            check_parties(self.n_parties)
        except ValueError as error:
            raise PackageRefused(str(error)) from None
        if type(self.party) is not int or not 0 <= self.party < self.n_parties or len(self.batch) != BATCH_BYTES:
            raise PackageRefused("it names no batch, or no party of it")

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds, in order: their numbers are used in records and statements."""
        return tuple(self.amounts)

    @property
    def is_last(self) -> bool:
        """Whether this party holds the corrections."""
        return self.party == self.n_parties - 1

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of what all parties' packages of one batch have in common, 32 bytes."""
        return hashlib.sha256(self._json(party=0)).digest()

    def encode(self) -> bytes:
        """Return the header."""
        return self._json(party=self.party)

    def _json(self, *, party: int) -> bytes:
        body = {
            "format": FORMAT,
            "batch": self.batch.hex(),
            "n_parties": self.n_parties,
            "party": party,
            "material": describe_amounts(self.amounts),
        }
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, header: bytes) -> Manifest:
        """Return the manifest of a header; raises PackageRefused unless it is what `encode` writes."""
        body = read_json(header)
        try:
            batch = bytes.fromhex(body["batch"])
            manifest = cls(batch, body["n_parties"], body["party"], amounts_of(body["material"]))
        except (KeyError, TypeError, ValueError):
            raise PackageRefused("the header lacks an entry, or has one of a wrong type") from None
        if manifest.encode() != header:
            raise PackageRefused("the header is not written in the one way there is")
        return manifest


class Source(Protocol):
    """Where a package gets its corrections from: a dealer."""

    def correction(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """Return the last party's shares of the tied fields of the next items."""
        ...


def package_pieces(manifest: Manifest, seed: bytes, source: Source | None) -> Iterator[bytes]:
    """Yield the bytes of a package, piece by piece; `source` for the last party only."""
    header = manifest.encode()
    head = _MAGIC + _LENGTH.pack(len(header)) + header + seed
    digest = hashlib.sha256(head).digest()
    yield head + digest
    if source is None:
        return
    for number, (kind, total) in enumerate(manifest.amounts.items()):
        for place, start in enumerate(range(0, total, _chunk_items(kind))):
            count = min(_chunk_items(kind), total - start)
            fields = source.correction(kind, start, count)
            raw = b"".join(
                np.ascontiguousarray(words, dtype=field.domain.dtype).tobytes()
                for field, words in zip(kind.tied, fields, strict=True)
            )
            yield raw + _check(digest, number, place, raw)


def _chunk_items(kind: Kind) -> int:
    return max(1, _CHUNK_BYTES // max(1, kind.dealer_bytes(1)))


def _check(digest: bytes, number: int, place: int, raw: bytes | memoryview) -> bytes:
    state = hashlib.blake2b(_PLACE.pack(number, place), digest_size=_CHECK_BYTES, key=digest)
    state.update(raw)
    return state.digest()


class PackageFile:
    """A package that lies open on disk: manifest and seed are read and checked, corrections when they are due.

    Raises
    ------
    MaterialDamaged
        If the file is not a package, whole.
    MaterialUnavailable
        If it cannot be read.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        fixed = self._read(0, len(_MAGIC) + _LENGTH.size)
        if fixed[: len(_MAGIC)] != _MAGIC:
            raise MaterialDamaged(name, rule="it does not begin like a package of this version")
        (length,) = _LENGTH.unpack_from(fixed, len(_MAGIC))
        if length > _MOST_HEADER_BYTES:
            raise MaterialDamaged(name, rule="its header is too long")
        head = self._read(0, len(fixed) + length + SEED_BYTES)
        end = len(head) + _DIGEST_BYTES
        self._digest = self._read(len(head), _DIGEST_BYTES)
        if hashlib.sha256(head).digest() != self._digest:
            raise MaterialDamaged(name, rule="its header does not have its checksum")
        try:
            self.manifest = Manifest.decode(head[len(fixed) : -SEED_BYTES])
        except PackageRefused as error:
            raise MaterialDamaged(name, rule=error.rule) from None
        self.seed = head[-SEED_BYTES:]
        self._numbers = {kind: number for number, kind in enumerate(self.manifest.kinds)}
        self._starts = []
        for kind, total in self.manifest.amounts.items() if self.manifest.is_last else ():
            self._starts.append(end)
            end += kind.dealer_bytes(total) + _CHECK_BYTES * -(-total // _chunk_items(kind))
        if os.fstat(descriptor).st_size != end:
            raise MaterialDamaged(name, rule="it is shorter or longer than its header says")
        # The last chunk of each kind that was read: small takes do not read it again.
        self._cached: dict[Kind, tuple[int, list[Elements]]] = {}

    def __repr__(self) -> str:
        return f"PackageFile(party={self.manifest.party}, kinds={len(self._numbers)})"

    def correction(self, kind: Kind, start: int, count: int) -> list[Elements]:
        """Return the last party's shares of the tied fields of items start..start + count - 1.

        Raises
        ------
        MaterialDamaged
            If a chunk does not have its checksum. Nothing of it is returned.
        """
        size = _chunk_items(kind)
        parts: list[list[Elements]] = []
        for place in range(start // size, -(-(start + count) // size)):
            chunk = self._chunk(kind, place)
            low, high = max(start - place * size, 0), min(start + count - place * size, size)
            parts.append(
                [
                    words[..., low * field.length : high * field.length]
                    for field, words in zip(kind.tied, chunk, strict=True)
                ]
            )
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return [np.empty(field.shape(0), dtype=field.domain.dtype) for field in kind.tied]
        return [np.concatenate(pieces, axis=-1) for pieces in zip(*parts, strict=True)]

    def check(self) -> None:
        """Read the whole file; raises MaterialDamaged if a chunk does not have its checksum."""
        if not self.manifest.is_last:
            return
        for kind, total in self.manifest.amounts.items():
            for place in range(-(-total // _chunk_items(kind))):
                self._chunk(kind, place)

    def _chunk(self, kind: Kind, place: int) -> list[Elements]:
        cached = self._cached.get(kind)
        if cached is not None and cached[0] == place:
            return cached[1]
        number, size = self._numbers[kind], _chunk_items(kind)
        count = min(size, self.manifest.amounts[kind] - place * size)
        length = kind.dealer_bytes(count)
        data = self._read(
            self._starts[number] + place * (kind.dealer_bytes(size) + _CHECK_BYTES), length + _CHECK_BYTES
        )
        raw = memoryview(data)[:length]
        if _check(self._digest, number, place, raw) != data[length:]:
            raise MaterialDamaged(self._name, rule=f"chunk {place} of kind {number} does not have its checksum")
        fields = list(_cut(raw, kind.tied, count))
        self._cached[kind] = place, fields
        return fields

    def _read(self, start: int, length: int) -> bytes:
        pieces, left = [], length
        while left:
            try:
                piece = os.pread(self._descriptor, left, start + length - left)
            except OSError as error:
                raise MaterialUnavailable(self._name, reason=f"it cannot be read ({error.strerror})") from error
            if not piece:
                raise MaterialDamaged(self._name, rule="it ends too early")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _cut(raw: memoryview, fields: Sequence[Field], count: int) -> Iterable[Elements]:
    start = 0
    for field in fields:
        end = start + field.n_bytes(count)
        yield np.frombuffer(raw[start:end], dtype=field.domain.dtype).reshape(field.shape(count))
        start = end
