"""Verification by somebody who trusts nothing but this code: every hash, rule, balance, signature and answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from privacy.ledger._note_format import signature_parts
from privacy.ledger._sqlite import ChangedWhileRead, format_problems, path_of, reading_only, schema_hash
from privacy.ledger._sqlite_library import Connection
from privacy.ledger.books import Books
from privacy.ledger.chain import answer_hash, key_digest
from privacy.ledger.notes import Checkpoint, Note, Verifier
from privacy.ledger.rules import BrokenRule, Replay, origin_of

_MAX_PROBLEMS = 100
_ATTEMPTS = 5

Assurance = Literal["none", "chain", "chain+head", "signed", "witnessed"]
Row = tuple[object, object, object]


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    ok          nothing is wrong
    entries     how many entries were read
    assurance   "chain": the file agrees with itself and with every rule. It cannot show that the file is the only or
                the latest one: whoever can write it can rewrite all of it, or put an old copy back.
                "chain+head": besides, it continues the history up to a head that somebody noted elsewhere.
                "signed": besides, a checkpoint of it is signed by a site key that the auditor had from elsewhere.
                "witnessed": besides, a witness whose key the auditor had from elsewhere cosigned a checkpoint: up to
                there no other history can have been shown to that witness.
                "none": not ok
    problems    what is wrong, each with the entry's number
    first_bad   the number of the first bad entry, or None
    covered     up to which entry the best checkpoint reaches; 0: none
    """

    ok: bool
    entries: int
    assurance: Assurance
    problems: tuple[str, ...]
    first_bad: int | None = None
    covered: int = 0


@dataclass(slots=True)
class Findings:
    """What is wrong so far, and how much was read."""

    problems: list[str] = field(default_factory=list)
    entries: int = 0
    first_bad: int | None = None

    def add(self, problem: str, seq: int | None = None) -> None:
        """Note a problem, of an entry or of the whole."""
        if seq is not None and self.first_bad is None:
            self.first_bad = seq
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


def verify(
    url: str,
    *,
    head: str | None = None,
    site_key: str | None = None,
    witness_keys: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Verification:
    """Recompute the chain, every rule and cost, signatures, projections and answers' digests. Reads only.

    Parameters
    ----------
    url
        As for `open_ledger`; the only thing that can raise here (ValueError).
    head
        The hexadecimal hash of an entry, noted at an earlier time (`Ledger.head`): must be part of the history.
    site_key, witness_keys
        Verifier keys that the auditor had from elsewhere, for the assurance "signed" and "witnessed".
    notes
        Checkpoints that the auditor had from elsewhere, from a witness, say: the history must continue them.

    Returns
    -------
    All problems at once, up to a hundred. After the first one, later ones may follow from it.

    Examples
    --------
    >>> verify("sqlite:////nowhere/at-all.db").problems
    ('there is no such file',)
    """
    audit = Audit(head=head, site_key=site_key, witness_keys=witness_keys, notes=notes)
    if url.startswith("postgresql://"):
        from privacy.ledger._postgres_audit import audit_database

        return audit_database(url, audit)
    path = path_of(url)
    for _ in range(_ATTEMPTS):
        if not path.is_file():
            audit.found.add("there is no such file")
            return audit.result()
        try:
            with reading_only(path) as connection:
                _audit_file(connection, audit)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            # The last: of names in the schema that are no texts.
            audit.found.add(f"the file cannot be read as a ledger: {error}")
        except ChangedWhileRead:
            audit = audit.again()
            continue
        return audit.result()
    audit.found.add("the file changed each time it was read: verify a copy, or once it is at rest")
    return audit.result()


class Audit:
    """One verification: what the auditor brings, and what was found. The source of the entries is the caller's."""

    def __init__(
        self, *, head: str | None, site_key: str | None, witness_keys: Sequence[str], notes: Sequence[str]
    ) -> None:
        self._brought = (head, site_key, tuple(witness_keys), tuple(notes))
        self.found = Findings()
        self.books = Books()
        self._head = head
        # The site's key that the auditor knows, and those that it was replaced by, each vouched for by the one before.
        self._site_keys = [] if site_key is None else [Verifier.parse(site_key)]
        self._witnesses = [Verifier.parse(key) for key in witness_keys]
        # Checkpoints that the history must pass through: from elsewhere, and those kept beside it.
        self._notes = [Note.parse(text) for text in notes]
        self._checkpoints: list[tuple[Checkpoint, Note]] = []
        self._signed_to = self._witnessed_to = 0
        self._kept: Note | None = None
        # Every key that was ever in force, by its role.
        self._keys: dict[str, set[str]] = {}

    def again(self) -> Audit:
        """Return a fresh one that asks the same."""
        head, site_key, witness_keys, notes = self._brought
        return Audit(head=head, site_key=site_key, witness_keys=witness_keys, notes=notes)

    def add_note(self, text: str) -> None:
        """Take a checkpoint that is kept beside the entries."""
        try:
            self._kept = Note.parse(text)
            self._notes.append(self._kept)
        except ValueError as error:
            self.found.add(f"a checkpoint cannot be read: {error}")

    def replay(self, rows: Iterable[Row], earlier: Callable[[int], bytes]) -> None:
        """Check all entries; `earlier` reads the body of one by its seq."""
        found, books = self.found, self.books
        replay = Replay(books, earlier)
        roots = self._roots_wanted()
        reached: dict[int, bytes] = {}
        head_seen = self._head is None
        for number, (seq, body, digest) in enumerate(rows, start=1):
            found.entries = number
            if type(seq) is not int or not isinstance(body, bytes) or not isinstance(digest, bytes):
                found.add(f"entry {number}: not of the journal's types", number)
                continue
            if seq != number:
                found.add(f"entry {number}: missing or out of place", number)
            try:
                self._see(replay.extend(seq, body, digest))
            except BrokenRule as error:
                found.add(f"entry {seq}: {error}", seq)
                # Look on from here, with the hash as it is written, so that one broken link is one problem.
                books.head.size, books.head.hash = number, digest
            head_seen = head_seen or digest.hex() == self._head
            if number in roots:
                reached[number] = books.head.frontier.root
        if found.entries == 0:
            found.add("entry 1 is missing", 1)
        if not head_seen:
            found.add(
                "the given head is not part of this history: entries were removed or rewritten, or it is another "
                "ledger's"
            )
        self._check_notes(reached)
        self._check_keys()

    def _see(self, document: dict[str, Any]) -> None:
        """Take note of keys, and of checkpoints that the auditor's site key has signed."""
        if document["kind"] == "rotate_key":
            self._keys.setdefault(document["role"].split(" ")[0], set()).add(document["key"])
            known = [key.vkey for key in self._site_keys]
            if document["role"] == "site" and document["replaces"] in known and document["key"] not in known:
                self._site_keys.append(Verifier.parse(document["key"]))
        elif document["kind"] == "checkpoint":
            note = Note.parse(document["note"])
            self._credit(Checkpoint.parse(note.text), note)

    def _check_keys(self) -> None:
        sites, witnesses = self._keys.get("site", set()), self._keys.get("witness", set()) - {""}
        if self._site_keys and self._site_keys[0].vkey not in sites:
            self.found.add("the given site key was never in force: another hand signed this history, or none")
        if self._kept is None:
            return
        known = [Verifier.parse(key) for key in sites | witnesses] + self._witnesses
        strangers = False
        for line in self._kept.signatures:
            owners = [one for one in known if signature_parts(line)[:2] == (one.name, one.key_id)]
            strangers = strangers or not owners
            if owners and not any(one.verify(self._kept.text, line) for one in owners):
                self.found.add("a signature of the kept checkpoint does not fit")
        if strangers and witnesses:
            self.found.add("a signature of the kept checkpoint is of nobody whom the journal names")
        if not any(self._kept.signed_by(Verifier.parse(key)) for key in sites):
            self.found.add("the kept checkpoint is not signed by the site's key")

    def _credit(self, checkpoint: Checkpoint, note: Note) -> None:
        if any(note.signed_by(key) for key in self._site_keys):
            self._signed_to = max(self._signed_to, checkpoint.size)
        if any(note.signed_by(witness) for witness in self._witnesses):
            self._witnessed_to = max(self._witnessed_to, checkpoint.size)

    def _roots_wanted(self) -> set[int]:
        for note in self._notes:
            try:
                self._checkpoints.append((Checkpoint.parse(note.text), note))
            except ValueError as error:
                self.found.add(f"a checkpoint cannot be read: {error}")
        return {checkpoint.size for checkpoint, _ in self._checkpoints}

    def _check_notes(self, reached: dict[int, bytes]) -> None:
        for checkpoint, note in self._checkpoints:
            if checkpoint.origin != origin_of(self.books.head.ledger_id):
                self.found.add("a checkpoint is of another ledger")
            elif checkpoint.size > self.found.entries:
                self.found.add(
                    f"a checkpoint covers {checkpoint.size} entries and there are {self.found.entries}: an old copy "
                    "was put back, or entries were removed"
                )
            elif checkpoint.size and reached.get(checkpoint.size) != checkpoint.root:
                self.found.add(f"the first {checkpoint.size} entries are not those that a checkpoint covers")
            else:
                self._credit(checkpoint, note)

    def check_states(self, kept: Iterable[tuple[str, bytes]]) -> None:
        """Compare the documents kept beside the entries with what the entries imply."""
        expected = dict(self.books.documents())
        for name, value in kept:
            if name == "cosigned":
                continue
            if expected.pop(name, None) != value:
                self.found.add(f"what is kept of {name!r} is not what the entries imply")
        for name in expected:
            self.found.add(f"nothing is kept of {name!r}")

    def check_answers(self, kept: Iterable[tuple[bytes, bytes]], erased: Iterable[bytes]) -> None:
        """Compare the stored answers with the digests in the journal."""
        expected: dict[bytes, str] = {}
        gone: set[bytes] = set()
        for name, key in self.books.all_keys():
            data = self.books.data(key.data_version) if key.data_version else None
            if data is not None and data.erased:
                gone.add(key_digest(name))
            elif key.answer is not None:
                expected[key_digest(name)] = key.answer
        for digest in erased:
            if digest not in gone:
                self.found.add("an answer was erased that no entry says so of")
        for digest, body in kept:
            if digest in gone:
                self.found.add("an answer is stored whose erasure is in the journal")
                continue
            wanted = expected.pop(digest, None)
            if wanted is None:
                self.found.add("an answer is stored that no entry names")
            elif answer_hash(body) != wanted:
                self.found.add(f"the answer of digest {wanted[:12]} was changed")
        for wanted in expected.values():
            self.found.add(f"the answer of digest {wanted[:12]} is missing")

    def result(self) -> Verification:
        """Return what was found."""
        ok = not self.found.problems
        reached: Assurance = "chain" if self._head is None else "chain+head"
        if self._signed_to:
            reached = "signed"
        if self._witnessed_to:
            reached = "witnessed"
        return Verification(
            ok=ok,
            entries=self.found.entries,
            assurance=reached if ok else "none",
            problems=tuple(self.found.problems),
            first_bad=self.found.first_bad,
            covered=max(self._signed_to, self._witnessed_to) if ok else 0,
        )


def _audit_file(connection: Connection, audit: Audit) -> None:
    for problem in format_problems(connection):
        audit.found.add(problem)
    if audit.found.problems:
        # Names that are not ours could be views with code of their own: nothing is read through them.
        return
    for (line,) in connection.execute("PRAGMA integrity_check(10)"):
        if line != "ok":
            audit.found.add(f"SQLite finds the file damaged: {line}")
    cosigned = connection.execute("SELECT value FROM state WHERE name = 'cosigned'").fetchone()
    if cosigned is not None:
        audit.add_note(bytes(cosigned[0]).decode(errors="replace"))
    audit.replay(connection.execute("SELECT seq, body, hash FROM entry ORDER BY seq"), partial(_body, connection))
    if audit.books.head.schema != schema_hash():
        audit.found.add("the schema that the journal names is not this software's")
    audit.check_states(_states(connection))
    answers = connection.execute("SELECT CAST(key_digest AS BLOB), CAST(body AS BLOB) FROM answer")
    audit.check_answers(answers, [row[0] for row in connection.execute("SELECT key_digest FROM erased")])


def _body(connection: Connection, seq: int) -> bytes:
    row = connection.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise BrokenRule(f"entry {seq} is missing")
    return row[0]


def _states(connection: Connection) -> Iterator[tuple[str, bytes]]:
    for name, value in connection.execute("SELECT name, value FROM state"):
        yield str(name), value if isinstance(value, bytes) else b""
