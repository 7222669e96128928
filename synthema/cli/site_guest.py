"""`synthema site guest`: small sites whose tables this site holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Config = Annotated[Path, typer.Option("--config", metavar="SITE.toml", help="The host's file, or its folder.")]
Guest = Annotated[str, typer.Argument(metavar="NAME", help="The guest's public name.")]
_HERE = Path("site.toml")

guest_app = typer.Typer(help="Small sites whose tables this site holds.", add_completion=False)


@guest_app.command()
def add(
    name: Guest,
    consent: Annotated[
        Path,
        typer.Option(metavar="FILE", help="What the guest has signed: who agreed, when, that this site sees rows."),
    ],
    token: Annotated[
        str | None, typer.Option(help="The hub's one-time token for the guest; joining can also come later.")
    ] = None,
    config: Config = _HERE,
    as_json: Json = False,
) -> None:
    """Make a guest: a folder in this site's with keys, ledger and file of its own, and a member of the hub."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.setup import card_of, join_hub, make_guest

        guest = make_guest(SiteConfig.load(config), name, consent.read_text(encoding="utf-8"))
        address = None if token is None else join_hub(guest.folder, token).address
        card = card_of(guest)
        body = {
            "guest": name,
            "file": str(guest.folder / "site.toml"),
            "hub": address,
            "card": card.text,
            "fingerprint": card.fingerprint,
        }
        show(body, _after_add(guest.folder, name, card.fingerprint, is_joined=address is not None), as_json=as_json)


@guest_app.command()
def card(name: Guest, config: Config = _HERE, as_json: Json = False) -> None:
    """Print a guest's card for partners and researchers; it says whose guest it is."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.guests import site_or_guest
        from synthema.agent.setup import card_of

        found = card_of(site_or_guest(SiteConfig.load(config), name))
        text = f"# compare by telephone: {found.fingerprint}\n{found.text}"
        show({"card": found.text, "fingerprint": found.fingerprint}, text.rstrip("\n"), as_json=as_json)


@guest_app.command(name="list")
def list_guests(config: Config = _HERE, as_json: Json = False) -> None:
    """List the guests, and what keeps one from being served."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.guests import problem_of

        host = SiteConfig.load(config)
        found = [
            {"name": guest.name, "folder": guest.folder, "problem": problem_of(host, guest)} for guest in host.guests
        ]
        lines = [f"{each['name']}  {each['folder']}  {each['problem'] or 'ready'}" for each in found]
        show({"guests": found}, "\n".join(lines) or "this site has no guests", as_json=as_json)


def _after_add(folder: Path, name: str, fingerprint: str, *, is_joined: bool) -> str:
    steps = [
        f"{folder}/site.toml is made. Next:",
        "  1. put the guest's schema and table beside it, and its policy and [data] into it",
        f"  2. give its card to partners and researchers: synthema site guest card {name}   ({fingerprint})",
    ]
    if not is_joined:
        steps.append(f"  3. let it join the hub: synthema site join TOKEN --config {folder}")
    steps.append("  then start this site's agent anew: it serves the guest, too")
    return "\n".join(steps)
