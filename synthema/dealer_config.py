"""The file of a dealer that serves while runs go on (`synthema dealer serve`). Checked once, before anything is served.

name = "trust-graz"                     as the hub knows this member
operator = "Trust Office Graz"          the legal entity that runs the dealer
researchers = ["6f1c..."]               public keys whose studies are served, hex; left out: the sites' choice

[hub]
address = "hub.example:7443"
fingerprint = "..."                     SHA-256 of its certificate, hex
operator = "Hub Vienna"                 the legal entity that runs it

[keys]                                  files beside this one, made at enrolment
identity = "keys/identity.key"
tls_key = "keys/tls.key"
tls_certificate = "keys/site.crt"
hub_certificate = "keys/hub.crt"

[partners.vienna]                       sites that may be compute parties
identity = "..."                        Ed25519 public key, hex
operator = "AKH Wien"

[limits]                                of one run: fields of `smpc.dealer_wire.DealerLimits`
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from smpc.dealer_wire import DealerLimits
from smpc.dealing import check_separate
from synthema.errors import StudyError

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_Name = Annotated[str, Field(pattern=_NAME)]
_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Operator = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\w")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DealerHub(_Section):
    """Where the hub is, how it is known, and who runs it."""

    address: str
    fingerprint: _Hex32
    operator: _Operator

    @field_validator("address")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError('must be written "host:port"')
        return value

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Host and port apart."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


class DealerKeys(_Section):
    """Files of keys and certificates. Secret ones have mode 0600."""

    identity: str = "keys/identity.key"
    tls_key: str = "keys/tls.key"
    tls_certificate: str = "keys/site.crt"
    hub_certificate: str = "keys/hub.crt"


class DealerPartner(_Section):
    """A site that may be a compute party."""

    identity: _Hex32
    operator: _Operator


class DealerService(_Section):
    """What the file says. `folder` is where it lies."""

    name: _Name
    operator: _Operator
    researchers: tuple[_Hex32, ...] | None = None
    hub: DealerHub
    keys: DealerKeys = DealerKeys()
    partners: dict[_Name, DealerPartner] = Field(min_length=2)
    limits: dict[str, Any] = {}
    most_runs: int = Field(default=4, ge=1, le=64)
    connect_seconds: float = Field(default=60.0, gt=0, le=3600)
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("researchers", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in self.partners:
            raise ValueError(f"[partners] lists this dealer itself ({self.name})")
        if len({partner.identity for partner in self.partners.values()}) < len(self.partners):
            raise ValueError("[partners] lists one identity under two names")
        self.run_limits()
        return self

    def run_limits(self) -> DealerLimits:
        """Return the limits of one run."""
        try:
            return DealerLimits(**self.limits)
        except TypeError:
            unknown = min(self.limits.keys() - set(DealerLimits.__slots__), default="")
            raise ValueError(f"[limits] has an entry that is not known, or no number: {unknown}") from None

    @classmethod
    def load(cls, path: Path) -> DealerService:
        """Read the file.

        Raises
        ------
        StudyError
            If an entry is missing, unknown, or wrong.
        DealerNotSeparate
            If the dealer's operator also runs the hub, which relays, or a site that may be a party.
        """
        try:
            config = cls(**tomllib.loads(path.read_text(encoding="utf-8")), folder=path.absolute().parent)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path.name} is no TOML file: {error}") from None
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc'])) or path.name}: {item['msg']}" for item in error.errors())
            raise StudyError(f"{path.name}: {'; '.join(problems)}") from None
        operators = [partner.operator for partner in config.partners.values()]
        check_separate(config.operator, relay=config.hub.operator, parties=operators)
        return config

    def place(self, name: str) -> Path:
        """Return the path of a file that the configuration names."""
        return self.folder / name
