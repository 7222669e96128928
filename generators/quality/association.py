"""How strongly two columns go together, from their table of counts.

V      Cramer's V with Bergsma's correction (2013, J. Korean Stat. Soc. 42:323): 0 without association on average, for
       any number of rows, so that tables of different lengths compare; for two columns of which one has no order
rho_S  Spearman's rank correlation with midranks, rows with a missing value left out; for two ordered columns
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def cramers_v(counts: Counts) -> float:
    """Return the corrected V of a table of counts, in [0, 1]; 0 if either column is constant.

    Examples
    --------
    >>> round(cramers_v(np.array([[500, 0], [0, 500]])), 3)
    1.0
    """
    table = counts[counts.any(axis=1)][:, counts.any(axis=0)].astype(np.float64)
    n = float(table.sum())
    rows, columns = table.shape
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1))
    return math.sqrt(min(phi2 / (smaller - 1), 1.0)) if smaller > 1 else 0.0


def spearman(counts: Counts) -> float:
    """Return the rank correlation of two ordered columns, in [-1, 1]; 0 if either is constant.

    Examples
    --------
    >>> spearman(np.array([[3, 0, 0], [0, 2, 0], [0, 0, 5]]))
    1.0
    """
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    n = int(rows.sum())
    first, second = (np.cumsum(margin) - (margin - 1) / 2 - (n + 1) / 2 for margin in (rows, columns))
    spread = float(rows @ first**2) * float(columns @ second**2)
    return float(first @ counts @ second) / math.sqrt(spread) if spread > 0 else 0.0
