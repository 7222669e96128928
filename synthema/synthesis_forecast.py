"""What a synthesis will ask of lines and dealer: a forecast from the public document, for a dry run.

A mechanism that asks as it goes along may stop early, so what is forecast is the most: its largest number of choices,
each among all marginals that it may choose. Nothing is charged, and nobody is asked.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from smpc import Forecast, Session, SharePackage, forecast, share
from smpc.material import Kind
from synthema.errors import SiteInputInvalid
from synthema.joint_noise import SCORE_BITS
from synthema.marginal_layout import Clique, SynthesisLayout, column_sizes, synthesis_layout
from synthema.shared_marginals import SharedMarginals
from synthema.steps import (
    input_level,
    mechanism_of,
    mechanism_rho,
    most_questions,
    synthesis_cliques,
    terms_of,
)
from synthema.study import Study
from synthema.validity import Level, check_contributions


@dataclass(frozen=True, slots=True)
class SynthesisForecast:
    """What one party has to reckon with.

    rounds, bytes_sent   at the party that sends most; the bytes of questions and answer come on top (a few kB for each
                         question, and the estimates behind a choice: 8 bytes a cell)
    dealer_bytes         to all parties together
    material             items of correlated randomness
    choices              how many choices are reckoned with
    """

    rounds: int
    bytes_sent: int
    dealer_bytes: int
    material: Mapping[Kind, int]
    choices: int


def synthesis_material(study: Study) -> SynthesisForecast:
    """Return the most that the study's synthesis takes, by the forecast of each kind of question.

    Examples
    --------
    >>> from synthema.demo import demo_study
    >>> synthesis_material(demo_study()).material
    {}
    """
    layout, sizes = synthesis_layout(study), column_sizes(study)
    singles: tuple[Clique, ...] = tuple((name,) for name in sizes)
    fixed = synthesis_cliques(study)
    level = input_level(study)
    checked = [] if level is None else [_check(study, layout, level)]
    once_each = [1] * len(checked)
    if fixed:
        return _added(
            [*checked, _measure(study, layout, fixed, mechanism_rho(study))],
            [*once_each, 1],
            choices=0,
            n_checks=len(checked),
        )
    choices, marginals = most_questions(study)
    first = _measure(study, layout, singles, mechanism_rho(study) / 3)
    once = _choose(study, layout, choices, times=1)
    if mechanism_of(study) == "mst":
        # The same distances are compared again and again; the pairs are opened together at the end.
        twice = _choose(study, layout, choices, times=2)
        pairs = _measure(study, layout, layout.cliques[: len(sizes) - 1], mechanism_rho(study) / 3)
        parts = [*checked, first, pairs, twice, once]
        said = _added(parts, [*once_each, 1, 1, choices - 1, 2 - choices], choices=choices, n_checks=len(checked))
        # Each of the two choices in `twice` is a question of its own.
        return replace(said, rounds=said.rounds + choices - 1)
    largest = max(layout.cliques, key=layout.cells)
    chosen = _measure(study, layout, (largest,), mechanism_rho(study) / (2 * choices))
    return _added(
        [*checked, first, once, chosen], [*once_each, 3, choices, marginals], choices=choices, n_checks=len(checked)
    )


def _check(study: Study, layout: SynthesisLayout, level: Level) -> Forecast:
    sites, cap = tuple(study.sites), study.largest_cohort

    async def protocol(session: Session, packages: list[SharePackage]) -> None:
        # Made-up openings say that a site is to be named: what counts is the way there.
        with contextlib.suppress(SiteInputInvalid):
            await check_contributions(session, layout, packages * len(sites), sites=sites, cap=cap, level=level)

    return forecast(protocol, _inputs(study, layout), rehearsals=1)


def _measure(study: Study, layout: SynthesisLayout, cliques: Sequence[Clique], rho: float) -> Forecast:
    terms = terms_of(study)
    noise = terms.count_noise(rho, n_marginals=len(cliques), dimension=sum(map(layout.cells, cliques)))

    async def protocol(session: Session, packages: list[SharePackage]) -> None:
        await SharedMarginals(session, packages, layout, terms).measure(cliques, noise, groups={})

    return forecast(protocol, _inputs(study, layout), rehearsals=1)


def _choose(study: Study, layout: SynthesisLayout, choices: int, *, times: int) -> Forecast:
    """Return what a choice costs, or two of them where the second one knows all distances."""
    terms, mechanism = terms_of(study), mechanism_of(study)
    candidates, weight = layout.cliques, 1
    if mechanism != "mst":
        parts = (part for clique in layout.cliques for k in range(len(clique)) for part in combinations(clique, k + 1))
        candidates = tuple(dict.fromkeys(parts))
    if mechanism == "aim":
        weight = 3 * len(layout.cliques)
    # A third of the budget goes to the choices of MST, a tenth to those of the others.
    part = mechanism_rho(study) / (3 if mechanism == "mst" else 10) / choices
    choice = terms.choice(math.sqrt(8 * part), largest_weight=weight, n_candidates=len(candidates))
    cells = [layout.cells(clique) for clique in candidates]
    estimates = np.zeros(sum(cells), dtype=np.int64)
    # Estimates of as many rows as there may be: the range of a distance, and with it what is compared, goes by them.
    estimates[np.cumsum([0, *cells[:-1]])] = terms.most_rows << SCORE_BITS

    async def protocol(session: Session, packages: list[SharePackage]) -> None:
        counts = SharedMarginals(session, packages, layout, terms)
        n = len(candidates)
        for known, public in (([-1] * n, estimates), (list(range(n)), estimates[:0]))[:times]:
            await counts.select(candidates, known, public, choice, weights=[weight] * n, penalties=[0] * n, groups={})

    return forecast(protocol, _inputs(study, layout), rehearsals=1)


def _inputs(study: Study, layout: SynthesisLayout) -> list[list[SharePackage]]:
    # Nothing secret is in a rehearsal, and one site costs the parties what many do.
    return [[package] for package in share(np.zeros(layout.size, dtype=np.int64), len(study.compute_parties))]


def _added(parts: Sequence[Forecast], counts: Sequence[int], *, choices: int, n_checks: int) -> SynthesisForecast:
    pairs = list(zip(parts, counts, strict=True))
    kinds = {kind: None for part in parts for kind in part.material}
    return SynthesisForecast(
        # One more of each question, to send it (the check is none), and two for the answer.
        rounds=sum(count * (part.rounds + 1) for part, count in pairs) + 2 - n_checks,
        bytes_sent=sum(count * max(part.bytes_sent_by_party) for part, count in pairs),
        dealer_bytes=sum(count * part.dealer_bytes for part, count in pairs),
        material={kind: sum(count * part.material.get(kind, 0) for part, count in pairs) for kind in kinds},
        choices=choices,
    )
