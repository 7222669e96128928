"""Stored answers at rest: encrypted, bound to their ledger and key, and committed to by the journal.

What is stored is a nonce and the ChaCha20-Poly1305 ciphertext of the answer; the ledger's identity and the digest of
the key are authenticated with it. The journal holds the hash of exactly these bytes, so that it says nothing of an
answer that was erased.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from privacy.errors import LedgerCorrupt
from privacy.ledger.answers import decode_answer
from privacy.ledger.books import Books, KeyState
from privacy.ledger.chain import answer_hash, key_digest
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.rules import is_erased
from privacy.ledger.store import Store

_NONCE = 12


class Vault:
    """Reads and writes the answers of one ledger. `path`: the key's file, made when the first answer is stored."""

    def __init__(self, store: Store, ledger_id: str, path: Path | None) -> None:
        self._store = store
        self._ledger_id = bytes.fromhex(ledger_id)
        self._path = path
        self._secret: bytes | None = None

    def store(self, key: str, answer: bytes) -> str:
        """Store an answer inside a transaction; return the digest that the journal names it by."""
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        name, nonce = key_digest(key), os.urandom(_NONCE)
        sealed = nonce + ChaCha20Poly1305(self._key(make=True)).encrypt(nonce, answer, self._ledger_id + name)
        self._store.put_answer(name, sealed)
        return answer_hash(sealed)

    def read(self, key: str, state: KeyState, books: Books) -> Any:
        """Return the stored answer of a key.

        Raises
        ------
        LedgerCorrupt
            It is missing or was changed.
        LedgerRefused
            It was erased, or the key that it was encrypted with is not there.
        """
        sealed = self._store.answer(key_digest(key))
        if sealed is None and is_erased(books, state.data_version):
            raise LedgerRefused(f"the answer to key {key!r} was erased with the data version {state.data_version!r}")
        if sealed is None or answer_hash(sealed) != state.answer:
            raise LedgerCorrupt(f"the stored answer to key {key!r} is missing or was changed: see verify")
        return decode_answer(self.opened(key_digest(key), sealed))

    def opened(self, name: bytes, sealed: bytes) -> bytes:
        """Return the bytes of an answer. Raises LedgerRefused if they were encrypted with another key."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        try:
            cipher = ChaCha20Poly1305(self._key(make=False))
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._ledger_id + name)
        except InvalidTag:
            raise LedgerRefused(
                "the stored answer was encrypted with another key: open the ledger with the answer key of that time"
            ) from None

    @staticmethod
    def decoded(answer: bytes) -> Any:
        """Return the answer of these bytes, as it will be read later."""
        return decode_answer(answer)

    def _key(self, *, make: bool) -> bytes:
        from privacy.ledger.keys import answer_key

        if self._secret is None:
            if self._path is None:
                raise LedgerRefused("answers are stored encrypted: open this ledger with answer_key, a file")
            if not make and not self._path.exists():
                raise LedgerRefused(f"the answer key {self._path.name} is not there: stored answers cannot be read")
            self._secret = answer_key(self._path)
        return self._secret
