"""What an operator should know about a site before they trust it: files, keys, certificates, clock, partners, data.

The configuration is read as plain TOML, so that one wrong entry does not hide what else is wrong. Nothing is written,
nothing is sent but, if asked, one greeting to the hub; no sentence holds a key, a value of a patient, or a number of
patients. The ledger has its own doctor (`privacy.ledger.doctor`), whose findings stand among these.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from synthema.errors import SynthemaError

Level = Literal["ok", "warn", "fail"]

_SOON = timedelta(days=30)
_NO_ROOM_BYTES, _LITTLE_ROOM_BYTES = 64_000_000, 1_000_000_000
_HUB_SECONDS = 5.0
# The software is not older than this: a clock before it is wrong.
_NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
# Where a site's files are if its TOML does not say: secret ones first.
_SECRET_KEYS: Final = {
    "identity": "keys/identity.key",
    "tls_key": "keys/tls.key",
    "ledger": "keys/ledger.key",
    "witness": "keys/witness.key",
    "secret": "keys/site.secret",
}
_CERTIFICATES: Final = {"tls_certificate": "keys/member.crt", "hub_certificate": "keys/hub-ca.crt"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its name, how it is, a sentence, and what to do if anything is to be done."""

    name: str
    level: Level
    what: str
    way_out: str = ""

    def __str__(self) -> str:
        """Return the check in one line."""
        return f"{self.level:<4} {self.name}: {self.what}" + (f". {self.way_out}" if self.way_out else "")


Read = Callable[[Mapping[str, Any], Path, Path], int]


def examine(
    config: str | Path, *, ask_hub: bool = False, read: Read | None = None, now: datetime | None = None
) -> list[Check]:
    """Look at a site; the worst comes first. Never raises for what it finds.

    Parameters
    ----------
    config
        The site's TOML, or its folder.
    ask_hub
        Whether to connect to the hub.
    read
        Reads the table of a `data` section, given the site's folder and the schema's file, and returns how many
        patients it has; raises what is wrong with it. By default as the site agent reads it (`synthema.intake`).
    now
        By default this machine's clock.
    """
    place = Path(config)
    place = place / "site.toml" if place.is_dir() else place
    return _examine(place, ask_hub=ask_hub, read=read or _read_source, clock=now or datetime.now(UTC), and_guests=True)


def _examine(place: Path, *, ask_hub: bool, read: Read, clock: datetime, and_guests: bool) -> list[Check]:
    try:
        data = tomllib.loads(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        kind = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        return [Check("config", "fail", f"{place.name} cannot be read ({kind})", "Make it with `synthema site init`")]
    folder = place.absolute().parent
    found = [Check("config", "ok", f"{place.name} is TOML")]
    parts: list[Callable[[], Iterator[Check]]] = [
        lambda: _keys(data, folder),
        lambda: _certificates(data, folder, clock),
        lambda: _partners(data, folder),
        lambda: _dealer(data),
        lambda: _policy(data),
        lambda: _clock(clock),
        lambda: _disk(folder),
        lambda: _ledger("ledger", _section(data, "ledger"), folder, data, clock),
        lambda: _table("data", data, folder, read),
    ]
    if and_guests:
        parts.append(lambda: _guests(data, place, read, clock))
    if ask_hub:
        parts.append(lambda: _hub(data))
    for part in parts:
        try:
            found.extend(part())
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            # An entry of a wrong type: the rest is looked at all the same.
            found.append(Check("config", "fail", f"an entry is of a wrong kind ({type(error).__name__})", "Compare it"))
    return sorted(found, key=lambda each: ("fail", "warn", "ok").index(each.level))


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name, {})
    return section if isinstance(section, Mapping) else {}


def _keys(data: Mapping[str, Any], folder: Path) -> Iterator[Check]:
    keys = _section(data, "keys")
    bad = False
    for what, default in _SECRET_KEYS.items():
        path = folder / str(keys.get(what, default))
        for check in _secret_file(what, path):
            bad = True
            yield check
    if not bad:
        yield Check("keys", "ok", "all keys are there, and nobody but their owner can touch them")


def _secret_file(what: str, path: Path) -> Iterator[Check]:
    try:
        status = path.stat()
    except OSError:
        yield Check("keys", "fail", f"{path.name} ({what}) is not there", "Bring it back, or make the site's keys anew")
        return
    if not stat.S_ISREG(status.st_mode):
        yield Check("keys", "fail", f"{path.name} ({what}) is not a regular file", "Put the key's own file there")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        yield Check(
            "keys",
            "fail",
            f"{path.name} ({what}) can be touched by others (mode {mode:04o})",
            "chmod 600, and make a new key if others may have read it",
        )
    if status.st_uid not in (os.geteuid(), 0):
        yield Check("keys", "fail", f"{path.name} ({what}) belongs to another user", "Run as the site's own user")
    parent = stat.S_IMODE(path.parent.stat().st_mode)
    if parent & 0o022:
        yield Check(
            "keys", "fail", f"the folder of {path.name} can be written by others (mode {parent:04o})", "chmod 700"
        )


def _certificates(data: Mapping[str, Any], folder: Path, now: datetime) -> Iterator[Check]:
    from cryptography import x509

    if "hub" not in data:
        yield Check("certificate", "warn", "no hub is given: the site is not enrolled", "Enrol it with the hub's token")
        return
    keys = _section(data, "keys")
    for what, default in _CERTIFICATES.items():
        path = folder / str(keys.get(what, default))
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except OSError:
            yield Check("certificate", "fail", f"{path.name} ({what}) is not there", "Enrol the site again")
            continue
        except ValueError:
            yield Check("certificate", "fail", f"{path.name} ({what}) is no certificate", "Enrol the site again")
            continue
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        until = f"{path.name} is valid until {end:%Y-%m-%d}"
        if now > end:
            yield Check("certificate", "fail", f"{path.name} expired on {end:%Y-%m-%d}", "Enrol the site again")
        elif now < start:
            yield Check("certificate", "fail", f"{path.name} is valid from {start:%Y-%m-%d} on", "Set the clock (NTP)")
        elif end - now < _SOON:
            yield Check("certificate", "warn", until, "Renew it before it ends")
        else:
            yield Check("certificate", "ok", until)


def _partners(data: Mapping[str, Any], folder: Path) -> Iterator[Check]:
    from smpc.transport.roster import Identity

    partners = _section(data, "partners")
    if not partners:
        yield Check(
            "partners", "warn", "no partner's key is pinned: no study is accepted", "Add the cards of the other sites"
        )
        return
    keys = [str(_section(partners, name).get("identity", "")) for name in partners]
    if len(set(keys)) < len(keys):
        yield Check("partners", "fail", "two partners have one key", "Compare their cards by telephone")
    wrong = [name for name, key in zip(partners, keys, strict=True) if len(key) != 64]
    if wrong:
        yield Check("partners", "fail", f"{wrong[0]} has no identity key of 64 hex digits", "Add its card again")
    path = folder / str(_section(data, "keys").get("identity", _SECRET_KEYS["identity"]))
    try:
        own = Identity.load(0, path).public.hex()
    except (OSError, ValueError):
        own = ""
    if own and own in keys:
        yield Check("partners", "fail", "a partner has this site's own key", "Add the partner's card, not this site's")
    needed = _section(data, "witnesses").get("needed", 1)
    # Neither a guest nor a guest's own host countersigns.
    witnesses = sum(
        bool(_section(partners, name).get("witness_key")) and not _section(partners, name).get("host")
        for name in partners
        if name != data.get("host")
    )
    if witnesses < needed:
        yield Check(
            "partners",
            "fail",
            f"{needed} witnesses are needed for every spend, and {witnesses} partners are pinned as such",
            "Add the cards of partners that countersign, or lower [witnesses] needed",
        )
    elif not needed:
        yield Check("partners", "warn", "no partner countersigns the ledger", "Set [witnesses] needed to 1 or more")
    else:
        yield Check("partners", "ok", f"{len(partners)} partners are pinned, {witnesses} of them countersign")


def _dealer(data: Mapping[str, Any]) -> Iterator[Check]:
    from smpc.dealing import check_separate
    from smpc.errors import DealerNotSeparate

    partners = _section(data, "partners")
    dealers = {name: each for name, each in partners.items() if each.get("role") == "dealer"}
    if not dealers:
        yield Check("dealer", "ok", "no dealer is pinned: studies that need one are refused")
        return
    sites = [str(each["operator"]) for name, each in partners.items() if name not in dealers and each.get("operator")]
    own, relay = data.get("operator"), _section(data, "hub").get("operator")
    if own:
        sites.append(str(own))
    for name, dealer in dealers.items():
        operator = dealer.get("operator")
        if not operator or not own or not relay or len(sites) < len(partners) - len(dealers) + 1:
            yield Check(
                "dealer",
                "warn",
                f"who operates {name}, the hub and every site is not declared: whether they are separate is not known",
                'Write operator = "legal entity" for the site, in [hub] and for each partner',
            )
        if not operator:
            continue
        try:
            check_separate(str(operator), relay=None if relay is None else str(relay), parties=sites)
        except DealerNotSeparate as error:
            yield Check("dealer", "fail", f"{name}: {error}", "Take a dealer that another legal entity operates")
        else:
            yield Check("dealer", "ok", f"{name} is operated by somebody else than the declared hub and sites")


def _policy(data: Mapping[str, Any]) -> Iterator[Check]:
    from synthema.errors import PolicyError
    from synthema.governance.policy_file import read_policy

    try:
        partners = _section(data, "partners")
        hosts = {name: str(each["host"]) for name, each in partners.items() if each.get("host")}
        hosts |= {str(data.get("name")): str(data["host"])} if data.get("host") else {}
        policy = read_policy(data.get("policy", {}), partners=frozenset(partners), hosts=hosts)
    except PolicyError as error:
        yield Check("policy", "fail", str(error), "See docs/federation/policy.md")
        return
    if policy.listed is None:
        yield Check("policy", "warn", "studies of any researcher are considered", "List them: [[policy.researchers]]")
    elif not policy.listed:
        yield Check("policy", "warn", "no researcher is listed: every study is refused", "Add [[policy.researchers]]")
    else:
        yield Check("policy", "ok", f"{len(policy.listed)} researchers are listed")
    if policy.allow_exact:
        yield Check("policy", "warn", "exact releases, which no epsilon covers, are allowed", "Leave allow_exact out")


def _clock(now: datetime) -> Iterator[Check]:
    if now < _NOT_BEFORE:
        yield Check("clock", "fail", f"this machine's clock says {now:%Y-%m-%d}", "Set the clock (NTP)")
    else:
        yield Check("clock", "ok", f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC")


def _disk(folder: Path) -> Iterator[Check]:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB are free"
    if free < _NO_ROOM_BYTES:
        yield Check("disk", "fail", text, "Make room: nothing is accepted when the ledger cannot be written")
    elif free < _LITTLE_ROOM_BYTES:
        yield Check("disk", "warn", text, "Make room for the ledger and its backups")
    else:
        yield Check("disk", "ok", text)


def _ledger(
    name: str, section: Mapping[str, Any], folder: Path, data: Mapping[str, Any], now: datetime
) -> Iterator[Check]:
    from privacy.ledger.doctor import doctor

    url = str(section.get("url", "sqlite:///ledger.db"))
    if not url.startswith("sqlite:///"):
        yield Check(name, "ok", "the ledger is in a database server: ask that server's own tools")
        return
    anchor, key = section.get("anchor"), _section(data, "keys").get("ledger", _SECRET_KEYS["ledger"])
    for finding in doctor(
        (folder / url.removeprefix("sqlite:///")).resolve(),
        anchor=None if anchor is None else (folder / str(anchor)).resolve(),
        signing_key=folder / str(key) if name == "ledger" else None,
        now=now.timestamp(),
    ):
        level: Level = "fail" if finding.level == "error" else finding.level
        yield Check(f"{name}/{finding.check}", level, finding.what, finding.way_out)


def _table(name: str, data: Mapping[str, Any], folder: Path, read: Read) -> Iterator[Check]:
    from privacy import SchemaError

    section = _section(data, "data")
    if not section:
        yield Check(name, "fail", "no [data] is given", "Say where the table is")
        return
    try:
        patients = read(section, folder, folder / str(data.get("schema", "schema.toml")))
    except (SynthemaError, SchemaError) as error:
        # These say columns and rules, never a value.
        yield Check(name, "fail", f"{error}", "Mend the table or its maps")
    except Exception as error:  # noqa: BLE001 - whatever a reader raises could hold a value
        yield Check(name, "fail", f"the table cannot be read ({type(error).__name__})", "See [data] and the file")
    else:
        least = _section(data, "policy").get("min_patients", 10)  # of a ready policy: the default
        if patients < least:
            yield Check(
                name, "warn", "the table is smaller than the policy's least cohort: every study is refused", "Wait"
            )
        else:
            yield Check(name, "ok", "the table can be read and fits the schema")


def _read_source(section: Mapping[str, Any], folder: Path, schema: Path) -> int:
    from privacy import Schema
    from synthema.intake.read import SiteSource

    return SiteSource.of(section, Schema.load(schema), folder=folder).open().n_rows


def _guests(data: Mapping[str, Any], place: Path, read: Read, clock: datetime) -> Iterator[Check]:
    if not data.get("guests"):
        return
    from synthema.agent.config import SITE_FILE, SiteConfig
    from synthema.agent.guests import problem_of

    try:
        host = SiteConfig.load(place)
    except SynthemaError as error:
        yield Check("guests", "fail", str(error), "See docs/federation/site.md")
        return
    for guest in host.guests:
        problem = problem_of(host, guest)
        if problem is not None:
            yield Check(f"guest {guest.name}", "fail", problem, "It is not served until this is mended")
        if guest.name not in host.partners:
            way_out = f"Add its card: synthema site guest card {guest.name}"
            yield Check(f"guest {guest.name}", "fail", "it is not among the host's partners", way_out)
        file = host.place(guest.folder) / SITE_FILE
        for check in _examine(file, ask_hub=False, read=read, clock=clock, and_guests=False):
            yield replace(check, name=f"guest {guest.name}/{check.name}")


def _hub(data: Mapping[str, Any]) -> Iterator[Check]:
    address = str(_section(data, "hub").get("address", ""))
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit()):
        yield Check("hub", "fail", "[hub] has no address", 'Write address = "host:port"')
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_HUB_SECONDS):
            yield Check("hub", "ok", f"{address} answers")
    except (OSError, OverflowError) as error:
        yield Check(
            "hub",
            "fail",
            f"{address} does not answer ({type(error).__name__})",
            "One outbound connection to this port has to be let through the firewall; ask the hub's operator",
        )
