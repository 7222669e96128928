"""All pairs of many small columns by one matrix product: how tables of a hundred flags are counted.

X          one column for each code of each column, 1 where the row has it; shape (n_rows, C), C codes in all
X^T X      the joint counts of every two codes: the 2-way marginal of two columns is a block of it, the 1-way marginal
           of a column the diagonal of its block with itself

A pass over the rows costs at least 20 microseconds for each clique or group of cliques, however few the rows; the
product costs C^2 for each row, at 40 of them a nanosecond. So the product is for many pairs of small columns and few
rows (144 columns of a registry, 465 codes: below 35,000 rows), passes are for the rest.

Products of zeros and ones add up exactly in float32 as long as no sum exceeds 2^24, so rows come in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain

Codes = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

# 4,096 codes: the product has 64 MB. A block of X has at most 2^22 numbers (16 MB), and far fewer than 2^24 rows.
MOST_CODES = 1 << 12
_BLOCK_NUMBERS = 1 << 22

# Measured on one core, in nanoseconds: of a row and pair of codes in the product, of taking a clique from it, of the
# call, and the least that a clique costs in a pass.
_PRODUCT_NS, _TAKE_NS, _CALL_NS, _PASS_NS = 0.025, 2_000, 100_000, 20_000


def product_pays(cliques: Sequence[Clique], domain: Domain, n_rows: int) -> bool:
    """Return whether one product is cheaper than passes; only for cliques of one or two columns."""
    if not cliques or max(map(len, cliques)) > 2:
        return False
    n_codes = sum(domain[name] for name in {name for clique in cliques for name in clique})
    product = _PRODUCT_NS * n_rows * n_codes**2 + _TAKE_NS * len(cliques) + _CALL_NS
    return n_codes <= MOST_CODES and product < _PASS_NS * len(cliques)


def count_by_product(blocks: Sequence[Codes], domain: Domain, cliques: Sequence[Clique]) -> list[Counts]:
    """Return the counts of cliques of one or two columns, as `count_marginals` does.

    Examples
    --------
    >>> codes = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.uint8)
    >>> count_by_product([codes], Domain(("sex", "event"), (2, 2)), [("event", "sex"), ("sex",)])
    [array([[0, 1],
           [1, 1]]), array([1, 2])]
    """
    names = tuple(dict.fromkeys(name for clique in cliques for name in clique))
    ends = np.cumsum([domain[name] for name in names])
    span = {name: slice(int(end) - domain[name], int(end)) for name, end in zip(names, ends, strict=True)}
    n_codes = int(ends[-1])
    joint = np.zeros((n_codes, n_codes), dtype=np.int64)
    step = max(1, _BLOCK_NUMBERS // n_codes)
    places = np.array([domain.position(name) for name in names])
    starts = np.array([span[name].start for name in names])
    for block in blocks:
        for start in range(0, len(block), step):
            rows = block[start : start + step]
            indicators = np.zeros((len(rows), n_codes), dtype=np.float32)
            np.put_along_axis(indicators, rows[:, places].astype(np.intp) + starts, 1.0, axis=1)
            joint += (indicators.T @ indicators).astype(np.int64)
    return [
        np.diagonal(joint)[span[clique[0]]].copy()
        if len(clique) == 1
        else joint[span[clique[0]], span[clique[1]]].copy()
        for clique in cliques
    ]
