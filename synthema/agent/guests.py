"""Guests: small sites without a server of their own, whose tables a partner site holds for them.

    [[guests]]                           # in the host's site.toml
    name = "graz"                        # the name under which studies ask it
    folder = "guests/graz"               # a site's folder like any other: its own keys, ledger, policy and table
    consent = "guests/graz/consent.txt"  # what the guest has signed: that the host sees its rows

The host's process runs an agent for each guest, a member of the hub of its own, from the files of that folder: a
refusal of a guest is its own refusal, with its own name on it. What a guest gives up is said in its consent, without
which its table is not opened: the host sees its rows, and speaks for it.

To everybody else a host and its guests are one: a sum of theirs hides nothing from the host. So exact releases count
hosts (`SitePolicy.hosts`), no guest is a compute party, and no guest countersigns. Partners learn who is whose guest
from the guest's card.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.ledger import load_key
from smpc.transport.roster import Identity
from synthema.agent.config import SITE_FILE, GuestSection, SiteConfig
from synthema.agent.table import open_table, site_policy
from synthema.errors import PolicyError, StudyError, SynthemaError

if TYPE_CHECKING:
    from synthema.networks.asking import Asking
    from synthema.site import Site

_FEWEST_CONSENT = 40


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest whose files were read and whose consent is there.

    config    its own file
    consent   where its consent is
    """

    config: SiteConfig
    consent: Path

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    def open(self, config: SiteConfig, asking: Asking) -> Site:
        """Open the guest's ledger, tell it once on what consent the table is held, and read the table.

        The consent is read anew for each job: one that is taken away holds from then on.
        """
        return open_table(config, asking, note=consent_note(read_consent(self.name, self.consent)))


def read_consent(name: str, path: Path) -> str:
    """Return a guest's consent. Raises StudyError if there is none, or it says nothing."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"guest {name!r}: its consent {path.name} cannot be read ({type(error).__name__}); give UTF-8 text"
        ) from None
    check_consent(name, text)
    return text


def check_consent(name: str, text: str) -> None:
    """Raise StudyError if a guest's consent says nothing."""
    if len(text.strip()) < _FEWEST_CONSENT:
        raise StudyError(f"guest {name!r}: its consent says nothing: who agreed, when, and that the host sees its rows")


def consent_note(consent: str) -> str:
    """Return what a guest's ledger says of the arrangement."""
    digest = hashlib.sha256(consent.encode()).hexdigest()
    return f"held by a partner site with the guest's consent, sha256 {digest}"


def guest_config(host: SiteConfig, section: GuestSection) -> SiteConfig:
    """Return a guest's own file.

    Raises
    ------
    StudyError
        If it cannot be read, or is not that of this guest of this host.
    """
    folder = host.place(section.folder)
    for other in host.guests:
        if other.name != section.name and host.place(other.folder).resolve() == folder.resolve():
            raise StudyError(f"guest {section.name!r}: {other.name!r} has the same folder; each has its own")
    try:
        config = SiteConfig.load(folder / SITE_FILE)
    except StudyError as error:
        raise StudyError(f"guest {section.name!r}: {error}") from None
    if (config.name, config.host) != (section.name, host.name):
        raise StudyError(
            f'guest {section.name!r}: {section.folder}/{SITE_FILE} must say name = "{section.name}" and '
            f'host = "{host.name}"'
        )
    return config


def read_guest(host: SiteConfig, section: GuestSection) -> Guest:
    """Return a guest of a host, after a look at its file, consent, policy and keys.

    Raises
    ------
    StudyError, PolicyError
        Naming the guest and the rule.
    ValueError, OSError
        If a key is not there or no key.
    """
    config = guest_config(host, section)
    consent = host.place(section.consent)
    read_consent(section.name, consent)
    try:
        site_policy(config)
    except PolicyError as error:
        raise PolicyError(f"guest {section.name!r}: {error}") from None
    if config.hub is None:
        raise StudyError(f"guest {section.name!r} has joined no hub: synthema site join TOKEN --config {config.folder}")
    Identity.load(0, config.place(config.keys.identity))
    for key in (config.keys.ledger, config.keys.witness):
        load_key(config.place(key))
    return Guest(config, consent)


def problem_of(host: SiteConfig, section: GuestSection) -> str | None:
    """Return what keeps a guest from being served, in words without a value or a key; None if nothing does."""
    try:
        read_guest(host, section)
    except SynthemaError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is; its text could hold a key
        return f"guest {section.name!r}: a key cannot be read ({type(error).__name__})"
    return None


def site_or_guest(host: SiteConfig, name: str | None) -> SiteConfig:
    """Return the file of a site's guest, or its own. Raises StudyError if it holds no such table."""
    if name is None or name == host.name:
        return host
    for guest in host.guests:
        if guest.name == name:
            return guest_config(host, guest)
    raise StudyError(f"{name!r} is neither this site nor a guest of it")
