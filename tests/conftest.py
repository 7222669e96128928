"""One setting for every property test; the whole suite on all cores; bytecode for the processes that tests start."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a loaded machine is not a defect. In CI the same examples every time, so that a red run can be repeated;
# elsewhere new ones. `HYPOTHESIS_EXAMPLES=60` makes a run as thorough as the heavier suites of `.ci/run`.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "10")),
)
settings.load_profile("project")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Give the whole suite a worker for each core. Files named on the command line run in this process, as does `-n 0`.

    Here and not in `addopts`: there it would have to be taken back for each benchmark and for `-p no:xdist`.
    """
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    worker = hasattr(config, "workerinput")
    if whole and not worker and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        # One more than cores: tests of lines and silences wait a fifth of their time.
        config.option.numprocesses = config.hook.pytest_xdist_auto_num_workers(config=config) + 1
        # Neighbours stay together for their fixtures until a worker has nothing left to do.
        config.option.dist = "worksteal"


def pytest_configure(config):
    """Where Python writes no bytecode, each process would compile pandas anew: keep it in a folder of this run."""
    if not sys.dont_write_bytecode or "PYTHONPYCACHEPREFIX" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="synthema-bytecode-")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPYCACHEPREFIX", folder.name)
    patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(patch.undo)


def _places(config):
    """What `testpaths` says, with this folder taken apart into what is in it."""
    here = Path(__file__).parent
    parts = [part for part in here.iterdir() if part.match("test_*.py") or any(part.rglob("test_*.py"))]
    named = [config.rootpath / name for name in config.getini("testpaths")]
    return sorted(parts), [place for place in named if place != here]


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Collect without the garbage collector, and keep it off what was collected: it lives as long as the run.

    Each worker begins with another folder: compiling the asserts takes longest, and the others read what it has
    compiled.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker and session.config.args == session.config.getini("testpaths"):
        tests, packages = _places(session.config)
        first = int(worker["workerid"].removeprefix("gw")) * len(tests) // worker["workercount"]
        session.config.args = [str(place) for place in tests[first:] + tests[:first] + packages]
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """In whatever order workers collected: they all agree on one."""
    if hasattr(config, "workerinput"):
        tests, packages = _places(config)
        order = {place: number for number, place in enumerate(tests + packages)}
        items.sort(key=lambda item: min(order.get(place, len(order)) for place in (item.path, *item.path.parents)))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Leave out the search for doctests below this folder: tests have none, and there are hundreds of modules."""
    found = yield
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]
