"""What can go wrong in the ledger besides the refusals of `privacy.errors`."""

from __future__ import annotations

from privacy.errors import LedgerError


class LedgerRefused(LedgerError):
    """The ledger's rules do not allow the operation: other terms, a raised cap, `void` after `start`, and the like."""


class LedgerUnavailable(LedgerError):
    """The file or database could not be read or written (disk full, I/O error, moved away, connection lost).

    What was not acknowledged may or may not be on disk; it is on disk as a whole or not at all. Trying again with the
    same key is safe.
    """


class LedgerRestored(LedgerError):
    """The ledger is behind what an anchor or a witness has seen: a restored backup, or a fork. Nothing is spent.

    size    the number of entries it has
    seen    the number of entries that were seen before
    """

    def __init__(self, name: str, size: int, seen: int) -> None:
        self.size = size
        self.seen = seen
        super().__init__(
            f"{name} has {size} entries and was seen with {seen}, or with others: an old copy was put back. What was "
            "spent since then is missing from it, so nothing is spent from it; restore the latest copy"
        )
