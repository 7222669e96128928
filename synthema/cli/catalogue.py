"""`synthema site publish` and `synthema catalogue`: what data sets there are, as their sites say and sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from synthema.cli.errors import errors, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Config = Annotated[Path, typer.Option("--config", metavar="SITE.toml", help="The site's file, or its folder.")]
Who = Annotated[Path, typer.Option("--as", metavar="FOLDER", help="The researcher's folder, with researcher.toml.")]


def publish(config: Config = Path("site.toml"), as_json: Json = False) -> None:
    """Have the running agent sign what [catalogue] says and send it to the hub; a noisy number is paid for once."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.service import PUBLISH_FILE
        from synthema.errors import CatalogueError

        setup = SiteConfig.load(config)
        if not setup.catalogue:
            raise CatalogueError("site.toml has no [catalogue]: see docs/federation/policy.md")
        setup.place(PUBLISH_FILE).touch(mode=0o600)
        text = "the agent takes it up within a second, if it runs; its log says when the entry is made"
        show({"site": setup.name, "wanted": True}, text, as_json=as_json)


def catalogue(who: Who = Path(), as_json: Json = False) -> None:
    """List the data sets that sites have published, each checked against the site's card."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.errors import CatalogueError
        from synthema.researcher import ResearchDesk, ResearcherConfig

        with ResearchDesk(ResearcherConfig.load(who)) as desk:
            found = desk.catalogue()
        body: dict[str, Any] = {}
        lines = []
        for site, entry in found.items():
            if isinstance(entry, CatalogueError):
                body[site] = {"error": str(entry)}
                lines.append(f"{site}: not shown: {entry}")
                continue
            body[site] = entry.dcat()
            patients = entry.patients
            number = f"about {patients.number}" if patients.kind == "noisy" else f"at least {patients.number}"
            about = entry.description
            lines.append(f"{site}: {about.title} ({about.publisher}), {number} patients")
            lines.append(f"    {about.spatial}; for {', '.join(about.purposes)}; schema {entry.schema_hash[:12]}")
        show({"catalogue": body}, "\n".join(lines) or "no site that you know has published anything", as_json=as_json)
