"""A hub from a folder: its configuration, made once and read at every start, and the process that serves.

hub.toml             name, where it listens, what invitations say, limits
ca.crt, ca.key       the issuer of all certificates; the key is secret
hub.crt, hub.key     what it shows; members pin hub.crt by its fingerprint
hub.sqlite           members, invitations, jobs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import secrets
import socket
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smpc.transport.certificates import TlsFiles, certificate_fingerprint
from synthema.enrolling import Invitation
from synthema.hub.authority import Authority, new_authority
from synthema.hub.desk import DeskRules, HubDesk
from synthema.hub.server import HubLimits, HubServer
from synthema.hub.store import HubStore
from synthema.messages import Name, Role

_BACKLOG = 1024
# What the process opens beside connections.
_OWN_FILES = 64


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HubLimitsSection(_Section):
    """`[limits]`. Everything has a default."""

    max_connections: Annotated[int, Field(ge=1, le=60_000)] = 4096
    heartbeat_seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    drop_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    drain_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    greeting_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    queue_megabytes: Annotated[int, Field(ge=1, le=1024)] = 4
    document_megabytes: Annotated[int, Field(ge=1, le=60)] = 4
    open_jobs: Annotated[int, Field(ge=1, le=10_000)] = 100


class HubConfig(_Section):
    """`hub.toml`.

    name               of the hub, for people
    listen             host:port of the socket
    public             host:port that members connect to; what invitations say
    certificate_days   of members
    invitation_days    until an invitation expires
    """

    name: Name
    listen: str
    public: str
    certificate_days: Annotated[int, Field(ge=1, le=825)] = 397
    invitation_days: Annotated[float, Field(gt=0, le=90)] = 7.0
    limits: HubLimitsSection = HubLimitsSection()


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of "host:port" ("[::1]:7443" for IPv6). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) >= 2**16:
        raise ValueError(f"an address is host:port, such as hub.example:7443, got {text!r}")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A hub's files."""

    folder: Path
    config: HubConfig

    @classmethod
    def create(cls, folder: Path, *, name: str, listen: str, public: str | None = None) -> HubFolder:
        """Make a hub: issuer, certificate, configuration, store.

        Raises
        ------
        FileExistsError
            Nothing is overwritten.
        ValueError
            If a name or address is none.
        """
        public = public or listen
        config = _checked({"name": name, "listen": listen, "public": public})
        address_of(listen)
        host, _ = address_of(public)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "hub.toml"
        if file.exists():
            raise FileExistsError(file)
        new_authority(folder, name=name, host=host)
        HubStore(folder / "hub.sqlite").close()
        file.write_text(
            f'# What members connect to is "public"; it stands in every invitation.\n'
            f'name = "{name}"\nlisten = "{listen}"\npublic = "{public}"\n'
            f"certificate_days = {config.certificate_days}\ninvitation_days = {config.invitation_days}\n",
            encoding="utf-8",
        )
        return cls(folder, config)

    @classmethod
    def load(cls, file: Path) -> HubFolder:
        """Read `hub.toml`, or the one of a folder.

        Raises
        ------
        ValueError
            If it is no configuration; names the field.
        """
        file = file / "hub.toml" if file.is_dir() else file
        try:
            fields = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.name} is no TOML: {error}") from None
        config = _checked(fields)
        address_of(config.listen)
        address_of(config.public)
        return cls(file.parent, config)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the hub's certificate (DER): what members pin."""
        return certificate_fingerprint(self.folder / "hub.crt")

    def store(self) -> HubStore:
        """Open the store."""
        return HubStore(self.folder / "hub.sqlite")

    def invite(self, name: str, role: Role) -> Invitation:
        """Return a new invitation. What is kept of its secret is a hash."""
        host, port = address_of(self.config.public)
        secret = secrets.token_bytes(32)
        fields: dict[str, Any] = {"name": name, "role": role, "host": host, "port": port}
        try:
            invitation = Invitation(**fields, fingerprint=self.fingerprint.hex(), secret=secret.hex())
        except ValidationError:
            raise ValueError(
                f"a name has small letters, digits, - and _ (63 at most) and a role is site, dealer or researcher, "
                f"got {name!r}, {role!r}"
            ) from None
        with contextlib.closing(self.store()) as store:
            seconds = 86400.0 * self.config.invitation_days
            store.invite(secret, name=name, role=role, now=time.time(), seconds=seconds)
        return invitation

    def open(self, *, listener: socket.socket | None = None, limits: HubLimits | None = None) -> Hub:
        """Return the hub, listening, not serving yet.

        Raises
        ------
        ValueError
            If another process serves this folder.
        """
        return Hub(self, listener=listener, limits=limits)

    def limits(self) -> HubLimits:
        """Return the server's limits."""
        section = self.config.limits
        return HubLimits(
            max_connections=section.max_connections,
            heartbeat_seconds=section.heartbeat_seconds,
            drop_seconds=section.drop_seconds,
            drain_seconds=section.drain_seconds,
            greeting_seconds=section.greeting_seconds,
            queue_bytes=section.queue_megabytes << 20,
        )


class Hub:
    """A hub that serves one folder, alone."""

    def __init__(
        self, files: HubFolder, *, listener: socket.socket | None = None, limits: HubLimits | None = None
    ) -> None:
        folder, config = files.folder, files.config
        with contextlib.ExitStack() as undo:
            self._lock = os.open(folder / "hub.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, self._lock)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError("another process serves this hub's folder") from None
            authority = Authority(folder / "ca.crt", folder / "ca.key")
            store = files.store()
            undo.callback(store.close)
            section = config.limits
            rules = DeskRules(config.certificate_days, section.document_megabytes << 20, section.open_jobs)
            self._desk = HubDesk(store, authority, hub_fingerprint=files.fingerprint, rules=rules)
            if listener is None:
                host, port = address_of(config.listen)
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
                undo.callback(listener.close)
            tls = TlsFiles(folder / "hub.crt", folder / "hub.key", (folder / "ca.crt",))
            limits = limits or allow_files(files.limits())
            self._server = HubServer(listener, tls=tls, desk=self._desk, limits=limits)
            undo.pop_all()

    @property
    def server(self) -> HubServer:
        """Its connections."""
        return self._server

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._server.address

    def stop(self) -> None:
        """End `serve` soon; from any thread."""
        self._server.stop()

    def serve(self) -> None:
        """Serve until `stop` is called.

        Raises
        ------
        BaseException
            What the desk failed with: without its file a hub ends, and says so.
        """
        self._desk.start(self._server)
        try:
            self._server.serve()
        finally:
            self._desk.stop()
            os.close(self._lock)
        if self._desk.failure is not None:
            raise self._desk.failure


def allow_files(limits: HubLimits) -> HubLimits:
    """Raise this process's number of open files to what the connections need; return limits that it can keep."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + _OWN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    # Out of files, a listening socket would be ready for ever: better to refuse a connection than to spin.
    return replace(limits, max_connections=min(limits.max_connections, wanted - _OWN_FILES))


def _checked(fields: dict[str, Any]) -> HubConfig:
    try:
        return HubConfig.model_validate(fields)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ValueError(f"hub.toml: {what}") from None
