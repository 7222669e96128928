"""Trying to break a mechanism: many runs on two neighbouring tables, told apart by all that it answered.

transcript   every answer that a mechanism got from its oracle, in order: the rest of what it does is post-processing
L            log likelihood ratio of a transcript, table against its neighbour: nothing computed from a transcript tells
             the two apart better (Neyman, Pearson)

A measurement with noise of standard deviation s adds sum ((y - c_out)^2 - (y - c_in)^2) / 2 s^2 to L, and a selection
log P_in(chosen) - log P_out(chosen) of its exponential mechanism; both with the noise and the sensitivity that are
claimed, so L is the best statistic for a mechanism that is what it says, and nearly the best for one that is not.
`privacy.auditing` turns the values of L into a bound that holds with the stated confidence.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.errors import BudgetInvalid
from generators.grouping import Groups, check_groups, merge_codes
from generators.marginals import count_marginal
from generators.mechanism import Mechanism
from generators.oracle import LocalTableOracle, MarginalOracle, Measurement
from privacy import Event, Rng, Schema, rho_of
from privacy.auditing import Audit, audit
from privacy.neighbours import Neighbours

FloatArray = npt.NDArray[np.float64]
Oracle = Callable[[pd.DataFrame, Schema, Neighbours, Rng], MarginalOracle]

# A run ends once so much of the budget is spent: what follows asks nothing more.
_ALL = 1 - 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A private choice: what was asked, and the answer."""

    candidates: tuple[Clique, ...]
    estimates: tuple[FloatArray, ...]
    epsilon: float
    weights: tuple[int, ...]
    penalties: tuple[float, ...]
    groups: Groups
    chosen: int


Answer = Measurement | Selection


class _Spent(Exception):
    """The budget is spent."""


class _Recorder:
    """Passes questions on to an oracle and keeps the answers; stops the mechanism at its last one."""

    def __init__(self, oracle: MarginalOracle, *, rho: float, stop: bool) -> None:
        self._oracle = oracle
        self._rho = rho
        self._stop = stop
        self.domain = oracle.domain
        self.neighbours: Neighbours = oracle.neighbours
        self.events: list[Event] = []
        self.answers: list[Answer] = []

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return the oracle's answer."""
        before = len(self._oracle.events)
        measured = self._oracle.measure(cliques, rho=rho, groups=groups)
        self.answers += measured
        self._note(before)
        return measured

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[FloatArray],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """Return the oracle's answer."""
        before = len(self._oracle.events)
        chosen = self._oracle.select(
            candidates, estimates, epsilon=epsilon, weights=weights, penalties=penalties, groups=groups
        )
        n = len(candidates)
        self.answers.append(
            Selection(
                candidates=tuple(candidates),
                estimates=tuple(estimates),
                epsilon=epsilon,
                weights=tuple(weights or [1] * n),
                penalties=tuple(penalties or [0.0] * n),
                groups=check_groups(groups, self.domain),
                chosen=chosen,
            )
        )
        self._note(before)
        return chosen

    def _note(self, before: int) -> None:
        self.events += self._oracle.events[before:]
        spent = math.fsum(rho_of(event) for event in self.events)
        if spent > self._rho:
            raise BudgetInvalid("the mechanism spends more than its budget")
        if self._stop and spent >= _ALL * self._rho:
            raise _Spent


def local(frame: pd.DataFrame, schema: Schema, neighbours: Neighbours, rng: Rng) -> MarginalOracle:
    """Return the oracle that `Mechanism.fit` makes of a frame."""
    return LocalTableOracle(frame, schema, neighbours=neighbours, rng=rng)


def audit_mechanism(
    mechanism: Mechanism,
    schema: Schema,
    table_in: pd.DataFrame,
    table_out: pd.DataFrame,
    *,
    n_runs: int,
    delta: float = 0.0,
    confidence: float = 0.99,
    oracle: Oracle = local,
    rng: Rng | None = None,
) -> Audit:
    """Run a mechanism `n_runs` times on each of two neighbouring tables and bound its privacy from below.

    Parameters
    ----------
    mechanism
        With its budget. A run ends with the last answer that the budget pays for: nothing is fitted, so a run takes
        about a millisecond on a table of few cells.
    schema
        The public description of both tables.
    table_in, table_out
        Neighbours under the mechanism's relation: the worst that one can think of. Public or made up.
    n_runs, delta, confidence, rng
        As for `privacy.auditing.audit`; give at least 300 runs.
    oracle
        Makes the oracle of a table: the one to be audited.

    Raises
    ------
    BudgetInvalid
        If the mechanism spends more than its budget.

    Examples
    --------
    >>> from generators import Independent
    >>> from privacy import InsecureSeededRng
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> table = pd.DataFrame({"sex": ["F"] * 5 + ["M"] * 6})
    >>> found = audit_mechanism(
    ...     Independent(rho=0.5), schema, table, table[1:], n_runs=1000, rng=InsecureSeededRng(1))
    >>> 0.5 < found.gaussian_dp_lower < 1.0
    True
    """
    tables = (table_in, table_out)
    domain = Domain.from_schema(schema)
    codes = [encode(table, schema) for table in tables]
    known: dict[tuple[int, Clique], npt.NDArray[np.int64]] = {}
    made: dict[int, MarginalOracle] = {}

    def counts(side: int, clique: Clique) -> npt.NDArray[np.int64]:
        if (side, clique) not in known:
            known[side, clique] = count_marginal(codes[side], domain, clique)
        return known[side, clique]

    def run(side: int, source: Rng) -> float:
        if side not in made:
            made[side] = oracle(tables[side], schema, mechanism.neighbours, source)
            # One run to its end: whatever it asks after its budget is spent is refused.
            mechanism.fit(None, schema, oracle=_Recorder(made[side], rho=mechanism.rho, stop=False))
        answers = transcript(mechanism, schema, made[side])
        made[side].events.clear()
        ratio = log_ratio(
            answers,
            lambda clique: counts(0, clique),
            lambda clique: counts(1, clique),
            sensitivity=1 if mechanism.neighbours == "add_remove_one" else 2,
        )
        # Ties are broken at random: then rules are thresholds of L, and no sets of the few values that noisy integers
        # give, among which a good one is hard to find.
        return ratio + 1e-9 * float(source.below(1 << 30, 1)[0]) / (1 << 30)

    return audit(run, 0, 1, n_runs=n_runs, delta=delta, confidence=confidence, rng=rng)


def transcript(mechanism: Mechanism, schema: Schema, oracle: MarginalOracle) -> list[Answer]:
    """Return all that a run of the mechanism learns from the oracle, without fitting a model."""
    recorder = _Recorder(oracle, rho=mechanism.rho, stop=True)
    with contextlib.suppress(_Spent):
        mechanism.fit(None, schema, oracle=recorder)
    return recorder.answers


def log_ratio(
    answers: Sequence[Answer],
    counts_in: Callable[[Clique], npt.NDArray[np.int64]],
    counts_out: Callable[[Clique], npt.NDArray[np.int64]],
    *,
    sensitivity: int = 1,
) -> float:
    """Return the log likelihood ratio of a transcript, from the exact counts of both tables.

    `sensitivity` is what selections claim for a weight of one: 1 under add_remove_one, 2 under replace_one.
    """
    ratio = 0.0
    for answer in answers:
        if isinstance(answer, Measurement):
            groups = {
                name: group for name, group in zip(answer.columns, answer.groups, strict=False) if group is not None
            }
            inside, outside = (
                merge_codes(counts(answer.columns), answer.columns, groups) for counts in (counts_in, counts_out)
            )
            squares = np.square(answer.values - outside) - np.square(answer.values - inside)
            ratio += float(squares.sum()) / (2 * answer.noise_std**2)
        else:
            rate = answer.epsilon / (2 * max(answer.weights) * sensitivity)
            ratio += _log_chance(answer, rate, counts_in) - _log_chance(answer, rate, counts_out)
    return ratio


def _log_chance(answer: Selection, rate: float, counts: Callable[[Clique], npt.NDArray[np.int64]]) -> float:
    scores = np.array(
        [
            weight * (np.abs(merge_codes(counts(clique), clique, answer.groups) - estimate).sum() - penalty)
            for clique, estimate, weight, penalty in zip(
                answer.candidates, answer.estimates, answer.weights, answer.penalties, strict=True
            )
        ]
    )
    scaled = rate * (scores - scores.max())
    return float(scaled[answer.chosen] - np.log(np.exp(scaled).sum()))
