"""The cross-check: an interval around the truth where the package is installed, and typed failures where it is not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import pytest

from privacy import (
    ApproximateDP,
    CrosscheckError,
    CrosscheckMissing,
    CrosscheckTimeout,
    DiscreteGaussian,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    PrivacyError,
    PrvAccountant,
    PureDP,
    RandomizedResponse,
    RdpAccountant,
    UnsupportedEvent,
)
from privacy import prv as module

ADD_REMOVE = "add_remove_one"


def account_of(*events, neighbours=ADD_REMOVE, **options):
    accountant = PrvAccountant(neighbours=neighbours, **options)
    for event in events:
        accountant.compose(event)
    return accountant


# ---------------------------------------------------------------- without the package


def test_a_missing_package_is_a_typed_error_with_the_way_out(monkeypatch):
    monkeypatch.setattr(PrvAccountant, "is_available", staticmethod(lambda: False))
    accountant = account_of(Gaussian(1.0))
    for ask in (lambda: accountant.epsilon(delta=1e-5), lambda: accountant.delta(epsilon=1.0)):
        with pytest.raises(CrosscheckMissing, match=r"synthema\[crosscheck\]"):
            ask()
    assert issubclass(CrosscheckMissing, CrosscheckError)
    assert issubclass(CrosscheckError, PrivacyError)


def with_worker(monkeypatch, tmp_path, program):
    """Put another program in the worker's place."""
    worker = tmp_path / "worker.py"
    worker.write_text(program)
    monkeypatch.setattr(module, "_WORKER", worker)
    monkeypatch.setattr(PrvAccountant, "is_available", staticmethod(lambda: True))


def test_a_worker_that_does_not_end_is_killed_at_the_time_limit(monkeypatch, tmp_path):
    note = tmp_path / "pid"
    with_worker(
        monkeypatch,
        tmp_path,
        f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.01)\n",
    )
    start = time.monotonic()
    with pytest.raises(CrosscheckTimeout, match=r"within 1\.5 s") as caught:
        account_of(Gaussian(1.0), time_limit=1.5).epsilon(delta=1e-5)
    assert caught.value.time_limit == 1.5
    assert time.monotonic() - start < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "code 3"),
        ("print('not JSON')", "no answer"),
        ("import json; print(json.dumps({'error': 'RuntimeError: Discrete mean differs'}))", "Discrete mean differs"),
    ],
)
def test_a_worker_that_fails_is_a_typed_error_that_says_why(monkeypatch, tmp_path, program, reason):
    with_worker(monkeypatch, tmp_path, program)
    with pytest.raises(CrosscheckError, match=reason):
        account_of(Gaussian(1.0)).epsilon(delta=1e-5)


def test_the_question_reaches_the_worker_with_exact_numbers(monkeypatch, tmp_path):
    program = (
        "import json, sys\nq = json.load(sys.stdin)\n"
        "assert q['releases'] == [['gaussian', [0.1], 3], ['poisson_gaussian', [1.0, 0.01], 1000],"
        " ['pure', [0.3], 2], ['approximate', [0.1, 1e-08], 1], ['laplace', [0.5], 1]], q\n"
        "assert (q['of'], q['values'], q['epsilon_error'], q['delta_error']) == ('epsilon', [1e-05], 0.02, 1e-08), q\n"
        "print(json.dumps({'values': [['-0.5', '1.0', '1.5']]}))\n"
    )
    with_worker(monkeypatch, tmp_path, program)
    accountant = PrvAccountant(neighbours=ADD_REMOVE, epsilon_error=0.02)
    accountant.compose(Gaussian(0.1), count=3)
    accountant.compose(PoissonSampled(Gaussian(1.0), 0.01), count=1000)
    accountant.compose(PureDP(0.3), count=2)
    accountant.compose(ApproximateDP(0.1, 1e-8))
    accountant.compose(Laplace(2.0))
    assert accountant.epsilon_interval(delta=1e-5) == (0.0, 1.5)
    assert accountant.epsilon(delta=1e-5) == 1.5


def test_the_worker_reports_a_failure_of_the_package_as_an_answer(tmp_path):
    # The folder holds a stand-in that fails as the package is known to.
    (tmp_path / "prv_accountant.py").write_text("def GaussianMechanism(**kwargs): raise RuntimeError('overflow')\n")
    done = subprocess.run(
        [sys.executable, str(module._WORKER)],
        input=json.dumps({"releases": [["gaussian", [1.0], 1]]}),
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"error": "RuntimeError: overflow"}


@pytest.mark.parametrize("event", [NonPrivate("x"), DiscreteGaussian(scale=3.0), RandomizedResponse(0.1)])
def test_what_the_package_cannot_price_is_refused_before_it_is_asked(event):
    accountant = account_of()
    assert not accountant.supports(event)
    with pytest.raises(UnsupportedEvent, match="prv-accountant cannot price"):
        accountant.compose(event)
    assert accountant.epsilon(delta=1e-5) == 0
    assert accountant.epsilon_interval(delta=1e-5) == (0, 0)


def test_the_package_knows_no_relation_so_ours_is_checked_here():
    assert account_of(neighbours="replace_one").supports(RandomizedResponse(0.1))
    assert not account_of(neighbours="replace_one").supports(PoissonSampled(Gaussian(1.0), 0.1))


@pytest.mark.parametrize("options", [{"epsilon_error": 0.0}, {"delta_error": 1.0}, {"time_limit": math.inf}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="must"):
        account_of(**options)


def test_a_billion_releases_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(PrvAccountant, "is_available", staticmethod(lambda: True))
    accountant = PrvAccountant(neighbours=ADD_REMOVE)
    accountant.compose(Gaussian(1e5), count=10**9 + 1)
    with pytest.raises(CrosscheckError, match="more than"):
        accountant.epsilon(delta=1e-5)


# ---------------------------------------------------------------- with the package

# What is tested is the answer, not how soon it comes on a machine that does other things as well.
PATIENT = {"time_limit": 120.0}


@pytest.mark.slow
def test_the_interval_holds_the_exact_sampled_gaussian_and_lies_below_rdp():
    accountant, rdp = account_of(epsilon_error=0.1, **PATIENT), RdpAccountant(neighbours=ADD_REMOVE)
    for account in (accountant, rdp):
        account.compose(PoissonSampled(Gaussian(1.0), 0.01), count=1000)
    low, high = accountant.epsilon_interval(delta=1e-5)
    assert low < 1.828236666516577 < high < low + 0.21
    assert high < rdp.epsilon(delta=1e-5)
    assert accountant.delta(epsilon=high) <= 1.01e-5


@pytest.mark.slow
def test_a_mixture_is_priced_between_its_neighbours_of_less_and_more():
    events = (Gaussian(5.0), Laplace(3.0), PureDP(0.1), ApproximateDP(0.1, 1e-8))
    low, high = account_of(*events, **PATIENT).epsilon_interval(delta=1e-6)
    rdp = RdpAccountant(neighbours=ADD_REMOVE)
    for event in events:
        rdp.compose(event)
    assert 0 < low < high < rdp.epsilon(delta=1e-6)


def test_what_takes_too_long_is_a_timeout():
    accountant = PrvAccountant(neighbours=ADD_REMOVE, epsilon_error=0.001, time_limit=1.0)
    accountant.compose(PoissonSampled(Gaussian(0.5), 0.01), count=10_000)
    with pytest.raises(CrosscheckTimeout):
        accountant.epsilon(delta=1e-5)
