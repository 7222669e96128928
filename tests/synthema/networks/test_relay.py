"""Agents behind a real hub, over TLS on loopback, keep the contract of networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_contract import NetworkContract
from relay_members import RelayFederation


class TestRelay(NetworkContract):
    """The contract, over a hub."""

    @pytest.fixture
    def federation(self, tmp_path: Path) -> Iterator[Any]:
        found = RelayFederation(tmp_path)
        found.begin()
        yield found
        found.close()
