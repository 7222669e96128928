"""A whole federation in one folder, to be tried on one machine: hub, sites, dealer and researcher, each with its keys.

It is made by the steps that operators take on their own machines (`synthema hub init`, `site init`, `join`, `trust`),
one after the other. Here one person holds all keys, so it shows and tests everything and protects nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synthema.agent.config import SITE_FILE, PartnerSection, SiteConfig
from synthema.agent.setup import Card, append_section, card_of, join_hub, make_site, trust
from synthema.enrolling import enrol
from synthema.errors import SynthemaError
from synthema.hub.hub import HubFolder
from synthema.researcher import join_as_researcher
from synthema.researcher import trust as researcher_trusts

if TYPE_CHECKING:
    import pandas as pd

    from synthema.study import Study

DEALER, RESEARCHER = "dealer", "researcher"
_READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LocalFederation:
    """Folders of the members, under one folder.

    commands   what each member runs, in the order in which they are started: the hub first
    """

    folder: Path
    sites: tuple[str, ...]
    port: int
    has_dealer: bool

    @property
    def commands(self) -> dict[str, list[str]]:
        """Arguments of `synthema` for each member."""
        found = {"hub": ["hub", "serve", "--config", str(self.folder / "hub" / "hub.toml")]}
        for site in self.sites:
            found[site] = ["site", "serve", "--config", str(self.site(site))]
        if self.has_dealer:
            found[DEALER] = ["dealer", "serve", "--config", str(self.folder / DEALER / "dealer.toml")]
        return found

    def site(self, name: str) -> Path:
        """Return a site's folder."""
        return self.folder / "sites" / name

    @property
    def researcher(self) -> Path:
        """The researcher's folder."""
        return self.folder / RESEARCHER


def make_federation(
    folder: Path,
    study: Study,
    frames: Mapping[str, pd.DataFrame],
    *,
    policy: str = "",
    automatic: Sequence[str] = (),
    studies: int = 1,
    witnesses: int = 1,
    patience: tuple[float, float, float] | None = None,
) -> LocalFederation:
    """Make all members of a study's federation.

    Parameters
    ----------
    folder
        New or empty.
    frames
        Each site's rows; written as CSV into the site's folder.
    policy
        More lines of each site's [policy].
    automatic
        Algorithms that need no operator; by default all but exact releases.
    studies
        How many such studies each site's budget allows: the zCDP budget of so many at the study's epsilon and delta.
    witnesses
        How many partners countersign each site's ledger before it spends.
    patience
        Seconds to wait for a contribution, a round, and a site that left; by default the agent's own.

    Raises
    ------
    SynthemaError
        If the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SynthemaError(f"{folder.name} is not empty: choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    study.data_schema.save(folder / "schema.toml")
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    hub_files = HubFolder.create(folder / "hub", name="hub", listen=f"127.0.0.1:{port}")
    dealer = study.federation.dealer
    made = LocalFederation(folder, tuple(study.sites), port, dealer is not None)
    for site in study.sites:
        make_site(made.site(site), site)
        frames[site].to_csv(made.site(site) / "table.csv", index=False)
        (made.site(site) / "schema.toml").write_bytes((folder / "schema.toml").read_bytes())
    cards = {site: card_of(SiteConfig.load(made.site(site))) for site in study.sites}
    hub = hub_files.open(listener=listener)
    serving = threading.Thread(target=hub.serve, daemon=True)
    serving.start()
    try:
        for site in study.sites:
            join_hub(made.site(site), hub_files.invite(site, "site").text())
        if dealer is not None:
            cards[dealer] = _make_dealer(folder / DEALER, dealer, hub_files, cards)
        token = hub_files.invite(RESEARCHER, "researcher").text()
        researcher = join_as_researcher(made.researcher, token)
    finally:
        hub.stop()
        serving.join(10)
    researcher_trusts(researcher, [cards[site] for site in study.sites])
    for site in study.sites:
        trust(SiteConfig.load(made.site(site)), [card for name, card in cards.items() if name != site])
        _write_terms(
            made.site(site), study, researcher.identity().public.hex(), policy, automatic, studies, witnesses, patience
        )
    return made


def _make_dealer(folder: Path, name: str, hub: HubFolder, cards: Mapping[str, Card]) -> Card:
    found = enrol(hub.invite(name, "dealer").text(), name, folder / "keys")
    lines = [
        f'name = "{name}"',
        'operator = "Trust Office"',
        "",
        "[hub]",
        f'address = "{found.hub.host}:{found.hub.port}"',
        f'fingerprint = "{found.hub.fingerprint.hex()}"',
        'operator = "Hub"',
    ]
    for site, card in cards.items():
        lines += ["", f"[partners.{site}]", f'identity = "{card.section.identity}"', f'operator = "Hospital {site}"']
    (folder / "dealer.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Card(name, PartnerSection(identity=found.public.hex(), operator="Trust Office", role="dealer"))


def _write_terms(
    folder: Path,
    study: Study,
    researcher: str,
    policy: str,
    automatic: Sequence[str],
    studies: int,
    witnesses: int,
    patience: tuple[float, float, float] | None,
) -> None:
    file = folder / SITE_FILE
    before, _, rest = file.read_text(encoding="utf-8").partition("[policy]")
    _, _, after = rest.partition("[data]")
    from privacy import epsilon_to_rho, rho_to_epsilon

    delta = study.budget.delta
    # What a study is priced at is rounded up, and a part of delta is set aside for choices on shares.
    epsilon = 1.05 * rho_to_epsilon(studies * epsilon_to_rho(study.budget.epsilon, delta), delta)
    terms = [
        "[policy]",
        f"epsilon_cap = {epsilon:.4f}",
        f"delta_cap = {delta}",
        'approve = "automatic"',
        *([policy] if policy else []),
        "",
        "[[policy.researchers]]",
        f'name = "{RESEARCHER}"',
        f'key = "{researcher}"',
        'approve = "automatic"',
        *([f"automatic = {json.dumps(list(automatic))}"] if automatic else []),
    ]
    text = before + "\n".join(terms) + "\n\n[data]" + after
    file.write_text(text.replace("needed = 1", f"needed = {witnesses}"), encoding="utf-8")
    if patience is not None:
        gather, rounds, away = map(float, patience)
        section = f"[patience]\ngather = {gather}\nround = {rounds}\naway = {away}\n"
        append_section(file, section, SiteConfig.load)


@dataclass(slots=True)
class Running:
    """The processes of a federation that runs, by member."""

    made: LocalFederation
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, member: str) -> subprocess.Popen[bytes]:
        """Start a member; its log goes to a file in the folder."""
        log = (self.made.folder / f"{member}.log").open("ab")
        command = [sys.executable, "-m", "synthema", *self.made.commands[member]]
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
        self.processes[member] = process
        return process

    def wait_until_ready(self, within: float = _READY_SECONDS) -> None:
        """Wait until every member has a line to the hub.

        Raises
        ------
        SynthemaError
            If one does not come in time, or ended.
        """
        deadline = time.monotonic() + within
        waiting = [member for member in self.processes if member != "hub"]
        while waiting:
            member = waiting[0]
            if b"line to the hub is up" in (self.made.folder / f"{member}.log").read_bytes():
                waiting.pop(0)
            elif self.processes[member].poll() is not None:
                raise SynthemaError(f"{member} ended: see {member}.log")
            elif time.monotonic() > deadline:
                raise SynthemaError(f"{member} has no line to the hub within {within:g} s: see {member}.log")
            else:
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop all, the hub last."""
        for member in reversed(list(self.processes)):
            process = self.processes[member]
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(5)


@contextmanager
def running(made: LocalFederation) -> Iterator[Running]:
    """Run every member as a process of its own; stop them at the end."""
    found = Running(made)
    try:
        for member in made.commands:
            found.start(member)
        found.wait_until_ready()
        yield found
    finally:
        found.stop()
