"""The three hospitals behind a hub, with doors for orders: a carrier that knows where the doors are."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from network_members import SITES
from relay_members import RelayFederation

from synthema.agent.config import SiteConfig
from synthema.networks.base import run_job
from synthema.networks.ordered import Enough, OrderedNetwork
from synthema.networks.site_socket import ask
from synthema.researcher import load_result_key, read_result
from synthema.study import Study


class Doors:
    """Carries orders to sockets of this machine, a thread for each."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths
        self.carried: list[bytes] = []

    def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
        answers: dict[str, bytes] = {}
        changed = threading.Condition()

        def carry(site: str) -> None:
            with contextlib.suppress(OSError):
                answer = ask(str(self.paths[site]), orders[site], within=within)
                with changed:
                    answers[site] = answer
                    changed.notify_all()

        for site in orders:
            threading.Thread(target=carry, args=(site,), daemon=True).start()
        deadline, seen = time.monotonic() + within, 0
        with changed:
            while len(answers) < len(orders) and (left := deadline - time.monotonic()) > 0:
                if len(answers) > seen and (more := enough(answers)) is not None:
                    deadline = min(deadline, time.monotonic() + more)
                seen = len(answers)
                changed.wait(min(left, 0.1))
            self.carried += answers.values()
            return dict(answers)


class DoorFederation(RelayFederation):
    """Offers, decisions, runs and results go by orders; the hub is what the rounds and letters go over."""

    def __init__(self, folder: Path, *, sockets: Path | None = None, **options: Any) -> None:
        # A socket's path is short.
        self.sockets = sockets or Path(tempfile.mkdtemp(prefix="doors-"))
        self.keeps_sockets = sockets is not None
        super().__init__(folder, **options)

    def begin(self) -> None:
        super().begin()
        self.network = self.make_network()

    def make_network(self) -> Any:
        return OrderedNetwork(Doors({site: self.socket(site) for site in SITES}))

    def socket(self, site: str) -> Path:
        return self.sockets / site

    def _write_policy(self, site: str) -> None:
        super()._write_policy(site)
        file = self.place(site) / "site.toml"
        text = file.read_text(encoding="utf-8")
        if "[flower]" not in text:
            file.write_text(f'{text}\n[flower]\nsocket = "{self.socket(site)}"\n', encoding="utf-8")

    def run(self, study: Study, *, offer_within: float = 10.0, within: float = 30.0) -> dict[str, Any]:
        for site in SITES:
            self._write_policy(site)
            self.services[site].config = self.config(site)
        submission = self.desk.submission(study)
        sealed = self.hand_in(submission, offer_within=offer_within, within=within)
        lead = bytes.fromhex(self.researcher_config().partners[study.compute_parties[0]].identity)
        return read_result(sealed, load_result_key(self.researcher_config()), lead, job_id=submission.job_id)

    def hand_in(self, submission: Any, *, offer_within: float, within: float) -> bytes:
        return run_job(self.network, submission, offer_within=offer_within, within=within)

    def researcher_config(self) -> Any:
        return type(self.researcher).load(self.folder / "researcher")

    def config(self, site: str) -> SiteConfig:
        return SiteConfig.load(self.place(site))

    def close(self) -> None:
        super().close()
        if not self.keeps_sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)
