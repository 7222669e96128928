"""Parties with stores on disk, for tests: in this process, and as processes that are killed.

python material_parties.py take FOLDER POINT NUMBER   takes all items of the store's first kind, saying each one, and
                                                      kills itself with signal 9 at the NUMBERth visit of POINT
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from smpc.dealing import deal
from smpc.store import install_package, open_store
from smpc.transport import InProcessTransport

TIMEOUT = 5.0


def dealt(amounts, n_parties, folder):
    """Deal a batch and make a store of each package; return the stores' folders."""
    packages = folder / "packages"
    packages.mkdir()
    batch = deal(amounts, n_parties, packages)
    stores = [folder / f"store-{party}" for party in range(n_parties)]
    for package, store in zip(batch.files, stores, strict=True):
        install_package(package, store)
    return stores


def play(protocol, folders, *, close=True, anchors=None):
    """Run a protocol at parties that take their material from folders; return results or errors, party by party."""
    from privacy.randomness import SecureRng
    from smpc.session import Session

    n_parties = len(folders)
    session_id = os.urandom(16)
    stores = []

    async def run():
        transports = InProcessTransport.connect(n_parties)

        async def one(party):
            session = Session(
                party=party,
                n_parties=n_parties,
                transport=transports[party],
                material=stores[party],
                session_id=session_id,
                timeout=TIMEOUT,
                rng=SecureRng(),
            )
            try:
                return await protocol(session)
            finally:
                transports[party].close()

        return await asyncio.gather(*(one(party) for party in range(n_parties)), return_exceptions=True)

    try:
        for party, folder in enumerate(folders):
            stores.append(open_store(folder, anchor=None if anchors is None else anchors[party]))
        return asyncio.run(run())
    finally:
        for store in stores:
            if close:
                store.close()
            else:
                crash(store)


def crash(store):
    """Leave a store as a killed process does: nothing is written, the system closes the files."""
    store._closed = True
    for descriptor in store._descriptors:
        os.close(descriptor)


def snapshot(folder):
    """Copy a store as a backup does; return a function that puts the copy back."""
    copy = folder.with_name(folder.name + "-backup")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)

    def restore():
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)

    return restore


def die_at(point, number):
    """Make this process kill itself at a system call of the record: before it, within it (half written), or after."""
    visits = 0

    def due():
        nonlocal visits
        visits += 1
        return visits == number

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    name, _, when = point.partition("-")
    original = getattr(os, name)

    def call(*arguments):
        if not due():
            return original(*arguments)
        if when == "within":
            descriptor, data, start = arguments
            original(descriptor, data[: len(data) // 2], start)
        elif when == "after":
            original(*arguments)
        return die()

    setattr(os, name, call)


def take(folder, point, number):
    store = open_store(folder)
    if point != "none":
        die_at(point, number)
    kind = store.manifest.kinds[0]
    store.new_statement()
    store.reserve_from(store.marks, {1 - store.manifest.party: (1, bytes(16))}, {})
    store.begin()
    while store.left[kind]:
        start = store._used[kind]
        store.take(kind, 1)
        # What was handed out may have been opened: the parent checks that it is never handed out again.
        os.write(1, f"{start}\n".encode())
    os.write(1, b"end\n")


if __name__ == "__main__":
    take(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
