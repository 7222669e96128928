"""One accepted study at one site: what is reserved, and what the site contributes to each step.

Every contribution is made after its step was started in the ledger, and is a list of secret shares, one package for
each compute party; the anonymised table alone leaves as it is, k-anonymous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anonymise import KAnonymity, anonymise, build_hierarchy, pseudonym_buckets
from anonymise.pseudonyms import id_text
from smpc import FIELD61, RING64, SharePackage, share
from synthema.conducting import synthesis_vector
from synthema.errors import StudyError
from synthema.governance.families import family_of
from synthema.governance.history import tagged
from synthema.learning import kaplan_meier, logistic
from synthema.learning.design import encoded, matrix
from synthema.learning.exact_glm import step_here
from synthema.learning.newton import Newton
from synthema.learning.responses import Patients, outcome_within
from synthema.learning.rows import survival_of
from synthema.learning.tested_counts import count_table
from synthema.steps import MODEL_PREFIX, Step, plan
from synthema.study import KaplanMeier, Study

if TYPE_CHECKING:
    from synthema.learning.model import SiteHalf
    from synthema.site import Site

# A ledger is for one table: whatever a schema calls it, all studies charge the same two accounts.
PRIVATE_ACCOUNT, EXACT_ACCOUNT = "private", "exact"


class SiteJob:
    """One accepted study at one site: its reservations, and what the site contributes to each step.

    asked_by    public key of the researcher who signed it: every charge says so
    exact_job   the earlier job whose stored exact answers are this study's too
    """

    def __init__(
        self, site: Site, study: Study, job_id: str, *, asked_by: str = "", exact_job: str | None = None
    ) -> None:
        self.site = site
        self.study = study
        self.job_id = job_id
        self.asked_by = asked_by
        self._exact_job = exact_job or job_id
        self.steps: dict[str, Step] = {step.name: step for step in plan(study)}
        self._reserved: dict[str, Any] = {}
        self._started: set[str] = set()
        self._given: set[tuple[str, str]] = set()
        self._newton: Newton | None = None
        self._patients: Patients | None = None
        self._halves: dict[str, SiteHalf] = {}

    def reserve(self) -> None:
        """Reserve every step in the site's ledger. Raises BudgetExceeded at the first that does not fit."""
        history = self.site.history()
        for step in self.steps.values():
            account, job_id = (PRIVATE_ACCOUNT, self.job_id) if step.is_private else (EXACT_ACCOUNT, self._exact_job)
            key, purpose = f"{job_id}/{step.name}", f"{self.study.name}: {step.what}"
            if self.asked_by:
                purpose = tagged(purpose, self.asked_by, None if step.is_private else family_of(self.study))
            self._reserved[step.name] = self.site.ledger.reserve(
                account,
                step.event,
                key=key,
                # Whoever asked first has paid; for who asks the same later, the charge is the same.
                purpose=history.purpose_of(key) or purpose,
                data_version=self.site.data_version,
            )

    def stored(self, step: str) -> Any:
        """Return the answer that this step had when it ran before, or None."""
        return self._reserved[step].stored if self._reserved[step].answered else None

    def start(self, step: str) -> None:
        """Make the charge durable: from here on it counts, whatever happens."""
        self._reserved[step].start()
        self._started.add(step)

    def settle(self, step: str, answer: Any) -> None:
        """Store what was opened and post the charge."""
        self._reserved[step].release(answer)

    def _pay_first(self, step: str, contribution: str) -> None:
        """Refuse a contribution whose step is not charged yet, or that was given before."""
        if step not in self._started:
            raise StudyError(f"step {step!r} is not charged yet: nothing is contributed to it")
        if (step, contribution) in self._given:
            raise StudyError(f"the {contribution} of step {step!r} were given before")
        self._given.add((step, contribution))

    def abandon(self) -> None:
        """Give up: steps that started stay charged without an answer, the others are voided."""
        for reservation in self._reserved.values():
            reservation.abandon()

    def overlap_indicator(self, key: bytes) -> list[SharePackage]:
        """Return shares of the 0/1 vector of this site's pseudonym buckets. `key`: the hospitals' common secret."""
        overlap, schema = self.study.overlap, self.site.schema
        if overlap is None or schema.patient_id is None:
            raise StudyError("this study has no overlap check")
        self._pay_first("overlap", "marked buckets")
        ids = [id_text(value) for value in self.site.rows[schema.patient_id].tolist()]
        buckets = pseudonym_buckets(ids, key, domain=(self.study.name, "overlap"), n_buckets=overlap.n_buckets)
        indicator = np.zeros(overlap.n_buckets, dtype=np.int64)
        indicator[buckets] = 1
        return self._share(indicator)

    def anonymised_table(self) -> dict[str, Any]:
        """Return the site's k-anonymous table and how it was generalised, as plain data.

        Sensitive numbers leave as their public bins: an exact laboratory value would single out whoever knows it,
        however large the class. Survival columns are left out unless the study asks for them and for no curves.
        """
        wanted = self.study.anonymise
        if wanted is None:
            raise StudyError("this study releases no anonymised table")
        self._pay_first("anonymised", "rows")
        schema = self.site.schema.subset(self.study.anonymised_columns)
        result = anonymise(
            self.site.rows[list(schema.names)],
            schema,
            models=[KAnonymity(wanted.k)],
            suppression_limit=wanted.suppression_limit,
            rng=self.site.rng,
        )
        table = result.table
        for column in schema.columns:
            if column.role in ("sensitive", "insensitive") and column.is_coded and not column.categories:
                labels = np.array(column.labels(), dtype=object)
                table[column.name] = labels[column.encode(table[column.name].to_numpy())]
        return {
            "columns": list(table.columns),
            "rows": table.astype(str).to_numpy().tolist(),
            "levels": [
                [name, int(level), build_hierarchy(schema.column(name)).n_levels - 1]
                # One node for all: the optimal algorithm always has one.
                for name, level in (result.node or {}).items()
            ],
            "optimal": bool(result.optimal),
        }

    def logistic_counts(self) -> list[SharePackage]:
        """Return shares (FIELD61) of the counts that decide whether the model may be opened."""
        self._pay_first("logistic", "counts")
        columns, died = self._logistic_rows()
        covariates = self._logistic.covariates
        counts = count_table(logistic.FAMILY, columns, self.site.schema, covariates, died)
        if self.study.exact is not None and self.study.exact.kaplan_meier is not None:
            counts = np.concatenate([counts, self._survival_table(self.study.exact.kaplan_meier).ravel()])
        return self._share(counts, domain=FIELD61)

    def logistic_sums(self, opened: npt.NDArray[np.float64] | None) -> list[SharePackage]:
        """Return shares of this site's score and information for the next Newton step, in fixed point.

        Behind them stand the numbers that decide whether they may be opened (`exact_glm.open_undominated`).
        `opened`: what was opened in the step before; None for the first. The site moves the coefficients itself, so
        nobody can ask it for sums at coefficients of their choice, or for more of them than Newton's method takes.
        """
        if opened is None:
            self._pay_first("logistic", "sums")
            self._newton = logistic.newton_of(self.study, self._logistic.covariates)
            columns, died = self._logistic_rows()
            x = matrix(columns, self.site.schema, self._newton.design)
            self._patients = Patients(x, died.astype(np.float64), offset=None)
        elif self._newton is None or self._newton.converged:
            raise StudyError("step 'logistic': no further sums are due")
        else:
            self._newton.update(opened)
        if self._patients is None or len(self._patients.y) > self.study.largest_cohort:
            raise StudyError(f"a site may hold at most {self.study.largest_cohort} patients for this model")
        return self._share(step_here(self._newton, self._patients, with_value=False))

    @property
    def _logistic(self) -> Any:
        if self.study.exact is None or self.study.exact.logistic is None:
            raise StudyError("this study fits no logistic model")
        return self.study.exact.logistic

    def _logistic_rows(self) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
        wanted = self._logistic
        time, event = self._survival()
        known, died = outcome_within(time, event, wanted.horizon_days)
        columns = encoded(self.site.schema, self.site.rows, wanted.covariates)
        return {name: values[known] for name, values in columns.items()}, died[known]

    def survival_counts(self) -> list[SharePackage]:
        """Return shares (FIELD61) of deaths and losses per group and part of the grid, shape (2, G, R)."""
        if self.study.exact is None or self.study.exact.kaplan_meier is None:
            raise StudyError("this study releases no Kaplan-Meier curves")
        self._pay_first("kaplan-meier", "counts")
        return self._share(self._survival_table(self.study.exact.kaplan_meier), domain=FIELD61)

    def _survival_table(self, wanted: KaplanMeier) -> npt.NDArray[np.int64]:
        time, event = self._survival()
        column = self.site.schema.column(wanted.group)
        group = column.encode(self.site.rows[wanted.group].to_numpy())
        return kaplan_meier.count_table(group, time, event, n_groups=column.n_codes, grid=survival_grid(self.study))

    def model_shares(self, step: str, what: str, opened: Any) -> list[SharePackage]:
        """Return shares of this site's contribution of a name to the step of a model. `opened`: see `Rounds.run`."""
        self._pay_first(step, what)
        if step not in self._halves:
            model = self.study.models[step.removeprefix(MODEL_PREFIX)]
            self._halves[step] = model.site_half(self.study, self.site.schema, self.site.rows)
        given = self._halves[step].contribute(what, opened)
        return self._share(given.values, domain=given.domain)

    def marginal_counts(self) -> list[SharePackage]:
        """Return shares of the marginals that the synthesis is made from (`marginal_layout`), flattened."""
        self._pay_first("marginals", "counts")
        # By the study's schema: the site's own may name the same columns in another order.
        return self._share(synthesis_vector(self.study, self.site.data))

    def _survival(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        return survival_of(self.site.schema, self.site.rows)

    def _share(self, values: npt.NDArray[np.int64], *, domain: Any = RING64) -> list[SharePackage]:
        return share(values, len(self.study.compute_parties), domain=domain, rng=self.site.rng)


def survival_grid(study: Study) -> kaplan_meier.Grid:
    """Return the grid of the study's curves: it covers the schema's largest survival time and knows the horizon."""
    schema, exact = study.data_schema, study.exact
    if schema.survival is None or exact is None or exact.kaplan_meier is None:
        raise StudyError("this study releases no Kaplan-Meier curves")
    longest = schema.column(schema.survival.time).bin_edges[-1]
    return kaplan_meier.Grid(
        grid_days=exact.kaplan_meier.grid_days,
        n_intervals=int(-(-longest // exact.kaplan_meier.grid_days)),
        horizon_days=exact.logistic.horizon_days if exact.logistic is not None else None,
    )
