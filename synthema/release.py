"""An anonymised release from files to files: read, anonymise, judge, write; all of it decided by a policy.

What leaves is the table and, if asked for, its manifest. The report is internal: it holds exact counts of patients.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from anonymise.errors import AttackableRelease
from anonymise.lattice import Progress
from anonymise.release import Result, anonymise
from anonymise.report import ReleaseContext, RiskDocument, report_risk
from privacy import Schema
from synthema.outputs import INTERNAL, Outputs
from synthema.release_manifest import file_hash, manifest, manifest_text, software
from synthema.release_policy import ReleasePolicy
from synthema.tables import read_table

if TYPE_CHECKING:
    from synthema.exact_release import Recorded


@dataclass(frozen=True, slots=True)
class Decided:
    """A policy with the folder of its files and the schema that it names."""

    policy: ReleasePolicy
    folder: Path
    schema: Schema

    @classmethod
    def of(cls, policy: ReleasePolicy, folder: Path) -> Decided:
        """Return the policy with its schema. Raises SchemaError or PolicyError."""
        return cls(policy, folder, policy.load_schema(folder))

    @property
    def schema_file(self) -> Path:
        """Where the schema is."""
        return self.folder / self.policy.schema_file.file

    @property
    def population_file(self) -> Path | None:
        """Where the population table is, if there is one."""
        return None if self.policy.population is None else self.folder / self.policy.population.file

    @property
    def content_hash(self) -> str:
        """The policy's hash."""
        return self.policy.content_hash(self.schema)

    def what(self) -> str:
        """Return what is opened, in the public words of a ledger."""
        models = ", ".join(map(repr, self.policy.privacy_models))
        limit = self.policy.release.suppression_limit
        return (
            f"an anonymised table of {self.schema.name}: {models}; at most {limit:g} of the patients left out; "
            f"release policy {self.content_hash}"
        )

    def purpose(self) -> str:
        """Return what for, in the public words of a ledger."""
        return self.policy.context.purpose or f"anonymised table of {self.schema.name}"


@dataclass(frozen=True, slots=True, repr=False)
class Released:
    """What a run made.

    warning    what an algorithm that can be attacked says of itself, or None
    document   None unless a report was asked for
    """

    result: Result
    n_rows: int
    warning: str | None
    document: RiskDocument | None


def released(table: Path, decided: Decided, say: Callable[..., object], *, with_report: bool) -> Released:
    """Return the release of a CSV file under a policy. Raises what `read_table` and `anonymise` raise."""
    schema, policy = decided.schema, decided.policy
    say("reading the table")
    frame = read_table(table, schema)
    file = decided.population_file
    people = None if file is None else read_table(file, schema.subset(schema.quasi_identifiers))
    say("searching")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AttackableRelease)
        result = anonymise(frame, schema, population=people, progress=_told(say), **policy.arguments())
    told = [each for each in caught if issubclass(each.category, AttackableRelease)]
    for each in caught:
        if each not in told:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    document = None
    if with_report:
        say("counting risks")
        document = report_risk(
            frame,
            schema,
            released=result,
            models=policy.privacy_models,
            population=people,
            population_size=_population_size(policy),
            context=ReleaseContext(**dict(policy.context)),
        )
    return Released(result, len(frame), str(told[0].message) if told else None, document)


def stage(
    files: Outputs,
    made: Released,
    decided: Decided,
    recorded: Recorded | None,
    *,
    out: Path,
    manifest_file: Path | None,
    report: Path | None,
) -> None:
    """Write the table, its manifest and the report, not yet under their names."""
    beside = files.stage(out, lambda file: write_csv(made.result.table, decided.schema, file))
    if manifest_file is not None:
        body = manifest(
            decided.policy,
            decided.schema,
            node=made.result.node,
            file=out.name,
            sha256=file_hash(beside),
            recorded=recorded,
        )
        files.stage(manifest_file, lambda file: file.write(manifest_text(body)))
    if report is not None and made.document is not None:
        page = replace(made.document, provenance=provenance(decided, recorded)).to_html()
        files.stage(report, lambda file: file.write(page), mode=INTERNAL)


def write_csv(table: pd.DataFrame, schema: Schema, file: IO[str]) -> None:
    """Write rows in the order in which they were released, without an index."""
    # A whole number that may be missing is a double in the frame: 34 must not become 34.0.
    whole = {
        name: "Int64"
        for name in table.columns
        if schema.column(str(name)).kind == "integer" and table[name].dtype.kind == "f"
    }
    table.astype(whole).to_csv(file, index=False, lineterminator="\n")


def provenance(decided: Decided, recorded: Recorded | None) -> tuple[tuple[str, str], ...]:
    """Return how a release came about, for its report: names and hashes alone."""
    entry = "in none" if recorded is None else f"{recorded.key}, exact release {recorded.number} of {recorded.account}"
    return (
        ("Release policy (SHA-256)", decided.content_hash),
        ("Schema (SHA-256)", decided.schema.content_hash()),
        ("Software", ", ".join(f"{name} {number}" for name, number in software().items())),
        ("Ledger", entry),
    )


def _told(say: Callable[..., object]) -> Callable[[Progress], None]:
    """Return what tells people how far a search is, on their own screen."""

    def tell(now: Progress) -> None:
        found = "no release yet"
        if math.isfinite(now.score):
            found = f"best {now.score:.4g}, at most {max(0.0, now.score - now.bound):.2g} above the least"
        say(f"searching: {now.n_checked:,} combinations counted, {found}", same=True)

    return tell


def _population_size(policy: ReleasePolicy) -> int | None:
    sizes: list[Any] = [getattr(model, "population_size", None) for model in policy.privacy_models]
    return next((size for size in sizes if size is not None), None)
