"""`synthema plan`: what patients, epsilon, columns and bins would buy, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from synthema.cli.errors import errors, generator_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
SchemaFile = Annotated[Path, typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.")]


def plan(
    schema: SchemaFile,
    patients: Annotated[
        int, typer.Option("-n", "--patients", min=1, help="About how many there are: a public number.")
    ],
    epsilon: Annotated[float, typer.Option(help="Privacy budget of the release.")],
    delta: Annotated[float, typer.Option(help="Far below one in the number of patients.")] = 1e-9,
    mechanism: Annotated[str, typer.Option(help="adaptive, mst, chow-liu or independent.")] = "adaptive",
    as_json: Json = False,
) -> None:
    """Say what a synthetic table would be worth. Reads the schema alone: no patient, no budget."""
    with errors(as_json=as_json), generator_errors(as_json=as_json):
        from generators.planning import Planned
        from generators.planning import plan as plan_release
        from privacy import Schema

        # A name that is no mechanism is refused by `plan`, which says what there is.
        kind = cast("Planned", mechanism)
        found = plan_release(Schema.load(schema), n=patients, epsilon=epsilon, delta=delta, mechanism=kind)
        show(found.to_dict(), str(found), as_json=as_json)
