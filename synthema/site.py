"""A site: one hospital's rows, its policy and its ledger. It alone decides what leaves, and it pays before it counts.

`Site.consider` reads a signed study and says no with a reason that tells nothing else. `Site.accept` reserves every
step in the site's own ledger and returns a `SiteJob`; the job starts a step (durable) before it touches a row, gives
only secret shares (or, for the anonymised table, a k-anonymous table), and settles the step with what was opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from anonymise.pseudonyms import id_text
from privacy import (
    BudgetExceeded,
    Event,
    KeyReused,
    LedgerError,
    NonPrivate,
    Rng,
    Schema,
    SchemaError,
    SchemaProblem,
    SecureRng,
    SpentWithoutAnswer,
)
from privacy.ledger import Ledger
from privacy.ledger.accounts import down, up
from synthema.errors import SignatureInvalid, SiteRefused, StudyError
from synthema.governance.families import stored_by
from synthema.governance.history import History, history_of
from synthema.governance.rules import Asked, broken_rules, history_rules
from synthema.intake.data import FrameData, SiteData
from synthema.job import EXACT_ACCOUNT, PRIVATE_ACCOUNT, SiteJob
from synthema.joint_noise import rho_and_delta
from synthema.policy import Reason, SitePolicy
from synthema.signing import SignedDocument
from synthema.steps import MODEL_PREFIX, epsilon_alone, plan
from synthema.study import Study

__all__ = ["EXACT_ACCOUNT", "PRIVATE_ACCOUNT", "Price", "Site", "SiteJob", "SitePolicy"]

SECRET_BYTES = 32

# Steps that look at rows one by one; all others are sums of marginals.
ROW_STEPS = frozenset({"overlap", "anonymised", "logistic", "kaplan-meier"})


@dataclass(frozen=True, slots=True)
class Price:
    """What one step would cost the site. rho and what follows are None for an exact release.

    epsilon_alone   what it costs by itself, at the study's delta
    rho_left        what would be left of the account after this step and those before it
    epsilon_after   what everything charged and reserved, and the steps up to this one, imply at the account's delta
    epsilon_cap     the account's cap
    fits            whether the steps up to this one fit into the account now
    """

    step: str
    what: str
    rho: float | None
    epsilon_alone: float | None
    rho_left: float | None = None
    epsilon_after: float | None = None
    epsilon_cap: float | None = None
    fits: bool = True

    def __str__(self) -> str:
        """Return the price in plain words."""
        if self.rho is None or self.epsilon_alone is None:
            return f"{self.step}: {self.what}. An exact release: no epsilon covers it"
        cost = (
            f"{self.step}: {self.what}. It costs epsilon {up(self.epsilon_alone, 4)} by itself (rho {up(self.rho, 4)})"
        )
        if self.epsilon_after is None or self.epsilon_cap is None or self.rho_left is None:
            return cost
        if not self.fits:
            return f"{cost} and does not fit: epsilon {self.epsilon_cap:.4g} is the cap"
        return (
            f"{cost}; afterwards epsilon {up(self.epsilon_after, 4)} of {self.epsilon_cap:.4g} is taken, "
            f"and rho {down(self.rho_left, 4)} is left"
        )


class Site:
    """One hospital.

    Parameters
    ----------
    data
        The site's rows, one per patient, columns as in the schema; or data that were read and checked by
        `synthema.intake`, which may be counted where they are. Never leaves this object.
    ledger
        The site's own ledger, for this table alone; its accounts are opened here if they do not exist.
    secret
        32 bytes that only the site has and keeps: they key the fingerprint that ties charges to the table.
    clock
        What time it is, with a time zone; by default this machine's clock.
    """

    def __init__(
        self,
        name: str,
        data: pd.DataFrame | SiteData,
        schema: Schema,
        *,
        ledger: Ledger,
        policy: SitePolicy,
        secret: bytes,
        rng: Rng | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"secret must be {SECRET_BYTES} random bytes")
        if isinstance(data, pd.DataFrame):
            schema.validate(data)
            data = FrameData(data, schema)
        elif data.schema != schema:
            raise ValueError("data must have been read by the site's own schema")
        if data.has_rows:
            # In a database the same was checked when it was counted.
            _check_one_row_per_patient(data.frame(), schema)
        if data.n_rows_at_least(policy.max_patients + 1):
            raise StudyError(
                f"the table has more than {policy.max_patients} patients: raise max_patients in the policy"
            )
        self.name = name
        self.schema = schema
        self.ledger = ledger
        self.policy = policy
        self.rng = rng or SecureRng()
        self._clock = clock or (lambda: datetime.now(UTC))
        self.data = data
        ledger.open_account(
            PRIVATE_ACCOUNT,
            epsilon=policy.epsilon_cap,
            delta=policy.delta_cap,
            neighbours="add_remove_one",
            approximate_delta=policy.approximate_delta,
        )
        ledger.open_exact_account(EXACT_ACCOUNT)
        self.data_version = data.fingerprint(secret)

    def __repr__(self) -> str:
        return f"Site({self.name!r})"

    @property
    def rows(self) -> pd.DataFrame:
        """The site's own rows, for what is computed and stays here. Raises RowsNeeded if it is only counted."""
        return self.data.frame()

    def forget_rows(self) -> None:
        """Drop the rows: what follows is rendered from released values only."""
        self.data.forget()

    def exact_releases(self) -> tuple[str, ...]:
        """Return what this table's exact account released, in plain words and in order."""
        return tuple(event.what for event in self.ledger.events(EXACT_ACCOUNT) if isinstance(event, NonPrivate))

    def history(self) -> History:
        """Return what the ledger says of this table's charges so far."""
        return history_of(self.ledger, accounts=[PRIVATE_ACCOUNT], exact_account=EXACT_ACCOUNT)

    def consider(self, document: SignedDocument) -> Study:
        """Return the study if this site would take part in it; touches no row and charges nothing.

        Raises
        ------
        SiteRefused
            With a reason code and the rule that was broken.
        """
        return self._considered(document).study

    def _considered(self, document: SignedDocument) -> Asked:
        try:
            document.verify()
        except SignatureInvalid as error:
            raise self._no("signature", str(error)) from None
        if not self.policy.knows(document.public_key):
            raise self._no("researcher", "this researcher's key is not on the site's list")
        try:
            study = Study.from_document(document.body)
            plan(study)
        except (StudyError, SchemaError) as error:
            raise self._no("document", str(error)) from None
        asked = Asked(study, document.public_key, document.document_id, self.data_version)
        for reason, explanation in broken_rules(
            self.policy, asked, site=self.name, history=self.history(), now=self._clock()
        ):
            raise self._no(reason, explanation)
        if study.data_schema.content_hash() != self.schema.content_hash():
            raise self._no("schema", "the study's schema differs from the site's: agree on one schema first")
        if not self.data.has_rows:
            for step in plan(study):
                if step.name in ROW_STEPS or step.name.startswith(MODEL_PREFIX):
                    raise self._no("rows", f"step {step.name!r} needs a table in memory; this site's is only counted")
        if not self.data.n_rows_at_least(self.policy.min_patients):
            raise self._no("cohort", f"the site takes part with at least {self.policy.min_patients} patients")
        # Compared with a public number: a bound of the researcher's choice, compared with the table, would count it.
        if study.synthesis is not None and study.largest_cohort < self.policy.max_patients:
            raise self._no("cohort", f"the study must allow for {self.policy.max_patients} patients at this site")
        return asked

    def price(self, study: Study) -> tuple[Price, ...]:
        """Return what each step would cost this site, and what would be left: the dry run."""
        prices: list[Price] = []
        private: list[Event] = []
        for step in plan(study):
            if not step.is_private:
                prices.append(Price(step=step.name, what=step.what, rho=None, epsilon_alone=None))
                continue
            private.append(step.event)
            quote = self.ledger.dry_run(PRIVATE_ACCOUNT, private)
            rho = rho_and_delta(step.event)[0]
            left = self.ledger.remaining(PRIVATE_ACCOUNT).rho_left - quote.cost["rho"]
            prices.append(
                Price(
                    step=step.name,
                    what=step.what,
                    rho=rho,
                    epsilon_alone=epsilon_alone(study, step.event),
                    rho_left=max(0.0, left),
                    epsilon_after=quote.epsilon_after,
                    epsilon_cap=quote.epsilon_cap,
                    fits=quote.fits,
                )
            )
        return tuple(prices)

    def accept(self, document: SignedDocument) -> SiteJob:
        """Consider the study and reserve every step. If anything goes wrong, nothing stays reserved.

        A study whose exact releases are those of an earlier one, of the same sites and rows, is given the stored
        answers; its private steps are charged anew.

        Raises
        ------
        SiteRefused
            "budget": the message says what was asked, what is left and what would fit; "spent": this very study was
            charged and has no answer; "data-changed": it was asked before of other rows.
        """
        asked = self._considered(document)
        study, job_id = asked.study, asked.job_id
        earlier = [charge for charge in self.history().before(job_id).charges if charge.exact]
        exact_job = stored_by(earlier, study, data_version=self.data_version)
        job = SiteJob(self, study, job_id, asked_by=asked.researcher, exact_job=exact_job)
        try:
            job.reserve()
            self._stand_back(asked)
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
            if isinstance(error, LedgerError):
                raise self._no("ledger", "the site's ledger takes no charges at present; ask its operator") from error
            raise
        return job

    def _stand_back(self, asked: Asked) -> None:
        """Refuse if studies that were reserved before this one, since `consider` looked, leave no room for it."""
        rules = history_rules(self.policy, asked, history=self.history(), now=self._clock())
        for reason, explanation in rules:
            raise self._no(reason, explanation)

    def _no(self, reason: Reason, explanation: str) -> SiteRefused:
        return SiteRefused(site=self.name, reason=reason, explanation=explanation)


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
