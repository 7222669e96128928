"""Three small hospitals and a researcher, for tests of networks: the same people behind whichever network."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.ledger import open_ledger, verify
from smpc.transport.roster import Identity
from synthema.agent.agent import Agent, Partner
from synthema.agent.service import remote_material_of
from synthema.networks.base import Patience, run_job
from synthema.networks.in_process import InsecureLocalHub
from synthema.signing import Signer
from synthema.site import Site, SitePolicy
from synthema.site_run import read_bundle
from synthema.study import Study
from synthema.submission import Submission, open_result

DEALER = "trust-office"
SITES = ("vienna", "madrid", "milan")
SCHEMA = {
    "columns": {
        "sex": {"categories": ["F", "M"]},
        "grade": {"categories": ["low", "mid", "high"]},
        "age": {"kind": "integer", "bounds": [0, 100], "edges": [20, 40, 60, 80]},
    }
}
# Shorter than any test may take, longer than a busy machine makes a healthy site wait.
PATIENCE = Patience(gather=8.0, round=4.0)


def small_study(name: str = "pilot", *, epsilon: float = 5.0, sites: tuple[str, ...] = SITES, **sections: Any) -> Study:
    """A study of all marginals of three columns."""
    return Study.from_dict(
        {
            "study": {"name": name, "purpose": "a test of networks", "schema": SCHEMA},
            "budget": {"epsilon": epsilon, "delta": 1e-6},
            "sites": {site: {} for site in sites},
            "synthesis": {"rows": 50},
            **sections,
        }
    )


def small_frames(n: int = 60, sites: tuple[str, ...] = SITES) -> dict[str, pd.DataFrame]:
    """Each hospital's table: simulated, fixed."""
    frames = {}
    for i, site in enumerate(sites):
        random = np.random.default_rng(i)
        frames[site] = pd.DataFrame(
            {
                "sex": random.choice(["F", "M"], n + i),
                "grade": random.choice(["low", "mid", "high"], n + i, p=[0.5, 0.3, 0.2]),
                "age": random.integers(0, 101, n + i),
            }
        )
    return frames


@dataclass
class Researcher:
    """Who hands in studies and reads results."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    box: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    @property
    def public_key(self) -> str:
        return Signer(self.key).public_key

    def submission(self, study: Study) -> Submission:
        document = study.signed(Signer(self.key))
        return Submission.new(document, self.box.public_key().public_bytes_raw(), Identity(0, self.key))

    def read(self, sealed: bytes, lead: bytes) -> dict[str, Any]:
        return read_bundle(open_result(sealed, self.box, lead))


class Automatic:
    """An operator who lets everything pass that the policy allows, and remembers what happened."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.says = "accepted"

    def ask(self, *_of_the_job: Any) -> Any:
        return self.says

    def refusal(self, _job_id: str) -> tuple[str, str]:
        return "operator", "the site's operator refused the study"

    def note(self, _job_id: str, state: str) -> None:
        self.states.append(state)


class LocalFederation:
    """Agents in this process. `folder` holds the ledgers, which outlive the agents."""

    def __init__(
        self,
        folder: Path,
        *,
        patience: Patience = PATIENCE,
        hub: InsecureLocalHub | None = None,
        sites: tuple[str, ...] = SITES,
    ) -> None:
        self.folder, self.sites = folder, sites
        self.researcher = Researcher()
        self.keys = {site: Identity(0, Ed25519PrivateKey.generate()) for site in sites}
        self.frames = small_frames(sites=sites)
        self.policies: dict[str, dict[str, Any]] = {site: {} for site in sites}
        self.operators = {site: Automatic() for site in sites}
        self.patience = patience
        self.network = hub or InsecureLocalHub()
        self.agents: dict[str, Agent] = {}

    def begin(self) -> None:
        dealer = Identity(0, Ed25519PrivateKey.generate())
        self.network.add_dealer(DEALER, dealer, {site: key.public for site, key in self.keys.items()})
        self.dealer = dealer.public
        for site in self.sites:
            self.add(site)

    def add(self, site: str) -> None:
        desk = self.network.desk(site)
        partners = {name: Partner(key.public) for name, key in self.keys.items() if name != site}
        partners[DEALER] = Partner(self.dealer)
        self.agents[site] = Agent(
            site,
            identity=self.keys[site],
            partners=partners,
            open_site=lambda _asking: self.open_site(site),
            control=desk,
            courier=desk,
            connect=self.network.connect,
            post=desk.ask,
            approval=self.operators[site],
            material=remote_material_of,
            patience=self.patience,
        )
        self.network.add(self.agents[site])

    def open_site(self, site: str) -> Site:
        terms = {"epsilon_cap": 20.0, "delta_cap": 1e-5, "approximate_delta": 1e-9} | self.policies[site]
        return Site(
            site,
            self.frames[site],
            Study.from_document(small_study().document()).data_schema,
            ledger=open_ledger(f"sqlite:///{self.folder / site}.db", site=site),
            policy=SitePolicy(partners=frozenset(self.sites), **terms),
            secret=b"s" * 32,
        )

    def run(self, study: Study, *, offer_within: float = 10.0, within: float = 30.0) -> dict[str, Any]:
        sealed = run_job(self.network, self.researcher.submission(study), offer_within=offer_within, within=within)
        return self.researcher.read(sealed, self.keys[study.compute_parties[0]].public)

    def spent(self) -> dict[str, float]:
        """What each ledger says was spent, read from its file; each must verify."""
        for agent in self.agents.values():
            agent.wait_until_idle(within=10.0)
        found = {}
        for site in self.sites:
            path = self.folder / f"{site}.db"
            if not path.exists():
                found[site] = 0.0
                continue
            assert verify(f"sqlite:///{path}").ok
            with open_ledger(f"sqlite:///{path}", site=site) as ledger:
                found[site] = ledger.remaining("private").rho_spent
        return found

    def close(self) -> None:
        self.network.close()
        assert not [thread.name for thread in threading.enumerate() if thread.name.endswith("-jobs")]
