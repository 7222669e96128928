"""`synthema flower`: a network that runs Flower carries jobs to the sites (docs/flower.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, input_errors, show
from synthema.cli.steps import progress
from synthema.cli.submit import write_bundle

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Who = Annotated[Path, typer.Option("--as", metavar="FOLDER", help="The researcher's folder, with researcher.toml.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results; made if it does not exist.")]
_HERE = Path()

flower_app = typer.Typer(help="Hand studies in over a network that runs Flower.", add_completion=False)


@flower_app.command("app")
def write_app(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the Flower app.")],
    as_json: Json = False,
) -> None:
    """Write the Flower app, for whoever reviews or signs what runs on a network. It holds no code."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.flower.bundle import write_bundle as write

        file = write(folder)
        show({"file": str(file)}, f"{file} is written", as_json=as_json)


@flower_app.command("submit")
def submit(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The study: schema, sites, budget, what is asked.")],
    who: Who = _HERE,
    out: Out = Path("synthema-out"),
    superlink: Annotated[
        str | None, typer.Option(metavar="NAME", help="Connection of Flower's configuration; its default if left out.")
    ] = None,
    flwr: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Flower's command line, if it is not on the search path.")
    ] = None,
    decide_within: Annotated[float, typer.Option(help="Seconds in which every site has to answer.")] = 120.0,
    run_within: Annotated[float, typer.Option(help="Seconds in which the job has to end.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Hand a study in over Flower, wait for its end, and write what was released."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from rich.markup import escape

        from synthema.flower.submitting import FlowerDesk
        from synthema.researcher import ResearcherConfig
        from synthema.study import Study

        study = Study.load(job)
        config = ResearcherConfig.load(who)
        with progress(quiet=as_json) as say:
            desk = FlowerDesk(
                config,
                superlink=superlink,
                decide_seconds=decide_within,
                run_seconds=run_within,
                program=None if flwr is None else str(flwr),
                progress=lambda line: say(escape(line), same=True),
            )
            bundle = desk.submit(study)
        written = write_bundle(bundle, out)
        body = {"out": str(out), "files": [str(path) for path in written], "costs": bundle["costs"]}
        show(body, "\n".join(["done:", *(f"  {path}" for path in written)]), as_json=as_json)
