"""The site's one file, `site.toml`: who it is, where the hub is, whom it knows, and where its data are.

Files that it names are looked for beside it. What a partner is known by is a section that the partner's own agent
prints (`synthema site card`) and this site's operator checks and adds (`synthema site trust`):

    [partners.madrid]
    identity = "6f1c..."       Ed25519 public key, hex: signs what madrid sends
    ledger = "..."             origin of the checkpoints of its ledger, which this site witnesses
    ledger_key = "..."         key that signs them
    witness_key = "..."        key with which it countersigns this site's checkpoints
    operator = "..."           legal entity that runs it: compared by `synthema doctor`
    role = "dealer"            of a dealer; left out for a site
    host = "vienna"            the site that holds its table, if it is that site's guest

A guest's own file says `host = "vienna"`, too; its host's says who its guests are (`synthema site guest add`):

    [[guests]]
    name = "graz"
    folder = "guests/graz"
    consent = "guests/graz/consent.txt"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from synthema.agent.agent import Partner
from synthema.errors import StudyError
from synthema.member_config import Hex32, HubSection, MemberKeys, Name, Section
from synthema.networks.base import Patience

SITE_FILE = "site.toml"


class KeySection(MemberKeys):
    """A site's keys, beside those of every member."""

    ledger: str = "keys/ledger.key"
    witness: str = "keys/witness.key"
    secret: str = "keys/site.secret"  # noqa: S105 - the name of a file


class LedgerSection(Section):
    """Where the budget is kept: a file here, or a PostgreSQL database."""

    url: str = "sqlite:///ledger.db"
    anchor: str | None = None


class WitnessSection(Section):
    """How many partners have to countersign before a spend starts, and how many entries may wait for them."""

    needed: int = Field(default=1, ge=0)
    window: int = Field(default=0, ge=0)


class PartnerSection(Section):
    """What another member is known by: see the module."""

    identity: Hex32
    ledger: str = ""
    ledger_key: str = ""
    witness_key: str = ""
    operator: str = Field(default="", max_length=200)
    role: Literal["", "dealer"] = ""
    host: str = Field(default="", max_length=63)

    def partner(self) -> Partner:
        """Return the partner as the agent takes it."""
        return Partner(bytes.fromhex(self.identity), self.ledger, self.ledger_key, self.witness_key)


class GuestSection(Section):
    """One `[[guests]]`: a small site whose folder this site holds (`synthema.agent.guests`).

    folder    the guest's own: its `site.toml`, keys, ledger and table
    consent   what the guest has signed: that this site sees its rows
    """

    name: Name
    folder: str = Field(min_length=1)
    consent: str = Field(min_length=1)


class SiteHub(HubSection):
    """Where the hub is, how it is known, and who runs it."""

    operator: str = Field(default="", max_length=200)


class FlowerSection(Section):
    """The agent's door for the SuperNode of this machine (`synthema.agent.door`).

    socket   the file of the socket, made when the agent starts
    group    whose members may ask beside the agent's user; empty: nobody
    """

    socket: str = Field(default="flower.sock", min_length=1)
    group: str = ""


class PatienceSection(Section):
    """How long the site waits for others, in seconds: `synthema.networks.base.Patience`."""

    gather: float = Field(default=120.0, gt=0, le=86_400)
    round: float = Field(default=60.0, gt=0, le=3_600)
    away: float = Field(default=30.0, gt=0, le=3_600)
    compute: float = Field(default=3_600.0, gt=0, le=604_800)

    def patience(self) -> Patience:
        """Return it as the network takes it."""
        return Patience(self.gather, self.round, self.away, self.compute)


class SiteConfig(Section):
    """See the module. `folder` is where the file lies."""

    version: int = Field(default=1, ge=1, le=1)
    name: Name
    schema_file: str = Field(default="schema.toml", alias="schema")
    operator: str = Field(default="", max_length=200)
    # The partner that holds this site's table, if it is a guest.
    host: Name | None = None
    hub: SiteHub | None = None
    keys: KeySection = KeySection()
    ledger: LedgerSection = LedgerSection()
    witnesses: WitnessSection = WitnessSection()
    patience: PatienceSection = PatienceSection()
    flower: FlowerSection | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    # Or the name of a ready policy.
    policy: dict[str, Any] | str = Field(default_factory=dict)
    guests: list[GuestSection] = Field(default_factory=list)
    catalogue: dict[str, Any] = Field(default_factory=dict)
    partners: dict[Name, PartnerSection] = Field(default_factory=dict)
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in self.partners:
            raise ValueError(f"[partners] lists this site itself ({self.name})")
        for name, partner in self.partners.items():
            if partner.host and (partner.host == name or partner.host not in {self.name, *self.partners}):
                raise ValueError(f"partners.{name}: its host {partner.host!r} is no other site that is listed")
        keys = [partner.identity for partner in self.partners.values()]
        if len(set(keys)) < len(keys):
            raise ValueError("[partners] lists one identity under two names")
        self._check_guests()
        return self

    def _check_guests(self) -> None:
        if self.host == self.name:
            raise ValueError("host names this site itself")
        if self.host is not None and self.guests:
            raise ValueError(f"this site is a guest of {self.host!r}, and a guest holds nobody's table")
        names = [guest.name for guest in self.guests]
        for name in names:
            partner = self.partners.get(name)
            if name == self.name or names.count(name) > 1 or (partner is not None and partner.host != self.name):
                raise ValueError(f"[[guests]]: {name!r} is taken: a guest has a name of its own")

    @classmethod
    def load(cls, path: str | Path) -> SiteConfig:
        """Read the file.

        Raises
        ------
        StudyError
            Naming every entry that is missing, unknown or wrong.
        """
        path = Path(path)
        path = path / SITE_FILE if path.is_dir() else path
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise StudyError(f"{path.name}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(
                f"{path.name} cannot be read ({type(error).__name__}): make it with `synthema site init`"
            ) from None
        try:
            return cls(**data, folder=path.absolute().parent)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc'])) or path.name}: {item['msg']}" for item in error.errors())
            raise StudyError(f"{path.name}: {'; '.join(problems)}") from None

    @property
    def hosts(self) -> dict[str, str]:
        """Sites whose table another site holds for them, this one among them if it is a guest: guest -> host."""
        own = {} if self.host is None else {self.name: self.host}
        return own | {name: partner.host for name, partner in self.partners.items() if partner.host}

    @property
    def witness_names(self) -> tuple[str, ...]:
        """Partners that countersign this site's ledger.

        A guest is none, and a host none of its guest's: what brings the one ledger back from a backup brings the other
        back with it.
        """
        pinned = ((name, each) for name, each in self.partners.items() if each.witness_key and not each.host)
        return tuple(name for name, _ in pinned if name != self.host)

    def place(self, name: str) -> Path:
        """Return the path of a file that the configuration names."""
        return self.folder / name

    @property
    def ledger_url(self) -> str:
        """The ledger's address, with a file's path made absolute."""
        prefix = "sqlite:///"
        if self.ledger.url.startswith(prefix) and not self.ledger.url.startswith(prefix + "/"):
            return f"{prefix}{(self.folder / self.ledger.url.removeprefix(prefix)).absolute()}"
        return self.ledger.url
