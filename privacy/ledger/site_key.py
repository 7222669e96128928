"""The site's key at work: it signs caps, keys and checkpoints of the journal that it is in force for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from privacy.ledger.books import Books, Head
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.journal import Journal
from privacy.ledger.notes import Checkpoint, Note, Signer
from privacy.ledger.rules import BrokenRule, origin_of
from privacy.ledger.signatures import signed

ROLE = "site"


class SiteKey:
    """Appends what has to be signed. Without a key in force nothing is signed; with one, its signer is needed."""

    def __init__(self, journal: Journal, signer: Signer | None) -> None:
        self._journal = journal
        # By key: whether a new one is in force is for the journal to say, also where a commit was not confirmed.
        self._signers = {} if signer is None else {signer.verifier.vkey: signer}
        with journal.reading() as books:
            key = books.head.keys.get(ROLE)
        if signer is not None and key is not None and key != signer.verifier.vkey:
            raise LedgerRefused("the signer's key is not the site's key in force: load the one it was replaced by")

    def append(self, books: Books, kind: str, officer: Signer | bytes | None = None, **fields: Any) -> None:
        """Append an entry with the signatures it needs: the site's, and an officer's where one is given.

        Raises LedgerRefused if a signature that the officer made elsewhere is not one of this entry.
        """
        signers = [self._present(books.head)] if ROLE in books.head.keys else []
        if isinstance(officer, bytes):
            made = [books.head.keys["officer"], base64.b64encode(officer).decode()]
            try:
                self._append(books, kind, fields, signers, [made])
            except BrokenRule as error:
                raise LedgerRefused(
                    f"the officer's signature is not one of this cap ({error}): it is good for one cap of one account, "
                    "in place of the one that was in force when it was made"
                ) from None
            return
        if officer is not None:
            signers.append(officer)
        self._append(books, kind, fields, signers)

    def rotate(self, books: Books, role: str, key: str, reason: str, holder: Signer | None) -> None:
        """Put a key in force. Raises LedgerRefused."""
        before = {"replaces": books.head.keys.get(role, ""), "after": books.head.keyed_at}
        fields = {"role": role, "key": key, "reason": reason, **before}
        signers = [] if holder is None or not key else [holder]
        if role == ROLE and holder is not None:
            self._signers[holder.verifier.vkey] = holder
        if ROLE in books.head.keys:
            signers.append(self._present(books.head))
        try:
            self._append(books, "rotate_key", fields, signers)
        except (ValueError, BrokenRule) as error:
            raise LedgerRefused(f"the key of role {role!r} is not set: {error}") from None

    def checkpoint(self, head: Head) -> str:
        """Return the signed note of a checkpoint of all entries. Raises LedgerRefused without a key."""
        if ROLE not in head.keys:
            raise LedgerRefused("a checkpoint is signed: set the site's key first")
        text = Checkpoint(origin_of(head.ledger_id), head.size, head.frontier.root).text
        return Note(text, (self._present(head).sign_note(text),)).render()

    def _append(
        self, books: Books, kind: str, fields: dict[str, Any], signers: list[Signer], made: Sequence[list[str]] = ()
    ) -> None:
        signatures = [*signed({"kind": kind, **fields}, self._journal.ledger_id, signers), *made]
        self._journal.append(books, kind, **fields, signatures=signatures)

    def _present(self, head: Head) -> Signer:
        if not self._signers:
            raise LedgerRefused("this ledger has a site key: open it with that key's signer for this")
        signer = self._signers.get(head.keys[ROLE])
        if signer is None:
            # Another process put it in force after this one opened the ledger.
            raise LedgerRefused("the site's key was replaced: open the ledger with the signer of the new one for this")
        return signer
