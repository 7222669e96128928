"""What the carrier sees of letters and results: their sizes tell no number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, LocalFederation, small_frames

from synthema.networks.base import run_job
from synthema.networks.in_process import Desk
from synthema.networks.packages import padded, unpadded
from synthema.study import Study


@pytest.mark.parametrize("n", [0, 1, 4087, 4089, 10_000])
def test_what_is_padded_is_found_again(n: int) -> None:
    data = bytes(range(256)) * (n // 256 + 1)
    data = data[:n]
    assert unpadded(padded(data)) == data
    assert unpadded(padded(bytes(4088))) == bytes(4088)
    for wrong in (b"", bytes(7), padded(data)[:-1], padded(data) + b"\0", padded(data)[:-1] + b"\1"):
        with pytest.raises(ValueError, match="padded"):
            unpadded(wrong)


SCHEMA = {
    "columns": {
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        "grade": {"role": "sensitive", "categories": ["low", "mid", "high"]},
        "age": {
            "role": "quasi-identifier",
            "kind": "integer",
            "bounds": [0, 100],
            "edges": [20, 40, 60, 80],
            "hierarchy": {"interval": [50, 100]},
        },
    }
}


def study() -> Study:
    return Study.from_dict(
        {
            "study": {"name": "pilot", "purpose": "a test of sizes", "schema": SCHEMA},
            "budget": {"epsilon": 5.0, "delta": 1e-6},
            "sites": {site: {} for site in SITES},
            "anonymise": {"k": 5},
            "synthesis": {"rows": 50},
        }
    )


def sizes(folder: Path, n: int, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[Any, int], int]:
    """Return the sizes of all letters and of the sealed result, of sites with n patients or some more."""
    import network_members

    seen: dict[Any, int] = {}
    post = Desk.post

    def watched(desk: Desk, to: str, letter: Any) -> None:
        if letter.kind == "mail":
            seen[(desk._site, to, letter.what)] = len(letter.payload)
        post(desk, to, letter)

    with monkeypatch.context() as patched:
        patched.setattr(Desk, "post", watched)
        patched.setattr(network_members, "small_study", study)
        federation = LocalFederation(folder)
        federation.frames = small_frames(n)
        federation.policies = {site: {"allow_exact": True} for site in SITES}
        federation.begin()
        try:
            sealed = run_job(federation.network, federation.researcher.submission(study()))
        finally:
            federation.close()
    return seen, len(sealed)


@pytest.mark.parametrize("padding", [True, False])
def test_the_size_of_an_anonymised_table_is_not_that_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, padding: bool
) -> None:
    if not padding:
        monkeypatch.setattr("synthema.networks.site_network.padded", lambda data: data)
        monkeypatch.setattr("synthema.networks.site_network.unpadded", lambda data: data)
    found = []
    for n in (60, 75):
        (tmp_path / str(n)).mkdir()
        found.append(sizes(tmp_path / str(n), n, monkeypatch))
    (few, few_sealed), (more, more_sealed) = found
    assert ("madrid", "vienna", "anonymised/answer") in few
    # What a ledger says after the study is public, and has no row in it.
    differ = {what for what in few if few[what] != more[what]}
    # The control: without it the rows could be counted.
    assert {what for _, _, what in differ} - {"end"} == (set() if padding else {"anonymised/answer"})
    assert few_sealed == more_sealed
