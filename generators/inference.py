"""The distribution over a forest that fits noisy marginals best: weighted least squares, by Newton on the dual.

y_c, s_c   noisy counts of clique c (a node or an edge) and their noise standard deviation;  w_c = 1 / s_c^2
N          total number of rows, estimated from the same measurements
mu         non-negative counts of every node and edge of the forest that agree with each other and sum to N: on a
           forest, and only there, these are exactly the marginals of some table
f(mu)      1/2 sum_c w_c ||mu_c - y_c||^2, minimised over all such mu

With a multiplier for each agreement (edge e = (p, c): sum_c mu_e = mu_p, sum_p mu_e = mu_c) and one for each root's
total, the minimum over mu >= 0 is closed: mu_e = max(0, y_e - (lambda_p + lambda_c) / w_e), cell by cell. So the dual
has as many unknowns as the edges have margins, is concave and piecewise quadratic, and its second derivative is a mask
of the positive cells: Newton's method ends in some ten steps, each solved by conjugate gradients. (Entropic mirror
descent, which the literature uses, reaches the same optimum; at high budgets its steps are as small as the largest
cell demands, and thousands of them are not enough.) The gap between a feasible mu and the dual value certifies the
result.

Everything here is post-processing of released values. Source of the estimate: McKenna, Sheldon, Miklau 2019,
arXiv:1901.09136 (private-PGM); of semismooth Newton on such duals: Qi, Sun 2006, SIAM J. Matrix Anal. 28:360.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.errors import DomainMismatch
from generators.factor import FloatArray
from generators.forest import Forest, ForestMarginals, clique_marginals, compose
from generators.oracle import Measurement
from generators.propagation import CliqueMarginals

Zeros = Mapping[Clique, npt.NDArray[np.bool_]]

# Cliques that nobody measured are drawn to independence by so small a part of the weakest measured weight.
_FAINT = 1e-4

# Newton's matrix is singular along shifts between the two margins of an edge; so much of its scale keeps it definite.
_DAMPING = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one clique: counts, and the variance of their noise, columns in domain order.

    variance   of each cell: one number, or an array of the shape of `values` where cells differ (merged codes)
    """

    columns: Clique
    values: FloatArray
    variance: float | FloatArray

    @property
    def cell_variance(self) -> FloatArray:
        """The variance of each cell, shape of `values`."""
        return np.broadcast_to(np.asarray(self.variance, dtype=np.float64), self.values.shape)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted distribution.

    gap_per_cell   certified bound on (f(mu) - min f) / number of cells; cells are off the best fit by at most
                   sqrt(2 gap_per_cell) of their noise (root mean square)
    converged      whether the gap met the tolerance within the allowed iterations
    """

    marginals: CliqueMarginals
    total: float
    gap_per_cell: float
    iterations: int
    converged: bool


def merge(measurements: Iterable[Measurement], domain: Domain) -> dict[Clique, Evidence]:
    """Return one piece of evidence for each clique: repeated measurements averaged by inverse variance."""
    parts = []
    for measurement in measurements:
        if measurement.values.shape != domain.sizes(measurement.columns):
            raise DomainMismatch(f"the measurement of {', '.join(measurement.columns)} has another shape")
        order = sorted(range(len(measurement.columns)), key=lambda i: domain.position(measurement.columns[i]))
        clique = tuple(measurement.columns[i] for i in order)
        parts.append(Evidence(clique, measurement.values.transpose(order).astype(np.float64), measurement.noise_std**2))
    return pool(parts)


def pool(parts: Iterable[Evidence]) -> dict[Clique, Evidence]:
    """Return one piece of evidence for each clique, averaged by inverse variance.

    Examples
    --------
    >>> pooled = pool([Evidence(("a",), np.array([10.0]), 1.0), Evidence(("a",), np.array([13.0]), 2.0)])[("a",)]
    >>> pooled.values, round(pooled.variance, 4)
    (array([11.]), 0.6667)
    """
    sums: dict[Clique, tuple[FloatArray, float | FloatArray]] = {}
    for part in parts:
        known, weight = sums.get(part.columns, (np.zeros(part.values.shape), 0.0))
        sums[part.columns] = (known + part.values / part.variance, weight + 1 / part.variance)
    return {clique: Evidence(clique, values / weight, 1 / weight) for clique, (values, weight) in sums.items()}


def margins(part: Evidence) -> tuple[Evidence, Evidence]:
    """Return what a pair's counts tell about each of its two columns."""
    rows, columns = part.values.shape
    first, second = part.columns
    if isinstance(part.variance, np.ndarray):
        return (
            Evidence((first,), part.values.sum(axis=1), part.variance.sum(axis=1)),
            Evidence((second,), part.values.sum(axis=0), part.variance.sum(axis=0)),
        )
    return (
        Evidence((first,), part.values.sum(axis=1), part.variance * columns),
        Evidence((second,), part.values.sum(axis=0), part.variance * rows),
    )


def estimate_total(evidence: Iterable[Evidence]) -> float:
    """Return the number of rows, >= 1: the noisy sums of all marginals, averaged by inverse variance.

    Examples
    --------
    >>> estimate_total([Evidence(("a",), np.array([40.0, 62.0]), 1.0), Evidence(("b",), np.array([99.0]), 2.0)])
    100.5
    """
    pairs = [(float(part.values.sum()), float(part.cell_variance.sum())) for part in evidence]
    if not pairs:
        raise DomainMismatch("a total needs at least one measurement")
    weight = math.fsum(1 / variance for _, variance in pairs)
    return max(1.0, math.fsum(total / variance for total, variance in pairs) / weight)


def on_simplex(values: FloatArray, total: float) -> FloatArray:
    """Return the nearest non-negative array with this sum (Euclidean projection), shape of `values`.

    Examples
    --------
    >>> on_simplex(np.array([5.0, 3.0, -4.0]), 4.0)
    array([3., 1., 0.])
    """
    ordered = np.sort(values.ravel())[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, ordered.size + 1)
    last = int(np.flatnonzero(ordered > excess)[-1])
    projected: FloatArray = np.maximum(values - excess[last], 0.0)
    return projected


def fit_forest(
    forest: Forest,
    evidence: Iterable[Evidence],
    *,
    total: float,
    zeros: Zeros | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> Fit:
    """Return the distribution over the forest that fits the evidence best.

    Parameters
    ----------
    forest
        Its nodes and edges are the only cliques that the evidence may speak of. Those of which it says nothing are
        drawn to independence.
    evidence
        At most one for each clique (`pool`).
    total
        Number of rows, >= 1.
    zeros
        Clique, in domain order -> True where a combination is impossible; it gets probability exactly zero.
    tolerance
        Stop once the certified gap is at most this times the number of cells: at 1e-4, cells are off the optimum by
        less than 1/70 of their noise (root mean square).
    max_iterations
        Stop anyway; `Fit.converged` tells.

    Raises
    ------
    DomainMismatch
        If the evidence or the zeros speak of other cliques, or the zeros leave no possible row.
    """
    problem = _Problem(forest, tuple(evidence), total, zeros or {})
    multipliers = np.zeros(problem.size)
    primal = problem.primal(multipliers)
    value = problem.dual_value(multipliers, primal)
    best: tuple[float, ForestMarginals] | None = None
    lower = -math.inf
    iteration = 0
    while True:
        marginals = problem.feasible(primal)
        loss = problem.loss(marginals)
        if best is None or loss < best[0]:
            best = (loss, marginals)
        lower = max(lower, value)
        gap = max(best[0] - lower, 0.0)
        if gap <= tolerance * problem.n_cells or iteration == max_iterations:
            break
        iteration += 1
        slope = problem.dual_slope(primal)
        direction = problem.newton_step(primal, slope)
        rise = float(slope @ direction)
        length = 1.0
        # The dual is concave along the direction: halving ends, and a rise below rounding ends the search as well.
        while length > 1e-10:
            trial = multipliers + length * direction
            trial_primal = problem.primal(trial)
            trial_value = problem.dual_value(trial, trial_primal)
            if trial_value >= value + 1e-4 * length * rise - 1e-13 * abs(value):
                break
            length *= 0.5
        multipliers, primal, value = trial, trial_primal, trial_value
    return Fit(clique_marginals(best[1]), total, gap / problem.n_cells, iteration, gap <= tolerance * problem.n_cells)


@dataclass(frozen=True, slots=True)
class _Primal:
    """Counts of each node and, by child, of each edge (parent on axis 0): non-negative, agreeing at the optimum."""

    nodes: list[FloatArray]
    edges: dict[int, FloatArray]


class _Problem:
    """The objective, its dual, and the place of each multiplier in one flat vector."""

    def __init__(self, forest: Forest, evidence: Sequence[Evidence], total: float, zeros: Zeros) -> None:
        self.forest, self.total = forest, total
        sizes = forest.domain.n_codes
        self.children = forest.children
        self.possible_nodes = [np.ones(size, dtype=bool) for size in sizes]
        self.possible_edges = {i: np.ones(forest.edge_shape(i), dtype=bool) for i in self.children}
        for clique, impossible in zeros.items():
            child, flipped = self._place(clique)
            if len(clique) == 1:
                self.possible_nodes[child] &= ~impossible
            else:
                self.possible_edges[child] &= ~(impossible.T if flipped else impossible)
        self._close_zeros()
        self.node_target: list[FloatArray] = [np.full(size, total / size) for size in sizes]
        faint = _FAINT / max((float(np.max(part.variance)) for part in evidence), default=1.0)
        self.node_weight: list[float | FloatArray] = [faint] * len(sizes)
        self.edge_weight: dict[int, float | FloatArray] = dict.fromkeys(self.children, faint)
        edge_target: dict[int, FloatArray] = {}
        for part in evidence:
            child, flipped = self._place(part.columns)
            if len(part.columns) == 1:
                self.node_target[child] = part.values
                self.node_weight[child] = 1 / part.variance
            else:
                edge_target[child] = part.values.T if flipped else part.values
                self.edge_weight[child] = 1 / (np.transpose(part.variance) if flipped else part.variance)
        self.edge_target = {
            i: edge_target[i] if i in edge_target else self._independent(forest.parent[i], i) for i in self.children
        }
        weights = [*self.node_weight, *self.edge_weight.values()]
        self.largest_gain = max(1 / float(np.min(weight)) for weight in weights)
        self.n_cells = sum(sizes) + sum(part.size for part in self.edge_target.values())
        # Flat vector: for each edge the parent's margin, then the child's; then one total for each root.
        self.roots = [i for i in forest.order if forest.parent[i] < 0]
        self.slots: dict[int, tuple[slice, slice]] = {}
        at = 0
        for i in self.children:
            n_parent, n_child = forest.edge_shape(i)
            self.slots[i] = (slice(at, at + n_parent), slice(at + n_parent, at + n_parent + n_child))
            at += n_parent + n_child
        self.root_slot = {root: at + k for k, root in enumerate(self.roots)}
        self.size = at + len(self.roots)

    def _place(self, columns: Clique) -> tuple[int, bool]:
        """Return the position of the node, or of the edge's child, and whether the clique names the child first."""
        domain, parent = self.forest.domain, self.forest.parent
        positions = [domain.position(name) for name in columns]
        if len(positions) == 1:
            return positions[0], False
        if len(positions) == 2:
            first, second = positions
            if parent[second] == first:
                return second, False
            if parent[first] == second:
                return first, True
        raise DomainMismatch(f"{', '.join(columns)} is no column or edge of the forest")

    def _close_zeros(self) -> None:
        """Carry impossible codes along the edges, up and down, so that what is left possible can be completed."""
        for i in reversed(self.children):
            edge = self.possible_edges[i]
            edge &= self.possible_nodes[i][None, :]
            self.possible_nodes[self.forest.parent[i]] &= edge.any(axis=1)
        for i in self.children:
            edge = self.possible_edges[i]
            edge &= self.possible_nodes[self.forest.parent[i]][:, None]
            self.possible_nodes[i] &= edge.any(axis=0)
        if not all(nodes.any() for nodes in self.possible_nodes):
            raise DomainMismatch("the structural zeros leave no possible row: check the schema's rules")

    def _independent(self, parent: int, child: int) -> FloatArray:
        first, second = (on_simplex(self.node_target[i], self.total) for i in (parent, child))
        return np.outer(first, second) / self.total

    def primal(self, multipliers: FloatArray) -> _Primal:
        """Return the counts that minimise the Lagrangian."""
        pull = self._pull(multipliers)
        nodes = [
            np.maximum(target + part / weight, 0.0) * possible
            for target, part, weight, possible in zip(
                self.node_target, pull, self.node_weight, self.possible_nodes, strict=True
            )
        ]
        edges = {}
        for i, (up, down) in self.slots.items():
            push = multipliers[up][:, None] + multipliers[down]
            edges[i] = np.maximum(self.edge_target[i] - push / self.edge_weight[i], 0.0) * self.possible_edges[i]
        return _Primal(nodes, edges)

    def _pull(self, multipliers: FloatArray) -> list[FloatArray]:
        """Return for each node the sum of its edges' multipliers, less its root's."""
        pull = [np.zeros(size) for size in self.forest.domain.n_codes]
        for i, (up, down) in self.slots.items():
            pull[self.forest.parent[i]] += multipliers[up]
            pull[i] += multipliers[down]
        for root, slot in self.root_slot.items():
            pull[root] -= multipliers[slot]
        return pull

    def dual_value(self, multipliers: FloatArray, primal: _Primal) -> float:
        return self._loss(primal) + float(multipliers @ self.dual_slope(primal))

    def dual_slope(self, primal: _Primal) -> FloatArray:
        """Return by how much the counts disagree: the gradient of the dual."""
        slope = np.empty(self.size)
        for i, (up, down) in self.slots.items():
            slope[up] = primal.edges[i].sum(axis=1) - primal.nodes[self.forest.parent[i]]
            slope[down] = primal.edges[i].sum(axis=0) - primal.nodes[i]
        for root, slot in self.root_slot.items():
            slope[slot] = primal.nodes[root].sum() - self.total
        return slope

    def newton_step(self, primal: _Primal, slope: FloatArray) -> FloatArray:
        """Return the maximiser of the dual's quadratic model, by preconditioned conjugate gradients."""
        node_gain = [(node > 0) / weight for node, weight in zip(primal.nodes, self.node_weight, strict=True)]
        edge_gain = {i: (edge > 0) / self.edge_weight[i] for i, edge in primal.edges.items()}
        diagonal = np.empty(self.size)
        for i, (up, down) in self.slots.items():
            diagonal[up] = edge_gain[i].sum(axis=1) + node_gain[self.forest.parent[i]]
            diagonal[down] = edge_gain[i].sum(axis=0) + node_gain[i]
        for root, slot in self.root_slot.items():
            diagonal[slot] = node_gain[root].sum()
        # Where every noisy count lies below zero, no cell is positive at first: any scale will do for a way out.
        damping = _DAMPING * (float(diagonal.max()) or self.largest_gain)
        diagonal += damping

        def curvature(v: FloatArray) -> FloatArray:
            out = damping * v
            moved = [gain * part for gain, part in zip(node_gain, self._pull(v), strict=True)]
            for i, (up, down) in self.slots.items():
                change = edge_gain[i] * (v[up][:, None] + v[down])
                out[up] += change.sum(axis=1) + moved[self.forest.parent[i]]
                out[down] += change.sum(axis=0) + moved[i]
            for root, slot in self.root_slot.items():
                out[slot] -= moved[root].sum()
            return out

        return _conjugate_gradients(curvature, slope, diagonal)

    def feasible(self, primal: _Primal) -> ForestMarginals:
        """Return marginals that agree exactly, near the counts: root by root, conditional by conditional."""
        nodes = [np.where(ok, node, 0.0) for node, ok in zip(primal.nodes, self.possible_nodes, strict=True)]
        roots = {i: nodes[i] if nodes[i].sum() > 0 else self.possible_nodes[i].astype(np.float64) for i in self.roots}
        conditionals = {}
        for i in self.children:
            edge = primal.edges[i]
            rows = edge.sum(axis=1, keepdims=True)
            # A parent code without mass has no conditional of its own: the child's marginal stands in.
            stand_in = (nodes[i] + 1e-9 * self.total) * self.possible_edges[i]
            edge = np.where(rows > 0, edge, stand_in)
            rows = edge.sum(axis=1, keepdims=True)
            conditionals[i] = np.divide(edge, rows, out=np.zeros_like(edge), where=rows > 0)
        return compose(self.forest, {i: node / node.sum() for i, node in roots.items()}, conditionals)

    def loss(self, marginals: ForestMarginals) -> float:
        return self._loss(
            _Primal(
                [self.total * node for node in marginals.nodes],
                {i: self.total * edge for i, edge in marginals.edges.items()},
            )
        )

    def _loss(self, primal: _Primal) -> float:
        terms = [
            float((weight * np.square(node - target)).sum())
            for node, target, weight in zip(primal.nodes, self.node_target, self.node_weight, strict=True)
        ]
        terms += [
            float((self.edge_weight[i] * np.square(edge - self.edge_target[i])).sum())
            for i, edge in primal.edges.items()
        ]
        return 0.5 * math.fsum(terms)


def _conjugate_gradients(
    matrix: Callable[[FloatArray], FloatArray], right: FloatArray, diagonal: FloatArray
) -> FloatArray:
    """Return an approximate solution x of matrix(x) = right, to a relative 1e-6 in the preconditioned norm."""
    x = np.zeros_like(right)
    residual = right.copy()
    scaled = residual / diagonal
    direction = scaled.copy()
    size = float(residual @ scaled)
    goal = 1e-12 * size
    for _ in range(2 * right.size + 20):
        if size <= goal:
            break
        image = matrix(direction)
        bend = float(direction @ image)
        if bend <= 0:  # pragma: no cover - the damping keeps the matrix definite up to rounding
            break
        step = size / bend
        x += step * direction
        residual -= step * image
        scaled = residual / diagonal
        size, previous = float(residual @ scaled), size
        direction = scaled + (size / previous) * direction
    return x
