"""From a source and a map to data that fit the study's schema, checked before anything is shared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from generators.errors import GeneratorError
from generators.sql import SqlTable
from generators.tuples import group_tuples
from privacy import Schema, SchemaError, SchemaProblem
from synthema.errors import TableError
from synthema.intake.apply_map import mapped, unmapped
from synthema.intake.data import CountedData, FrameData, SiteData
from synthema.intake.databases import parquet_table, postgres_table, rows_of
from synthema.intake.delimited import read_delimited
from synthema.intake.excel import read_excel
from synthema.intake.mapping import SiteMap
from synthema.intake.raw import NumberForm, RawTable
from synthema.intake.redcap import read_dictionary, read_redcap
from synthema.intake.spec import (
    CsvSource,
    ExcelSource,
    ParquetSource,
    PostgresSource,
    SourceSpec,
    inside,
    read_site,
    source_of,
)
from synthema.intake.sql_map import mapped_table

# Fewest rows that share a code before it is shown, even at the site's own terminal.
LEAST_ROWS_SHOWN = 10


def read_source(
    spec: SourceSpec, schema: Schema, site_map: SiteMap | None = None, *, folder: str | Path
) -> pd.DataFrame:
    """Return a source's table in memory, as a frame that fits the schema.

    Parameters
    ----------
    spec
        Where the table is.
    schema
        The common schema.
    site_map
        From the site's columns, codes and units; None: the table has the schema's own.
    folder
        The folder of the file that the source was described in; paths are relative to it.

    Raises
    ------
    TableError
        The source cannot be read as it is declared.
    SchemaError
        The table does not fit: every problem, by column, without any value.
    """
    site_map = site_map or SiteMap()
    return mapped(read_raw(spec, site_map.wanted(schema), folder=folder), schema, site_map)


def open_source(spec: SourceSpec, schema: Schema, site_map: SiteMap | None = None, *, folder: str | Path) -> SiteData:
    """Return a source's data for a site: counted in place where the source says so, else in memory.

    Arguments and errors as `read_source`; a table whose tuples do not fit into memory is a TableError as well.
    """
    if not isinstance(spec, ParquetSource | PostgresSource) or spec.load == "frame":
        return FrameData(read_source(spec, schema, site_map, folder=folder), schema)
    with _table(spec, Path(folder)) as table:
        try:
            return CountedData(group_tuples(mapped_table(table, schema, site_map or SiteMap()), schema))
        except GeneratorError as error:
            # A patient twice, or too many tuples: both sentences are free of values.
            raise TableError(str(error)) from None


def check_source(
    spec: SourceSpec, schema: Schema, site_map: SiteMap | None = None, *, folder: str | Path
) -> list[SchemaProblem]:
    """Return everything that is wrong with a source, by column; empty if it fits. Arguments as `read_source`."""
    try:
        open_source(spec, schema, site_map, folder=folder)
    except SchemaError as error:
        return list(error.problems)
    except TableError as error:
        return [SchemaProblem("-", str(error), "")]
    return []


def unmapped_codes(
    spec: SourceSpec,
    schema: Schema,
    site_map: SiteMap | None = None,
    *,
    folder: str | Path,
    at_least: int = LEAST_ROWS_SHOWN,
) -> dict[str, list[str]]:
    """Return, by column, source codes that the map does not cover and that many rows share: PRIVATE.

    For the site's own terminal. Never fewer than 10 rows, whatever is asked. Raises TableError.
    """
    site_map = site_map or SiteMap()
    raw = read_raw(spec, site_map.wanted(schema), folder=folder)
    return unmapped(raw, schema, site_map, at_least=max(at_least, LEAST_ROWS_SHOWN))


def read_raw(spec: SourceSpec, wanted: tuple[str, ...], *, folder: str | Path) -> RawTable:
    """Return the source's columns as texts, before any map. Raises TableError."""
    folder = Path(folder)
    if isinstance(spec, ParquetSource | PostgresSource):
        with _table(spec, folder) as table:
            name = spec.table if isinstance(spec, PostgresSource) else Path(spec.path).name
            return rows_of(table, name, wanted, most_rows=spec.max_rows)
    path = spec.file(folder)
    if isinstance(spec, ExcelSource):
        return read_excel(
            path,
            wanted,
            sheet=spec.sheet,
            header_row=spec.header_row,
            max_unpacked_megabytes=spec.max_unpacked_megabytes,
        )
    numbers = NumberForm(spec.decimal, spec.thousands)
    raw = path.read_bytes()
    if isinstance(spec, CsvSource):
        return read_delimited(path.name, raw, wanted, delimiter=spec.delimiter, encoding=spec.encoding, numbers=numbers)
    dictionary = inside(folder / spec.root, spec.dictionary)
    return read_redcap(
        path.name,
        raw,
        read_dictionary(dictionary.name, dictionary.read_bytes()),
        wanted,
        form=spec.form,
        values=spec.values,
        event=spec.event,
        repeats=spec.repeats,
        encoding=spec.encoding,
        numbers=numbers,
    )


@dataclass(frozen=True, slots=True)
class SiteSource:
    """A site's `[data]` section with what it names: the source, the common schema, and the map."""

    spec: SourceSpec
    schema: Schema
    site_map: SiteMap
    folder: Path

    @classmethod
    def load(cls, path: str | Path, *, schema: Schema | None = None) -> SiteSource:
        """Read a site's TOML and the files that it names beside it: map, and schema (`[data]`'s own, or the site's).

        `schema`: instead of the one that is named. Raises TableError or SchemaError.
        """
        folder, data = Path(path).parent, read_site(path)
        section = data["data"]
        if schema is None:
            named = section.get("schema", data.get("schema"))
            if not isinstance(named, str):
                raise TableError(f'{Path(path).name} names no schema: write schema = "schema.toml"')
            schema = Schema.load(folder / named)
        return cls.of(section, schema, folder=folder)

    @classmethod
    def of(cls, section: Mapping[str, Any], schema: Schema, *, folder: str | Path) -> SiteSource:
        """Return the source that a `[data]` section describes; `folder`: of the file that it stands in."""
        spec, folder = source_of(section), Path(folder)
        site_map = SiteMap() if spec.map_path is None else SiteMap.load(folder / spec.map_path)
        return cls(spec, schema, site_map, folder)

    def open(self) -> SiteData:
        """Return the data; see `open_source`."""
        return open_source(self.spec, self.schema, self.site_map, folder=self.folder)

    def check(self) -> list[SchemaProblem]:
        """Return everything that is wrong; see `check_source`."""
        return check_source(self.spec, self.schema, self.site_map, folder=self.folder)

    def unmapped_codes(self, *, at_least: int = LEAST_ROWS_SHOWN) -> dict[str, list[str]]:
        """Return frequent codes that the map does not cover: PRIVATE; see `unmapped_codes`."""
        return unmapped_codes(self.spec, self.schema, self.site_map, folder=self.folder, at_least=at_least)


def _table(spec: ParquetSource | PostgresSource, folder: Path) -> AbstractContextManager[SqlTable]:
    return parquet_table(spec, folder) if isinstance(spec, ParquetSource) else postgres_table(spec, folder)
