"""`synthema dealer` and `synthema material`: from a forecast to a run on what the dealer made, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from smpc import forecast
from smpc.dealing import TRUST
from smpc.store import open_store
from synthema.cli.app import app
from synthema.cli.errors import BAD_INPUT, REFUSED, STOPPED

DEALER = """
operator = "{operator}"
relay_operator = "Hub Vienna"
key = "dealer.key"
plans = ["plan.json"]

[[party]]
operator = "AKH Wien"
key = "{keys[0]}"

[[party]]
operator = "LKH Graz"
key = "{keys[1]}"
"""


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def run_json(*words, code=0):
    done = run(*words, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


async def product(s, x):
    a = await s.input(x)
    return await s.open(await s.mul(a[0], a[1]))


@pytest.fixture
def dealer(tmp_path):
    """A dealer's folder with keys of all, a plan for two runs, and its file; returns the dealer's public key."""
    public = run_json("dealer", "new-key", tmp_path / "dealer.key")["public_key"]
    keys = [run_json("material", "new-key", tmp_path / f"party-{i}.key")["public_key"] for i in range(2)]
    (tmp_path / "plan.json").write_text(forecast(product, [np.zeros(50, dtype=int)] * 2).plan(runs=2))
    (tmp_path / "dealer.toml").write_text(DEALER.format(operator="Trust Office", keys=keys))
    return public


def test_what_a_dealer_makes_becomes_stores(tmp_path, dealer):
    body = run_json("dealer", "make", "--config", tmp_path / "dealer.toml", "--out", tmp_path / "out")
    assert body["trust"] == TRUST
    assert body["seconds"] > 0
    for party, package in enumerate(body["packages"]):
        words = ("--store", tmp_path / f"store-{party}", "--key", tmp_path / f"party-{party}.key", "--dealer", dealer)
        installed = run_json("material", "install", package, *words)
        assert (installed["batch"], installed["party"]) == (body["batch"], party)
        shown = run_json("material", "show", tmp_path / f"store-{party}")
        assert shown["left"] == [{"kind": "Product", "domain": "RING64", "count": 100}]
    assert "100 of 100 x product RING64" in run("material", "show", tmp_path / "store-0").output
    with open_store(tmp_path / "store-0"):
        assert run_json("material", "show", tmp_path / "store-0", code=STOPPED)["error"] == "MaterialBusy"
    again = run_json("material", "install", body["packages"][0], *words, code=BAD_INPUT)
    assert again["error"] == "PackageRefused"


def test_the_text_says_what_the_dealer_could_see(tmp_path, dealer):
    done = run("dealer", "make", "--config", tmp_path / "dealer.toml", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "can reconstruct the inputs" in done.output
    assert "offline" in done.output
    assert dealer not in done.output


@pytest.mark.parametrize("operator", ["Hub Vienna", "hub vienna", "AKH Wien"])
def test_a_dealer_who_runs_the_relay_or_a_party_is_refused(tmp_path, dealer, operator):
    assert dealer
    file = tmp_path / "dealer.toml"
    file.write_text(file.read_text().replace("Trust Office", operator))
    body = run_json("dealer", "make", "--config", file, "--out", tmp_path / "out", code=REFUSED)
    assert body["error"] == "DealerNotSeparate"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('operator = "Trust Office"', ""),
        ('operator = "Trust Office"', 'operator = ""'),
        ('key = "dealer.key"', 'key = "dealer.key"\nmore = 1'),
        ('plans = ["plan.json"]', ""),
        ('plans = ["plan.json"]', 'plans = ["none.json"]'),
        ('plans = ["plan.json"]', 'plans = ["dealer.toml"]'),
        ("[[party]]", "[party]"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, dealer, old, new):
    assert dealer
    file = tmp_path / "dealer.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    run_json("dealer", "make", "--config", file, "--out", tmp_path / "out", code=BAD_INPUT)


def test_a_plan_for_other_numbers_of_parties_is_refused(tmp_path, dealer):
    assert dealer
    plan = tmp_path / "plan.json"
    plan.write_text(plan.read_text().replace('"n_parties": 2', '"n_parties": 3'))
    body = run_json("dealer", "make", "--config", tmp_path / "dealer.toml", "--out", tmp_path, code=BAD_INPUT)
    assert "3 parties" in body["message"]


def test_a_package_of_another_dealer_is_refused(tmp_path, dealer):
    body = run_json("dealer", "make", "--config", tmp_path / "dealer.toml", "--out", tmp_path / "out")
    other = run_json("dealer", "new-key", tmp_path / "other.key")["public_key"]
    assert other != dealer
    words = ("--store", tmp_path / "store", "--key", tmp_path / "party-0.key")
    for public in (other, "00", "no key"):
        run_json("material", "install", body["packages"][0], *words, "--dealer", public, code=BAD_INPUT)
    assert not (tmp_path / "store").exists()


def test_help_does_not_wait_for_heavy_modules():
    code = (
        "import sys; from synthema.cli.app import app; "
        "assert not {'smpc', 'numpy', 'cryptography', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
