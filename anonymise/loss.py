"""How much a generalised table has lost: ARX's "Loss", with its lower bounds.

share(v)   number of leaves that value v stands for / number of leaves of the hierarchy
loss(v)    (share(v) - 1/n_leaves) / (1 - 1/n_leaves): 0 for a leaf, 1 for "*"
Loss       mean over rows of (mean over quasi-identifiers of loss(v) for a released row, 1 for a suppressed one)

This is ARX 3.9's Loss with arithmetic mean and generalisation/suppression factor 0.5 (ARX cuts each
column's loss to ten decimals, so its score is lower by up to 1e-10; nothing is cut here). It is not NCP, ILoss or
granularity: those weigh and normalise differently, so their numbers cannot be compared with these.
Source: Iyengar 2002, KDD (loss metric); Prasser et al. 2020, doi:10.1002/spe.2812 (ARX's form).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from anonymise.classes import FloatArray
from anonymise.encoded import Codes, Node
from anonymise.hierarchies import Hierarchy


class Metric(Protocol):
    """A loss that is a sum over rows, and for a released row a sum over columns; a row's total lies in [0, 1].

    Both properties are what the bounds of the search rest on: sums over a fixed set of rows separate into one term a
    column, and suppressing a row never costs less than releasing it.
    """

    def level_sums(self, leaves: Codes, weights: FloatArray) -> list[FloatArray]:
        """Return, per column, the summed loss of some tuples at each level: shape (n_levels,) each.

        leaves    leaf codes of the tuples, shape (n_columns, n_some)
        weights   rows of each tuple, shape (n_some,)
        """
        ...

    def row_losses(self, leaves: Codes, node: Node) -> FloatArray:
        """Return the loss at a node of a row of each of some tuples, shape (n_some,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """ARX's Loss: `tables[column][level, leaf]` is the loss of a leaf at a level, divided by the number of columns.

    Examples
    --------
    >>> from anonymise.hierarchies import build_hierarchy
    >>> from privacy.schema import Column
    >>> loss = Loss.of([build_hierarchy(Column("sex", categories=("F", "M")))])
    >>> loss.tables[0].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """

    tables: tuple[FloatArray, ...]

    @classmethod
    def of(cls, hierarchies: Sequence[Hierarchy]) -> Loss:
        """Return the loss over these columns, all of equal weight."""
        return cls(tuple(_normalised_shares(hierarchy) / len(hierarchies) for hierarchy in hierarchies))

    def level_sums(self, leaves: Codes, weights: FloatArray) -> list[FloatArray]:
        """Return, per column, the summed loss at each level: shape (n_levels,) each.

        Counts are summed per leaf first: they are whole numbers, so the result depends on the order of hierarchies
        and not on the order of rows.
        """
        return [
            np.asarray(table @ np.bincount(codes, weights=weights, minlength=table.shape[1]), dtype=np.float64)
            for table, codes in zip(self.tables, leaves, strict=True)
        ]

    def row_losses(self, leaves: Codes, node: Node) -> FloatArray:
        """Return the loss at a node of a row of each of some tuples, shape (n_some,)."""
        losses = np.zeros(leaves.shape[1])
        for table, codes, level in zip(self.tables, leaves, node, strict=True):
            losses += table[level][codes]
        return losses


def _normalised_shares(hierarchy: Hierarchy) -> FloatArray:
    shares = np.stack([hierarchy.shares(level) for level in range(hierarchy.n_levels)])
    smallest = 1.0 / hierarchy.n_leaves
    # A column with one public value tells nothing at any level.
    return np.zeros_like(shares) if hierarchy.n_leaves == 1 else (shares - smallest) / (1.0 - smallest)


METRICS: Final[dict[str, Callable[[Sequence[Hierarchy]], Metric]]] = {"loss": Loss.of}
