"""Commands and their exit codes. Heavy modules are imported when a command runs, so that `--help` is quick."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.account import account_app
from synthema.cli.anonymise import anonymise
from synthema.cli.catalogue import catalogue
from synthema.cli.doctor import doctor
from synthema.cli.errors import errors, show
from synthema.cli.evaluate import evaluate
from synthema.cli.example import example_app
from synthema.cli.flower import flower_app
from synthema.cli.generate import generate
from synthema.cli.hub import hub_app
from synthema.cli.ledger_app import ledger_app
from synthema.cli.material import dealer_app, material_app
from synthema.cli.party import party_app, relay
from synthema.cli.plan import plan
from synthema.cli.pseudonymise import pseudonymise
from synthema.cli.risk import risk
from synthema.cli.site import site_app
from synthema.cli.steps import progress
from synthema.cli.submit import researcher_app, submit

if TYPE_CHECKING:
    from synthema.pipeline import Outcome

app = typer.Typer(
    name="synthema",
    help="Anonymise, synthesise and federate clinical tables, with a privacy budget that each site enforces itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(ledger_app, name="ledger")
app.add_typer(account_app, name="account")
app.add_typer(party_app, name="party")
app.add_typer(hub_app, name="hub")
app.add_typer(dealer_app, name="dealer")
app.add_typer(material_app, name="material")
app.add_typer(site_app, name="site")
app.add_typer(researcher_app, name="researcher")
app.command()(submit)
app.command()(catalogue)
app.add_typer(flower_app, name="flower")
app.add_typer(example_app, name="example")
app.command()(relay)
app.command()(plan)
app.command()(anonymise)
app.command()(risk)
app.command()(pseudonymise)
app.command()(generate)
app.command()(evaluate)
app.command()(doctor)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to; made if it does not exist.")]


@app.command()
def demo(
    out: Out = Path("synthema-demo"),
    epsilon: Annotated[float, typer.Option(help="Privacy budget asked of each hospital.")] = 3.0,
    rows: Annotated[int, typer.Option(help="Number of synthetic patients, a public number.")] = 1000,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on real leukaemia data, split over five made-up hospitals."""
    with errors(as_json=as_json):
        from synthema.demo import demo_frames, demo_study
        from synthema.study import Study

        study = demo_study()
        fields = dict(study)
        fields["budget"] = study.budget.model_copy(update={"epsilon": epsilon})
        if study.synthesis is not None:
            fields["synthesis"] = study.synthesis.model_copy(update={"rows": rows})
        _run(_validated(Study, fields), demo_frames(), out, as_json=as_json)


@app.command()
def simulate(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="Study with a `file` for each site.")],
    out: Out = Path("synthema-out"),
    as_json: Json = False,
) -> None:
    """Run a study on your own CSV files, every site in this process."""
    with errors(as_json=as_json):
        from synthema.errors import StudyError
        from synthema.study import Study
        from synthema.tables import read_table

        study = Study.load(study_file)
        frames = {}
        for name, section in study.sites.items():
            if section.file is None:
                raise StudyError(f'[sites.{name}] needs file = "...csv"')
            frames[name] = read_table(study_file.parent / section.file, study.data_schema)
        _run(study, frames, out, as_json=as_json)


@app.command()
def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv")],
    schema: Annotated[Path, typer.Option(help="Schema file (TOML).")],
    as_json: Json = False,
) -> None:
    """Check a CSV file against a schema. Says what is wrong by column and rule, never a value."""
    with errors(as_json=as_json):
        from privacy import Schema
        from synthema.tables import read_table

        read_table(table, Schema.load(schema))
        show({"ok": True, "table": table.name}, f"{table.name} fits the schema", as_json=as_json)


def _run(study: Any, frames: Any, out: Path, *, as_json: bool) -> None:
    from synthema.pipeline import simulate as run_simulation
    from synthema.pipeline import write_outcome

    with progress(quiet=as_json) as say:
        outcome = run_simulation(study, frames, out=out, progress=say)
        written = write_outcome(outcome, out)
    _print_outcome(outcome, out, written, as_json=as_json)


def _print_outcome(outcome: Outcome, out: Path, written: list[Path], *, as_json: bool) -> None:
    if as_json:
        files = [str(path) for path in [*written, *outcome.ledgers.values()]]
        print(json.dumps({"out": str(out), "files": files, "costs": outcome.costs}, indent=2))
        return
    from synthema.cli.summary import outcome_text

    print(outcome_text(outcome, out))


def _validated(model: Any, fields: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from synthema.errors import StudyError

    try:
        # Sections changed on the command line are checked like those from a file.
        return model(**{name: _plain(value) for name, value in fields.items()})
    except ValidationError as error:
        raise StudyError("; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())) from None


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:
        # The reader (`| head`) went away: point stdout elsewhere so that the interpreter's flush at exit is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
