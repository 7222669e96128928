"""Agents as threads of one process keep the contract of networks; and what lies between them is not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from network_contract import NetworkContract
from network_members import LocalFederation, small_study

from synthema.errors import SiteFailed
from synthema.networks.in_process import Desk
from synthema.networks.lines import Letter


class TestInProcess(NetworkContract):
    """The contract, over threads."""

    @pytest.fixture
    def federation(self, tmp_path: Path) -> Iterator[Any]:
        found = LocalFederation(tmp_path)
        found.begin()
        yield found
        found.close()


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[LocalFederation]:
    found = LocalFederation(tmp_path)
    found.begin()
    yield found
    found.close()


def _tampering(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    post = Desk.post

    def changed(desk: Desk, to: str, letter: Letter) -> None:
        for each in change(desk, to, letter):
            post(desk, to, each)

    monkeypatch.setattr(Desk, "post", changed)


def _is_share(letter: Letter) -> bool:
    return letter.kind == "mail" and letter.what.endswith("/shares")


def test_a_flipped_bit_in_a_share_ends_the_job_and_names_whose_letter_it_was(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(desk: Desk, to: str, letter: Letter) -> list[Letter]:
        if _is_share(letter) and desk._site == "milan" and to == "vienna":
            return [replace(letter, payload=letter.payload[:-1] + bytes([letter.payload[-1] ^ 1]))]
        return [letter]

    _tampering(monkeypatch, flip)
    with pytest.raises(SiteFailed) as failed:
        federation.run(small_study())
    assert failed.value.site == "milan"
    # Vienna may have seen it before it started: then it has voided what the others have paid.
    assert len(set(federation.spent().values()) - {0.0}) == 1


def test_letters_that_come_twice_change_nothing(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    _tampering(monkeypatch, lambda _desk, _to, letter: [letter, letter])
    assert federation.run(small_study())["synthetic"]


def test_a_letter_that_is_passed_on_in_another_name_ends_the_job(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Letter] = []

    def swap(_desk: Desk, to: str, letter: Letter) -> list[Letter]:
        if _is_share(letter) and to == "vienna":
            kept.append(letter)
            # Milan's letter in place of madrid's, under the same number.
            if len(kept) == 2:
                return [replace(kept[0], number=letter.number)]
        return [letter]

    _tampering(monkeypatch, swap)
    with pytest.raises(SiteFailed):
        federation.run(small_study())


def test_nothing_that_the_hub_carries_shows_a_count(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[bytes] = []

    def read(_desk: Desk, _to: str, letter: Letter) -> list[Letter]:
        carried.append(letter.payload)
        return [letter]

    _tampering(monkeypatch, read)
    federation.frames["milan"] = federation.frames["milan"].assign(grade="high")
    federation.run(small_study())
    everything = b"".join(carried)
    # The vector of a site that shares zeros and 62s would show as such in the clear.
    assert (62).to_bytes(8, "little") not in everything
    assert b"high" not in everything
    assert len(everything) > 1000
