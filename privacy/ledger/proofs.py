"""One entry with the proof that it is in the journal: a small file that its reader checks with public keys alone.

The bundle is canonical JSON: the entry's text, its index (seq - 1), the size of the tree, the inclusion proof (RFC
6962, base64), the signed checkpoint of that tree, and a SHA-256 of all this. Whoever holds the bundle need not see any
other entry; it says nothing of what came later.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from privacy.errors import LedgerCorrupt, LedgerError
from privacy.ledger import canonical
from privacy.ledger._snapshot import Snapshot, from_snapshot, head_of
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.ledger import Ledger
from privacy.ledger.merkle import Tree, leaf_hash, verify_inclusion
from privacy.ledger.notes import COSIGNATURE_TYPE, NOTE_TYPE, Checkpoint, Note, Verifier, cosignature_time
from privacy.ledger.rules import origin_of

FORMAT = "synthema-ledger-proof-1"
_FIELDS = {"body", "format", "index", "note", "proof", "sha256", "size"}
_LONGEST = 1_000_000


class ProofInvalid(LedgerError):
    """The bundle does not prove its entry. Nothing in it is to be believed; the message says which check failed."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the proof is not valid: {problem}; ask the site for a new one, and for its key elsewhere")


def prove(ledger: Ledger | str, seq: int, *, note: str | None = None) -> bytes:
    """Return a bundle that proves the entry `seq` to whoever has the site's public key.

    Parameters
    ----------
    ledger
        Open, or by its URL.
    note
        The checkpoint to prove it by, from a witness, say; by default the latest cosigned one that covers the entry,
        or else the latest checkpoint of the journal.

    Raises
    ------
    ValueError
        `note` is no checkpoint.
    LedgerRefused
        There is no such entry, or no checkpoint covers it yet.
    LedgerCorrupt
        The entries are not those that the checkpoint covers.
    """
    return from_snapshot(ledger, lambda snapshot: _prove(snapshot, seq, note))


def _prove(snapshot: Snapshot, seq: int, given: str | None) -> bytes:
    head = head_of(snapshot)
    if type(seq) is not int or not 0 < seq <= head.size:
        raise LedgerRefused(f"{snapshot.name} has the entries 1 to {head.size} and no entry {seq!r}")
    note, checkpoint = _covering(snapshot, seq, head.checkpointed, given)
    if checkpoint.origin != origin_of(head.ledger_id) or checkpoint.size > head.size:
        raise LedgerRefused("the note is a checkpoint of another ledger, or of a longer history than this one")
    tree, body = Tree(), b""
    for place, data, _ in snapshot.rows():
        if place > checkpoint.size:
            break
        if place == seq:
            body = data
        tree.extend([leaf_hash(data)])
    if tree.size != checkpoint.size or tree.root() != checkpoint.root:
        raise LedgerCorrupt(f"{snapshot.name}: the entries are not those that the checkpoint covers; see verify")
    proof = [base64.b64encode(each).decode() for each in tree.inclusion_proof(seq - 1, tree.size)]
    fields = {"format": FORMAT, "body": body.decode(), "index": seq - 1, "size": tree.size, "proof": proof}
    return _sealed({**fields, "note": note.render()})


def _covering(snapshot: Snapshot, seq: int, checkpointed: int, given: str | None) -> tuple[Note, Checkpoint]:
    """Return the best checkpoint that covers an entry."""
    texts = [given] if given is not None else []
    if given is None:
        if (cosigned := snapshot.state("cosigned")) is not None:
            texts.append(cosigned.decode())
        # The entry of a checkpoint follows what it covers.
        if checkpointed and (row := snapshot.row(checkpointed + 1)) is not None:
            texts.append(canonical.decode(row[0])["note"])
    for text in texts:
        note = Note.parse(text)
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.size >= seq:
            return note, checkpoint
    raise LedgerRefused(f"no checkpoint covers entry {seq} yet: make one (`checkpoint`), which the site's key signs")


def _sealed(fields: dict[str, Any]) -> bytes:
    digest = hashlib.sha256(canonical.encode(fields)).hexdigest()
    return canonical.encode({**fields, "sha256": digest}) + b"\n"


def check_proof(
    bundle: bytes, *, site_key: str, witness_keys: Sequence[str] = (), ledger_id: str | None = None
) -> dict[str, Any]:
    """Return what a bundle proves. Anything that is not exactly right raises.

    Parameters
    ----------
    site_key
        The verifier key of the site that was in force when the checkpoint was signed, had from elsewhere.
    witness_keys
        If any are given, one of them at least must have cosigned.
    ledger_id
        If given, the entry must be of this ledger.

    Returns
    -------
    `entry` (its document), `seq`, `kind`, `at`, `ledger_id`, `size` (entries that the checkpoint covers), `assurance`
    ("signed" or "witnessed"), and `witnesses`: of each that cosigned, its name and its clock in Unix seconds.

    Raises
    ------
    ProofInvalid
        The bundle is malformed, or does not prove its entry under these keys.
    ValueError
        A key is none, or of the wrong kind.
    """
    site = Verifier.parse(site_key)
    witnesses = [Verifier.parse(key) for key in witness_keys]
    if site.kind != NOTE_TYPE or any(witness.kind != COSIGNATURE_TYPE for witness in witnesses):
        raise ValueError("site_key must be a key for notes, and witness_keys keys for cosignatures")
    try:
        fields = _fields(bundle)
        note = Note.parse(fields["note"])
        checkpoint = Checkpoint.parse(note.text)
        body = fields["body"].encode()
        entry = canonical.decode(body)
        proof = [base64.b64decode(each, validate=True) for each in fields["proof"]]
    except (ValueError, TypeError) as error:
        raise ProofInvalid(f"it cannot be read ({error})") from None
    if not note.signed_by(site):
        raise ProofInvalid("its checkpoint is not signed by the site's key")
    cosigned = [witness for witness in witnesses if note.signed_by(witness)]
    if witnesses and not cosigned:
        raise ProofInvalid("its checkpoint is not cosigned by any of the witnesses' keys")
    if fields["size"] != checkpoint.size or not verify_inclusion(
        leaf_hash(body), fields["index"], checkpoint.size, proof, checkpoint.root
    ):
        raise ProofInvalid("the entry is not at this place of the checkpoint's tree")
    if type(entry) is not dict or entry.get("seq") != fields["index"] + 1:
        raise ProofInvalid("the entry's number is not its place")
    prefix = origin_of("")
    found = checkpoint.origin.removeprefix(prefix)
    if not checkpoint.origin.startswith(prefix) or found != (ledger_id or found):
        raise ProofInvalid("its checkpoint is of another ledger")
    return {
        "entry": entry,
        "seq": entry["seq"],
        "kind": entry.get("kind"),
        "at": entry.get("at"),
        "ledger_id": found,
        "size": checkpoint.size,
        "assurance": "witnessed" if cosigned else "signed",
        "witnesses": [[witness.name, _time(note, witness)] for witness in cosigned],
    }


def _fields(bundle: bytes) -> dict[str, Any]:
    if type(bundle) is not bytes or len(bundle) > _LONGEST or not bundle.endswith(b"\n"):
        raise ValueError("it is not one line")
    fields = canonical.decode(bundle[:-1])
    if type(fields) is not dict or fields.keys() != _FIELDS or fields["format"] != FORMAT:
        raise ValueError("its fields are not those of a proof of this version")
    types = {"body": str, "index": int, "note": str, "proof": list, "size": int}
    if any(type(fields[name]) is not kind for name, kind in types.items()):
        raise ValueError("a field is of another type")
    rest = {name: value for name, value in fields.items() if name != "sha256"}
    if bundle != _sealed(rest):
        raise ValueError("it was changed: its hash is not that of its fields")
    return dict(rest)


def _time(note: Note, witness: Verifier) -> int:
    return max(cosignature_time(line) for line in note.signatures if witness.verify(note.text, line))
