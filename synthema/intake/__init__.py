"""Data at a site: whatever a hospital has becomes a frame, or counts, that fit the study's common schema.

`SiteSource.load("site.toml")` reads the `[data]` section with its schema and map; `.check()` says what is wrong, by
column and without any value; `.open()` gives the data that `synthema.site.Site` takes. Sources are text files of any
delimiter and encoding (`delimited`), Excel workbooks (`excel`), REDCap exports (`redcap`), and Parquet files and
PostgreSQL tables that are counted where they are (`databases`, `sql_map`). A `SiteMap` leads from the site's columns,
codes and units to the common schema.

>>> from synthema.intake import source_of
>>> source_of({"kind": "csv", "path": "aml.csv", "decimal": ","}).kind
'csv'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthema.intake.data import CountedData, FrameData, SiteData
    from synthema.intake.mapping import SiteMap
    from synthema.intake.read import SiteSource, check_source, open_source, read_source, unmapped_codes
    from synthema.intake.spec import SourceSpec, load_source, source_of

__all__ = [
    "CountedData",
    "FrameData",
    "SiteData",
    "SiteMap",
    "SiteSource",
    "SourceSpec",
    "check_source",
    "load_source",
    "open_source",
    "read_source",
    "source_of",
    "unmapped_codes",
]

_HOMES = {
    **dict.fromkeys(("CountedData", "FrameData", "SiteData"), "data"),
    **dict.fromkeys(("SiteSource", "check_source", "open_source", "read_source", "unmapped_codes"), "read"),
    **dict.fromkeys(("SourceSpec", "load_source", "source_of"), "spec"),
    "SiteMap": "mapping",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: an idle site reads its configuration, and must not hold pandas in memory for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'synthema.intake' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"synthema.intake.{_HOMES[name]}"), name)
