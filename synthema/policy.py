"""A site's policy: what it allows, decided from the study's public text and the site's own ledger.

The researcher writes the study; the site writes the policy, and nothing in a study loosens it. A broken rule is named
by a reason code and a sentence that tells nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from privacy import NonPrivate
from synthema.joint_noise import rho_and_delta
from synthema.steps import plan
from synthema.study import Study

Reason = Literal[
    "signature",
    "researcher",
    "document",
    "not-a-member",
    "partners",
    "schema",
    "cohort",
    "collusion",
    "overlap",
    "exact",
    "exact-again",
    "budget",
    "spent",
    "data-changed",
]


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What a site allows. A researcher cannot loosen it.

    epsilon_cap, delta_cap   of everything that this site's table ever pays for, in all studies together
    partners                 sites that it works with; a study that names another is refused, and so is every study if
                             there is none
    min_patients             smallest cohort the site takes part with
    min_sites_per_patient    least `max_sites_per_patient` that a study must reckon with
    require_overlap_check    whether a study must check that statement
    min_collusion_threshold  fewest colluding compute parties that the joint noise must withstand
    allow_exact              whether exact (non-private) releases are allowed at all
    min_sites                fewest sites for a joint exact release
    min_cell                 smallest number of patients that an opened cell may show, if it is not 0
    min_grid_days            narrowest grid for survival curves
    min_k                    smallest class of an anonymised table
    researchers              public keys whose studies are considered; None: any valid signature
    approximate_delta        part of delta_cap set aside for what is private but for a small probability: choices on
                             shares, noise sampled jointly; a 1024th of delta_cap suits. 0: such studies are refused
    """

    epsilon_cap: float
    delta_cap: float
    partners: frozenset[str] = frozenset()
    min_patients: int = 10
    min_sites_per_patient: int = 1
    require_overlap_check: bool = False
    min_collusion_threshold: int = 1
    allow_exact: bool = False
    min_sites: int = 3
    min_cell: int = 5
    min_grid_days: int = 90
    min_k: int = 5
    researchers: frozenset[str] | None = None
    approximate_delta: float = 0.0


@dataclass(frozen=True, slots=True)
class ExactRelease:
    """An exact release that this site's table made, or has reserved: the key that paid for it, and what it was."""

    key: str
    what: str


def broken_rules(
    policy: SitePolicy, study: Study, *, site: str, job_id: str, history: Sequence[ExactRelease]
) -> Iterator[tuple[Reason, str]]:
    """Yield every rule of the policy that the study breaks: reason code and sentence.

    `history`: the exact releases of this table so far, those of this very job included.
    """
    if site not in study.sites:
        yield "not-a-member", "the study does not name this site"
    strangers = set(study.sites) - policy.partners - {site}
    if strangers:
        yield "partners", f"the site does not work with {', '.join(sorted(strangers))}"
    if study.federation.collusion_threshold < policy.min_collusion_threshold:
        least = policy.min_collusion_threshold
        yield "collusion", f"the noise must withstand at least {least} colluding compute parties"
    if study.max_sites_per_patient < policy.min_sites_per_patient:
        yield "overlap", f"max_sites_per_patient must be at least {policy.min_sites_per_patient}"
    if policy.require_overlap_check and study.overlap is None:
        yield "overlap", "the study must check that patients are at no more sites than it states: add [overlap]"
    if any(rho_and_delta(step.event)[1] > policy.approximate_delta for step in plan(study) if step.is_private):
        rule = "the site has set no such part of its delta aside (approximate_delta in its policy)"
        yield "budget", f"{rule}: take mechanism 'chow-liu' or 'independent' with noise 'shares'"
    yield from _broken_exact_rules(policy, study, job_id, history)


def _broken_exact_rules(
    policy: SitePolicy, study: Study, job_id: str, history: Sequence[ExactRelease]
) -> Iterator[tuple[Reason, str]]:
    wanted = [step for step in plan(study) if isinstance(step.event, NonPrivate)]
    if not wanted:
        return
    if not policy.allow_exact:
        yield "exact", "the site's policy allows no exact releases: drop [exact] and [anonymise]"
    if len(study.sites) < policy.min_sites:
        yield "exact", f"an exact joint release needs at least {policy.min_sites} sites"
    if study.anonymise is not None and study.anonymise.k < policy.min_k:
        yield "exact", f"anonymise.k must be at least {policy.min_k}"
    exact = study.exact
    if exact is not None and exact.min_cell < policy.min_cell:
        yield "exact", f"exact.min_cell must be at least {policy.min_cell}"
    if exact is not None and exact.kaplan_meier is not None and exact.kaplan_meier.grid_days < policy.min_grid_days:
        yield "exact", f"exact.kaplan_meier.grid_days must be at least {policy.min_grid_days}"
    # Two exact releases that differ a little differ by a few patients: another grid, another horizon, one site fewer,
    # new rows, a table beside a curve. Within one study they are tested together; a second study comes too late.
    if any(not release.key.startswith(f"{job_id}/") for release in history):
        yield "exact-again", "another study made exact releases of this table, and two can be subtracted"
