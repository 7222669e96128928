"""`synthema generate`: synthetic patients from one CSV file, paid from a ledger if there is one."""

from __future__ import annotations

import base64
import hashlib
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.errors import errors, generator_errors, show
from synthema.cli.ledger_common import OptionalKey, Passphrase, opened, plain, signer_of
from synthema.cli.steps import progress

if TYPE_CHECKING:
    from generators import GraphicalModel
    from generators.mechanism import Mechanism

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
SchemaFile = Annotated[Path, typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.")]

_NO_LEDGER = (
    "No ledger was charged: this command does not know what was released of these rows before, and nothing stops the "
    "same rows from being used again. Give --ledger and --account to have the site's budget pay for it."
)


def generate(
    table: Annotated[Path, typer.Argument(metavar="IN.csv", help="The private rows.")],
    schema: SchemaFile,
    epsilon: Annotated[float, typer.Option(help="Privacy budget of this release.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.csv", help="Where the synthetic rows go.")],
    delta: Annotated[float, typer.Option(help="Far below one in the number of patients.")] = 1e-9,
    mechanism: Annotated[
        str, typer.Option(help="How: adaptive, aim, mst, privbayes, chow-liu or independent.")
    ] = "adaptive",
    rows: Annotated[
        int | None, typer.Option("-n", "--rows", help="How many; by default the noisy number of real rows.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE.synthema", help="Also keep the model: it gives more rows.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", metavar="LEDGER.db", help="Ledger that pays, or postgresql://...")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account of that ledger.")] = None,
    spend_key: Annotated[
        str | None,
        typer.Option(
            help="Name of this spend: the same name later gives the same model and costs nothing. By default made of "
            "the file's name, the schema, the mechanism and the budget; a file that changed needs a name of its own."
        ),
    ] = None,
    key: OptionalKey = None,
    passphrase_file: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Make synthetic patients from a CSV file, with differential privacy."""
    with errors(as_json=as_json), generator_errors(as_json=as_json):
        from privacy import Schema
        from synthema.errors import TableError
        from synthema.tables import read_table

        if (ledger is None) != (account is None):
            raise TableError("a ledger and its account are given together: --ledger LEDGER.db --account NAME")
        if rows is not None and rows < 1:
            raise TableError(f"-n must be at least 1, got {rows}")
        kind = _mechanism(mechanism)
        described = Schema.load(schema)
        with progress(quiet=as_json) as say:
            say("reading the table")
            frame = read_table(table, described)
            if ledger is None or account is None:
                say("fitting the model")
                made = kind(epsilon=epsilon, delta=delta).fit(frame, described)
                paid = None
            else:
                signer = None if key is None else signer_of(key, passphrase_file)
                version = described.content_hash()[:12]
                name = spend_key or f"generate/{table.name}/{version}/{mechanism}/{epsilon:g}/{delta:g}"
                with opened(ledger, signer=signer) as book:
                    say("fitting the model, paid from the ledger")
                    made, paid = _paid_fit(book, account, name, kind, (epsilon, delta), frame, described)
            say("drawing the rows")
            n_rows = max(1, round(made.total)) if rows is None else rows
            made.sample(n_rows).to_csv(out, index=False)
            if model is not None:
                made.save(model)
        body = _generated(made, out, n_rows, model, delta=delta, paid=paid)
        show(plain(body), _generated_text(body), as_json=as_json)


def _paid_fit(
    book: Any, account: str, name: str, kind: type[Mechanism], budget: tuple[float, float], frame: Any, described: Any
) -> tuple[GraphicalModel, dict[str, Any]]:
    """Fit inside a spend: charged before a row is counted, the model kept as the stored answer.

    What can be refused is refused before: a table that no model is made of costs nothing.
    """
    from generators import GraphicalModel, LocalTableOracle
    from generators.encoding import check_decodable
    from privacy import ZeroConcentratedDP
    from synthema.errors import TableError

    neighbours = _neighbours(book, account)
    mechanism = kind(epsilon=budget[0], delta=budget[1], neighbours=neighbours)
    check_decodable(described)
    oracle = LocalTableOracle(frame, described, neighbours=neighbours)
    # What the mechanism's parts cost may exceed its budget in the last bits; what is charged must not be less.
    event = ZeroConcentratedDP(mechanism.rho * (1 + 1e-9))
    purpose = f"{mechanism.name} model for synthetic rows of {described.name}"
    with book.spend(account, event, key=name, purpose=purpose) as spend:
        again = spend.stored is not None
        if not again:
            made = mechanism.fit(None, described, oracle=oracle)
            _check_within(made, event.rho)
            spend.release(_packed(made))
        answer = spend.stored
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.synthema"
        data = base64.b64decode(answer["model"])
        if hashlib.sha256(data).hexdigest() != answer["sha256"]:
            raise TableError("the stored answer of this spend is no model: give another --spend-key")
        file.write_bytes(data)
        made = GraphicalModel.load(file)
    left = book.remaining(account)
    paid = {
        "account": account,
        "key": name,
        "charged": not again,
        "epsilon_spent": left.epsilon_spent,
        "epsilon_cap": left.epsilon_cap,
        "delta_cap": left.delta_cap,
    }
    return made, paid


def _packed(made: GraphicalModel) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.synthema"
        made.save(file)
        data = file.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "model": base64.b64encode(data).decode("ascii")}


def _check_within(made: GraphicalModel, rho: float) -> None:
    """Raise unless the events that happened cost no more than what was charged."""
    from privacy import ZcdpAccountant

    accountant = ZcdpAccountant(neighbours=made.neighbours)
    for event in made.events:
        accountant.compose(event)
    if accountant.rho > rho:
        raise RuntimeError("the mechanism spent more than it was given; the model is withheld")


def _neighbours(book: Any, account: str) -> Any:
    known = {each.name: each for each in book.accounts()}
    return known[account].neighbours if account in known and known[account].neighbours else "add_remove_one"


def _mechanism(name: str) -> type[Mechanism]:
    import generators
    from generators.mechanism import Mechanism
    from synthema.errors import TableError

    found = [getattr(generators, each) for each in generators.__all__]
    kinds = {kind.name: kind for kind in found if isinstance(kind, type) and issubclass(kind, Mechanism)}
    for known, kind in kinds.items():
        if known.replace("-", "") == name.lower().replace("-", "").replace("_", ""):
            return kind
    raise TableError(f"no mechanism is called {name!r}; there are {', '.join(sorted(kinds))}")


def _generated(
    made: GraphicalModel, out: Path, n_rows: int, model: Path | None, *, delta: float, paid: dict[str, Any] | None
) -> dict[str, Any]:
    from privacy.events import event_to_json

    return {
        "out": str(out),
        "rows": n_rows,
        "mechanism": made.mechanism,
        "model": None if model is None else str(model),
        "neighbours": made.neighbours,
        "epsilon": _epsilon(made, delta),
        "delta": delta,
        "events": [event_to_json(event) for event in made.events],
        "ledger": paid,
        "note": None if paid else _NO_LEDGER,
    }


def _epsilon(made: GraphicalModel, delta: float) -> float:
    from privacy import ZcdpAccountant

    accountant = ZcdpAccountant(neighbours=made.neighbours)
    for event in made.events:
        accountant.compose(event)
    return accountant.epsilon(delta=delta)


def _generated_text(body: dict[str, Any]) -> str:
    from privacy._formats import bound_above

    who = "one patient more or less" if body["neighbours"] == "add_remove_one" else "one patient replaced by another"
    lines = [f"{body['rows']:,} synthetic patients in {body['out']}, by {body['mechanism']}"]
    if body["model"]:
        lines.append(f"The model is in {body['model']}: it gives any number of rows at no further cost.")
    cost = f"epsilon {bound_above(body['epsilon'], 3)} at delta {body['delta']:g}, against {who}"
    lines += ["", f"What it cost: {cost}."]
    lines.append(
        f"That is: because of any one patient, nothing that these rows show became more than "
        f"{_times(body['epsilon'])} times as likely, but for a chance of {body['delta']:g}."
    )
    lines.append(f"Releases: {_counted(body['events'])}.")
    paid = body["ledger"]
    if paid is None:
        return "\n".join([*lines, "", f"NOT IN ANY LEDGER. {body['note']}"])
    what = "charged" if paid["charged"] else "charged earlier, nothing now: the same model"
    spent = f"epsilon {paid['epsilon_spent']:.3f} of {paid['epsilon_cap']:g} is spent at delta {paid['delta_cap']:g}"
    return "\n".join([*lines, f"Account {paid['account']}: {what}; {spent}."])


def _times(epsilon: float) -> str:
    return f"{math.exp(epsilon):,.1f}" if epsilon < 20 else f"e^{epsilon:.0f}"


def _counted(events: list[dict[str, Any]]) -> str:
    kinds: dict[str, int] = {}
    for event in events:
        kinds[str(event["kind"])] = kinds.get(str(event["kind"]), 0) + 1
    return ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
