"""l-diversity: the sensitive values of a class differ enough that the class does not give them away.

C        an equivalence class; c_v rows of it have the value v of the sensitive attribute, |C| = sum_v c_v
r_1 ...  the positive c_v in falling order, r_d the last: d distinct values

distinct     d >= l
entropy      - sum_v (c_v / |C|) ln(c_v / |C|) >= ln l; l need not be whole (Shannon's entropy; its base does not
             matter)
recursive    r_1 < c (r_l + r_{l+1} + ... + r_d), strictly; a class with fewer than l values fails

Source: Machanavajjhala, Kifer, Gehrke, Venkitasubramaniam 2007, ACM TKDD 1(1):3 (definitions 4.1, 4.2; distinct as in
section 4 of Li, Li, Venkatasubramanian 2007, ICDE). Limits and strictness as in ARX.

All three pass from classes to their union (theorem 5.1 there). Distinct: the union has at least the values of a part.
Entropy is concave, so a mixture has at least the least entropy of its parts. Recursive: the largest count of a union is
at most the sum of the parts' largest, and the l - 1 largest together at most the sum of the parts' l - 1 largest, so
what remains of the union is at least the sum of what remains of the parts.

Only distinct l-diversity is downward closed (a part of a class has no more values); a skewed class can have a balanced
part, so entropy and recursive l-diversity are not.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from anonymise._checks import check_attribute, check_number, is_whole
from anonymise.classes import AttributeName, BoolArray, Classes, FloatArray, IntArray
from anonymise.models._exact import exact, ratio

Kind = Literal["distinct", "entropy", "recursive"]

# n ln n is right to 1e-15 relative and at most |C| ln |C| of it are added up: entropies further apart are told apart.
_DOUBT: Final = 1e-11
# Above this many rows (after division by the common divisor) an entropy within 1e-11 of ln l counts as below it.
_EXACT_ROWS: Final = 20_000
_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class LDiversity:
    """Each released class has at least l well-represented values of the sensitive attribute.

    l          > 1; a whole number >= 2 for the kinds "distinct" and "recursive"
    attribute  the sensitive column, or a tuple of columns whose combination is the value
    kind       "distinct", "entropy" or "recursive", see above
    c          for "recursive" only, > 0: the most frequent value is rarer than c times all values from the l-th on

    A missing value is a value of its own, as in ARX: where missing means nothing to an outsider, ask for l + 1. The
    model knows no meaning: l similar diagnoses are l values (t-closeness with a hierarchical distance knows), and a
    value that is rare in the table can be frequent in a class (see t-closeness, beta-likeness). "distinct" alone lets a
    class have one value in all rows but l - 1. No kind hides who is in the table, and none composes over releases.

    Examples
    --------
    >>> LDiversity(3, attribute="diagnosis")
    LDiversity(l=3, attribute='diagnosis', kind='distinct', c=None)
    """

    l: float
    _: KW_ONLY
    attribute: AttributeName
    kind: Kind = "distinct"
    c: float | None = None

    needs_population: ClassVar[bool] = False
    # Shown above: for all kinds the union of passing classes passes.
    monotone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_attribute(self.attribute)
        if self.kind not in {"distinct", "entropy", "recursive"}:
            raise ValueError(f'kind must be "distinct", "entropy" or "recursive", got {self.kind!r}')
        if self.kind == "entropy":
            check_number("l", self.l, above=1.0, hint="1 protects nobody")
        elif not is_whole(self.l, least=2):
            raise ValueError(
                f"l must be an integer >= 2 for {self.kind} l-diversity (1 protects nobody), got {self.l!r}; "
                'only kind="entropy" takes fractions'
            )
        if self.kind == "recursive":
            if self.c is None:
                raise ValueError("recursive l-diversity needs c, such as c=3: r_1 < c (r_l + ... + r_d)")
            check_number("c", self.c, above=0.0, hint="the most frequent value is rarer than c times the rest")
        elif self.c is not None:
            raise ValueError(f'c belongs to kind="recursive" only, got c={self.c!r} with kind={self.kind!r}')

    @property
    def downward_closed(self) -> bool:
        """Whether every part of a failing class fails: for distinct l-diversity, which counts values."""
        return self.kind == "distinct"

    @property
    def least_rows(self) -> int:
        """A class has at least as many rows as values."""
        return math.ceil(self.l)

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes have too little diversity, shape (n_classes,)."""
        counts = classes.counts(self.attribute)
        fails = np.asarray((counts > 0).sum(axis=1) < self.l)
        if self.kind == "distinct":
            return fails
        # Fewer than l values cannot do; on fine generalisations that spares most classes the rest.
        at = np.flatnonzero(~fails)
        if self.kind == "entropy":
            fails[at] = _too_low_entropy(counts[at], self.l)
        else:
            fails[at] = _too_frequent(*_sorted(counts[at], int(self.l)), *self._multiplier())
        return fails

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many rows of each failing class are lost at every more specific node, shape (n_classes,)."""
        if self.kind == "distinct":
            return classes.sizes
        counts = classes.counts(self.attribute)
        lost = classes.sizes.copy()
        # What has fewer than l values has no part with more.
        at = np.flatnonzero((counts > 0).sum(axis=1) >= self.l)
        if self.kind == "recursive":
            lost[at] -= _largest_recursive(counts[at], int(self.l), *self._multiplier())
        else:
            # A failing class loses a row, even where the margin of the bound cannot tell.
            lost[at] = np.maximum(lost[at] - _largest_diverse(counts[at], self.l), 1)
        return lost

    def _multiplier(self) -> tuple[int, int]:
        return ratio(self.c or 0.0)


# ---------------------------------------------------------------- entropy


def _too_low_entropy(counts: IntArray, l: float) -> BoolArray:
    sizes = counts.sum(axis=1)
    # |C| ln l - |C| H = |C| ln l - |C| ln |C| + sum c ln c
    whole = _n_log_n(sizes)
    excess = _n_log_n(counts).sum(axis=1) - whole + sizes * math.log(l)
    fails = np.asarray(excess > 0.0)
    doubtful = np.flatnonzero(np.abs(excess) <= _DOUBT * (1.0 + whole))
    if doubtful.size:
        # Nearly all doubt is about equal counts, where the entropy is ln d.
        rows = counts[doubtful]
        n_values = (rows > 0).sum(axis=1)
        equal = rows.max(axis=1) * n_values == sizes[doubtful]
        fails[doubtful[equal]] = n_values[equal] < l
        for at in doubtful[~equal].tolist():
            fails[at] = not _entropy_reaches(counts[at], l)
    return fails


def _entropy_reaches(counts: IntArray, l: float) -> bool:
    """Return whether prod c_v^c_v l^|C| <= |C|^|C| in whole numbers; entropy does not change with a common factor."""
    some = counts[counts > 0] // np.gcd.reduce(counts)
    n = int(some.sum())
    if n > _EXACT_ROWS:
        return False
    top, bottom = ratio(l)
    powers = math.prod(int(count) ** int(count) for count in some)
    return bool(powers * top**n <= n**n * bottom**n)


@lru_cache(maxsize=4)
def _table(n: int) -> FloatArray:
    whole = np.arange(n, dtype=np.float64)
    whole[1:] *= np.log(whole[1:])
    whole.setflags(write=False)
    return whole


def _n_log_n(counts: IntArray) -> FloatArray:
    most = int(counts.max(initial=0))
    if most < 1 << 18:
        # A look-up costs a tenth of a logarithm.
        return np.asarray(_table(1 << most.bit_length())[counts])
    return _x_log_x(counts.astype(np.float64))


def _x_log_x(values: FloatArray) -> FloatArray:
    return np.asarray(values * np.log(np.maximum(values, 1e-300)))


def _largest_diverse(counts: IntArray, l: float) -> IntArray:
    """Return, per class with at least l values, a number that the size of no part with entropy >= ln l exceeds.

    Among parts of one size the one with all large counts cut to a common cap has the highest entropy, since every other
    majorises it (Marshall, Olkin 1979, chapter 5). Its entropy falls as the cap rises. So the lowest cap is sought that
    certainly fails: first among the counts themselves, then by bisection between two of them, where the counts below
    the cap do not change.
    """
    rising = np.sort(counts, axis=1)
    logs = _n_log_n(rising)
    # Rows, and sum of n ln n, of the counts before each one.
    rows_before = np.cumsum(rising, axis=1) - rising
    logs_before = np.cumsum(logs, axis=1) - logs
    n_cut = counts.shape[1] - np.arange(counts.shape[1])
    fails = _certainly_low(rows_before + n_cut * rising, logs_before + n_cut * logs, l)
    kept = counts.sum(axis=1).astype(np.float64)
    at = np.flatnonzero(fails.any(axis=1))
    first = fails[at].argmax(axis=1)
    high = rising[at, first].astype(np.float64)
    low = np.where(first > 0, rising[at, first - 1], 0).astype(np.float64)
    rows, parts, n_cut = rows_before[at, first], logs_before[at, first], n_cut[first]
    for _ in range(_STEPS):
        # Until the caps of all values together free less than a row.
        if not ((high - low) * n_cut > 0.5).any():
            break
        middle = 0.5 * (low + high)
        certain = _certainly_low(rows + n_cut * middle, parts + n_cut * _x_log_x(middle), l)
        high = np.where(certain, middle, high)
        low = np.where(certain, low, middle)
    kept[at] = rows + n_cut * high
    return np.asarray(np.floor(kept + 1e-6), dtype=np.int64)


def _certainly_low(sizes: npt.NDArray[Any], parts: FloatArray, l: float) -> BoolArray:
    """Return where the entropy ln |C| - sum n ln n / |C| is below ln l by more than rounding."""
    whole = _x_log_x(sizes.astype(np.float64))
    return np.asarray(parts - whole + sizes * math.log(l) > _DOUBT * (1.0 + np.abs(whole) + np.abs(parts)))


# ---------------------------------------------------------------- recursive


def _sorted(counts: IntArray, l: int) -> tuple[IntArray, IntArray]:
    """Return the largest count of each class, and its counts from the l-th largest on."""
    falling = np.sort(counts, axis=1)[:, ::-1]
    return falling[:, 0], falling[:, l - 1 :]


def _too_frequent(top: IntArray, rest: IntArray, c_top: int, c_bottom: int) -> BoolArray:
    most = int(top.max(initial=0)) + int(rest.sum(axis=1).max(initial=0))
    first, others = exact(most * max(c_top, c_bottom), top, rest.sum(axis=1))
    return np.asarray(first * c_bottom >= c_top * others, dtype=bool)


def _largest_recursive(counts: IntArray, l: int, c_top: int, c_bottom: int) -> IntArray:
    """Return, per failing class, a number that the size of no recursively diverse part exceeds.

    If a part passes with largest count a, the class with all counts cut to a passes too, as its tail is no shorter. So
    only cuts are looked at. cap - c tail(cap) is convex in the cap and 0 at 0: Newton's method from above finds the
    largest cap that passes, and no iterate is below it.
    """
    top, rest = _sorted(counts, l)
    c = c_top / c_bottom
    cap = top.astype(np.float64)
    at = np.arange(len(counts))
    for _ in range(_STEPS):
        free = rest[at] > cap[at, None]
        below = np.where(free, 0, rest[at]).sum(axis=1)
        slope = 1.0 - c * free.sum(axis=1) - 1e-11
        lower = np.where(below > 0, np.inf, 0.0)
        np.divide(c * below * (1.0 + 1e-11), slope, out=lower, where=(slope > 0.0) & (below > 0))
        # A cap that passes is a whole number below the root, and below the cap that was found to fail.
        cap[at] = np.minimum(cap[at] - 1.0, np.ceil(lower) - 1.0)
        cut = np.maximum(cap[at], 0.0).astype(np.int64)
        still = _too_frequent(cut, np.minimum(rest[at], cut[:, None]), c_top, c_bottom) & (cut > 0)
        at = at[still]
        if not at.size:
            break
    caps = np.maximum(cap, 0.0).astype(np.int64)
    return np.asarray(np.minimum(counts, caps[:, None]).sum(axis=1))
