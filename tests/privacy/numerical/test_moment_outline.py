"""Moments at many tilts at once: against quadrature by mpmath, and against the rule that the lines use."""

import math

import numpy as np
import pytest
from mpmath import mp

from privacy.numerical import _moment_outline
from privacy.numerical._contour import joint, outline
from privacy.numerical._moment import moment
from privacy.numerical._moment_outline import moments
from privacy.numerical._sampled_gaussian import SampledGaussianTerm, SampledPart
from privacy.numerical._sampled_law import SampledLaw
from privacy.numerical._window import Edge, Window

DIGITS = 25

WINDOWS = [Window(), Window(Edge(3.0, 0.2)), Window(Edge(5.0, 0.1)), Window(Edge(5.0, 0.1), Edge(2.0, 0.3))]
LAWS = [(1.0, 0.01), (0.4, 1e-4), (3.0, 0.3), (50.0, 1e-6)]


def exact(law: SampledLaw, window: Window, c: float) -> float:
    """log E[chi exp(c L)], by mpmath."""
    s, q = mp.mpf(law.noise_multiplier), mp.mpf(law.sampling_rate)

    def kept(edge, u):
        if edge is None:
            return mp.mpf(1)
        return mp.erfc((u - mp.mpf(edge.middle)) / (mp.sqrt(2) * mp.mpf(edge.width))) / 2

    def f(u):
        d = 1 - q + q * mp.exp(u / s - 1 / (2 * s * s))
        chi = kept(window.ceiling, u) - (kept(window.floor, u) if window.floor else 0)
        return chi * mp.npdf(u) * d ** mp.mpf(law.power(c))

    zero = float(s * mp.log((1 - q) / q) + 1 / (2 * s))
    peak = law.power(c) / law.noise_multiplier
    ends = {-14.0, 14.0, max(peak, 0.0) + 14.0}
    inner = [0.0, peak, zero, *(edge.middle + k * edge.width for edge in window.edges for k in (-4, 0, 4))]
    places = sorted(ends | {x for x in inner if -14 < x < max(peak, 0.0) + 14})
    return float(mp.log(mp.quad(f, places, maxdegree=7)))


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("noise", "rate"), LAWS)
def test_every_moment_is_within_its_error(noise, rate, window):
    law = SampledLaw(noise, rate, "remove")
    c = np.array([0.3, 7.5]) * min(1.0, noise)
    found = moments(law, window, c, 1000)
    for each, value, error in zip(c, found.log_moment, found.error, strict=True):
        assert error < 1e-3 / 1000
        assert abs(value - exact(law, window, float(each))) <= error + 1e-15


@pytest.mark.parametrize(("noise", "rate"), LAWS)
def test_every_moment_of_the_other_direction_is_within_its_error(noise, rate):
    law = SampledLaw(noise, rate, "add")
    c = np.array([-0.5, 2.0])
    found = moments(law, Window(), c, 1000)
    for each, value, error in zip(c, found.log_moment, found.error, strict=True):
        assert error < 1e-3 / 1000
        assert abs(value - exact(law, Window(), float(each))) <= error + 1e-15


def test_a_step_that_is_too_long_leaves_the_error(monkeypatch):
    # The bound is not so wide that it would hold of any rule.
    law, window, c = SampledLaw(0.4, 0.2, "remove"), Window(Edge(3.0, 0.2)), np.array([2.0])
    stage_of = _moment_outline.stage_of
    right = moments(law, window, c, 1)
    monkeypatch.setattr(_moment_outline, "stage_of", lambda *a: stage_of(*a[:4], 12 * a[4], a[5]))
    monkeypatch.setattr(_moment_outline, "_step", lambda stage, *_: (stage.grid.step, np.array([-50.0])))
    wrong = moments(law, window, c, 1)
    assert abs(right.log_moment[0] - exact(law, window, 2.0)) <= right.error[0] + 1e-15
    assert abs(wrong.log_moment[0] - exact(law, window, 2.0)) > wrong.error[0]


@pytest.mark.slow
def test_random_moments_agree_with_the_rule_of_the_lines():
    # 300 sets of all sizes: the two may differ by their errors only.
    rng = np.random.default_rng(5)
    compared = 0
    for _ in range(300):
        noise, rate = 10 ** rng.uniform(-1.2, 4), 10 ** rng.uniform(-8, -0.01)
        law = SampledLaw(noise, rate, "remove" if rng.random() < 0.7 else "add")
        middle = rng.uniform(0, 8)
        windows = [Window(), Window(law.edge_at(middle))]
        if (floor := law.edge_at(middle - 1).between(None, law.edge_at(middle))) is not None:
            windows.append(Window(law.edge_at(middle), floor))
        window = windows[rng.integers(len(windows))] if law.direction == "remove" else windows[0]
        count = int(10 ** rng.uniform(0, 9))
        c = np.sort(10 ** rng.uniform(-2, 4) * 2 ** rng.uniform(0, 2, 5))
        found = moments(law, window, c, count)
        for each, value, error in zip(c, found.log_moment, found.error, strict=True):
            one = moment(law, window, float(each), count)
            if not math.isfinite(value) or one.rule is None:
                continue
            compared += 1
            rule = one.rule
            slack = 2 * math.exp(min(rule.log_wrong, 300.0)) + 1e-12 * (1 + abs(rule.log_total))
            assert abs(value - rule.log_total) <= error + slack
    assert compared > 500


def test_means_and_variances_are_slopes():
    term = SampledGaussianTerm(0.8, 0.01, 50, "remove")
    at, h = 1.5, 1e-4
    found = outline((term,), np.array([at - h, at, at + h]))
    assert found.mean[1] == pytest.approx((found.log_moment[2] - found.log_moment[0]) / (2 * h), rel=1e-6)
    assert found.variance[1] == pytest.approx((found.mean[2] - found.mean[0]) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("exactly", [None, 1, 2])
@pytest.mark.parametrize("c", [0.5, 3.0, 9.0])
def test_a_part_is_bounded_at_many_tilts_as_at_one(c, exactly):
    ceiling, floor = Edge(4.5, 0.1), Edge(2.5, 0.2)
    terms = (SampledGaussianTerm(0.9, 1e-3, 40, "remove", ceiling),)
    part = SampledPart(terms, (floor,), exactly)
    found, one = outline((part,), np.array([c, 2 * c])), joint((part,), c)
    assert found.log_moment[0] + found.error[0] >= one.log_moment - one.error
    assert found.log_moment[0] == pytest.approx(one.log_moment, abs=found.error[0] + one.error)
    assert found.error[0] < 0.01


def test_exponents_that_no_grid_reaches_are_infinite():
    law = SampledLaw(0.05, 0.01, "remove")
    found = moments(law, Window(), np.array([1.0, 1e9]), 10)
    assert math.isfinite(found.log_moment[0])
    assert found.log_moment[1] == math.inf
