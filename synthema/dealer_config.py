"""The file of a dealer that serves while runs go on (`synthema dealer serve`). Checked once, before anything is served.

name = "trust-graz"                     as the hub knows this member
operator = "Trust Office Graz"          the legal entity that runs the dealer
researchers = ["6f1c..."]               public keys whose studies are served, hex; left out: the sites' choice
most_runs = 4                           at a time
connect_seconds = 600                   until the parties of a run are there: they read their tables first

[hub]
address = "hub.example:7443"
fingerprint = "..."                     SHA-256 of its certificate, hex
operator = "Hub Vienna"                 the legal entity that runs it

[keys]                                  files beside this one, made at enrolment
identity = "keys/identity.key"
tls_key = "keys/tls.key"
tls_certificate = "keys/member.crt"
hub_certificate = "keys/hub-ca.crt"

[partners.vienna]                       sites that may be compute parties
identity = "..."                        Ed25519 public key, hex
operator = "AKH Wien"

[limits]                                of one run: fields of `smpc.dealer_wire.DealerLimits`
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from smpc.dealer_wire import DealerLimits
from smpc.dealing import check_separate
from synthema.errors import StudyError
from synthema.member_config import Hex32, HubSection, MemberKeys, Name, Section

_Operator = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\w")]


class DealerHub(HubSection):
    """Where the hub is, how it is known, and who runs it."""

    operator: _Operator


class DealerPartner(Section):
    """A site that may be a compute party."""

    identity: Hex32
    operator: _Operator


class DealerService(Section):
    """What the file says. `folder` is where it lies."""

    name: Name
    operator: _Operator
    researchers: tuple[Hex32, ...] | None = None
    hub: DealerHub
    keys: MemberKeys = MemberKeys()
    partners: dict[Name, DealerPartner] = Field(min_length=2)
    limits: dict[str, Any] = Field(default_factory=dict)
    most_runs: int = Field(default=4, ge=1, le=64)
    connect_seconds: float = Field(default=600.0, gt=0, le=3600)
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
