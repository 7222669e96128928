"""`synthema anonymise`: a table without people from one CSV file, recorded in a ledger if there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli import model_options as model
from synthema.cli.errors import argument_errors, errors, show
from synthema.cli.ledger_common import OptionalKey, Passphrase, opened, plain, signer_of
from synthema.cli.steps import progress

if TYPE_CHECKING:
    from synthema.cli.model_grammar import ModelOptions
    from synthema.exact_release import Recorded
    from synthema.release import Decided

_SEARCH, _FILES, _LEDGER = "What is lost least", "Files", "Ledger"
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]


def anonymise(
    table: Annotated[Path, typer.Argument(metavar="IN.csv", help="The private rows.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.csv", help="Where the table goes.", rich_help_panel=_FILES)
    ],
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.", rich_help_panel=_FILES),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="POLICY.toml", help="Schema, models and search in one file.", rich_help_panel=_FILES
        ),
    ] = None,
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
    population: model.Population = None,
    suppression: Annotated[
        float | None,
        typer.Option("--suppression", help="Largest share left out; 0 by default.", rich_help_panel=_SEARCH),
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="What is lost least; loss by default.", rich_help_panel=_SEARCH)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NUMBER,...", help="How much a column matters; 1 by default.", rich_help_panel=_SEARCH
        ),
    ] = None,
    suppression_factor: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Below 0.5, leaving rows out is cheap; above, generalising.", rich_help_panel=_SEARCH
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What --quality classification predicts.", rich_help_panel=_SEARCH),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="optimal; or, less loss and open to attacks: mondrian, local, cell_suppression.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Has one value a patient; may be repeated.", rich_help_panel=_SEARCH),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Then the best so far, with its gap.", rich_help_panel=_SEARCH),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="R.html", help="INTERNAL page: the risk before and after.", rich_help_panel=_FILES),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="M.json", help="How the table came about, to pass on with it.", rich_help_panel=_FILES),
    ] = None,
    save_policy: Annotated[
        Path | None,
        typer.Option(metavar="POLICY.toml", help="Keep what is run here, to run it again.", rich_help_panel=_FILES),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.", rich_help_panel=_FILES)] = False,
    ledger: Annotated[
        str | None,
        typer.Option(metavar="LEDGER.db", help="Ledger that records it, or postgresql://...", rich_help_panel=_LEDGER),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Account of that ledger for exact releases.", rich_help_panel=_LEDGER)
    ] = None,
    spend_key: Annotated[
        str | None, typer.Option(help="Name of this release, good for one; else a new one.", rich_help_panel=_LEDGER)
    ] = None,
    key: OptionalKey = None,
    passphrase_file: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Anonymise a table: generalise and leave out as little as the privacy models allow, with proof.

    No epsilon covers the result. Sensitive and insensitive columns leave as they are; identifiers do not leave.
    """
    with errors(as_json=as_json), argument_errors(as_json=as_json):
        from synthema.cli.anonymise_text import release_body, release_text
        from synthema.cli.model_grammar import ModelOptions, weights_of
        from synthema.errors import TableError
        from synthema.outputs import outputs
        from synthema.release import released, stage

        if (ledger is None) != (account is None):
            raise TableError("a ledger and its account are given together: --ledger LEDGER.db --account NAME")
        if not table.exists() or table.is_dir():
            raise TableError(f"{table.name} is not there; give the CSV file of the rows")
        models = ModelOptions(
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
        terms = {
            "suppression_limit": suppression,
            "quality": quality,
            "weights": weights_of(weights, "--weights") if weights else None,
            "suppression_factor": suppression_factor,
            "target": target,
            "algorithm": algorithm,
            "static": static,
            "time_limit": time_limit,
        }
        given = {name: value for name, value in terms.items() if value is not None}
        decided = _decided(policy, schema, models, population, given)
        with progress(quiet=as_json) as say, outputs(force=force) as files:
            read = [table, policy, decided.schema_file, decided.population_file]
            files.check(out, report, manifest, save_policy, inputs=read)
            with _recorded(ledger, account, decided, spend_key, key, passphrase_file) as entry:
                made = released(table, decided, say, with_report=report is not None)
                say("writing")
                if save_policy is not None:
                    kept = _moved(decided, save_policy).to_toml()
                    files.stage(save_policy, lambda file: file.write(kept))
                stage(files, made, decided, entry, out=out, manifest_file=manifest, report=report)
                files.commit()
        places = {"out": out, "report": report, "manifest": manifest, "policy": save_policy}
        body = release_body(
            made, decided, entry, {name: str(file) for name, file in places.items() if file is not None}
        )
        show(plain(body), release_text(body), as_json=as_json)


def _decided(
    policy: Path | None, schema: Path | None, models: ModelOptions, population: Path | None, release: dict[str, Any]
) -> Decided:
    """Return what the policy file says, or what the options say; never a mixture. Raises PolicyError."""
    from synthema.errors import PolicyError
    from synthema.release import Decided
    from synthema.release_policy import VERSION, ReleasePolicy

    if policy is not None:
        if schema is not None or models.given or population is not None or release:
            raise PolicyError("--policy says it all: give no --schema, models or search options beside it")
        return Decided.of(ReleasePolicy.load(policy), policy.parent)
    if schema is None:
        raise PolicyError("give --schema SCHEMA.toml, or a --policy that names one")
    if not models.given:
        raise PolicyError("give at least one privacy model, such as --k 5, or a --policy")
    body: dict[str, Any] = {"version": VERSION, "schema": {"file": str(schema)}, "release": release}
    body["models"] = list(models.terms())
    if population is not None:
        body["population"] = {"file": str(population)}
    return Decided.of(ReleasePolicy.from_dict(body), Path())


def _moved(decided: Decided, file: Path) -> Any:
    """Return the policy as it must read in another file: paths from there, and the schema's hash."""
    from synthema.release_policy import PopulationFile, SchemaFile

    def path(place: Path) -> str:
        return Path(os.path.relpath(place.absolute(), file.absolute().parent)).as_posix()

    people = decided.population_file
    return decided.policy.model_copy(
        update={
            "schema_file": SchemaFile(file=path(decided.schema_file), sha256=decided.schema.content_hash()),
            "population": None if people is None else PopulationFile(file=path(people)),
        }
    )


@contextmanager
def _recorded(
    ledger: str | None,
    account: str | None,
    decided: Decided,
    spend_key: str | None,
    key: Path | None,
    passphrase_file: Path | None,
) -> Iterator[Recorded | None]:
    """Record the release if a ledger was given: charged on entering, before a row is read."""
    if ledger is None or account is None:
        yield None
        return
    from synthema.exact_release import recorded

    signer = None if key is None else signer_of(key, passphrase_file)
    with opened(ledger, signer=signer) as book:
        charged = False
        try:
            with recorded(
                book, account, what=decided.what(), purpose=decided.purpose(), table=decided.schema.name, key=spend_key
            ) as entry:
                charged = True
                yield entry
        except Exception:
            if charged:
                print(f"synthema: account {account} counts this run as a release all the same", file=sys.stderr)
            raise
