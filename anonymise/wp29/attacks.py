"""The attacks: each takes people (or released rows) at random and tries, with the release alone, to learn of them.

n, N      rows of the raw and of the released table
R(x)      released rows whose cells can stand for what the attacker knows of a person, x
singling out   a released row's cells are a predicate; it succeeds if exactly one raw row meets it. The attacker takes
               all cells of the row, because each further condition isolates better and none is wrong. Rows of a class
               are one predicate: the interval of the excess is that of as many different ones as tell as much
two halves     two data sets hold the parts a and b of a person's columns; each names one row at random of R(a), R(b).
               They name the same one with probability |R(a and b)| / (|R(a)| |R(b)|), which is taken instead of a draw
register       somebody who knows all of x names one row of R(x); right with probability 1 / |R(x)|. This is the upper
               bound, because the person's own row may have been left out
inference      the commonest secret in R(x), one of equals at random; the commonest of the release where R(x) is empty
Sources: Giomi, Boenisch, Wehmeyer, Tasnadi 2023, PoPETs 2023(2), arXiv:2211.10459, section 4; Cohen, Nissim 2020,
PNAS 117:8344 (predicates that single out); Article 29 Working Party 2014, Opinion 05/2014 (WP216), section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anonymise.classes import FloatArray, IntArray
from anonymise.wp29.cells import Cells, named
from anonymise.wp29.matching import count_fitting, distinct_asked, guess_right
from anonymise.wp29.results import LOW, Wp29Attack, judge, judge_isolation
from privacy._formats import listing, percent
from privacy._rates import Rate, Risk, excess_risk
from privacy._table_size import rate_at_size


def single_out(
    cells: Sequence[Cells], *, beyond_known: bool = False, n_attacks: int, rng: np.random.Generator
) -> Wp29Attack:
    """Attack with the cells of random released rows as predicates.

    beyond_known   the cells include columns that no outsider is assumed to know: the verdict is at worst "fair"
    """
    rows = _some(cells[0].labels.size, n_attacks, rng)
    predicates = [cell.labels[rows] for cell in cells]
    raw, control = [cell.values for cell in cells], _control(cells)
    found = count_fitting(cells, predicates, raw, labels_asked=True)
    isolated = found == 1
    success = Rate.of(int(isolated.sum()), rows.size)
    guesses = [rng.choice(np.unique(cell.labels), size=rows.size) for cell in cells]
    by_guess = count_fitting(cells, guesses, raw, labels_asked=True)
    guess = Rate.of(int((by_guess == 1).sum()), rows.size)
    worth = effective_tries(cells, predicates)
    seen, notes = None, []
    if control is not None:
        others = count_fitting(cells, predicates, control, labels_asked=True)
        seen = _worth(rate_at_size(others, control[0].size, raw[0].size, rng=rng), worth)
        if control[0].size != raw[0].size:
            notes.append("the control's rate is taken to the raw table's number of rows")
    reference = _worth(guess, effective_tries(cells, guesses)) if seen is None else seen
    excess = excess_risk(_worth(success, worth), reference)
    if excess.low is not None and excess.high is not None:
        # (s - c) / (1 - c) <= s, and s is known by the rows alone.
        excess = Risk(excess.value, excess.low, min(excess.high, success.high))
    verdict = judge_isolation(success)
    untrue = float((found == 0).mean())
    if untrue > 0:
        notes.append(
            f"{percent(untrue)} of the released rows fit nobody in the raw table: values were changed and not only "
            "generalised, which these attacks do not undo"
        )
        # A row that describes nobody may describe somebody by chance, so here the reference decides.
        verdict = judge(success, excess)
        verdict = None if verdict == "good" else verdict
    if beyond_known:
        verdict = "fair" if verdict == "poor" else verdict
        notes.append("it takes somebody who knows columns that the schema does not expect an outsider to know")
    return Wp29Attack(
        criterion="singling out",
        name="all columns" if beyond_known else "known columns",
        columns=named(cells),
        success=success,
        guess=guess,
        control=seen,
        excess=excess,
        verdict=verdict,
        what=f"A released row's {listing(named(cells))} together, tried as a description of exactly one patient.",
        notes=tuple(notes),
    )


def link_halves(
    first: Sequence[Cells], second: Sequence[Cells], *, n_attacks: int, rng: np.random.Generator
) -> Wp29Attack:
    """Attack people of whom two data sets hold different columns."""
    both = [*first, *second]
    labels = [cell.labels for cell in both]

    def attack(people: Sequence[IntArray]) -> Rate:
        chosen = _some(people[0].size, n_attacks, rng)
        asked = [codes[chosen] for codes in people]
        split = len(first)
        a, b, ab = (
            count_fitting(both[part], asked[part], labels[part], labels_asked=False)
            for part in (slice(0, split), slice(split, None), slice(None))
        )
        linked = ab / np.maximum(a.astype(np.float64) * b, 1.0)
        return Rate.of(min(float(linked.sum()), chosen.size), chosen.size)

    success = attack([cell.values for cell in both])
    others = _control(both)
    seen = None if others is None else attack(others)
    guess = Rate.of(success.attempts / labels[0].size, success.attempts)
    excess = excess_risk(success, guess if seen is None else seen)
    return Wp29Attack(
        criterion="linkability",
        name="two halves",
        columns=named(both),
        success=success,
        guess=guess,
        control=seen,
        excess=excess,
        verdict=judge(success, excess),
        what=(
            f"One data set has a person's {listing(named(first))}, another one {listing(named(second))}; the release "
            "is used to tie them together by one row."
        ),
        notes=_few(seen, success),
    )


def match_register(cells: Sequence[Cells], *, n_attacks: int, rng: np.random.Generator) -> Wp29Attack:
    """Attack people of whom a register holds all columns that the attacker knows (the prosecutor's attack)."""
    people = _some(cells[0].values.size, n_attacks, rng)
    labels = [cell.labels for cell in cells]
    fitting = count_fitting(cells, [cell.values[people] for cell in cells], labels, labels_asked=False)
    right: FloatArray = np.where(fitting > 0, 1.0 / np.maximum(fitting, 1), 0.0)
    success = Rate.of(min(float(right.sum()), people.size), people.size)
    guess = Rate.of(people.size / labels[0].size, people.size)
    excess = excess_risk(success, guess)
    verdict = judge(success, excess)
    notes = ["an upper bound where rows were left out"] if labels[0].size < cells[0].values.size else []
    tied = np.sort(fitting[fitting > 0])
    if tied.size and float(tied.mean()) < (1 - LOW) * labels[0].size:
        # WP216, section 2.2: whoever ties records to a group without telling apart its members has linked them.
        notes.append(
            f"half of the people are tied to a group of at most {tied[(tied.size - 1) // 2]:,} released rows; the "
            "opinion calls that linkability too, so this is never a low risk"
        )
        verdict = "fair" if verdict == "good" else verdict
    return Wp29Attack(
        criterion="linkability",
        name="register",
        columns=named(cells),
        success=success,
        guess=guess,
        control=None,
        excess=excess,
        verdict=verdict,
        what=f"A register has names with {listing(named(cells))}; each person is matched to one row that fits.",
        notes=tuple(notes),
    )


def infer(cells: Sequence[Cells], secret: Cells, *, n_attacks: int, rng: np.random.Generator) -> Wp29Attack:
    """Attack people of whom all but the secret is known."""
    labels = [cell.labels for cell in cells]

    def attack(people: Sequence[IntArray], truth: IntArray) -> tuple[Rate, Rate]:
        chosen = _some(truth.size, n_attacks, rng)
        asked = [codes[chosen] for codes in people]
        right, without = guess_right(cells, asked, labels, secret, truth[chosen])
        return (
            Rate.of(min(float(right.sum()), chosen.size), chosen.size),
            Rate.of(min(float(without.sum()), chosen.size), chosen.size),
        )

    success, guess = attack([cell.values for cell in cells], secret.values)
    others = _control(cells)
    seen = None
    if others is not None and secret.control is not None:
        seen, _ = attack(others, secret.control)
    excess = excess_risk(success, guess if seen is None else seen)
    notes = list(_few(seen, success))
    if seen is None:
        notes.append(
            "without people who are not in the table, what is true of everybody like them counts as inference too"
        )
    return Wp29Attack(
        criterion="inference",
        name=secret.name,
        columns=named(cells),
        success=success,
        guess=guess,
        control=seen,
        excess=excess,
        verdict=judge(success, excess),
        what=(
            f"Knowing {listing(named(cells))}, the attacker takes the commonest {secret.name} of the released rows "
            "that fit."
        ),
        notes=tuple(notes),
    )


def effective_tries(cells: Sequence[Cells], predicates: Sequence[IntArray]) -> int:
    """Return how many different predicates tell as much as these, of which some repeat (Kish: n^2 / sum of squares).

    Rows of one class have one predicate, which isolates in all tries or in none.
    """
    _, place = distinct_asked(cells, predicates, labels=True)
    repeats = np.bincount(place).astype(np.float64)
    return max(1, int(repeats.sum() ** 2 / (repeats @ repeats)))


def _worth(rate: Rate, tries: int) -> Rate:
    """Return the same rate with the interval of at most so many tries."""
    n = min(rate.attempts, tries)
    return Rate.of((rate.value or 0.0) * n, n)


def _control(cells: Sequence[Cells]) -> list[IntArray] | None:
    found = [cell.control for cell in cells if cell.control is not None]
    return found if len(found) == len(cells) else None


def _some(n: int, n_attacks: int, rng: np.random.Generator) -> IntArray:
    """Return the places of so many of n rows at random, without repetition; of all if there are fewer."""
    if n <= n_attacks:
        return np.arange(n, dtype=np.int64)
    return np.asarray(rng.choice(n, size=n_attacks, replace=False), dtype=np.int64)


def _few(seen: Rate | None, success: Rate) -> tuple[str, ...]:
    if seen is None or seen.attempts >= success.attempts:
        return ()
    return (f"the control has {seen.attempts:,} people, which widens the interval of what the release adds",)
