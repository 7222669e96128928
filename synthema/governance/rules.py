"""Every rule of a policy that a study breaks: the reason, and a sentence of public things.

Rules that need the study alone come first, then those that need the ledger's history. Neither sees a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from privacy.filters import ZcdpFilter
from synthema.governance import families
from synthema.governance.history import History
from synthema.governance.refusals import Reason
from synthema.joint_noise import rho_and_delta
from synthema.learning import dominance, kaplan_meier
from synthema.learning.covariates import PARAMETER_RATIO
from synthema.policy import SitePolicy
from synthema.steps import chooses, input_level, plan
from synthema.study import Study

# A clock is set by small steps now and then; beyond this it went backwards.
CLOCK_SLACK: Final = timedelta(seconds=60)

# What is checked of the counts that sites share: more from left to right.
_LEVELS: Final = ("none", "totals", "full")

Broken = Iterator[tuple[Reason, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A study as a site received it: who signed it, as which job, for the rows of which version."""

    study: Study
    researcher: str
    job_id: str
    data_version: str


def broken_rules(policy: SitePolicy, asked: Asked, *, site: str, history: History, now: datetime) -> Broken:
    """Yield every rule of the policy that the study breaks, but for those about the site's rows.

    Parameters
    ----------
    history
        The charges of this table so far, those of this very job included.
    now
        The site's clock, in UTC.
    """
    moment, clock = _moment(history, now)
    yield from clock
    for terms in policy.terms_of(asked.researcher):
        yield from terms.broken(asked.study, moment.astimezone(policy.timezone))
    yield from _member_rules(policy, asked.study, site)
    yield from _text_rules(policy, asked.study)
    yield from _exact_rules(policy, asked.study)
    yield from history_rules(policy, asked, history=history, now=now)


def history_rules(policy: SitePolicy, asked: Asked, *, history: History, now: datetime) -> Broken:
    """Yield the rules that earlier studies decide: exact releases, a researcher's budget, and rate."""
    moment, _ = _moment(history, now)
    earlier = history.before(asked.job_id)
    exact = [charge for charge in earlier.charges if charge.exact]
    difference = families.why_not(exact, asked.study, data_version=asked.data_version)
    if difference is not None:
        yield "exact-again", difference
    for terms in policy.terms_of(asked.researcher):
        if terms.epsilon_cap is not None:
            rule = ZcdpFilter(
                terms.epsilon_cap,
                policy.delta_cap,
                neighbours="add_remove_one",
                approximate_delta=policy.approximate_delta,
            )
            cost = sum(rule.price(step.event)[0] for step in plan(asked.study) if step.is_private)
            if earlier.rho_units_of(asked.researcher) + cost > rule.caps[0]:
                yield (
                    "researcher-budget",
                    f"this researcher's studies together would cost more than epsilon {terms.epsilon_cap:g} here",
                )
        if terms.jobs_per_day is not None and earlier.jobs_of(asked.researcher, now=moment) >= terms.jobs_per_day:
            yield "rate", f"the site takes {terms.jobs_per_day} new studies of this researcher in 24 hours"


def _moment(history: History, now: datetime) -> tuple[datetime, list[tuple[Reason, str]]]:
    """Return the time that counts, which never runs backwards, and the rule that is broken if the clock did."""
    now = now.astimezone(UTC)
    last = history.last_at
    if last is None or now >= last:
        return now, []
    if last - now <= CLOCK_SLACK:
        return last, []
    return last, [("clock", "the site's clock is behind its own ledger; its operator has to set it")]


def _member_rules(policy: SitePolicy, study: Study, site: str) -> Broken:
    if site not in study.sites:
        yield "not-a-member", "the study does not name this site"
    strangers = set(study.sites) - policy.partners - {site}
    if strangers:
        yield "partners", f"the site does not work with {', '.join(sorted(strangers))}"
    if study.federation.collusion_threshold < policy.min_collusion_threshold:
        least = policy.min_collusion_threshold
        yield "collusion", f"the noise must withstand at least {least} colluding compute parties"
    level = input_level(study) or "none"
    if chooses(study) and _LEVELS.index(level) < _LEVELS.index(policy.min_input_check):
        needed = policy.min_input_check
        yield "collusion", f"a mechanism that chooses needs the sites' counts checked: set input_check = {needed!r}"
    parties = study.compute_parties
    guests = sorted(set(parties) & set(policy.hosts))
    if guests:
        yield "collusion", f"{', '.join(guests)} is another site's guest and computes nothing: name its host"
    if study.max_sites_per_patient < policy.min_sites_per_patient:
        yield "overlap", f"max_sites_per_patient must be at least {policy.min_sites_per_patient}"
    if any(rho_and_delta(step.event)[1] > policy.approximate_delta for step in plan(study) if step.is_private):
        rule = "the site has set no such part of its delta aside (approximate_delta in its policy)"
        yield "budget", f"{rule}: take mechanism 'chow-liu' or 'independent' with noise 'shares'"
    if policy.require_overlap_check and study.overlap is None:
        yield "overlap", "the study must check that patients are at no more sites than it states: add [overlap]"


def _exact_rules(policy: SitePolicy, study: Study) -> Broken:
    if not families.exact_steps(study):
        return
    if not policy.allow_exact:
        yield "exact", "the site's policy allows no exact releases: drop [exact], [anonymise] and exact [models]"
    # A host sees its guests' rows, so their sums hide nothing from it: together they are one.
    if len({policy.host_of(name) for name in study.sites}) < policy.min_sites:
        yield "exact", f"an exact joint release needs at least {policy.min_sites} sites that hold their own tables"
    if study.anonymise is not None and study.anonymise.k < policy.min_k:
        yield "exact", f"anonymise.k must be at least {policy.min_k}"
    for name, each in study.models.items():
        if each.mode != "exact":
            continue
        if each.min_cell < policy.min_cell:
            yield "exact", f"models.{name}.min_cell must be at least {policy.min_cell}"
        for reason, rule in each.exact_rules(policy, study):
            yield reason, f"models.{name}: {rule}"
    exact = study.exact
    if exact is None:
        return
    if exact.min_cell < policy.min_cell:
        yield "exact", f"exact.min_cell must be at least {policy.min_cell}"
    curves, model = exact.kaplan_meier, exact.logistic
    if curves is not None:
        if curves.grid_days < policy.min_grid_days:
            yield "exact", f"exact.kaplan_meier.grid_days must be at least {policy.min_grid_days}"
        # A group is opened with so many patients or more, so there are at most so many groups per patient.
        if 1 / (kaplan_meier.GROUP_FACTOR * exact.min_cell) > policy.max_level_density:
            yield "filters", f"the site allows {policy.max_level_density:g} groups per patient: raise exact.min_cell"
        yield from level_rules(policy, study, (curves.group,))
    if model is not None:
        yield from regression_rules(policy, study, model.covariates)


def regression_rules(policy: SitePolicy, study: Study, covariates: Sequence[str]) -> Broken:
    """Yield what an exact regression on these covariates breaks where a site is stricter than its tests on shares."""
    if policy.max_parameter_ratio < PARAMETER_RATIO:
        yield "filters", f"the site allows {policy.max_parameter_ratio:g} coefficients per patient: drop the model"
    # Every category but one is a coefficient, and both outcomes have so many patients for each.
    if policy.max_level_density < PARAMETER_RATIO:
        yield "filters", f"the site allows {policy.max_level_density:g} categories per patient: drop the model"
    if policy.dominance < dominance.LARGEST_PART:
        yield "filters", f"the site allows one patient {policy.dominance:g} of a sum: drop the model"
    yield from level_rules(policy, study, covariates)


def level_rules(policy: SitePolicy, study: Study, columns: Sequence[str]) -> Broken:
    """Yield which of the columns an exact result may not be broken down by at this site."""
    for name in columns:
        levels = len(study.data_schema.column(name).categories)
        if policy.max_levels is not None and levels > policy.max_levels:
            yield "filters", f"{name} has more categories than the {policy.max_levels} that the site allows"


def _text_rules(policy: SitePolicy, study: Study) -> Broken:
    if policy.max_text is None:
        return
    # The purpose has a bound of its own, and the schema is the site's.
    parts = [getattr(study, name) for name in type(study).model_fields if name not in ("purpose", "data_schema")]
    if any(len(text) > policy.max_text for text in _texts(parts)):
        yield "filters", f"the study holds a text of more than {policy.max_text} characters beside its purpose"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
