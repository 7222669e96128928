"""All attacks on one synthetic table, each beside the same attack on a table that leaks all and on a harmless one.

total leak  all real rows, repeated until there are as many as synthetic ones: what the attack finds where everything is
            there to be found. An attack that finds little here is blind, not the table safe
harmless    real and control rows together, every column shuffled by itself: nobody's row is in it, and seen and unseen
            people are alike to it, so that an excess is chance (without control: the real rows shuffled)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from generators.attacks.closest import ClosestRecords, closest_records
from generators.attacks.inference import TOLERANCE, inference
from generators.attacks.linkability import Halves, linkability
from generators.attacks.membership import MembershipResult, membership
from generators.attacks.results import AttackResult
from generators.attacks.singling_out import singling_out
from generators.attacks.table import IntArray, Rows
from privacy import Schema
from privacy._checks import check_count, check_probability
from privacy._rates import CONFIDENCE, Rate, excess_risk

Finding = AttackResult | MembershipResult | ClosestRecords

INTERNAL = (
    "INTERNAL: computed on private rows without noise. It stays where the rows are; given out repeatedly, such figures "
    "help to reconstruct records."
)


@dataclass(frozen=True, slots=True)
class AttackSuite:
    """What every attack found on one table. INTERNAL.

    inference   one result for each secret column
    membership  None without a control of at least four rows
    """

    univariate: AttackResult
    multivariate: AttackResult
    linkability: AttackResult
    inference: tuple[AttackResult, ...]
    membership: MembershipResult | None
    closest: ClosestRecords

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All results in order."""
        first = (self.univariate, self.multivariate, self.linkability, *self.inference)
        return (*first, *((self.membership,) if self.membership else ()), self.closest)

    @property
    def worst_inference(self) -> AttackResult:
        """The secret column with the largest risk, its intervals widened for having been picked (Bonferroni)."""
        worst = max(self.inference, key=lambda result: -np.inf if result.risk.value is None else result.risk.value)
        confidence = 1 - (1 - CONFIDENCE) / len(self.inference)
        success, baseline = (_at(rate, confidence) for rate in (worst.success, worst.baseline))
        control = None if worst.control is None else _at(worst.control, confidence)
        return replace(
            worst,
            success=success,
            baseline=baseline,
            control=control,
            risk=excess_risk(success, control or baseline),
            notes=(*worst.notes, f"the worst of {len(self.inference)} columns; intervals allow for the choice"),
        )


def _at(rate: Rate, confidence: float) -> Rate:
    return Rate.of(rate.successes, rate.attempts, confidence=confidence)


@dataclass(frozen=True, slots=True)
class PrivacyAttacks:
    """What the attacks found on the synthetic table, and on the two tables that are understood. INTERNAL.

    total_leak, harmless   None if no rulers were asked for
    """

    synthetic: AttackSuite
    total_leak: AttackSuite | None
    harmless: AttackSuite | None
    has_control: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about all figures."""
        without = (
            "Without a control group a risk counts all that the table teaches about anyone, also what is true of the "
            "whole population; and membership cannot be measured. Keep some rows from the generator to get both."
        )
        return (
            INTERNAL,
            "These attacks can show that a table leaks; none of them can show that it does not.",
            *(() if self.has_control else (without,)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: each finding with its meaning and, where there are rulers, the same on both of them."""
        suites = {"total_leak": self.total_leak, "harmless": self.harmless}
        rulers = {name: [f.to_dict() for f in suite.findings] for name, suite in suites.items() if suite is not None}
        findings = []
        for i, finding in enumerate(self.synthetic.findings):
            beside = {name: of_suite[i] for name, of_suite in rulers.items()}
            findings.append({**finding.to_dict(), "rulers": beside})
        return {
            "internal": True,
            "has_control": self.has_control,
            "findings": findings,
            "worst_inference": self.synthetic.worst_inference.to_dict(),
            "notes": list(self.notes),
        }


def privacy_attacks(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    *,
    control: pd.DataFrame | None = None,
    schema: Schema,
    n_attacks: int = 2000,
    n_columns: int = 3,
    halves: Halves | None = None,
    n_neighbours: int = 1,
    secrets: Iterable[str] | None = None,
    tolerance: float = TOLERANCE,
    ruler_attacks: int | None = 500,
    rng: np.random.Generator | None = None,
) -> PrivacyAttacks:
    """Attack a synthetic table. INTERNAL: reads real rows, and its figures are not noised.

    Parameters
    ----------
    real
        The rows that the generator saw.
    synthetic
        The table it made.
    control
        Rows of the same population that it never saw: without them, what is true of everyone looks like a leak.
    schema
        Says which columns are compared, and how: identifiers and free texts are left out.
    n_attacks
        Targets, or predicates, of each attack; each result says how many were made.
    n_columns
        Columns in a multivariate singling-out predicate.
    halves
        Two disjoint lists of columns for linkability; None: every other column.
    n_neighbours
        Synthetic rows that linkability looks at for each half.
    secrets
        Columns to infer; None: each.
    tolerance
        Relative error up to which an inferred number counts as right.
    ruler_attacks
        As `n_attacks`, on each of the two rulers; None: no rulers.
    rng
        Draws targets and predicates; no protection depends on it. None: fresh.

    Raises
    ------
    SchemaError
        If a table lacks a column or holds what the schema does not allow: all problems of the table.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"kind": "integer", "bounds": [0, 110]}, "wbc": {"kind": "continuous", "bounds": [0, 500]},
    ...     "sex": {"categories": ["F", "M"]}}})
    >>> rng = np.random.default_rng(1)
    >>> table = pd.DataFrame({"age": rng.integers(0, 110, 400), "wbc": rng.gamma(2, 20, 400).clip(0, 500),
    ...                       "sex": rng.choice(["F", "M"], 400)})
    >>> options = {"control": table[200:], "schema": schema, "n_attacks": 100, "ruler_attacks": 100, "rng": rng}
    >>> found = privacy_attacks(table[:200], table[:200], **options)
    >>> found.synthetic.membership.auc > 0.9, found.harmless.membership.auc < 0.7
    (True, True)
    >>> found.synthetic.multivariate.risk.low > 0.5
    True
    """
    check_count("n_attacks", n_attacks)
    check_count("n_columns", n_columns)
    check_count("n_neighbours", n_neighbours)
    check_probability("tolerance", tolerance)
    if ruler_attacks is not None:
        check_count("ruler_attacks", ruler_attacks)
    rng = np.random.default_rng() if rng is None else rng
    seen, made = Rows.of(real, schema), Rows.of(synthetic, schema)
    unseen = None if control is None else Rows.of(control, schema)
    columns = None if secrets is None else tuple(secrets)

    def attack(table: Rows, attacks: int) -> AttackSuite:
        tables = (seen, table, unseen)
        enough = unseen is not None and len(unseen) >= 4
        return AttackSuite(
            univariate=singling_out(*tables, mode="univariate", n_attacks=attacks, rng=rng),
            multivariate=singling_out(*tables, n_attacks=attacks, n_columns=n_columns, rng=rng),
            linkability=linkability(*tables, halves=halves, n_attacks=attacks, n_neighbours=n_neighbours, rng=rng),
            inference=inference(*tables, secrets=columns, n_attacks=attacks, tolerance=tolerance, rng=rng),
            membership=membership(seen, table, unseen, n_attacks=attacks, rng=rng) if unseen and enough else None,
            closest=closest_records(*tables, n_attacks=attacks, rng=rng),
        )

    leak = harmless = None
    if ruler_attacks is not None:
        leak = attack(seen.take(_again(len(seen), max(len(seen), len(made)), rng)), ruler_attacks)
        pool = seen if unseen is None else seen.joined(unseen)
        harmless = attack(pool.shuffled(rng=rng).take(_again(len(pool), len(made), rng)), ruler_attacks)
    return PrivacyAttacks(attack(made, n_attacks), leak, harmless, unseen is not None)


def _again(n_rows: int, n_wanted: int, rng: np.random.Generator) -> IntArray:
    """Return positions of `n_wanted` rows: every row as often as any other, up to one."""
    rounds = -(-n_wanted // n_rows)
    return np.concatenate([rng.permutation(n_rows) for _ in range(rounds)])[:n_wanted]
