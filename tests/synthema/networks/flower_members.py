"""A real SuperLink and SuperNodes on this machine, with TLS and node authentication, and the three hospitals behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from door_members import DoorFederation
from network_members import SITES

from synthema.demo import demo_frames, demo_study
from synthema.flower.bundle import QUIET
from synthema.flower.client import SOCKET_VARIABLE
from synthema.flower.submitting import hand_in
from synthema.hub.authority import new_authority
from synthema.local_federation import LocalFederation, make_federation
from synthema.study import Study

PROGRAMS = Path(sys.executable).parent
READY_SECONDS = 60.0
# A SuperNode that has nothing to do looks every three seconds, and each message starts a process.
OFFER_SECONDS, RUN_SECONDS = 90.0, 120.0


class FlowerNet:
    """A SuperLink and a SuperNode for each site. Its processes know where the site's socket is, and nothing more."""

    def __init__(self, folder: Path, sites: tuple[str, ...] = SITES) -> None:
        self.folder, self.sites = folder, sites
        # Sockets have short paths.
        self.sockets = Path(tempfile.mkdtemp(prefix="doors-"))
        self.port = _free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.node_ids: dict[str, str] = {}
        self.home = folder / "flwr"
        self.home.mkdir(parents=True)
        new_authority(folder, name="superlink", host="127.0.0.1")

    def begin(self) -> None:
        self._start(
            "superlink",
            "flower-superlink",
            "--ssl-ca-certfile",
            str(self.folder / "ca.crt"),
            "--ssl-certfile",
            str(self.folder / "hub.crt"),
            "--ssl-keyfile",
            str(self.folder / "hub.key"),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        )
        self._wait_for("superlink", lambda: _listens(self.port))
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self.folder / "ca.crt"}"\n',
            encoding="utf-8",
        )
        for site in self.sites:
            self._register(site)
            self.start_node(site)
        for site in self.sites:
            self.wait_for_node(site)

    def wait_for_node(self, site: str) -> None:
        """Wait until a SuperNode that was started last is known to the SuperLink."""
        self._wait_for(site, lambda: "SuperNode ID" in self.log(site).rpartition("Starting Flower SuperNode")[2])

    @staticmethod
    def program(name: str) -> Path:
        return PROGRAMS / name

    @contextmanager
    def environ(self) -> Iterator[None]:
        """What Flower's command line reads, in this process's environment."""
        before = dict(os.environ)
        os.environ.update(self.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _register(self, site: str) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        (self.folder / f"{site}.key").write_bytes(private)
        (self.folder / f"{site}.key").chmod(0o600)
        public = self.folder / f"{site}.pub"
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        found = self._flwr("supernode", "register", str(public), "here", "--name", site)
        self.node_ids[site] = str(json.loads(found)["node-id"])

    def _flwr(self, *arguments: str) -> str:
        command = [PROGRAMS / "flwr", *arguments, "--format", "json"]
        done = subprocess.run(command, env=self.environment(), check=True, capture_output=True, text=True, timeout=120)
        return done.stdout

    def replace_node(self, site: str) -> None:
        """Start a SuperNode anew, under a new key: its SuperLink takes a killed one for alive for a minute."""
        self._flwr("supernode", "unregister", self.node_ids[site], "here")
        self._register(site)
        self.start_node(site)
        self.wait_for_node(site)

    def start_node(self, site: str) -> None:
        self._start(
            site,
            "flower-supernode",
            "--superlink",
            f"127.0.0.1:{self.port}",
            "--root-certificates",
            str(self.folder / "ca.crt"),
            "--auth-supernode-private-key",
            str(self.folder / f"{site}.key"),
            "--host",
            "127.0.0.1",
            "--port",
            str(_free_port()),
            **{SOCKET_VARIABLE: str(self.sockets / site), "FLWR_HOME": str(self.folder / f"{site}-flwr")},
        )

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{PROGRAMS}:{os.environ.get('PATH', '')}"
        quick = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}
        return {**os.environ, **QUIET, **quick, "PATH": path, "FLWR_HOME": str(self.home), **more}

    def log(self, member: str) -> str:
        return (self.folder / f"{member}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self, site: str) -> None:
        """End a SuperNode as a power cut would."""
        process = self.processes.pop(site)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def close(self) -> None:
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _start(self, member: str, program: str, *arguments: str, **environment: str) -> None:
        with (self.folder / f"{member}.log").open("ab") as log:
            self.processes[member] = subprocess.Popen(
                [PROGRAMS / program, *arguments],
                env=self.environment(**environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _wait_for(self, member: str, condition: Any) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            assert self.processes[member].poll() is None, self.log(member)[-2000:]
            assert time.monotonic() < deadline, self.log(member)[-2000:]
            time.sleep(0.1)


class FlowerFederation(DoorFederation):
    """Agents and hub in threads of this process; orders come by a Flower network that outlives them."""

    def __init__(self, folder: Path, net: FlowerNet, **options: Any) -> None:
        super().__init__(folder, sockets=net.sockets, **options)
        self.net = net
        self.flower_log: list[str] = []

    def hand_in(self, submission: Any, *, offer_within: float, within: float) -> bytes:
        with self.net.environ():
            return hand_in(
                submission,
                superlink="here",
                decide_seconds=max(offer_within, OFFER_SECONDS),
                run_seconds=max(within, RUN_SECONDS),
                program=str(PROGRAMS / "flwr"),
                progress=self.flower_log.append,
            )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


JOB = """\
[study]
name = "{name}"
purpose = "Survival after diagnosis of acute myeloid leukaemia, by age, sex, white cell count and deprivation"
schema = "schema.toml"
neighbours = "add_remove_one"

[budget]
epsilon = 1.0
delta = 1e-6

[federation]
dealer = "trust-office"

[sites.vienna]
[sites.madrid]
[sites.milan]

"""
MST = '[synthesis]\nrows = 1000\nmechanism = "mst"\n'


def write_job(folder: Path, name: str, asked: str) -> Path:
    """Write a study of the packaged leukaemia patients, under the names of three hospitals."""
    demo_study().data_schema.save(folder / "schema.toml")
    job = folder / f"{name}.toml"
    job.write_text(JOB.format(name=name) + asked, encoding="utf-8")
    return job


def make_leukaemia_federation(folder: Path, net: FlowerNet) -> LocalFederation:
    """Hub, agents and dealer, each to be run as a process of its own, with the agents' doors where the net asks."""
    frames = dict(zip(SITES, demo_frames().values(), strict=False))
    folder.mkdir(parents=True)
    study = Study.load(write_job(folder, "first", MST))
    # Exact releases ask the operator, unless they are listed.
    listed = ("marginals", "kaplan-meier", "logistic")
    made = make_federation(
        folder / "members", study, frames, policy="allow_exact = true\n", automatic=listed, studies=20
    )
    for site in SITES:
        file = made.site(site) / "site.toml"
        text = file.read_text(encoding="utf-8").replace("delta_cap = 1e-06", "delta_cap = 1e-4")
        file.write_text(f'{text}\n[flower]\nsocket = "{net.sockets / site}"\n', encoding="utf-8")
    return made
