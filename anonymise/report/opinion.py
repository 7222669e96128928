"""What WP29 Opinion 05/2014 says of techniques, beside what attacks measured here.

Source: Article 29 Data Protection Working Party, Opinion 05/2014 on Anonymisation Techniques (WP216), table 6: is
singling out, linkability, inference still a risk? The opinion treats t-closeness with l-diversity (section 3.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anonymise.report.document import AttackFigure, RiskDocument
from anonymise.wp29.results import CRITERIA, Wp29Attack, Wp29Result, worst
from privacy._formats import listing


@dataclass(frozen=True, slots=True)
class Technique:
    """A row of the opinion's table: whether each criterion is still a risk, and the models here that it covers."""

    name: str
    still_a_risk: tuple[str, str, str]
    models: tuple[str, ...] = ()


# Columns in the order of CRITERIA, cells as the opinion has them; first words of the models that a row speaks of.
_TABLE: Final = (
    ("Pseudonymisation", ("yes", "yes", "yes"), ()),
    ("Noise addition", ("yes", "may not", "may not"), ()),
    ("Substitution", ("yes", "yes", "may not"), ()),
    ("Aggregation or k-anonymity", ("no", "yes", "yes"), ("KAnonymity", "KMap")),
    (
        "l-diversity (and t-closeness)",
        ("no", "yes", "may not"),
        ("LDiversity", "TCloseness", "AlphaKAnonymity", "BetaLikeness", "DeltaDisclosure"),
    ),
    ("Differential privacy", ("may not", "may not", "may not"), ()),
    ("Hashing, tokenisation", ("yes", "yes", "may not"), ()),
)

_NAMES: Final = {
    "known columns": "Isolating by known columns",
    "all columns": "Isolating by all columns",
    "two halves": "Joining two data sets",
    "register": "Matching a register",
}


def techniques(document: RiskDocument) -> tuple[Technique, ...]:
    """Return the opinion's table; models that hold for the table shown are named in their row."""
    holding = [check.model for check in document.shown.models if check.holds]
    return tuple(
        Technique(name, risks, tuple(model for model in holding if model.partition("(")[0] in kinds))
        for name, risks, kinds in _TABLE
    )


def measured(document: RiskDocument) -> tuple[str, ...]:
    """Return the worst verdict that attacks gave for each criterion, "None" where none was judged."""
    return tuple(
        str(worst([attack.verdict for attack in document.tried if attack.criterion == criterion]))
        for criterion in CRITERIA
    )


def figures(result: Wp29Result) -> tuple[AttackFigure, ...]:
    """Return the attacks as rows of the report; those that could not be made are left out."""
    return tuple(_figure(attack) for attack in result.attacks if attack.success.value is not None)


def _figure(attack: Wp29Attack) -> AttackFigure:
    return AttackFigure(
        criterion=attack.criterion,
        name=_NAMES[attack.name] if attack.criterion != "inference" else f"Guessing {attack.name}",
        success=attack.success.value or 0.0,
        low=attack.success.low,
        high=attack.success.high,
        reference=attack.reference.value,
        meaning=attack.what,
        verdict=attack.verdict,
        excess=_plain(attack.excess.value),
        excess_low=_plain(attack.excess.low),
        excess_high=_plain(attack.excess.high),
        compared="guessing" if attack.control is None else "people not in the table",
        guess=None if attack.control is None else attack.guess.value,
        notes=attack.notes,
    )


def notes(document: RiskDocument) -> tuple[str, ...]:
    """Return what limits the figures: each note once, behind the names of the attacks that it speaks of."""
    names: dict[str, list[str]] = {}
    for attack in document.tried:
        for note in attack.notes:
            said = names.setdefault(note, [])
            said.append(f"{attack.name[:1].lower()}{attack.name[1:]}" if said else attack.name)
    return tuple(f"{listing(tuple(of))}: {note}." for note, of in names.items())


def _plain(value: float | None) -> float | None:
    """Return a share of which one decimal is written, without the sign of a zero."""
    return 0.0 if value is not None and abs(value) < 5e-4 else value


def columns_not_attacked(result: Wp29Result | None) -> str:
    """Return the columns of the release that no attack used, as text."""
    return "" if result is None else listing(result.not_attacked)
