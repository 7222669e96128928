"""The joint steps: what the sites share, what the compute parties do with it, and what is opened.

Each function runs one step of the plan over a network and returns released values only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from privacy import DistributedDiscreteGaussian
from smpc import FIELD61, RING64, Session, Shared, SharePackage, pool
from synthema import overlap
from synthema.conducting import conduct
from synthema.errors import DisclosureRefused, OverlapTooLarge, StudyError
from synthema.job import SiteJob, survival_grid
from synthema.learning import dominance, kaplan_meier, logistic
from synthema.learning.design import design_of
from synthema.learning.exact_glm import n_tested_of, open_undominated
from synthema.learning.model import Rounds
from synthema.learning.tested_counts import table_size, why_not
from synthema.networks.base import StepNetwork
from synthema.released import LogisticModel, ModelResult, OverlapCheck, SurvivalCurve
from synthema.steps import model_step, plan, total_noise_std
from synthema.study import Study
from synthema.study_mechanism import answer_of_counts


def check_overlap(network: StepNetwork) -> OverlapCheck:
    """Run the overlap check. The caller decides what a count above the threshold means (`require_below`)."""
    study = network.study
    event = _joint_event(study, "overlap")
    if study.overlap is None:
        raise StudyError("this study has no overlap check")
    std = total_noise_std(study, event)

    async def protocol(session: Session, packages: Sequence[SharePackage]) -> int:
        indicators = [session.shared(package.expand(), RING64) for package in packages]
        return await overlap.noisy_overlap(
            session,
            indicators,
            max_sites_per_patient=study.max_sites_per_patient,
            per_party_scale=event.per_party_scale,
            collusion_threshold=study.federation.collusion_threshold,
        )

    def work() -> int:
        # The hospitals' common key: drawn by them, never by the hub, and only for this check.
        key = network.common_key("overlap")
        shares = network.gather("overlap", lambda job: job.overlap_indicator(key))
        return int(network.compute("overlap", protocol, shares))

    noisy = network.run_step("overlap", work, encode=int, decode=int)
    limit = overlap.threshold(std)
    return OverlapCheck(
        allowed_sites=study.max_sites_per_patient,
        noisy_count=noisy,
        noise_std=std,
        threshold=limit,
        n_buckets=study.overlap.n_buckets,
        below_threshold=noisy <= limit,
    )


def require_below(check: OverlapCheck) -> None:
    """Raise OverlapTooLarge if the statement about patients at several sites does not hold."""
    if not check.below_threshold:
        raise OverlapTooLarge(allowed_sites=check.allowed_sites)


def fit_logistic(network: StepNetwork) -> LogisticModel:
    """Fit the joint logistic model. Opens score and information of each Newton step, nothing per site."""
    study = network.study
    if study.exact is None or study.exact.logistic is None:
        raise StudyError("this study fits no logistic model")
    wanted, schema, min_cell = study.exact.logistic, study.data_schema, study.exact.min_cell
    n_coefficients = design_of(schema, wanted.covariates).n_coefficients
    n_counts = 2 + table_size(logistic.FAMILY, schema, wanted.covariates)
    grid, shape = None, None
    if study.exact.kaplan_meier is not None:
        grid = survival_grid(study)
        shape = (2, schema.column(study.exact.kaplan_meier.group).n_codes, len(grid.official))

    async def check(session: Session, packages: Sequence[SharePackage]) -> str:
        counts = _pooled(session, packages, FIELD61)
        reason = await why_not(
            session, counts[:n_counts], family=logistic.FAMILY, n_coefficients=n_coefficients, min_cell=min_cell
        )
        if not reason and shape is not None and grid is not None:
            table = counts[n_counts:].reshape(shape)
            if not await kaplan_meier.horizon_may_be_known(session, table, grid, min_cell=min_cell):
                reason = f"beside the curves it would show 1 to {min_cell - 1} patients: put the horizon elsewhere"
        return reason

    def work() -> LogisticModel:
        reason = network.compute("logistic", check, network.gather("logistic", SiteJob.logistic_counts))
        if reason:
            raise DisclosureRefused(f"the logistic model was not opened: {reason}")
        newton, opened = logistic.newton_of(study, wanted.covariates), None
        while not newton.converged:
            shares = network.gather("logistic", lambda job, opened=opened: job.logistic_sums(opened))  # type: ignore[misc]
            step = partial(open_undominated, n_tested=n_tested_of(newton))
            opened = newton.encoding.decode(network.compute("logistic", step, shares))
            if not opened.size:
                raise DisclosureRefused(f"the logistic model was not opened: {dominance.RULE}")
            newton.update(opened)
        return logistic.model_of(newton, outcome=f"death within {wanted.horizon_days} days")

    return network.run_step("logistic", work, encode=logistic.model_to_json, decode=logistic.model_from_json)


def open_survival(network: StepNetwork) -> tuple[SurvivalCurve, ...]:
    """Open the Kaplan-Meier counts that may be opened, per group."""
    study = network.study
    if study.exact is None or study.exact.kaplan_meier is None:
        raise StudyError("this study releases no Kaplan-Meier curves")
    wanted, min_cell, grid = study.exact.kaplan_meier, study.exact.min_cell, survival_grid(study)

    async def protocol(session: Session, packages: Sequence[SharePackage]) -> Any:
        pooled = _pooled(session, packages, FIELD61)
        return kaplan_meier.opened_to_json(await kaplan_meier.open_counts(session, pooled, grid, min_cell=min_cell))

    def work() -> list[kaplan_meier.OpenedGroup]:
        shares = network.gather("kaplan-meier", SiteJob.survival_counts)
        return kaplan_meier.opened_from_json(network.compute("kaplan-meier", protocol, shares))

    opened = network.run_step(
        "kaplan-meier", work, encode=kaplan_meier.opened_to_json, decode=kaplan_meier.opened_from_json
    )
    labels = study.data_schema.column(wanted.group).labels()
    return tuple(
        kaplan_meier.survival_curve(f"{wanted.group} = {label}", group, grid_days=wanted.grid_days, min_cell=min_cell)
        for label, group in zip(labels, opened, strict=True)
    )


def fit_model(network: StepNetwork, name: str) -> ModelResult:
    """Fit the model `models.NAME` of the study."""
    step, model = model_step(name), network.study.models[name]
    event = next(each.event for each in plan(network.study) if each.name == step)
    rounds = Rounds(network, step, model, event)

    def plain(answer: dict[str, Any]) -> dict[str, Any]:
        return dict(answer)

    answer = network.run_step(step, lambda: model.fit(rounds), encode=plain, decode=plain)
    return ModelResult(
        name=name,
        kind=model.kind,
        mode=model.mode,
        what=model.what,
        spec=model.model_dump(mode="json"),
        answer=answer,
    )


def synthesise(network: StepNetwork) -> dict[str, Any]:
    """Make the synthetic table from the sites' counts; return the answer (`synthesis_answer`)."""
    study = network.study

    async def protocol(session: Session, packages: Sequence[SharePackage]) -> dict[str, Any]:
        return await conduct(session, packages, study)

    def work() -> dict[str, Any]:
        answer: dict[str, Any] = network.compute(
            "marginals", protocol, network.gather("marginals", SiteJob.marginal_counts)
        )
        return answer

    def decode(answer: Any) -> dict[str, Any]:
        # Sites that ran this study before its answers held a table stored the noisy counts alone.
        return answer_of_counts(study, answer) if isinstance(answer, np.ndarray) else dict(answer)

    return network.run_step("marginals", work, encode=dict, decode=decode)


def _joint_event(study: Study, name: str) -> DistributedDiscreteGaussian:
    for step in plan(study):
        if step.name == name and isinstance(step.event, DistributedDiscreteGaussian):
            return step.event
    raise StudyError(f"this study has no step {name!r}")


def _pooled(session: Session, packages: Sequence[SharePackage], domain: Any) -> Shared:
    return session.shared(pool(packages, domain=domain), domain)
