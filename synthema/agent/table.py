"""What the agent needs of the site's own things when a job comes: its table, its policy and its ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from privacy import Schema
from privacy._secret_files import read_secret
from privacy.ledger import WitnessPolicy, load_key, open_ledger
from synthema.agent.config import SiteConfig
from synthema.agent.queue import ApprovalQueue, QueueApproval, QueueError
from synthema.errors import StudyError
from synthema.networks.asking import Asking, RemoteWitness
from synthema.networks.base import DecisionState

QUEUE_FILE = "queue.db"
_SECRET_FILE = 256

if TYPE_CHECKING:
    from synthema.policy import SitePolicy
    from synthema.site import Site
    from synthema.study import Study


def open_table(config: SiteConfig, asking: Asking, *, note: str = "") -> Site:
    """Open the ledger and read the table. Raises whatever is wrong with them, for the operator alone.

    `note`: what the ledger is told, once, before the table is opened.
    """
    from synthema.intake.read import SiteSource
    from synthema.site import Site

    schema = Schema.load(config.place(config.schema_file))
    ledger = open_ledger(
        config.ledger_url,
        site=config.name,
        signer=load_key(config.place(config.keys.ledger)),
        anchor=None if config.ledger.anchor is None else config.place(config.ledger.anchor),
        witnesses=witness_policy(config, asking),
    )
    try:
        if note and not any(entry.kind == "note" and entry.body["text"] == note for entry in ledger.entries()):
            ledger.note(note)
        data = SiteSource.of(config.data, schema, folder=config.folder).open()
        secret = bytes.fromhex(read_secret(config.place(config.keys.secret), most_bytes=_SECRET_FILE).decode("ascii"))
        return Site(config.name, data, schema, ledger=ledger, policy=site_policy(config), secret=secret)
    except BaseException:
        ledger.close()
        raise


def settle_charges(config: SiteConfig, jobs: Collection[str]) -> None:
    """Close what an agent that was killed left open of these jobs: started steps are charged, the others voided."""
    with open_ledger(
        config.ledger_url,
        site=config.name,
        signer=load_key(config.place(config.keys.ledger)),
        anchor=None if config.ledger.anchor is None else config.place(config.ledger.anchor),
    ) as ledger:
        for key in ledger.open_charges():
            if key.partition("/")[0] in jobs:
                ledger.settle(key)


def witness_policy(config: SiteConfig, asking: Asking) -> WitnessPolicy | None:
    """Return who has to countersign before this site spends; None if nobody has to."""
    if not config.witnesses.needed:
        return None
    witnesses = [RemoteWitness(name, config.partners[name].witness_key, asking) for name in config.witness_names]
    if len(witnesses) < config.witnesses.needed:
        raise StudyError(f"[witnesses] needs {config.witnesses.needed}, and so many partners have no witness_key")
    return WitnessPolicy(witnesses, config.witnesses.needed, config.witnesses.window)


def site_policy(config: SiteConfig) -> SitePolicy:
    """Return the site's policy; its partners are those whose keys it has pinned."""
    from synthema.governance.policy_file import read_policy

    return read_policy(config.policy, partners=frozenset(config.partners), hosts=config.hosts)


class OperatorApproval:
    """The policy decides, or the job waits for the operator (`synthema.agent.queue`). The file is read at every offer.

    Parameters
    ----------
    config
        Gives the site's present file.
    """

    def __init__(self, config: Callable[[], SiteConfig]) -> None:
        self._config = config
        self._queue = ApprovalQueue(config().place(QUEUE_FILE))

    def ask(self, job_id: str, study: Study, researcher: str, submission: bytes, price: str) -> DecisionState:
        """Return whether the job is accepted, refused, or waits for the operator."""
        return self._approval(price).ask(job_id, study, researcher, submission)

    def refusal(self, job_id: str) -> tuple[str, str]:
        """Return the reason of an operator's refusal and the sentence that the researcher may see."""
        return self._approval("").refusal(job_id)

    def note(self, job_id: str, state: str) -> None:
        """Keep a job's state; one that never came into the queue is not kept."""
        with contextlib.suppress(QueueError):
            self._queue.move(job_id, self._config().name, state)

    def newly_decided(self) -> list[tuple[str, bytes]]:
        """Return what the operator decided and the hub does not know yet: jobs and their submissions."""
        return [(job.job_id, submission) for job, submission in self._queue.untold()]

    def close(self) -> None:
        """Close the file."""
        self._queue.close()

    def _approval(self, price: str) -> QueueApproval:
        config = self._config()
        return QueueApproval(self._queue, config.name, site_policy(config), price=lambda _study: price)
