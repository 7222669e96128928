"""Score and information of Cox's model from sums at risk that stay on shares: of every step, only the two are opened.

For each cell (a time in a stratum), with S and D as in `cox_sums`, nodes phi_j and weights omega_j as in `cox_ties`:

    A_j = S - phi_j D,   m_j = A1_j / A0_j   (a mean of covariates, in [-1, 1])
    score        sum of x over deaths - sum over cells and j of omega_j m_j
    information  sum over cells and j of omega_j (A2_j / A0_j - m_j m_j')
    value        sum of x'b over deaths - sum over cells and j of omega_j log A0_j

S0 may be anything between one patient's weight and that of 2^24. Every cell is brought to S0 in [1, 2) by a shared
power of two (`smpc.tables`); then S and D are numbers of 30 fractional bits below 2 in size, and 1 / A0_j is below 17.
A cell without deaths, which may also be without patients, is replaced by a patient with x = 0, and weighs nothing.

Numbers are cut back at random, right on average: m_j is wrong by about 2^-28, a thousand deaths together by 2^-23.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from smpc import FIELD61, RING64, Session, Shared, SharedBits, SharePackage, small_cells
from smpc.fine import RECIPROCAL_BITS, Product, fine_products, fine_reciprocal
from smpc.shared import concatenate
from smpc.tables import leading_power, lookup
from synthema.learning import dominance
from synthema.learning.cox import LEAST_TIMES
from synthema.learning.cox_sums import FRAC_BITS, MOST_WEIGHT, Cells, Encoding, n_statements
from synthema.learning.cox_ties import HEAVIEST, efron_rule

Ties = Literal["efron", "breslow"]
Ints = npt.NDArray[np.int64]

# Fractional bits of means' parts, of the parts of second moments, and of nodes.
_MEAN, _MOMENT, _NODE = 30, 24, 26
_TOP = MOST_WEIGHT.bit_length() - 1
_MOST_WEIGHT_BITS = 25
_HEAVIEST = (17, 20)
assert _HEAVIEST[0] / _HEAVIEST[1] == HEAVIEST  # noqa: S101 - one number in two forms

# What is opened in place of sums that may not be.
TOO_MANY_TIES, HEAVY_TIES, DOMINATED, TOO_FEW_TIMES = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What is public of a step.

    most_rows    of all sites together
    frac_bits    of what is opened, up to 28
    """

    cells: Cells
    p: int
    ties: Ties
    max_ties: int
    encoding: Encoding
    n_sites: int
    most_rows: int
    frac_bits: int = FRAC_BITS
    score_alone: bool = False

    @property
    def most_deaths(self) -> int:
        """Most deaths in one cell: as the rule for ties allows; for Breslow's, of all patients."""
        return self.max_ties if self.ties == "efron" else self.most_rows

    @property
    def weight_bits(self) -> int:
        """Fractional bits of omega: as many as leave room for a product with a mean."""
        if self.ties == "breslow":
            return 0
        return min(_MOST_WEIGHT_BITS, 61 - FRAC_BITS - self.max_ties.bit_length())

    @property
    def shift_bits(self) -> int:
        """Fractional bits of the logarithm of a cell's power of two."""
        return min(40, 55 - self.most_deaths.bit_length())

    @property
    def n_nodes(self) -> int:
        """Nodes of each cell."""
        return efron_rule(self.max_ties).nodes.shape[1] if self.ties == "efron" else 1

    @property
    def least(self) -> float:
        """A0_j is at least so much where S0 is in [1, 2)."""
        return min(1 / self.n_nodes, 1 - HEAVIEST) * 0.99 if self.ties == "efron" else 0.99

    def table(self) -> Ints:
        """Return what depends on d: nodes, weights, weights times nodes; then [d >= 1] and [d > nodes]."""
        if self.ties == "breslow":
            return np.array([[0], [1]], dtype=np.int64)
        rule = efron_rule(self.max_ties)
        d = np.arange(self.max_ties + 1)[:, None]
        return np.concatenate(
            [
                np.rint(np.ldexp(rule.nodes, _NODE)),
                np.rint(np.ldexp(rule.weights, self.weight_bits)),
                np.rint(np.ldexp(rule.weights * rule.nodes, self.weight_bits)),
                d >= 1,
                d > self.n_nodes,
            ],
            axis=1,
        ).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Cells on shares, S0 in [1, 2): s and d of shape (cells, q), nodes and weights of (cells, nodes).

    shift   log(S0 before) - log(S0 after), in units of 2^-plan.shift_bits
    """

    s: Shared
    d: Shared
    deaths: Shared
    nodes: Shared | None
    weights: Shared
    weighted_nodes: Shared | None
    many: Shared | None
    shift: Shared


async def open_step(session: Session, packages: Sequence[SharePackage], plan: Plan) -> Ints:
    """Open score and upper triangle of the information in units of 2^-frac_bits, and 0.

    Or a single number: why they may not be opened.
    """
    p, n = plan.p, plan.cells.n
    q = 1 + p + (0 if plan.score_alone else p * (p + 1) // 2)
    parts = [session.shared(package.expand(), RING64) for package in packages]
    total = _sum_of(parts)
    n_sums, n_tested = 2 * n * q + n + p, n_statements(p, score_alone=plan.score_alone)
    tested = [(part[n_sums : n_sums + n_tested], part[n_sums + n_tested :]) for part in parts]
    ties, rest = await session.together(
        _cells_and_ties(session, total, q, plan),
        dominance.any_dominated(session, [each[0] for each in tested], [each[1] for each in tested]),
    )
    cells, refused = ties
    if refused or rest:
        return np.array([refused or DOMINATED], dtype=np.int64)
    expected, information = await _score_and_information(session, cells, plan)
    sums = total[2 * n * q + n : n_sums] - expected
    if information is not None:
        j, k = np.triu_indices(p)
        sums = concatenate(sums, information.reshape(p * p)[j * p + k])
    if plan.frac_bits < FRAC_BITS:
        # Cut back before they are opened: nobody learns more digits.
        sums = await session.truncate(sums.declare(2.0**60), FRAC_BITS - plan.frac_bits, how="exact")
    return np.concatenate([await session.open(sums), [0]])


async def open_value(session: Session, packages: Sequence[SharePackage], plan: Plan) -> Ints:
    """Open the log-likelihood in units of 2^-28, and 0; or a single number: why it may not be."""
    n = plan.cells.n
    total = _sum_of([session.shared(package.expand(), RING64) for package in packages])
    cells, refused = await _cells_and_ties(session, total, 1, plan)
    if refused:
        return np.array([refused], dtype=np.int64)
    y, _ = await _denominators(session, cells, plan)
    bits, w = 24, plan.weight_bits
    logs = await session.log(y.ldexp(-_MEAN), least=plan.least, most=2.5, frac_bits=bits)
    weighted, shifts = await fine_products(
        session,
        Product(cells.weights, logs, plan.most_deaths * math.ldexp(4, w + bits), cut=max(w + bits - FRAC_BITS, 0)),
        Product(
            cells.deaths,
            cells.shift,
            plan.most_deaths * math.ldexp(64, plan.shift_bits),
            cut=plan.shift_bits - FRAC_BITS,
        ),
    )
    # Without a weight's fractional bits there are fewer than 28.
    weighted = weighted * (1 << max(FRAC_BITS - w - bits, 0))
    value = total[3 * n :] - weighted.sum() - shifts.sum()
    return np.concatenate([await session.open(value.reshape(1)), [0]])


def _sum_of(parts: Sequence[Shared]) -> Shared:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


async def _cells_and_ties(session: Session, total: Shared, q: int, plan: Plan) -> tuple[_Cells, int]:
    """Bring cells to one size; return why sums over them may not be opened, or 0. Opens one to three yes/no for it."""
    n, m = plan.cells.n, plan.n_nodes
    s, d = total[: n * q].reshape(n, q), total[n * q : 2 * n * q].reshape(n, q)
    deaths = total[2 * n * q : 2 * n * q + n]
    looked = deaths.declare(plan.most_deaths)
    if plan.ties == "efron":
        beyond = session.negative_bits(plan.max_ties - deaths.declare(plan.most_rows))
        found, too_many = await session.together(lookup(session, looked, plan.table()), beyond)
        nodes, weights, weighted_nodes = (found[:, i * m : (i + 1) * m] for i in range(3))
        anybody, many = found[:, 3 * m : 3 * m + 1], found[:, 3 * m + 1]
    else:
        found, too_many = await lookup(session, looked, plan.table()), None
        nodes, weighted_nodes, many, weights, anybody = None, None, None, looked.reshape(n, 1), found
    # 1 and zeros where nobody dies.
    base = np.zeros(q, dtype=np.int64)
    base[0] = 1 << plan.encoding.weight_bits
    [present] = await fine_products(session, Product(anybody, s - base, float(MOST_WEIGHT)))
    s = present + base
    bits = plan.shift_bits
    least = plan.encoding.least(n_sites=plan.n_sites)
    logs = [
        round(math.ldexp((k - plan.encoding.weight_bits) * math.log(2), bits))
        for k in range(least.bit_length() - 1, _TOP + 1)
    ]
    power, shift = await leading_power(session, s[:, 0], least=least, most=MOST_WEIGHT, also=logs)
    scaled_s, scaled_d = await _scaled(session, s, d, power.reshape(n, 1), plan.p)
    cells = _Cells(scaled_s, scaled_d, looked, nodes, weights, weighted_nodes, many, shift)
    return cells, await _why_not(session, cells, too_many)


async def _scaled(session: Session, s: Shared, d: Shared, power: Shared, p: int) -> tuple[Shared, Shared]:
    """Multiply by the power; first columns keep 30 fractional bits, second moments 24."""
    bound = 2.0 ** (_TOP + 1) * 1.001
    means, moments = slice(0, 1 + p), slice(1 + p, None)
    out = await fine_products(
        session,
        *(
            Product(power, side[:, part], bound, cut=_TOP - bits)
            for side in (s, d)
            for part, bits in ((means, _MEAN), (moments, _MOMENT))
        ),
    )
    return _beside(out[0], out[1]), _beside(out[2], out[3])


def _beside(x: Shared, y: Shared) -> Shared:
    """Put columns beside each other."""
    joined = concatenate(x.T.reshape(-1), y.T.reshape(-1))
    return joined.reshape(x.shape[1] + y.shape[1], x.shape[0]).T


async def _why_not(session: Session, cells: _Cells, too_many: SharedBits | None) -> int:
    if cells.many is None or too_many is None:
        return 0 if await _enough_times(session, cells.deaths) else TOO_FEW_TIMES
    part, whole = _HEAVIEST
    left = part * cells.s[:, 0] - whole * cells.d[:, 0] + (1 - cells.many) * (1 << (_MEAN + 6))
    heavy = await session.negative_bits(left)
    enough, *flags = await session.together(
        _enough_times(session, cells.deaths), _any(session, too_many), _any(session, heavy)
    )
    if not enough:
        return TOO_FEW_TIMES
    if flags[0]:
        return TOO_MANY_TIES
    return HEAVY_TIES if flags[1] else 0


async def _enough_times(session: Session, deaths: Shared) -> bool:
    """Open whether deaths fall on at least `LEAST_TIMES` times: of few cells, sums could be solved for their counts."""
    quiet = (await session.to_numbers(await session.negative_bits(deaths - 1))).sum().reshape(1)
    too_few = await session.negative_bits((len(deaths) - LEAST_TIMES) - quiet)
    return not await _any(session, too_few)


async def _any(session: Session, bits: SharedBits) -> bool:
    number = (await session.to_numbers(bits, FIELD61)).sum()
    # Tested for zero: the product with a random mask is opened, and no more.
    return not bool(await small_cells(session, number + 1, threshold=2))


async def _denominators(session: Session, cells: _Cells, plan: Plan) -> tuple[Shared, Shared]:
    """Return A0, shape (cells, nodes), and A1, shape (cells, nodes, p), with 30 fractional bits."""
    n, m = plan.cells.n, plan.n_nodes
    last = min(1 + plan.p, cells.s.shape[1])
    s, d = (side[:, :last].reshape(n, 1, last) for side in (cells.s, cells.d))
    if cells.nodes is None:
        first = s
    else:
        [part] = await fine_products(
            session, Product(cells.nodes.reshape(n, m, 1), d, 2.0 ** (_NODE + _MEAN + 1) * 1.01, cut=_NODE)
        )
        # The difference is broadcast by words, as shared arrays of one shape.
        first = _repeated(s, m) - part
    return first[..., 0].declare(2.1 * 2**_MEAN), first[..., 1:]


def _repeated(x: Shared, m: int) -> Shared:
    n, _, width = x.shape
    return x[np.repeat(np.arange(n), m)].reshape(n, m, width)


async def _score_and_information(session: Session, cells: _Cells, plan: Plan) -> tuple[Shared, Shared | None]:
    """Return the expected score, shape (p,), and the information, shape (p, p) or None, with 28 fractional bits."""
    n, m, p, w = plan.cells.n, plan.n_nodes, plan.p, plan.weight_bits
    y, first = await _denominators(session, cells, plan)
    h = await fine_reciprocal(session, y, frac_bits=_MEAN, least=plan.least)
    largest = 1 / plan.least
    # Means of 28 fractional bits; reciprocals of 24 for the second moments.
    [means], short = await session.together(
        fine_products(
            session,
            Product(first, h.reshape(n, m, 1), 2.0 ** (_MEAN + RECIPROCAL_BITS) * 1.01, cut=_MEAN),
        ),
        session.truncate(h, RECIPROCAL_BITS - _MOMENT, how="stochastic"),
    )
    # The weights' sum over nodes of 1 / A0: at most `largest` for each death.
    hazard = plan.most_deaths * largest
    sum_bits = min(61 - _MOMENT - 2 - math.ceil(math.log2(hazard)), _MOMENT + w)
    wanted = [
        Product(cells.weights.reshape(n, m, 1), means, plan.most_deaths * math.ldexp(1.01, FRAC_BITS + w), cut=w),
    ]
    if cells.weighted_nodes is not None and not plan.score_alone:
        bound = hazard * math.ldexp(1.01, _MOMENT + w)
        sides = (cells.weights, cells.weighted_nodes)
        wanted.extend(Product(side, short, bound, cut=_MOMENT + w - sum_bits) for side in sides)
    weighted, *hazards = await fine_products(session, *wanted)
    score = weighted.reshape(n * m, p).sum(axis=0)
    if plan.score_alone:
        return score, None
    if not hazards:
        return score, await _single_moments(session, cells, h, means.reshape(n, p), plan)
    first_part, second_part = await session.together(
        _tied_moments(session, cells, [each.sum(axis=1) for each in hazards], sum_bits, plan),
        _squares(session, means.reshape(n * m, p), weighted.reshape(n * m, p), plan),
    )
    return score, first_part - second_part


async def _tied_moments(
    session: Session, cells: _Cells, hazards: Sequence[Shared], sum_bits: int, plan: Plan
) -> Shared:
    """Return the sum over cells of omega A2 / A0, shape (p, p): of S2 and D2 with the sums of 1 / A0 and phi / A0."""
    bound = 2.01 * plan.most_deaths / plan.least * math.ldexp(1.0, _MOMENT + sum_bits)
    cut = _MOMENT + sum_bits - FRAC_BITS
    sides = [side[:, 1 + plan.p :] for side in (cells.s, cells.d)]
    found = await fine_products(
        session,
        *(
            Product(hazard.reshape(plan.cells.n, 1), side, bound, cut=max(cut, 0))
            for hazard, side in zip(hazards, sides, strict=True)
        ),
    )
    return _square((found[0].sum(axis=0) - found[1].sum(axis=0)) * (1 << max(-cut, 0)), plan.p)


async def _single_moments(session: Session, cells: _Cells, h: Shared, means: Shared, plan: Plan) -> Shared:
    """Return the sum over cells of d (S2 / S0 - m m'), shape (p, p): d may be large, so that it comes last."""
    j, k = np.triu_indices(plan.p)
    second, squares = await fine_products(
        session,
        Product(
            h,
            cells.s[:, 1 + plan.p :],
            math.ldexp(1.01, _MOMENT + RECIPROCAL_BITS),
            cut=_MOMENT + RECIPROCAL_BITS - FRAC_BITS,
        ),
        Product(means[:, j], means[:, k], math.ldexp(1.01, 2 * FRAC_BITS), cut=FRAC_BITS),
    )
    bound = plan.most_deaths * math.ldexp(2.01, FRAC_BITS)
    [found] = await fine_products(session, Product(cells.weights, second - squares, bound))
    return _square(found.sum(axis=0), plan.p)


def _square(triangle: Shared, p: int) -> Shared:
    """Return the symmetric matrix of an upper triangle."""
    place = np.zeros((p, p), dtype=np.int64)
    upper = np.triu_indices(p)
    place[upper] = np.arange(len(upper[0]))
    place = np.maximum(place, place.T)
    return triangle[place.ravel()].reshape(p, p)


async def _squares(session: Session, means: Shared, weighted: Shared, plan: Plan) -> Shared:
    """Return the sum over cells of omega m m', shape (p, p): one product of matrices."""
    # All deaths together.
    deaths = min(plan.most_rows, plan.cells.n * plan.most_deaths)
    bits = min((61 - math.ceil(math.log2(deaths + 1))) // 2, FRAC_BITS)
    if bits < FRAC_BITS:
        left, right = await session.together(
            *(
                session.truncate(side.declare(size), FRAC_BITS - bits, how="stochastic")
                for side, size in ((means, 2.0**FRAC_BITS * 1.01), (weighted, plan.most_deaths * 2.0**FRAC_BITS * 1.01))
            )
        )
    else:
        left, right = means, weighted
    [found] = await fine_products(
        session,
        Product(left.T, right, deaths * math.ldexp(1.01, 2 * bits), cut=max(2 * bits - FRAC_BITS, 0), matrices=True),
    )
    return found * (1 << max(FRAC_BITS - 2 * bits, 0))
