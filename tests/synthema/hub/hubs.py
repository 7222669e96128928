"""Real hubs on loopback, members with their lines, and callers that break the rules, for tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smpc.transport import Identity
from smpc.transport.relay_wire import RELAY, RecordReader, record
from smpc.transport.streams import StreamEnded, StreamViolated, TlsStream
from synthema.enrolling import enrol
from synthema.hub.hub import HubFolder
from synthema.hub.server import HubLimits
from synthema.messages import HUB, Submit
from synthema.networks.line import Line, LineLimits
from synthema.signing import Signer
from synthema.submission import Submission

QUICK = HubLimits(heartbeat_seconds=0.2, drop_seconds=1.5, drain_seconds=1.0, greeting_seconds=1.0, queue_bytes=1 << 18)
IMPATIENT = LineLimits(first_pause_seconds=0.02, longest_pause_seconds=0.1, connect_seconds=5.0)


def wait_for(condition, within=10.0):
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.005)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def new_folder(path):
    return HubFolder.create(path, name="test-hub", listen=f"127.0.0.1:{free_port()}")


class RunningHub:
    """A hub in a thread."""

    def __init__(self, files, limits=QUICK):
        self.files = files
        self.hub = files.open(limits=limits)
        self.thread = threading.Thread(target=self.hub.serve, daemon=True)
        self.thread.start()

    @property
    def server(self):
        return self.hub.server

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.hub.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


class HubProcess:
    """A hub in a process of its own, to be killed."""

    def __init__(self, files):
        self.files = files
        self.start()

    def start(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "synthema", "hub", "serve", "--config", str(self.files.folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.said = self.process.stdout.readline()
        assert "listening" in self.said

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
            self.process.stdout.close()


class Peer:
    """A member with its line; keeps what came."""

    def __init__(self, enrolled, *, handled=0, limits=IMPATIENT, on_message=None):
        self.enrolled, self.name = enrolled, enrolled.name
        self.received, self.states = [], []
        self.line = Line(
            enrolled.hub,
            enrolled.files,
            on_message=on_message or self.received.append,
            on_change=self.states.append,
            handled=handled,
            limits=limits,
        )

    def up(self, within=10.0):
        self.line.start()
        self.line.wait_until_up(within)
        return self

    def sees(self, *names):
        wait_for(lambda: all(n in self.line.members and self.line.members[n].is_connected for n in names))
        return self

    def heads(self, kind):
        return [each.head for each in list(self.received) if each.head.kind == kind]

    def mails(self):
        return [each for each in list(self.received) if each.head.kind == "mail"]


def join(files, path, name, role="site"):
    """Enrol a member at a hub that serves."""
    return enrol(files.invite(name, role).text(), name, path / name)


@contextlib.contextmanager
def peers(*enrolled, **options):
    made = [Peer(each, **options).up() for each in enrolled]
    for each in made:
        each.sees(*(other.name for other in made if other.enrolled.role != "researcher"))
    try:
        yield made
    finally:
        for each in made:
            each.line.close()


class Caller:
    """Somebody with a TLS connection who sends what he likes. `files`: a member's, or None for no certificate."""

    def __init__(self, hub, files=None):
        import ssl

        if files is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            context = files.tls().context(server_side=False)
        sock = socket.create_connection((hub.host, hub.port))
        self.stream = TlsStream(sock, context, server_side=False)
        while not self.stream.handshake():
            time.sleep(0.002)
        self.reader = RecordReader()

    def say(self, body, address=RELAY):
        self.raw(record(address, body))

    def raw(self, data):
        view = memoryview(data)
        while view:
            sent = self.stream.send(view)
            view = view[sent:]
            if not sent:
                time.sleep(0.002)

    def hear(self, within=5.0):
        """Return address and body of the next record, or None if the hub closed the connection."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            taken = self.reader.take()
            if taken is not None:
                return taken[0], bytes(taken[1])
            try:
                self.reader.fill(self.stream)
            except (StreamEnded, StreamViolated):
                self.close()
                return None
            time.sleep(0.002)
        raise AssertionError("the hub neither answered nor closed")

    def last_word(self, within=5.0):
        """Return the last record before the hub closed the connection."""
        last = None
        while (heard := self.hear(within)) is not None:
            last = heard
        return last

    def close(self):
        self.stream.close()


KEY = Ed25519PrivateKey.generate()


def study(text):
    """Return a signed study of this text, as it is submitted."""
    return Submission.new(Signer(KEY).sign(text.encode()), bytes(32), Identity(0, KEY)).encode()


def submission(document, sites, parties=None, dealer=None, **changes):
    signed = Submission.decode(document).document
    fields = {
        "job": signed.document_id,
        "public_key": signed.public_key,
        "signature": signed.signature.hex(),
        "sites": tuple(sites),
        "parties": tuple(sites[:3] if parties is None else parties),
        "dealer": dealer,
        "decide_seconds": 60.0,
        "run_seconds": 60.0,
    }
    return Submit(**{**fields, **changes})


__all__ = ["HUB", "IMPATIENT", "QUICK", "Caller", "HubProcess", "Peer", "RunningHub", "join", "peers", "replace"]
