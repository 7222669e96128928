"""What a study released: the only input of the shared report.

Every value here was paid for in the sites' ledgers (noisy values), opened under their exact policy (and marked so), or
is public (names, grids, labels). Nothing here holds a row, and nothing is computed from rows when the report is
rendered.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

StepKind = Literal["private", "exact"]


@dataclass(frozen=True, slots=True)
class StepCost:
    """One step of a study: what each site paid, and what the network carried.

    rho, epsilon_alone   what each site paid; None for an exact release, which no epsilon covers
    bytes_sent           by all compute parties together in the protocol rounds
    bytes_input          shares that the sites sent to the compute parties
    dealer_bytes         Beaver triples' seeds and corrections
    triples              elementwise products prepared by the dealer
    """

    step: str
    what: str
    kind: StepKind
    rho: float | None
    epsilon_alone: float | None
    rounds: int
    bytes_sent: int
    bytes_input: int
    dealer_bytes: int
    triples: int


@dataclass(frozen=True, slots=True)
class SiteAccount:
    """A site's ledger after the study."""

    site: str
    epsilon_cap: float
    delta_cap: float
    epsilon_spent: float
    rho_spent: float
    rho_left: float
    exact_releases: tuple[str, ...]
    entries: int
    head: str


@dataclass(frozen=True, slots=True)
class OverlapCheck:
    """The noisy number of pseudonym buckets that more than the allowed number of sites hold."""

    allowed_sites: int
    noisy_count: int
    noise_std: float
    threshold: float
    n_buckets: int
    below_threshold: bool


@dataclass(frozen=True, slots=True)
class AnonymisedSite:
    """One site's k-anonymous table, described by what the table itself shows."""

    site: str
    k: int
    levels: tuple[tuple[str, int, int], ...]
    """(column, level chosen, highest level) of each quasi-identifier."""
    smallest_class: int
    largest_risk: float
    average_risk: float
    optimal: bool


@dataclass(frozen=True, slots=True)
class SurvivalStep:
    """One interval of the public grid; None marks a cell that was not opened.

    start_day, end_day          the interval (start, end]
    at_risk                     patients under observation at the start
    events                      deaths in the interval
    survival_low, survival_high survival at the end: equal where everything that matters was opened, else the
                                narrowest bracket that the opened cells allow; None after the last opened cell
    """

    start_day: int
    end_day: int
    at_risk: int | None
    events: int | None
    survival_low: float | None
    survival_high: float | None


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """A Kaplan-Meier curve of one group on the public grid, exact counts."""

    group: str
    steps: tuple[SurvivalStep, ...]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One term of the logistic model: log odds ratio, standard error."""

    term: str
    estimate: float
    std_error: float


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A joint logistic model. `iterations` Newton steps; only their score and information were opened."""

    outcome: str
    coefficients: tuple[Coefficient, ...]
    iterations: int


@dataclass(frozen=True, slots=True)
class ModelResult:
    """A joint model: what was asked (`spec`) and what came of it (`answer`), as the model's kind writes them."""

    name: str
    kind: str
    mode: Literal["exact", "private"]
    what: str
    spec: dict[str, Any]
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column: measured noisy counts beside the synthetic table's counts (another total)."""

    column: str
    labels: tuple[str, ...]
    noisy_counts: tuple[int, ...]
    noise_std: float
    synthetic_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairComparison:
    """One pair of columns: L1 distance of the noisy and the synthetic marginal, and what noise alone would give.

    joined: whether the model's tree joins the pair directly.
    """

    columns: tuple[str, str]
    distance: float
    noise_only: float
    joined: bool


@dataclass(frozen=True, slots=True)
class SyntheticTable:
    """The synthetic table, compared with the noisy marginals it was fitted to."""

    rows: int
    mechanism: str
    columns: tuple[ColumnComparison, ...]
    pairs: tuple[PairComparison, ...]
    survival: tuple[SurvivalCurve, ...]
    """Kaplan-Meier of the synthetic patients, same groups and grid as the released curves; counts are synthetic."""


@dataclass(frozen=True, slots=True)
class Released:
    """Everything that a study made known."""

    study: str
    purpose: str
    job_id: str
    epsilon: float
    delta: float
    neighbours: str
    max_sites_per_patient: int
    sites: tuple[str, ...]
    compute_parties: tuple[str, ...]
    collusion_threshold: int
    note: str
    """What so many patients at this epsilon can and cannot show, in plain words."""
    steps: tuple[StepCost, ...]
    accounts: tuple[SiteAccount, ...]
    overlap: OverlapCheck | None
    anonymised: tuple[AnonymisedSite, ...]
    survival: tuple[SurvivalCurve, ...]
    logistic: LogisticModel | None
    synthetic: SyntheticTable | None
    models: tuple[ModelResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]
