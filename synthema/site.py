"""A site: one hospital's rows, its policy and its ledger. It alone decides what leaves, and it pays before it counts.

`Site.consider` reads a signed study and says no with a reason that tells nothing else. `Site.accept` reserves every
step in the site's own ledger and returns a `SiteJob`; the job starts a step (durable) before it touches a row, gives
only secret shares (or, for the anonymised table, a k-anonymous table), and settles the step with what was opened.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import pandas as pd

from anonymise.pseudonyms import id_text
from privacy import (
    BudgetExceeded,
    KeyReused,
    NonPrivate,
    Rng,
    Schema,
    SchemaError,
    SchemaProblem,
    SecureRng,
    SpentWithoutAnswer,
)
from privacy.ledger import Ledger
from synthema.errors import SignatureInvalid, SiteRefused, StudyError, SynthemaError
from synthema.job import EXACT_ACCOUNT, PRIVATE_ACCOUNT, SiteJob
from synthema.joint_noise import rho_and_delta
from synthema.policy import ExactRelease, Reason, SitePolicy, broken_rules
from synthema.signing import SignedDocument
from synthema.steps import epsilon_alone, plan
from synthema.study import Study

__all__ = ["EXACT_ACCOUNT", "PRIVATE_ACCOUNT", "Price", "Site", "SiteJob", "SitePolicy"]

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Price:
    """What one step would cost the site. rho and epsilon are None for an exact release."""

    step: str
    what: str
    rho: float | None
    epsilon_alone: float | None


class Site:
    """One hospital.

    Parameters
    ----------
    frame
        The site's rows, one per patient, columns as in the schema. Never leaves this object.
    ledger
        The site's own ledger, for this table alone; its accounts are opened here if they do not exist.
    secret
        32 bytes that only the site has and keeps: they key the fingerprint that ties charges to the table.
    """

    def __init__(
        self,
        name: str,
        frame: pd.DataFrame,
        schema: Schema,
        *,
        ledger: Ledger,
        policy: SitePolicy,
        secret: bytes,
        rng: Rng | None = None,
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"secret must be {SECRET_BYTES} random bytes")
        schema.validate(frame)
        _check_one_row_per_patient(frame, schema)
        self.name = name
        self.schema = schema
        self.ledger = ledger
        self.policy = policy
        self.rng = rng or SecureRng()
        self._frame: pd.DataFrame | None = frame.reset_index(drop=True)
        ledger.open_account(
            PRIVATE_ACCOUNT,
            epsilon=policy.epsilon_cap,
            delta=policy.delta_cap,
            neighbours="add_remove_one",
            approximate_delta=policy.approximate_delta,
        )
        ledger.open_exact_account(EXACT_ACCOUNT)
        self.data_version = _fingerprint(frame, schema, secret)

    def __repr__(self) -> str:
        return f"Site({self.name!r})"

    @property
    def rows(self) -> pd.DataFrame:
        """The site's own rows, for what is computed and stays here."""
        if self._frame is None:
            raise SynthemaError(f"site {self.name!r} has closed its table")
        return self._frame

    def forget_rows(self) -> None:
        """Drop the rows: what follows is rendered from released values only."""
        self._frame = None

    def exact_releases(self) -> tuple[str, ...]:
        """Return what this table's exact account released, in plain words and in order."""
        return tuple(event.what for event in self.ledger.events(EXACT_ACCOUNT) if isinstance(event, NonPrivate))

    def _exact_history(self) -> list[ExactRelease]:
        reserved: dict[str, ExactRelease] = {}
        for entry in self.ledger.entries():
            if entry.kind == "reserve" and entry.body["account"] == EXACT_ACCOUNT:
                key = entry.body["key"]
                reserved[key] = ExactRelease(key=key, what=entry.body["event"]["what"])
            elif entry.kind == "void":
                reserved.pop(entry.body["key"], None)
        return list(reserved.values())

    def consider(self, document: SignedDocument) -> Study:
        """Return the study if this site would take part in it; touches no row and charges nothing.

        Raises
        ------
        SiteRefused
            With a reason code and the rule that was broken.
        """
        try:
            document.verify()
        except SignatureInvalid as error:
            raise self._no("signature", str(error)) from None
        researchers = self.policy.researchers
        if researchers is not None and document.public_key not in researchers:
            raise self._no("researcher", "this researcher's key is not on the site's list")
        try:
            study = Study.from_document(document.body)
            plan(study)
        except (StudyError, SchemaError) as error:
            raise self._no("document", str(error)) from None
        rules = broken_rules(
            self.policy, study, site=self.name, job_id=document.document_id, history=self._exact_history()
        )
        for reason, explanation in rules:
            raise self._no(reason, explanation)
        if study.data_schema.content_hash() != self.schema.content_hash():
            raise self._no("schema", "the study's schema differs from the site's: agree on one schema first")
        if len(self.rows) < self.policy.min_patients:
            raise self._no("cohort", f"the site takes part with at least {self.policy.min_patients} patients")
        return study

    def price(self, study: Study) -> tuple[Price, ...]:
        """Return what each step would cost this site: the dry run."""
        prices = []
        for step in plan(study):
            rho = rho_and_delta(step.event)[0] if step.is_private else None
            epsilon = None if rho is None else epsilon_alone(study, step.event)
            prices.append(Price(step=step.name, what=step.what, rho=rho, epsilon_alone=epsilon))
        return tuple(prices)

    def accept(self, document: SignedDocument) -> SiteJob:
        """Consider the study and reserve every step. If anything goes wrong, nothing stays reserved.

        Raises
        ------
        SiteRefused
            "budget": the message says what was asked, what is left and what would fit; "spent": this very study was
            charged and has no answer; "data-changed": it was asked before of other rows.
        """
        study = self.consider(document)
        job = SiteJob(self, study, document.document_id)
        try:
            job.reserve()
            self._stand_back(job)
        except BaseException as error:
            job.abandon()
            if isinstance(error, BudgetExceeded):
                raise self._no("budget", str(error)) from error
            if isinstance(error, SpentWithoutAnswer):
                raise self._no(
                    "spent",
                    "this very study was charged before and stopped without an answer; a new try is a new release: "
                    "give the study a new name",
                ) from None
            if isinstance(error, KeyReused):
                raise self._no(
                    "data-changed", "this very study was asked before of other rows: give the study a new name"
                ) from None
            raise
        return job

    def _stand_back(self, job: SiteJob) -> None:
        """Refuse if another study's exact release was reserved before this one's, since `consider` looked."""
        history = self._exact_history()
        mine = [at for at, release in enumerate(history) if release.key.startswith(f"{job.job_id}/")]
        if mine and any(at < mine[0] for at in range(len(history)) if at not in mine):
            raise self._no("exact-again", "another study made exact releases of this table, and two can be subtracted")

    def _no(self, reason: Reason, explanation: str) -> SiteRefused:
        return SiteRefused(site=self.name, reason=reason, explanation=explanation)


def _fingerprint(frame: pd.DataFrame, schema: Schema, secret: bytes) -> str:
    """Return a keyed hash of the rows, whatever their order.

    Ledgers are shown to auditors. Without a key that they do not have, a hash of a small table could be compared with
    guesses of it, and would tell the last patient of somebody who knows all others.
    """
    columns = [[repr(value) for value in frame[name].tolist()] for name in schema.names]
    rows = sorted("\x1f".join(row) for row in zip(*columns, strict=True))
    return hmac.new(secret, "\x1e".join(rows).encode(), hashlib.sha256).hexdigest()


def _check_one_row_per_patient(frame: pd.DataFrame, schema: Schema) -> None:
    if schema.patient_id is None:
        return
    rule, way_out = "", ""
    try:
        # The same text as in pseudonyms: " A1" and "A1" are one patient there, so they are one here.
        ids = [id_text(value) for value in frame[schema.patient_id].tolist()]
        if len(set(ids)) < len(ids):
            rule, way_out = (
                "holds a patient more than once, and the unit of privacy is the patient",
                "keep one row per patient",
            )
    except ValueError:
        rule, way_out = "holds an id that is missing or neither text nor a whole number", "give every patient an id"
    if rule:
        raise SchemaError([SchemaProblem(schema.patient_id, rule, way_out)])
