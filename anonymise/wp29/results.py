"""What attacks on a release found, in the words of WP29 Opinion 05/2014, with a verdict for each. INTERNAL.

The opinion has no thresholds: those below are this package's, and stand in the documentation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from privacy._formats import listing, percent
from privacy._rates import Rate, Risk

Criterion = Literal["singling out", "linkability", "inference"]
Verdict = Literal["good", "fair", "poor"]

CRITERIA: Final[tuple[Criterion, ...]] = ("singling out", "linkability", "inference")
# An excess that may be above the first is not called low; one that is certainly above the second is called high.
LOW, HIGH = 0.05, 0.10
ORDER: Final[tuple[Verdict, ...]] = ("good", "fair", "poor")
_WORDS: Final = {"good": "low risk", "fair": "some risk", "poor": "high risk"}
NOTICE: Final = (
    "INTERNAL. Success rates of attacks on real patients, without noise and without being paid for in a ledger. Do not "
    "share them outside the house that holds the rows."
)


@dataclass(frozen=True, slots=True)
class Wp29Attack:
    """Success of one attack on the people of the raw table, beside guessing and beside people who are not in it.

    name      "known columns", "all columns", "two halves", "register", or the secret column
    success   share of tries that succeeded; a sum of probabilities where the attacker has to choose at random
    guess     success of a guess without the person's row in the release: the baseline
    control   success against people who are not in the table, None where that was not measured or has no meaning
    excess    (success - reference) / (1 - reference), the reference being the control if there is one, else the guess
    verdict   None: not judged
    """

    criterion: Criterion
    name: str
    columns: tuple[str, ...]
    success: Rate
    guess: Rate
    control: Rate | None
    excess: Risk
    verdict: Verdict | None
    what: str
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> Rate:
        """The rate that an attacker reaches without the people's rows."""
        return self.guess if self.control is None else self.control

    @property
    def meaning(self) -> str:
        """One or two sentences for a reader who is no statistician."""
        if self.success.value is None:
            return f"{self.what} No attack could be made, which says nothing about the risk."
        beside = "guessing in" if self.control is None else "on people who are not in the table in"
        out = (
            f"{self.what} It succeeded in {percent(self.success.value)} of {self.success.attempts:,} tries, {beside} "
            f"{percent(self.reference.value)}"
        )
        low, high = self.excess.low, self.excess.high
        if low is None or high is None:
            return f"{out}: what the release adds cannot be told, because the reference succeeds too often."
        if low > 0:
            adds = "that is an excess of" if self.control is None else "the release adds"
            return f"{out}; {adds} {percent(self.excess.value)} ({percent(low)} to {percent(high)})."
        return f"{out}; no difference is seen, and one of up to {percent(max(high, 0.0))} would not have been noticed."

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the meaning in words."""
        return {
            "criterion": self.criterion,
            "name": self.name,
            "columns": list(self.columns),
            "success": self.success.to_dict(),
            "guess": self.guess.to_dict(),
            "control": None if self.control is None else self.control.to_dict(),
            "excess": self.excess.to_dict(),
            "verdict": self.verdict,
            "meaning": self.meaning,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Wp29Result:
    """What `measure_wp29` found. INTERNAL.

    known           columns that the attacker knows of a person
    with_control    whether people who are not in the table were attacked as well
    not_attacked    columns of the release that no attack used
    """

    attacks: tuple[Wp29Attack, ...]
    known: tuple[str, ...]
    with_control: bool
    not_attacked: tuple[str, ...] = ()

    def of(self, criterion: Criterion) -> tuple[Wp29Attack, ...]:
        """Return the attacks of one criterion."""
        return tuple(attack for attack in self.attacks if attack.criterion == criterion)

    def verdict(self, criterion: Criterion) -> Verdict | None:
        """Return the worst verdict of a criterion; None if it was not judged."""
        return worst([attack.verdict for attack in self.of(criterion)])

    def summary(self) -> str:
        """Return one line for each criterion.

        The words are those of the verdicts; no line says that a table is anonymous, because no attack can.
        """
        lines = []
        for criterion in CRITERIA:
            verdict = self.verdict(criterion)
            word = "not judged" if verdict is None else _WORDS[verdict]
            figures = [
                f"{attack.name} {percent(attack.success.value)} (reference {percent(attack.reference.value)})"
                for attack in self.of(criterion)
                if attack.success.value is not None
            ]
            lines.append(f"{criterion}: {word}; {listing(tuple(figures)) if figures else 'no attack was made'}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, marked internal."""
        return {
            "format": "synthema-wp29",
            "version": 1,
            "audience": "INTERNAL",
            "notice": NOTICE,
            "known": list(self.known),
            "with_control": self.with_control,
            "not_attacked": list(self.not_attacked),
            "verdicts": {criterion: self.verdict(criterion) for criterion in CRITERIA},
            "attacks": [attack.to_dict() for attack in self.attacks],
        }

    def to_json(self) -> str:
        """Return the result as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def __repr__(self) -> str:
        """Name the columns only: a repr ends up in logs, success rates are the patients'."""
        return f"Wp29Result(INTERNAL, known={self.known!r})"


def worst(verdicts: list[Verdict | None]) -> Verdict | None:
    """Return the worst of some verdicts; None if there is none."""
    return max((verdict for verdict in verdicts if verdict is not None), key=ORDER.index, default=None)


def judge(success: Rate, excess: Risk) -> Verdict | None:
    """Return the verdict on an excess over the reference, by its 95 % interval.

    Examples
    --------
    >>> from privacy._rates import excess_risk
    >>> [judge(rate, excess_risk(rate, Rate.of(20, 2000))) for rate in (Rate.of(n, 2000) for n in (20, 150, 600))]
    ['good', 'fair', 'poor']
    """
    if success.value is None or excess.low is None or excess.high is None:
        return None
    if excess.low > HIGH:
        return "poor"
    return "fair" if excess.high > LOW else "good"


def judge_isolation(success: Rate) -> Verdict | None:
    """Return the verdict on descriptions that fit exactly one person, by their rate alone.

    In a table where classes have one person on average, a third of them has exactly one by chance, in any other table
    of such people as well. Those who are alone are isolated none the less, and one of them is enough.

    Examples
    --------
    >>> [judge_isolation(Rate.of(n, 2000)) for n in (0, 1, 600)]
    ['good', 'fair', 'poor']
    """
    if success.value is None:
        return None
    if success.low > HIGH:
        return "poor"
    return "fair" if success.successes > 0 or success.high > LOW else "good"
