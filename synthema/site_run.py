"""A study at one site, start to end, where every site is a process of its own.

All sites run the same steps. At the end each tells the lead what its ledger says now; the lead puts together what the
researcher gets, from released values only. Each site's internal page is made of its own rows and stays there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from synthema.errors import SiteFailed
from synthema.job import SiteJob
from synthema.networks.base import Traffic
from synthema.networks.site_network import SiteNetwork
from synthema.pipeline import Results, account_of, internal_page, run_steps
from synthema.released import SiteAccount
from synthema.report import render_shared
from synthema.signing import SignedDocument

_LEAST_BUNDLE = 1 << 18

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SiteResult:
    """What a site has at the end.

    bundle    the lead only: what the researcher gets, as bytes (`read_bundle`)
    internal  the site's own page, HTML, marked INTERNAL; empty where the table is only counted, for it needs rows
    """

    bundle: bytes | None
    internal: str


def run_at_site(
    job: SiteJob, document: SignedDocument, network: SiteNetwork, *, progress: Progress | None = None
) -> SiteResult:
    """Run every step of an accepted study. Whatever goes wrong, no charge is left open.

    Raises
    ------
    SiteFailed, OverlapTooLarge, DisclosureRefused, ModelFailed, SiteInputInvalid
        As the steps do; started steps stay charged, later ones are voided.
    """
    done = Results(study=job.study, document=document)
    try:
        network.meet()
        run_steps(network, done, progress or (lambda _line: None))
    finally:
        job.abandon()
    told = network.exchange_with_lead(
        "end", {"account": asdict(account_of(job.site)), "traffic": _plain(network.traffic)}
    )
    bundle = _bundle(done, told) if network.is_lead else None
    internal = internal_page(job.site, job.study, done) if job.site.data.has_rows else ""
    return SiteResult(bundle, internal)


def read_bundle(data: bytes) -> dict[str, Any]:
    """Return what the lead put together: report (HTML), costs, released; synthetic and anonymised, as CSV or None."""
    found: dict[str, Any] = json.loads(data)
    return found


def _bundle(done: Results, told: dict[str, Any]) -> bytes:
    from synthema.pipeline import costs_of

    try:
        done.accounts = tuple(_account(told[site]["account"]) for site in done.study.sites)
        traffic = _added([told[site]["traffic"] for site in done.study.sites])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SiteFailed(site=done.study.compute_parties[0], step="end", error="a site's account is none") from None
    released = done.released(traffic)
    parts = {
        "report": render_shared(released),
        "costs": costs_of(released),
        "released": released.to_dict(),
        "synthetic": None if done.table is None else done.table.to_csv(index=False),
        "anonymised": None if done.anonymised is None else done.anonymised.to_csv(index=False),
    }
    text = json.dumps(parts, ensure_ascii=True, allow_nan=False).encode()
    # The hub keeps it, sealed: its length is not to count the rows of an anonymised table.
    return text.ljust(max(_LEAST_BUNDLE, 1 << (len(text) - 1).bit_length()))


def _account(fields: dict[str, Any]) -> SiteAccount:
    return SiteAccount(**{**fields, "exact_releases": tuple(fields["exact_releases"])})


def _plain(traffic: dict[str, Traffic]) -> dict[str, dict[str, int]]:
    return {step: asdict(used) for step, used in traffic.items()}


def _added(every: list[dict[str, dict[str, int]]]) -> dict[str, Traffic]:
    """Return what all sites together sent; rounds, products and the dealer's bytes are those of one party."""
    total: dict[str, Traffic] = {}
    for site in every:
        for step, used in site.items():
            one = Traffic(**used)
            so_far = total.setdefault(step, Traffic())
            so_far.rounds, so_far.triples = max(so_far.rounds, one.rounds), max(so_far.triples, one.triples)
            so_far.bytes_sent += one.bytes_sent
            so_far.bytes_input += one.bytes_input
            so_far.dealer_bytes = max(so_far.dealer_bytes, one.dealer_bytes)
    return total
