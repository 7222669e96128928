"""The packaged AML schema."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from privacy import Schema


def aml_schema() -> Schema:
    """Return the schema of the AML example.

    Examples
    --------
    >>> schema = aml_schema()
    >>> len(schema.columns), len(schema.modelled)
    (144, 144)
    """
    return Schema.load(aml_schema_file())


def aml_schema_file() -> Path:
    """Return the packaged TOML file."""
    return Path(str(resources.files("synthema"))) / "data" / "aml" / "schema.toml"
