"""The demo, run once, and the command, built once; the helpers beside the tests are modules of no package."""

import sys
from functools import cache
from pathlib import Path

import pytest
import typer.testing

from synthema.demo import demo_frames, demo_study
from synthema.pipeline import simulate

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _command_built_once():
    """Typer builds the command from all annotations at each call: a quarter of the time of the tests that call it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(typer.testing._get_command))
        yield


@pytest.fixture(scope="session")
def demo_tables():
    return demo_frames()


@pytest.fixture(scope="session")
def demo_outcome(demo_tables, tmp_path_factory):
    """The packaged study, run once for all tests that look at its result."""
    return simulate(demo_study(), demo_tables, out=tmp_path_factory.mktemp("demo"))
