"""What the `doctor` sees in a journal: its anchor, its clock, reservations left behind, how old its signatures are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from privacy.ledger import canonical
from privacy.ledger._snapshot import Snapshot, head_of
from privacy.ledger.anchor import Anchor
from privacy.ledger.books import KeyState
from privacy.ledger.notes import Checkpoint, Note, cosignature_time

Level = Literal["ok", "warn", "error"]

_CLOCK_SLACK_SECONDS = 300
_PENDING_SECONDS = 24 * 3600
_CHECKPOINT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    level     "ok"; "warn": something to know or to plan; "error": budget or history is at risk, or nothing works
    check     what was looked at, one word
    what      what was found
    way_out   what to do; empty if nothing is to be done
    """

    level: Level
    check: str
    what: str
    way_out: str = ""

    def __str__(self) -> str:
        """Return the finding in one line."""
        return f"{self.level:<5} {self.check}: {self.what}" + (f". {self.way_out}" if self.way_out else "")


def journal_findings(snapshot: Snapshot, *, now: float, anchor: Path | None) -> list[Finding]:
    """Return what a ledger's journal, its anchor and the clock say of each other. Raises LedgerError, ValueError."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        partial(_anchor_mark, snapshot, anchor),
        partial(_clock, snapshot, now),
        partial(_pending, snapshot, now),
        partial(_vouched, snapshot, now),
    ]
    return [finding for check in checks for finding in check()]


def _anchor_mark(snapshot: Snapshot, anchor: Path | None) -> Iterator[Finding]:
    mark = None if anchor is None else Anchor(anchor).read()
    if mark is None:
        return
    head, row = head_of(snapshot), snapshot.row(mark.size)
    if mark.ledger_id != head.ledger_id:
        yield Finding("error", "anchor", "the anchor belongs to another ledger", "Give that of this one")
    elif row is None or row[1].hex() != mark.hash:
        yield Finding(
            "error",
            "anchor",
            f"the anchor has seen {mark.size} entries, the ledger has {head.size}, or others: an old copy was put back",
            "Restore the latest copy; nothing is spent until then",
        )


def _clock(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    last = _written(snapshot, head_of(snapshot).size)
    ahead = last - now
    if ahead > _CLOCK_SLACK_SECONDS:
        yield Finding(
            "warn",
            "clock",
            f"the last entry is {ahead / 60:.0f} minutes in the future: this clock, or that one, is wrong",
            "Set the clock (NTP); entries keep their order all the same",
        )
    else:
        yield Finding("ok", "clock", "the last entry is not in the future")


def _pending(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    old = 0
    count = 0
    for _, data in snapshot.states("key "):
        state = KeyState.of(data)
        if state.status == "reserved":
            count += 1
            old += now - _written(snapshot, state.seq) > _PENDING_SECONDS
    if old:
        yield Finding(
            "warn",
            "pending",
            f"{old} reservations are older than a day and were never started: they count against the cap",
            "See them with show; give back with void what no run will start",
        )
    else:
        yield Finding("ok", "pending", f"{count} reservations are pending, none of them for more than a day")


def _vouched(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    head = head_of(snapshot)
    if "site" not in head.keys:
        yield Finding(
            "warn",
            "checkpoint",
            "the ledger has no site key: whoever can write the file can rewrite all of it unseen",
            "Set one (set-key), and make checkpoints",
        )
        return
    if not head.checkpointed:
        yield Finding("warn", "checkpoint", "nothing was ever signed", "Make a checkpoint, and give it to others")
    else:
        yield _age("checkpoint", head.size - head.checkpointed - 1, now - _written(snapshot, head.checkpointed + 1))
    cosigned = snapshot.state("cosigned")
    if cosigned is None:
        if any(role.startswith("witness ") for role in head.keys):
            yield Finding("warn", "witness", "no witness has cosigned anything", "Open the ledger with its witnesses")
        return
    note = Note.parse(cosigned.decode())
    times = []
    for line in note.signatures:
        with contextlib.suppress(ValueError):
            times.append(cosignature_time(line))
    yield _age("witness", head.size - Checkpoint.parse(note.text).size, now - max(times, default=0))


def _age(check: str, since: int, age: float) -> Finding:
    word = "checkpoint" if check == "checkpoint" else "cosignature"
    text = f"the last {word} is {age / 86400:.1f} days old, {max(since, 0)} entries ago"
    if since > 0 and age > _CHECKPOINT_SECONDS:
        return Finding("warn", check, text, "Make a checkpoint now, and one every day or week")
    return Finding("ok", check, text)


def _written(snapshot: Snapshot, seq: int) -> float:
    row = snapshot.row(seq)
    at = canonical.decode(row[0])["at"] if row is not None else "1970-01-01T00:00:00Z"
    return datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
