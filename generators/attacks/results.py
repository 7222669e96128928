"""What an attack found, as values with a sentence that says what they mean. No record is named in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from privacy._rates import Rate, Risk

_WHAT = {
    "singling out (univariate)": "guessing that exactly one person has a value that one synthetic row has",
    "singling out (multivariate)": "guessing that exactly one person has a combination that one synthetic row has",
    "linkability": "joining two data sets about the same person through the nearest synthetic rows",
    "inference": "guessing a person's value from the nearest synthetic row, knowing the other columns",
}


@dataclass(frozen=True, slots=True)
class AttackResult:
    """Success of one attack, beside guessing and beside rows that the generator never saw. INTERNAL.

    asked      attacks asked for; `success.attempts` were made
    baseline   success of random guesses
    control    success against the control rows; None without control
    risk       excess over the control, or over guesses without control
    secret     the column that is inferred; None for other attacks
    """

    attack: str
    asked: int
    success: Rate
    baseline: Rate
    control: Rate | None
    risk: Risk
    notes: tuple[str, ...] = ()
    secret: str | None = None

    @property
    def meaning(self) -> str:
        """One or two sentences for a reader who is no statistician."""
        what = _WHAT.get(self.attack, self.attack) + (f" (here: {self.secret})" if self.secret else "")
        if self.success.value is None:
            return f"{what}: no attack of this kind could be made, which says nothing about the risk."
        rate = f"{what} succeeded in {self.success.value:.1%} of {self.success.attempts} attempts"
        if self.control is None:
            against = f"random guesses in {_percent(self.baseline.value)}"
        else:
            against = f"against people the generator never saw in {_percent(self.control.value)}"
        if self.risk.value is None or self.risk.low is None or self.risk.high is None:
            return f"{rate}, {against}: the excess cannot be measured, because the reference always succeeds."
        interval = f"{max(self.risk.low, 0):.1%} to {max(self.risk.high, 0):.1%}"
        if self.risk.low > 0:
            source = "the generator saw the rows" if self.control else "the synthetic table was there to look at"
            verdict = f"so {self.risk.value:.1%} ({interval}) succeed only because {source}"
        else:
            verdict = f"so no excess is seen; up to {max(self.risk.high, 0):.1%} would not have been noticed"
        return f"{rate}, {against}; {verdict}. A low figure does not prove that a stronger attack would fail."

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the meaning in words."""
        return {
            "attack": self.attack,
            **({"secret": self.secret} if self.secret else {}),
            "asked": self.asked,
            "made": self.success.attempts,
            "success": self.success.to_dict(),
            "baseline": self.baseline.to_dict(),
            "control": self.control.to_dict() if self.control else None,
            "risk": self.risk.to_dict(),
            "reference": "control" if self.control else "random guesses",
            "meaning": self.meaning,
            "notes": list(self.notes),
        }


def made_note(made: int, asked: int) -> str:
    """Return what to say where fewer attacks were made than asked for; empty otherwise."""
    if made >= asked:
        return ""
    return (
        f"{made} of the {asked} attacks asked for could be made: rates are of those made, their intervals are "
        "wider, and an attacker with more predicates or rows may find more"
    )


def control_note(seen: Rate | None, asked: int) -> str:
    """Return what to say where the control has fewer rows than attacks asked for; empty otherwise."""
    if seen is None or seen.attempts >= asked:
        return ""
    return f"the control gave {seen.attempts} targets, which widens the interval of the risk"


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.1%}"
