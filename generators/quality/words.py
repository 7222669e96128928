"""The evaluation in plain words: one heading, verdict and answer for each section, for a reader who treats patients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generators.quality.rulers import Figure, Verdict
from privacy._formats import count, decimal, percent

if TYPE_CHECKING:
    from generators.quality.report import Report

VERDICTS: dict[Verdict | None, str] = {
    "good": "Good",
    "fair": "Usable with care",
    "poor": "Poor",
    None: "Not judged",
}
# A table that withstood the attacks tried is not called good: none of them is the strongest there is.
LEAKS: dict[Verdict | None, str] = {
    "good": "No leak seen",
    "fair": "Some leak seen",
    "poor": "Leaks",
    None: "Not judged",
}
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Section:
    """What the top of the page says about one section."""

    key: str
    question: str
    verdict: Verdict | None
    answer: str


def sections(report: Report) -> tuple[Section, ...]:
    """Return the sections in the order of the page."""
    verdicts = report.verdicts
    answers = (
        ("fidelity", "Does it look like the real table?", _fidelity(report)),
        ("utility", "Do models learned from it work on real patients?", _utility(report)),
        ("survival", "Does survival come out right?", _survival(report)),
        ("privacy", "Does it give patients away?", _privacy(report)),
    )
    return tuple(Section(key, question, verdicts[key], answer) for key, question, answer in answers)


def hazard(term: tuple[float, float]) -> str:
    """Write a hazard ratio with its 95 % interval.

    Examples
    --------
    >>> hazard((0.0, 0.1))
    '1.00 (0.82 to 1.22)'
    """
    estimate, error = term
    if math.isnan(estimate):
        return "no estimate"
    middle, low, high = (_exp(estimate + z * error) for z in (0, -_Z, _Z))
    return f"{decimal(middle)} ({decimal(low)} to {decimal(high)})"


def _exp(value: float) -> float:
    return math.exp(min(value, 50.0))


def _fidelity(report: Report) -> str:
    figures = report.figures
    one = figures["l1_1"]
    parts = [f"In a single column, {_moved(one)} of the patients would have to change to match the real table"]
    if "l1_3" in figures:
        parts.append(f"; in three columns at once, {_moved(figures['l1_3'])}{_chance(figures['l1_3'])}")
    auc = report.fidelity.propensity.auc
    return "".join(parts) + (
        f". A model that tries to tell the tables apart is right for {percent(auc, 0)} of pairs of a real and a "
        "synthetic row (50 %: coin tossing)."
    )


def _moved(figure: Figure) -> str:
    return percent(figure.value / 2)


def _chance(figure: Figure) -> str:
    return "" if figure.floor is None else f" (chance alone: {percent(figure.floor[1] / 2)})"


def _utility(report: Report) -> str:
    if report.utility is None or not report.utility.predictions:
        return "No column could be predicted from the others."
    judged = [each for each in report.utility.predictions if each.loss.verdict is not None]
    if not judged:
        return "Nothing tried can be predicted well even by a model learned from real patients."
    worst = max(judged, key=lambda each: each.loss.value)
    sentence = (
        f"Learned from synthetic patients, a model ranks real patients by “{worst.outcome}” with an AUC of "
        f"{decimal(worst.auc_synthetic)}; learned from real ones, {decimal(worst.auc_real)}."
    )
    n = len(judged)
    return sentence if n == 1 else f"{sentence} That is the largest loss of the {n} outcomes tried."


def _survival(report: Report) -> str:
    survival = report.survival
    if survival is None:
        return "The schema declares no follow-up."
    figures = {each.name: each for each in survival.figures}
    if "km_divergence" not in figures:
        return "Too few patients are followed for a survival curve."
    gap = figures["km_divergence"].value
    bias = figures["optimism"].value
    side = "too well" if bias > 0 else "too badly"
    sentence = f"The survival curves are {decimal(100 * gap, 1)} patients in a hundred apart on average"
    sentence += f"; synthetic patients fare {side} by {decimal(100 * abs(bias), 1)}." if abs(bias) >= 0.0005 else "."
    overlap = figures["cox_interval_overlap"].value if "cox_interval_overlap" in figures else math.nan
    if overlap < 0:
        sentence += " The hazard ratios contradict the real ones: their intervals lie apart."
    elif overlap >= 0:
        sentence += f" Intervals of the hazard ratios overlap by {percent(overlap, 0)}."
    return sentence


def _privacy(report: Report) -> str:
    if report.privacy is None:
        return "No attack was tried."
    attacks = report.privacy.attacks
    if not report.privacy.has_control:
        return (
            f"{count(len(attacks))} kinds of attack were tried, but without patients whom the generator never saw "
            "nobody can say whether they succeed because of the table: keep some rows apart and give them as a holdout."
        )
    seen = [each for each in attacks if each.verdict in ("fair", "poor")]
    if not seen:
        return (
            f"None of {count(len(attacks))} kinds of attack succeeds more often on the patients who were used than on "
            "others. That is no proof that a stronger one would fail."
        )
    worst = max(seen, key=lambda each: each.excess[0])
    return (
        f"{count(len(seen))} of {count(len(attacks))} kinds of attack succeed because patients’ rows were used. "
        f"Strongest: {worst.label[0].lower()}{worst.label[1:]}, {percent(worst.success[0])} against "
        f"{percent(worst.reference[0])} {'for coin tossing' if worst.name == 'membership' else 'on other patients'}."
    )


def limits(value: tuple[float, float, float]) -> str:
    """Write a rate with its 95 % interval.

    Examples
    --------
    >>> limits((0.5, 0.4, 0.6))
    '50.0 % (40.0 to 60.0)'
    """
    if math.isnan(value[0]):
        return "not measured"
    return f"{percent(value[0])} ({decimal(100 * value[1], 1)} to {decimal(100 * value[2], 1)})"
