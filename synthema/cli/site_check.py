"""`synthema site check`: does the site's table fit the common schema? Nothing is shared, nothing is charged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]


def site_check(
    data: Annotated[Path, typer.Option("--data", metavar="SITE.toml", help="The site's file, with its data section.")],
    schema: Annotated[
        Path | None, typer.Option(metavar="SCHEMA.toml", help="A study's schema, instead of the file's own.")
    ] = None,
    show_unmapped: Annotated[
        bool,
        typer.Option(
            "--show-unmapped",
            help="PRIVATE, at a terminal only: also list codes that the map lacks and at least 10 rows share.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the site's table against the common schema. Says what is wrong by column and rule, never a value."""
    with errors(as_json=as_json):
        from privacy import Schema
        from synthema.errors import TableError
        from synthema.intake.read import SiteSource

        source = SiteSource.load(data, schema=None if schema is None else Schema.load(schema))
        if show_unmapped:
            if as_json or not (sys.stdout.isatty() and sys.stderr.isatty()):
                # A file, a pipe or a log outlives the look at it, and may be read by others.
                raise TableError("--show-unmapped writes to a terminal only, not to a file, a pipe or JSON")
            for column, codes in source.unmapped_codes().items():
                print(f"column {column!r}: not in the map: {', '.join(map(repr, codes))}")
        opened = source.open()
        how = "read into memory" if opened.has_rows else "counted where it is"
        text = f"the table fits the schema ({len(source.schema.names)} columns, {how})"
        show({"ok": True, "columns": list(source.schema.names), "in_memory": opened.has_rows}, text, as_json=as_json)
