"""`synthema site`: the agent at a hospital - made, joined to a hub, served, and asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.cards import trust_cards
from synthema.cli.catalogue import publish
from synthema.cli.errors import errors, input_errors, show
from synthema.cli.site_check import site_check
from synthema.cli.site_guest import guest_app
from synthema.cli.site_jobs import approve, refuse, status

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Config = Annotated[Path, typer.Option("--config", metavar="SITE.toml", help="The site's file, or its folder.")]
_HERE = Path("site.toml")

site_app = typer.Typer(help="The agent at a hospital: make it, join a hub, serve, approve.", add_completion=False)
site_app.add_typer(guest_app, name="guest")
site_app.command("check")(site_check)
site_app.command()(status)
site_app.command()(approve)
site_app.command()(refuse)
site_app.command()(publish)


@site_app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the site's file, keys and ledger.")],
    name: Annotated[str | None, typer.Option(help="The site's public name: letters, digits, - and _.")] = None,
    token: Annotated[str | None, typer.Option(help="The hub's one-time token; joining can also come later.")] = None,
    anchor: Annotated[
        str | None, typer.Option(help="A small file outside the backups that finds a restored ledger.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a site: keys, a signed ledger, and site.toml. Asks for what is missing, on a terminal."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.setup import card_of, make_site

        asks = sys.stdin.isatty() and not as_json
        if name is None and asks:
            name = typer.prompt("Name of the site (public, small letters)")
        if name is None:
            raise ValueError("give --name, the site's public name")
        config = make_site(folder, name, anchor=anchor)
        if token is None and asks:
            token = typer.prompt("One-time token of the hub (empty: later)", default="", show_default=False) or None
        joined = _joined(folder, token) if token else None
        card = card_of(config)
        body = {
            "site": name,
            "file": str(folder / "site.toml"),
            "hub": joined,
            "card": card.text,
            "fingerprint": card.fingerprint,
        }
        show(body, _after_init(folder, card.fingerprint, is_joined=joined is not None), as_json=as_json)


@site_app.command()
def join(
    token: Annotated[str, typer.Argument(help="The one-time token that the hub's operator gave.")],
    config: Config = _HERE,
    as_json: Json = False,
) -> None:
    """Join a hub: get a certificate for this site's keys, and note the hub in site.toml."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        folder = config if config.is_dir() else config.parent
        address = _joined(folder, token)
        show({"hub": address}, f"joined the hub at {address}", as_json=as_json)


@site_app.command()
def card(config: Config = _HERE, as_json: Json = False) -> None:
    """Print the card by which partners and researchers know this site. It holds public keys only."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.setup import card_of

        found = card_of(SiteConfig.load(config))
        text = f"# compare by telephone: {found.fingerprint}\n{found.text}"
        show({"card": found.text, "fingerprint": found.fingerprint}, text.rstrip("\n"), as_json=as_json)


@site_app.command()
def trust(
    cards: Annotated[list[Path], typer.Argument(metavar="CARD.toml...", help="Cards of partners.")],
    config: Config = _HERE,
    as_json: Json = False,
) -> None:
    """Add partners to site.toml, after their fingerprints were compared; the site's guests know them, too."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.setup import trust as add

        setup = SiteConfig.load(config)
        trust_cards(cards, lambda read: add(setup, read), as_json=as_json)


@site_app.command()
def serve(config: Config = _HERE) -> None:
    """Run the agent, and those of the site's guests, until it is interrupted."""
    import logging
    import signal

    with errors(as_json=False), input_errors(as_json=False):
        from synthema.agent.config import SiteConfig
        from synthema.agent.hosting import HostService

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        service = HostService(SiteConfig.load(config))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: service.stop())
        service.serve()


def _joined(folder: Path, token: str) -> str:
    from synthema.agent.setup import join_hub

    return join_hub(folder, token).address


def _after_init(folder: Path, fingerprint: str, *, is_joined: bool) -> str:
    where = f"--config {folder}"
    steps = [
        f"{folder}/site.toml is made. Next:",
        "  1. put the schema and the table beside it, and name them in site.toml",
        f"  2. give your card to partners and researchers: synthema site card {where}   ({fingerprint})",
        f"  3. add theirs: synthema site trust CARD.toml {where}",
    ]
    if not is_joined:
        steps.append(f"  4. join the hub: synthema site join TOKEN {where}")
    steps.append(f"  then: synthema site serve {where}")
    return "\n".join(steps)
