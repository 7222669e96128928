"""What a table gives away about sensitive values: the levels of the models of diversity and closeness it reaches.

p, q         distribution of a sensitive column in a class, in the whole table, over the values that occur (a continuous
             column's bins), as for the models
distinct     l of the class with the fewest different values
entropy      exp(H(p)) of the least diverse class, H in nats: l of entropy l-diversity, not cut to a whole number
recursive    c for l = 2: the largest class share ratio r_1 / (r_2 + ... + r_m), r_1 the commonest value's count;
             recursive (c, 2)-diversity holds for every larger c; inf if a class has one value only
t, equal     largest total variation |p - q|_1 / 2
t, ordered   largest earth mover's distance over ranks, sum_j |P_j - Q_j| / (m - 1) with cumulated P and Q; columns
             whose values have an order only

Source: Machanavajjhala et al. 2007, ACM TKDD 1(1); Li, Li, Venkatasubramanian 2007, ICDE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonymise.classes import IntArray

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SensitiveRisk:
    """The levels that one sensitive column reaches: the worst class's.

    worst_guess     largest share of a class that has its commonest value: how often guessing it there is right
    overall_guess   the same for the whole table
    """

    name: str
    distinct_l: int
    entropy_l: float
    recursive_c: float
    t_equal: float
    t_ordered: float | None
    worst_guess: float
    overall_guess: float


def sensitive_risk(name: str, classes: IntArray, values: IntArray, *, n_values: int, ordered: bool) -> SensitiveRisk:
    """Return the levels reached, given the class and the value of each row (or of each patient and value).

    Parameters
    ----------
    classes
        Class of each entry, from 0 without gaps, shape (n,).
    values
        Value of each entry, below n_values, shape (n,); in the column's order if it is ordered.

    Examples
    --------
    >>> classes, values = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    >>> risk = sensitive_risk("genotype", classes, values, n_values=2, ordered=False)
    >>> risk.distinct_l, round(risk.entropy_l, 3), risk.recursive_c, round(risk.t_equal, 3)
    (2, 1.89, 2.0, 0.1)
    """
    # Only values that occur count, as for the models: more values would make every ordered distance smaller.
    occurs = np.bincount(values, minlength=n_values) > 0
    values, n_values = (np.cumsum(occurs) - 1)[values], int(occurs.sum())
    # Pairs of class and value that occur, sorted by class and, within it, by value.
    key = classes * n_values + values
    pairs, counts = _pairs(key, int(classes.max() + 1) * n_values)
    place, value = pairs // n_values, pairs % n_values
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    size = np.add.reduceat(counts, starts)
    share = counts / size[place]
    overall = np.bincount(values, minlength=n_values) / values.size
    largest = np.maximum.reduceat(counts, starts)
    with np.errstate(divide="ignore"):
        ratio = largest / (size - largest)
    entropy = -np.add.reduceat(share * np.log(share), starts)
    distance = np.add.reduceat(np.maximum(share - overall[value], 0.0), starts)
    return SensitiveRisk(
        name=name,
        distinct_l=int(np.diff(starts, append=pairs.size).min()),
        entropy_l=float(np.exp(entropy.min())),
        recursive_c=float(ratio.max()),
        t_equal=float(distance.max()),
        t_ordered=float(_ordered(counts, value, starts, overall).max()) if ordered else None,
        worst_guess=float((largest / size).max()),
        overall_guess=float(overall.max()),
    )


def _pairs(key: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Return the keys that occur, ascending, and how often each does."""
    if size > 8 * key.size + 4096:
        found, counts = np.unique(key, return_counts=True)
        return found, counts.astype(np.int64)
    counts = np.bincount(key, minlength=size)
    found = np.flatnonzero(counts)
    return found.astype(np.int64), counts[found].astype(np.int64)


def _ordered(counts: IntArray, value: IntArray, starts: IntArray, overall: FloatArray) -> FloatArray:
    """Return the ordered distance of each class, without a table of classes by values.

    Between two values that occur in the class P is constant, c say, and Q grows: sum |c - Q_j| over that stretch
    follows from the place where Q passes c, and sums of Q.
    """
    m = overall.size
    if m == 1:
        return np.zeros(starts.size)
    cumulated = np.cumsum(overall)
    summed = np.concatenate([[0.0], np.cumsum(cumulated)])
    # P after each pair: a running sum that starts again in each class, in whole numbers.
    running = np.cumsum(counts)
    ends = np.append(starts[1:], value.size)
    before = np.concatenate([[0], running[ends[:-1] - 1]])
    c = (running - np.repeat(before, ends - starts)) / np.repeat(running[ends - 1] - before, ends - starts)
    stop = np.append(value[1:], m)
    stop[ends - 1] = m
    crossing = np.clip(np.searchsorted(cumulated, c), value, stop)
    stretch = c * (2 * crossing - value - stop) + summed[value] + summed[stop] - 2 * summed[crossing]
    # Before its first value P is 0.
    return np.asarray((np.add.reduceat(stretch, starts) + summed[value[starts]]) / (m - 1))
