"""One setting for every property test; the whole suite on all cores; bytecode for the processes that tests start."""

import gc
import os
import sys
import tempfile

import pytest
from hypothesis import settings

# No deadline: a loaded machine is not a defect. In CI the same examples every time, so that a red run can be repeated;
# elsewhere new ones. `HYPOTHESIS_EXAMPLES=60` makes a run as thorough as the heavier suites of `.ci/run`.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "15")),
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
        config.option.numprocesses = "auto"
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


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without the garbage collector, and keep it off what was collected: it lives as long as the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Leave out the search for doctests below this folder: tests have none, and there are hundreds of modules."""
    found = yield
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]
