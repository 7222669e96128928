"""The numerical accountant: epsilon and delta of a fixed schedule, exact up to a certified error.

Both directions (a patient removed, a patient added) are composed separately; the answer is the worse of the two. It is
a report, not a filter: its epsilon does not hold for schedules that react to the answers.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from privacy._checks import check_non_negative, check_probability
from privacy._trade_off import TradeOff
from privacy.accountant import Accountant, Tally
from privacy.errors import UnsupportedEvent
from privacy.events import Event
from privacy.neighbours import Neighbours
from privacy.numerical._certified import epsilon_bounds, log_delta_bounds, meets
from privacy.numerical._curve import upper_curve
from privacy.numerical._translate import Composition, check_supported, compose, is_sampled, is_tight
from privacy.rdp import RdpAccountant

# An interval this wide, relative to epsilon or in log delta, is compared with the Renyi bound.
_WIDE = 1e-5
_LEAST_SURE = 1e-280


class NumericalAccountant(Accountant):
    """Composes privacy losses exactly; every number comes with a certificate.

    Parameters
    ----------
    neighbours
        The relation under which the events' sensitivities hold.

    Examples
    --------
    >>> from privacy.events import Gaussian, PoissonSampled
    >>> accountant = NumericalAccountant(neighbours="add_remove_one")
    >>> accountant.compose(PoissonSampled(Gaussian(noise_multiplier=1.0), sampling_rate=0.01), count=1000)
    >>> round(accountant.epsilon(delta=1e-5), 9)
    1.828236667
    """

    def __init__(self, *, neighbours: Neighbours) -> None:
        super().__init__(neighbours=neighbours)
        self._tally = Tally()
        self._made: tuple[Composition, ...] | None = None
        self._known: dict[tuple[str, float], tuple[float, float]] = {}
        self._trade_off: TradeOff | None = None

    def supports(self, event: Event) -> bool:
        """Return whether `compose` would accept the event."""
        try:
            check_supported(event, self.neighbours)
        except UnsupportedEvent:
            return False
        return True

    def compose(self, event: Event, *, count: int = 1) -> None:
        """Add `count` releases of the event. Raises UnsupportedEvent and leaves the accountant unchanged."""
        check_supported(event, self.neighbours)
        self._tally.add(event, count)
        self._made = None
        self._known = {}
        self._trade_off = None

    @property
    def is_tight(self) -> bool:
        """Whether the law of each loss composed so far is known; otherwise the lower ends of the intervals are 0.

        Not tight are zCDP, distributed noise, vectors of discrete Gaussians with entries that change by more than 1,
        exponential mechanisms and samples without replacement, of which only Renyi divergences are known; and
        permute-and-flip, sampled approximate DP and sampled Laplace noise of scale below 1/50, for which worse pairs
        stand in.
        """
        return all(is_tight(event) for event in self._tally.counts)

    def _by_renyi(self, of: Literal["epsilon", "delta"], at: float) -> float:
        """Return another upper bound, for what was left wide: from the Renyi divergences of everything; or infinity."""
        accountant = RdpAccountant(neighbours=self.neighbours)
        try:
            for event, count in self._tally.counts.items():
                accountant.compose(event, count=count)
        except UnsupportedEvent:
            return math.inf
        bound = accountant.epsilon(delta=at) if of == "epsilon" else accountant.delta(epsilon=at)
        return bound * (1 + 1e-12)

    def _directions(self) -> tuple[Composition, ...]:
        if self._made is None:
            counts = self._tally.counts
            both = any(is_sampled(event) for event in counts)
            self._made = (compose(counts, "remove"), compose(counts, "add")) if both else (compose(counts, "remove"),)
        return self._made

    def epsilon(self, *, delta: float) -> float:
        """Return a certified upper bound on epsilon at this delta; infinite if no epsilon reaches it."""
        return self.epsilon_interval(delta=delta)[1]

    def epsilon_interval(self, *, delta: float) -> tuple[float, float]:
        """Return (lower, upper), both certified, around the smallest epsilon >= 0 at this delta."""
        check_probability("delta", delta)
        key = ("epsilon", float(delta))
        if key not in self._known:
            first, *other = self._directions()
            low, high = epsilon_bounds(first, float(delta))
            # The other direction is mostly cheaper: then it is enough to know that it is.
            for made in other:
                if not meets(made, high, float(delta)):
                    more = epsilon_bounds(made, float(delta))
                    low, high = max(low, more[0]), max(high, more[1])
            if high > low * (1 + _WIDE):
                high = max(low, min(high, self._by_renyi("epsilon", float(delta))))
            self._known[key] = low if self.is_tight else 0.0, high
        return self._known[key]

    def log_delta_interval(self, *, epsilon: float) -> tuple[float, float]:
        """Return certified bounds on the logarithm of delta: for values that doubles cannot hold."""
        check_non_negative("epsilon", epsilon)
        key = ("delta", float(epsilon))
        if key not in self._known:
            found = [log_delta_bounds(made, float(epsilon))[0] for made in self._directions()]
            low = max(low for low, _ in found) if self.is_tight else -math.inf
            # At 0 it is the total variation distance, the same in both directions: the better bound holds for both.
            high = (max if epsilon > 0 else min)(high for _, high in found)
            if high - max(low, -700.0) > _WIDE:
                delta = self._by_renyi("delta", float(epsilon))
                # Of numbers that have lost digits the Renyi bound may have lost all.
                high = max(low, min(high, math.log(delta) + 1e-12)) if delta > _LEAST_SURE else high
            self._known[key] = low, high
        return self._known[key]

    def log_delta(self, *, epsilon: float) -> float:
        """Return a certified upper bound on log delta at this epsilon; -inf where delta is 0."""
        return self.log_delta_interval(epsilon=epsilon)[1]

    def delta(self, *, epsilon: float) -> float:
        """Return a certified upper bound on delta at this epsilon."""
        return self.delta_interval(epsilon=epsilon)[1]

    def delta_interval(self, *, epsilon: float) -> tuple[float, float]:
        """Return (lower, upper), both certified, around the smallest delta at this epsilon."""
        low, high = self.log_delta_interval(epsilon=epsilon)
        lower = math.exp(low) * (1 - 4e-16)
        # A delta below the doubles is tiny, not zero.
        upper = 0.0 if high == -math.inf else min(1.0, math.nextafter(math.exp(high) * (1 + 4e-16), math.inf))
        return lower, upper

    def trade_off(self, false_positive_rate: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return a lower bound on the attacker's false negative rate at each false positive rate, same shape.

        Tangents of the trade-off curve, at the slopes that matter for the rates (see `privacy._trade_off`). The curve
        is that of both directions together: convex and its own mirror image.
        """
        if self._trade_off is None:
            curves = [upper_curve(made) for made in self._directions()]
            self._trade_off = TradeOff(
                lambda epsilon: (max if epsilon > 0 else min)(curve(epsilon) for curve in curves)
            )
        return self._trade_off.at(false_positive_rate)
