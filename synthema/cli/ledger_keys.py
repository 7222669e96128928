"""Making a ledger and its keys on the command line, and saying what belongs where."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synthema.cli.errors import show
from synthema.cli.ledger_common import (
    AnchorFile,
    File,
    Json,
    Key,
    NoPassphrase,
    OptionalKey,
    Passphrase,
    ledger_errors,
    new_signer,
    opened,
    signer_of,
)

if TYPE_CHECKING:
    from privacy.ledger import Signer


def init(
    file: Annotated[Path, typer.Argument(metavar="LEDGER.db", help="The new ledger's file.")],
    site: Annotated[str, typer.Option(help="The site's public name, written into the ledger.")],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="KEYFILE", help="The site's key: loaded, or made; by default LEDGER.db-site.key."
        ),
    ] = None,
    anchor: AnchorFile = None,
    account: Annotated[str | None, typer.Option(help="Open a first account of this name.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Its cap: epsilon, for ever.")] = None,
    delta: Annotated[float | None, typer.Option(help="Its cap: delta.")] = None,
    neighbours: Annotated[
        Literal["add_remove_one", "replace_one"] | None, typer.Option(help="Which tables count as neighbours.")
    ] = None,
    witness_key: Annotated[
        list[str] | None, typer.Option(metavar="VKEY", help="Public key of a witness; may be repeated.")
    ] = None,
    passphrase_file: Passphrase = None,
    no_passphrase: NoPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a ledger with a site key, and say what to keep where."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger import LedgerRefused, Verifier, open_ledger

        if file.exists():
            raise LedgerRefused(f"{file.name} exists: a ledger is made once; choose another file")
        # Everything is checked before anything is made.
        witnesses = [Verifier.parse(text) for text in witness_key or []]
        terms = _account_terms(account, epsilon, delta, neighbours)
        place = key or Path(f"{file}-site.key")
        signer = (
            signer_of(place, passphrase_file)
            if place.exists()
            else new_signer(place, _key_name(site), passphrase_file, no_passphrase=no_passphrase)
        )
        with open_ledger(f"sqlite:///{file.absolute()}", site=site, signer=signer, anchor=anchor) as ledger:
            ledger.set_key("site", signer.verifier.vkey, reason="the site's first key", holder=signer)
            for each in witnesses:
                ledger.set_key(f"witness {each.name}", each.vkey, reason="a witness from the start")
            if terms is not None:
                ledger.open_account(**terms)
            size, head = ledger.head
            ledger_id = ledger.ledger_id
        body = {
            "file": str(file),
            "site": site,
            "ledger_id": ledger_id,
            "key_file": str(place),
            "site_key": signer.verifier.vkey,
            "anchor": None if anchor is None else str(anchor),
            "answer_key_file": f"{file}-answers.key",
            "entries": size,
            "head": head,
        }
        show(body, _what_where(body), as_json=as_json)


def open_exact(
    file: File,
    account: Annotated[str, typer.Argument(help="Name of the new account.")],
    key: OptionalKey = None,
    passphrase_file: Passphrase = None,
    anchor: AnchorFile = None,
    as_json: Json = False,
) -> None:
    """Allow exact releases, such as anonymised tables, by opening an account that counts them. No epsilon covers them.

    One account for each table: releases of the same patients are what must be counted together.
    """
    with ledger_errors(as_json=as_json):
        signer = None if key is None else signer_of(key, passphrase_file)
        with opened(file, signer=signer, anchor=anchor) as ledger:
            ledger.open_exact_account(account)
        show({"ok": True, "account": account}, f"{file}: account {account} takes exact releases", as_json=as_json)


def new_key(
    file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="New file; no key is ever overwritten.")],
    name: Annotated[str, typer.Option(help="The key's public name, such as madrid.example/witness.")],
    passphrase_file: Passphrase = None,
    no_passphrase: NoPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a signing key for a site, an officer or a witness; print its public keys."""
    with ledger_errors(as_json=as_json):
        signer = new_signer(file, name, passphrase_file, no_passphrase=no_passphrase)
        body = {"file": str(file), "vkey": signer.verifier.vkey, "witness_vkey": signer.cosignature_verifier.vkey}
        show(
            body,
            f"{file}: keep it secret\npublic key of a site or an officer: {body['vkey']}\n"
            f"public key of a witness:              {body['witness_vkey']}",
            as_json=as_json,
        )


def sign_cap(
    statement: Annotated[Path, typer.Argument(metavar="STATEMENT", help="What `cap --statement` wrote.")],
    key: Key,
    passphrase_file: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Sign a new cap as the officer, away from the ledger: says which cap, and prints the signature for it."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger import canonical
        from privacy.ledger.signatures import PURPOSE

        data = statement.read_bytes()
        body = canonical.decode(data)
        if not isinstance(body, dict) or body.get("kind") != "set_cap":
            raise ValueError(
                f"{statement.name} is no statement of a cap: let the site write one with `cap --statement`"
            )
        signature = base64.b64encode(signer_of(key, passphrase_file).sign_statement(PURPOSE, data)).decode()
        said = {name: body[name] for name in ("account", "epsilon", "delta", "reason", "ledger_id", "replaces")}
        text = (
            f"account {said['account']!r} of ledger {said['ledger_id'][:16]}...: epsilon {said['epsilon']} at delta "
            f"{said['delta']}, because: {said['reason']}\nin place of the cap of entry {said['replaces']}, and of no "
            f"other; the signature:\n{signature}"
        )
        show({**said, "signature": signature}, text, as_json=as_json)


def set_key(
    file: File,
    role: Annotated[str, typer.Argument(help='"site", "officer", or "witness NAME".')],
    key: Key,
    reason: Annotated[str, typer.Option(help="Why, in plain words: public.")],
    new: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="File of the new key of a site or officer.")
    ] = None,
    vkey: Annotated[str | None, typer.Option(metavar="VKEY", help="Public key of a witness.")] = None,
    passphrase_file: Passphrase = None,
    new_passphrase_file: Annotated[Path | None, typer.Option(help="The same for the new key.")] = None,
    anchor: AnchorFile = None,
    as_json: Json = False,
) -> None:
    """Put a key in force, for the present site key vouches; without --new or --vkey, take it away."""
    with ledger_errors(as_json=as_json):
        if new is not None and vkey is not None:
            raise ValueError("give --new, a key file, or --vkey, a witness's public key")
        holder: Signer | None = None if new is None else signer_of(new, new_passphrase_file)
        text = holder.verifier.vkey if holder is not None else vkey or ""
        with opened(file, signer=signer_of(key, passphrase_file), anchor=anchor) as ledger:
            ledger.set_key(role, text, reason=reason, holder=holder)
        said = f"{role}: {text} is in force" if text else f"{role}: no key is in force"
        show({"role": role, "key": text}, said, as_json=as_json)


def _account_terms(
    name: str | None, epsilon: float | None, delta: float | None, neighbours: str | None
) -> dict[str, Any] | None:
    given = [name, epsilon, delta, neighbours]
    if all(each is None for each in given):
        return None
    if name is None or epsilon is None or delta is None or neighbours is None:
        raise ValueError("an account needs --account, --epsilon, --delta and --neighbours")
    from privacy.ledger.requests import account_terms

    terms = {"name": name, "epsilon": epsilon, "delta": delta, "neighbours": neighbours}
    account_terms(
        name,
        epsilon=epsilon,
        delta=delta,
        neighbours=neighbours,
        unit="patient",
        rule="zcdp",
        approximate_delta=0.0,
        order=None,
        curve=None,
        parent=None,
        blocks=(),
        block_rule="",
    )
    return terms


def _key_name(site: str) -> str:
    return re.sub(r"[\s+]+", "-", site) + "/ledger"


def _what_where(body: dict[str, Any]) -> str:
    anchor = body["anchor"] or "none: give one with --anchor, or have witnesses; else nobody notices a restored backup"
    return "\n".join(
        (
            f"{body['file']}: the ledger of {body['site']}, {body['entries']} entries; on a local disk; copy it with",
            "  synthema ledger backup, never with cp",
            f"{body['key_file']}: the site's secret key; signs caps and checkpoints; a copy in a safe, none in backups",
            f"{body['answer_key_file']}: made with the first answer; back it up apart from the ledger",
            f"anchor: {anchor}",
            "",
            "Give to auditors and witnesses, by a way of its own:",
            f"  site key   {body['site_key']}",
            f"  ledger id  {body['ledger_id']}",
            f"  head       {body['head']}",
        )
    )
