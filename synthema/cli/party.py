"""`synthema party` and `synthema relay`: one party of a computation on shares, or the relay between them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]

party_app = typer.Typer(
    help="Run one party of a computation on shares, or make its keys.",
    invoke_without_command=True,
    add_completion=False,
)


@party_app.callback()
def run(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(metavar="PARTY.toml", help="What this party runs, with whom.")] = None,
    as_json: Json = False,
) -> None:
    """Run one party: connect with the others, run the protocol that PARTY.toml names, write its result."""
    if context.invoked_subcommand is not None:
        return
    with errors(as_json=as_json):
        with input_errors(as_json=as_json):
            if config is None:
                raise ValueError("give --config PARTY.toml, or a command: see --help")
            from smpc.party import installed_function, run_party
            from smpc.party_config import PartyConfig, read_integers, write_result

            setup = PartyConfig.load(config)
            protocol = installed_function(setup.protocol)
            data = read_integers(setup.input_file)
            material = setup.open_material()
            transport = setup.connect()
        done = run_party(protocol, data, transport=transport, material=material, timeout=setup.round_seconds)
        with input_errors(as_json=as_json):
            write_result(setup.output_file, done.result)
        body = {
            "output": str(setup.output_file),
            "session_id": done.session_id.hex(),
            "rounds": done.usage.rounds,
            "bytes_sent": done.usage.bytes_sent,
        }
        show(
            body,
            f"{setup.output_file.name} is written: {done.usage.rounds} rounds, {done.usage.bytes_sent} bytes sent",
            as_json=as_json,
        )


@party_app.command()
def keys(
    name: Annotated[str, typer.Option(help="Public name of the party or relay, such as a.example.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; made if it does not exist.")] = Path(),
    as_json: Json = False,
) -> None:
    """Make a party's keys and certificate, and print its entry for everybody's roster. Nothing is overwritten."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from smpc.transport import new_certificate_files, new_identity_file

        if not name or not all(part.replace("-", "").isalnum() and part.isascii() for part in name.split(".")):
            raise ValueError("a name has ASCII letters, digits, - and . only: it goes into a certificate")
        out.mkdir(parents=True, exist_ok=True)
        identity, certificate, tls_key = (out / f"{name}{end}" for end in ("-identity.key", ".crt", "-tls.key"))
        public = new_identity_file(identity)
        fingerprint = new_certificate_files(name, certificate, tls_key)
        body = {
            "name": name,
            "identity": public.hex(),
            "fingerprint": fingerprint.hex(),
            "certificate": str(certificate),
            "secret": [str(identity), str(tls_key)],
        }
        text = (
            f"{identity.name}, {tls_key.name}: keep them secret\n{certificate.name}: give it to the others, with\n\n"
            f'[[roster]]\nname = "{name}"\nidentity = "{public.hex()}"\ncertificate = "{certificate.name}"'
        )
        show(body, text, as_json=as_json)


def relay(
    config: Annotated[Path, typer.Option(metavar="RELAY.toml", help="Where to listen, and who may take which seat.")],
) -> None:
    """Forward sealed records between the parties of a computation, until interrupted. It can read none of them."""
    with errors(as_json=False):
        with input_errors(as_json=False):
            from smpc.party_config import load_relay

            server = load_relay(config)
        import signal

        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        signal.signal(signal.SIGINT, lambda *_: server.stop())
        host, port = server.address
        print(f"listening on {host}:{port}", flush=True)
        server.serve()
        print("stopped", file=sys.stderr)
