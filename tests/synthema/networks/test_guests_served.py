"""A small site whose table a partner holds, as a member of a federation behind a real hub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_members import SITES, small_study
from relay_members import RelayFederation
from typer.testing import CliRunner

from privacy.ledger import Ledger, load_key, open_ledger
from synthema.agent.config import SiteConfig
from synthema.agent.guests import consent_note
from synthema.agent.hosting import HostService
from synthema.agent.setup import append_section, card_of, make_site, trust
from synthema.cli.app import app
from synthema.errors import SiteFailed, SiteRefused
from synthema.study import Study

HOST, GUEST = "vienna", "milan"
CONSENT = "The board of the Milan clinic agreed on 2026-01-01 that Vienna holds and sees the rows of its registry.\n"
KILLED_AT = Path(__file__).with_name("killed_at.py")


# The same tables, of which an anonymised one can be made.
SCHEMA: dict[str, Any] = {
    "columns": {
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        "grade": {"categories": ["low", "mid", "high"]},
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [20, 40, 60, 80]},
    }
}


def guests_study(name: str = "pilot", **sections: Any) -> Study:
    head = {"study": {"name": name, "purpose": "a test of guests", "schema": SCHEMA}}
    parties = {"federation": {"compute_parties": ["vienna", "madrid"]}}
    return small_study(name, **(head | parties | sections))


class GuestFederation(RelayFederation):
    """Milan is Vienna's guest: one process for both, made by the commands of an operator.

    `starts` says whether Vienna's process is a thread of this one, or one of its own that dies at its k-th event.
    """

    def __init__(self, folder: Path, *, dies_at: int | None = None, **options: Any) -> None:
        self.dies_at = dies_at
        self.process: subprocess.Popen[bytes] | None = None
        self.house: HostService | None = None
        super().__init__(folder, **options)
        for site in SITES:
            self.policies[site]["approve"] = '"automatic"'

    def place(self, site: str) -> Path:
        return self.folder / HOST / "guests" / GUEST if site == GUEST else super().place(site)

    def command(self, *arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["site", *arguments, "--config", str(self.place(HOST)), "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.output)
        return found

    def start_site(self, site: str) -> None:
        if site == HOST:
            self.start_house()
        elif site != GUEST:
            super().start_site(site)

    def start_house(self) -> None:
        for site in (HOST, GUEST):
            self._write_policy(site)
        if self.dies_at is not None:
            self.start_process(self.dies_at)
            return
        self.house = HostService(self.config(HOST))
        self.services |= {HOST: self.house.host} | self.house.guests
        self._house_thread = threading.Thread(target=self.house.serve, daemon=True)
        self._house_thread.start()
        for service in (self.house.host, *self.house.guests.values()):
            service.line.wait_until_up(10.0)

    def start_process(self, at: int) -> None:
        log = self.folder / "house.log"
        command = [sys.executable, str(KILLED_AT), str(at), "site", "serve", "--config", str(self.place(HOST))]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        deadline = time.monotonic() + 30
        while log.read_bytes().count(b"line to the hub is up") < 2:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    def stop_house(self) -> None:
        if self.house is not None:
            self.house.stop()
            self._house_thread.join(15)
            for site in (HOST, GUEST):
                self.services.pop(site, None)
            self.house = None

    def close(self) -> None:
        self.stop_house()
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
        super().close()

    def read_policies(self) -> None:
        for site in SITES:
            self._write_policy(site)
            if site in self.services:
                self.services[site].config = self.config(site)

    def run(self, study: Study, **options: Any) -> dict[str, Any]:
        self.read_policies()
        return self.desk.submit(
            study, decide_seconds=options.get("offer_within", 10.0), run_seconds=options.get("within", 30.0)
        )

    def _make_members(self) -> None:
        guests_study().data_schema.save(self.folder / "schema.toml")
        for site in (HOST, "madrid"):
            make_site(self.folder / site, site)
        trust(self.config(HOST), [card_of(self.config("madrid"))])
        gather, round_, away = self.patience
        text = f"[patience]\ngather = {gather}\nround = {round_}\naway = {away}\n"
        append_section(self.place("madrid") / "site.toml", text, SiteConfig.load)
        consent = self.folder / "consent.txt"
        consent.write_text(CONSENT)
        self.command("guest", "add", GUEST, "--consent", str(consent))
        trust(self.config("madrid"), [card_of(self.config(site)) for site in (HOST, GUEST)])
        for site in SITES:
            self.frames[site].to_csv(self.place(site) / "table.csv", index=False)
            (self.place(site) / "schema.toml").write_bytes((self.folder / "schema.toml").read_bytes())


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[GuestFederation]:
    found = GuestFederation(tmp_path, witnesses=1)
    found.begin()
    yield found
    found.close()


def test_a_study_with_a_guest_is_paid_by_each_table_for_itself(federation: GuestFederation) -> None:
    result = federation.run(guests_study())
    assert len(result["synthetic"].splitlines()) == 51
    spent = federation.spent()
    assert len(set(spent.values())) == 1
    assert spent[GUEST] > 0
    # A partner countersigned each spend, of the guest's own ledger too; its host may not.
    for site in (HOST, GUEST):
        with _ledger(federation, site) as ledger:
            assert "madrid/witness" in (ledger.cosigned or "")
    # In one process, and still two ledgers: the guest's says on what consent it is held, the host's does not.
    assert federation.config(GUEST).ledger_url != federation.config(HOST).ledger_url
    assert _notes(federation, GUEST).count(consent_note(CONSENT)) == 1
    assert consent_note(CONSENT) not in _notes(federation, HOST)
    # Each has the job in its own queue, and its own internal page.
    status = federation.command("status")
    (guest,) = status["guests"]
    assert (status["site"], guest["site"]) == (HOST, GUEST)
    assert [job["site"] for job in guest["jobs"]] == [GUEST]
    assert [job["state"] for job in guest["jobs"]] == [job["state"] for job in status["jobs"]] == ["done"]
    assert len(list((federation.place(GUEST) / "pages").iterdir())) == 1
    # Alone, a guest cannot: what it refuses is its own refusal.
    federation.policies[GUEST]["min_patients"] = 1000
    with pytest.raises(SiteRefused) as refused:
        federation.run(guests_study("pilot-2"))
    assert (refused.value.site, refused.value.reason) == (GUEST, "cohort")
    assert federation.spent() == spent


def test_a_guest_computes_nothing_and_counts_as_its_host(federation: GuestFederation) -> None:
    with pytest.raises(SiteRefused, match="milan is another site's guest") as refused:
        federation.run(guests_study(federation={}))
    assert refused.value.reason == "collusion"
    # An exact release of three sites that are two houses.
    exact = guests_study("exact", anonymise={"k": 5})
    for site in SITES:
        federation.policies[site] |= {"allow_exact": "true", "min_sites": 3}
    with pytest.raises(SiteRefused, match="hold their own tables") as refused:
        federation.run(exact)
    assert refused.value.reason == "exact"
    assert set(federation.spent().values()) == {0.0}
    # The same where two are enough is no question of hosts.
    for site in SITES:
        federation.policies[site] |= {"min_sites": 2, "automatic": '["anonymised", "marginals"]'}
    assert federation.run(exact)["synthetic"]


def test_the_operator_decides_for_the_guest_by_its_name(federation: GuestFederation) -> None:
    federation.policies[GUEST]["approve"] = '"ask"'
    federation.read_policies()
    got: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: got.append(federation.desk.submit(guests_study(), run_seconds=30.0)))
    asking.start()
    deadline = time.monotonic() + 10
    while not (jobs := federation.command("status", "--site", GUEST)["jobs"]) or jobs[0]["state"] != "waiting":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The host's own word does not count for it.
    job = jobs[0]["job_id"][:12]
    mine = CliRunner().invoke(app, ["site", "approve", job, "--config", str(federation.place(HOST))])
    assert mine.exit_code != 0
    assert federation.command("approve", job, "--site", GUEST, "--by", "Dr. Rossi")["site"] == GUEST
    asking.join(30)
    assert len(got) == 1


@pytest.mark.slow
def test_without_a_consent_the_guest_takes_no_part_and_the_host_serves(
    federation: GuestFederation, caplog: pytest.LogCaptureFixture
) -> None:
    consent = federation.place(GUEST) / "consent.txt"
    consent.rename(consent.with_suffix(".away"))
    # Taken away while the agent runs: the next job does not open the table.
    with pytest.raises(SiteRefused) as refused:
        federation.run(guests_study())
    assert refused.value.site == GUEST
    assert consent_note(CONSENT) not in _notes(federation, GUEST)
    (listed,) = federation.command("guest", "list")["guests"]
    assert "consent" in listed["problem"]
    key = federation.place(GUEST) / "keys" / "ledger.key"
    secret = key.read_bytes()
    for harm, words in (
        (lambda: None, "guest 'milan': its consent consent.txt cannot be read (FileNotFoundError)"),
        (lambda: key.write_bytes(b"x" + secret), "guest 'milan' cannot be served: "),
    ):
        federation.stop_house()
        caplog.clear()
        harm()
        federation.start_house()
        assert federation.house is not None
        assert not federation.house.guests
        assert words in caplog.text
        assert secret.decode()[10:40] not in caplog.text
        consent.write_text(CONSENT)
    key.write_bytes(secret)
    with pytest.raises((SiteRefused, SiteFailed), match=GUEST):
        federation.run(guests_study("pilot-2"), offer_within=1.5)
    assert federation.spent()[GUEST] == 0.0
    # The host goes on with whoever is there.
    alone = federation.run(guests_study("two", sites={"vienna": {}, "madrid": {}}))
    assert len(alone["synthetic"].splitlines()) == 51


def _ledger(federation: GuestFederation, site: str) -> Ledger:
    config = federation.config(site)
    return open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger)))


def _notes(federation: GuestFederation, site: str) -> list[str]:
    with _ledger(federation, site) as ledger:
        return [entry.body["text"] for entry in ledger.entries() if entry.kind == "note"]


@pytest.mark.slow
def test_the_hosts_death_is_the_guests_too(tmp_path: Path) -> None:
    # The 8th event of the two: both have decided, and their steps run.
    federation = GuestFederation(tmp_path, dies_at=8, patience=(6.0, 3.0, 0.5))
    federation.begin()
    try:
        with pytest.raises(SiteFailed) as failed:
            federation.run(guests_study())
        assert failed.value.site in {HOST, GUEST}
        assert federation.process is not None
        assert federation.process.wait(5) == -signal.SIGKILL
    finally:
        federation.close()
