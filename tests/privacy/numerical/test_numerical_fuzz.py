"""Small samples of the random comparisons of benchmarks/fuzz_accounting.py, and that they can fail."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from privacy.numerical import NumericalAccountant

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
