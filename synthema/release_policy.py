"""The policy of an anonymised release: everything that decides what the released table shows, but for the rows.

A policy is a TOML file. It names the schema (and the hash of its content), the privacy models, how much may be
suppressed and what is lost least. The order of the released rows is random and in no policy: running a policy again on
the same rows gives the same rows in another order.

    version = 1

    [schema]
    file = "clinic.toml"            # beside the policy
    sha256 = "..."                  # of the schema's content; a schema that changed is refused

    [release]
    suppression_limit = 0.02
    quality = "loss"

    [[models]]
    model = "k-anonymity"
    k = 5
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from anonymise.models import AnyModel
from privacy import Schema
from privacy._toml import dump_toml
from synthema.errors import PolicyError
from synthema.release_models import model_of, terms_of
from synthema.signing import canonical_json

FORMAT: Final = "synthema-release-policy"
VERSION: Final = 1


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class SchemaFile(_Section):
    """Where the schema is, from the policy's folder, and what it must hold."""

    file: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class PopulationFile(_Section):
    """The table of everybody the patients come from, from the policy's folder."""

    file: str = Field(min_length=1)


class Release(_Section):
    """What is passed on to `anonymise.anonymise` as it is; the names are its own."""

    suppression_limit: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    quality: str = "loss"
    weights: dict[str, float] | None = None
    suppression_factor: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    target: str | None = None
    algorithm: str = "optimal"
    static: tuple[str, ...] = ()
    # Seconds. What a search has found when it is stopped depends on the machine.
    time_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Context(_Section):
    """What a person has to say about the release: `anonymise.report.ReleaseContext`."""

    recipient: str = ""
    purpose: str = ""
    access: str = ""
    safeguards: str = ""
    approved_by: str = ""
    review: str = ""


class ReleasePolicy(_Section):
    """A policy, checked.

    Examples
    --------
    >>> policy = ReleasePolicy.from_dict({
    ...     "version": 1, "schema": {"file": "clinic.toml"},
    ...     "models": [{"model": "k-anonymity", "k": 5}],
    ... })
    >>> policy.privacy_models
    (KAnonymity(k=5),)
    """

    version: Literal[1] = VERSION
    schema_file: SchemaFile = Field(alias="schema")
    release: Release = Release()
    models: tuple[dict[str, Any], ...] = Field(min_length=1)
    population: PopulationFile | None = None
    context: Context = Context()

    @field_validator("models")
    @classmethod
    def _checked(cls, models: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        # Written in one form, so that equal policies have equal hashes.
        return tuple(terms_of(model_of(terms)) for terms in models)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the policy of parsed TOML. Raises PolicyError with all problems at once."""
        if data.get("version") != VERSION:
            raise PolicyError(f"version must be {VERSION}, the format of this release policy; put it first in the file")
        try:
            return cls(**_tuples(data))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or 'policy'}: {item['msg']}" for item in error.errors()]
            raise PolicyError("; ".join(problems)) from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a TOML file. Raises PolicyError."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
            raise PolicyError(f"policy file {path.name} cannot be read ({reason}); give a UTF-8 TOML file") from None
        return cls.from_dict(data)

    def load_schema(self, folder: str | Path) -> Schema:
        """Return the schema. Raises SchemaError, or PolicyError if its content is not the policy's."""
        schema = Schema.load(Path(folder) / self.schema_file.file)
        if self.schema_file.sha256 not in (None, schema.content_hash()):
            raise PolicyError(
                f"the content of {Path(self.schema_file.file).name} is not what this policy was made for; "
                "restore the schema, or decide anew and leave schema.sha256 out"
            )
        return schema

    @property
    def privacy_models(self) -> tuple[AnyModel, ...]:
        """The privacy models."""
        return tuple(model_of(terms) for terms in self.models)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `anonymise.anonymise`, but for the table, the schema and the population."""
        return {"models": self.privacy_models, **dict(self.release)}

    def content_hash(self, schema: Schema) -> str:
        """Return the SHA-256 of what the policy says, wherever its files lie.

        The order of models does not count. A population counts as there or not there: its rows are private.
        """
        body = self.model_dump(mode="json", by_alias=True, exclude={"schema_file", "population", "models"})
        body |= {
            "format": FORMAT,
            "schema": schema.content_hash(),
            "models": sorted(self.models, key=canonical_json),
            "population": self.population is not None,
        }
        return hashlib.sha256(canonical_json(body)).hexdigest()

    def to_toml(self) -> str:
        """Return TOML that `load` reads back to an equal policy."""
        body = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return dump_toml({"version": VERSION, **{name: body[name] for name in sorted(body, key=_place) if body[name]}})


def _place(name: str) -> int:
    return ["version", "schema", "release", "models", "population", "context"].index(name)


def _tuples(value: Any) -> Any:
    """Return parsed TOML with lists as tuples, which is what the frozen values hold; models check their own."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {
            key: list(item) if key == "attribute" and isinstance(item, list) else _tuples(item)
            for key, item in value.items()
        }
    return value
