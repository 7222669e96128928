"""Orders at the agents' doors keep the contract of networks; and who goes away takes its site out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from door_members import DoorFederation
from network_contract import NetworkContract


class TestDoors(NetworkContract):
    """The contract, over orders."""

    @pytest.fixture
    def federation(self, tmp_path: Path) -> Iterator[Any]:
        found = DoorFederation(tmp_path)
        found.begin()
        yield found
        found.close()
