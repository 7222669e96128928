"""`synthema ledger`: what a site does with its budget history. What auditors and witnesses do is in `ledger_audit`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from synthema.cli import ledger_audit, ledger_keys
from synthema.cli.errors import NOT_VERIFIED, show
from synthema.cli.ledger_common import (
    AnchorFile,
    File,
    Json,
    Key,
    OptionalKey,
    Passphrase,
    ledger_errors,
    opened,
    plain,
    signer_of,
    url_of,
)

ledger_app = typer.Typer(
    help="A site's budget history: make it, show it, sign it, copy it; verify and witness that of others.",
    no_args_is_help=True,
)
ledger_app.command("init")(ledger_keys.init)


@ledger_app.command("show")
def ledger_show(
    file: File,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE.html", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Print a ledger's accounts: what was spent and when, what is left, what is reserved."""
    with ledger_errors(as_json=as_json):
        from synthema.cli.ledger_view import ledger_summary, ledger_text

        summary = ledger_summary(file)
        if html is not None:
            from synthema.report.ledger import ledger_page

            html.write_text(ledger_page(summary), encoding="utf-8")
            summary["page"] = str(html)
        show(plain(summary), ledger_text(summary), as_json=as_json)


@ledger_app.command("quote")
def ledger_quote(
    file: File,
    account: Annotated[str, typer.Argument(help="Name of the account.")],
    events: Annotated[list[str], typer.Argument(metavar="EVENT...", help="Releases; see `synthema account`.")],
    as_json: Json = False,
) -> None:
    """Say what releases would cost an account, and whether they fit. Charges nothing."""
    with ledger_errors(as_json=as_json):
        from dataclasses import asdict

        from privacy.events import Repeated
        from synthema.cli.event_grammar import parse_events

        uses = [event if count == 1 else Repeated(event, count) for event, count in parse_events(events)]
        with opened(file) as ledger:
            quote = ledger.dry_run(account, uses)
        show(plain(asdict(quote)), str(quote), as_json=as_json)


@ledger_app.command("void")
def ledger_void(
    file: File,
    key: Annotated[str, typer.Argument(help="Key of a reservation that was never started (see `ledger show`).")],
    anchor: AnchorFile = None,
    as_json: Json = False,
) -> None:
    """Give back a reservation that a stopped run left behind. What was started stays charged."""
    with ledger_errors(as_json=as_json):
        with opened(file, anchor=anchor) as ledger:
            ledger.void(key)
        show({"ok": True, "voided": key}, f"{file}: {key} is voided", as_json=as_json)


@ledger_app.command("cap")
def ledger_cap(
    file: File,
    account: Annotated[str, typer.Argument(help="Name of the account.")],
    epsilon: Annotated[float, typer.Option(help="Epsilon of the new cap.")],
    delta: Annotated[float, typer.Option(help="Delta of the new cap.")],
    reason: Annotated[str, typer.Option(help="Why, in plain words: public.")],
    key: OptionalKey = None,
    officer_key: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="The officer's key: a cap rises by two keys only.")
    ] = None,
    passphrase_file: Passphrase = None,
    officer_passphrase_file: Annotated[Path | None, typer.Option(help="The same for the officer's key.")] = None,
    officer_signature: Annotated[
        str | None, typer.Option(metavar="BASE64", help="What the officer's `sign-cap` printed elsewhere.")
    ] = None,
    statement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only write what an officer signs elsewhere (`sign-cap`).")
    ] = None,
    anchor: AnchorFile = None,
    as_json: Json = False,
) -> None:
    """Set an account's cap: lower by the site's key, raise by the site's and an officer's. Spent stays spent."""
    with ledger_errors(as_json=as_json):
        signer = None if key is None else signer_of(key, passphrase_file)
        officer: Any = None if officer_key is None else signer_of(officer_key, officer_passphrase_file)
        if officer_signature is not None:
            officer = base64.b64decode(officer_signature, validate=True)
        with opened(file, signer=signer, anchor=anchor) as ledger:
            if statement is not None:
                statement.write_bytes(ledger.cap_statement(account, epsilon=epsilon, delta=delta, reason=reason))
                text = f"{statement}: for the officer's `synthema ledger sign-cap`; the cap is as it was"
                show({"statement": str(statement)}, text, as_json=as_json)
                return
            ledger.set_cap(account, epsilon=epsilon, delta=delta, reason=reason, officer=officer)
            left = ledger.remaining(account)
        body = {"account": account, "epsilon_cap": left.epsilon_cap, "delta_cap": left.delta_cap}
        show(plain({**body, "epsilon_spent": left.epsilon_spent}), str(left), as_json=as_json)


@ledger_app.command("checkpoint")
def ledger_checkpoint(
    file: File,
    key: Key,
    passphrase_file: Passphrase = None,
    anchor: AnchorFile = None,
    as_json: Json = False,
) -> None:
    """Sign everything so far, write that into the journal, and print the note: others keep it, or cosign it."""
    with ledger_errors(as_json=as_json):
        with opened(file, signer=signer_of(key, passphrase_file), anchor=anchor) as ledger:
            note = ledger.checkpoint()
            size = ledger.head[0] - 1
        show({"note": note, "size": size}, note.removesuffix("\n"), as_json=as_json)


@ledger_app.command("backup")
def ledger_backup(
    file: Annotated[Path, typer.Argument(metavar="LEDGER.db")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file; no file is ever overwritten.")],
    as_json: Json = False,
) -> None:
    """Copy a ledger while it is used, and verify the copy. Restoring it needs the anchor or the witnesses."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger.backup import backup

        url_of(str(file))
        done = backup(file, out)
        body = {"path": str(done.path), "entries": done.entries, "head": done.head, "bytes": done.bytes}
        show({**body, "ok": done.verification.ok, "restoring": done.restoring}, str(done), as_json=as_json)


@ledger_app.command("doctor")
def ledger_doctor(
    file: Annotated[Path, typer.Argument(metavar="LEDGER.db")],
    anchor: AnchorFile = None,
    key: OptionalKey = None,
    answer_key: Annotated[Path | None, typer.Option(help="File of the key of stored answers.")] = None,
    as_json: Json = False,
) -> None:
    """Look at disk, files, keys, clocks and locks around a ledger. Exit code 5 if something is an error."""
    with ledger_errors(as_json=as_json):
        from dataclasses import asdict

        from privacy.ledger.doctor import doctor

        found = doctor(file, anchor, answer_key=answer_key, signing_key=key)
        text = "\n".join(map(str, found))
        show([asdict(each) for each in found], text, as_json=as_json)
    if any(each.level == "error" for each in found):
        raise typer.Exit(NOT_VERIFIED)


ledger_app.command("open-exact")(ledger_keys.open_exact)
ledger_app.command("new-key")(ledger_keys.new_key)
ledger_app.command("set-key")(ledger_keys.set_key)
ledger_app.command("sign-cap")(ledger_keys.sign_cap)
ledger_app.command("verify")(ledger_audit.verify)
ledger_app.command("export")(ledger_audit.export)
ledger_app.command("prove")(ledger_audit.prove)
ledger_app.command("check-proof")(ledger_audit.check_proof)
ledger_app.command("witness")(ledger_audit.witness)
