"""Parties with keys and certificates made on the fly, their rosters, and lines of each kind between them, for tests."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from smpc.transport import (
    DirectTransport,
    Identity,
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


@dataclass(frozen=True)
class Keys:
    """One party's files."""

    name: str
    identity: Path
    certificate: Path
    tls_key: Path


def make_keys(folder, name):
    keys = Keys(name, folder / f"{name}-identity.key", folder / f"{name}.crt", folder / f"{name}-tls.key")
    new_identity_file(keys.identity)
    new_certificate_files(name, keys.certificate, keys.tls_key)
    return keys


class Network:
    """Some parties and a relay. Each test may change the roster or the files before connecting."""

    def __init__(self, keys, relay_keys):
        self.keys, self.relay_keys = keys, relay_keys
        self.identities = [Identity.load(i, each.identity) for i, each in enumerate(keys)]
        self.roster = Roster(
            tuple(
                Member(each.name, identity.public, certificate_fingerprint(each.certificate), "127.0.0.1", 0)
                for each, identity in zip(keys, self.identities, strict=True)
            )
        )

    def tls(self, party, *trusted):
        own = self.keys[party]
        return TlsFiles(own.certificate, own.tls_key, trusted or tuple(each.certificate for each in self.keys))

    def listening(self, n):
        """Return a roster of the first n, with free ports, and sockets that listen there; the last one only calls."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n - 1)]
        members = [replace(self.roster[i], port=sock.getsockname()[1]) for i, sock in enumerate(sockets)]
        return Roster((*members, self.roster[n - 1])), [*sockets, None]

    def start_relay(self, **options):
        keys = self.relay_keys
        tls = TlsFiles(keys.certificate, keys.tls_key, tuple(each.certificate for each in self.keys))
        seats = {certificate_fingerprint(each.certificate): frozenset({i}) for i, each in enumerate(self.keys)}
        return RunningRelay(Relay(socket.create_server(("127.0.0.1", 0)), tls=tls, seats=seats, **options), self)

    def connect(self, kind, n, *, relay=None, run="test", within=10.0, **options):
        """Return one transport for each of the first n parties, connected."""
        return together(self.connectors(kind, n, relay, run, within, options))

    def connectors(self, kind, n, relay, run, within, options):
        if kind == "relay":
            return [lambda i=i: relay.join(i, n, run=run, within=within, **options) for i in range(n)]
        roster, sockets = self.listening(n)
        common = {"run": run, "within": within, **options}
        if kind == "plain":
            return [
                lambda i=i: InsecurePlainTransport.connect(roster, self.identities[i], listener=sockets[i], **common)
                for i in range(n)
            ]
        return [
            lambda i=i: DirectTransport.connect(
                roster, self.identities[i], tls=self.tls(i), listener=sockets[i], **common
            )
            for i in range(n)
        ]


class RunningRelay:
    """A relay in a thread."""

    def __init__(self, relay, network):
        self.relay, self.network = relay, network
        self.address = relay.address
        self.thread = threading.Thread(target=relay.serve, daemon=True)
        self.thread.start()

    def join(self, party, n, *, run="test", within=10.0, address=None, roster=None, **options):
        network = self.network
        return RelayTransport.connect(
            roster or Roster(network.roster.members[:n]),
            network.identities[party],
            run=run,
            relay=address or self.address,
            relay_fingerprint=certificate_fingerprint(network.relay_keys.certificate),
            tls=network.tls(party, network.relay_keys.certificate),
            within=within,
            **options,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.relay.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


def together(calls):
    """Call all functions at the same time, each in its thread; return what they return. Raises the first error."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(30) for future in [pool.submit(call) for call in calls]]


def outcomes(calls):
    """Return for each function what it returned or raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.exception(60) or future.result() for future in futures]
