"""Anonymised tables in the ledger: charged before rows are read, and once and for all."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from clinic_files import ROOT, anonymise, run, write_clinic

from privacy.ledger import open_ledger, verify


@pytest.fixture
def folder(tmp_path):
    return write_clinic(tmp_path)


@pytest.fixture
def book(folder):
    url = f"sqlite:///{folder / 'site.db'}"
    with open_ledger(url, site="vienna") as ledger:
        ledger.open_account("research", epsilon=2.5, delta=1e-6, neighbours="add_remove_one")
    run("ledger", "open-exact", folder / "site.db", "tables")
    return url


def kinds(url):
    with open_ledger(url) as ledger:
        return [entry.kind for entry in ledger.entries()]


def recorded(folder, *more, **options):
    return anonymise(folder, "--ledger", folder / "site.db", "--account", "tables", *more, **options)


def test_a_release_is_reserved_started_and_posted_and_each_further_one_is_pointed_at(folder, book):
    one = json.loads(recorded(folder, "--json", "--manifest", folder / "m.json").stdout)["ledger"]
    assert kinds(book)[-3:] == ["reserve", "start", "post"]
    assert (one["number"], one["warning"]) == (1, None)
    told = json.loads((folder / "m.json").read_text())["ledger"]
    with open_ledger(book) as ledger:
        (event,) = ledger.events("tables")
        assert told == {"ledger_id": ledger.ledger_id, "account": "tables", "key": one["key"]}
        entry = next(entry for entry in ledger.entries() if entry.kind == "reserve")
    assert entry.body["amounts"] is None, "no epsilon"
    assert "KAnonymity(k=4)" in event.what
    two = json.loads(recorded(folder, "--json", out="2.csv").stdout)["ledger"]
    assert two["number"] == 2
    assert "intersected" in two["warning"]
    text = recorded(folder, out="3.csv").stdout
    assert "exact release 3" in text
    assert "after 2 earlier releases" in text
    assert verify(book).ok


def test_an_account_without_exact_releases_refuses_before_anything_is_read(folder, book):
    before = kinds(book)
    (folder / "in.csv").write_text("not a table")
    pay = ("--ledger", folder / "site.db", "--account")
    assert "open-exact" in anonymise(folder, *pay, "research", code=4).stderr
    assert "nobody" in anonymise(folder, *pay, "nobody", code=4).stderr
    assert kinds(book) == before
    assert not (folder / "out.csv").exists()


def test_what_is_wrong_with_policy_or_files_costs_nothing(folder, book):
    before = kinds(book)
    recorded(folder, by=("--k", 1), code=2)
    recorded(folder, out="in.csv", code=2)
    assert kinds(book) == before


def test_a_run_that_fails_after_the_start_counts(folder, book):
    done = recorded(folder, by=("--k", 201), code=3)
    assert "counts this run as a release" in done.stderr
    assert kinds(book)[-3:] == ["reserve", "start", "post"]
    assert json.loads(recorded(folder, "--json").stdout)["ledger"]["number"] == 2
    assert verify(book).ok


def test_a_name_of_a_release_is_good_for_one(folder, book):
    recorded(folder, "--spend-key", "for the registry")
    before = kinds(book)
    assert "new key" in recorded(folder, "--spend-key", "for the registry", out="2.csv", code=4).stderr
    assert kinds(book) == before
    assert not (folder / "2.csv").exists()


def test_a_run_that_is_killed_before_the_post_counts_and_the_ledger_verifies(folder, book):
    # The rows come through a pipe that stays silent: the command waits between start and post.
    (folder / "in.csv").unlink()
    os.mkfifo(folder / "in.csv")
    words = ("anonymise", "in.csv", "--schema", "schema.toml", "--k", "4", "-o", "out.csv")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "synthema", *words, "--ledger", "site.db", "--account", "tables"],
        cwd=folder,
        env=environment,
    )
    try:
        end = time.monotonic() + 60
        while kinds(book)[-1] != "start":
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "out.csv").exists()
    assert kinds(book)[-2:] == ["reserve", "start"]
    (folder / "in.csv").unlink()
    (folder / "in.csv").write_text("mrn,sex,age,diagnosis,weeks\n" + "".join(f"{i},F,30,HbSS,1\n" for i in range(9)))
    assert json.loads(recorded(folder, "--json").stdout)["ledger"]["number"] == 2
    assert verify(book).ok
