"""What a budget buys, before anything is spent: the error that noise alone would cause, from public numbers only.

d, k       number of columns; number of cells of a marginal
n          number of patients: a public guess, not a count
sigma      scale of the discrete Gaussian noise in each cell of a marginal
error      expected sum over cells of |share with noise - share|, in [0, 2]: the L1 distance mechanisms are judged by

A cell's noise has mean absolute value sum |j| exp(-j^2 / (2 sigma^2)) / sum exp(-j^2 / (2 sigma^2)); k of them over n
are the error of the counts. Shares sum to one, which takes sqrt(1 - 1/k) of it if the shares are even. Non-negativity,
and what other marginals tell of the same columns, can only help, so the number is a ceiling of what noise does. Beyond
it there is what the model leaves out: the dependence of pairs that are not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from generators.adaptive import one_way_noise, one_way_part, rounds
from generators.domain import Clique, Domain, one_way_cliques, two_way_cliques
from generators.errors import DomainMismatch
from generators.mechanism import resolve_rho
from generators.rules import known_edges
from privacy import Schema, rho_to_epsilon
from privacy._checks import check_count
from privacy.neighbours import Neighbours, check_neighbours

Planned = Literal["independent", "chow-liu", "mst", "adaptive"]

# Errors (of a possible 2) up to which a marginal is called good, and usable.
GOOD, USABLE = 0.05, 0.25

_Noise = dict[Clique, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What n, epsilon, columns and bins buy. Nothing in it comes from rows.

    mechanism       name of the mechanism that it is about
    n_patients      the public guess of the number of rows
    epsilon, delta  the budget
    columns         1-way marginals: column -> expected error from noise alone
    pairs           2-way marginals: pair -> expected error from noise alone if it is measured; empty if none is
    noise_std       standard deviation of a cell's noise, in patients: clique -> value
    verdict         "good", "usable" or "mostly noise", by the mean error of the columns
    advice          what would help, in sentences
    """

    mechanism: str
    n_patients: int
    epsilon: float
    delta: float
    columns: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]
    noise_std: Mapping[Clique, float]
    verdict: Literal["good", "usable", "mostly noise"]
    advice: tuple[str, ...]

    @property
    def affordable_pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs whose measurement would be usable, the best first."""
        return tuple(sorted((p for p, error in self.pairs.items() if error <= USABLE), key=self.pairs.__getitem__))

    @property
    def mean_column_error(self) -> float:
        """Mean expected error of the 1-way marginals."""
        return float(np.mean(list(self.columns.values())))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return {
            "mechanism": self.mechanism,
            "n_patients": self.n_patients,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "verdict": self.verdict,
            "mean_column_error": self.mean_column_error,
            "columns": dict(self.columns),
            "pairs": [{"columns": list(pair), "error": error} for pair, error in self.pairs.items()],
            "affordable_pairs": [list(pair) for pair in self.affordable_pairs],
            "noise_std": [{"columns": list(clique), "patients": std} for clique, std in self.noise_std.items()],
            "advice": list(self.advice),
        }

    def _question(self) -> str:
        return f"{self.n_patients} patients, epsilon {self.epsilon:g}, delta {self.delta:g}, {self.mechanism}"

    def __str__(self) -> str:
        lines = [
            f"{self._question()}: {_VERDICTS[self.verdict]}",
            "",
            "Percentage of patients that noise alone puts into the wrong category, column by column:",
        ]
        width = max(len(name) for name in self.columns)
        for name, error in sorted(self.columns.items(), key=lambda item: -item[1]):
            lines.append(f"  {name:{width}}  {_percent(error)}  {_word(error)}")
        if self.pairs:
            lines.append(
                f"Of {len(self.pairs)} pairs of columns, {len(self.affordable_pairs)} could be measured to a usable "
                f"precision ({_percent(USABLE).strip()} or less in the wrong cell)."
            )
        lines += [f"- {sentence}" for sentence in self.advice]
        return "\n".join(lines)


_VERDICTS = {
    "good": "noise will hardly be visible in single columns.",
    "usable": "single columns will be usable, with visible noise.",
    "mostly noise": "WARNING: the table will be mostly noise.",
}


def plan(
    schema: Schema,
    *,
    n: int,
    epsilon: float,
    delta: float,
    mechanism: Planned = "adaptive",
    neighbours: Neighbours = "add_remove_one",
    max_records_per_patient: int = 1,
) -> Plan:
    """Return what this budget would buy for about `n` patients. Spends nothing and sees no row.

    Parameters
    ----------
    schema
        The public description.
    n
        A public guess of the number of rows, >= 1. The exact number of a private table is private itself.
    epsilon, delta
        The budget.
    mechanism
        Name of the mechanism: its `name`.
    neighbours, max_records_per_patient
        As for the mechanism.

    Raises
    ------
    BudgetInvalid
        If the budget buys nothing.
    DomainMismatch
        If there is no plan for such a mechanism, or the schema has no column to generate.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {
    ...     "sex": {"categories": ["F", "M"]},
    ...     "age": {"kind": "integer", "bounds": [0, 110], "edges": [20, 40, 60, 80]}}})
    >>> small = plan(schema, n=200, epsilon=0.1, delta=1e-9, mechanism="independent")
    >>> small.verdict, round(small.columns["sex"], 2)
    ('mostly noise', 0.42)
    >>> print(plan(schema, n=20_000, epsilon=1.0, delta=1e-9, mechanism="independent"))
    20000 patients, epsilon 1, delta 1e-09, independent: noise will hardly be visible in single columns.
    <BLANKLINE>
    Percentage of patients that noise alone puts into the wrong category, column by column:
      age   0.1 %  good
      sex   0.0 %  good
    """
    check_count("n", n)
    check_count("max_records_per_patient", max_records_per_patient)
    check_neighbours(neighbours)
    if mechanism not in _NOISE:
        raise DomainMismatch(f"no plan is known for {mechanism!r}; known: {', '.join(_NOISE)}")
    rho = resolve_rho(epsilon, delta, None)
    domain = Domain.from_schema(schema)
    unit = max_records_per_patient * (1.0 if neighbours == "add_remove_one" else math.sqrt(2))
    noise = _NOISE[mechanism](domain, len(known_edges(schema)), n, rho, unit)
    errors = {clique: noise_error(domain.cells(clique), std, n) for clique, std in noise.items()}
    columns = {clique[0]: error for clique, error in errors.items() if len(clique) == 1}
    mean = float(np.mean(list(columns.values())))
    verdict: Literal["good", "usable", "mostly noise"] = (
        "good" if mean <= GOOD else "usable" if mean <= USABLE else "mostly noise"
    )
    return Plan(
        mechanism=mechanism,
        n_patients=n,
        epsilon=epsilon,
        delta=delta,
        columns=columns,
        pairs={(clique[0], clique[1]): error for clique, error in errors.items() if len(clique) == 2},
        noise_std=noise,
        verdict=verdict,
        advice=() if verdict == "good" else _advice(domain, columns, noise, n, rho, delta),
    )


def mean_absolute_noise(scale: float) -> float:
    """Return E|K| of discrete Gaussian noise K.

    Examples
    --------
    >>> round(mean_absolute_noise(0.5), 6), round(mean_absolute_noise(100.0) / math.sqrt(2 / math.pi), 3)
    (0.213957, 99.999)
    """
    if scale > 30:
        # Euler and Maclaurin: sum j exp(-j^2 / 2 s^2) over j >= 1 is s^2 - 1/12, next term below 1e-3 / s^2.
        return (2 * scale * scale - 1 / 6) / (scale * math.sqrt(2 * math.pi))
    steps = np.arange(1, math.ceil(12 * scale) + 3, dtype=np.float64)
    mass = np.exp(-0.5 * np.square(steps / scale))
    return float(2 * (steps * mass).sum() / (1 + 2 * mass.sum()))


def noise_error(cells: int, noise_std: float, n: float) -> float:
    """Return the expected L1 error of a marginal's shares from noise alone, at most 2.

    Examples
    --------
    >>> round(noise_error(10, 20.0, 1000), 3)
    0.151
    """
    return min(2.0, math.sqrt(1 - 1 / cells) * cells * mean_absolute_noise(noise_std) / n)


def _independent(domain: Domain, n_known: int, _n: int, rho: float, unit: float) -> _Noise:
    std = unit * math.sqrt((len(domain) + n_known) / (2 * rho))
    return dict.fromkeys(one_way_cliques(domain), std)


def _chow_liu(domain: Domain, _n_known: int, _n: int, rho: float, unit: float) -> _Noise:
    pairs = two_way_cliques(domain)
    std = unit * math.sqrt((len(domain) + len(pairs)) / (2 * rho))
    out: _Noise = {}
    for name in domain:
        # The column itself, and its sums in the pairs: each over the other column's codes.
        weight = 1 + math.fsum(1 / domain[other] for other in domain if other != name)
        out[name,] = std / math.sqrt(weight)
    return out | dict.fromkeys(pairs, std)


def _mst(domain: Domain, _n_known: int, _n: int, rho: float, unit: float) -> _Noise:
    d = len(domain)
    part = rho / (3 if d > 1 else 1)
    ones = dict.fromkeys(one_way_cliques(domain), unit * math.sqrt(d / (2 * part)))
    return ones | dict.fromkeys(two_way_cliques(domain), unit * math.sqrt(max(d - 1, 1) / (2 * part)))


def _adaptive(domain: Domain, _n_known: int, n: int, rho: float, unit: float) -> _Noise:
    part = one_way_part(one_way_noise(domain, n=n, rho=rho, noise_unit=unit))
    roots = {clique: math.sqrt(domain.cells(clique)) for clique in one_way_cliques(domain)}
    whole = math.fsum(roots.values())
    out = {clique: unit / math.sqrt(2 * rho * part * root / whole) for clique, root in roots.items()}
    if part < 1:
        # One round's budget, and as much again at the end: what a found pair has in the middle of the search.
        std = unit / math.sqrt(2 * 0.9 * rho * (1 - part) / rounds(domain))
        out |= dict.fromkeys(two_way_cliques(domain), std)
    return out


_NOISE: dict[str, Callable[[Domain, int, int, float, float], _Noise]] = {
    "independent": _independent,
    "chow-liu": _chow_liu,
    "mst": _mst,
    "adaptive": _adaptive,
}


def _advice(
    domain: Domain, columns: Mapping[str, float], noise: _Noise, n: int, rho: float, delta: float
) -> tuple[str, ...]:
    """Return sentences on what would bring the mean error down to `GOOD`, or near."""
    factor = float(np.mean(list(columns.values()))) / GOOD
    # The error falls with n and with the square root of rho; with the number of columns, as its square root.
    out = [
        f"More patients, from more sites: about {_round_up(n * factor)} would make the single columns good.",
        f"A larger epsilon: about {rho_to_epsilon(rho * factor**2, delta=delta):.2g} would do so for these patients.",
    ]
    worst = max(columns, key=lambda name: (columns[name], domain[name]))
    if domain[worst] > 4:
        fewer = max(4, int(domain[worst] / 3))
        before, after = (_percent(noise_error(k, noise[worst,], n)).strip() for k in (domain[worst], fewer))
        out.append(
            f"Fewer bins: {worst} has {domain[worst]} codes; with {fewer}, its error would fall from {before} to about "
            f"{after}."
        )
    if len(domain) > 4:
        half = len(domain) // 2
        out.append(
            f"Fewer columns: with the {half} that the question needs instead of {len(domain)}, all errors "
            f"become smaller by {100 * (1 - math.sqrt(half / len(domain))):.0f} %."
        )
    return tuple(out)


def _round_up(value: float) -> int:
    step: int = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return math.ceil(value / step) * step


def _percent(error: float) -> str:
    # Half of the L1 distance is the part of the patients that would have to move.
    return f"{50 * error:4.1f} %"


def _word(error: float) -> str:
    return "good" if error <= GOOD else "usable" if error <= USABLE else "mostly noise"
