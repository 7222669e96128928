"""`synthema evaluate`: what a synthetic table is worth, for whoever holds the real rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from synthema.cli.errors import errors, generator_errors, show
from synthema.cli.steps import progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
SchemaFile = Annotated[Path, typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.")]


def evaluate(
    real: Annotated[Path, typer.Argument(metavar="REAL.csv", help="The private rows that were used.")],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTH.csv", help="The table made from them.")],
    schema: SchemaFile,
    holdout: Annotated[
        Path | None, typer.Option(metavar="HOLDOUT.csv", help="Real rows that the generator never saw.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Where the page goes.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Column to predict from the others; may be given several times.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column by which survival curves are compared.")] = None,
    attacks: Annotated[bool, typer.Option(help="Whether to attack the table.")] = True,
    as_json: Json = False,
) -> None:
    """Judge a synthetic table: likeness, use, survival, attacks. INTERNAL: for whoever holds the real rows."""
    with errors(as_json=as_json), generator_errors(as_json=as_json):
        from generators.quality import evaluate as judge
        from privacy import Schema
        from synthema.tables import read_table

        described = Schema.load(schema)
        with progress(quiet=as_json) as say:
            say("reading the tables")
            # A synthetic table has no identifiers and no free texts.
            found = judge(
                read_table(real, described),
                read_table(synthetic, described.subset(described.coded)),
                schema=described,
                holdout=None if holdout is None else read_table(holdout, described),
                targets=target or None,
                group=group,
                attacks=attacks,
                progress=say,
            )
            if report is not None:
                say("writing the page")
                report.write_text(found.to_html(), encoding="utf-8")
        body = found.to_dict() | ({} if report is None else {"page": str(report)})
        show(body, _judged_text(found, report), as_json=as_json)


def _judged_text(found: Any, report: Path | None) -> str:
    from generators.quality import words

    lines = ["INTERNAL: computed from private rows. Do not share.", ""]
    for section in words.sections(found):
        verdict = (words.LEAKS if section.key == "privacy" else words.VERDICTS)[section.verdict]
        lines += [f"{section.question} {verdict.upper()}", f"  {section.answer}", ""]
    lines += [f"  {note}" for note in found.notes]
    if report is not None:
        lines.append(f"The page: {report}")
    return "\n".join(lines)
