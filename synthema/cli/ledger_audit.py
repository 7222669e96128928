"""What others do with a ledger on the command line: verify it, export it, prove an entry of it, witness it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.errors import NOT_VERIFIED, show
from synthema.cli.ledger_common import File, Json, Key, Passphrase, ledger_errors, signer_of, url_of

if TYPE_CHECKING:
    from privacy.ledger import Verification

SiteKey = Annotated[str | None, typer.Option(metavar="VKEY", help="Public key of the site, had from elsewhere.")]
WitnessKeys = Annotated[
    list[str] | None, typer.Option(metavar="VKEY", help="Public key of a witness; may be repeated.")
]

_LEVELS = {
    "none": "nothing in it is to be relied on",
    "chain": "it agrees with itself and with every rule; whoever holds the file could have rewritten all of it",
    "chain+head": "it agrees with every rule and continues the head that was noted elsewhere",
    "signed": "it agrees with every rule, and the site's key signed its first {} entries",
    "witnessed": "it agrees with every rule, and a witness saw its first {} entries and no other history of them",
}


def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Ledgers, or exports of them.")],
    head: Annotated[str | None, typer.Option(help="A head noted earlier, which must be part of the history.")] = None,
    site_key: SiteKey = None,
    witness_key: WitnessKeys = None,
    note: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Checkpoint had from elsewhere; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash, rule and balance. Exit code 5 if anything does not fit.

    With a public key, it is also 5 if nothing is signed, or cosigned, by that key.
    """
    with ledger_errors(as_json=as_json):
        brought = {
            "head": head,
            "site_key": site_key,
            "witness_keys": tuple(witness_key or ()),
            "notes": tuple(path.read_text(encoding="utf-8") for path in note or ()),
        }
        wanted = {"witnessed"} if witness_key else {"signed", "witnessed"} if site_key else set()
        results = [_result(file, _verified(file, brought), wanted) for file in files]
        if as_json:
            print(json.dumps(results, indent=2))
        else:
            for item in results:
                verdict = "verified" if item["ok"] else "DOES NOT VERIFY"
                print(f"{item['file']}: {verdict} ({item['entries']} entries, assurance: {item['assurance']})")
                print(f"  {item['meaning']}")
                if item["first_bad"] is not None:
                    print(f"  first bad entry: {item['first_bad']}")
                for problem in item["problems"]:
                    print(f"  {problem}")
    if not all(item["ok"] for item in results):
        raise typer.Exit(NOT_VERIFIED)


def _verified(file: str, brought: dict[str, Any]) -> Verification:
    from privacy.ledger import verify as verify_ledger
    from privacy.ledger import verify_file

    return verify_ledger(file, **brought) if file.startswith("postgresql://") else verify_file(file, **brought)


def _result(file: str, found: Verification, wanted: set[str]) -> dict[str, Any]:
    problems = list(found.problems)
    if found.ok and wanted and found.assurance not in wanted:
        # Who brings a key wants to know whether it vouches for this; a forger's ledger has a key of its own.
        by = "cosigned by a witness whose" if wanted == {"witnessed"} else "signed by the site whose"
        problems.append(f"no checkpoint of it is {by} key was given")
    return {
        "file": file,
        "ok": not problems,
        "entries": found.entries,
        "assurance": found.assurance,
        "meaning": _LEVELS[found.assurance].format(found.covered),
        "covered": found.covered,
        "first_bad": found.first_bad,
        "problems": problems,
    }


def export(
    file: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file; no file is ever overwritten.")],
    as_json: Json = False,
) -> None:
    """Write all entries, and no answer, into one file that auditors verify offline."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger.export import export as export_ledger

        size = export_ledger(url_of(file), out)
        show({"path": str(out), "entries": size}, f"{out}: {size} entries, no answers", as_json=as_json)


def prove(
    file: File,
    seq: Annotated[int, typer.Argument(help="Number of the entry.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file; no file is ever overwritten.")],
    note: Annotated[Path | None, typer.Option(metavar="FILE", help="Cosigned checkpoint to prove it by.")] = None,
    as_json: Json = False,
) -> None:
    """Write one entry with the proof that it is in the journal, for somebody who sees no other entry."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger import prove as prove_entry
        from privacy.ledger._files import new_file

        bundle = prove_entry(url_of(file), seq, note=None if note is None else note.read_text(encoding="utf-8"))
        with new_file(out) as new:
            new.write_bytes(bundle)
        body = {"path": str(out), "seq": seq, "bytes": len(bundle)}
        show(body, f"{out}: entry {seq} and its proof, {len(bundle)} bytes", as_json=as_json)


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="PROOF", help="File that `ledger prove` wrote.")],
    site_key: Annotated[str, typer.Option(metavar="VKEY", help="Public key of the site, had from elsewhere.")],
    witness_key: WitnessKeys = None,
    ledger_id: Annotated[str | None, typer.Option(help="The entry must be of this ledger.")] = None,
    as_json: Json = False,
) -> None:
    """Check a proof with public keys alone, and print its entry. Exit code 5 if it is not valid."""
    with ledger_errors(as_json=as_json):
        from privacy.ledger import check_proof as check

        found = check(file.read_bytes(), site_key=site_key, witness_keys=tuple(witness_key or ()), ledger_id=ledger_id)
        names = ", ".join(name for name, _ in found["witnesses"])
        by = f"signed by the site and cosigned by {names}" if names else "signed by the site"
        text = (
            f"entry {found['seq']} of ledger {found['ledger_id']} is proved: {by}, among {found['size']} entries\n"
            f"{json.dumps(found['entry'], ensure_ascii=False, sort_keys=True)}"
        )
        show(found, text, as_json=as_json)


def witness(
    state: Annotated[Path, typer.Argument(metavar="STATE.db", help="The witness's memory; made if it is not there.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export, or a checkpoint's note.")],
    key: Key,
    log_key: Annotated[str, typer.Option(metavar="VKEY", help="Public key of the site whose ledger it is.")],
    proof_from: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Export to take the proof from, beside a note.")
    ] = None,
    passphrase_file: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Cosign another site's checkpoint after checking that its history only grew; print the cosignature line.

    An export is verified first, every rule. Exit code 3 if the witness refuses.
    """
    with ledger_errors(as_json=as_json):
        from synthema.cli.ledger_witness import cosign

        line, first, size = cosign(state, file, signer_of(key, passphrase_file), log_key=log_key, proof_from=proof_from)
        if first and not as_json:
            typer.echo("synthema: the first checkpoint of this ledger: what went before it is not witnessed", err=True)
        show({"cosignature": line, "size": size, "first": first}, line.removesuffix("\n"), as_json=as_json)
