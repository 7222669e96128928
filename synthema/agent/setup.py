"""Making a site: its keys, its ledger and its file, and the card by which partners know it.

A card is the section of `site.toml` that a partner adds. It holds public keys only; the two operators compare its
fingerprint by telephone, because whoever can exchange it can stand in for the site.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy._toml import dump_toml
from privacy.ledger import generate_key, load_key, open_ledger
from privacy.ledger.rules import origin_of
from smpc.transport.roster import Identity, new_identity_file
from synthema.agent.config import SITE_FILE, PartnerSection, SiteConfig
from synthema.agent.guests import check_consent, guest_config
from synthema.enrolling import enrol
from synthema.errors import StudyError
from synthema.member_config import HubSection
from synthema.site import SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Card:
    """What a site is known by. `text`: the section for a partner's file."""

    name: str
    section: PartnerSection

    @property
    def text(self) -> str:
        """TOML."""
        fields = {field: value for field, value in self.section.model_dump().items() if value}
        # A partner wrote these texts: none of them may end its own line.
        return dump_toml({"partners": {self.name: fields}})

    @property
    def fingerprint(self) -> str:
        """Eight groups of four hex digits, to be compared by telephone."""
        digest = hashlib.sha256(b"synthema site card v1\n" + self.text.encode()).hexdigest()[:32]
        return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


def make_site(folder: Path, name: str, *, anchor: str | None = None, host: SiteConfig | None = None) -> SiteConfig:
    """Make a site's folder: keys (mode 0600), a ledger that is signed, and `site.toml` to be filled in.

    `host`: the partner that holds its table, if it is a guest (see `make_guest`).

    Raises
    ------
    StudyError
        If there is a site in the folder already: nothing is overwritten.
    """
    file = folder / SITE_FILE
    if file.exists():
        raise StudyError(f"{file} exists: a site is made once; choose another folder")
    config = SiteConfig(name=name, folder=folder.absolute())
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    new_identity_file(config.place(config.keys.identity))
    signer = generate_key(config.place(config.keys.ledger), name=f"{name}/ledger")
    generate_key(config.place(config.keys.witness), name=f"{name}/witness")
    _write_secret(config.place(config.keys.secret))
    with open_ledger(
        config.ledger_url, site=name, signer=signer, anchor=None if anchor is None else folder / anchor
    ) as ledger:
        ledger.set_key("site", signer.verifier.vkey, reason="the site's first key", holder=signer)
    file.write_text(_site_text(name, anchor, host), encoding="utf-8")
    return SiteConfig.load(file)


def make_guest(host: SiteConfig, name: str, consent: str) -> SiteConfig:
    """Make a guest's folder in its host's, and note it in the host's file.

    The guest knows whom its host knows, and its host and its host's other guests know it from now on.

    Raises
    ------
    StudyError
        If the name is taken, the consent says nothing, or the host is a guest itself.
    """
    if host.host is not None:
        raise StudyError(f"{host.name!r} is a guest itself and holds nobody's table")
    if name == host.name or name in host.partners or name in {guest.name for guest in host.guests}:
        raise StudyError(f"{name!r} is taken: a guest has a name of its own")
    check_consent(name, consent)
    place = f"guests/{name}"
    guest = make_site(host.place(place), name, host=host)
    agreed = guest.place("consent.txt")
    agreed.write_text(consent, encoding="utf-8")
    section = {"name": name, "folder": place, "consent": f"{place}/{agreed.name}"}
    trust(guest, [card_of(host), *(Card(partner, known) for partner, known in host.partners.items())])
    append_section(host.place(SITE_FILE), dump_toml({"guests": [section]}), SiteConfig.load)
    trust(SiteConfig.load(host.folder), [card_of(guest)])
    return SiteConfig.load(guest.folder)


def card_of(config: SiteConfig) -> Card:
    """Return the card by which partners know this site."""
    identity = Identity.load(0, config.place(config.keys.identity))
    signer = load_key(config.place(config.keys.ledger))
    witness = load_key(config.place(config.keys.witness))
    with open_ledger(config.ledger_url, site=config.name, signer=signer, check="head") as ledger:
        origin = origin_of(ledger.ledger_id)
    section = PartnerSection(
        identity=identity.public.hex(),
        ledger=origin,
        ledger_key=signer.verifier.vkey,
        # A guest countersigns nobody's ledger: its host does.
        witness_key="" if config.host else witness.cosignature_verifier.vkey,
        operator=config.operator,
        host=config.host or "",
    )
    return Card(config.name, section)


def read_cards(text: str) -> list[Card]:
    """Return the cards of a text. Raises StudyError."""
    try:
        sections = tomllib.loads(text)["partners"]
        return [Card(name, PartnerSection(**fields)) for name, fields in sections.items()]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, ValueError):
        raise StudyError("it is no card: ask the partner for what `synthema site card` prints") from None


def trust(config: SiteConfig, cards: Sequence[Card]) -> None:
    """Add partners to a site's file, and to those of its guests that do not list them.

    Raises
    ------
    StudyError
        If a partner is listed already, with these keys or others: a change of keys is for the operator to make by hand.
    """
    known = sorted(card.name for card in cards if card.name in config.partners or card.name == config.name)
    if known:
        raise StudyError(f"{known[0]!r} is listed already: edit {SITE_FILE} if its keys have changed")
    guests = [guest_config(config, guest) for guest in config.guests]
    append_section(config.place(SITE_FILE), "\n".join(card.text for card in cards), SiteConfig.load)
    for guest in guests:
        new = [card for card in cards if card.name != guest.name and card.name not in guest.partners]
        if new:
            trust(guest, new)


def join_hub(folder: Path, token: str) -> HubSection:
    """Have the hub certify this site's keys, and note the hub in its file; return where the hub is.

    Raises
    ------
    StudyError
        If the file names a hub already.
    EnrolmentFailed
        If the hub refuses.
    """
    config = SiteConfig.load(folder)
    if config.hub is not None:
        raise StudyError(f"{SITE_FILE} names a hub already: take [hub] out first, and the certificates from keys/")
    found = enrol(token, config.name, config.place(config.keys.identity).parent)
    address = f"{found.hub.host}:{found.hub.port}"
    section = HubSection(address=address, fingerprint=found.hub.fingerprint.hex())
    text = dump_toml({"hub": {"address": section.address, "fingerprint": section.fingerprint}})
    append_section(config.place(SITE_FILE), text, SiteConfig.load)
    return section


def append_section(file: Path, text: str, check: Callable[[Path], object]) -> None:
    """Add a section to a TOML file, whole or not at all; `check` reads the new one and raises if it is wrong."""
    replaced = file.with_suffix(".new")
    replaced.write_text(f"{file.read_text(encoding='utf-8').rstrip()}\n\n{text}", encoding="utf-8")
    try:
        check(replaced)
    except BaseException:
        replaced.unlink()
        raise
    replaced.replace(file)


def _write_secret(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_bytes(SECRET_BYTES).hex())


def _site_text(name: str, anchor: str | None, host: SiteConfig | None) -> str:
    # Who runs a guest's agent is who runs its host's.
    held = {} if host is None else {"host": host.name} | ({"operator": host.operator} if host.operator else {})
    lines = [
        "# The site agent's file. Files are looked for beside it; see docs/federation/site.md.",
        "version = 1",
        f'name = "{name}"',
        *(dump_toml(held).splitlines() if held else []),
        'schema = "schema.toml"            # the public description that all sites share',
        "",
        "# What this site allows. A study cannot loosen it.",
        "[policy]",
        "epsilon_cap = 3.0                 # of everything this table ever pays for",
        "delta_cap = 1e-6",
        "min_patients = 10",
        'approve = "ask"                   # "automatic": what the policy allows runs without asking',
        "",
        "[data]",
        'kind = "csv"',
        'path = "table.csv"',
        "",
        "[witnesses]",
        "needed = 1                        # partners that countersign the ledger before a spend; 0: nobody",
        "",
        "[ledger]",
        'url = "sqlite:///ledger.db"',
    ]
    if anchor is not None:
        lines.append(dump_toml({"anchor": anchor}).strip())
    return "\n".join(lines) + "\n"
