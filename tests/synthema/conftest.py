"""The demo, run once; the helpers beside the tests are modules of no package."""

import sys
from pathlib import Path

import pytest

from synthema.demo import demo_frames, demo_study
from synthema.pipeline import simulate

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def demo_tables():
    return demo_frames()


@pytest.fixture(scope="session")
def demo_outcome(demo_tables, tmp_path_factory):
    """The packaged study, run once for all tests that look at its result."""
    return simulate(demo_study(), demo_tables, out=tmp_path_factory.mktemp("demo"))
