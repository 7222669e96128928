"""Models that limit each value's share in a class: delta-disclosure, beta-likeness and (alpha,k)-anonymity.

q_v  share of the rows of the whole raw table with the value v (suppressed rows included, as in ARX)
k_v  share of the rows of the class with the value v; only values present in the class (k_v > 0) are looked at

An upper limit k_v <= u_v is linear in the rows, so the union of classes that respect it does, and a part K of size m of
a class has at most min(c_v, u_v m) rows of v: m <= sum_v min(c_v, u_v m) is the certified bound of what can be kept.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import numpy as np

from anonymise._checks import check_attribute, check_number, is_whole
from anonymise.classes import Attribute, AttributeName, BoolArray, Classes, FloatArray, IntArray
from anonymise.models._bounds import largest_within
from anonymise.models._exact import exact, ratio

LikenessKind = Literal["basic", "enhanced"]


@dataclass(frozen=True, slots=True)
class BetaLikeness:
    """No value is much more frequent in a released class than in the whole table.

    basic      (k_v - q_v) / q_v <= beta
    enhanced   (k_v - q_v) / q_v <= min(beta, -ln q_v), natural logarithm: a frequent value may gain less
    beta       > 0, inclusive
    attribute  the sensitive column, or a tuple of columns whose combination is the value

    The relative gain protects rare values, which t-closeness lets through. Values that become rarer in a class, or
    vanish from it, are not limited: a class may rule diagnoses out. It does not hide who is in the table and does not
    compose over releases.
    Source: Cao, Karras 2012, "Publishing microdata with a robust privacy guarantee", PVLDB 5(11), definitions 2 and 3.
    """

    beta: float
    _: KW_ONLY
    attribute: AttributeName
    kind: LikenessKind = "basic"

    needs_population: ClassVar[bool] = False
    downward_closed: ClassVar[bool] = False
    # Upper limits of shares pass from classes to their union.
    monotone: ClassVar[bool] = True
    # The whole table always passes.
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        if self.kind not in {"basic", "enhanced"}:
            raise ValueError(f'kind must be "basic" or "enhanced", got {self.kind!r}')
        check_number("beta", self.beta, above=0.0, hint="1 lets a value double its share")

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes have a value whose share grew too much, shape (n_classes,)."""
        attribute, counts = classes.attribute(self.attribute), classes.counts(self.attribute)
        top, bottom = ratio(self.beta)
        overall = np.rint(attribute.overall).astype(np.int64)
        fails = _above(counts, classes.sizes, overall, top + bottom, int(overall.sum()) * bottom)
        if self.kind == "enhanced":
            # -ln q is irrational: no share is equal to the limit, so rounding decides nothing.
            fails |= (counts > np.multiply.outer(classes.sizes, _enhanced(attribute))).any(axis=1)
        return fails

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,)."""
        attribute = classes.attribute(self.attribute)
        shares = _shares(attribute) * (1.0 + self.beta)
        if self.kind == "enhanced":
            shares = np.minimum(shares, _enhanced(attribute))
        kept = largest_within(classes.sizes, classes.counts(self.attribute), shares)
        return np.asarray(np.maximum(classes.sizes - kept, 1))


@dataclass(frozen=True, slots=True)
class DeltaDisclosure:
    """The share of each value present in a released class differs from the whole table's by a bounded factor.

    |log2(k_v / q_v)| < delta for every v with k_v > 0, strictly; the logarithm is to base 2, as in ARX
    delta      > 0, in bits
    attribute  the sensitive column, or a tuple of columns whose combination is the value

    As in ARX, a value that is absent from a class is no violation (Brickell and Shmatikov's text would refuse it).
    So the union of two passing classes can fail (a value just frequent enough in one is too rare in both together) and
    the model is not monotone; only its upper limit is, and that alone gives a bound. A class may rule values out. It
    does not hide who is in the table and does not compose over releases.
    Source: Brickell, Shmatikov 2008, "The cost of privacy", KDD, definition 3.
    """

    delta: float
    _: KW_ONLY
    attribute: AttributeName

    needs_population: ClassVar[bool] = False
    downward_closed: ClassVar[bool] = False
    # A value that is absent from one of two passing classes can be too rare in their union.
    monotone: ClassVar[bool] = False
    # The whole table always passes.
    least_rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        check_number("delta", self.delta, above=0.0, most=1000.0, hint="in bits: 1 allows half to twice the share")

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes have a value too frequent or too rare, shape (n_classes,)."""
        counts = classes.counts(self.attribute)
        # 2^delta is exact for whole delta and irrational otherwise: no doubt at the limits.
        expected = np.multiply.outer(classes.sizes, np.rint(classes.attribute(self.attribute).overall))
        scaled = counts * float(classes.attribute(self.attribute).overall.sum())
        out = (scaled >= expected * 2.0**self.delta) | (scaled <= expected * 2.0**-self.delta)
        return np.asarray((out & (counts > 0)).any(axis=1))

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,).

        None for classes that fail because a value is too rare: their parts may all pass.
        """
        shares = _shares(classes.attribute(self.attribute)) * 2.0**self.delta
        return classes.sizes - largest_within(classes.sizes, classes.counts(self.attribute), shares)


@dataclass(frozen=True, slots=True)
class AlphaKAnonymity:
    """Each released class has at least k rows, and no value of the sensitive attribute fills more than alpha of them.

    alpha      largest share, in (0, 1), inclusive
    k          least class size, >= 2
    attribute  the sensitive column, or a tuple of columns whose combination is the value

    The general model of the source: the limit holds for every value. A value is judged without regard to how frequent
    it is in the whole table, so a value that fills more than alpha of the table keeps rows from being released at all.
    It says nothing of what a class has in common beyond its most frequent value, and does not compose over releases.
    Source: Wong, Li, Fu, Wang 2006, "(alpha,k)-anonymity", KDD, definitions 2 and 3.
    """

    alpha: float
    k: int
    _: KW_ONLY
    attribute: AttributeName

    needs_population: ClassVar[bool] = False
    downward_closed: ClassVar[bool] = False
    # Upper limits of shares, and sizes, pass from classes to their union.
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        check_number("alpha", self.alpha, above=0.0, below=1.0, hint="1 protects nobody")
        if not is_whole(self.k, least=2):
            raise ValueError(f"k must be an integer >= 2 (1 protects nobody), got {self.k!r}")

    @property
    def least_rows(self) -> int:
        """K rows, and 1 / alpha different values."""
        top, bottom = ratio(self.alpha)
        return max(self.k, -(-bottom // top))

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes are too small or have too frequent a value, shape (n_classes,)."""
        counts = classes.counts(self.attribute)
        ones = np.ones(counts.shape[1], dtype=np.int64)
        return (classes.sizes < self.k) | _above(counts, classes.sizes, ones, *ratio(self.alpha))

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,)."""
        counts = classes.counts(self.attribute)
        kept = largest_within(classes.sizes, counts, np.full(counts.shape[1], float(self.alpha)))
        kept = np.minimum(kept, classes.sizes - 1)
        # Parts that pass have k rows each: what is left of a class is none, or at least that many.
        return np.asarray(classes.sizes - np.where(kept < self.least_rows, 0, kept))


def _shares(attribute: Attribute) -> FloatArray:
    return np.asarray(attribute.overall / attribute.overall.sum())


def _enhanced(attribute: Attribute) -> FloatArray:
    """Return the largest share q (1 - ln q) of each value; 0 for values that nobody has."""
    shares = _shares(attribute)
    return np.asarray(shares * (1.0 - np.log(np.maximum(shares, 1e-300))))


def _above(counts: IntArray, sizes: IntArray, overall: IntArray, top: int, bottom: int) -> BoolArray:
    """Return which classes have a value with counts / size > overall * top / bottom, compared in whole numbers."""
    largest = int(sizes.max(initial=0)) * max(bottom, int(overall.max(initial=0)) * top)
    counts, sizes, overall = exact(largest, counts, sizes, overall)
    return np.asarray((counts * bottom > np.multiply.outer(sizes, overall * top)).any(axis=1), dtype=bool)
