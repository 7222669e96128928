"""The report in plain words: one question for each criterion of WP29 Opinion 05/2014, and what the figures answer.

Where an attack was tried, its verdict counts, unless counting alone finds a high risk: an attack that failed takes
nothing back. Else singling out is judged by counting; linkability is not judged, because no count of one table tells
what another one holds; and inference is called low by no count alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from anonymise.report.document import AttackFigure, RiskDocument
from anonymise.risk import RiskReport
from anonymise.risk.figures import least_class
from anonymise.wp29.results import ORDER, Criterion, Verdict, worst
from privacy._formats import listing, percent

VERDICTS: Final = {"good": "Low risk", "fair": "Some risk", "poor": "High risk", "None": "Not judged"}
# A column that is no quasi-identifier, and alone tells apart more than this share of the rows, is pointed at.
_TELLING: Final = 0.05
_REFERENCES: Final = {"guessing": "by guessing", "people not in the table": "on people who are not in the table"}
_QUESTIONS: Final[dict[Criterion, str]] = {
    "singling out": "Singling out: can one patient be isolated?",
    "linkability": "Linkability: can a record be tied to the same patient elsewhere?",
    "inference": "Inference: can something secret be concluded about a patient?",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, its verdict ("None": not judged) and the answer in one or two sentences."""

    key: str
    question: str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A figure before and after, as text, and what it means."""

    label: str
    before: str
    after: str
    meaning: str


def answers(document: RiskDocument) -> tuple[Answer, ...]:
    """Return the three answers."""
    counted = {"singling out": _singling_out, "linkability": _linkability, "inference": _inference}
    out = []
    for criterion, question in _QUESTIONS.items():
        tried = [attack for attack in document.tried if attack.criterion == criterion]
        verdict, text = counted[criterion](document.shown)
        if tried:
            found = worst([attack.verdict for attack in tried])
            verdict, text = verdict if verdict == "poor" else found, f"{_tried(tried)} {text}"
        out.append(Answer(criterion.replace(" ", "-"), question, str(verdict), text))
    return tuple(out)


def people(report: RiskReport) -> str:
    """Return what is counted: rows stand for patients unless an id says otherwise."""
    return "patients" if report.unit == "patient" else "records"


def _singling_out(report: RiskReport) -> tuple[Verdict, str]:
    who, needed, smallest = people(report), least_class(report.threshold), report.smallest_class
    if smallest >= needed:
        safe = (
            f"Nobody who knows the quasi-identifiers alone can pick out one of the {who}: each agrees with at least "
            f"{smallest - 1} others."
        )
        telling = [c for c in report.columns if not c.quasi_identifier and c.uniqueness > _TELLING]
        if not telling:
            return "good", safe
        named = listing(tuple(f"{column.name} ({percent(column.uniqueness, 0)})" for column in telling))
        return "fair", f"{safe} But of other columns some values occur once: {named}. Whoever knows one finds its row."
    if smallest > 1:
        return "fair", (
            f"None of the {who} is alone with the quasi-identifiers, but {percent(report.share_at_risk)} stand in "
            f"groups of fewer than {needed}; the smallest has {smallest}."
        )
    return "poor", (
        f"{percent(report.sample_uniqueness)} of the {who} are alone with their quasi-identifiers: whoever knows these "
        "finds them."
    )


def _linkability(report: RiskReport) -> tuple[None, str]:
    if report.smallest_class == 1:
        return None, (
            "No count can tell what another data set holds. Here even exact matches are possible: for some "
            f"{people(report)} the quasi-identifiers lead to one row."
        )
    return None, (
        "No count can tell what another data set holds. By the quasi-identifiers alone a link leads to a group of at "
        f"least {report.smallest_class}; other columns of the release may narrow it down."
    )


def _inference(report: RiskReport) -> tuple[Verdict | None, str]:
    if report.not_counted and not report.sensitive:
        return None, (
            f"Of {listing(report.not_counted)} a patient has several values: no count of single values bounds what "
            "their combination tells."
        )
    if not report.sensitive:
        return None, "The schema names no sensitive column, so what could be concluded was not counted."
    worst = min(report.sensitive, key=lambda row: (row.distinct_l, row.entropy_l))
    if worst.distinct_l == 1:
        return "poor", (
            f"In some group all have the same {worst.name}: whoever knows that a patient is in it knows the value, "
            "without finding the record."
        )
    surest = max(report.sensitive, key=lambda row: (row.worst_guess, -row.overall_guess))
    return "fair", (
        f"Every group has at least {worst.distinct_l} values of {worst.name}. Guessing the commonest {surest.name} is "
        f"right for {percent(surest.worst_guess, 0)} of some group ({percent(surest.overall_guess, 0)} of the whole "
        "table)."
    )


def _tried(tried: list[AttackFigure]) -> str:
    most = max(tried, key=_strength)
    what = f" ({percent(most.reference)} {_REFERENCES.get(most.compared, 'without the table')})"
    beside = "" if most.reference is None else what
    name = f"{most.name[:1].lower()}{most.name[1:]}" if most.compared else most.name
    return f"Tried: {name} succeeded in {percent(most.success)} of the tries{beside}."


def _strength(attack: AttackFigure) -> tuple[int, float]:
    """Return what the most telling attack has most of: the worst verdict, then the distance from its reference."""
    order = -1 if attack.verdict is None else ORDER.index(attack.verdict)
    return order, attack.success - (attack.reference or 0.0)


def rows(document: RiskDocument) -> Iterator[Row]:
    """Yield the figures of re-identification."""
    before, after = document.before, document.after
    needed = least_class(before.threshold)
    yield _row(
        document, "Smallest group", lambda r: f"{r.smallest_class:,}", "people who agree on all quasi-identifiers"
    )
    yield _row(document, "Alone in the group", lambda r: percent(r.sample_uniqueness), "found by whoever knows them")
    yield _row(
        document,
        f"In groups of fewer than {needed}",
        lambda r: percent(r.share_at_risk),
        f"a risk above {before.threshold:g}, the limit of this report",
    )
    yield _row(
        document,
        "Highest risk, prosecutor",
        lambda r: percent(r.max_prosecutor_risk),
        "the attacker knows that the patient is in the table",
    )
    yield _row(
        document, "Average risk, prosecutor", lambda r: percent(r.average_prosecutor_risk), "the mean over all of them"
    )
    yield _row(
        document, "Marketer", lambda r: percent(r.marketer_risk), "share of right matches if everybody is matched"
    )
    if before.journalist is not None or (after is not None and after.journalist is not None):
        yield _row(
            document,
            "Highest risk, journalist",
            lambda r: "–" if r.journalist is None else percent(r.journalist.highest),
            f"the attacker does not know who is in the table; {_source(before)}",
        )
        yield _row(
            document,
            "Average risk, journalist",
            lambda r: "–" if r.journalist is None else percent(r.journalist.average),
            _source(before),
        )
    if before.population_uniqueness is not None:
        reports = [report for report in (before, after) if report is not None]
        used = dict.fromkeys(r.population_uniqueness.estimator for r in reports if r.population_uniqueness is not None)
        meaning = f"share of the population that would be alone in it, estimated ({', '.join(used)})"
        yield _row(document, "Unique in the population", _uniqueness, meaning)


def _source(report: RiskReport) -> str:
    counted = report.journalist is not None and report.journalist.source == "population table"
    return "counted in the population table" if counted else "estimated from the population's size"


def _uniqueness(report: RiskReport) -> str:
    found = report.population_uniqueness
    if found is None or found.value is None:
        return "no estimate"
    return percent(found.value)


def _row(document: RiskDocument, label: str, write: Callable[[RiskReport], str], meaning: str) -> Row:
    return Row(label, write(document.before), "" if document.after is None else write(document.after), meaning)
