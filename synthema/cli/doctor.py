"""`synthema doctor`: what is wrong with a site, before a study finds out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import NOT_VERIFIED, errors, show

Config = Annotated[Path, typer.Option("--config", metavar="SITE.toml", help="The site's file, or its folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]


def doctor(
    config: Config = Path("site.toml"),
    hub: Annotated[bool, typer.Option("--hub", help="Also connect to the hub.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a site's keys, certificates, ledger, clock, partners, policy and data; exit code 5 if something fails."""
    with errors(as_json=as_json):
        from dataclasses import asdict

        from synthema.doctoring import examine

        checks = examine(config, ask_hub=hub)
        failed = any(check.level == "fail" for check in checks)
        body = {"ok": not failed, "checks": [asdict(check) for check in checks]}
        show(body, "\n".join(str(check) for check in checks), as_json=as_json)
        if failed:
            raise typer.Exit(NOT_VERIFIED)
