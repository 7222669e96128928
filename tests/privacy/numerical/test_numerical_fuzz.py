"""Small samples of the random comparisons of benchmarks/fuzz_accounting.py, and that they can fail."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from privacy.events import DiscreteLaplace, Gaussian, Laplace, PoissonSampled, PureDP
from privacy.numerical import NumericalAccountant
from privacy.rdp import RdpAccountant

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "fuzz_accounting.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_accounting", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_accounting"] = module
    spec.loader.exec_module(module)
    return module


def run(fuzz, capsys, *arguments):
    code = fuzz.main(list(arguments))
    summary = json.loads(capsys.readouterr().out)
    assert (code == 1) is (summary["n_violations"] > 0)
    return summary


def test_random_compositions_do_not_contradict_themselves(fuzz, capsys):
    summary = run(fuzz, capsys, "properties", "--count", "6", "--seed", "5")
    assert summary["violations"] == []
    assert summary["compositions"] == 6
    assert summary["checks"] > 40


@pytest.mark.slow
def test_more_random_compositions_do_not_contradict_themselves(fuzz, capsys):
    assert run(fuzz, capsys, "properties", "--count", "60", "--seed", "6")["violations"] == []


@pytest.mark.parametrize("factor", [0.97, pytest.param(1.5, marks=pytest.mark.slow)])
def test_an_interval_that_is_off_is_a_violation(fuzz, capsys, monkeypatch, factor):
    # Negative control: epsilon moved by a few per cent contradicts delta, one half too large also RDP.
    right = NumericalAccountant.epsilon_interval

    def moved(self, *, delta):
        low, high = right(self, delta=delta)
        return factor * low, factor * high

    monkeypatch.setattr(NumericalAccountant, "epsilon_interval", moved)
    assert run(fuzz, capsys, "properties", "--count", "3", "--seed", "5")["n_violations"] > 0


@pytest.mark.slow
def test_random_compositions_lie_between_the_ends_of_dp_accounting(fuzz, capsys):
    pytest.importorskip("dp_accounting")
    summary = run(fuzz, capsys, "pld", "--count", "10", "--seed", "3")
    assert summary["violations"] == []
    assert summary["with an optimistic end"] > 2


@pytest.mark.slow
def test_random_compositions_lie_inside_the_intervals_of_prv_accountant(fuzz, capsys):
    summary = run(fuzz, capsys, "prv", "--count", "10", "--seed", "3")
    assert summary["violations"] == []
    assert summary["answers"] > 2


# What ten thousand random compositions found: bounds above the Renyi accountant's, and a moment that lost all it had.
FOUND = [
    pytest.param(((PoissonSampled(Gaussian(0.0531), 3.86e-7), 254),), 7.7e-14, 8.6e-4, id="no line for adding"),
    pytest.param(
        (
            (PoissonSampled(PureDP(8.184601566124696), 0.6716577785140846), 3),
            (PoissonSampled(Laplace(0.37506448525812874), 6.202307370914052e-06), 45),
        ),
        2.317881841599543e-13,
        0.0015516827686063368,
        id="wide by the grid",
    ),
    pytest.param(
        (
            (DiscreteLaplace(0.27295445551315545), 11332041),
            (PoissonSampled(Gaussian(0.5229740917723079), 1.1474838407803162e-07), 128),
            (PoissonSampled(Gaussian(0.05303350872325766), 1.440576656720608e-06), 100067),
        ),
        8.115529935209486e-14,
        0.6399454496026331,
        marks=pytest.mark.slow,
        id="nothing below a floor",
    ),
]


@pytest.mark.parametrize(("parts", "delta", "epsilon"), FOUND)
def test_what_a_long_run_found_is_bounded_and_at_most_renyis(parts, delta, epsilon):
    ours, theirs = (make(neighbours="add_remove_one") for make in (NumericalAccountant, RdpAccountant))
    for event, count in parts:
        ours.compose(event, count=count)
        theirs.compose(event, count=count)
    low, high = ours.epsilon_interval(delta=delta)
    assert low <= high <= theirs.epsilon(delta=delta) * (1 + 1e-9)
    low, high = ours.delta_interval(epsilon=epsilon)
    assert low <= high <= theirs.delta(epsilon=epsilon) * (1 + 1e-9)
