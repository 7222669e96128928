"""The steps of a study and what each costs: computed from the public document alone, by every site for itself.

A study's private budget (epsilon, delta) becomes one rho, split between the overlap check and the joint marginals.
Joint noise: of n compute parties at most t collude, so the n - t others must suffice, and each adds discrete Gaussian
noise of variance sigma^2 / (n - t). A patient known to m sites counts m times, so sensitivities grow by m.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from privacy import DistributedDiscreteGaussian, Event, NonPrivate, epsilon_to_rho, rho_of
from synthema.errors import StudyError
from synthema.study import Study

StepName = Literal["overlap", "anonymised", "logistic", "kaplan-meier", "marginals"]

# Scales are multiples of 2^-10, so that both the noise and its price are made from the same exact number.
_SCALE_GRID = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One release of a study: its name, what it opens in plain words, and the event that its noise makes."""

    name: StepName
    what: str
    event: Event

    @property
    def is_private(self) -> bool:
        """Whether epsilon covers the step."""
        return not isinstance(self.event, NonPrivate)


def plan(study: Study) -> tuple[Step, ...]:
    """Return the study's steps in the order in which they run.

    Examples
    --------
    >>> from synthema.demo import demo_study
    >>> [step.name for step in plan(demo_study())]
    ['overlap', 'anonymised', 'logistic', 'kaplan-meier', 'marginals']
    """
    steps: list[Step] = []
    rho = epsilon_to_rho(study.budget.epsilon, study.budget.delta)
    overlap_share = study.overlap.budget_share if study.overlap is not None else 0.0
    if study.overlap is not None:
        event = joint_noise(study, rho * overlap_share, dimension=1, l1_sensitivity=1, l2_sensitivity_squared=1)
        what = f"noisy number of pseudonym buckets held by more than {study.max_sites_per_patient} site(s)"
        steps.append(Step("overlap", what, event))
    if study.anonymise is not None:
        columns = ", ".join(study.anonymised_columns)
        parameters = f"columns {columns}; at most {study.anonymise.suppression_limit:g} of the rows suppressed"
        steps.append(_exact(study, "anonymised", f"the site's own table, {study.anonymise.k}-anonymous", parameters))
    if study.exact is not None and study.exact.logistic is not None:
        days = study.exact.logistic.horizon_days
        parameters = f"on {', '.join(study.exact.logistic.covariates)}; least cell {study.exact.min_cell}"
        what = f"logistic model of death within {days} days, score and information"
        steps.append(_exact(study, "logistic", what, parameters))
    if study.exact is not None and study.exact.kaplan_meier is not None:
        by = study.exact.kaplan_meier.group
        grid = study.exact.kaplan_meier.grid_days
        parameters = f"every {grid} days; least cell {study.exact.min_cell}"
        steps.append(_exact(study, "kaplan-meier", f"Kaplan-Meier by {by}, events and patients at risk", parameters))
    if study.synthesis is not None:
        cliques = synthesis_cliques(study)
        m = study.max_sites_per_patient
        event = joint_noise(
            study,
            rho * (1 - overlap_share),
            dimension=sum(_cells(study, clique) for clique in cliques),
            l1_sensitivity=len(cliques) * m,
            l2_sensitivity_squared=len(cliques) * m * m,
        )
        steps.append(Step("marginals", f"{len(cliques)} noisy marginal tables for the synthetic patients", event))
    return tuple(steps)


def synthesis_cliques(study: Study) -> tuple[tuple[str, ...], ...]:
    """Return the columns of every 1-way and 2-way marginal that the synthesis measures."""
    columns = tuple(column.name for column in study.modelled_columns)
    return (*((name,) for name in columns), *itertools.combinations(columns, 2))


def joint_noise(
    study: Study, rho: float, *, dimension: int, l1_sensitivity: int, l2_sensitivity_squared: int
) -> DistributedDiscreteGaussian:
    """Return the cheapest joint noise that costs at most `rho` if no more parties collude than the study states.

    Raises StudyError if the budget asks for less noise than the bound on sums of discrete Gaussians allows.
    """
    return cheapest_joint_noise(
        len(study.compute_parties) - study.federation.collusion_threshold,
        rho,
        dimension=dimension,
        l1_sensitivity=l1_sensitivity,
        l2_sensitivity_squared=l2_sensitivity_squared,
    )


def cheapest_joint_noise(
    n_honest: int, rho: float, *, dimension: int, l1_sensitivity: int, l2_sensitivity_squared: int
) -> DistributedDiscreteGaussian:
    """Return the joint noise of least scale that costs at most `rho` by the part of `n_honest` parties alone.

    Raises StudyError if the budget asks for less noise than the bound on sums of discrete Gaussians allows.
    """
    scale = math.sqrt(l2_sensitivity_squared / (2 * rho * n_honest))
    grid = max(math.ceil(scale * _SCALE_GRID), _SCALE_GRID // 2)
    for _ in range(10_000):
        event = DistributedDiscreteGaussian(
            per_party_scale=grid / _SCALE_GRID,
            n_honest=n_honest,
            dimension=dimension,
            l1_sensitivity=l1_sensitivity,
            l2_sensitivity_squared=l2_sensitivity_squared,
        )
        if rho_of(event) <= rho:
            return event
        grid += 1
    raise StudyError("no noise can be accounted for at this budget: choose another epsilon")  # pragma: no cover


def total_noise_std(study: Study, event: DistributedDiscreteGaussian) -> float:
    """Return the standard deviation of what is opened: every party adds noise, colluding ones too."""
    return event.per_party_scale * math.sqrt(len(study.compute_parties))


def _exact(study: Study, name: StepName, what: str, parameters: str) -> Step:
    # Parameters and sites are part of what was released: the same result on another grid, or without one site, is a
    # difference.
    sites = ", ".join(sorted(study.sites))
    return Step(name, what, NonPrivate(what=f"{name}: {what} [{parameters}] [sites: {sites}]"))


def _cells(study: Study, clique: tuple[str, ...]) -> int:
    n_codes = {column.name: column.n_codes for column in study.modelled_columns}
    return math.prod(n_codes[name] for name in clique)
