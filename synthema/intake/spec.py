"""Where a site's table is: the `[data]` section of its TOML, one model for each kind of source.

A path is relative to the TOML's folder, or to `root`, and stays inside it: symbolic links that lead out are refused. A
database's address holds a password, so it stands in an environment variable or a file of mode 0600, never in the text.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from privacy._secret_files import read_secret
from synthema.errors import TableError

Sign = Annotated[str, Field(min_length=1, max_length=1)]
RelativePath = Annotated[str, Field(min_length=1, max_length=1000)]
_MOST_ADDRESS_BYTES = 4096


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_path: RelativePath | None = Field(default=None, alias="schema")
    map_path: RelativePath | None = Field(default=None, alias="map")


class _FileSource(_Source):
    path: RelativePath
    root: str = "."
    max_megabytes: int = Field(default=512, ge=1, le=1 << 20)

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        pure = PurePosixPath(value)
        if pure.is_absolute() or ".." in pure.parts or "\0" in value:
            raise ValueError("must be relative, without '..': set root to the folder that holds the data")
        return value

    def file(self, folder: Path) -> Path:
        """Return the real path of the source. Raises TableError if it is no regular file inside the root, or too big.

        `folder`: that of the TOML.
        """
        path = inside(folder / self.root, self.path)
        if path.stat().st_size > self.max_megabytes << 20:
            raise TableError(
                f"{path.name} is larger than max_megabytes = {self.max_megabytes}: raise it if memory allows, or keep "
                "the table in Parquet or PostgreSQL, where it is counted in place"
            )
        return path


class _Text(_FileSource):
    """What texts that hold numbers look like: nothing of it is guessed."""

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError("decimal and thousands must be different signs")
        return self


class CsvSource(_Text):
    """A text file, a row a line. `delimiter` and `encoding` are found where that is safe, else to be declared."""

    kind: Literal["csv"]
    delimiter: Literal["auto", ",", ";", "\t", "|", " ", ":"] = "auto"
    encoding: Literal["auto", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "windows-1252", "latin-1"] = "auto"


class ExcelSource(_FileSource):
    """One sheet of an .xlsx workbook; its first filled row, or `header_row`, names the columns."""

    kind: Literal["excel"]
    sheet: str | None = None
    header_row: int = Field(default=1, ge=1, le=1000)
    max_megabytes: int = Field(default=64, ge=1, le=4096)
    max_unpacked_megabytes: int = Field(default=256, ge=1, le=4096)


class RedcapSource(_Text):
    """A REDCap export with its data dictionary. `values`: what the table then holds for coded fields."""

    kind: Literal["redcap"]
    dictionary: RelativePath
    form: Literal["raw", "labels"] = "raw"
    values: Literal["labels", "codes"] = "labels"
    event: str | None = None
    repeats: Literal["refuse", "drop"] = "refuse"
    encoding: Literal["auto", "utf-8", "windows-1252", "latin-1"] = "auto"

    @model_validator(mode="after")
    def _labels_have_no_codes(self) -> Self:
        if self.form == "labels" and self.values == "codes":
            raise ValueError("a labels export holds no codes: export raw, or set values = 'labels'")
        return self


class _Counted(_Source):
    """A table that can stay where it is. `load`: whether it is counted there, or read into memory."""

    load: Literal["count", "frame"] = "count"
    max_rows: int = Field(default=1_000_000, ge=1, le=100_000_000)


class ParquetSource(_Counted, _FileSource):
    """A Parquet file, counted by DuckDB in as much memory as it is given; `max_rows` for `load = "frame"`."""

    kind: Literal["parquet"]
    max_megabytes: int = Field(default=1 << 20, ge=1, le=1 << 24)
    memory_megabytes: int = Field(default=1024, ge=64, le=1 << 20)
    threads: int = Field(default=2, ge=1, le=64)


class PostgresSource(_Counted):
    """A table or view in PostgreSQL, read in one read-only transaction. Its address: `dsn_env` or `dsn_file`."""

    kind: Literal["postgres"]
    table: str = Field(min_length=1, max_length=63)
    namespace: str | None = Field(default=None, min_length=1, max_length=63)
    dsn_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    dsn_file: RelativePath | None = None
    timeout_seconds: int = Field(default=600, ge=1, le=86_400)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.dsn_env is None) == (self.dsn_file is None):
            raise ValueError("give dsn_env (an environment variable) or dsn_file (mode 0600), never the address itself")
        return self

    def address(self, folder: Path) -> str:
        """Return the database's address: a secret. Raises TableError."""
        if self.dsn_env is not None:
            address = os.environ.get(self.dsn_env, "")
            if not address:
                raise TableError(f"the environment variable {self.dsn_env} with the database's address is not set")
            return address
        try:
            text = read_secret(folder / str(self.dsn_file), most_bytes=_MOST_ADDRESS_BYTES).decode()
        except (ValueError, OSError) as error:
            # The text of a decoding error would quote the address.
            reason = str(error) if type(error) is ValueError else type(error).__name__
            raise TableError(f"the file with the database's address cannot be used: {reason}") from None
        return text.strip()


SourceSpec = Annotated[
    CsvSource | ExcelSource | RedcapSource | ParquetSource | PostgresSource, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


def source_of(data: Mapping[str, Any]) -> SourceSpec:
    """Return a `[data]` section as its model. Raises TableError naming every wrong entry.

    Examples
    --------
    >>> source_of({"kind": "csv", "path": "aml.csv", "decimal": ","}).delimiter
    'auto'
    """
    try:
        return _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        raise TableError(f"[data]: {told(error, skip=1)}") from None


def told(error: ValidationError, *, skip: int = 0) -> str:
    """Return every wrong entry of a document in one line, without its values; `skip`: outermost names to leave out."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'][skip:])) or 'as a whole'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_input=False, include_url=False)
    )


def load_source(path: str | Path) -> SourceSpec:
    """Read the `[data]` section of a site's TOML. Raises TableError."""
    return source_of(read_site(path)["data"])


def read_site(path: str | Path) -> dict[str, Any]:
    """Read a site's TOML, which must have a `[data]` section. Raises TableError."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise TableError(f"{path.name} cannot be read ({reason})") from None
    section = data.get("data")
    if not isinstance(section, dict):
        raise TableError(f"{path.name} has no [data] section: say where the site's table is")
    return data


def inside(root: Path, path: str) -> Path:
    """Return the real path of a regular file below the root. Raises TableError, also if a link leads out of it."""
    name = PurePosixPath(path).name
    try:
        real_root = root.resolve(strict=True)
        real = (real_root / path).resolve(strict=True)
        if not real.is_relative_to(real_root):
            raise TableError(f"{name} lies outside the data's folder: put it there, or set root")
        if not stat.S_ISREG(real.stat().st_mode):
            raise TableError(f"{name} is not a regular file")
    except (OSError, RuntimeError) as error:
        raise TableError(f"{name} cannot be read ({type(error).__name__}); check the path and permissions") from None
    return real
