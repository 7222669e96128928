"""`synthema researcher` and `synthema submit`: a researcher joins a hub, hands in a study and gets its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from synthema.cli.cards import trust_cards
from synthema.cli.errors import errors, input_errors, show
from synthema.cli.steps import progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Who = Annotated[Path, typer.Option("--as", metavar="FOLDER", help="The researcher's folder, with researcher.toml.")]
_HERE = Path()

researcher_app = typer.Typer(help="A researcher's keys, and the sites that are known to them.", add_completion=False)


@researcher_app.command("join")
def join(
    token: Annotated[str, typer.Argument(help="The one-time token that the hub's operator gave.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for keys and researcher.toml.")],
    as_json: Json = False,
) -> None:
    """Join a hub as a researcher."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.researcher import join_as_researcher

        config = join_as_researcher(folder, token)
        public = config.identity().public.hex()
        text = (
            f"joined the hub at {config.hub.address} as {config.name}\n"
            f'give your key to the sites, for their policies: researchers = ["{public}"]'
        )
        show({"name": config.name, "hub": config.hub.address, "public_key": public}, text, as_json=as_json)


@researcher_app.command("trust")
def trust(
    cards: Annotated[list[Path], typer.Argument(metavar="CARD.toml...", help="Cards of sites.")],
    who: Who = _HERE,
    as_json: Json = False,
) -> None:
    """Add sites to researcher.toml, after their fingerprints were compared."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.researcher import ResearcherConfig
        from synthema.researcher import trust as add

        config = ResearcherConfig.load(who)
        trust_cards(cards, lambda read: add(config, read), as_json=as_json)


def submit(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The study: schema, sites, budget, what is asked.")],
    who: Who = _HERE,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if it does not exist.")] = Path(
        "synthema-out"
    ),
    decide_within: Annotated[float, typer.Option(help="Seconds in which every site has to accept.")] = 3600.0,
    run_within: Annotated[float, typer.Option(help="Seconds in which the job has to end.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Hand a study in to the hub, wait for its end, and write what was released."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.researcher import ResearchDesk, ResearcherConfig
        from synthema.study import Study

        study = Study.load(job)
        config = ResearcherConfig.load(who)
        with ResearchDesk(config) as desk, progress(quiet=as_json) as say:
            bundle = desk.submit(study, decide_seconds=decide_within, run_seconds=run_within, progress=say)
        written = write_bundle(bundle, out)
        body = {"out": str(out), "files": [str(path) for path in written], "costs": bundle["costs"]}
        show(body, "\n".join(["done:", *(f"  {path}" for path in written)]), as_json=as_json)


def write_bundle(bundle: dict[str, Any], folder: Path) -> list[Path]:
    """Write report.html, costs.json, released.json and the tables that there are; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "synthetic.csv": bundle["synthetic"],
        "anonymised.csv": bundle["anonymised"],
        "costs.json": json.dumps(bundle["costs"], indent=2) + "\n",
        "released.json": json.dumps(bundle["released"], indent=2) + "\n",
        "report.html": bundle["report"],
    }
    written = []
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written
