"""Terms: who may ask, what for, with which algorithm, when, how often, and for how much.

A policy has terms for everybody, and each listed researcher may have terms of their own; a study must keep both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final, Literal

from synthema.governance.refusals import Reason
from synthema.steps import MODEL_PREFIX, plan
from synthema.study import Study

Approve = Literal["ask", "automatic"]

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# What a step does is a promise to those who allowed it: a change of what leaves a site is another version.
# logistic: sums are opened coarsely on the way and finely at the end, and tested from both bounds.
_VERSIONS: Final[dict[str, int]] = {"logistic": 2}
_FIRST_VERSION = 1
_MECHANISM: Final = {"anonymised": "k-anonymity", "logistic": "newton", "overlap": "buckets", "kaplan-meier": "counts"}
_PATTERN: Final = re.compile(r"(?P<step>[a-z][a-z-]*)(:(?P<mechanism>[a-z][a-z0-9-]*))?(@(?P<version>[1-9][0-9]*))?")
# The sections of a study by their own names, beside the names of the steps that they become.
_ALIASES: Final = {"anonymise": "anonymised", "synthesis": "marginals"}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What a step of a study runs: the step, its mechanism, and the version of what it does."""

    step: str
    mechanism: str
    version: int

    def __str__(self) -> str:
        """Return it as policies write it."""
        return f"{self.step}:{self.mechanism}@{self.version}"


def algorithms_of(study: Study) -> tuple[Algorithm, ...]:
    """Return the algorithms of a study, in the order in which they run: one for each step of the plan.

    Examples
    --------
    >>> from synthema.demo import demo_study
    >>> [str(each) for each in algorithms_of(demo_study())][-2:]
    ['kaplan-meier:counts@1', 'marginals:chow-liu@1']
    """
    out = []
    for step in plan(study):
        if step.name.startswith(MODEL_PREFIX):
            mechanism = study.models[step.name.removeprefix(MODEL_PREFIX)].algorithm
            out.append(Algorithm("model", mechanism, _VERSIONS.get(f"model:{mechanism}", _FIRST_VERSION)))
            continue
        mechanism = _MECHANISM.get(step.name) or (study.synthesis.mechanism if study.synthesis is not None else "none")
        out.append(Algorithm(step.name, mechanism, _VERSIONS.get(step.name, _FIRST_VERSION)))
    return tuple(out)


def check_pattern(pattern: str) -> str:
    """Return the pattern of an algorithm. Raises ValueError for what is none.

    `STEP`, `STEP:MECHANISM`, `STEP@VERSION` or all of them; what is left out is free.
    """
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"an algorithm is written step, step:mechanism or step:mechanism@version, got {pattern!r}")
    return pattern


def matches(pattern: str, algorithm: Algorithm) -> bool:
    """Return whether an algorithm is one that the pattern means.

    Examples
    --------
    >>> mst = Algorithm("marginals", "mst", 2)
    >>> [matches(each, mst) for each in ("synthesis", "marginals:mst", "marginals@1", "marginals:aim")]
    [True, True, False, False]
    """
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        return False
    step, mechanism, version = found["step"], found["mechanism"], found["version"]
    return (
        algorithm.step in (step, _ALIASES.get(step))
        and mechanism in (None, algorithm.mechanism)
        and version in (None, str(algorithm.version))
    )


@dataclass(frozen=True, slots=True)
class Window:
    """When a study may be accepted, on the site's clock and in its time zone.

    valid_from, valid_until   dates, both included; None: unbounded
    weekdays                  0 for Monday to 6; None: every day
    hours                     (from, until): until is excluded, and may lie after midnight; None: all day
    """

    valid_from: date | None = None
    valid_until: date | None = None
    weekdays: frozenset[int] | None = None
    hours: tuple[time, time] | None = None

    def is_open(self, moment: datetime) -> bool:
        """Return whether the window is open. `moment` is in the site's time zone.

        Examples
        --------
        >>> night = Window(weekdays=frozenset({4}), hours=(time(22), time(6)))
        >>> [night.is_open(datetime(2026, 1, day, hour)) for day, hour in ((2, 23), (3, 5), (3, 23), (2, 12))]
        [True, True, False, False]
        """
        day = moment.date()
        if self.hours is not None:
            start, end = self.hours
            now = moment.time()
            if start < end and not start <= now < end:
                return False
            if start >= end:
                if end <= now < start:
                    return False
                if now < end:
                    # The hours after midnight belong to the day on which the night began.
                    day = date.fromordinal(day.toordinal() - 1)
        return (
            (self.valid_from is None or day >= self.valid_from)
            and (self.valid_until is None or day <= self.valid_until)
            and (self.weekdays is None or day.weekday() in self.weekdays)
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a study must keep to. Nothing given: nothing is limited.

    purposes, purpose_words   allowed are these very purposes, and those that hold one of these words
    algorithms                patterns (see `matches`); every step of the study must be one of them; None: any
    window                    when
    epsilon_cap               what one researcher's studies may cost this table together, at the account's delta
    jobs_per_day              how many new studies of one researcher in 24 hours
    approve                   whether a study that keeps all rules still waits for a person
    automatic                 with approve = "automatic": algorithms that need no person; None: all but exact releases
    """

    purposes: tuple[str, ...] = ()
    purpose_words: tuple[str, ...] = ()
    algorithms: tuple[str, ...] | None = None
    window: Window = Window()
    epsilon_cap: float | None = None
    jobs_per_day: int | None = None
    approve: Approve = "ask"
    automatic: tuple[str, ...] | None = None

    def broken(self, study: Study, moment: datetime) -> Iterator[tuple[Reason, str]]:
        """Yield what a study breaks of purpose, algorithm and window; budget and rate are the ledger's to say."""
        if (self.purposes or self.purpose_words) and not self._allows_purpose(study.purpose):
            yield "purpose", "the study's purpose is not among those that the site allows this researcher"
        if self.algorithms is not None:
            for algorithm in algorithms_of(study):
                if not any(matches(pattern, algorithm) for pattern in self.algorithms):
                    yield "algorithm", f"the site does not allow this researcher {algorithm}"
        if not self.window.is_open(moment):
            yield "window", "the site takes no study of this researcher at this time"

    def _allows_purpose(self, purpose: str) -> bool:
        words = set(re.findall(r"\w+", purpose.casefold()))
        return purpose in self.purposes or any(word.casefold() in words for word in self.purpose_words)

    def approval(self, study: Study) -> Approve:
        """Return whether a person has to approve the study.

        Exact releases always wait for a person, unless they are listed by name.
        """
        if self.approve == "ask":
            return "ask"
        for algorithm, step in zip(algorithms_of(study), plan(study), strict=True):
            if self.automatic is None:
                if not step.is_private:
                    return "ask"
            elif not any(matches(pattern, algorithm) for pattern in self.automatic):
                return "ask"
        return "automatic"


@dataclass(frozen=True, slots=True)
class Researcher:
    """Somebody whose studies are considered: a plain name, their public key (hex), and terms of their own."""

    name: str
    key: str
    terms: Terms = Terms()
