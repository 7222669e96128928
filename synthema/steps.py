"""The steps of a study and what each costs: computed from the public document alone, by every site for itself.

A study's private budget (epsilon, delta) becomes one rho, split between the overlap check and the synthesis.
Joint noise: of n compute parties at most t collude, so the n - t others must suffice, and each adds discrete Gaussian
noise of variance sigma^2 / (n - t). A patient known to m sites counts m times, so sensitivities grow by m.

A synthesis that asks again and again, each time depending on what it was told, is priced in advance as one event: rho
in total, and the deltas of as many choices and openings as it may make. What is left of it is counted down by every
compute party (`conducting`). Where an event has a delta, a part of the study's delta (`APPROXIMATE_PART`) is set aside
for it and the rest becomes rho; a site's account must have set as much aside, or the study is refused.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from privacy import (
    ApproximateDP,
    Composed,
    DistributedDiscreteGaussian,
    Event,
    NonPrivate,
    ZeroConcentratedDP,
    epsilon_to_rho,
    rho_to_epsilon,
)
from privacy.filters import rest_of
from synthema.errors import StudyError
from synthema.joint_noise import CountNoise, JointTerms, cheapest_joint_noise, event_of, rho_and_delta
from synthema.marginal_layout import column_sizes, synthesis_layout
from synthema.study import MechanismName, Study
from synthema.validity import Level, level_of

if TYPE_CHECKING:
    from synthema.learning.model import ModelSpec

# Steps of models are called so, and then by the model's name.
MODEL_PREFIX = "model-"

# Part of delta for what is private but for a small probability: choices on shares, noise sampled jointly.
APPROXIMATE_PART = 2.0**-10

# Left to the upward rounding of thousands of prices.
_PRICE_GUARD = 1 - 4e-12


@dataclass(frozen=True, slots=True)
class Step:
    """One release of a study: its name, what it opens in plain words, and the event that its noise makes."""

    name: str
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
    if study.overlap is not None:
        rho = private_rho(study) * study.overlap.budget_share
        event = joint_noise(study, rho, dimension=1, l1_sensitivity=1, l2_sensitivity_squared=1)
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
    steps.extend(_model(study, name, model) for name, model in study.models.items())
    if study.synthesis is not None:
        steps.append(_synthesis(study))
    return tuple(steps)


def model_step(name: str) -> str:
    """Return the name of the step of the model `models.NAME`."""
    return f"{MODEL_PREFIX}{name}"


def _model(study: Study, name: str, model: ModelSpec) -> Step:
    step = model_step(name)
    if model.budget_share is None:
        return _exact(study, step, model.what, model.parameters())
    return Step(step, model.what, model.event(study, private_rho(study) * model.budget_share))


def total_coefficients(study: Study) -> int:
    """Return how many coefficients all exact models of a study have together.

    Each model's sums are equations about the same patients, so what bounds one model bounds them all.
    """
    return sum(model.n_coefficients(study.data_schema) for model in study.models.values() if model.mode == "exact")


def _synthesis(study: Study) -> Step:
    # What would be too much to share is refused before anything is priced.
    layout = synthesis_layout(study)
    noise = fixed_noise(study)
    if noise is not None:
        _check_delta(study, rho_and_delta(event_of(noise))[1])
        what = f"{len(synthesis_cliques(study))} noisy marginal tables for the synthetic patients"
        return Step("marginals", what, event_of(noise))
    choices, marginals = most_questions(study)
    delta = terms_of(study).largest_delta(n_choices=choices, n_marginals=marginals)
    _check_delta(study, delta)
    what = f"synthetic patients by {mechanism_of(study)}: counts and choices from {len(layout.cliques)} shared tables"
    return Step("marginals", what, Composed((ZeroConcentratedDP(mechanism_rho(study)), ApproximateDP(0.0, delta))))


def _check_delta(study: Study, delta: float) -> None:
    if delta > set_aside(study):
        raise StudyError(
            "budget.delta is too small for what is private but for a small probability, choices on shares and noise "
            f"sampled jointly: give at least {delta / APPROXIMATE_PART:.1e}"
        )


def private_rho(study: Study) -> float:
    """Return the rho of all private steps together."""
    aside = set_aside(study)
    delta = study.budget.delta
    return _rho_of_budget(study.budget.epsilon, rest_of(delta, aside) if aside else delta)


@lru_cache(maxsize=256)
def _rho_of_budget(epsilon: float, delta: float) -> float:
    # A study is planned many times while a site decides, and each search for rho takes milliseconds.
    return epsilon_to_rho(epsilon, delta)


def set_aside(study: Study) -> float:
    """Return the part of the study's delta that is kept for what has a delta of its own; 0 if nothing has.

    Examples
    --------
    >>> from synthema.demo import demo_study
    >>> set_aside(demo_study())
    0.0
    """
    wanted = study.synthesis
    plain = wanted is None or (wanted.noise == "shares" and wanted.mechanism in _FIXED)
    return 0.0 if plain else study.budget.delta * APPROXIMATE_PART


def mechanism_rho(study: Study) -> float:
    """Return what the synthesis may spend in all."""
    shares = [model.budget_share for model in study.models.values() if model.budget_share is not None]
    if study.overlap is not None:
        shares.append(study.overlap.budget_share)
    rho = private_rho(study) * (1 - math.fsum(shares))
    return rho if mechanism_of(study) in _FIXED else rho * _PRICE_GUARD


def mechanism_of(study: Study) -> MechanismName:
    """Return the name of the study's mechanism. Raises StudyError if it asks for no synthetic table."""
    if study.synthesis is None:
        raise StudyError("this study asks for no synthetic table")
    return study.synthesis.mechanism


# These measure everything at once, so that their one release is known in advance.
_FIXED = ("chow-liu", "independent")


def synthesis_cliques(study: Study) -> tuple[tuple[str, ...], ...]:
    """Return the marginals of a mechanism that opens the same ones whatever they show, in its order; or nothing."""
    columns = tuple(column_sizes(study))
    singles = tuple((name,) for name in columns)
    match mechanism_of(study):
        case "chow-liu":
            return (*singles, *itertools.combinations(columns, 2))
        case "independent":
            return (*singles, *_known_edges(study))
        case _:
            return ()


def fixed_noise(study: Study) -> CountNoise | None:
    """Return the noise of the one release of such a mechanism; None for one that asks as it goes along."""
    cliques = synthesis_cliques(study)
    if not cliques:
        return None
    sizes = column_sizes(study)
    cells = sum(math.prod(sizes[name] for name in clique) for clique in cliques)
    return terms_of(study).count_noise(mechanism_rho(study), n_marginals=len(cliques), dimension=cells)


def most_questions(study: Study) -> tuple[int, int]:
    """Return the most choices that the study's mechanism makes, and the most marginals that it opens."""
    mechanism, d = mechanism_of(study), len(column_sizes(study))
    match mechanism:
        case "mst" | "privbayes":
            choices = d - 1
        case "aim":
            # A round costs at least the sixteenth part of a column's share of the budget.
            choices = 16 * d + 1
        case "adaptive":
            choices = math.ceil(1.5 * d)
        case _:
            return 0, len(synthesis_cliques(study))
    # Adaptive opens columns three times, and twice what it chooses and what the schema joins; the others less.
    return choices, 3 * d + 2 * (choices + d)


def needs_material(study: Study) -> bool:
    """Return whether some step needs correlated randomness: everything but sums with noise by shares does.

    Examples
    --------
    >>> from synthema.demo import demo_study
    >>> needs_material(demo_study())
    True
    """
    joint = study.exact is not None and (study.exact.logistic is not None or study.exact.kaplan_meier is not None)
    models = any(model.mode == "exact" or model.needs_material for model in study.models.values())
    return study.overlap is not None or joint or models or set_aside(study) > 0 or input_level(study) is not None


def chooses(study: Study) -> bool:
    """Return whether the study's synthesis compares what sites share, to choose what it measures."""
    return study.synthesis is not None and study.synthesis.mechanism not in _FIXED


def input_level(study: Study) -> Level | None:
    """Return how each site's counts for the synthesis are checked on shares; None if they are not."""
    if study.synthesis is None:
        return None
    match study.synthesis.input_check:
        case "none":
            return None
        case "auto":
            # Sums are opened with their noise whatever was put in; a comparison of numbers beyond their declared range
            # could make a choice depend on a patient by more than was paid for.
            return level_of(synthesis_layout(study), len(study.sites)) if chooses(study) else None
        case level:
            return level


def _known_edges(study: Study) -> tuple[tuple[str, str], ...]:
    # Rules are read by the generators, which a site loads only when it is asked for this.
    from generators.rules import known_edges

    return known_edges(study.data_schema.subset(study.synthesis_columns))


def terms_of(study: Study) -> JointTerms:
    """Return what the price of the study's joint releases depends on."""
    return JointTerms(
        n_parties=len(study.compute_parties),
        collusion_threshold=study.federation.collusion_threshold,
        max_sites_per_patient=study.max_sites_per_patient,
        noise=study.synthesis.noise if study.synthesis is not None else "shares",
        most_rows=study.largest_cohort * len(study.sites),
    )


def epsilon_alone(study: Study, event: Event) -> float:
    """Return what a step would cost by itself, at the study's delta."""
    rho, delta = rho_and_delta(event)
    return rho_to_epsilon(rho, rest_of(study.budget.delta, delta) if delta else study.budget.delta)


def joint_noise(
    study: Study, rho: float, *, dimension: int, l1_sensitivity: int, l2_sensitivity_squared: int
) -> DistributedDiscreteGaussian:
    """Return the cheapest noise by shares that costs at most `rho` if no more parties collude than the study states.

    Raises StudyError if the budget asks for less noise than the bound on sums of discrete Gaussians allows.
    """
    return cheapest_joint_noise(
        terms_of(study).n_honest,
        rho,
        dimension=dimension,
        l1_sensitivity=l1_sensitivity,
        l2_sensitivity_squared=l2_sensitivity_squared,
    )


def total_noise_std(study: Study, event: DistributedDiscreteGaussian) -> float:
    """Return the standard deviation of what is opened: every party adds noise, colluding ones too."""
    return event.per_party_scale * math.sqrt(len(study.compute_parties))


def _exact(study: Study, name: str, what: str, parameters: str) -> Step:
    # Parameters and sites are part of what was released: the same result on another grid, or without one site, is a
    # difference.
    sites = ", ".join(sorted(study.sites))
    return Step(name, what, NonPrivate(what=f"{name}: {what} [{parameters}] [sites: {sites}]"))
