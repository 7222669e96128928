"""A witness at a desk: cosigns a checkpoint that came as a file, with the proof computed from an export."""

from __future__ import annotations

from pathlib import Path

from privacy.ledger import LocalWitness, Signer, Verifier, WitnessRefused, verify_export
from privacy.ledger.export import is_export, tree_of
from privacy.ledger.merkle import Tree
from privacy.ledger.notes import Checkpoint, Note


def cosign(
    state: Path, file: Path, signer: Signer, *, log_key: str, proof_from: Path | None = None
) -> tuple[str, bool, int]:
    """Return the cosignature line, whether it is the ledger's first, and the checkpoint's size.

    Raises
    ------
    WitnessRefused
        The export does not verify, holds no checkpoint, or the checkpoint is not to be cosigned.
    WitnessUnavailable
        The witness's memory cannot be read or written.
    ValueError
        A key or the note is none.
    """
    log = Verifier.parse(log_key)
    source = file if is_export(file) else proof_from
    tree, note = (Tree(), None) if source is None else _verified(source, log_key)
    if not is_export(file):
        note = Note.parse(file.read_text(encoding="utf-8"))
    if note is None:
        raise WitnessRefused("malformed", "the export holds no checkpoint: the site makes one, then exports")
    checkpoint = Checkpoint.parse(note.text)
    witness = LocalWitness(state, signer, {checkpoint.origin: log})
    last = witness.latest(checkpoint.origin)
    old = 0 if last is None else Checkpoint.parse(last.text).size
    proof: tuple[bytes, ...] = ()
    if 0 < old < checkpoint.size:
        if tree.size < checkpoint.size:
            raise WitnessRefused(
                "inconsistent",
                f"size {old} was countersigned before, and no proof is at hand: give an export of this or a later time",
                size=old,
            )
        proof = tree.consistency_proof(old, checkpoint.size)
    line = witness.add_checkpoint(old_size=old, proof=proof, note=note.render())
    return line, last is None, checkpoint.size


def _verified(path: Path, log_key: str) -> tuple[Tree, Note | None]:
    found = verify_export(path, site_key=log_key)
    if not found.ok:
        raise WitnessRefused("inconsistent", f"{path.name} does not verify: {found.problems[0]}")
    return tree_of(path)
