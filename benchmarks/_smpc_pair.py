"""Two compute parties in processes of their own, that run the tasks of `_smpc_tasks` over loopback on command.

Each process holds a share of every input and, before a task is timed, its share of the material that the task needs,
expanded in memory: what is timed is the online phase, opening included. Both processes make the dealer's part
themselves from a fixed seed, which protects nobody: for benchmarks only.

Run as a script, this is one of the parties: it reads a command a line and answers each with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import _smpc_tasks as tasks

from privacy.randomness import InsecureSeededRng
from smpc import Dealer, Session
from smpc.prg import Prg
from smpc.transport import (
    DirectTransport,
    Identity,
    InsecurePlainTransport,
    Member,
    Roster,
    TlsFiles,
    new_certificate_files,
    new_identity_file,
)

KINDS = ("tls", "plain")
N_PARTIES = 2


class Pair:
    """Both parties, started and connected; ends them when left."""

    def __init__(self, kind: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        members = []
        for party in range(N_PARTIES):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            fingerprint = new_certificate_files(f"party{party}", folder / f"{party}.crt", folder / f"{party}.key")
            identity = new_identity_file(folder / f"{party}.id")
            members.append({"identity": identity.hex(), "fingerprint": fingerprint.hex(), "port": port})
        (folder / "members.json").write_text(json.dumps(members))
        # One thread each: there are as many parties as cores.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, str(party), str(folder), kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for party in range(N_PARTIES)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self._folder.cleanup()

    def ask(self, command: str) -> dict:
        """Send a command to both parties, and return the answer of party 0 when both are done."""
        for process in self._processes:
            process.stdin.write(command + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in self._processes]
        if not all(answers):
            raise RuntimeError("a party ended: see its error output")
        return json.loads(answers[0])


class _Party:
    def __init__(self, party: int, folder: Path, kind: str) -> None:
        members = json.loads((folder / "members.json").read_text())
        roster = Roster(
            tuple(
                Member(
                    f"party{i}",
                    bytes.fromhex(member["identity"]),
                    bytes.fromhex(member["fingerprint"]),
                    "127.0.0.1",
                    member["port"],
                )
                for i, member in enumerate(members)
            )
        )
        identity = Identity.load(party, folder / f"{party}.id")
        if kind == "tls":
            trusted = tuple(folder / f"{i}.crt" for i in range(N_PARTIES))
            files = TlsFiles(folder / f"{party}.crt", folder / f"{party}.key", trusted)
            self.transport = DirectTransport.connect(roster, identity, run="benchmark", tls=files)
        else:
            self.transport = InsecurePlainTransport.connect(roster, identity, run="benchmark")
        self._material = Dealer(N_PARTIES, rng=InsecureSeededRng(1)).store(party)
        self._session = Session(
            party=party,
            n_parties=N_PARTIES,
            transport=self.transport,
            material=self._material,
            session_id=self.transport.session_id,
            rng=Prg(bytes([party]) * 32, b"benchmark"),
        )
        self._inputs = tasks.shared_inputs(self._session, 2)
        self._needed: dict[str, dict] = {}

    def prepare(self, name: str) -> dict:
        if name not in self._needed:
            before = dict(self._session.usage.material)
            asyncio.run(tasks.TASKS[name](self._session, self._inputs))
            after = self._session.usage.material
            used = {kind: count - before.get(kind, 0) for kind, count in after.items()}
            self._needed[name] = {kind: count for kind, count in used.items() if count}
        self._material.prepare(self._needed[name])
        return {}

    def run(self, name: str) -> dict:
        usage = self._session.usage
        rounds, n_bytes = usage.rounds, usage.bytes_sent
        began, cpu = time.perf_counter(), time.process_time()
        asyncio.run(tasks.TASKS[name](self._session, self._inputs))
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "rounds": usage.rounds - rounds,
            "bytes_sent": usage.bytes_sent - n_bytes,
        }


def _main() -> None:
    party = _Party(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    for line in sys.stdin:
        what, _, name = line.strip().partition(" ")
        answer = party.prepare(name) if what == "prepare" else party.run(name)
        print(json.dumps(answer), flush=True)
    party.transport.finish()


if __name__ == "__main__":
    _main()
