"""What a table's ledger says of earlier studies: who asked, for what, when, at what price. Read from its entries alone.

The purpose of every charge ends with who asked for it, and, for an exact release, with its family:

    pilot: noisy number of ... [asked by 3f0c...]
    pilot: Kaplan-Meier by ... [asked by 3f0c...] [family 77ab.../91de...]

A study that was signed by a second researcher, word for word, is the same study: who asked first has paid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from privacy.ledger import Ledger
from privacy.ledger.amounts import units_of_text
from synthema.governance.families import Family

_TAG: Final = re.compile(
    r" \[asked by (?P<who>[0-9a-f]{64})\]( \[family (?P<content>[0-9a-f]{64})/(?P<sites>[0-9a-f]{64})\])?$"
)
_DAY = timedelta(hours=24)

Status = Literal["reserved", "started", "posted"]


@dataclass(frozen=True, slots=True)
class Charge:
    """A reservation that was not given back.

    what        of an exact release, in the ledger's words; empty for a private one
    asked_by    the researcher's public key; empty if the entry does not say
    rho_units   its price in 10^-18 of rho; 0 for an exact release
    answered    whether its answer was stored
    """

    seq: int
    at: datetime
    key: str
    purpose: str
    data_version: str
    exact: bool
    what: str
    asked_by: str
    family: Family | None
    rho_units: int
    status: Status = "reserved"
    answered: bool = False

    @property
    def job_id(self) -> str:
        """The job that it was made for: the first part of its key."""
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Job:
    """A study that was reserved, whatever became of it: when, by whom."""

    seq: int
    at: datetime
    job_id: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class History:
    """A table's charges, in the order in which they were made, and when the last entry was written.

    jobs    the studies that they were made for, those included whose charges were given back
    """

    charges: tuple[Charge, ...] = ()
    jobs: tuple[Job, ...] = ()
    last_at: datetime | None = None

    def before(self, job_id: str) -> History:
        """Return what was there before a job was reserved: all of it, if it was not, or was given back."""
        own = min((charge.seq for charge in self.charges if charge.job_id == job_id), default=math.inf)
        return replace(
            self,
            charges=tuple(charge for charge in self.charges if charge.seq < own),
            jobs=tuple(job for job in self.jobs if job.seq < own and job.job_id != job_id),
        )

    def purpose_of(self, key: str) -> str | None:
        """Return the purpose that a key was reserved for, or None."""
        return next((charge.purpose for charge in self.charges if charge.key == key), None)

    def rho_units_of(self, researcher: str) -> int:
        """Return what a researcher's studies cost together, in 10^-18 of rho, reservations included."""
        return sum(charge.rho_units for charge in self.charges if charge.asked_by == researcher)

    def jobs_of(self, researcher: str, *, now: datetime) -> int:
        """Return how many studies of a researcher were first reserved in the 24 hours before `now`."""
        return sum(now - _DAY < job.at for job in self.jobs if job.asked_by == researcher)


def tagged(purpose: str, asked_by: str, family: Family | None) -> str:
    """Return a charge's purpose with who asked for it and its family."""
    text = f"{purpose} [asked by {asked_by}]"
    return text if family is None else f"{text} [family {family.content}/{family.sites}]"


def history_of(ledger: Ledger, *, accounts: Iterable[str], exact_account: str) -> History:
    """Return what the ledger's entries say of these accounts."""
    wanted = {*accounts, exact_account}
    charges: dict[str, Charge] = {}
    jobs: dict[str, Job] = {}
    last = None
    for entry in ledger.entries():
        body = entry.body
        last = _time(entry.at)
        if entry.kind == "reserve" and body["account"] in wanted:
            exact = body["account"] == exact_account
            tag = _TAG.search(body["purpose"])
            family = Family(tag["content"], tag["sites"]) if tag is not None and tag["content"] else None
            charge = charges[body["key"]] = Charge(
                seq=entry.seq,
                at=last,
                key=body["key"],
                purpose=body["purpose"],
                data_version=body["data_version"],
                exact=exact,
                what=body["event"]["what"] if exact else "",
                asked_by=tag["who"] if tag is not None else "",
                family=family,
                rho_units=0 if exact else units_of_text(body["amounts"][0]),
            )
            jobs.setdefault(charge.job_id, Job(entry.seq, last, charge.job_id, charge.asked_by))
        elif entry.kind == "void":
            charges.pop(body["key"], None)
        elif entry.kind == "start" and body["key"] in charges:
            charges[body["key"]] = replace(charges[body["key"]], status="started")
        elif entry.kind == "post" and body["key"] in charges:
            answered = body["answer"] is not None
            charges[body["key"]] = replace(charges[body["key"]], status="posted", answered=answered)
    return History(tuple(charges.values()), tuple(jobs.values()), last)


def _time(at: str) -> datetime:
    return datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
