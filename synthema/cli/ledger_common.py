"""What the ledger's commands share: their arguments, how a ledger is opened, and where signing keys come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.errors import BAD_INPUT, errors, fail

if TYPE_CHECKING:
    from privacy.ledger import Ledger, Signer

File = Annotated[str, typer.Argument(metavar="LEDGER.db", help="The ledger's file, or postgresql://...")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Key = Annotated[Path, typer.Option("--key", metavar="KEYFILE", help="File of the site's signing key.")]
OptionalKey = Annotated[
    Path | None, typer.Option("--key", metavar="KEYFILE", help="File of the site's signing key, if the ledger has one.")
]
AnchorFile = Annotated[
    Path | None, typer.Option("--anchor", help="Small file outside the backups that remembers how far the ledger was.")
]
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File whose first line is the key's passphrase; else it is asked for."),
]
NoPassphrase = Annotated[
    bool, typer.Option("--no-passphrase", help="Protect the new key by its file's mode and the disk alone.")
]


@contextmanager
def ledger_errors(*, as_json: bool) -> Iterator[None]:
    """Turn errors into one message and an exit code; what cannot be read or is no number is bad input."""
    with errors(as_json=as_json):
        try:
            yield
        except (ValueError, OSError) as error:
            fail(error, BAD_INPUT, as_json=as_json)


def url_of(file: str) -> str:
    """Return a ledger's URL. Raises TableError if it is a file that is not there: reading must not make one."""
    if file.startswith("postgresql://"):
        return file
    if not Path(file).is_file():
        from synthema.errors import TableError

        raise TableError(f"{Path(file).name} is not there; give a ledger's file")
    return f"sqlite:///{Path(file).absolute()}"


def opened(file: str, *, signer: Signer | None = None, anchor: Path | None = None) -> Ledger:
    """Return an existing ledger, open."""
    from privacy.ledger import open_ledger

    return open_ledger(url_of(file), signer=signer, anchor=anchor)


def signer_of(key: Path, passphrase_file: Path | None = None) -> Signer:
    """Return the signer of a key file; its passphrase comes from a file or is asked for."""
    from privacy.ledger import load_key

    encrypted = key.is_file() and b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()[:65_536]
    if not encrypted:
        return load_key(key)
    if passphrase_file is not None:
        return load_key(key, _first_line(passphrase_file))
    return load_key(key, typer.prompt(f"Passphrase of {key.name}", hide_input=True, err=True).encode())


def new_signer(key: Path, name: str, passphrase_file: Path | None, *, no_passphrase: bool) -> Signer:
    """Return the signer of a new key file."""
    from privacy.ledger import generate_key

    if no_passphrase:
        return generate_key(key, name=name)
    if passphrase_file is not None:
        return generate_key(key, name=name, passphrase=_first_line(passphrase_file))
    text = typer.prompt(f"Passphrase for {key.name}", hide_input=True, confirmation_prompt=True, err=True)
    return generate_key(key, name=name, passphrase=text.encode())


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is infinite or no number becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _first_line(file: Path) -> bytes:
    return file.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
