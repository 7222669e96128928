"""Checkpoints that others vouch for: signed by the site, cosigned by witnesses after a consistency proof."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from privacy.errors import LedgerCorrupt
from privacy.ledger.errors import LedgerRestored
from privacy.ledger.journal import Journal
from privacy.ledger.merkle import Tree, leaf_hash
from privacy.ledger.notes import Checkpoint, Note, Verifier
from privacy.ledger.rules import origin_of
from privacy.ledger.site_key import SiteKey
from privacy.ledger.witness import Witness, WitnessConflict, WitnessRefused, WitnessUnavailable

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Who has to cosign before a spend starts.

    needed   how many of the witnesses
    window   how many entries may be without cosignature while witnesses cannot be reached; 0: none
    """

    witnesses: Sequence[Witness]
    needed: int = 1
    window: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= len(self.witnesses):
            raise ValueError(f"needed must be between 1 and the number of witnesses, got {self.needed}")
        if self.window < 0:
            raise ValueError(f"window must be at least 0, got {self.window}")
        if len({witness.vkey for witness in self.witnesses}) != len(self.witnesses):
            raise ValueError("witnesses must have different keys: one that is asked twice vouches once")


class Cosigning:
    """Asks witnesses. Proofs come from the tree over all entries, which is read once and then grows."""

    def __init__(self, journal: Journal, site_key: SiteKey, policy: WitnessPolicy) -> None:
        self._journal = journal
        self._site_key = site_key
        self.policy = policy
        self._tree = Tree()
        # The size that each witness saw last, as far as is known here.
        self._seen: dict[str, int] = {}

    def compare(self) -> None:
        """Ask for cosignatures at opening. Raises LedgerRestored if a witness has seen more, or something else."""
        with self._journal.reading() as books:
            behind = books.head.size > 0 and "site" in books.head.keys
        if behind:
            self._ask(required=False)

    def before_start(self) -> None:
        """Have everything so far cosigned. Raises WitnessUnavailable, unless the policy's window bears with it."""
        self._ask(required=True)

    def cosign(self) -> str:
        """Return the cosigned note of everything so far. Raises WitnessUnavailable."""
        return self._ask(required=True, window=0)

    def _ask(self, *, required: bool, window: int | None = None) -> str:
        for _ in range(_ATTEMPTS):
            with self._journal.reading() as books:
                note, size, root = self._site_key.checkpoint(books.head), books.head.size, books.head.frontier.root
                self._tree.extend([leaf_hash(body) for _, body, _ in self._journal.store.rows(self._tree.size + 1)])
                kept = self._journal.store.state("cosigned")
                named = {key for role, key in books.head.keys.items() if role.startswith("witness ")}
            if self._tree.root(size) != root:
                raise LedgerCorrupt(f"{self._journal.store.name}: the entries are not those of its tree; see verify")
            try:
                lines, reasons = self._lines(note, size, named)
                break
            except LedgerRestored as error:
                # Another process of ours may have appended and asked meanwhile; then it is not behind.
                with self._journal.reading() as books:
                    if books.head.size < error.seen or error.seen <= size:
                        raise
        else:
            raise WitnessUnavailable("others append so fast that no checkpoint is cosigned: try again")
        if len(lines) >= self.policy.needed:
            cosigned = Note.parse(note).with_signatures(lines).render()
            with self._journal.writing() as books:
                known = self._journal.store.state("cosigned")
                if not size <= _size(known) <= books.head.size:
                    self._journal.store.put_states([("cosigned", cosigned.encode())])
            return cosigned
        allowed = self.policy.window if window is None else window
        if required and size - self._vouched(kept, size) > allowed:
            raise WitnessUnavailable(
                f"{len(lines)} of {self.policy.needed} witnesses cosigned ({'; '.join(reasons)}): nothing is spent "
                "until they can be reached"
            )
        return note

    def _vouched(self, kept: bytes | None, size: int) -> int:
        """Return up to which entry enough of the policy's witnesses vouched, by the kept note; 0: none."""
        # The note is kept in the file: whoever can write that must not be able to widen the window.
        covered = _size(kept)
        if kept is None or not 0 < covered <= size:
            return 0
        note = Note.parse(kept.decode())
        checkpoint = Checkpoint.parse(note.text)
        if (checkpoint.origin, checkpoint.root) != (origin_of(self._journal.ledger_id), self._tree.root(covered)):
            return 0
        vouching = sum(note.signed_by(Verifier.parse(witness.vkey)) for witness in self.policy.witnesses)
        return covered if vouching >= self.policy.needed else 0

    def _lines(self, note: str, size: int, named: Collection[str]) -> tuple[list[str], list[str]]:
        """Return cosignature lines, and why others are missing. Raises LedgerRestored."""
        lines, reasons = [], []
        for witness in self.policy.witnesses:
            if named and witness.vkey not in named:
                reasons.append(f"{witness.name}: its key is not among the witnesses that the journal names")
                continue
            try:
                line = self._cosigned_by(witness, note, size)
            except (WitnessUnavailable, WitnessRefused) as error:
                # One that knows another key of ours, say: others may be enough.
                reasons.append(f"{witness.name}: {error}")
                continue
            if Verifier.parse(witness.vkey).verify(Note.parse(note).text, line):
                lines.append(line)
            else:
                reasons.append(f"{witness.name}: its cosignature does not verify")
        return lines, reasons

    def _cosigned_by(self, witness: Witness, note: str, size: int) -> str:
        old = self._seen.get(witness.name, 0)
        for _ in range(_ATTEMPTS):
            proof = self._tree.consistency_proof(old, size) if 0 < old < size else ()
            try:
                line = witness.add_checkpoint(old_size=old, proof=proof, note=note)
            except WitnessConflict as conflict:
                if conflict.size > size:
                    raise LedgerRestored(self._journal.store.name, size, conflict.size) from None
                old = conflict.size
                continue
            except WitnessRefused as refused:
                if refused.size is not None:
                    # What it has seen is not the beginning of what is here.
                    raise LedgerRestored(self._journal.store.name, size, refused.size) from None
                raise
            self._seen[witness.name] = size
            return line
        raise WitnessUnavailable(f"{witness.name} is asked by somebody else at the same time")


def _size(note: bytes | None) -> int:
    try:
        return 0 if note is None else Checkpoint.parse(Note.parse(note.decode()).text).size
    except ValueError:
        return 0
