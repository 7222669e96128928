"""`synthema pseudonymise`: keyed names in place of ids, and dates moved by patient, for tables inside a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.errors import argument_errors, errors, show
from synthema.cli.steps import progress

if TYPE_CHECKING:
    from anonymise import KeyDomain, KeyRing, PseudonymKey
    from privacy import Schema

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
_NOTE = (
    "This is no anonymous table: whoever holds the key can try ids, and all other columns are as they were. It stays "
    "personal data; keep the key apart from it. For a table that leaves the project: synthema anonymise."
)


def pseudonymise(
    table: Annotated[Path, typer.Argument(metavar="IN.csv", help="The rows.")],
    schema: Annotated[Path, typer.Option("--schema", metavar="SCHEMA.toml", help="The table's public description.")],
    column: Annotated[
        list[str],
        typer.Option(metavar="COLUMN[=FIELD]", help="Ids to replace; the field, where tables name one id differently."),
    ],
    key_file: Annotated[Path, typer.Option(metavar="FILE", help="The secret key, or key ring, of mode 0600.")],
    project: Annotated[str, typer.Option(help="Equal ids have equal names within a project and nowhere else.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.csv", help="Where the table goes.")],
    site: Annotated[str | None, typer.Option(help="Then only within this site of the project.")] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make the key; refused if there is one.")] = False,
    shift_dates: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Move dates by patient; may be repeated.")
    ] = None,
    max_days: Annotated[int | None, typer.Option(help="Largest shift of a patient's dates, in days.")] = None,
    keep_weekdays: Annotated[bool, typer.Option("--keep-weekdays", help="Shift by whole weeks.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Replace ids by keyed pseudonyms, and shift dates by patient. The result stays personal data.

    Identifiers that are not named are left out; rows come in a random order.
    """
    with errors(as_json=as_json), argument_errors(as_json=as_json):
        from anonymise import KeyDomain
        from anonymise import pseudonymise as names_of
        from privacy import Schema, SecureRng
        from synthema.errors import TableError
        from synthema.outputs import INTERNAL, outputs
        from synthema.release import write_csv
        from synthema.tables import read_table

        described = Schema.load(schema)
        fields = _fields(described, column)
        dates = shift_dates or []
        if bool(dates) != (max_days is not None):
            raise TableError("dates and how far they move are given together: --shift-dates COLUMN --max-days N")
        if dates and described.patient_id is None:
            raise TableError("dates are moved by patient: the schema must name a patient_id")
        with progress(quiet=as_json) as say, outputs(force=force) as files:
            files.check(out, inputs=[table, schema, key_file])
            key = _key(key_file, new=new_key)
            say("reading the table")
            frame = read_table(table, described)
            say("making pseudonyms")
            if dates:
                patient = str(described.patient_id)
                domain = KeyDomain(project, fields.get(patient, patient), site)
                frame = _shifted(frame, described, key, domain, dates, max_days, keep_weekdays=keep_weekdays)
            names = {
                name: names_of(frame[name], key, domain=KeyDomain(project, field, site))
                for name, field in fields.items()
            }
            hidden = [each.name for each in described.columns if each.role == "identifier" and each.name not in names]
            # Its order in the file would tell which row a name belongs to.
            made = frame.assign(**names).drop(columns=hidden).iloc[SecureRng().permutation(len(frame))]
            files.stage(out, lambda file: write_csv(made, described, file), mode=INTERNAL)
            files.commit()
        body = {"out": str(out), "pseudonyms": list(fields), "shifted": dates, "left_out": hidden, "note": _NOTE}
        show(body, _text(body), as_json=as_json)


def _fields(schema: Schema, texts: list[str]) -> dict[str, str]:
    """Return the field of each column; raise TableError for a column that is no identifier."""
    from synthema.errors import TableError

    fields: dict[str, str] = {}
    for text in texts:
        name, sign, field = text.partition("=")
        role = schema.column(name).role
        if role != "identifier":
            raise TableError(f"column {name!r} is {role} in the schema; pseudonyms are for identifiers")
        if name in fields:
            raise TableError(f"--column names {name!r} more than once")
        fields[name] = field if sign else name
    return fields


def _key(file: Path, *, new: bool) -> PseudonymKey | KeyRing:
    """Return the key, or the ring of keys, of a file; a new key is on the disk before anything is made with it."""
    from anonymise import KeyRing, PseudonymKey
    from synthema.errors import TableError

    if new:
        made = PseudonymKey.generate()
        try:
            made.save(file)
        except FileExistsError:
            raise TableError(
                f"{file.name} exists, and no key is ever replaced; leave --new-key out to use it"
            ) from None
        return made
    try:
        return PseudonymKey.from_file(file)
    except ValueError as error:
        try:
            return KeyRing.from_file(file)
        except ValueError:
            raise error from None


def _shifted(
    frame: Any,
    schema: Schema,
    key: PseudonymKey | KeyRing,
    domain: KeyDomain,
    dates: list[str],
    max_days: int | None,
    *,
    keep_weekdays: bool,
) -> Any:
    from anonymise import shift_dates
    from synthema.errors import TableError

    for name in dates:
        if schema.column(name).kind != "date":
            raise TableError(f"column {name!r} holds no dates in the schema (kind {schema.column(name).kind})")
    return shift_dates(
        frame,
        key,
        patient=str(schema.patient_id),
        dates=dates,
        domain=domain,
        max_days=0 if max_days is None else max_days,
        keep_weekdays=keep_weekdays,
    )


def _text(body: dict[str, Any]) -> str:
    lines = [f"{body['out']}: pseudonyms in {', '.join(body['pseudonyms'])}"]
    if body["shifted"]:
        lines.append(f"Moved by patient, intervals kept: {', '.join(body['shifted'])}.")
    if body["left_out"]:
        lines.append(f"Left out: {', '.join(body['left_out'])}.")
    return "\n".join([*lines, "", body["note"]])
