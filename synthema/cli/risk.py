"""`synthema risk`: what an attacker could do with a table, counted, for whoever holds its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthema.cli import model_options as model
from synthema.cli.errors import argument_errors, errors, show
from synthema.cli.ledger_common import plain
from synthema.cli.steps import progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]


def risk(
    table: Annotated[Path, typer.Argument(metavar="IN.csv", help="The private rows.")],
    schema: Annotated[Path, typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.")],
    released: Annotated[
        Path | None, typer.Option(metavar="OUT.csv", help="A table that was made of it: before and after.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="R.html", help="Also write an INTERNAL page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that exists.")] = False,
    threshold: Annotated[float, typer.Option(help="Risk that is still acceptable; 0.09 asks for crowds of 11.")] = 0.09,
    population_size: Annotated[
        int | None, typer.Option(help="People of whom the table is a random sample.", rich_help_panel="Privacy models")
    ] = None,
    population: model.Population = None,
    finder: Annotated[bool, typer.Option(help="Whether to look for columns that single people out.")] = True,
    k: model.K = None,
    l: model.L = None,
    t: model.T = None,
    beta: model.Beta = None,
    delta_disclosure: model.DeltaDisclosure = None,
    alpha: model.Alpha = None,
    average_risk: model.AverageRisk = None,
    sample_uniqueness: model.SampleUniqueness = None,
    population_uniqueness: model.PopulationUniqueness = None,
    k_map: model.KMap = None,
    presence: model.Presence = None,
    as_json: Json = False,
) -> None:
    """Count the risk of re-identification in a table, and check privacy models on it. INTERNAL; changes nothing."""
    with errors(as_json=as_json), argument_errors(as_json=as_json):
        from anonymise import find_quasi_identifiers, report_risk
        from privacy import Schema
        from synthema.cli.anonymise_text import risk_body, risk_text
        from synthema.cli.model_grammar import ModelOptions
        from synthema.outputs import INTERNAL, outputs
        from synthema.release_models import model_of
        from synthema.tables import read_released, read_table

        asked = ModelOptions(
            k=k,
            l=tuple(l or ()),
            t=tuple(t or ()),
            beta=tuple(beta or ()),
            delta_disclosure=tuple(delta_disclosure or ()),
            alpha=tuple(alpha or ()),
            average_risk=average_risk,
            sample_uniqueness=sample_uniqueness,
            population_uniqueness=population_uniqueness,
            k_map=k_map,
            presence=presence,
        )
        described = Schema.load(schema)
        with progress(quiet=as_json) as say, outputs(force=force) as files:
            files.check(report, inputs=[table, schema, released, population])
            say("reading the table")
            frame = read_table(table, described)
            people = (
                None if population is None else read_table(population, described.subset(described.quasi_identifiers))
            )
            made = None if released is None else read_released(released, described)
            say("counting risks")
            document = report_risk(
                frame,
                described,
                released=made,
                models=[model_of(terms) for terms in asked.terms()],
                population=people,
                population_size=population_size,
                threshold=threshold,
            )
            found = find_quasi_identifiers(frame, described) if finder else None
            if report is not None:
                page = document.to_html()
                files.stage(report, lambda file: file.write(page), mode=INTERNAL)
                files.commit()
        place = None if report is None else str(report)
        show(plain(risk_body(document, found, place)), risk_text(document, found, place), as_json=as_json)
