"""Sampled Gaussians and what is released beside them: a composition taken apart by edges, each part on its own line.

The last edges are so far out that what they drop is nothing beside delta; others are put where a part needs them: where
its line would cancel too many digits (a few large losses beyond a bulk of small ones), or need too many nodes (rare
losses of another size than the bulk). Estimates (`_plan`) say where; the bounds hold wherever the edges are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from privacy.numerical._contour import Bounds, Contour, Joint, build, joint, log_chernoff_bound
from privacy.numerical._moment import moment
from privacy.numerical._plan import Plan
from privacy.numerical._sampled_gaussian import SampledGaussianTerm, SampledPart, above, log_beyond, tilted
from privacy.numerical._sampled_law import SampledLaw
from privacy.numerical._solve import enclose, least, newton
from privacy.numerical._terms import Term
from privacy.numerical._window import Edge, Window

# Logs, relative to delta: what the last edge may drop, what a part may be that is not looked at, what may be unknown.
_DROPPED = -25.0
_SKIPPED = -25.0
# Digits, as a log, that a line may cancel before its part is split.
_CANCELLED = 10.0
# The share of D from which on the loss is taken as linear in the outcome.
_LINEAR = 0.3
# The log of a delta beyond which a line for 1 - delta is the better way.
_LARGE = -0.4
# Within so much of the wanted log delta Newton's method is trusted.
_NEAR = 8.0

# A part is split if its line costs more than this many sines; that of a part which cannot be split may cost the last.
_COST = 300_000.0
_MOST_COST = 2_000_000.0
_LAST_COST = 12_000_000.0
_MOST_PARTS = 12
_LEAST_ROOM = 0.1
_MOST_HITS = 24
# After so many parts, over several epsilons, what is known has to do; and an interval that is narrow enough.
_MOST_MADE = 30
_CLOSE = 6e-10
# How deep a valley of the tilted density has to be, as a log, to divide rare outcomes from common ones.
_VALLEY = 5.0
# A floor is put where the loss, in units of 1 / c, changes this much per unit of the noise.
_TURN = 0.7


Edges = tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """The privacy curve as a sum of contours, and what was left out, which only the upper bounds count.

    log_dropped   log of what the last edges drop
    left_out      (a, c) of parts without a line: at most exp(a - c epsilon) each
    estimate   about log delta at the epsilon it was made for
    c          tilt of the largest part: about the slope of -log delta
    whole      whether every part that matters has its line
    """

    contours: tuple[Contour, ...]
    log_dropped: float
    left_out: tuple[tuple[float, float], ...]
    estimate: float
    c: float
    whole: bool = True

    def evaluate(self, epsilon: float) -> tuple[Bounds, float]:
        """Return bounds on log delta(epsilon) and the slope of the logarithm."""
        found = [contour.evaluate(epsilon) for contour in self.contours]
        low = _log_sum([bounds.low for bounds, _ in found])
        value = _log_sum([bounds.value for bounds, _ in found])
        # 1e-14: roundings of a and of c epsilon.
        left_out = [a - c * epsilon + 1e-14 * (1 + abs(a) + c * epsilon) for a, c in self.left_out]
        high = _log_sum([*(bounds.high for bounds, _ in found), self.log_dropped, *left_out])
        if value == -math.inf:
            return Bounds(low, value, high + 1e-15 * abs(high)), -1.0
        slope = math.fsum(one * math.exp(bounds.value - value) for bounds, one in found if bounds.value > -math.inf)
        return Bounds(low - 1e-15 * (1 + abs(low)), value, min(0.0, high + 1e-15 * (1 + abs(high)))), slope


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs, default=-math.inf)
    if not math.isfinite(top):
        return top
    return top + math.log(math.fsum(math.exp(x - top) for x in logs))


@dataclass(frozen=True, slots=True)
class _Part:
    """Outcomes below the ceiling, some (or exactly so many) beyond the floor; c is about its tilt."""

    floor: Edges | None
    ceiling: Edges
    c: float
    exactly: int | None = None


@lru_cache(maxsize=512)
def _edge(law: SampledLaw, log_probability: float) -> Edge:
    return law.edge_for(log_probability)


def _far_loss(term: SampledGaussianTerm) -> float:
    return float(term.law.logs(np.array([8 + 1 / term.noise_multiplier]))[0][0])


class Splitter:
    """Takes a composition apart. `terms` hold at least one sampled Gaussian, all in the direction "remove".

    Edges are given for every sampled Gaussian; one of them, the leader, says where, the others follow at its loss.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.sampled = [term for term in terms if isinstance(term, SampledGaussianTerm)]
        self.others = [term for term in terms if not isinstance(term, SampledGaussianTerm)]
        self._plans: dict[Edges, Plan] = {}
        # Parts looked at so far, over all epsilons.
        self.made = 0
        # The one with the largest losses: the others have outcomes at most of its losses.
        self.leader = max(range(len(self.sampled)), key=lambda i: _far_loss(self.sampled[i]))

    def top(self, log_target: float) -> Edges:
        """Return edges that drop less than matters."""
        share = math.log(len(self.sampled))
        return tuple(_edge(term.law, log_target + _DROPPED - share - math.log(term.count)) for term in self.sampled)

    def part(self, floor: Edges | None, ceiling: Edges, exactly: int | None = None) -> list[Term]:
        """Return the terms of the part between edges; without a floor, all that lies below the ceiling."""
        below = tuple(replace(term, edge=edge) for term, edge in zip(self.sampled, ceiling, strict=True))
        return [*self.others, *below] if floor is None else [*self.others, SampledPart(below, floor, exactly)]

    def _most_loss(self, ceiling: Edges) -> float:
        """Return a bound on the sum of losses below the ceiling."""
        ends = zip(self.sampled, ceiling, strict=True)
        return (1 + 1e-12) * math.fsum(t.count * float(t.law.logs(np.array([e.end]))[0][0]) for t, e in ends)

    def log_dropped(self, edges: Edges) -> float:
        """Return the log of a bound on what the edges drop."""
        return _log_sum([replace(t, edge=edge).log_dropped for t, edge in zip(self.sampled, edges, strict=True)])

    def _edges_at(self, u: float, ceiling: Edges, floor: Edges | None = None) -> Edges | None:
        """Return edges where the leader has one at u, and every other term one at the same loss.

        None if they would not lie below the ceiling, or not above the floor.
        """
        lead = self.sampled[self.leader]
        loss = lead.law.logs(np.array([u]))[0]
        found = []
        for i, (term, most) in enumerate(zip(self.sampled, ceiling, strict=True)):
            at = u if i == self.leader else float(term.law.outcomes(loss)[0])
            edge = term.law.edge_at(min(at, most.middle - _LEAST_ROOM)).between(floor[i] if floor else None, most)
            if edge is None:
                return None
            found.append(edge)
        return tuple(found)

    def plan(self, top: Edges) -> Plan:
        """Return the estimates for all below the top."""
        if top not in self._plans:
            self._plans[top] = Plan(self.sampled, self.others, self.leader, [edge.middle for edge in top])
        return self._plans[top]

    def _valley(self, floor: Edges | None, ceiling: Edges, c: float) -> Edges | None:
        """Return edges between rare large outcomes and the many small ones, where there is next to nothing; or None."""
        term = self.sampled[self.leader]
        law, s = term.law, term.noise_multiplier
        high = ceiling[self.leader].middle
        low = floor[self.leader].middle if floor is not None else -1.0
        u = np.linspace(low, high, 300)
        loss, share, _ = law.logs(u)
        height = -0.5 * u * u + (1 + c) * loss
        left, right = np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1]
        depth = np.minimum(left, right) - height
        best = int(np.argmax(depth))
        if depth[best] > _VALLEY:
            # A little beyond the zero of D, where paths are free to rise, if the large outcomes still lie above.
            peak = int(np.argmax(np.where(u > u[best], height, -np.inf)))
            free = max(best, int(np.searchsorted(share, 1 - 1e-3)))
            at = float(u[free if free < peak - 3 else best])
        else:
            turned = c * share / s
            reached = int(np.searchsorted(turned, min(_TURN, 0.6 * c / s)))
            # Beyond the zero of D, too, if the large outcomes still lie above.
            free = int(np.searchsorted(share, 1 - 1e-3))
            if reached < free < int(np.argmax(np.where(share > _LINEAR, height, -np.inf))) - 3:
                reached = free
            if not 0 < reached < len(u):
                return None
            at = float(u[reached])
        if not low + 0.3 < at < high - 0.3:
            return None
        return self._edges_at(at, ceiling, floor)

    def _divide(
        self, part: _Part, at: Joint, epsilon: float, log_target: float, *, cancelled: bool
    ) -> tuple[list[_Part], list[tuple[float, float]]] | None:
        """Return smaller parts, and bounds on what they leave out, as in `Curve`; or None if there is no way.

        cancelled   whether the part's line is affordable, but cancels too many digits
        """
        if part.exactly is not None:
            return None
        lead = self.sampled[self.leader].law
        if part.floor is not None and len(self.sampled) == 1:
            # Where the loss is linear in the outcome, it is the number of large outcomes that spreads the part.
            share = float(lead.logs(np.array([part.floor[0].middle]))[1][0])
            if share > _LINEAR:
                return self._by_hits(part, at, epsilon, log_target)
        middle = self._valley(part.floor, part.ceiling, at.c) if part.floor is None and not cancelled else None
        if middle is None:
            middle = self._half(part.floor, part.ceiling)
        if middle is None:
            return None
        return [_Part(part.floor, middle, at.c), _Part(middle, part.ceiling, at.c)], []

    def _half(self, floor: Edges | None, ceiling: Edges) -> Edges | None:
        """Return edges half way between two, counted in the logarithm of what is dropped; None without room."""
        law = self.sampled[self.leader].law
        high = ceiling[self.leader].middle
        low = floor[self.leader].middle if floor is not None else 1.0
        drop = 0.5 * float(law.log_dropped_at(np.array([low, high])).sum())
        at = law.edge_for(drop).middle
        room = 2.5 * ceiling[self.leader].width
        return self._edges_at(at, ceiling, floor) if low + room < at < high - room else None

    def _by_hits(
        self, part: _Part, at: Joint, epsilon: float, log_target: float
    ) -> tuple[list[_Part], list[tuple[float, float]]] | None:
        """Divide a part by how many outcomes are beyond its floor: each number has a tilt of its own."""
        if part.floor is None:
            return None
        (term,), (floor,), (ceiling,) = self.sampled, part.floor, part.ceiling
        known = []
        for c in at.c * np.geomspace(0.3, 3.0, 15):
            below = moment(term.law, Window(floor), float(c), term.count)
            beyond = moment(term.law, Window(ceiling, floor), float(c), 1)
            if below.rule is not None and beyond.rule is not None:
                one, other = tilted(below, floor), above(beyond)
                others = joint(self.others, float(c))
                log_below = term.count * (one.log_moment + one.error) + others.log_moment + others.error
                odds = math.exp(min(other.log_moment + other.error - one.log_moment + one.error, 300.0)) * (1 + 1e-9)
                known.append((float(c), log_chernoff_bound(float(c), log_below, 0.0), odds))
        if not known:
            return None
        parts = []
        for k in range(1, _MOST_HITS):
            # The single terms of the sum steer; what is beyond them is bounded.
            c = min(known, key=lambda one: one[1] - one[0] * epsilon + k * math.log(max(term.count * one[2], 1e-300)))[
                0
            ]
            parts.append(_Part(part.floor, part.ceiling, c, k))
            if k == term.count:
                return parts, []
            rest = [(start + log_beyond(term.count, odds, k), c) for c, start, odds in known]
            limit, c = min(rest, key=lambda one: one[0] - one[1] * epsilon)
            if limit - c * epsilon < log_target + _SKIPPED:
                return parts, [(limit, c)]
        return None

    def curve(self, epsilon: float, log_target: float) -> Curve | None:
        """Return the curve, made for this epsilon and a delta of about this size, or None if it is not affordable."""
        top = self.top(log_target)
        left_out: list[tuple[float, float]] = []
        contours: list[Contour] = []
        steepest = (-math.inf, 1.0)
        todo: list[_Part] = []
        cuts = self.plan(top).cuts(epsilon, log_target + _SKIPPED, _CANCELLED)
        # From the top down, so that every edge can be made to fit below the next.
        ceiling = top
        for floor, _, c in reversed(cuts):
            edges = None if floor is None else self._edges_at(floor, ceiling)
            todo.insert(0, _Part(edges, ceiling, c))
            if edges is not None:
                ceiling = edges
        made, whole = 0, True
        while todo:
            part = todo.pop()
            made += 1
            if part.floor is None and not self.others and self._most_loss(part.ceiling) < epsilon:
                continue
            terms = self.part(part.floor, part.ceiling, part.exactly)
            at = least(terms, epsilon, part.c, log_enough=log_target + _SKIPPED)
            if at is None:
                whole = False
                left_out.append((0.0, 0.0))
                continue
            limit = log_chernoff_bound(at.c, at.log_moment + at.error, 0.0)
            bound = limit - at.c * epsilon
            if bound < log_target + _SKIPPED:
                left_out.append((limit, at.c))
                steepest = max(steepest, (bound, at.c))
                continue
            more = made < _MOST_PARTS
            self.made += 1
            at = joint(terms, at.c)
            contour = build(terms, at, epsilon, log_target=log_target, most_cost=_COST if more else _MOST_COST)
            value = -math.inf if contour is None else contour.evaluate(epsilon)[0].value
            cancelled = contour is not None and bound - max(value, log_target) > _CANCELLED
            if more and (contour is None or cancelled):
                found = self._divide(part, at, epsilon, log_target, cancelled=cancelled)
                if found is not None:
                    todo += found[0]
                    left_out += found[1]
                    continue
                if contour is None:
                    contour = build(terms, at, epsilon, log_target=log_target, most_cost=_LAST_COST)
            if contour is None:
                whole = False
                left_out.append((limit, at.c))
                steepest = max(steepest, (bound, at.c))
                continue
            contours.append(contour)
            steepest = max(steepest, (value, at.c))
        return Curve(tuple(contours), self.log_dropped(top), tuple(left_out), *steepest, whole)


def upper_log_delta(terms: Sequence[Term], epsilon: float, log_target: float) -> float:
    """Return an upper bound on log delta(epsilon), tight if it is about exp(log_target), for the direction "add".

    Far below the largest loss outcomes decide nothing, and only make the line long: they are dropped.
    """
    made: list[Term] = []
    dropped = []
    for term in terms:
        if isinstance(term, SampledGaussianTerm):
            edge = term.law.edge_for(log_target + _DROPPED - math.log(term.count))
            made.append(replace(term, edge=edge))
            dropped.append(replace(term, edge=edge).log_dropped)
        else:
            made.append(term)
    at = least(made, epsilon, (3 - log_target) / epsilon, log_enough=log_target - 1e-9)
    if at is None:
        return 0.0
    bound = log_chernoff_bound(at.c, at.log_moment + at.error, epsilon)
    if bound > log_target - 1e-9:
        contour = build(made, joint(made, at.c), epsilon, log_target=log_target)
        if contour is not None:
            bound = min(bound, contour.evaluate(epsilon)[0].high)
    return min(0.0, _log_sum([bound, *dropped]) + 1e-15 * (1 + abs(bound)))


def split_log_delta(terms: Sequence[Term], epsilon: float) -> Bounds | None:
    """Return bounds on log delta(epsilon), or None: also where delta is so large that its complement is asked for."""
    splitter = Splitter(terms)
    guess = splitter.plan(splitter.top(-80.0)).log_delta(epsilon)
    if guess < -60:
        guess = splitter.plan(splitter.top(guess - 20)).log_delta(epsilon)
    if guess > _LARGE:
        return None
    best: Bounds | None = None
    for _ in range(5):
        curve = splitter.curve(epsilon, guess)
        if curve is None:
            return best
        found = curve.evaluate(epsilon)[0]
        if best is None or found.high - found.low < best.high - best.low:
            best = found
        if found.high - found.low < 1e-9 or not curve.whole or splitter.made > _MOST_MADE:
            return best
        known = math.isfinite(found.value) and found.value > guess + _SKIPPED
        guess = min(found.value if known else 2 * guess + _SKIPPED, 0.0)
    return best


def split_epsilon(terms: Sequence[Term], log_delta: float) -> tuple[float, float] | None:
    """Return (lower, upper) on the smallest epsilon >= 0 with delta(epsilon) <= exp(log_delta), or None."""
    splitter = Splitter(terms)
    plan = splitter.plan(splitter.top(log_delta))
    lower, upper = 0.0, math.inf
    epsilon = plan.epsilon(log_delta)
    if plan.log_delta(0.0) < log_delta + 1.5:
        curve = splitter.curve(0.0, log_delta)
        if curve is not None and curve.evaluate(0.0)[0].high <= log_delta:
            return 0.0, 0.0
    unfinished = 0
    for _ in range(10):
        curve = splitter.curve(epsilon, log_delta)
        if curve is None:
            return None
        start = curve.c
        unfinished += not curve.whole
        # Beside losses on a lattice lines may not end, however the rest is divided.
        if unfinished > (1 if splitter.others else 2):
            break
        bounds = curve.evaluate(epsilon)[0]
        doubt = 4e-16 * (1 + abs(log_delta))
        if bounds.high <= log_delta - doubt:
            upper = min(upper, epsilon)
        if bounds.low >= log_delta + doubt:
            lower = max(lower, epsilon)
        value = bounds.value if math.isfinite(bounds.value) else curve.estimate
        found = newton(curve, epsilon, log_delta) if abs(value - log_delta) < _NEAR else None
        if found is not None and found > 0:
            low, high = enclose(curve, found, log_delta)
            lower, upper = max(lower, low), min(upper, high)
            if upper - lower <= _CLOSE * upper + 2e-13 or splitter.made > _MOST_MADE:
                return lower, upper
        else:
            # In the logarithm of epsilon heavy tails are straighter.
            found = epsilon * math.exp(max(-1.5, min(1.5, (value - log_delta) / (start * epsilon))))
        found = min(max(found, 0.2 * epsilon), 5 * epsilon)
        if found >= upper:
            found = 0.5 * (epsilon + upper)
        elif found <= lower:
            found = 0.5 * (epsilon + lower)
        if abs(found - epsilon) <= 1e-13 * epsilon or splitter.made > _MOST_MADE:
            break
        epsilon = found
    return lower, upper
