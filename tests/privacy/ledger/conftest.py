"""A new ledger for each test, and accounts whose rho cap is a round number of units."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from privacy import DiscreteGaussian, NonPrivate, ZeroConcentratedDP
from privacy.ledger import open_ledger, verify

# Needs the package apsw, as do the tests that use it.
collect_ignore = [] if find_spec("apsw") else ["failing_disk.py"]

# The helpers beside the tests are modules of no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/site.db"


@pytest.fixture
def ledger(url):
    with open_ledger(url, site="vienna") as opened:
        opened.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        yield opened


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of this run."""
    sys.path.append(str(Path(__file__).parent))
    from postgres_server import running

    with running() as started:
        yield started


@pytest.fixture
def database(server):
    """The URL of an empty database, with the owner's password in it."""
    url = server.database()
    yield url
    server.give_back(url)


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A ledger at rest, with an entry of every kind but keys."""
    path = tmp_path_factory.mktemp("ledger") / "original.db"
    with open_ledger(f"sqlite:///{path}", site="vienna") as ledger:
        ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
        ledger.open_exact_account("exact")
        with ledger.spend("aml", DiscreteGaussian(noise_multiplier=20.0), key="1", purpose="a count") as block:
            block.release([3, 4])
        with ledger.spend("aml", ZeroConcentratedDP(0.01), key="2", purpose="lost"):
            pass
        ledger.reserve("aml", ZeroConcentratedDP(0.01), key="3", purpose="never started")
        ledger.void("3")
        ledger.set_cap("aml", epsilon=2.0, delta=1e-6, reason="ethics board")
        with ledger.spend("exact", NonPrivate("a curve"), key="4", purpose="a curve") as block:
            block.release(5)
    assert verify(f"sqlite:///{path}").ok
    return path


@pytest.fixture
def copy(original, tmp_path):
    """Its file, to be changed."""
    return shutil.copy(original, tmp_path / "copy.db")
