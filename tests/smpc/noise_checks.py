"""What the tests of joint noise have in common: the fit to an exact law, and whether bits know of each other."""

import numpy as np
from scipy import stats

from smpc.bitplanes import unpack_bits


def fit_pvalue(sample, pmf):
    """Chi-square p-value that a sample of integers has the law {value: probability}.

    Values expected less than five times are counted together; a value outside the law gives 0.
    """
    values, counts = np.unique(sample, return_counts=True)
    if not set(values.tolist()) <= set(pmf):
        return 0.0
    observed = dict(zip(values.tolist(), counts.tolist(), strict=True))
    kept, rare = [], [0, 0.0]
    for value, p in pmf.items():
        expected = float(p) * len(sample)
        if expected >= 5:
            kept.append((observed.get(value, 0), expected))
        else:
            rare[0] += observed.get(value, 0)
            rare[1] += expected
    if rare[1] >= 1e-9:
        kept.append(tuple(rare))
    statistic = sum((o - e) ** 2 / e for o, e in kept)
    return float(stats.chi2.sf(statistic, max(len(kept) - 1, 1)))


def dependence_pvalue(features, targets):
    """Smallest p-value, corrected for their number, that a row of bits is independent of another row.

    features, targets: zeros and ones, shapes (f, n) and (t, n).
    """
    n = features.shape[1]
    a, b = features.astype(float), targets.astype(float)
    both = a @ b.T
    first, second = a.sum(axis=1)[:, None], b.sum(axis=1)[None, :]
    variance = first * (n - first) / n * second * (n - second) / n / (n - 1)
    usable = variance > 0
    z = np.where(usable, (both - first * second / n) / np.sqrt(np.where(usable, variance, 1)), 0)
    return min(1.0, float(2 * stats.norm.sf(np.abs(z)).min()) * int(usable.sum()))


def bit_rows(arrays, n):
    """Return as rows of n bits all arrays of words that hold whole rows of n packed bits."""
    width = n // 64
    rows = [part.reshape(-1, width) for part in arrays if part.dtype == np.uint64 and part.size % width == 0]
    return unpack_bits(np.concatenate(rows), n)
