"""Success rates of attacks, what they say beyond a reference, and their intervals.

s, c       success rates against the people of a table and against the reference (people not in it, or random guesses)
risk       (s - c) / (1 - c): the share of attacks that succeed because of the table, of those that would not
           have succeeded anyway
AUC        probability that a member gets a higher score than a non-member, ties counted as a half

Sources: Wilson 1927, JASA 22:209 (interval of a rate); Donner, Zou 2012, Stat. Methods Med. Res. 21:347 (interval of a
ratio from the intervals of its parts); Newcombe 2006, Stat. Med. 25:559, method 5 (interval of an AUC); Giomi,
Boenisch, Wehmeyer, Tasnadi 2023, PoPETs 2023(2), arXiv:2211.10459 (the risk).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from privacy._checks import check_probability

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A success rate with its Wilson interval; value None: nothing was attempted.

    successes  a whole number, or a sum of probabilities where each attempt was averaged over random tables; the
               interval is then too wide rather than too narrow

    Examples
    --------
    >>> rate = Rate.of(8, 10)
    >>> rate.value, round(rate.low, 3), round(rate.high, 3)
    (0.8, 0.49, 0.943)
    """

    successes: float
    attempts: int
    value: float | None
    low: float
    high: float

    @classmethod
    def of(cls, successes: float, attempts: int, *, confidence: float = CONFIDENCE) -> Rate:
        """Return the rate of `successes` in `attempts`."""
        check_probability("confidence", confidence)
        if attempts < 0 or not 0 <= successes <= attempts:
            raise ValueError("successes must lie between 0 and attempts")
        if attempts == 0:
            return cls(0.0, 0, None, 0.0, 1.0)
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        p, n = successes / attempts, attempts
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        # At 0 and n successes the limit is 0 or 1 exactly, where rounding would miss it.
        low = 0.0 if successes == 0 else max(0.0, centre - half)
        high = 1.0 if successes == attempts else min(1.0, centre + half)
        return cls(float(successes), attempts, p, low, high)

    def to_dict(self) -> dict[str, float | int | None]:
        """Return plain data: value, interval and number of attempts."""
        return {"value": self.value, "low": self.low, "high": self.high, "attempts": self.attempts}


@dataclass(frozen=True, slots=True)
class Risk:
    """Excess success over a reference, with an interval; None where it cannot be measured.

    A value below zero is chance: the reference happened to be attacked with more success.
    """

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return plain data."""
        return {"value": self.value, "low": self.low, "high": self.high}


UNMEASURED = Risk(None, None, None)


def excess_risk(success: Rate, reference: Rate) -> Risk:
    """Return (s - c) / (1 - c).

    Parameters
    ----------
    success, reference
        The two rates, from separate attempts.

    Returns
    -------
    All None if nothing was attempted, or if the reference always succeeded: then no success is left to be explained by
    the rows having been seen, and the attack tells nothing about them.

    Examples
    --------
    >>> risk = excess_risk(Rate.of(600, 1000), Rate.of(200, 1000))
    >>> round(risk.value, 3), round(risk.low, 3), round(risk.high, 3)
    (0.5, 0.458, 0.54)
    """
    if success.value is None or reference.value is None or reference.high >= 1:
        return UNMEASURED
    # 1 - risk is the ratio of the two failure rates.
    f, f_low, f_high = 1 - success.value, 1 - success.high, 1 - success.low
    g, g_low, g_high = 1 - reference.value, 1 - reference.high, 1 - reference.low
    # Donner, Zou 2012, limits of a ratio; the lower one multiplied out, so that it has no pole at g_high = 2 g.
    square = f * g
    b = f_low * (2 * f - f_low)
    root = math.sqrt(max(0.0, square**2 - b * g_high * (2 * g - g_high)))
    ratio_low = b / (square + root) if square + root > 0 else 0.0
    c = g_low * (2 * g - g_low)
    ratio_high = (square + math.sqrt(max(0.0, square**2 - f_high * (2 * f - f_high) * c))) / c
    return Risk(*(min(1.0, 1 - ratio) for ratio in (f / g, ratio_high, ratio_low)))


def auc(members: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    """Return the probability that a member's score is above another's, ties counted as a half.

    Examples
    --------
    >>> auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, side="left")
    up_to = np.searchsorted(ordered, members, side="right")
    return float((below + up_to).sum() / (2 * len(members) * len(others)))


def auc_interval(value: float, n_members: int, n_others: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of an AUC, which keeps its coverage at 0 and 1.

    The limits are the t with |value - t| = z sqrt(V(t)), where V is Hanley and McNeil's variance under exponential
    scores, symmetrised (Newcombe 2006, method 5).

    Examples
    --------
    >>> low, high = auc_interval(0.5, 1000, 1000)
    >>> round(low, 3), round(high, 3)
    (0.475, 0.525)
    """
    check_probability("confidence", confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    star = (n_members + n_others) / 2

    def outside(t: float) -> bool:
        variance = t * (1 - t) * (1 + (star - 1) * ((1 - t) / (2 - t) + t / (1 + t))) / (n_members * n_others)
        return abs(value - t) > z * math.sqrt(variance)

    def limit(end: float) -> float:
        if not outside(end):
            return end
        inside, out = value, end
        for _ in range(60):
            middle = (inside + out) / 2
            inside, out = (inside, middle) if outside(middle) else (middle, out)
        return inside

    return limit(0.0), limit(1.0)
