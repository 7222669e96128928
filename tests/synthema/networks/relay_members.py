"""The same three hospitals behind a real hub: real TLS on loopback, agents made by the same steps as an operator's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from network_members import DEALER, SITES, Automatic, small_frames, small_study

from privacy.ledger import load_key, open_ledger, verify
from synthema.agent.config import PartnerSection, SiteConfig
from synthema.agent.service import SiteService
from synthema.agent.setup import Card, card_of, join_hub, make_site, trust
from synthema.dealer_config import DealerService
from synthema.dealer_member import DealerProcess
from synthema.enrolling import enrol
from synthema.hub.hub import Hub, HubFolder
from synthema.researcher import ResearchDesk, join_as_researcher
from synthema.researcher import trust as researcher_trusts
from synthema.study import Study


class RelayFederation:
    """Hub, agents, dealer and a researcher's desk, in threads of this process, over TLS."""

    def __init__(
        self, folder: Path, *, witnesses: int = 0, patience: tuple[float, float, float] = (8.0, 4.0, 4.0)
    ) -> None:
        self.folder = folder
        self.frames = small_frames()
        self.operators = {site: Automatic() for site in SITES}
        self.policies: dict[str, dict[str, Any]] = {site: {} for site in SITES}
        self.services: dict[str, SiteService] = {}
        self.witnesses, self.patience = witnesses, patience
        folder.mkdir(exist_ok=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.hub_folder = HubFolder.create(folder / "hub", name="hub", listen=address)
        self.hub: Hub | None = None
        self._make_members()

    def begin(self) -> None:
        self.start_hub()
        for site in SITES:
            join_hub(self.place(site), self.hub_folder.invite(site, "site").text())
        self._start_dealer()
        for site in SITES:
            self.start_site(site)
        self.researcher = join_as_researcher(
            self.folder / "researcher", self.hub_folder.invite("researcher", "researcher").text()
        )
        researcher_trusts(self.researcher, [card_of(self.config(site)) for site in SITES])
        self.desk = ResearchDesk(type(self.researcher).load(self.folder / "researcher"))
        self.desk.__enter__()

    def _start_dealer(self) -> None:
        folder = self.folder / DEALER
        found = enrol(self.hub_folder.invite(DEALER, "dealer").text(), DEALER, folder / "keys")
        lines = [
            f'name = "{DEALER}"',
            'operator = "Trust Office Graz"',
            "[hub]",
            f'address = "127.0.0.1:{found.hub.port}"',
            f'fingerprint = "{found.hub.fingerprint.hex()}"',
            'operator = "Hub"',
        ]
        for site in SITES:
            identity = card_of(self.config(site)).section.identity
            lines += [f"[partners.{site}]", f'identity = "{identity}"', f'operator = "Hospital {site}"']
        (folder / "dealer.toml").write_text("\n".join(lines), encoding="utf-8")
        # Guests know whom their host knows.
        for site in (each for each in SITES if self.config(each).host is None):
            trust(self.config(site), [Card(DEALER, PartnerSection(identity=found.public.hex()))])
        self.dealer = DealerProcess(DealerService.load(folder / "dealer.toml"))
        self._dealer_thread = threading.Thread(target=self.dealer.serve, daemon=True)
        self._dealer_thread.start()
        self.dealer.line.wait_until_up(10.0)

    def place(self, site: str) -> Path:
        return self.folder / site

    def config(self, site: str) -> SiteConfig:
        return SiteConfig.load(self.place(site))

    def start_hub(self) -> None:
        self.hub = self.hub_folder.open(listener=self.listener)
        self._hub_thread = threading.Thread(target=self.hub.serve, daemon=True)
        self._hub_thread.start()

    def start_site(self, site: str) -> None:
        self._write_policy(site)
        self.services[site] = SiteService(self.config(site), approval=self.operators[site])
        self.services[site].begin()
        self.services[site].line.wait_until_up(10.0)

    def run(self, study: Study, *, offer_within: float = 10.0, within: float = 30.0) -> dict[str, Any]:
        for site in SITES:
            self._write_policy(site)
            # What the operator changed is read with the next job.
            self.services[site].config = self.config(site)
        return self.desk.submit(study, decide_seconds=offer_within, run_seconds=within)

    def spent(self) -> Mapping[str, float]:
        for service in self.services.values():
            service.agent.wait_until_idle(within=10.0)
        found = {}
        for site in SITES:
            config = self.config(site)
            assert verify(config.ledger_url).ok
            with open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger))) as ledger:
                opened = [account.name for account in ledger.accounts()]
                found[site] = ledger.remaining("private").rho_spent if "private" in opened else 0.0
        return found

    def close(self) -> None:
        self.desk.__exit__()
        for service in self.services.values():
            service.close()
        self.dealer.stop()
        self._dealer_thread.join(10)
        if self.hub is not None:
            self.hub.stop()
            self._hub_thread.join(10)

    def _make_members(self) -> None:
        small_study().data_schema.save(self.folder / "schema.toml")
        for site in SITES:
            make_site(self.folder / site, site)
            self.frames[site].to_csv(self.folder / site / "table.csv", index=False)
            (self.folder / site / "schema.toml").write_bytes((self.folder / "schema.toml").read_bytes())
        cards = {site: card_of(self.config(site)) for site in SITES}
        for site in SITES:
            trust(self.config(site), [card for name, card in cards.items() if name != site])

    def _write_policy(self, site: str) -> None:
        file = self.place(site) / "site.toml"
        terms = {"epsilon_cap": 20.0, "delta_cap": 1e-5, "approximate_delta": 1e-9} | self.policies[site]
        before, _, rest = file.read_text(encoding="utf-8").partition("[policy]")
        _, _, after = rest.partition("[data]")
        lines = ["any_researcher = true", *(f"{key} = {value}" for key, value in terms.items())]
        text = before + "[policy]\n" + "\n".join(lines) + "\n\n[data]" + after
        file.write_text(text.replace("needed = 1", f"needed = {self.witnesses}"), encoding="utf-8")
