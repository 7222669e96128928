"""A new ledger for each test, and accounts whose rho cap is a round number of units."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from privacy.ledger import open_ledger

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
