"""`synthema hub`: make and run the hub where members meet, invite and revoke them, look at jobs."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from synthema.cli.errors import BAD_INPUT, errors, fail, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Config = Annotated[Path, typer.Option("--config", help="hub.toml, or its folder.", metavar="HUB.toml")]

hub_app = typer.Typer(
    help="Run the hub: members meet there, and it can read nothing of theirs.",
    no_args_is_help=True,
    add_completion=False,
)


@hub_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if it does not exist.")],
    name: Annotated[str, typer.Option(help="Name of the hub: small letters, digits, - and _.")],
    listen: Annotated[str, typer.Option(help="host:port to listen on, such as 0.0.0.0:7443.")],
    public: Annotated[str | None, typer.Option(help="host:port that members connect to, if it is another.")] = None,
    as_json: Json = False,
) -> None:
    """Make a hub: its issuer of certificates, its own certificate, hub.toml. Nothing is overwritten."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.hub.hub import HubFolder

        made = HubFolder.create(folder, name=name, listen=listen, public=public)
        fingerprint = made.fingerprint.hex()
        body = {"folder": str(folder), "fingerprint": fingerprint, "secret": ["ca.key", "hub.key"]}
        text = (
            f"{folder}: ca.key and hub.key are secret; back them up with hub.sqlite\n"
            f"the hub's fingerprint is {fingerprint}\n"
            f"next: synthema hub serve --config {folder}, and synthema hub invite NAME --role site --config {folder}"
        )
        show(body, text, as_json=as_json)


@hub_app.command()
def serve(config: Config = Path()) -> None:
    """Serve until interrupted. It goes on where it was stopped."""
    with errors(as_json=False):
        with input_errors(as_json=False):
            from synthema.hub.hub import HubFolder

            hub = HubFolder.load(config).open()
        import signal

        signal.signal(signal.SIGTERM, lambda *_: hub.stop())
        signal.signal(signal.SIGINT, lambda *_: hub.stop())
        host, port = hub.address
        print(f"listening on {host}:{port}", flush=True)
        hub.serve()
        print("stopped", file=sys.stderr)


@hub_app.command()
def invite(
    name: Annotated[str, typer.Argument(help="What the member is called: small letters, digits, - and _.")],
    role: Annotated[str, typer.Option(help="site, dealer or researcher.")] = "site",
    config: Config = Path(),
    as_json: Json = False,
) -> None:
    """Print an invitation: a secret line of text, good for one member, once. The hub may be running."""
    with errors(as_json=as_json), input_errors(as_json=as_json), _refusals(as_json=as_json):
        from synthema.hub.hub import HubFolder

        folder = HubFolder.load(config)
        invitation = folder.invite(name, role)  # type: ignore[arg-type]  # checked there
        days = folder.config.invitation_days
        body = {"name": name, "role": role, "days": days, "invitation": invitation.text()}
        show(body, invitation.text(), as_json=as_json)


@hub_app.command()
def members(config: Config = Path(), as_json: Json = False) -> None:
    """List the members, those who were revoked as well."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.hub.hub import HubFolder

        with contextlib.closing(HubFolder.load(config).store()) as store:
            rows = store.members(with_revoked=True)
        body = [
            {
                "name": row.name,
                "role": row.role,
                "number": row.number,
                "identity": row.identity.hex(),
                "expires": _day(row.expires_at),
                "revoked": None if row.revoked_at is None else _day(row.revoked_at),
            }
            for row in rows
        ]
        lines = [
            f"{each['name']}  {each['role']}  identity {each['identity']}  "
            + (f"revoked {each['revoked']}" if each["revoked"] else f"until {each['expires']}")
            for each in body
        ]
        show(body, "\n".join(lines) or "no members yet", as_json=as_json)


@hub_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whom.")],
    config: Config = Path(),
    as_json: Json = False,
) -> None:
    """Revoke a member for good, and an unused invitation of this name. A hub that runs cuts it off within a second."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        import time

        from synthema.hub.hub import HubFolder

        with contextlib.closing(HubFolder.load(config).store()) as store:
            row = store.revoke(name, now=time.time())
        if row is None:
            fail(ValueError(f"no member is called {name!r}"), BAD_INPUT, as_json=as_json)
        show({"revoked": name, "number": row.number}, f"{name} is revoked", as_json=as_json)


@hub_app.command()
def jobs(config: Config = Path(), as_json: Json = False) -> None:
    """List the jobs and how far they are."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.hub.hub import HubFolder

        with contextlib.closing(HubFolder.load(config).store()) as store:
            found = store.jobs()
        body: list[dict[str, Any]] = [
            {
                "job": job.job_id,
                "state": job.phase,
                "attempt": job.attempt,
                "researcher": job.researcher,
                "deadline": dt.datetime.fromtimestamp(job.deadline, dt.UTC).isoformat(timespec="seconds"),
                "decisions": {each.site: each.decision for each in job.decisions},
                "error": job.ending.error,
                "site": job.ending.site,
            }
            for job in found
        ]
        lines = [
            f"{each['job'][:12]}  {each['state']}  attempt {each['attempt']}  by {each['researcher']}"
            + (f"  {each['error']}: {each['site']}" if each["error"] else "")
            for each in body
        ]
        show(body, "\n".join(lines) or "no jobs yet", as_json=as_json)


@contextlib.contextmanager
def _refusals(*, as_json: bool) -> Iterator[None]:
    from synthema.hub.store import NotEnrolled

    try:
        yield
    except NotEnrolled as error:
        fail(error, BAD_INPUT, as_json=as_json)


def _day(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()
