"""A dealer in a process of its own, for two parties in the process that starts it: TLS on loopback.

python _online_dealer.py FOLDER        keys and members.json are in the folder; serves run after run until it is ended
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from smpc.dealer_wire import DealerLimits
from smpc.online_dealer import serve_run
from smpc.transport import (
    DirectTransport,
    Identity,
    Member,
    NetworkTransport,
    Roster,
    TlsFiles,
    new_certificate_files,
    new_identity_file,
)

N_PARTIES = 2
NAMES = ("dealer", "party")


def connect(folder: Path, end: int, i: int, run: int) -> NetworkTransport:
    entries = json.loads((folder / "members.json").read_text())
    members = tuple(
        Member(
            name, bytes.fromhex(entry["identity"]), bytes.fromhex(entry["fingerprint"]), "127.0.0.1", entry["port"] + i
        )
        for name, entry in zip(NAMES, entries, strict=True)
    )
    me = NAMES[end]
    tls = TlsFiles(folder / f"{me}.crt", folder / f"{me}.key", tuple(folder / f"{name}.crt" for name in NAMES))
    identity = Identity.load(end, folder / f"{me}.id")
    return DirectTransport.connect(Roster(members), identity, run=f"{run}/deal/{i}", tls=tls)


class DealerProcess:
    """The dealer, started; `lines` connects both parties for another run. Ended when left."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name)
        self._run = 0
        # Two ports side by side, one for each party's line.
        while True:
            with socket.create_server(("127.0.0.1", 0)) as first:
                port = first.getsockname()[1]
                try:
                    socket.create_server(("127.0.0.1", port + 1)).close()
                    break
                except OSError:
                    continue
        entries = []
        for name in NAMES:
            fingerprint = new_certificate_files(name, self._path / f"{name}.crt", self._path / f"{name}.key")
            identity = new_identity_file(self._path / f"{name}.id")
            entries.append({"identity": identity.hex(), "fingerprint": fingerprint.hex(), "port": port})
        (self._path / "members.json").write_text(json.dumps(entries))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._path)], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def lines(self) -> list[NetworkTransport]:
        self._run += 1
        with ThreadPoolExecutor(N_PARTIES) as pool:
            return list(pool.map(lambda i: connect(self._path, 1, i, self._run), range(N_PARTIES)))


def serve(folder: Path) -> None:
    run = 0
    limits = DealerLimits(run_bytes=1 << 40)
    while True:
        run += 1
        with ThreadPoolExecutor(N_PARTIES) as pool:
            lines = list(pool.map(lambda i, run=run: connect(folder, 0, i, run), range(N_PARTIES)))
        serve_run(lines, n_parties=N_PARTIES, limits=limits)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
