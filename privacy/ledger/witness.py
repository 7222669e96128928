"""What another site does for us: it countersigns our checkpoints, and never two that contradict each other.

A site can rewrite its own journal and sign the new one. It cannot make a witness forget: who keeps a cosigned
checkpoint, or asks the witness for its last one, sees a journal that was cut, forked, rewritten or restored.

origin      which journal; the witness serves those whose keys it was given
old size    size of the tree that the caller believes to be the witness's last; 0 if there is none yet
proof       consistency proof (RFC 6962) from the old size to the checkpoint's; empty if the old size is 0, or equal

The first checkpoint of an origin is taken as it is, whatever it leaves out. What went before it is not witnessed.

Source: C2SP tlog-witness (https://c2sp.org/tlog-witness), without HTTP; tlog-cosignature for the answer.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from privacy.errors import LedgerError
from privacy.ledger import _witness_state as state
from privacy.ledger.merkle import MAX_SIZE, verify_consistency
from privacy.ledger.notes import NOTE_TYPE, Checkpoint, Note, Signer, Verifier

Reason = Literal["malformed", "unknown_log", "bad_signature", "bad_request", "smaller", "fork", "inconsistent"]


class WitnessConflict(LedgerError):
    """The witness's last checkpoint has another size than the caller believed: send the proof from `size` on.

    If `size` is larger than the caller's own tree, the caller's journal has lost entries.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"the witness's last checkpoint has size {size}: send a consistency proof from there")


class WitnessRefused(LedgerError):
    """The witness does not countersign this, now or later. Nothing was changed.

    reason   malformed      no note, no checkpoint, or arguments of wrong types
             unknown_log    an origin whose key the witness was not given
             bad_signature  not signed by that key, or also wrongly signed in its name
             bad_request    an old size above the checkpoint's, or a proof where none belongs
             smaller        the witness has countersigned a larger tree: a rollback, or a late message
             fork           the witness has countersigned another root for this size
             inconsistent   the proof does not show the witness's last tree to be a prefix of this one
    size     size of the witness's last tree, for `smaller`, `fork` and `inconsistent`
    """

    def __init__(self, reason: Reason, sentence: str, *, size: int | None = None) -> None:
        self.reason = reason
        self.size = size
        super().__init__(f"the witness refuses: {sentence}")


class WitnessUnavailable(LedgerError):
    """The witness could not be asked, or could not keep its state. It may have accepted: ask again."""


class Witness(Protocol):
    """Another site that countersigns.

    name   its key's name
    vkey   its public key as text, of type COSIGNATURE_TYPE
    """

    @property
    def name(self) -> str:
        """The name of the witness's key."""
        ...

    @property
    def vkey(self) -> str:
        """The witness's public key as text; what it answers verifies under it."""
        ...

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> str:
        """Return a cosignature line for the checkpoint of a rendered note.

        Raises
        ------
        WitnessConflict
            If the witness's last size is not `old_size`. After a lost answer, too: then it is the checkpoint's own
            size, and asking again with it and no proof gives the line.
        WitnessRefused
            If the checkpoint is not to be countersigned.
        WitnessUnavailable
            If there is no answer.
        """
        ...


class LocalWitness:
    """A witness whose state is one SQLite file here. Processes and threads may share it.

    path     the file; made if missing (a lost file means trusting every journal anew: move it, never delete it)
    signer   the witness's key
    logs     for each origin, the key of the one journal (NOTE_TYPE) that may use it
    clock    Unix seconds, for the times in cosignatures

    A checkpoint is on the disk as the origin's last before its cosignature leaves.

    Raises ValueError for keys of another type, WitnessUnavailable if the file cannot be made or is another's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        signer: Signer,
        logs: Mapping[str, Verifier],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for origin, verifier in logs.items():
            if verifier.kind != NOTE_TYPE:
                raise ValueError(f"the key of {origin!r} must be of type {NOTE_TYPE:#04x}, for notes")
        self._path = Path(path).absolute()
        self._signer = signer
        self._logs = dict(logs)
        self._clock = clock
        with self._errors():
            state.create(self._path)
            state.connect(self._path).close()

    @property
    def name(self) -> str:
        """The name of the witness's key."""
        return self._signer.name

    @property
    def vkey(self) -> str:
        """The witness's public key as text."""
        return self._signer.cosignature_verifier.vkey

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> str:
        """Return a cosignature line: see `Witness.add_checkpoint`."""
        checkpoint, kept = self._authentic(note)
        if type(old_size) is not int or not 0 <= old_size <= MAX_SIZE or not isinstance(proof, (list, tuple)):
            raise WitnessRefused("malformed", "the old size must be a number >= 0, the proof a list of hashes")
        with self._transaction("BEGIN IMMEDIATE") as connection:
            last = state.last(connection, checkpoint.origin)
            _check_step(last and last[0], old_size, proof, checkpoint)
            if last is None or checkpoint.size > last[0].size:
                state.keep(connection, checkpoint, kept)
            # Inside the transaction: after it, a larger tree may get an earlier time than this one.
            line = self._signer.cosign(checkpoint.text, time=int(self._clock()))
            self._commit(connection)
        return line

    def latest(self, origin: str) -> Note | None:
        """Return the last checkpoint of a journal that was countersigned, signed by the journal; None if there is none.

        Raises WitnessUnavailable.
        """
        with self._transaction("BEGIN") as connection:
            last = state.last(connection, origin)
        return last and last[1]

    def _authentic(self, rendered: str) -> tuple[Checkpoint, Note]:
        """Return the checkpoint of a note, and the note with its journal's signature alone."""
        try:
            note = Note.parse(rendered)
            checkpoint = Checkpoint.parse(note.text)
        except ValueError as error:
            raise WitnessRefused("malformed", f"this is no signed checkpoint: {error}") from None
        verifier = self._logs.get(checkpoint.origin)
        if verifier is None:
            raise WitnessRefused("unknown_log", f"no key is known for {checkpoint.origin!r}")
        if not note.signed_by(verifier):
            raise WitnessRefused("bad_signature", f"the checkpoint is not signed by the key of {checkpoint.origin!r}")
        own = next(line for line in note.signatures if verifier.verify(note.text, line))
        return checkpoint, Note(note.text, (own,))

    @staticmethod
    def _commit(connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction; it is rolled back unless the block commits it."""
        with self._errors(), contextlib.closing(state.connect(self._path)) as connection:
            connection.execute(begin)
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise WitnessUnavailable(f"{self._path.name} could not be read or written ({error}): ask again") from error
        except state.Damaged as error:
            raise WitnessUnavailable(f"{self._path.name}: {error}") from error


def _check_step(last: Checkpoint | None, old_size: int, proof: Sequence[bytes], new: Checkpoint) -> None:
    """Raise unless the witness may go from its last checkpoint to the new one."""
    size = 0 if last is None else last.size
    if new.size < size:
        raise WitnessRefused("smaller", f"size {new.size} is below the last, {size}", size=size)
    if last is not None and new.size == size and new.root != last.root:
        raise WitnessRefused("fork", f"another root was countersigned for size {size}", size=size)
    if old_size > new.size:
        raise WitnessRefused("bad_request", f"the old size {old_size} is above the checkpoint's, {new.size}")
    if old_size != size:
        raise WitnessConflict(size)
    if old_size in (0, new.size):
        if proof:
            raise WitnessRefused("bad_request", "no proof belongs to an old size of 0, or of the checkpoint")
    elif last is None or not verify_consistency(last.size, last.root, new.size, new.root, proof):
        raise WitnessRefused("inconsistent", f"no proof that the tree of size {size} is a prefix", size=size)
