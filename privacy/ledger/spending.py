"""From a request to a charge: reserve, start, then post or void, each durable before it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from privacy.errors import KeyReused, LedgerCorrupt, SpentWithoutAnswer
from privacy.ledger.answers import encode_answer
from privacy.ledger.books import Books
from privacy.ledger.cosigning import Cosigning
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.journal import Journal
from privacy.ledger.requests import Request, account_in, admit, check_not_erased
from privacy.ledger.reservations import Reservation
from privacy.ledger.rules import terms_of
from privacy.ledger.vault import Vault


class Spending:
    """The hand that reservations act with. With `cosigning`, witnesses are asked before anything starts."""

    def __init__(self, journal: Journal, vault: Vault, cosigning: Cosigning | None) -> None:
        self._journal = journal
        self._vault = vault
        self._cosigning = cosigning

    def reserve(self, requests: Sequence[Request], *, start: bool) -> list[Reservation]:
        """Reserve a batch in one commit, and start it: in the same commit, or after witnesses have cosigned."""
        with self._journal.writing() as books:
            found = [self._reserve_one(books, request) for request in requests]
            waiting = [one for one in found if not one.answered]
            if start and self._cosigning is None:
                for one in waiting:
                    self._journal.append(books, "start", key=one.key)
        if start and waiting:
            if self._cosigning is not None:
                try:
                    self.start(waiting)
                except BaseException:
                    # No share left and nothing was started: the reservations go back.
                    for one in waiting:
                        one.abandon()
                    raise
            for one in waiting:
                one.started()
        return found

    def _reserve_one(self, books: Books, request: Request) -> Reservation:
        key = request.key
        state = account_in(books, request.body["account"])
        before = books.key(key)
        if before is not None:
            if terms_of(self._journal.document(before.seq)) != terms_of(request.body):
                raise KeyReused(key)
            if before.answer is not None:
                return Reservation(self, key, status="answered", stored=self._vault.read(key, before, books))
            if before.status in ("started", "posted"):
                raise SpentWithoutAnswer(key)
        if before is not None:
            check_not_erased(books, before.data_version)
        if before is None or before.status == "void":
            amounts = admit(books, state, request)
            self._journal.append(books, "reserve", **request.body, amounts=amounts)
        return Reservation(self, key, status="reserved")

    def start(self, reservations: Sequence[Reservation]) -> None:
        """Start a batch of reservations in one commit: all of them, or none."""
        for one in reservations:
            one.check_reserved()
        if self._cosigning is not None:
            self._cosigning.before_start()
        with self._journal.writing() as books:
            for one in reservations:
                state = books.key(one.key)
                if state is None or state.status == "void":
                    raise LedgerRefused(f"the reservation of key {one.key!r} was voided: reserve again")
                if state.status != "reserved":
                    raise SpentWithoutAnswer(one.key)
                check_not_erased(books, state.data_version)
                self._journal.append(books, "start", key=one.key)
        for one in reservations:
            one.started()

    def release(self, answers: Sequence[tuple[Reservation, Any]]) -> list[Any]:
        """Store the answers of started reservations and post them in one commit; return them as stored."""
        bodies = []
        for one, value in answers:
            one.check_started()
            bodies.append(encode_answer(value))
        stored = self._post([(one.key, body) for (one, _), body in zip(answers, bodies, strict=True)])
        return [one.released(value) for (one, _), value in zip(answers, stored, strict=True)]

    def post(self, key: str) -> Any:
        """Post the charge of a started key without an answer; return an answer that is stored all the same, or None."""
        return self._post([(key, None)])[0]

    def _post(self, answers: Sequence[tuple[str, bytes | None]]) -> list[Any]:
        out = []
        with self._journal.writing() as books:
            for key, answer in answers:
                state = books.key(key)
                if state is None:
                    raise LedgerCorrupt(f"key {key!r} is missing")
                # A commit that failed may have reached the disk all the same: then what is there stands.
                if state.status == "posted":
                    out.append(None if state.answer is None else self._vault.read(key, state, books))
                    continue
                if answer is not None:
                    check_not_erased(books, state.data_version)
                digest = None if answer is None else self._vault.store(key, answer)
                self._journal.append(books, "post", key=key, answer=digest)
                out.append(None if answer is None else self._vault.decoded(answer))
        return out

    def void(self, key: str) -> None:
        """Give a reservation back that was never started. Raises LedgerRefused for any other key."""
        with self._journal.writing() as books:
            state = books.key(key)
            if state is None or state.status != "reserved":
                raise LedgerRefused(f"key {key!r} is not reserved: only what was never started can be voided")
            self._journal.append(books, "void", key=key)
