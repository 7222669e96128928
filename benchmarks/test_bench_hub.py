"""The hub in a process of its own, members in theirs: rounds of 8 kB, 8 MB in bulk, and how soon all is ready.

Run: pytest benchmarks/test_bench_hub.py --benchmark-enable

The floors: the same bytes through one plain TCP connection to another process and back. Through the hub they pass two
TLS connections and a third process, and on the relay are sealed from party to party as well.
Figures asked for: a relay round of 8 kB among three parties, median <= 1 ms and 99th percentile <= 10 ms; bulk >= 100
MB/s; hub and three lines ready in <= 3 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from smpc import PeerUnavailable
from smpc.transport import Frame, Identity, Member, RelayTransport, Roster
from synthema.enrolling import enrol
from synthema.hub.hub import HubFolder
from synthema.hub.jobs import decided, submitted
from synthema.messages import Decision, Mail, Submit
from synthema.networks.line import HubAddress, Line, MemberFiles

SHORT, LONG = 8_000, 8_000_000
NAMES = ("a", "b", "c")
JOBS = {"short": ("1" * 64, NAMES), "long": ("2" * 64, NAMES[:2])}


def spawn(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, **options)


def serve_hub(files):
    process = spawn("-m", "synthema", "hub", "serve", "--config", files.folder, stdout=subprocess.PIPE, text=True)
    assert "listening" in process.stdout.readline()
    return process


def end(process):
    process.terminate()
    process.wait(20)
    if process.stdout:
        process.stdout.close()


def member(folder, name):
    address = json.loads((folder / "address.json").read_text())
    files = MemberFiles(*(folder / name / each for each in ("identity.key", "tls.key", "member.crt", "hub-ca.crt")))
    return HubAddress(address["host"], address["port"], bytes.fromhex(address["fingerprint"])), files


def run_of(store, job, names):
    """Keep a job in which these members are the compute parties, as if all had accepted it."""
    head = Submit(
        job=job,
        public_key="0" * 64,
        signature="0" * 128,
        sites=names,
        parties=names,
        decide_seconds=1e6,
        run_seconds=1e6,
    )
    state, _ = submitted(head, researcher="r", roles=dict.fromkeys(NAMES, "site"), before=None, now=time.time())
    for name in names:
        state, _ = decided(state, name, Decision(job=job, attempt=1, decision="accepted"), now=time.time())
    with store.transaction():
        store.add_job(state, researcher=3, document=b"", now=time.time())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A hub with three sites and a researcher, and jobs that run."""
    folder = tmp_path_factory.mktemp("hub")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    files = HubFolder.create(folder / "hub", name="bench", listen=f"127.0.0.1:{port}")
    address = {"host": "127.0.0.1", "port": port, "fingerprint": files.fingerprint.hex()}
    (folder / "address.json").write_text(json.dumps(address))
    process = serve_hub(files)
    for name in (*NAMES, "r"):
        role = "site" if name in NAMES else "researcher"
        enrol(files.invite(name, role).text(), name, folder / name)
    end(process)
    store = files.store()
    for job, names in JOBS.values():
        run_of(store, job, names)
    store.close()
    return folder, files


@pytest.fixture
def hub(place):
    folder, files = place
    process = serve_hub(files)
    yield folder
    end(process)


def seat(folder, name, what):
    job, names = JOBS[what]
    address, files = member(folder, name)
    keys = [Identity.load(i, folder / each / "identity.key") for i, each in enumerate(names)]
    return RelayTransport.connect(
        Roster(tuple(Member(each, key.public) for each, key in zip(names, keys, strict=True))),
        keys[names.index(name)],
        run=f"{job}/1/mpc",
        relay=(address.host, address.port),
        relay_fingerprint=address.fingerprint,
        tls=files.tls(),
    )


def exchange(transport, words, to):
    frame = Frame(transport.session_id, b"exchange", 0, transport.party, words)
    try:
        transport.exchange(dict.fromkeys(to, frame), frozenset(to), within=60).send(None)
    except StopIteration as done:
        return {sender: each.payload for sender, each in done.value.items()}
    raise RuntimeError("a network line suspended")


def play_party(folder, name, what, n_bytes):
    transport = seat(folder, name, what)
    others = set(range(transport.n_parties)) - {transport.party}
    with contextlib.suppress(PeerUnavailable):
        while True:
            exchange(transport, np.zeros(n_bytes // 8, np.uint64), others)


def play_echo(folder, name):
    address, files = member(folder, name)
    line = Line(address, files, on_message=lambda got: got.head.kind == "mail" and back(got))

    def back(got):
        line.send(got.sender, got.head, got.payload)

    line.start()
    time.sleep(600)


def play_floor(port, there, back):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer, answer = bytearray(there), bytes(back)
        while receive(sock, buffer):
            sock.sendall(answer)


def receive(sock, buffer):
    view = memoryview(buffer)
    while view:
        n = sock.recv_into(view)
        if not n:
            return False
        view = view[n:]
    return True


@contextlib.contextmanager
def others(*jobs):
    """Run parts of this file in processes of their own."""
    started = [spawn(__file__, *job) for job in jobs]
    try:
        yield
    finally:
        for each in started:
            end(each)


@pytest.mark.parametrize(("size", "back"), [(SHORT, SHORT), (LONG, 32)], ids=["8 kB both ways", "8 MB one way"])
def test_floor(benchmark, size, back):
    benchmark.group = "8 kB round" if size == SHORT else "8 MB to one other, 32 bytes back"
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, others(["floor", listener.getsockname()[1], size, back]):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data, answer = bytes(size), bytearray(back)

        def once():
            sock.sendall(data)
            return receive(sock, answer)

        with sock:
            assert benchmark.pedantic(once, rounds=2000 if size == SHORT else 30, warmup_rounds=20)
    note(benchmark, size)


def note(benchmark, size):
    """Beside the statistics: the 99th percentile, and megabytes a second."""
    if benchmark.stats is None:
        return
    data = sorted(benchmark.stats.stats.data)
    benchmark.extra_info["p99_ms"] = round(1e3 * data[int(0.99 * len(data))], 3)
    benchmark.extra_info["MB/s"] = round(size / 1e6 / benchmark.stats.stats.median, 1)


def test_relay_round_of_three(benchmark, hub):
    benchmark.group = "8 kB round"
    with others(*(["party", hub, name, "short", SHORT] for name in NAMES[1:])):
        transport = seat(hub, "a", "short")
        words = np.zeros(SHORT // 8, np.uint64)
        got = benchmark.pedantic(exchange, args=(transport, words, {1, 2}), rounds=3000, warmup_rounds=200)
        assert {each.nbytes for each in got.values()} == {SHORT}
        transport.close()
    note(benchmark, SHORT)


def test_relay_bulk(benchmark, hub):
    benchmark.group = "8 MB to one other, 32 bytes back"
    with others(["party", hub, "b", "long", 32]):
        transport = seat(hub, "a", "long")
        words = np.zeros(LONG // 8, np.uint64)
        got = benchmark.pedantic(exchange, args=(transport, words, {1}), rounds=30, warmup_rounds=3)
        assert got[1].nbytes == 32
        transport.close()
    note(benchmark, LONG)


@pytest.mark.parametrize("size", [SHORT, LONG], ids=["8 kB", "8 MB"])
def test_mail_there_and_back(benchmark, hub, size):
    benchmark.group = "mail between two members' lines, there and back"
    answers = queue.SimpleQueue()
    address, files = member(hub, "a")
    line = Line(address, files, on_message=lambda got: got.head.kind == "mail" and answers.put(got.payload))
    with others(["echo", hub, "b"]):
        line.start()
        line.wait_until_up(20)
        while "b" not in line.members or not line.members["b"].is_connected:
            time.sleep(0.01)
        head, payload = Mail(job="0" * 64, attempt=1, what="bench", number=0), bytes(size)

        def once():
            line.send("b", head, payload)
            return answers.get(timeout=60)

        got = benchmark.pedantic(once, rounds=1000 if size == SHORT else 20, warmup_rounds=10)
        assert len(got) == size
        line.close()
    note(benchmark, 2 * size)


def test_ready(benchmark, place):
    """From the start of the hub's process until three lines are up and each sees the others."""
    benchmark.group = "hub and three lines ready"
    folder, files = place
    running = []

    def once():
        process = serve_hub(files)
        lines = []
        for name in NAMES:
            address, keys = member(folder, name)
            lines.append(Line(address, keys, on_message=lambda _got: None))
            lines[-1].start()
        while not all(sum(each.is_connected for each in line.members.values()) == len(NAMES) for line in lines):
            time.sleep(0.005)
        running.append((process, lines))

    try:
        benchmark.pedantic(once, rounds=3, teardown=lambda: stop(running))
    finally:
        # A benchmark that is only checked is not torn down.
        stop(running)


def stop(running):
    while running:
        process, lines = running.pop()
        for line in lines:
            line.close()
        end(process)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "party":
        play_party(Path(rest[0]), rest[1], rest[2], int(rest[3]))
    elif role == "echo":
        play_echo(Path(rest[0]), rest[1])
    else:
        play_floor(*map(int, rest))
