"""`synthema dealer` and `synthema material`: packages of correlated randomness, and the stores made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Store = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]

dealer_app = typer.Typer(
    help="Make the material of computations on shares. The dealer with any one party can reconstruct the inputs: it "
    "must be another legal entity than the parties and than the relay's operator.",
    no_args_is_help=True,
    add_completion=False,
)
material_app = typer.Typer(
    help="This party's store of material: its key, what the dealer sent, what is left.",
    no_args_is_help=True,
    add_completion=False,
)


@dealer_app.command()
def make(
    config: Annotated[Path, typer.Option(metavar="DEALER.toml", help="Who deals for whom.")],
    plan: Annotated[
        list[Path] | None, typer.Option(metavar="PLAN.json", help="What to make, from a forecast; several add up.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the packages; made if it does not exist.")] = Path("packages"),
    as_json: Json = False,
) -> None:
    """Make a batch: one sealed package for each party. Hand each to its party, and keep no copy."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.dealing import TRUST
        from synthema.dealing import deal_from_files

        dealt = deal_from_files(config, plan or [], out)
        body = {
            "batch": dealt.batch.hex(),
            "packages": [str(path) for path in dealt.files],
            "bytes": list(dealt.n_bytes),
            "seconds": dealt.seconds,
            "trust": TRUST,
        }
        lines = [f"batch {dealt.batch.hex()}, made in {dealt.seconds:.2f} s; offline, before any run:"]
        lines += [f"  {path}: {size:,} bytes" for path, size in zip(dealt.files, dealt.n_bytes, strict=True)]
        show(body, "\n".join([*lines, TRUST]), as_json=as_json)


@dealer_app.command()
def serve(
    config: Annotated[Path, typer.Option(metavar="DEALER.toml", help="Whom this dealer serves, and within what.")],
    as_json: Json = False,
) -> None:
    """Serve material while jobs run, as a member behind the hub, until it is ended by a signal."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        import logging
        import signal

        from smpc.dealing import TRUST
        from synthema.dealer_config import DealerService
        from synthema.dealer_member import DealerProcess

        process = DealerProcess(DealerService.load(config))
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: process.stop())
        show({"serving": True, "trust": TRUST}, TRUST, as_json=as_json)
        process.serve()


@dealer_app.command(name="new-key")
def dealer_key(
    file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="New file; no key is ever overwritten.")],
    as_json: Json = False,
) -> None:
    """Make the dealer's signing key; print the public key, for the parties."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.transport import new_identity_file

        _say_key(file, new_identity_file(file), as_json=as_json)


@material_app.command(name="new-key")
def party_key(
    file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="New file; no key is ever overwritten.")],
    as_json: Json = False,
) -> None:
    """Make the key that packages for this party are sealed for; print the public key, for the dealer."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.sealed_files import new_sealing_key

        _say_key(file, new_sealing_key(file), as_json=as_json)


@material_app.command()
def install(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="What the dealer sent.")],
    store: Annotated[Path, typer.Option(metavar="STORE", help="Folder to make: a local disk, outside of backups.")],
    key: Annotated[Path, typer.Option(metavar="KEYFILE", help="This party's key.")],
    dealer: Annotated[str, typer.Option(metavar="HEX", help="The dealer's public key, 64 hexadecimal digits.")],
    as_json: Json = False,
) -> None:
    """Open a package and make a store of it. A package makes one store, once."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.sealed_files import KEY_BYTES, load_sealing_key
        from smpc.store import install_package

        public = bytes.fromhex(dealer)
        if len(public) != KEY_BYTES:
            raise ValueError("--dealer is a public key of 64 hexadecimal digits")
        manifest = install_package(package, store, key=load_sealing_key(key), dealer=public)
        body = {"store": str(store), "batch": manifest.batch.hex(), "party": manifest.party}
        text = (
            f"{store}: material of party {manifest.party} of {manifest.n_parties}, batch {manifest.batch.hex()}\n"
            "Never copy or restore it: a second copy is found when the parties meet, and the batch is lost. Remove "
            f"{package.name}."
        )
        show(body, text, as_json=as_json)


@material_app.command(name="show")
def show_store(
    store: Store,
    anchor: Annotated[Path | None, typer.Option(help="The store's anchor, if it has one.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is left in a store; every checksum is checked."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.plans import describe_amounts
        from smpc.store import open_store

        with open_store(store, anchor=anchor) as opened:
            opened.check()
            manifest, left = opened.manifest, opened.left
        body = {
            "batch": manifest.batch.hex(),
            "party": manifest.party,
            "n_parties": manifest.n_parties,
            "left": describe_amounts(left),
        }
        lines = [f"batch {manifest.batch.hex()}, party {manifest.party} of {manifest.n_parties}; left:"]
        lines += [f"  {left[kind]:>12,} of {count:,} x {kind.label}" for kind, count in manifest.amounts.items()]
        show(body, "\n".join(lines), as_json=as_json)


def _say_key(file: Path, public: bytes, *, as_json: bool) -> None:
    text = f"{file.name}: keep it secret\npublic key: {public.hex()}"
    show({"file": str(file), "public_key": public.hex()}, text, as_json=as_json)
