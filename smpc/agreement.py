"""Where a run begins in the parties' stores, and how a restored or copied store is found. Two rounds.

S_i   number of party i's statement; goes up by one for each, and is written to its record, with a random tag, before
      the statement is sent
M_i   for each kind, the first item that party i has not handed out
R_ij  number and tag of the last statement of party j that party i remembers

First round: every party says S, M and R. All begin at the maximum of the M. Before it goes on, each party writes to its
record that it begins there, reserves a block of every kind (and what the run is expected to need), and remembers the
others' statements. Second round: every party confirms that it did, with a digest of what it was told; so nothing is
opened before all records hold it, and all were told the same.

A crash leaves a record that knows all that this party ever said, because it is written first; it may be behind in M,
which the maximum covers. A restored snapshot does not know what was said after it was taken, and a second copy does not
know what the first one said:

    store of party i is rolled back  iff  some party remembers a statement of i with a number that i's record does not
    reach, or under which i's record holds another tag.

That is proof: neither a crash nor a lost message brings it about. (A snapshot from within a run, taken after its
statement, knows all statements and is behind in M only; the maximum covers it too, because the others have reserved at
least a block beyond what it used when their own turn came.) Its store is then discarded.

What cannot be found: stores that were all restored together, to one moment, agree with each other. An anchor
(`StoreAnchor`) of one party outside of the backups finds that. And a party that lies about its own store harms what it
put in, which no protocol prevents.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smpc.errors import FrameRejected, MaterialMismatch, MaterialRolledBack, ProtocolAbort
from smpc.material import Kind
from smpc.record import TAG_BYTES
from smpc.store import StoredMaterial

if TYPE_CHECKING:
    from smpc._rounds import Rounds

_HEADER = struct.Struct("<8s32sHHIQ16s")
_MAGIC = b"SYMATST1"
_MARK = struct.Struct("<Q")
_MEMORY = struct.Struct(f"<Q{TAG_BYTES}s")
_CONFIRMED, _LOST = b"\x01", b"\x02"
_NOTHING = (0, bytes(TAG_BYTES))


@dataclass(frozen=True, slots=True)
class Statement:
    """What one party says at the start of a run.

    fingerprint  of the batch
    number, tag  of this statement
    marks        for each kind, the first item that was not handed out
    memories     by party: number and tag of its last statement that is known here; (0, zeros) if none is
    """

    fingerprint: bytes
    party: int
    number: int
    tag: bytes
    marks: tuple[int, ...]
    memories: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Return the bytes that are sent."""
        header = _HEADER.pack(
            _MAGIC, self.fingerprint, self.party, len(self.memories), len(self.marks), self.number, self.tag
        )
        marks = b"".join(_MARK.pack(mark) for mark in self.marks)
        return header + marks + b"".join(_MEMORY.pack(*memory) for memory in self.memories)

    @classmethod
    def decode(cls, data: bytes, *, sender: int) -> Statement:
        """Return the statement; raises FrameRejected unless the bytes are what `encode` writes for this sender."""
        if len(data) < _HEADER.size:
            raise FrameRejected("it does not hold a statement about material", sender=sender)
        magic, fingerprint, party, n_parties, n_kinds, number, tag = _HEADER.unpack_from(data)
        marks_end = _HEADER.size + n_kinds * _MARK.size
        if magic != _MAGIC or party != sender or len(data) != marks_end + n_parties * _MEMORY.size:
            raise FrameRejected("it does not hold a statement about material of its sender", sender=sender)
        marks = tuple(mark for (mark,) in _MARK.iter_unpack(data[_HEADER.size : marks_end]))
        return cls(fingerprint, party, number, tag, marks, tuple(_MEMORY.iter_unpack(data[marks_end:])))


async def agree(session: Rounds, store: StoredMaterial, expected: Mapping[Kind, int]) -> None:
    """Agree with the other parties where the run begins, and let items be taken. Two rounds.

    Parameters
    ----------
    expected
        What the run will need, if that was forecast: it is reserved at once, at all parties, before anything is opened.

    Raises
    ------
    MaterialMismatch
        If the stores are not of one batch.
    MaterialRolledBack
        If one of them is an older or a second copy. All parties raise it; that one is discarded.
    MaterialExhausted
        If less is left than is expected.
    MaterialUnavailable
        If the disk fails.
    FrameRejected, ProtocolAbort
        If a message is malformed, or the parties were told different things.
    """
    mine = _statement(session, store)
    received = await session.exchange(mine.encode())
    statements = [Statement.decode(data, sender=party) for party, data in enumerate(received)]
    for each in statements:
        if each.fingerprint != mine.fingerprint:
            raise MaterialMismatch(each.party, rule="it is of another batch")
        if len(each.marks) != len(mine.marks) or len(each.memories) != session.n_parties:
            raise FrameRejected("it states other kinds, or other parties, than its batch has", sender=each.party)
    lost = knows_too_little(store.statements, [each.memories[session.party] for each in statements])
    if not lost and not any(outrun(statements, party) for party in range(session.n_parties)):
        others = {each.party: (each.number, each.tag) for each in statements if each.party != session.party}
        marks = [max(column) for column in zip(*(each.marks for each in statements), strict=True)]
        store.reserve_from(marks, others, expected)
    # A party whose store is lost says so, so that the others learn why the run ends.
    digest = hashlib.sha256(b"".join(received)).digest()
    answers = await session.exchange((_LOST if lost else _CONFIRMED) + digest)
    for party, answer in enumerate(answers):
        if answer[:1] == _LOST or outrun(statements, party):
            if party == session.party:
                store.discard()
            raise MaterialRolledBack(party)
        if answer != _CONFIRMED + digest:
            raise ProtocolAbort(f"party {party} was told other things about the stores")
    store.begin()


def knows_too_little(tags: Sequence[bytes], remembered: Sequence[tuple[int, bytes]]) -> bool:
    """Return whether others remember a statement of ours that our record does not hold.

    Parameters
    ----------
    tags
        Of all statements in our record; the first one has number 1, the last one was just made.
    remembered
        Number and tag of our last statement that each party remembers; number 0 if it remembers none.
    """
    return any(number >= len(tags) or tags[number - 1] != tag for number, tag in remembered if number)


def outrun(statements: Sequence[Statement], party: int) -> bool:
    """Return whether a party remembers a statement of `party` that is not older than the one just made."""
    return any(each.memories[party][0] >= statements[party].number for each in statements)


def _statement(session: Rounds, store: StoredMaterial) -> Statement:
    manifest = store.manifest
    if (manifest.party, manifest.n_parties) != (session.party, session.n_parties):
        raise MaterialMismatch(session.party, rule=f"it belongs to party {manifest.party} of {manifest.n_parties}")
    number = store.new_statement()
    memories = tuple(store.memories.get(party, _NOTHING) for party in range(session.n_parties))
    return Statement(manifest.fingerprint, session.party, number, store.statements[-1], tuple(store.marks), memories)
