"""The door to private rows: a generator asks for noisy marginals and private selections, and sees nothing else.

clique     columns of a marginal
k          number of cliques measured together
m          most rows that one patient has (`max_records_per_patient`)

Sensitivities, for the vector of k marginals of which one patient is added or removed: each marginal changes by
non-negative counts that sum to at most m, so its squared L2 change is at most m^2, and k m^2 for all together. If one
patient is replaced by another, each marginal changes by a difference of two such vectors: at most 2 m^2, and 2 k m^2.
The L1 distance of a marginal to a public estimate changes by at most m, or 2 m; times a weight, by that much more.
Counts of codes that are merged into public groups are sums of disjoint cells: a row is still counted once, and all of
this holds for them unchanged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators.capping import Keep, check_keep, check_records, keep_records
from generators.domain import Clique, Domain
from generators.encoding import encode
from generators.errors import BudgetInvalid, DomainMismatch
from generators.grouping import Group, Groups, check_groups, merge_codes
from generators.marginals import Codes, Counts, count_marginals
from generators.selection import exponential_mechanism, lazy_exponential_mechanism
from privacy import DiscreteGaussian, Event, ExponentialMechanism, Rng, Schema, SecureRng, rho_of
from privacy._checks import check_count
from privacy.neighbours import Neighbours, check_neighbours
from privacy.samplers import LARGEST_SCALE, sample_discrete_gaussian

# Public estimates are rounded to multiples of 2^-20 rows, so that scores are exact integers.
_SCORE_BITS = 20
_LARGEST_ESTIMATE = 2.0**40

# The largest score that the mechanism takes. One beyond is cut to it, which brings no two scores farther apart; an
# error would tell for certain on which side of it a private score lies, whatever epsilon is.
_LARGEST_SCORE = (1 << 62) - 1

# Counted marginals are kept for the next question, in the smallest type that holds them, up to so many bytes; and new
# ones are counted together, up to so many cells (64 MB).
_CACHED_BYTES = 1 << 26
_BATCH_CELLS = 1 << 23

# About 30 MB of remembered scores, cleared when there are more.
_REMEMBERED_SCORES = 1 << 17

# A sum of a few thousand prices, each rounded up by an accountant, must stay below what was granted.
_PRICE_GUARD = 1e-11


@dataclass(frozen=True, slots=True)
class Measurement:
    """A marginal with noise: public.

    columns    the clique
    values     noisy counts, one axis for each column; may be negative
    noise_std  standard deviation of the noise in each cell
    groups     for each column the group of each code, if codes were merged (`grouping`), else None: the axis then
               counts groups. Empty if no column's were.
    """

    columns: tuple[str, ...]
    values: npt.NDArray[np.int64]
    noise_std: float
    groups: tuple[Group | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.columns or self.values.ndim != len(self.columns):
            raise DomainMismatch("values must have one axis for each column of the clique")
        if not (self.noise_std > 0 and math.isfinite(self.noise_std)):
            raise ValueError(f"noise_std must be a finite number > 0, got {self.noise_std!r}")
        if self.groups and len(self.groups) != len(self.columns):
            raise DomainMismatch("groups must be empty, or have one entry for each column of the clique")
        for group, size in zip(self.groups, self.values.shape, strict=False):
            if group is not None and np.unique(group).tolist() != list(range(size)):
                raise DomainMismatch("a group's numbers must be those of its axis: 0, 1, ..., each for some code")


class MarginalOracle(Protocol):
    """What a generator may ask of private rows, wherever they are: one table, secret shares, or remote sites.

    domain      columns and sizes, from the public schema
    neighbours  the relation under which `events` are priced
    events      what was spent so far, in order
    """

    domain: Domain
    neighbours: Neighbours
    events: list[Event]

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with noise, in order: one vector release that costs at most `rho`.

        Where the public `groups` merge codes of a column, its axis counts groups.
        """
        ...

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[npt.NDArray[np.float64]],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """Return the index of a candidate whose marginal lies far, in L1, from its public estimate.

        Exponential mechanism at `epsilon`: at most epsilon^2 / 8 of rho. The score of candidate i is

            weights[i] * (||marginal_i - estimates[i]||_1 - penalties[i])

        with weights of one and penalties of zero by default, and its sensitivity is that of the distance times the
        largest weight. `estimates` may compute on `[i]`; whoever answers may ask for all of them, in any order.
        Where the public `groups` merge codes of a column, marginal and estimate count groups.
        """
        ...


class LazyEstimates(Sequence[npt.NDArray[np.float64]]):
    """Public estimates of the candidates, each computed when it is asked for.

    total      at least the sum of every estimate, in rows
    compute    gives the estimate of the i-th candidate: finite, >= 0
    count      number of candidates

    Knowing the total, an oracle can tell beforehand how far a marginal may lie from its estimate, and leave out
    candidates that cannot win.

    Examples
    --------
    >>> estimates = LazyEstimates(2, lambda i: np.full(2, 5.0 + i), total=12.0)
    >>> len(estimates), estimates[1]
    (2, array([6., 6.]))
    """

    def __init__(self, count: int, compute: Callable[[int], npt.NDArray[np.float64]], *, total: float) -> None:
        if not (total >= 0 and math.isfinite(total)):
            raise ValueError(f"total must be a finite number >= 0, got {total!r}")
        self.total = float(total)
        self._count, self._compute = count, compute

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.float64]: ...
    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[np.float64]]: ...
    def __getitem__(self, index: int | slice) -> npt.NDArray[np.float64] | list[npt.NDArray[np.float64]]:
        """Return the estimate of one candidate, or of several."""
        if isinstance(index, slice):
            return [self._compute(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        estimate = self._compute(index % self._count)
        if not (estimate.min(initial=0.0) >= 0 and estimate.sum() <= self.total * (1 + 1e-9) + 1e-9):
            raise DomainMismatch("an estimate is negative, or its sum exceeds the total that was stated")
        return estimate


class CountingOracle(ABC):
    """What every oracle that counts rows itself shares: noise, selection and prices are here and nowhere else.

    A subclass validates its rows against the schema, holds each patient to `max_records_per_patient` rows, and counts.

    Parameters
    ----------
    domain
        Columns and sizes, from the public schema.
    neighbours
        Relation under which sensitivities are computed.
    max_records_per_patient
        Most rows of one patient, m. Noise grows by m.
    rng
        Source of noise; the operating system's by default. Anything else protects nobody.
    """

    def __init__(
        self, domain: Domain, *, neighbours: Neighbours, max_records_per_patient: int, rng: Rng | None
    ) -> None:
        check_neighbours(neighbours)
        check_count("max_records_per_patient", max_records_per_patient)
        self._rng = check_rng(rng)
        self.domain = domain
        self.neighbours: Neighbours = neighbours
        self.events: list[Event] = []
        self._max_records = max_records_per_patient
        self._counted: dict[Clique, npt.NDArray[Any]] = {}
        self._counted_bytes = 0
        self._scored: dict[tuple[Clique, tuple[tuple[int, ...], int], tuple[bytes, ...]], int] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.domain)} columns, neighbours={self.neighbours!r})"

    @abstractmethod
    def _count(self, cliques: Sequence[Clique]) -> list[Counts]:
        """Return the exact counts of each clique, shape `domain.sizes(clique)`: private."""

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with noise, in order: one vector release that costs at most `rho`.

        Raises BudgetInvalid if `rho` is no positive number, or so small that the noise would be larger than 2^40.
        """
        if not cliques:
            raise DomainMismatch("measure at least one clique")
        event = discrete_gaussian_for(rho, len(cliques) * self._squared_change, linf_sensitivity=self._max_records)
        merged = check_groups(groups, self.domain)
        counts = list(self._each_count(cliques, merged))
        # The price is noted before the noise is drawn: an interruption must not leave a release unpriced.
        self.events.append(event)
        noise = sample_discrete_gaussian(event.scale, sum(count.size for count in counts), rng=self._rng)
        parts = np.split(noise, np.cumsum([count.size for count in counts])[:-1])
        return [
            Measurement(tuple(clique), count + part.reshape(count.shape), event.scale, _groups_of(clique, merged))
            for clique, count, part in zip(cliques, counts, parts, strict=True)
        ]

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[npt.NDArray[np.float64]],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """Return the index of a candidate whose marginal lies far, in L1, from its public estimate.

        The score of candidate i is weights[i] * (||marginal_i - estimates[i]||_1 - penalties[i]). Estimates and
        penalties are rounded to multiples of 2^-20 first, so every score is an exact integer (in 2^-20 rows), its
        sensitivity is exactly m (or 2 m under replace_one) times the largest weight, and no floating-point operation
        touches a count. Of `LazyEstimates`, only those are computed that could still be chosen; the law of the choice
        is the same, its running time is not constant.

        Raises
        ------
        DomainMismatch
            If an estimate does not fit its candidate, or the lengths differ. Nothing is charged then, unless the
            estimates are lazy: those are looked at while the choice is made.
        """
        if not candidates or len(candidates) != len(estimates):
            raise DomainMismatch("select needs at least one candidate, and one estimate for each")
        merged = check_groups(groups, self.domain)
        factors = checked_weights(weights, len(candidates))
        offsets = _checked_penalties(penalties, len(candidates))
        change = self._max_records * (1 if self.neighbours == "add_remove_one" else 2)
        sensitivity = max(factors) * change << _SCORE_BITS

        if not isinstance(estimates, LazyEstimates):
            distances = self._scores(candidates, estimates, merged)
            scores = [
                _cut(factor * (distance - offset))
                for factor, distance, offset in zip(factors, distances, offsets, strict=True)
            ]
            self.events.append(ExponentialMechanism(epsilon))
            return exponential_mechanism(scores, epsilon=epsilon, sensitivity=sensitivity, rng=self._rng)

        def score(i: int) -> int:
            [counts] = self._each_count(candidates[i : i + 1], merged)
            return _cut(factors[i] * (_score(counts, estimates[i]) - offsets[i]))

        # ||x - e||_1 <= ||x||_1 + ||e||_1, and rounding adds at most half a unit for each cell; groups have no more
        # cells than codes.
        [counts] = self._each_count([self.domain.columns[:1]], {})
        most = (int(counts.sum()) << _SCORE_BITS) + math.ceil(estimates.total * (1 + 1e-8) * 2.0**_SCORE_BITS) + 1
        bounds = [
            _cut(factor * (most + self.domain.cells(clique) - offset))
            for factor, clique, offset in zip(factors, candidates, offsets, strict=True)
        ]
        # Scores are computed in the middle of the draw, so the price is noted before it.
        self.events.append(ExponentialMechanism(epsilon))
        return lazy_exponential_mechanism(bounds, score, epsilon=epsilon, sensitivity=sensitivity, rng=self._rng)

    @property
    def _squared_change(self) -> int:
        """Largest squared L2 change of one marginal: m^2 or 2 m^2."""
        return self._max_records**2 * (1 if self.neighbours == "add_remove_one" else 2)

    def _scores(
        self, cliques: Sequence[Clique], estimates: Sequence[npt.NDArray[np.float64]], groups: Groups
    ) -> list[int]:
        """Return the score of each clique; one that was scored against the same estimate before is not scored again.

        MST asks d - 1 times about nearly the same d^2 / 2 pairs with estimates that never change.
        """
        if len(self._scored) > _REMEMBERED_SCORES:
            self._scored.clear()
        keys = [
            (
                tuple(clique),
                _fingerprint(estimate),
                tuple(groups[name].tobytes() if name in groups else b"" for name in clique),
            )
            for clique, estimate in zip(cliques, estimates, strict=True)
        ]
        new = [i for i, key in enumerate(keys) if key not in self._scored]
        for i, counts in zip(new, self._each_count([cliques[i] for i in new], groups), strict=True):
            self._scored[keys[i]] = _score(counts, estimates[i])
        return [self._scored[key] for key in keys]

    def _each_count(self, cliques: Sequence[Clique], groups: Groups) -> Iterator[Counts]:
        """Yield the merged counts of each clique in order: those known already, the others counted some at a time."""
        start = 0
        while start < len(cliques):
            stop, cells = start + 1, self.domain.cells(cliques[start])
            while stop < len(cliques) and (cells := cells + self.domain.cells(cliques[stop])) <= _BATCH_CELLS:
                stop += 1
            batch = [tuple(clique) for clique in cliques[start:stop]]
            new = [clique for clique in dict.fromkeys(batch) if clique not in self._counted]
            fresh = dict(zip(new, self._count(new), strict=True)) if new else {}
            for clique, counts in fresh.items():
                small = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
                if self._counted_bytes + small.nbytes <= _CACHED_BYTES:
                    self._counted[clique] = small
                    self._counted_bytes += small.nbytes
            for clique in batch:
                counts = fresh[clique] if clique in fresh else self._counted[clique].astype(np.int64)
                yield merge_codes(counts, clique, groups)
            start = stop


class LocalTableOracle(CountingOracle):
    """Answers from one table in this process, with exact discrete Gaussian noise and exact selection.

    Parameters
    ----------
    frame
        The private table: all the schema's columns, at least one row.
    schema
        The public description. With `patient_id`, a patient may have several rows; without, a row is a patient.
    neighbours
        Relation under which sensitivities are computed.
    max_records_per_patient
        Most rows of one patient, m. Noise grows by m. A table in which a patient has more is refused.
    keep
        "random": m rows of such a patient are kept instead, chosen before anything is counted (`keep_records`).
    rng
        Source of noise; the operating system's by default. Anything else protects nobody.

    Raises
    ------
    SchemaError
        If the table does not fit the schema.
    TooManyRecords
        If a patient has more rows than `max_records_per_patient`.

    Examples
    --------
    >>> schema = Schema.from_dict({"columns": {"sex": {"categories": ["F", "M"]}}})
    >>> oracle = LocalTableOracle(pd.DataFrame({"sex": ["F"] * 300 + ["M"] * 700}), schema)
    >>> [sex] = oracle.measure([("sex",)], rho=0.5)
    >>> sex.noise_std, bool(abs(sex.values - [300, 700]).max() < 20)
    (1.0..., True)
    >>> oracle.events
    [DiscreteGaussian(scale=1.0..., l2_sensitivity_squared=1, linf_sensitivity=1)]
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        schema: Schema,
        *,
        neighbours: Neighbours = "add_remove_one",
        max_records_per_patient: int = 1,
        keep: Keep = "all",
        rng: Rng | None = None,
    ) -> None:
        check_keep(keep)
        domain = Domain.from_schema(schema)
        super().__init__(domain, neighbours=neighbours, max_records_per_patient=max_records_per_patient, rng=rng)
        schema.validate(frame)
        if schema.patient_id is not None:
            if keep == "random":
                frame = keep_records(frame, schema.patient_id, most=max_records_per_patient, rng=self._rng)
            check_records(frame, schema.patient_id, max_records_per_patient)
        self._codes: Codes = encode(frame, schema)

    def _count(self, cliques: Sequence[Clique]) -> list[Counts]:
        return count_marginals(self._codes, self.domain, cliques)


def discrete_gaussian_for(rho: float, l2_sensitivity_squared: int, *, linf_sensitivity: int) -> DiscreteGaussian:
    """Return the event of least noise that costs at most `rho`, with room for an accountant's upward rounding.

    Examples
    --------
    >>> round(discrete_gaussian_for(0.105, 21, linf_sensitivity=1).scale, 6)
    10.0
    """
    if not (rho > 0 and math.isfinite(rho)):
        raise BudgetInvalid(f"rho must be a finite number > 0, got {rho!r}")
    scale = math.sqrt(l2_sensitivity_squared / (2 * rho)) * (1 + _PRICE_GUARD)
    if scale > float(LARGEST_SCALE):
        raise BudgetInvalid(f"rho = {rho!r} would need noise above 2^40: give a larger budget, or fewer columns")
    # So large a budget buys no noise at all; the sampler's smallest scale stands for it.
    event = DiscreteGaussian(
        scale=max(scale, 2.0**-8),
        l2_sensitivity_squared=l2_sensitivity_squared,
        linf_sensitivity=linf_sensitivity,
    )
    if rho_of(event) > rho:  # pragma: no cover - the guard above is larger than the rounding of these five operations
        raise BudgetInvalid("the noise would cost more than was granted")
    return event


def check_rng(rng: Any) -> Rng:
    """Return the random source, the operating system's by default. Raises TypeError on anything seeded by mistake."""
    if rng is None:
        return SecureRng()
    if not (hasattr(rng, "uint64") and hasattr(rng, "below")):
        raise TypeError(
            f"rng must be a random source of `privacy` (SecureRng), got {type(rng).__name__}; noise that protects "
            "people never comes from numpy.random: leave rng out"
        )
    source: Rng = rng
    return source


def _fingerprint(estimate: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], int]:
    """Return a key that equal estimates share: 64 bits of a hash are enough for values that are public and honest."""
    return np.shape(estimate), hash(np.asarray(estimate, dtype=np.float64).tobytes())


def checked_weights(weights: Sequence[int] | None, count: int) -> list[int]:
    """Return the weights of a choice, one if there are none. Raises DomainMismatch unless each is an integer >= 1."""
    if weights is None:
        return [1] * count
    exact = [int(weight) for weight in weights]
    if len(exact) != count or min(exact) < 1 or any(a != b for a, b in zip(exact, weights, strict=True)):
        raise DomainMismatch("weights must be whole numbers >= 1, one for each candidate")
    return exact


def _checked_penalties(penalties: Sequence[float] | None, count: int) -> list[int]:
    if penalties is None:
        return [0] * count
    if len(penalties) != count or not all(abs(penalty) <= _LARGEST_ESTIMATE for penalty in penalties):
        raise DomainMismatch("penalties must be numbers of rows of at most 2^40, one for each candidate")
    return [round(penalty * 2.0**_SCORE_BITS) for penalty in penalties]


def _groups_of(clique: Clique, groups: Groups) -> tuple[Group | None, ...]:
    return tuple(groups.get(name) for name in clique) if any(name in groups for name in clique) else ()


def _cut(score: int) -> int:
    return max(-_LARGEST_SCORE, min(score, _LARGEST_SCORE))


def _score(counts: npt.NDArray[np.int64], estimate: npt.NDArray[np.float64]) -> int:
    if np.shape(estimate) != counts.shape or not np.isfinite(estimate).all():
        raise DomainMismatch("an estimate must be finite and have the shape of its candidate's marginal")
    if np.abs(estimate).max(initial=0.0) > _LARGEST_ESTIMATE:
        raise DomainMismatch("an estimate above 2^40 rows cannot be scored exactly; give counts, not weights")
    # In doubles, exactly: every term is an integer, and none is rounded while the sum stays below 2^52.
    terms = np.multiply(estimate, 2.0**_SCORE_BITS, dtype=np.float64)
    np.rint(terms, out=terms)
    np.subtract(counts * 2.0**_SCORE_BITS, terms, out=terms)
    np.abs(terms, out=terms)
    total = float(terms.sum())
    if total < 2.0**52:
        return int(total)
    public = np.rint(np.asarray(estimate, dtype=np.float64) * 2.0**_SCORE_BITS).astype(np.int64)
    return sum(np.abs((counts << _SCORE_BITS) - public).ravel().tolist())
