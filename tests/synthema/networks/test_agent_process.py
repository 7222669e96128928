"""A site agent as a process: one to a folder, and it outlives what it finds there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from privacy._toml import dump_toml
from synthema.agent.config import SiteConfig
from synthema.agent.service import PUBLISH_FILE, SiteService
from synthema.agent.setup import append_section, make_site
from synthema.errors import StudyError


@pytest.fixture
def config(tmp_path: Path) -> Iterator[SiteConfig]:
    """A site whose hub is away, and whose certificates have not come yet."""
    make_site(tmp_path / "vienna", "vienna")
    hub = dump_toml({"hub": {"address": "127.0.0.1:1", "fingerprint": "00" * 32}})
    append_section(tmp_path / "vienna" / "site.toml", hub, SiteConfig.load)
    return SiteConfig.load(tmp_path / "vienna")


def test_a_second_agent_on_one_folder_is_refused_and_disturbs_nothing(config: SiteConfig) -> None:
    first = SiteService(config)
    try:
        with pytest.raises(StudyError, match="another agent"):
            SiteService(config)
    finally:
        first.close()
    # The lock goes with its holder.
    SiteService(config).close()


def test_an_agent_outlives_a_file_that_is_broken_while_it_runs(config: SiteConfig) -> None:
    service = SiteService(config)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            service.serve()
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    file = config.folder / "site.toml"
    good = file.read_text()
    file.write_text("[policy\n")
    wanted = config.folder / PUBLISH_FILE
    wanted.touch()
    until = time.monotonic() + 10
    while wanted.exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.7)
    assert thread.is_alive()
    file.write_text(good)
    # A line that cannot read its certificates goes on trying.
    assert [each.name for each in threading.enumerate() if each.name == "line to the hub"]
    service.stop()
    thread.join(30)
    assert not failed
