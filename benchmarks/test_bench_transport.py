"""A round of short frames, and 8 MB each way, between two processes: each kind of line beside what bounds it.

Run: pytest benchmarks/test_bench_transport.py --benchmark-enable

The floors: bytes through a socket pair to another process and back; AES-256-GCM of what one party sends and receives,
in pieces of a TLS record; the same through the TLS library without a socket.
Through the relay a third process decrypts and encrypts everything once more.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smpc import PeerUnavailable
from smpc.transport import (
    HEADER_BYTES,
    DirectTransport,
    Frame,
    Identity,
    InProcessTransport,
    InsecurePlainTransport,
    Member,
    Relay,
    RelayTransport,
    Roster,
    TlsFiles,
    certificate_fingerprint,
    new_certificate_files,
    new_identity_file,
)

SHORT_WORDS = 4
LONG_WORDS = 1_000_000
KINDS = ["plain", "tls", "relay"]
NAMES = ["a", "b"]


def files(folder, name):
    return folder / f"{name}.key", folder / f"{name}.crt", folder / f"{name}-tls.key"


def connect(kind, party, folder, port):
    identities = [Identity.load(i, files(folder, name)[0]) for i, name in enumerate(NAMES)]
    members = [
        Member(name, each.public, certificate_fingerprint(files(folder, name)[1]), "127.0.0.1", port)
        for name, each in zip(NAMES, identities, strict=True)
    ]
    roster, me = Roster(tuple(members)), identities[party]
    _, certificate, tls_key = files(folder, NAMES[party])
    if kind == "plain":
        return InsecurePlainTransport.connect(roster, me, run="bench")
    if kind == "tls":
        trusted = tuple(files(folder, name)[1] for name in NAMES)
        return DirectTransport.connect(roster, me, run="bench", tls=TlsFiles(certificate, tls_key, trusted))
    relay = files(folder, "relay")[1]
    return RelayTransport.connect(
        roster,
        me,
        run="bench",
        relay=("127.0.0.1", port),
        relay_fingerprint=certificate_fingerprint(relay),
        tls=TlsFiles(certificate, tls_key, (relay,)),
    )


def one_round(transport, words):
    """One exchange with the only peer. A network line never suspends, so no event loop is needed."""
    peer = 1 - transport.party
    outgoing = {peer: Frame(transport.session_id, b"exchange", 0, transport.party, words)}
    try:
        transport.exchange(outgoing, frozenset({peer}), within=30).send(None)
    except StopIteration as done:
        return done.value[peer].payload
    raise RuntimeError("a network line suspended")


def serve_peer(kind, folder, port, n_words):
    transport = connect(kind, 1, folder, port)
    words = np.arange(n_words, dtype=np.uint64)
    try:
        while True:
            one_round(transport, words)
    except PeerUnavailable:
        pass


def serve_relay(folder, port):
    _, certificate, tls_key = files(folder, "relay")
    parties = [files(folder, name)[1] for name in NAMES]
    seats = {certificate_fingerprint(path): frozenset({i}) for i, path in enumerate(parties)}
    listener = socket.create_server(("127.0.0.1", port))
    Relay(listener, tls=TlsFiles(certificate, tls_key, tuple(parties)), seats=seats).serve()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("keys")
    for name in [*NAMES, "relay"]:
        identity, certificate, tls_key = files(place, name)
        new_identity_file(identity)
        new_certificate_files(name, certificate, tls_key)
    return place


@pytest.fixture
def line(request, folder):
    """This party's end of a line to another process, and the words that are sent."""
    kind, n_words = request.param
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    jobs = [["peer", kind, str(folder), str(port), str(n_words)]]
    if kind == "relay":
        jobs.append(["relay", str(folder), str(port)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = [subprocess.Popen([sys.executable, __file__, *job], env=environment) for job in jobs]
    transport = connect(kind, 0, folder, port)
    yield transport, np.arange(n_words, dtype=np.uint64)
    transport.close()
    started[0].wait(10)
    if kind == "relay":
        started[1].terminate()
        started[1].wait(10)


@pytest.mark.parametrize("line", [(kind, SHORT_WORDS) for kind in KINDS], indirect=True, ids=KINDS)
def test_short_round(benchmark, line):
    benchmark.group = "a round of 32-byte payloads, both ways, two processes"
    received = benchmark.pedantic(one_round, args=line, rounds=3000, warmup_rounds=200)
    assert received.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("line", [(kind, LONG_WORDS) for kind in KINDS], indirect=True, ids=KINDS)
def test_long_round(benchmark, line):
    benchmark.group = "8 MB each way, two processes"
    received = benchmark.pedantic(one_round, args=line, rounds=30, warmup_rounds=3)
    assert received.size == LONG_WORDS
    assert received[-1] == LONG_WORDS - 1


@pytest.mark.parametrize("n_words", [SHORT_WORDS, LONG_WORDS])
def test_in_process(benchmark, n_words):
    import asyncio

    short = n_words == SHORT_WORDS
    benchmark.group = (
        "a round of 32-byte payloads, both ways, two processes" if short else "8 MB each way, two processes"
    )
    words = np.arange(n_words, dtype=np.uint64)

    async def rounds(n):
        ends = InProcessTransport.connect(2)

        async def play(party):
            for _ in range(n):
                frame = Frame(bytes(16), b"exchange", 0, party, words)
                got = await ends[party].exchange({1 - party: frame}, frozenset({1 - party}), within=30)
            return got

        return (await asyncio.gather(play(0), play(1)))[0][1].payload

    with asyncio.Runner() as runner:
        received = benchmark.pedantic(lambda: runner.run(rounds(1)), rounds=300, warmup_rounds=20)
    assert received[-1] == n_words - 1


@pytest.fixture
def echo():
    """A socket to a process that sends back what it gets."""
    here, there = socket.socketpair()
    code = "import socket\ns = socket.socket(fileno=0)\nwhile data := s.recv(65536):\n    s.sendall(data)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=there)
    there.close()
    yield here
    here.close()
    child.wait(10)


def test_floor_of_a_short_round(benchmark, echo):
    benchmark.group = "a round of 32-byte payloads, both ways, two processes"
    message = bytes(HEADER_BYTES + 8 * SHORT_WORDS)

    def there_and_back():
        echo.sendall(message)
        return echo.recv(1000)

    assert len(benchmark.pedantic(there_and_back, rounds=3000, warmup_rounds=200)) == len(message)


def test_floor_of_a_long_round(benchmark):
    benchmark.group = "8 MB each way, two processes"
    aead, piece, nonce = AESGCM(bytes(32)), os.urandom(1 << 14), bytes(12)
    sealed = aead.encrypt(nonce, piece, None)

    def seal_and_open():
        for _ in range(8 * LONG_WORDS // len(piece)):
            aead.encrypt(nonce, piece, None)
            opened = aead.decrypt(nonce, sealed, None)
        return opened

    assert benchmark.pedantic(seal_and_open, rounds=30, warmup_rounds=3) == piece


def test_floor_of_a_long_round_in_tls(benchmark, folder):
    """What the TLS library itself takes for it: the same bytes written and read through memory, no socket."""
    benchmark.group = "8 MB each way, two processes"
    _, certificate, tls_key = files(folder, "a")
    tls = TlsFiles(certificate, tls_key, (certificate,))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.context(server_side=False).wrap_bio(to_client, to_server)
    server = tls.context(server_side=True).wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    turn, data = 1 << 18, memoryview(bytes(8 * LONG_WORDS))
    into = memoryview(bytearray(len(data)))

    def write_and_read():
        done = 0
        for start in range(0, len(data), turn):
            sent = client.write(data[start : start + turn])
            end = done + sent
            while done < end:
                done += server.read(end - done, into[done:end])
        return done

    assert benchmark.pedantic(write_and_read, rounds=30, warmup_rounds=3) == len(data)


if __name__ == "__main__":
    if sys.argv[1] == "peer":
        serve_peer(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        serve_relay(Path(sys.argv[2]), int(sys.argv[3]))
