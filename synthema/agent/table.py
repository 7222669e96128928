"""What the agent needs of the site's own things when a job comes: its table, its policy and its ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privacy import Schema
from privacy.ledger import WitnessPolicy, load_key, open_ledger
from synthema.agent.config import SiteConfig
from synthema.errors import StudyError
from synthema.networks.asking import Asking, RemoteWitness
from synthema.networks.base import DecisionState

if TYPE_CHECKING:
    from synthema.policy import SitePolicy
    from synthema.site import Site
    from synthema.study import Study


def open_table(config: SiteConfig, asking: Asking) -> Site:
    """Read the table and open the ledger. Raises whatever is wrong with them, for the operator alone."""
    from synthema.site import Site
    from synthema.tables import read_table

    schema = Schema.load(config.place(config.schema_file))
    path = config.data.get("path")
    if config.data.get("kind", "csv") != "csv" or not isinstance(path, str):
        raise StudyError('[data] needs kind = "csv" and path')
    frame = read_table(config.place(path), schema)
    ledger = open_ledger(
        config.ledger_url,
        site=config.name,
        signer=load_key(config.place(config.keys.ledger)),
        anchor=None if config.ledger.anchor is None else config.place(config.ledger.anchor),
        witnesses=witness_policy(config, asking),
    )
    try:
        secret = bytes.fromhex(config.place(config.keys.secret).read_text(encoding="ascii"))
        return Site(config.name, frame, schema, ledger=ledger, policy=site_policy(config), secret=secret)
    except BaseException:
        ledger.close()
        raise


def witness_policy(config: SiteConfig, asking: Asking) -> WitnessPolicy | None:
    """Return who has to countersign before this site spends; None if nobody has to."""
    if not config.witnesses.needed:
        return None
    witnesses = [
        RemoteWitness(name, partner.witness_key, asking)
        for name, partner in config.partners.items()
        if partner.witness_key
    ]
    if len(witnesses) < config.witnesses.needed:
        raise StudyError(f"[witnesses] needs {config.witnesses.needed}, and so many partners have no witness_key")
    return WitnessPolicy(witnesses, config.witnesses.needed, config.witnesses.window)


def site_policy(config: SiteConfig) -> SitePolicy:
    """Return the site's policy; its partners are those whose keys it has pinned."""
    from synthema.policy import SitePolicy

    terms: dict[str, Any] = {key: value for key, value in config.policy.items() if key != "approve"}
    if "researchers" in terms:
        terms["researchers"] = frozenset(terms["researchers"])
    return SitePolicy(partners=frozenset(config.partners), **terms)


class AutomaticApproval:
    """An operator who lets everything pass that the policy allows."""

    def ask(self, job_id: str, study: Study, researcher: str) -> DecisionState:
        """Return "accepted"."""
        del job_id, study, researcher
        return "accepted"

    def note(self, job_id: str, state: str) -> None:
        """Keep nothing."""


def automatic_or_ask(config: SiteConfig) -> AutomaticApproval:
    """Return how the operator wants to be asked."""
    if config.policy.get("approve", "automatic") != "automatic":
        raise StudyError('[policy] approve must be "automatic"')
    return AutomaticApproval()
