"""Whom does the table give away? Each attack beside the same on other people, on a total leak and on a harmless table.

An attack succeeds on many people for harmless reasons: what is true of the population is true of them. What counts is
the excess over people whom the generator never saw; without such people nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.attacks import AttackResult, AttackSuite, MembershipResult, PrivacyAttacks, privacy_attacks
from generators.quality.rulers import Bench, Verdict

ATTACK_ROWS = 50_000
# Excess success that is shown, by the lower end of its 99 % interval: with five attacks, one harmless table in forty is
# called leaky by chance. An excess below a hundredth is not called a leak even where it is certain.
_FAIR, _POOR = 0.01, 0.05
_Z_99_OVER_95 = 2.5758293 / 1.9599640
_LABELS = {
    "singling out (univariate)": "Singling out by one value",
    "singling out (multivariate)": "Singling out by a combination",
    "linkability": "Linking two data sets",
    "inference": "Inferring a secret",
}
Limits = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Attacked:
    """One attack: rates as (value, low, high), value NaN where nothing was attempted. INTERNAL.

    reference            success on people the generator never saw; without them, of random guesses
    excess               success beyond the reference, as a share of what is left to succeed in; membership: 2 AUC - 1
    leak, harmless       success on the two tables that are understood
    """

    name: str
    label: str
    success: Limits
    reference: Limits
    excess: Limits
    leak: float
    harmless: float
    meaning: str
    notes: tuple[str, ...]
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Privacy:
    """What the attacks found. `everything` is the attacks' own result, plain."""

    attacks: tuple[Attacked, ...]
    secrets: tuple[Attacked, ...]
    closest: str
    has_control: bool
    everything: dict[str, Any]
    verdict: Verdict | None


def attack(bench: Bench, *, rng: np.random.Generator) -> Privacy:
    """Try every attack. INTERNAL on real rows."""
    small = bench.limited(ATTACK_ROWS, rng=rng)
    found = privacy_attacks(
        small.real.frame,
        small.synthetic.frame,
        control=None if small.holdout is None else small.holdout.frame,
        schema=bench.schema,
        rng=rng,
    )
    table = found.synthetic
    rulers = (found.total_leak, found.harmless)
    worst = table.worst_inference
    at = next(i for i, result in enumerate(table.inference) if result.secret == worst.secret)

    def beside(result: AttackResult, of: Callable[[AttackSuite], AttackResult]) -> Attacked:
        return _of(result, [None if suite is None else of(suite) for suite in rulers], has_control=found.has_control)

    attacks = [
        beside(table.univariate, lambda suite: suite.univariate),
        beside(table.multivariate, lambda suite: suite.multivariate),
        beside(table.linkability, lambda suite: suite.linkability),
        beside(worst, lambda suite: suite.inference[at]),
    ]
    if table.membership is not None:
        attacks.append(_membership(found))
    secrets = [
        _of(result, [None if suite is None else suite.inference[i] for suite in rulers], has_control=found.has_control)
        for i, result in enumerate(table.inference)
    ]
    order: tuple[Verdict, ...] = ("poor", "fair", "good")
    given = {each.verdict for each in attacks}
    return Privacy(
        attacks=tuple(attacks),
        secrets=tuple(secrets),
        closest=table.closest.meaning,
        has_control=found.has_control,
        everything=found.to_dict(),
        verdict=next((verdict for verdict in order if verdict in given), None),
    )


def _of(result: AttackResult, rulers: list[AttackResult | None], *, has_control: bool) -> Attacked:
    reference = result.control if result.control is not None else result.baseline
    excess = _limits(result.risk)
    return Attacked(
        name=result.attack + (f" [{result.secret}]" if result.secret else ""),
        label=_LABELS.get(result.attack, result.attack) + (f": {result.secret}" if result.secret else ""),
        success=_limits(result.success),
        reference=_limits(reference),
        excess=excess,
        leak=_value(rulers[0]),
        harmless=_value(rulers[1]),
        meaning=result.meaning,
        notes=tuple(result.notes),
        verdict=_judge(excess) if has_control else None,
    )


def _membership(found: PrivacyAttacks) -> Attacked:
    result = found.synthetic.membership
    assert result is not None  # noqa: S101 - the caller has looked
    excess = (2 * result.auc - 1, 2 * result.low - 1, 2 * result.high - 1)
    return Attacked(
        name="membership",
        label="Telling who was in the data",
        success=(result.auc, result.low, result.high),
        reference=(0.5, 0.5, 0.5),
        excess=excess,
        leak=_value(None if found.total_leak is None else found.total_leak.membership),
        harmless=_value(None if found.harmless is None else found.harmless.membership),
        meaning=result.meaning,
        notes=(),
        verdict=_judge(excess),
    )


def _judge(excess: Limits) -> Verdict | None:
    if math.isnan(excess[0]):
        return None
    low = excess[0] - _Z_99_OVER_95 * (excess[0] - excess[1])
    return "poor" if low > _POOR else "fair" if low > _FAIR else "good"


def _limits(rate: Any) -> Limits:
    if rate.value is None:
        return (math.nan, math.nan, math.nan)
    return (float(rate.value), float(rate.low), float(rate.high))


def _value(result: AttackResult | MembershipResult | None) -> float:
    if result is None:
        return math.nan
    if isinstance(result, MembershipResult):
        return result.auc
    return math.nan if result.success.value is None else result.success.value
