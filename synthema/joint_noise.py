"""The noise of joint releases: which law fits a price, what it costs, and how it is found by every site for itself.

n, t       compute parties, and how many of them may collude
m          sites that may know the same patient: counts change by m, squared lengths by m^2
"shares"   each party adds discrete Gaussian noise of its own (`smpc.noise.shares`): paid for by the part of n - t
"joint"    one discrete Gaussian, sampled on shares (`smpc.noise.gaussian`): what is paid for is what is added. Where
           its table would be too large (scales above 110 or so), noise by shares is taken instead: a public rule

A choice at epsilon is the exponential mechanism's, drawn on shares (`smpc.noise.exponential_law`): of bounded range, so
epsilon^2 / 8 of rho as elsewhere, and without a delta. What rounding on shares may add to the range is taken off
beforehand: the price is that of exactly epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from privacy import Composed, DistributedDiscreteGaussian, Event, ExponentialMechanism, ZcdpFilter, rho_of
from privacy._units import float_up
from smpc.noise import ExponentialLaw, GaussianTable, exponential_law, gaussian_table
from smpc.noise.gaussian_table import LEAST_SCALE
from smpc.noise.gaussian_table import MAX_DELTA as CELL_DELTA
from synthema.errors import StudyError
from synthema.study import MOST_ROWS

_CHOICE_DELTA = 2.0**-64

# Scales are multiples of 2^-10, so that both the noise and its price are made from the same exact number.
_SCALE_GRID = 1024

# Public estimates are rounded to sixteenths of a row, so that scores are integers.
SCORE_BITS = 4

# Prices events whatever its caps are.
_PRICES = ZcdpFilter(1.0, 1e-6, neighbours="add_remove_one")


@dataclass(frozen=True, slots=True)
class TableNoise:
    """Discrete Gaussian noise by table, and the event of opening what it was added to."""

    table: GaussianTable
    l2_sensitivity_squared: int
    event: Composed


CountNoise = DistributedDiscreteGaussian | TableNoise


@dataclass(frozen=True, slots=True)
class Choice:
    """A private choice: the law by which it is drawn, and the event of opening the index."""

    law: ExponentialLaw
    event: ExponentialMechanism


@dataclass(frozen=True, slots=True)
class JointTerms:
    """What every joint release depends on, besides itself: public.

    most_rows   bound on the rows of all sites together, which comparisons rely on
    """

    n_parties: int
    collusion_threshold: int
    max_sites_per_patient: int = 1
    noise: Literal["shares", "joint"] = "shares"
    most_rows: int = MOST_ROWS

    def __post_init__(self) -> None:
        if not 1 <= self.collusion_threshold < self.n_parties:
            raise StudyError(
                f"of {self.n_parties} compute parties, 1 to {self.n_parties - 1} may collude, "
                f"not {self.collusion_threshold}"
            )

    @property
    def n_honest(self) -> int:
        """Parties whose noise counts."""
        return self.n_parties - self.collusion_threshold

    def count_noise(self, rho: float, *, n_marginals: int, dimension: int) -> CountNoise:
        """Return the least noise, on the grid, for marginals that are opened together at a price of at most `rho`.

        Examples
        --------
        >>> noise = JointTerms(3, 1).count_noise(0.01, n_marginals=2, dimension=10)
        >>> noise.per_party_scale, rho_and_delta(noise)[0] <= 0.01
        (7.0712890625, True)
        """
        m = self.max_sites_per_patient
        squared = n_marginals * m * m
        table = None
        if self.noise == "joint":
            table = cheapest_table_noise(rho, linf_sensitivity=m, l2_sensitivity_squared=squared, dimension=dimension)
        return table or cheapest_joint_noise(
            self.n_honest, rho, dimension=dimension, l1_sensitivity=n_marginals * m, l2_sensitivity_squared=squared
        )

    def noise_std(self, noise: CountNoise) -> float:
        """Return the standard deviation of what is opened: every party adds noise, colluding ones too."""
        if isinstance(noise, TableNoise):
            return noise.table.scale
        return noise.per_party_scale * math.sqrt(self.n_parties)

    def choice(self, epsilon: float, *, largest_weight: int, n_candidates: int) -> Choice:
        """Return the law of a choice at `epsilon` between scores in units of 2^-4 rows times a weight.

        Examples
        --------
        >>> choice = JointTerms(3, 1).choice(0.4, largest_weight=1, n_candidates=10)
        >>> rho, delta = rho_and_delta(choice.event)
        >>> round(rho, 9), delta
        (0.02, 0.0)
        """
        sensitivity = largest_weight * self.max_sites_per_patient << SCORE_BITS
        return Choice(*exponential_law(epsilon, sensitivity, n_candidates))

    def largest_delta(self, *, n_choices: int, n_marginals: int) -> float:
        """Return what a study sets aside for the deltas of so many choices and opened marginals, rounded up.

        Marginals have deltas where their noise is sampled jointly. A choice has none; 2^-64 is set aside for each all
        the same, so that a study costs, at every site and in every ledger, what it has always cost.
        """
        cells = n_marginals * self.max_sites_per_patient**2 if self.noise == "joint" else 0
        # Each is an exact fraction below its bound, rounded up to a double.
        return (n_choices * _CHOICE_DELTA + cells * CELL_DELTA) * (1 + 1e-9)


def cheapest_joint_noise(
    n_honest: int, rho: float, *, dimension: int, l1_sensitivity: int, l2_sensitivity_squared: int
) -> DistributedDiscreteGaussian:
    """Return the noise by shares of least scale that costs at most `rho` by the part of `n_honest` parties alone.

    Raises StudyError if the budget asks for less noise than the bound on sums of discrete Gaussians allows.
    """
    scale = math.sqrt(l2_sensitivity_squared / (2 * rho * n_honest))
    grid = max(math.ceil(scale * _SCALE_GRID), _SCALE_GRID // 2)
    for _ in range(10_000):
        event = DistributedDiscreteGaussian(
            per_party_scale=grid / _SCALE_GRID,
            n_honest=n_honest,
            dimension=dimension,
            l1_sensitivity=l1_sensitivity,
            l2_sensitivity_squared=l2_sensitivity_squared,
        )
        if rho_of(event) <= rho:
            return event
        grid += 1
    raise StudyError("no noise can be accounted for at this budget: choose another epsilon")  # pragma: no cover


def cheapest_table_noise(
    rho: float, *, linf_sensitivity: int, l2_sensitivity_squared: int, dimension: int
) -> TableNoise | None:
    """Return the noise by table of least scale that costs at most `rho`; None if its table would be too large."""
    grid = max(math.ceil(math.sqrt(l2_sensitivity_squared / (2 * rho)) * _SCALE_GRID), int(LEAST_SCALE * _SCALE_GRID))
    for _ in range(16):
        try:
            table = gaussian_table(grid / _SCALE_GRID, linf_sensitivity=linf_sensitivity)
        except ValueError:
            return None
        event = table.event(l2_sensitivity_squared=l2_sensitivity_squared, dimension=dimension)
        if rho_of(event.events[0]) <= rho:
            return TableNoise(table, l2_sensitivity_squared, event)
        grid += 1
    return None  # pragma: no cover - what the table adds to the price is far below a step of the grid


def event_of(noise: CountNoise) -> Event:
    """Return the event of opening counts with this noise."""
    return noise.event if isinstance(noise, TableNoise) else noise


def rho_and_delta(priced: Event | CountNoise) -> tuple[float, float]:
    """Return what an event costs of rho, and of the delta that accounts set aside: as ledgers price it, rounded up.

    Examples
    --------
    >>> from privacy import ApproximateDP
    >>> rho_and_delta(ApproximateDP(0.5, 2.0**-70))
    (0.125..., 8.47...e-22)
    """
    event = event_of(priced) if isinstance(priced, TableNoise) else priced
    rho, delta = _PRICES.price(event)
    return float_up(rho, _PRICES.units[0]), float_up(delta, _PRICES.units[1])


class Purse:
    """What one priced event leaves for the releases that it covers: spent in the ledger's own whole units.

    Examples
    --------
    >>> from privacy import ZeroConcentratedDP
    >>> purse = Purse(ZeroConcentratedDP(0.25))
    >>> [purse.takes(ZeroConcentratedDP(0.1)) for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, priced: Event) -> None:
        self._left = list(_PRICES.price(priced))
        self.spent: list[Event] = []

    def takes(self, *events: Event) -> bool:
        """Charge the events and return True, or leave everything as it is and return False."""
        prices: Sequence[tuple[int, ...]] = [_PRICES.price(event) for event in events]
        left = [have - sum(price[i] for price in prices) for i, have in enumerate(self._left)]
        if min(left) < 0:
            return False
        self._left = left
        self.spent.extend(events)
        return True
