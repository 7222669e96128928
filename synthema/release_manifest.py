"""What is told with an anonymised table: how it came about, as JSON without a value or a count of patients.

It names the policy by its hash, the schema by its hash, the models, the level of each quasi-identifier, the versions of
what made the table, and the entry in the ledger. How many rows were left out, the score, and whether the optimum was
proven depend on exact counts: they stay in the internal report.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anonymise.hierarchies import build_hierarchy
from privacy import Schema
from synthema.release_policy import ReleasePolicy

if TYPE_CHECKING:
    from synthema.exact_release import Recorded

FORMAT: Final = "synthema-release-manifest"
VERSION: Final = 1
_NOTICE: Final = (
    "No epsilon covers this table: its models protect against being told apart by the quasi-identifiers, in this table "
    "alone. Values of the other columns are as they were."
)


def manifest(
    policy: ReleasePolicy,
    schema: Schema,
    *,
    node: Mapping[str, int] | None,
    file: str,
    sha256: str,
    recorded: Recorded | None,
) -> dict[str, Any]:
    """Return the manifest of a table that was written to a file with this hash."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "table": schema.name,
        "file": file,
        "sha256": sha256,
        "policy_sha256": policy.content_hash(schema),
        "schema_sha256": schema.content_hash(),
        "models": [repr(model) for model in policy.privacy_models],
        "algorithm": policy.release.algorithm,
        "node": None if node is None else dict(node),
        "levels": levels_of(schema, node),
        "software": software(),
        "ledger": None
        if recorded is None
        else {"ledger_id": recorded.ledger_id, "account": recorded.account, "key": recorded.key},
        "notice": _NOTICE,
    }


def levels_of(schema: Schema, node: Mapping[str, int] | None) -> dict[str, int] | None:
    """Return how many levels each quasi-identifier has, the one without any change included."""
    return None if node is None else {name: build_hierarchy(schema.column(name)).n_levels for name in node}


def manifest_text(body: Mapping[str, Any]) -> str:
    """Return it as the file's text."""
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def software() -> dict[str, str]:
    """Return the versions of what makes a release."""
    return {"python": platform.python_version(), **{name: _version(name) for name in ("synthema", "numpy", "pandas")}}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # Run from a copy of the source that was never installed.
        return "unknown"
