"""`synthema site status|approve|refuse`: what the agent was asked, and the operator's word."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthema.cli.errors import errors, input_errors, show

if TYPE_CHECKING:
    from synthema.agent.config import SiteConfig

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Config = Annotated[Path, typer.Option("--config", metavar="SITE.toml", help="The site's file, or its folder.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's identity, or how it begins.")]
SiteName = Annotated[str | None, typer.Option("--site", help="A guest's name; by default the site itself.")]
By = Annotated[str | None, typer.Option(help="Who decides; by default the user of this terminal.")]
Note = Annotated[str, typer.Option(help="For the site's own records; the researcher does not see it.")]
_HERE = Path("site.toml")


def status(config: Config = _HERE, site: SiteName = None, as_json: Json = False) -> None:
    """Show the jobs that this site and its guests were offered, what they cost, and what is left of each budget."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.guests import site_or_guest

        host = SiteConfig.load(config)
        names = [host.name, *(guest.name for guest in host.guests)] if site is None else [site]
        found = [_status(site_or_guest(host, name)) for name in names]
        text = "\n".join(lines for _, lines in found)
        body = found[0][0] | ({"guests": [each for each, _ in found[1:]]} if site is None else {})
        show(body, text, as_json=as_json)


def _status(setup: SiteConfig) -> tuple[dict[str, Any], str]:
    from privacy.ledger import load_key, open_ledger
    from synthema.agent.queue import ApprovalQueue
    from synthema.agent.table import QUEUE_FILE
    from synthema.job import PRIVATE_ACCOUNT

    with ApprovalQueue(setup.place(QUEUE_FILE)) as jobs:
        found = jobs.jobs()
    signer = load_key(setup.place(setup.keys.ledger))
    with open_ledger(setup.ledger_url, site=setup.name, signer=signer, check="head") as ledger:
        opened = PRIVATE_ACCOUNT in [account.name for account in ledger.accounts()]
        left = ledger.remaining(PRIVATE_ACCOUNT) if opened else None
    budget = (
        "no study was paid for yet"
        if left is None
        else f"epsilon {left.epsilon_spent:.4g} of {left.epsilon_cap:.4g} is spent or reserved"
    )
    lines = [f"{setup.name}: {budget}"]
    for job in found:
        lines.append(f"{job.job_id[:12]}  {job.state:<9}  {job.study}: {job.purpose}")
        lines += [f"    {line}" for line in job.price.splitlines()] if job.state == "waiting" else []
    if not found:
        lines.append("no job was offered yet")
    body = {
        "site": setup.name,
        "budget": None if left is None else {"epsilon_spent": left.epsilon_spent, "epsilon_cap": left.epsilon_cap},
        "jobs": [asdict(job) for job in found],
    }
    return body, "\n".join(lines)


def approve(
    job: Job,
    config: Config = _HERE,
    site: SiteName = None,
    by: By = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Approve a job that waits. The agent takes it up within a second."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.guests import site_or_guest
        from synthema.agent.queue import ApprovalQueue
        from synthema.agent.table import QUEUE_FILE

        setup = site_or_guest(SiteConfig.load(config), site)
        with ApprovalQueue(setup.place(QUEUE_FILE)) as jobs:
            done = jobs.approve(job, by=by or getpass.getuser(), site=setup.name, note=note)
        show(asdict(done), f"{done.job_id[:12]} is approved by {done.decided_by}", as_json=as_json)


def refuse(
    job: Job,
    config: Config = _HERE,
    site: SiteName = None,
    reason: Annotated[str, typer.Option(help="One of the fixed reasons, which the researcher sees.")] = "not-now",
    by: By = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Refuse a job that waits."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.agent.config import SiteConfig
        from synthema.agent.guests import site_or_guest
        from synthema.agent.queue import ApprovalQueue
        from synthema.agent.table import QUEUE_FILE

        setup = site_or_guest(SiteConfig.load(config), site)
        with ApprovalQueue(setup.place(QUEUE_FILE)) as jobs:
            done = jobs.refuse(job, by=by or getpass.getuser(), reason=reason, site=setup.name, note=note)
        show(asdict(done), f"{done.job_id[:12]} is refused by {done.decided_by}", as_json=as_json)
