"""The ledger as its users see it: accounts, and spends that are durable before any row is touched."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from privacy.events import Event
from privacy.ledger import canonical
from privacy.ledger._sqlite import SqliteStore, create, path_of, schema_hash
from privacy.ledger.account_doors import AccountDoors
from privacy.ledger.anchor import Anchor
from privacy.ledger.books import Books, KeyState
from privacy.ledger.chain import START, Entry, entry_hash, key_digest
from privacy.ledger.cosigning import Cosigning, WitnessPolicy
from privacy.ledger.errors import LedgerRefused
from privacy.ledger.journal import Journal, utc_now
from privacy.ledger.notes import Signer
from privacy.ledger.requests import (
    Request,
    name_of,
    text_of,
)
from privacy.ledger.reservations import Reservation, Spend
from privacy.ledger.rules import CHANGES, FORMAT, Replay
from privacy.ledger.site_key import SiteKey
from privacy.ledger.spending import Spending
from privacy.ledger.vault import Vault

if TYPE_CHECKING:
    from privacy.ledger._postgres import PostgresStore

Change = Literal["refresh", "opt_out", "erasure"]
Check = Literal["auto", "whole", "head"]

# Opening replays a history up to this length, unless told otherwise: a fraction of a second.
_REPLAYED = 10_000


def open_ledger(
    url: str,
    *,
    site: str = "",
    signer: Signer | None = None,
    anchor: str | Path | None = None,
    answer_key: str | Path | None = None,
    witnesses: WitnessPolicy | None = None,
    check: Check = "auto",
) -> Ledger:
    """Open the ledger, or make it if there is none.

    Parameters
    ----------
    url
        `sqlite:///relative.db`, `sqlite:////absolute/path.db` or `postgresql://...`.
    site
        The site's public name: written into a new ledger, compared with that of an old one unless empty.
    signer
        The site's key (`keys.load_key`): signs caps and checkpoints. A ledger that has a key needs it for these.
    anchor
        A small file outside the backup set that remembers how far the ledger was.
    answer_key
        The file whose key encrypts stored answers; made if it is not there. By default beside a SQLite ledger.
    witnesses
        Who has to cosign before a spend starts.
    check
        "whole": replay every entry. "head": only that the journal stands where it says. "auto": the first for up to
        10,000 entries. `verify` is the full audit.

    Raises
    ------
    LedgerCorrupt
        It is no ledger, of another format version, or does not verify.
    LedgerRestored
        The anchor or a witness has seen a longer history, or another one.
    LedgerRefused
        The ledger belongs to another site, or the signer's key is not the one in force.
    LedgerUnavailable
        It cannot be read or written.
    """
    site = name_of("site", site) if site else ""
    place = None if anchor is None else Anchor(Path(anchor))
    if url.startswith("postgresql://"):
        journal = _in_database(url, site, place)
    else:
        path = path_of(url)
        if not path.exists():
            create(path, *_first_entry(site, schema_hash()))
        store = SqliteStore(path)
        journal = _up_to_date(store, place, schema_hash)
        answer_key = answer_key or Path(f"{path}-answers.key")
    try:
        return Ledger(journal, site=site, signer=signer, answer_key=answer_key, witnesses=witnesses, check=check)
    except BaseException:
        journal.close()
        raise


def _in_database(url: str, site: str, anchor: Anchor | None) -> Journal:
    from privacy.ledger._postgres import PostgresStore

    store = PostgresStore(url)
    try:
        store.create(*_first_entry(site, store.schema_hash()))
        return _up_to_date(store, anchor, store.schema_hash)
    except BaseException:
        store.close()
        raise


def _up_to_date(store: SqliteStore | PostgresStore, anchor: Anchor | None, schema: Callable[[], str]) -> Journal:
    """Open the journal; tables of an earlier version are changed first, and the journal says so in the same commit."""
    outdated = store.outdated()
    journal = Journal(store, anchor)
    if outdated:
        try:
            with journal.writing() as books:
                if store.migrate():
                    journal.append(books, "note", text="a new schema", schema=schema())
        except BaseException:
            journal.close()
            raise
    return journal


def _first_entry(site: str, schema: str) -> tuple[list[tuple[int, bytes, bytes]], list[tuple[str, bytes]]]:
    document = {
        "seq": 1,
        "kind": "note",
        "at": utc_now(),
        "text": "a new ledger",
        "format": FORMAT,
        "ledger_id": secrets.token_hex(32),
        "site": site,
        "schema": schema,
    }
    body = canonical.encode(document)
    digest = entry_hash(START, body)
    books = Books()
    Replay(books, lambda _seq: b"").apply(document, body, digest)
    return [(1, body, digest)], list(books.changes())


class Ledger(AccountDoors):
    """An open ledger; made by `open_ledger`. Threads may share it; a forked process opens its own.

    It is a context manager that closes itself.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        site: str = "",
        signer: Signer | None = None,
        answer_key: str | Path | None = None,
        witnesses: WitnessPolicy | None = None,
        check: Check = "auto",
    ) -> None:
        self._journal = journal
        with journal.reading() as books:
            head = books.head
            self._site = head.site
            if site not in ("", head.site):
                raise LedgerRefused(
                    f"{journal.store.name} is the ledger of site {head.site!r}, not of {site!r}: open the right one"
                )
            size = head.size
        if check == "whole" or (check == "auto" and size <= _REPLAYED):
            journal.check_whole()
        self._site_key = SiteKey(journal, signer)
        vault = Vault(journal.store, journal.ledger_id, None if answer_key is None else Path(answer_key))
        self._cosigning = None if witnesses is None else Cosigning(journal, self._site_key, witnesses)
        self._spending = Spending(journal, vault, self._cosigning)
        if self._cosigning is not None:
            self._cosigning.compare()

    def __repr__(self) -> str:
        return f"Ledger({self._journal.store.name!r}, site={self.site!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; closing twice is fine. Reservations that are left behind keep their status."""
        self._journal.close()

    @property
    def ledger_id(self) -> str:
        """The ledger's random identity, made with it: 64 hexadecimal digits."""
        return self._journal.ledger_id

    @property
    def site(self) -> str:
        """The site's public name; may be empty."""
        return self._site

    @property
    def head(self) -> tuple[int, str]:
        """The number of entries and the last entry's hash. Kept by somebody else, it exposes a shortened history."""
        with self._journal.reading() as books:
            return books.head.size, books.head.hash.hex()

    # Spending

    def spend(
        self,
        account: str,
        event: Event,
        *,
        key: str,
        purpose: str,
        data_version: str = "",
        blocks: Iterable[str] = (),
    ) -> Spend:
        """Return a context manager that charges the account on entering, before its block touches any row.

        Parameters
        ----------
        key
            Names this spend for ever. The same key later gives the stored answer and charges nothing.
        purpose
            What for, in plain words: public.
        data_version
            Which rows, for example a keyed fingerprint of the table: public.
        blocks
            The blocks of patients that the release touches; none: all of them.

        Raises
        ------
        BudgetExceeded, UnknownAccount, UnsupportedEvent
            On entering: nothing was charged.
        WitnessUnavailable, LedgerRestored
            On entering, where witnesses have to cosign: nothing was charged.
        SpentWithoutAnswer
            On entering: the key was charged and has no stored answer.
        KeyReused
            On entering: the key was used for another account, event, purpose, data version or blocks.

        Examples
        --------
        `with ledger.spend(...) as spend: answer = spend.release(value)`. Leaving the block without `release`, normally
        or by an exception, costs the same and stores nothing.
        """
        return Spend(
            self._spending, account, event, key=key, purpose=purpose, data_version=data_version, blocks=tuple(blocks)
        )

    def reserve(
        self,
        account: str,
        event: Event,
        *,
        key: str,
        purpose: str,
        data_version: str = "",
        blocks: Iterable[str] = (),
    ) -> Reservation:
        """Reserve an event's cost and return the reservation, to be started, or voided, later. Raises as `spend`.

        A key that is reserved and not started is handed out again (after a crash, say); only one holder can start it.
        A key with a stored answer gives a reservation whose `stored` is the answer.
        """
        request = Request.of(account, event, key=key, purpose=purpose, data_version=data_version, blocks=blocks)
        return self._spending.reserve([request], start=False)[0]

    def reserve_many(self, account: str, releases: Iterable[tuple[str, Event]], *, purpose: str) -> list[Reservation]:
        """Reserve a batch of (key, event) in one commit: all of them, or none. Raises as `spend`."""
        requests = [
            Request.of(account, event, key=key, purpose=purpose, data_version="", blocks=()) for key, event in releases
        ]
        return self._spending.reserve(requests, start=False)

    def start_many(self, reservations: Iterable[Reservation]) -> None:
        """Start a batch of reservations in one commit: all of them, or none. Raises as `Reservation.start`."""
        self._spending.start(list(reservations))

    def release_many(self, answers: Iterable[tuple[Reservation, Any]]) -> list[Any]:
        """Store the answers of started reservations and post them in one commit; return them as stored."""
        return self._spending.release(list(answers))

    def void(self, key: str) -> None:
        """Give a reservation back that was never started. Raises LedgerRefused for any other key."""
        self._spending.void(name_of("key", key))

    def pending(self) -> tuple[str, ...]:
        """Return the keys that are reserved and not started: they count against the cap until started or voided."""
        with self._journal.reading():
            states = [(KeyState.of(data), name) for name, data in self._journal.store.states("key ")]
        found = sorted((state.seq, name) for state, name in states if state.status == "reserved")
        return tuple(name.removeprefix("key ") for _, name in found)

    def open_charges(self) -> tuple[str, ...]:
        """Return the keys that are reserved or started and not yet closed: somebody works on them, or died."""
        with self._journal.reading():
            states = [(KeyState.of(data), name) for name, data in self._journal.store.states("key ")]
        found = sorted((state.seq, name) for state, name in states if state.status in {"reserved", "started"})
        return tuple(name.removeprefix("key ") for _, name in found)

    def settle(self, key: str) -> None:
        """Close a charge whose holder is gone: what was started is posted without an answer, the rest is voided.

        Only for whoever knows that the holder is gone: one that lives could not release its answer any more. A key that
        is closed already is left as it is.
        """
        with self._journal.reading() as books:
            state = books.key(name_of("key", key))
        if state is not None and state.status == "started":
            self._spending.post(key)
        elif state is not None and state.status == "reserved":
            self._spending.void(key)

    # The data

    def record_data(self, version: str, *, change: Change, reason: str) -> None:
        """Name a version of the data in the journal: a refresh, or patients who opted out. Raises LedgerRefused.

        An "erasure" says that a version is gone; it also destroys the answers stored from it, and nothing more is
        released from it. The journal keeps their digests: of ciphertexts, which say nothing without the answers.
        """
        version, reason = name_of("version", version), text_of("reason", reason)
        if change not in CHANGES:
            raise ValueError(f"change must be one of {', '.join(CHANGES)}, got {change!r}")
        with self._journal.writing() as books:
            known = books.data(version)
            if known is not None and (known.erased or change != "erasure"):
                raise LedgerRefused(f"the data version {version!r} was recorded before as {known.change}")
            self._journal.append(books, "data", version=version, change=change, text=reason)
            if change == "erasure":
                states = [(name, KeyState.of(data)) for name, data in self._journal.store.states("key ")]
                keys = [name.removeprefix("key ") for name, state in states if state.data_version == version]
                self._journal.store.erase_answers([key_digest(key) for key in keys])

    # The journal

    def note(self, text: str) -> None:
        """Write a line of public plain text into the journal."""
        text = text_of("text", text)
        with self._journal.writing() as books:
            self._journal.append(books, "note", text=text)

    def set_key(self, role: str, key: str, *, reason: str, holder: Signer | None = None) -> None:
        """Put a verifier key in force for a role: "site", "officer", or "witness NAME".

        Parameters
        ----------
        key
            Its text (`Signer.vkey`); empty takes an officer's or a witness's key away.
        holder
            The signer of the new key, which shows that it is held; not for witnesses. The present site key, if there
            is one, vouches for it.

        Raises
        ------
        LedgerRefused
            The rules do not allow it.
        """
        reason = text_of("reason", reason)
        with self._journal.writing() as books:
            self._site_key.rotate(books, role, key, reason, holder)

    def checkpoint(self) -> str:
        """Write a checkpoint of all entries so far, signed by the site's key, into the journal; return its note.

        With witnesses, they cosign it first.
        """
        with self._journal.writing() as books:
            note = self._site_key.checkpoint(books.head)
            self._journal.append(books, "checkpoint", note=note)
        return note if self._cosigning is None else self._cosigning.cosign()

    @property
    def cosigned(self) -> str | None:
        """The latest checkpoint that witnesses cosigned, as a signed note; None if there is none."""
        with self._journal.reading():
            found = self._journal.store.state("cosigned")
        return None if found is None else found.decode()

    def entries(self) -> tuple[Entry, ...]:
        """Return the whole journal."""
        with self._journal.reading():
            rows = list(self._journal.store.rows())
        out = []
        for seq, raw, digest in rows:
            body = canonical.decode(raw)
            out.append(Entry(seq=seq, kind=body["kind"], at=body["at"], body=body, hash=digest.hex()))
        return tuple(out)
