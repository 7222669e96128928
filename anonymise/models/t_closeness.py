"""t-closeness: what a class tells of the sensitive attribute is close to what the whole table tells.

p_v  share of the rows of the whole raw table with the value v (suppressed rows included, as in ARX)
k_v  share of the rows of the class with the value v
D    Earth Mover's distance between k and p under a ground distance of values in [0, 1]; a class passes if D <= t

equal         all values are 1 apart: D = 1/2 sum_v |k_v - p_v|, the total variation
ordered       |i - j| / (m - 1) for the i-th and j-th of the m values that occur in the table:
              D = 1/(m - 1) sum_{i<m} |sum_{j<=i} (k_j - p_j)|
hierarchical  the lowest level at which two values are one, divided by the height H of the hierarchy

All three are averages of total variations over partitions of the values. Ordered: over the m - 1 cuts of the order into
{first i} and the rest. Hierarchical: over the levels 0, ..., H - 1, because the distance of two values is 1/H times the
number of levels below H at which they differ, so moving mass costs 1/(2H) for each group that it leaves or enters. So

    D = 1/J sum_j TV_j = 1/J sum_g max(0, p_g - k_g),      g over the groups of all J partitions.

D is convex in k, and the shares of a union of classes are a mixture of theirs: the union of passing classes passes. A
failing class can have a passing part. For a part K of size m of a class, k_g <= c_g / m gives the certified bound

    sum_g max(0, p_g - c_g / m) <= D <= t  (times J), that is, sum_g min(c_g, p_g m) >= J (1 - t) m.

Source: Li, Li, Venkatasubramanian 2007, "t-Closeness: Privacy beyond k-anonymity and l-diversity", ICDE, sections 4-5.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import numpy as np

from anonymise._checks import check_attribute, check_number
from anonymise.classes import Attribute, AttributeName, BoolArray, Classes, IntArray
from anonymise.models._bounds import largest_kept
from anonymise.models._exact import exact, ratio

Distance = Literal["equal", "ordered", "hierarchical"]


@dataclass(frozen=True, slots=True)
class TCloseness:
    """The distribution of the sensitive attribute in each released class is within t of the whole table's.

    t          largest Earth Mover's distance, in (0, 1), inclusive. At 0 only classes with exactly the table's
               distribution would pass; at 1 every class does
    attribute  the sensitive column, or a tuple of columns whose combination is the value ("equal" only)
    distance   "equal"; "ordered": the order of the hierarchy's rows, else of the schema's values, a missing value last
               (take a column with many missing values as "equal"); "hierarchical": the column's hierarchy in the
               schema, values that never become one being 1 apart

    With "ordered", only values that occur in the table count, as in ARX: listing more values would make all distances
    smaller. The model limits what a class teaches beyond the whole table, on average over the values: a rare value may
    still be many times more frequent in a class (beta-likeness limits that). What the whole table tells is not limited.
    It does not hide who is in the table and does not compose over releases.

    Examples
    --------
    >>> TCloseness(0.2, attribute="diagnosis", distance="hierarchical")
    TCloseness(t=0.2, attribute='diagnosis', distance='hierarchical')
    """

    t: float
    _: KW_ONLY
    attribute: AttributeName
    distance: Distance = "equal"

    needs_population: ClassVar[bool] = False
    # Shown above. The whole table always passes, so no number of rows is too small.
    downward_closed: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        if self.distance not in {"equal", "ordered", "hierarchical"}:
            raise ValueError(f'distance must be "equal", "ordered" or "hierarchical", got {self.distance!r}')
        check_number(
            "t", self.t, above=0.0, below=1.0, hint="0 lets only the whole table pass, 1 lets every class pass"
        )
        if isinstance(self.attribute, tuple) and self.distance != "equal":
            raise ValueError(
                f"columns taken together have no order or hierarchy: use distance='equal' for {self.attribute!r}"
            )

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes are further than t from the whole table, shape (n_classes,)."""
        overall, counts, n_partitions = self._grouped(classes)
        sizes, n = classes.sizes, int(classes.attribute(self.attribute).overall.sum())
        top, bottom = ratio(self.t)
        largest = int(sizes.max(initial=0)) * n * max(n_partitions, 1) * bottom
        counts, sizes, overall = exact(largest, counts, sizes, overall)
        # N |C| J D
        moved = np.maximum(np.multiply.outer(sizes, overall) - counts * n, 0).sum(axis=1)
        return np.asarray(moved * bottom > sizes * (top * n_partitions * n), dtype=bool)

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,)."""
        overall, counts, n_partitions = self._grouped(classes)
        shares = overall / classes.attribute(self.attribute).overall.sum()
        kept = largest_kept(classes.sizes, counts, shares, n_partitions * (1.0 - self.t))
        return np.asarray(np.maximum(classes.sizes - kept, 1))

    def _grouped(self, classes: Classes) -> tuple[IntArray, IntArray, int]:
        """Return the rows in each group of all partitions, of the whole table and of each class, and J.

        Shapes (n_groups,) and (n_classes, n_groups).
        """
        attribute = classes.attribute(self.attribute)
        overall, counts = np.rint(attribute.overall).astype(np.int64), classes.counts(self.attribute)
        if self.distance == "equal":
            return overall, counts, 1
        if self.distance == "ordered":
            present = overall > 0
            return _cuts(overall[None, present])[0], _cuts(counts[:, present]), int(present.sum()) - 1
        levels = _levels(attribute)
        return _gathered(overall[None], levels)[0], _gathered(counts, levels), len(levels)


def _cuts(counts: IntArray) -> IntArray:
    """Return the rows with one of the first i values, i < m, and the rows with one of the others."""
    first = np.cumsum(counts, axis=1)
    return np.hstack([first[:, :-1], first[:, -1:] - first[:, :-1]])


def _levels(attribute: Attribute) -> list[IntArray]:
    """Return the group of each value at each level below the root; values that never become one meet above the top."""
    hierarchy = attribute.hierarchy
    if hierarchy is None:
        raise ValueError(f"the attribute {attribute.name!r} has no hierarchy; give it one in the schema")
    levels = list(hierarchy.codes)
    return levels[:-1] if hierarchy.n_groups(hierarchy.n_levels - 1) == 1 else levels


def _gathered(counts: IntArray, levels: list[IntArray]) -> IntArray:
    """Return the rows in each group of each level, levels side by side."""
    # Products of floats are handed to BLAS; whole numbers below 2^53 stay exact.
    rows = counts.astype(np.float64)
    return np.hstack([rows @ np.eye(int(codes.max()) + 1)[codes] for codes in levels]).astype(np.int64)
