"""Keys and certificates of five parties and a relay, made once; every test connects anew."""

import sys
from pathlib import Path

import pytest

# The helpers beside the tests are modules of no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    from networks import Network, make_keys

    folder = tmp_path_factory.mktemp("keys")
    return Network([make_keys(folder, name) for name in ("a", "b", "c", "d", "e")], make_keys(folder, "relay"))
