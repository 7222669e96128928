"""The TOML files of a party and of a relay: what is in them, checked once, and what they lead to.

Files that a configuration names are looked for beside it. A roster is the same at all parties:

    [[roster]]                        in the order of the parties' numbers
    name = "hospital-a"
    identity = "6f1c..."              Ed25519 public key, 64 hexadecimal digits
    certificate = "hospital-a.crt"    or fingerprint = "..." (SHA-256 of the certificate, 64 hexadecimal digits)
    address = "10.0.0.1:7001"         for direct lines
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from smpc.material import MaterialStore
from smpc.party import NoMaterial
from smpc.store import open_store
from smpc.transport.certificates import TlsFiles, certificate_fingerprint
from smpc.transport.direct import DirectTransport
from smpc.transport.pump import DEFAULT_PAYLOAD_BYTES, NetworkTransport
from smpc.transport.relay import Relay, RelayLimits
from smpc.transport.relayed import RelayTransport
from smpc.transport.roster import Identity, Member, Roster

V = TypeVar("V")


class _Table:
    """A TOML table of which every entry must be asked for: what is misspelt is not passed over."""

    def __init__(self, entries: Any, name: str) -> None:
        if not isinstance(entries, dict):
            raise ValueError(f"{name} must be a table")
        self._left = dict(entries)
        self._name = name

    def get(self, key: str, kind: type[V], default: V | None = None) -> V:
        if key not in self._left:
            if default is None:
                raise ValueError(f"{self._name} needs {key}")
            return default
        value = self._left.pop(key)
        # A flag is no number, and seconds may be written without a point.
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{key} in {self._name} must be of type {kind.__name__}, got {type(value).__name__}")
        return value

    def has(self, key: str) -> bool:
        return key in self._left

    def end(self) -> None:
        if self._left:
            raise ValueError(f"{self._name} has an entry that is not known: {min(self._left)}")


def _read(path: Path) -> _Table:
    try:
        return _Table(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is no TOML file: {error}") from None


def _address(text: str, name: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise ValueError(f'{name} must be written "host:port", got {text!r}')
    return host.strip("[]"), int(port)


def _hex(text: str, name: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise ValueError(f"{name} must be 64 hexadecimal digits")
    return value


@dataclass(frozen=True, slots=True)
class PartyConfig:
    """One party's run.

    run            public name, the same at all parties
    party          this party's number
    roster         all parties
    identity_key   file of this party's secret key
    tls            its certificate, and those that it trusts
    relay          host and port, or None for direct lines
    relay_fingerprint  SHA-256 of the relay's certificate, empty for direct lines
    listen         host and port to listen on instead of the roster's, or None
    protocol       "module:function"
    material       folder of this party's store of correlated randomness, or None: enough for sums and openings
    anchor         file outside of the store's backups that finds a restored store, or None
    input_file, output_file
    connect_seconds, round_seconds
    max_payload_bytes
    """

    run: str
    party: int
    roster: Roster
    identity_key: Path
    tls: TlsFiles
    relay: tuple[str, int] | None
    relay_fingerprint: bytes
    listen: tuple[str, int] | None
    protocol: str
    material: Path | None
    anchor: Path | None
    input_file: Path
    output_file: Path
    connect_seconds: float
    round_seconds: float
    max_payload_bytes: int

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "round_seconds"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ValueError(f"{name} must be in (0, 86400], got {getattr(self, name)!r}")
        if not 0 <= self.party < len(self.roster):
            raise ValueError(f"party must be in 0..{len(self.roster) - 1}, got {self.party!r}")

    @classmethod
    def load(cls, path: Path) -> PartyConfig:
        """Read a party's file.

        Raises
        ------
        ValueError
            Naming the entry that is missing, unknown, or wrong.
        """
        table, folder = _read(path), path.absolute().parent
        keys = _Table(table.get("keys", dict), "[keys]")
        transport = _Table(table.get("transport", dict), "[transport]")
        material = _Table(table.get("material", dict, {}), "[material]")
        store, anchor = material.get("store", str, ""), material.get("anchor", str, "")
        if anchor and not store:
            raise ValueError("[material] has an anchor but no store")
        roster, certificates = _roster(table.get("roster", list), folder)
        trusted = tuple(folder / name for name in keys.get("trusted", list, []))
        kind = transport.get("kind", str)
        if kind not in {"direct", "relay"}:
            raise ValueError(f'kind in [transport] must be "direct" or "relay", got {kind!r}')
        relay, fingerprint = None, b""
        if kind == "relay":
            relay = _address(transport.get("relay", str), "relay in [transport]")
            certificate = folder / transport.get("relay_certificate", str)
            fingerprint = certificate_fingerprint(certificate)
            trusted = (*trusted, certificate)
        else:
            trusted = (*trusted, *certificates)
            for member in roster.members:
                if not member.host:
                    raise ValueError(f"direct lines need an address for {member.name!r} in [[roster]]")
        listen = transport.get("listen", str, "")
        config = cls(
            run=table.get("run", str),
            party=table.get("party", int),
            roster=roster,
            identity_key=folder / keys.get("identity", str),
            tls=TlsFiles(folder / keys.get("tls_certificate", str), folder / keys.get("tls_key", str), trusted),
            relay=relay,
            relay_fingerprint=fingerprint,
            listen=_address(listen, "listen in [transport]") if listen else None,
            protocol=table.get("protocol", str),
            material=folder / store if store else None,
            anchor=folder / anchor if anchor else None,
            input_file=folder / table.get("input", str),
            output_file=folder / table.get("output", str),
            connect_seconds=transport.get("connect_seconds", float, 300.0),
            round_seconds=transport.get("round_seconds", float, 60.0),
            max_payload_bytes=transport.get("max_payload_bytes", int, DEFAULT_PAYLOAD_BYTES),
        )
        for each in (keys, transport, material, table):
            each.end()
        return config

    def open_material(self) -> MaterialStore:
        """Return this party's store, locked for this process; errors as `open_store`."""
        if self.material is None:
            return NoMaterial()
        return open_store(self.material, party=self.party, n_parties=len(self.roster), anchor=self.anchor)

    def connect(self) -> NetworkTransport:
        """Connect with the other parties. Blocks; errors as `DirectTransport.connect` and `RelayTransport.connect`."""
        identity = Identity.load(self.party, self.identity_key)
        if self.relay is not None:
            return RelayTransport.connect(
                self.roster,
                identity,
                run=self.run,
                relay=self.relay,
                relay_fingerprint=self.relay_fingerprint,
                tls=self.tls,
                within=self.connect_seconds,
                max_payload_bytes=self.max_payload_bytes,
            )
        return DirectTransport.connect(
            self.roster,
            identity,
            run=self.run,
            tls=self.tls,
            listener=None if self.listen is None else socket.create_server(self.listen),
            within=self.connect_seconds,
            max_payload_bytes=self.max_payload_bytes,
        )


def _roster(entries: list[Any], folder: Path) -> tuple[Roster, tuple[Path, ...]]:
    members, certificates = [], []
    for number, entry in enumerate(entries):
        table = _Table(entry, f"[[roster]] number {number}")
        name = table.get("name", str)
        fingerprint = b""
        if table.has("certificate"):
            certificate = folder / table.get("certificate", str)
            fingerprint = certificate_fingerprint(certificate)
            certificates.append(certificate)
        elif table.has("fingerprint"):
            fingerprint = _hex(table.get("fingerprint", str), f"fingerprint of {name!r}")
        host, port = "", 0
        if table.has("address"):
            host, port = _address(table.get("address", str), f"address of {name!r}")
        identity = _hex(table.get("identity", str), f"identity of {name!r}")
        table.end()
        members.append(Member(name, identity, fingerprint, host, port))
    return Roster(tuple(members)), tuple(certificates)


def load_relay(path: Path) -> Relay:
    """Read a relay's file and listen.

        listen = "0.0.0.0:7443"
        [keys]                      tls_certificate, tls_key
        [[seats]]                   party (number), certificate (file); as many as there are
        [limits]                    fields of RelayLimits

    Raises
    ------
    ValueError
        Naming the entry that is missing, unknown, or wrong.
    OSError
        If the address cannot be listened on.
    """
    table, folder = _read(path), path.absolute().parent
    keys = _Table(table.get("keys", dict), "[keys]")
    seats: dict[bytes, frozenset[int]] = {}
    certificates = []
    for entry in table.get("seats", list):
        seat = _Table(entry, "[[seats]]")
        certificate = folder / seat.get("certificate", str)
        certificates.append(certificate)
        fingerprint = certificate_fingerprint(certificate)
        seats[fingerprint] = seats.get(fingerprint, frozenset()) | {seat.get("party", int)}
        seat.end()
    given: Mapping[str, Any] = table.get("limits", dict, {})
    unknown = given.keys() - set(RelayLimits.__slots__)
    if unknown:
        raise ValueError(f"[limits] has an entry that is not known: {min(unknown)}")
    limits = RelayLimits(**given)
    tls = TlsFiles(folder / keys.get("tls_certificate", str), folder / keys.get("tls_key", str), tuple(certificates))
    address = _address(table.get("listen", str), "listen")
    for each in (keys, table):
        each.end()
    return Relay(socket.create_server(address, backlog=64), tls=tls, seats=seats, limits=limits)


def read_integers(path: Path) -> npt.NDArray[np.int64]:
    """Return the integers of a CSV file without header, or of an .npy file. Nothing is unpickled.

    Returns
    -------
    One row or column gives shape (n,), else (rows, columns).

    Raises
    ------
    ValueError
        If it holds anything else. The message names no value.
    """
    try:
        if path.suffix == ".npy":
            values = _words(np.load(path, allow_pickle=False))
        else:
            rows = [line.split(",") for line in path.read_text(encoding="ascii").split("\n") if line.strip()]
            values = _words(np.array([[int(cell) for cell in row] for row in rows], dtype=np.int64))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{path.name} must hold integers of 64 bits in rows of equal length, without a header"
        ) from None
    return values.reshape(-1) if values.ndim == 1 or 1 in values.shape else values


def _words(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if (
        values.dtype.kind not in "iu"
        or values.ndim not in {1, 2}
        or not values.size
        or (values > np.iinfo(np.int64).max).any()
    ):
        raise ValueError
    return np.asarray(values, dtype=np.int64)


def write_result(path: Path, result: Any) -> None:
    """Write an array of numbers as CSV, or as .npy if the name ends so, beside and then in place of what was there.

    Raises
    ------
    ValueError
        If the protocol returned anything else.
    """
    values = np.asarray(result)
    if values.dtype.kind not in "iufb" or values.ndim > 2:
        raise ValueError("a protocol that is run as a process returns one array of numbers with at most two axes")
    part = path.with_name(path.name + ".part")
    if path.suffix == ".npy":
        with part.open("wb") as file:
            np.save(file, values, allow_pickle=False)
    else:
        rows = np.atleast_1d(values)
        lines = [",".join(map(str, np.atleast_1d(row).tolist())) for row in rows]
        part.write_text("\n".join(lines) + "\n", encoding="ascii")
    part.replace(path)
