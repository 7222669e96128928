"""The distribution over a junction tree that fits noisy marginals best: weighted least squares.

y_c, s_c     noisy counts of measured clique c and their noise standard deviation;  w_c = 1 / s_c^2
N            total number of rows
mu_c         the fitted distribution's marginal on c, in counts; theta_c  its log potential
f(mu)        1/2 sum_c w_c ||mu_c - y_c||^2, minimised over all distributions
tau          step: f is decreased by the entropic proximal point method,
             p_{k+1} = argmin_p f(mu(p)) + tau N KL(p || p_k)

Its limit is a minimiser of f whatever tau is (mirror descent is the same method with f replaced by its tangent; on the
models that AIM makes of Adult, at epsilon 1 and 10, this one was after 100 calls of the marginal oracle where mirror
descent with a line search was not after 800). Each proximal problem is solved on its dual, which is smooth, convex and
unconstrained: p_{k+1} has potentials theta that minimise

    G(theta) = N log Z(theta) - <theta, y> + tau/2 sum_c ||theta_c - theta_c,k||^2 / w_c

with gradient g_c = mu_c(theta) - y_c + tau (theta_c - theta_c,k) / w_c: one call of the oracle, `Calibrator`. The
proximal problem's duality gap is exactly 1/2 sum_c w_c ||g_c||^2, so p_k moves on as soon as that is a small part of f.
G is minimised by L-BFGS. Its pairs hold changes of theta and of mu, to which the change of the quadratic term is
added when needed, so they stay true when p_k moves; the diagonal it starts from is max(mu, y, 0) + s + tau / w, near
the second derivative of G where cells are alive, and of the size of y where a cell is about to come alive.

Certificate: for every lambda, min f >= N min_x <lambda, x> - <lambda, y> - 1/2 sum_c ||lambda_c||^2 / w_c, with the
minimum over rows x by max-product (`least_energy`). At lambda = w (mu - y), the gradient, it is Frank and Wolfe's gap.
Better is lambda = tau (theta_k - theta_m) / (m - k), the mean of the proximal problems' multipliers; the best multiple
of lambda is known in closed form. The bound is valid, but lags behind: by then f itself is far closer to its minimum.

Potentials belong to measured cliques, not to the tree's, so a fit continues on another tree (`warm`). Everything here
is post-processing of released values. Sources: McKenna, Sheldon, Miklau 2019, arXiv:1901.09136 (the estimate);
Censor, Zenios 1992, J. Optim. Theory Appl. 73:451 (entropic proximal points); Liu, Nocedal 1989, Math. Program. 45:503.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.calibration import Calibrator
from generators.domain import Clique, Domain
from generators.errors import DomainMismatch
from generators.factor import FloatArray, spread
from generators.inference import Evidence, pool
from generators.junction_tree import JunctionTree, in_domain_order
from generators.propagation import CliqueMarginals, least_energy, propagate

Zeros = Mapping[Clique, npt.NDArray[np.bool_]]

# tau / w is so many standard deviations of noise (the cells' geometric mean). Between 2 and 15 it hardly matters.
_STEP = 4.0

# p_k moves on when the proximal problem's gap is below this part of f, or of what noise alone makes of f.
_INEXACT = 0.05

_PAIRS = 30

# The fit ends when the least f fell by less than the tolerance over so many calls.
_WINDOW = 30


@dataclass(frozen=True, slots=True)
class GraphFit:
    """A fitted distribution.

    marginals      the distribution
    potentials     its log potentials, by measured clique
    total          number of rows
    loss           f at the fit
    gap_per_cell   certified: (f - min f) / number of measured cells is at most this; the true gap is far smaller
    iterations     calls of the marginal oracle
    converged      whether f stood still before the allowed iterations were used up
    """

    marginals: CliqueMarginals
    potentials: dict[Clique, FloatArray]
    total: float
    loss: float
    gap_per_cell: float
    iterations: int
    converged: bool

    def estimate(self, columns: Clique) -> FloatArray:
        """Return the expected counts of any columns, axes in the order given."""
        counts: FloatArray = self.total * self.marginals.project(columns)
        return counts


def fit_graph(
    domain: Domain,
    evidence: Iterable[Evidence],
    *,
    total: float,
    zeros: Zeros | None = None,
    cliques: Iterable[Clique] = (),
    warm: Mapping[Clique, FloatArray] | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
) -> GraphFit:
    """Return the distribution that fits the evidence best, over the junction tree of all its cliques.

    Parameters
    ----------
    domain
        Columns and sizes. Columns without evidence are uniform, given the others.
    evidence
        Counts with noise, cliques in domain order; those of the same clique are pooled by inverse variance.
    total
        Number of rows, >= 1.
    zeros
        Clique, in domain order -> True where a combination is impossible; it gets probability exactly zero. These
        cliques are joined to the tree.
    cliques
        Further cliques to be joined to the tree.
    warm
        Potentials of an earlier fit to start from, by measured clique; others start from zero.
    tolerance
        Stop once f falls by less than this, for each measured cell, over 30 calls. One unit of f for each cell is half
        the square of its noise.
    max_iterations
        Stop after so many calls anyway; `GraphFit.converged` tells.

    Raises
    ------
    DomainMismatch
        If a clique is not in domain order or its values have another shape, there is no evidence, or the zeros leave no
        possible row.

    Examples
    --------
    >>> domain = Domain(("a", "b", "c"), (2, 2, 2))
    >>> pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    >>> equal = np.array([[40.0, 10.0], [10.0, 40.0]])
    >>> fit = fit_graph(domain, [Evidence(pair, equal, 1.0) for pair in pairs], total=100.0)
    >>> fit.marginals.tree.cliques, fit.estimate(("c", "a")).round(1).tolist()
    ((('a', 'b', 'c'),), [[40.0, 10.0], [10.0, 40.0]])
    """
    parts = tuple(pool(evidence).values())
    _check(domain, parts, zeros or {})
    measured = tuple(part.columns for part in parts)
    tree = JunctionTree.build(domain, [*measured, *(zeros or {}), *cliques])
    problem = _Problem(Calibrator(tree, measured, total=total, zeros=zeros), parts, total)
    search = _Search(problem, problem.start(measured, warm or {}))
    losses = [search.best_loss]
    while problem.calls < max_iterations:
        search.step()
        losses.append(search.best_loss)
        if len(losses) > _WINDOW and losses[-1 - _WINDOW] - losses[-1] <= tolerance * problem.n_cells:
            break
    theta = search.best
    potentials = {
        part.columns: theta[where].reshape(part.values.shape)
        for part, where in zip(parts, problem.calibrator.slices, strict=True)
    }
    lower = max(
        (_lower_bound(tree, problem, measured, zeros or {}, multiplier) for multiplier in search.multipliers()),
        default=0.0,
    )
    return GraphFit(
        marginals=propagate(tree, _tables(tree, potentials, zeros or {}, -math.inf)),
        potentials=potentials,
        total=total,
        loss=search.best_loss,
        gap_per_cell=max(search.best_loss - lower, 0.0) / problem.n_cells,
        iterations=problem.calls,
        converged=problem.calls < max_iterations,
    )


class _Problem:
    """f, G and their parts on flat vectors: one entry for each measured cell."""

    def __init__(self, calibrator: Calibrator, parts: Sequence[Evidence], total: float) -> None:
        self.calibrator, self.total, self.calls = calibrator, total, 0
        self.n_cells = calibrator.size
        self.y = np.concatenate([part.values.ravel() for part in parts])
        self.variance = np.concatenate([part.cell_variance.ravel() for part in parts])
        self.std = np.sqrt(self.variance)
        # tau / w, entry by entry.
        self.damping = _STEP * self.variance / math.exp(float(np.log(self.std).mean()))

    def start(self, measured: Sequence[Clique], warm: Mapping[Clique, FloatArray]) -> FloatArray:
        theta = np.zeros(self.n_cells)
        for clique, where in zip(measured, self.calibrator.slices, strict=True):
            if clique in warm:
                theta[where] = warm[clique].ravel()
            elif not warm and len(clique) == 1:
                # Independent columns are nearer than uniform ones.
                theta[where] = np.log(np.maximum(self.y[where], 0.1 * self.std[where]) / self.total)
        return theta

    def marginals(self, theta: FloatArray) -> tuple[FloatArray, float]:
        """Return the marginals, and N log Z - <theta, y>."""
        self.calls += 1
        mu = self.calibrator.marginals(theta)
        return mu, self.total * self.calibrator.log_z - float(theta @ self.y)

    def weighted_square(self, residual: FloatArray) -> float:
        return 0.5 * float(residual @ (residual / self.variance))


class _Search:
    """The iterates: the centre p_k, the potentials near it, and L-BFGS's pairs."""

    def __init__(self, problem: _Problem, theta: FloatArray) -> None:
        self._problem = problem
        self._theta = self._centre = theta
        self._mu, self._likelihood = problem.marginals(theta)
        self._gradient = self._mu - problem.y
        self._value = self._likelihood
        self.best, self.best_loss = theta, problem.weighted_square(self._gradient)
        self._best_mu = self._mu
        self._pairs: list[tuple[FloatArray, FloatArray]] = []
        self._moves = 0
        self._marks = [(0, theta), (0, theta)]

    def step(self) -> None:
        """Take one step of L-BFGS, and move the centre if the proximal problem is solved well enough."""
        problem, damping = self._problem, self._problem.damping
        direction = self._direction()
        slope = float(self._gradient @ direction)
        if not slope < 0:  # pragma: no cover - pairs of positive curvature keep it negative, up to rounding
            self._pairs = []
            direction = self._direction()
            slope = float(self._gradient @ direction)
        length = 1.0
        while True:
            theta = self._theta + length * direction
            mu, likelihood = problem.marginals(theta)
            offset = theta - self._centre
            value = likelihood + 0.5 * float(offset @ (damping * offset))
            if value <= self._value + 1e-4 * length * slope + 1e-12 * abs(self._value) or length < 1e-12:
                break
            # The minimum of the parabola through what is known, within bounds.
            parabola = -slope * length / (2 * (value - self._value - length * slope))
            length *= min(0.6, max(0.1, parabola)) if math.isfinite(parabola) else 0.1
        step, change = theta - self._theta, mu - self._mu
        if float(step @ (change + damping * step)) > 0:
            self._pairs = [*self._pairs[1 - _PAIRS :], (step, change)]
        self._theta, self._mu, self._likelihood, self._value = theta, mu, likelihood, value
        residual = mu - problem.y
        self._gradient = residual + damping * offset
        loss = problem.weighted_square(residual)
        if loss < self.best_loss:
            self.best, self.best_loss, self._best_mu = theta, loss, mu
        if problem.weighted_square(self._gradient) <= _INEXACT * min(loss, 0.5 * problem.n_cells):
            self._move()

    def _move(self) -> None:
        self._centre, self._value = self._theta, self._likelihood
        self._gradient = self._mu - self._problem.y
        self._moves += 1
        if self._moves >= 2 * self._marks[1][0] + 1:
            self._marks = [self._marks[1], (self._moves, self._centre)]

    def _direction(self) -> FloatArray:
        """Return minus the inverse Hessian, as L-BFGS knows it, times the gradient."""
        problem, damping = self._problem, self._problem.damping
        inverse = 1 / (np.maximum(np.maximum(self._mu, problem.y), 0.0) + problem.std + damping)
        known = []
        for step, change in self._pairs:
            bend = change + damping * step
            known.append((step, bend, 1 / float(step @ bend)))
        vector: FloatArray = self._gradient.copy()
        shares = []
        for step, bend, scale in reversed(known):
            shares.append(scale * float(step @ vector))
            vector -= shares[-1] * bend
        factor = 0.5
        if known:
            _, bend, scale = known[-1]
            factor = 1 / (scale * float(bend @ (inverse * bend)))
        vector *= factor * inverse
        for (step, bend, scale), share in zip(known, reversed(shares), strict=True):
            vector += (share - scale * float(bend @ vector)) * step
        direction: FloatArray = -vector
        return direction

    def multipliers(self) -> list[FloatArray]:
        """Return what may bound min f from below: the gradient, and the mean multiplier of the later half of moves."""
        since, theta = self._marks[0]
        out = [(self._best_mu - self._problem.y) / self._problem.variance]
        if self._moves > since:
            out.append((theta - self._centre) * self._problem.damping / self._problem.variance)
        return out


def _lower_bound(
    tree: JunctionTree, problem: _Problem, measured: Sequence[Clique], zeros: Zeros, multiplier: FloatArray
) -> float:
    """Return a number that min f is not below: the dual value of the best multiple >= 0 of the multiplier."""
    parts = {
        clique: multiplier[where].reshape(tree.domain.sizes(clique))
        for clique, where in zip(measured, problem.calibrator.slices, strict=True)
    }
    least = least_energy(tree, _tables(tree, parts, zeros, math.inf))
    # a s - b s^2 / 2 is largest at s = a / b.
    slope = problem.total * least - float(multiplier @ problem.y)
    bend = float(multiplier @ (problem.variance * multiplier))
    return slope**2 / (2 * bend) if slope > 0 and bend > 0 else 0.0


def _tables(
    tree: JunctionTree, parts: Mapping[Clique, FloatArray], zeros: Zeros, impossible: float
) -> list[FloatArray]:
    """Return one table for each clique of the tree: the sum of what lies in it, `impossible` at structural zeros."""
    tables: list[FloatArray] = [np.zeros(tree.shape(i)) for i in range(len(tree.cliques))]
    masks = {clique: np.where(mask, impossible, 0.0) for clique, mask in zeros.items()}
    for clique, values in [*parts.items(), *masks.items()]:
        holder = tree.find(clique)
        if holder is None:  # pragma: no cover - the tree was built from these cliques
            raise DomainMismatch(f"{', '.join(clique)} lies in no clique of the junction tree")
        tables[holder] += spread(values, clique, tree.cliques[holder])
    return tables


def _check(domain: Domain, parts: Sequence[Evidence], zeros: Zeros) -> None:
    if not parts:
        raise DomainMismatch("a fit needs at least one measurement")
    for clique, values in [*((part.columns, part.values) for part in parts), *zeros.items()]:
        if clique != in_domain_order(clique, domain) or values.shape != domain.sizes(clique):
            raise DomainMismatch(f"{', '.join(clique)} is not in domain order, or its values have another shape")
