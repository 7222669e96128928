"""What a spend looks like from the outside: a reservation in steps, or a `with` block that does all of them."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from privacy.errors import PrivacyError
from privacy.events import Event
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.requests import Request

if TYPE_CHECKING:
    from privacy.ledger.spending import Spending

Status = Literal["reserved", "started", "answered", "posted", "void"]


class Reservation:
    """A reserved cost: start it, then release an answer or post without one; or void it before it was started."""

    def __init__(
        self,
        spending: Spending,
        key: str,
        *,
        status: Status,
        stored: Any = None,
    ) -> None:
        self._spending = spending
        self._status: Status = status
        self._stored = stored
        self.key = key

    def __repr__(self) -> str:
        return f"Reservation({self.key!r}, {self._status})"

    @property
    def answered(self) -> bool:
        """Whether an answer is stored, now or from an earlier time."""
        return self._status == "answered"

    @property
    def stored(self) -> Any:
        """The stored answer, or None."""
        return self._stored

    def start(self) -> None:
        """Charge for good, on disk before this returns. Only then may a row be touched.

        Raises
        ------
        SpentWithoutAnswer
            Another holder of the same reservation was faster.
        LedgerRefused
            It was voided, started by this holder before, or has a stored answer.
        """
        self._spending.start([self])

    def check_reserved(self) -> None:
        """Raise LedgerRefused unless it can be started by this holder."""
        if self._status != "reserved":
            raise LedgerRefused(f"the reservation of key {self.key!r} is {self._status}: only a reserved one can start")

    def started(self) -> None:
        """Take note that the ledger has started it."""
        self._status = "started"

    def release(self, value: Any) -> Any:
        """Store the answer and post the charge in one transaction; return the answer as stored.

        With an answer stored before, return that one and ignore `value`: one key, one draw of noise.

        Raises
        ------
        LedgerRefused
            The reservation was not started by this holder, or its version of the data was erased since.
        ValueError
            The value is of a type that cannot be stored. It may be released again in another form.
        """
        if self._status == "answered":
            return self._stored
        return self._spending.release([(self, value)])[0]

    def check_started(self) -> None:
        """Raise LedgerRefused unless it was started by this holder."""
        if self._status != "started":
            raise LedgerRefused(
                f"the reservation of key {self.key!r} is {self._status}: only a started one is released"
            )

    def released(self, stored: Any) -> Any:
        """Take note of what the ledger has stored, and return it. Raises LedgerRefused if it was posted without."""
        if stored is None:
            self._status = "posted"
            raise LedgerRefused(f"key {self.key!r} was posted without an answer: a fresh answer needs a new key")
        self._status, self._stored = "answered", stored
        return stored

    def post(self) -> None:
        """Post the charge without an answer. Raises LedgerRefused unless it was started by this holder."""
        if self._status != "started":
            raise LedgerRefused(f"the reservation of key {self.key!r} is {self._status}: only a started one is posted")
        self._stored = self._spending.post(self.key)
        self._status = "posted" if self._stored is None else "answered"

    def void(self) -> None:
        """Give the reservation back. Raises LedgerRefused if it was started (then it costs) or voided before."""
        if self._status != "reserved":
            raise LedgerRefused(
                f"the reservation of key {self.key!r} is {self._status}: only a reserved one can be voided"
            )
        self._spending.void(self.key)
        self._status = "void"

    def abandon(self) -> None:
        """Give up, whatever the status: what was started is posted without an answer, what was not is voided."""
        if self._status == "started":
            self.post()
        elif self._status == "reserved":
            # Another holder may have voided or started it; then there is nothing of ours to give back.
            with contextlib.suppress(LedgerRefused):
                self._spending.void(self.key)
            self._status = "void"


class Spend:
    """The context manager that `Ledger.spend` returns: entering charges, `release` stores and posts."""

    def __init__(
        self,
        spending: Spending,
        account: str,
        event: Event,
        *,
        key: str,
        purpose: str,
        data_version: str,
        blocks: tuple[str, ...] = (),
    ) -> None:
        self._spending = spending
        self._account, self._event, self._blocks = account, event, blocks
        self._purpose, self._data_version = purpose, data_version
        self._reservation: Reservation | None = None
        self.key = key

    def __repr__(self) -> str:
        return f"Spend({self.key!r})"

    def __enter__(self) -> Self:
        if self._reservation is not None:
            raise LedgerRefused("a spend is entered once: call ledger.spend again")
        request = Request.of(
            self._account,
            self._event,
            key=self.key,
            purpose=self._purpose,
            data_version=self._data_version,
            blocks=self._blocks,
        )
        (self._reservation,) = self._spending.reserve([request], start=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered.answered:
            return
        if error is None:
            self._entered.post()
            return
        # It counts as spent from the start entry on; the error of the block says more than a failure to close it.
        with contextlib.suppress(PrivacyError):
            self._entered.post()

    @property
    def _entered(self) -> Reservation:
        if self._reservation is None:
            raise LedgerRefused("nothing is charged yet: enter the spend with a with statement")
        return self._reservation

    @property
    def answered(self) -> bool:
        """Whether an answer is stored, now or from an earlier time."""
        return self._entered.answered

    @property
    def stored(self) -> Any:
        """The stored answer, or None."""
        return self._entered.stored

    def release(self, value: Any) -> Any:
        """Store the answer and post the charge in one transaction; return the answer as stored. See Reservation."""
        return self._entered.release(value)
