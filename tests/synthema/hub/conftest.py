"""One hub with its members for all tests that do not break it; what is beside the tests is a module of no package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def town(tmp_path_factory):
    """A hub that runs, and the files of members: sites a, b, c; a dealer; researchers rosa and otto."""
    from hubs import RunningHub, join, new_folder

    path = tmp_path_factory.mktemp("town")
    files = new_folder(path / "hub")
    with RunningHub(files) as running:
        members = {name: join(files, path, name) for name in ("a", "b", "c")}
        members["dora"] = join(files, path, "dora", "dealer")
        members |= {name: join(files, path, name, "researcher") for name in ("rosa", "otto")}
        running.members = members
        running.path = path
        yield running


@pytest.fixture(autouse=True)
def quiet(request):
    """No connection is left of the test before, and everybody was told so."""
    if "town" in request.fixturenames:
        from hubs import wait_for

        server = request.getfixturevalue("town").server
        wait_for(lambda: server.n_connections == 0 and not server._presence_due)
