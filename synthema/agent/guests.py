"""Guests: small sites without a server of their own, whose tables a partner site holds for them.

    [[guests]]
    name = "graz"                        # the name under which studies ask it
    schema = "guests/graz/schema.toml"
    ledger = "guests/graz/ledger.db"     # its own budget; the host's is not touched
    anchor = "/other/disk/graz.anchor"   # optional
    secret = "guests/graz/site.secret"
    policy = "guests/graz/policy.toml"   # its own rules: a TOML file with [policy]
    consent = "guests/graz/consent.txt"  # what the guest has signed: that the host sees its rows
    data = { kind = "csv", path = "guests/graz/table.csv" }

The host's agent considers, pays and contributes for each guest as for itself, from tables, policies and ledgers of
their own: a refusal of one is its own refusal, with its own name on it. What a guest gives up is said in its consent,
without which its table is not opened: the host sees its rows, and speaks for it.

To everybody else a host and its guests are one: a sum of theirs hides nothing from the host. So exact releases count
hosts (`SitePolicy.hosts`), and no guest is a compute party. Partners learn who is whose guest from the host's card.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privacy._secret_files import read_secret
from synthema.errors import PolicyError, StudyError
from synthema.governance.policy_file import read_policy
from synthema.policy import SitePolicy

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Schema
    from privacy.ledger import Ledger, Signer, WitnessPolicy
    from synthema.intake.data import SiteData
    from synthema.site import Site

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_FEWEST_CONSENT = 40


class GuestSection(BaseModel):
    """One `[[guests]]` of a host's TOML; files are looked for beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=_NAME)
    schema_file: str = Field(alias="schema", min_length=1)
    ledger: str = Field(min_length=1)
    anchor: str | None = None
    secret: str = Field(min_length=1)
    policy: str = Field(min_length=1)
    consent: str = Field(min_length=1)
    data: Annotated[dict[str, Any], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest whose files were read and whose consent is there.

    consent        the guest's text
    consent_hash   its SHA-256: what the guest's ledger is told when it is opened
    data           where the table is, in the words of the host's own `[data]`
    """

    name: str
    schema_path: Path
    ledger_path: Path
    anchor: Path | None
    secret_path: Path
    policy: SitePolicy
    consent: str
    consent_hash: str
    data: Mapping[str, Any]

    @property
    def ledger_url(self) -> str:
        """The ledger's address."""
        return f"sqlite:///{self.ledger_path}"

    @property
    def note(self) -> str:
        """What the guest's ledger says of the arrangement, once: `note_consent`."""
        return f"held by a partner site with the guest's consent, sha256 {self.consent_hash}"


def read_guests(
    sections: Sequence[Mapping[str, Any]],
    *,
    host: str,
    folder: Path,
    partners: frozenset[str],
    hosts: Mapping[str, str] | None = None,
) -> tuple[Guest, ...]:
    """Return the guests of a host.

    Parameters
    ----------
    sections
        The parsed `[[guests]]`.
    host
        The host's own name.
    partners
        The sites that the host works with: its guests work with them, with each other, and with the host.
    hosts
        Guests of other sites.

    Raises
    ------
    StudyError, PolicyError
        Naming the guest and what is wrong with its section, files, policy or consent.
    """
    try:
        parsed = [GuestSection(**section) for section in sections]
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise StudyError(f"[[guests]]: {'; '.join(problems)}") from None
    names = [section.name for section in parsed]
    for name in names:
        if name == host or name in partners or names.count(name) > 1:
            raise StudyError(f"[[guests]]: {name!r} is taken: a guest has a name of its own")
    for what in ("ledger", "secret", "policy", "consent"):
        files = [str((folder / getattr(section, what)).resolve()) for section in parsed]
        if len(set(files)) < len(files):
            raise StudyError(f"[[guests]]: two guests share one {what}; each has its own")
    everybody = partners | {host, *names}
    houses = {**(hosts or {}), **dict.fromkeys(names, host)}
    return tuple(_guest(section, folder, everybody - {section.name}, houses) for section in parsed)


def note_consent(ledger: Ledger, guest: Guest) -> None:
    """Write into a guest's ledger, once, that a partner site holds the table, and on what consent."""
    if not any(entry.kind == "note" and entry.body["text"] == guest.note for entry in ledger.entries()):
        ledger.note(guest.note)


def open_guest(
    guest: Guest,
    read: Callable[[Mapping[str, Any], Schema], pd.DataFrame | SiteData],
    *,
    clock: Callable[[], datetime] | None = None,
    signer: Signer | None = None,
    witnesses: WitnessPolicy | None = None,
) -> Site:
    """Return a guest as a site of its own: its rows, its ledger, its policy, its secret.

    Parameters
    ----------
    read
        Reads a table from where a `data` section says, as the host reads its own.
    signer, witnesses
        As `privacy.ledger.open_ledger` takes them.

    Raises
    ------
    SchemaError, TableError, LedgerError, ValueError
        As opening any site does.
    """
    from privacy import Schema as SchemaReader
    from privacy.ledger import open_ledger
    from synthema.site import SECRET_BYTES, Site

    schema = SchemaReader.load(guest.schema_path)
    secret = bytes.fromhex(read_secret(guest.secret_path, most_bytes=4 * SECRET_BYTES).decode("ascii").strip())
    ledger = open_ledger(guest.ledger_url, site=guest.name, signer=signer, anchor=guest.anchor, witnesses=witnesses)
    try:
        note_consent(ledger, guest)
        return Site(
            guest.name,
            read(guest.data, schema),
            schema,
            ledger=ledger,
            policy=guest.policy,
            secret=secret,
            clock=clock,
        )
    except BaseException:
        ledger.close()
        raise


def _guest(section: GuestSection, folder: Path, partners: frozenset[str], hosts: Mapping[str, str]) -> Guest:
    consent = _text(section.name, "consent", folder / section.consent)
    if len(consent.strip()) < _FEWEST_CONSENT:
        raise StudyError(
            f"guest {section.name!r}: its consent says nothing: who agreed, when, and that the host sees its rows"
        )
    try:
        policy = tomllib.loads(_text(section.name, "policy", folder / section.policy))["policy"]
    except (tomllib.TOMLDecodeError, KeyError):
        raise PolicyError(f"guest {section.name!r}: its policy file is no TOML with a [policy]") from None
    try:
        rules = read_policy(policy, partners=partners, hosts=hosts)
    except PolicyError as error:
        raise PolicyError(f"guest {section.name!r}: {error}") from None
    return Guest(
        name=section.name,
        schema_path=folder / section.schema_file,
        ledger_path=(folder / section.ledger).absolute(),
        anchor=None if section.anchor is None else folder / section.anchor,
        secret_path=folder / section.secret,
        policy=rules,
        consent=consent,
        consent_hash=hashlib.sha256(consent.encode()).hexdigest(),
        data=section.data,
    )


def _text(name: str, what: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"guest {name!r}: its {what} {path.name} cannot be read ({type(error).__name__}); give UTF-8 text"
        ) from None
