"""From a study and each site's table to everything that may be known: the embedded run, start to end.

    consider -> reserve -> overlap check -> anonymised tables -> logistic -> Kaplan-Meier -> marginals -> synthetic rows

Every site decides and pays for itself. Rows stay in the `Site` objects; they are dropped before the shared report is
rendered, which sees released values only.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from anonymise import assess_risk
from privacy.ledger import Ledger, open_ledger
from synthema import joint
from synthema.compare import compare_columns, compare_pairs, plain_note, synthetic_survival
from synthema.errors import StudyError
from synthema.job import PRIVATE_ACCOUNT, SiteJob
from synthema.joint_noise import rho_and_delta
from synthema.networks.base import StepNetwork, Traffic
from synthema.networks.embedded import EmbeddedNetwork
from synthema.policy import SitePolicy
from synthema.released import AnonymisedSite, ModelResult, Released, SiteAccount, StepCost, SyntheticTable
from synthema.report import measure_fidelity, render_internal, render_shared
from synthema.signing import SignedDocument, Signer
from synthema.site import SECRET_BYTES, Site
from synthema.steps import MODEL_PREFIX, epsilon_alone, plan, set_aside
from synthema.study import MechanismName, Study
from synthema.synthesis_answer import answer_measurements, answer_table

Progress = Callable[[str], None]

_MECHANISMS: dict[MechanismName, str] = {
    "chow-liu": "Chow-Liu tree",
    "independent": "Independent columns",
    "mst": "MST",
    "aim": "AIM",
    "privbayes": "PrivBayes",
    "adaptive": "Adaptive",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of a study gives.

    table        synthetic patients, or None if the study asked for none
    anonymised   all sites' anonymised rows with a `site` column, or None
    report       shared report, self-contained HTML, from released values only
    internal     each site's own page, marked INTERNAL, for that site only
    ledgers      each site's ledger file
    costs        rounds, bytes and epsilon per step, as plain data
    released     everything that was made known, as a value
    folder       where ledgers (and outputs, if asked for) are
    """

    table: pd.DataFrame | None
    anonymised: pd.DataFrame | None
    report: str
    internal: dict[str, str]
    ledgers: dict[str, Path]
    costs: dict[str, Any]
    released: Released
    folder: Path


def simulate(
    study: Study,
    frames: Mapping[str, pd.DataFrame],
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run the study with every site in this process.

    Parameters
    ----------
    frames
        Each site's rows; the names are those of the study's sites.
    out
        Folder for `ledgers/*.db`; a new temporary one if None. A folder that was used before holds the same sites: the
        same study gives the stored answers, another one is charged to the same budgets.
    progress
        Called with a line of plain text as each step begins.

    Raises
    ------
    StudyError, SchemaError, SiteRefused, SiteFailed, OverlapTooLarge, DisclosureRefused, ModelFailed
        Each says what was wrong and the way out; a refusal charges nothing.
    """
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="synthema-"))
    if set(frames) != set(study.sites):
        raise StudyError(f"tables are needed for exactly these sites: {', '.join(study.sites)}")
    signer = Signer()
    document = study.signed(signer)
    (folder / "ledgers").mkdir(parents=True, exist_ok=True)
    ledgers: dict[str, Ledger] = {}
    try:
        sites = {}
        for name in study.sites:
            ledgers[name] = open_ledger(f"sqlite:///{(folder / 'ledgers' / f'{name}.db').absolute()}", site=name)
            sites[name] = Site(
                name,
                frames[name],
                study.data_schema,
                ledger=ledgers[name],
                policy=site_policy(study, name, researcher=signer.public_key),
                secret=_site_secret(folder / "sites" / name),
            )
        return run(document, sites, folder=folder, progress=progress)
    finally:
        for ledger in ledgers.values():
            ledger.close()


def site_policy(study: Study, name: str, *, researcher: str) -> SitePolicy:
    """Return the policy that the study's TOML states for a simulated site, or one that just covers its budget.

    Without a stated policy no exact release is allowed. Partners are the other sites of the simulation.
    """
    section = study.sites[name].policy
    trusted, partners = frozenset({researcher}), frozenset(study.sites)
    if section is None:
        return SitePolicy(
            study.budget.epsilon,
            study.budget.delta,
            partners=partners,
            researchers=trusted,
            max_patients=study.largest_cohort,
            approximate_delta=set_aside(study),
            # The sites of a simulation are this process: none of them lies.
            min_input_check="none",
        )
    terms: dict[str, Any] = {"max_patients": study.largest_cohort, "min_input_check": "none"} | section.model_dump()
    return SitePolicy(**terms, partners=partners, researchers=trusted)


def _site_secret(folder: Path) -> bytes:
    """Return the site's secret, made and kept in its own folder at first use."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "site.key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    secret = secrets.token_bytes(SECRET_BYTES)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secret.hex())
    return secret


def run(
    document: SignedDocument, sites: Mapping[str, Site], *, folder: Path, progress: Progress | None = None
) -> Outcome:
    """Run a signed study over sites in this process: the coordinator's part of `simulate`."""
    say = progress or (lambda _line: None)
    study = Study.from_document(document.body)
    if set(sites) != set(study.sites):
        raise StudyError(f"exactly the study's sites must take part: {', '.join(sorted(study.sites))}")
    say("each site checks the signature, its policy and its budget")
    network = EmbeddedNetwork(study, _accept(document, sites))
    done = Results(study=study, document=document)
    try:
        run_steps(network, done, say)
    finally:
        for job in network.jobs.values():
            job.abandon()
    done.accounts = tuple(account_of(site) for site in sites.values())
    say("each site writes its internal page")
    internal = {name: internal_page(site, study, done) for name, site in sites.items()}
    for site in sites.values():
        site.forget_rows()
    say("the shared report is rendered from released values")
    released = done.released(network.traffic)
    return Outcome(
        table=done.table,
        anonymised=done.anonymised,
        report=render_shared(released),
        internal=internal,
        ledgers={name: folder / "ledgers" / f"{name}.db" for name in sites},
        costs=costs_of(released),
        released=released,
        folder=folder,
    )


def _accept(document: SignedDocument, sites: Mapping[str, Site]) -> dict[str, SiteJob]:
    """Let every site accept, or none: one refusal voids the others' reservations."""
    jobs: dict[str, SiteJob] = {}
    try:
        # All sites look at the study before any of them reserves.
        for site in sites.values():
            site.consider(document)
        for name, site in sites.items():
            jobs[name] = site.accept(document)
    except BaseException:
        for job in jobs.values():
            job.abandon()
        raise
    return jobs


@dataclass(slots=True)
class Results:
    """What the steps have given so far; holds released values only."""

    study: Study
    document: SignedDocument
    overlap: Any = None
    anonymised_sites: tuple[AnonymisedSite, ...] = ()
    anonymised: pd.DataFrame | None = None
    logistic: Any = None
    survival: tuple[Any, ...] = ()
    models: list[ModelResult] = field(default_factory=list)
    table: pd.DataFrame | None = None
    synthetic: SyntheticTable | None = None
    note: str = ""
    accounts: tuple[SiteAccount, ...] = field(default=())

    def released(self, traffic: Mapping[str, Traffic]) -> Released:
        """Return everything that was made known, with what the network carried."""
        study = self.study
        return Released(
            study=study.name,
            purpose=study.purpose,
            job_id=self.document.document_id,
            epsilon=study.budget.epsilon,
            delta=study.budget.delta,
            neighbours=study.neighbours,
            max_sites_per_patient=study.max_sites_per_patient,
            sites=tuple(study.sites),
            compute_parties=study.compute_parties,
            collusion_threshold=study.federation.collusion_threshold,
            note=self.note,
            steps=_step_costs(study, traffic),
            accounts=self.accounts,
            overlap=self.overlap,
            anonymised=self.anonymised_sites,
            survival=self.survival,
            logistic=self.logistic,
            synthetic=self.synthetic,
            models=tuple(self.models),
        )


def run_steps(network: StepNetwork, done: Results, say: Progress) -> None:
    """Run every step of the study, and keep what each released."""
    for step in plan(network.study):
        say(step.what)
        match step.name:
            case "overlap":
                done.overlap = joint.check_overlap(network)
                joint.require_below(done.overlap)
            case "anonymised":
                done.anonymised, done.anonymised_sites = _anonymised_tables(network)
            case "logistic":
                done.logistic = joint.fit_logistic(network)
            case "kaplan-meier":
                done.survival = joint.open_survival(network)
            case "marginals":
                _synthesise(network, done)
            case name:
                done.models.append(joint.fit_model(network, name.removeprefix(MODEL_PREFIX)))


def _anonymised_tables(network: StepNetwork) -> tuple[pd.DataFrame, tuple[AnonymisedSite, ...]]:
    tables = network.run_site_step("anonymised", SiteJob.anonymised_table)
    k = network.study.anonymise.k if network.study.anonymise is not None else 0
    frames, described = [], []
    for site, data in tables.items():
        frame = pd.DataFrame(data["rows"], columns=data["columns"])
        quasi = [name for name, _, _ in data["levels"]]
        sizes = frame.groupby(quasi, dropna=False).size().to_numpy()
        frame.insert(0, "site", site)
        frames.append(frame)
        described.append(
            AnonymisedSite(
                site=site,
                k=k,
                levels=tuple((name, int(level), int(top)) for name, level, top in data["levels"]),
                smallest_class=int(sizes.min()),
                largest_risk=float(1 / sizes.min()),
                average_risk=float(len(sizes) / sizes.sum()),
                optimal=bool(data["optimal"]),
            )
        )
    return pd.concat(frames, ignore_index=True), tuple(described)


def _synthesise(network: StepNetwork, done: Results) -> None:
    study = network.study
    if study.synthesis is None:  # pragma: no cover - the plan has this step only if it is asked for
        return
    answer = joint.synthesise(network)
    schema = study.data_schema.subset(study.synthesis_columns)
    table, noisy = answer_table(answer), answer_measurements(answer)
    done.table = table
    done.synthetic = SyntheticTable(
        rows=study.synthesis.rows,
        mechanism=_MECHANISMS[study.synthesis.mechanism],
        columns=compare_columns(table, schema, noisy),
        pairs=compare_pairs(table, schema, noisy, {frozenset(edge) for edge in answer["edges"]}),
        survival=synthetic_survival(table, study),
    )
    done.note = plain_note(noisy, study.budget.epsilon, study.synthesis.rows)


def _step_costs(study: Study, traffic: Mapping[str, Traffic]) -> tuple[StepCost, ...]:
    out = []
    for step in plan(study):
        used = traffic.get(step.name, Traffic())
        rho = rho_and_delta(step.event)[0] if step.is_private else None
        out.append(
            StepCost(
                step=step.name,
                what=step.what,
                kind="private" if step.is_private else "exact",
                rho=rho,
                epsilon_alone=None if rho is None else epsilon_alone(study, step.event),
                rounds=used.rounds,
                bytes_sent=used.bytes_sent,
                bytes_input=used.bytes_input,
                dealer_bytes=used.dealer_bytes,
                triples=used.triples,
            )
        )
    return tuple(out)


def account_of(site: Site) -> SiteAccount:
    """Return what the site's ledger says after a study."""
    left = site.ledger.remaining(PRIVATE_ACCOUNT)
    size, head = site.ledger.head
    return SiteAccount(
        site=site.name,
        epsilon_cap=left.epsilon_cap,
        delta_cap=left.delta_cap,
        epsilon_spent=left.epsilon_spent,
        rho_spent=left.rho_spent,
        rho_left=left.rho_left,
        exact_releases=site.exact_releases(),
        entries=size,
        head=head,
    )


def costs_of(released: Released) -> dict[str, Any]:
    """Return rounds, bytes and epsilon per step as plain data; no number of patients."""
    data = released.to_dict()
    return {
        "study": data["study"],
        "job_id": data["job_id"],
        "budget": {"epsilon": data["epsilon"], "delta": data["delta"], "neighbours": data["neighbours"]},
        "steps": data["steps"],
        "sites": data["accounts"],
    }


def internal_page(site: Site, study: Study, done: Results) -> str:
    """Return the site's own page, made of its rows: for the site alone."""
    schema = study.data_schema
    before = json.loads(assess_risk(site.rows, schema).to_json()) if schema.quasi_identifiers else None
    after = None
    if done.anonymised is not None:
        own = done.anonymised[done.anonymised["site"] == site.name]
        after = json.loads(assess_risk(own, quasi_identifiers=list(schema.quasi_identifiers)).to_json())
    fidelity = measure_fidelity(
        site.rows,
        done.table,
        schema,
        site=site.name,
        grid_days=study.exact.kaplan_meier.grid_days if study.exact and study.exact.kaplan_meier else 180,
        risk_before=before,
        risk_after=after,
    )
    return render_internal(fidelity)


def write_outcome(outcome: Outcome, folder: str | Path) -> list[Path]:
    """Write synthetic.csv, anonymised.csv, costs.json, report.html, sites/<name>/internal.html; return the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in (("synthetic.csv", outcome.table), ("anonymised.csv", outcome.anonymised)):
        if table is not None:
            table.to_csv(folder / name, index=False)
            written.append(folder / name)
    texts = {"costs.json": json.dumps(outcome.costs, indent=2) + "\n", "report.html": outcome.report}
    texts |= {f"sites/{site}/internal.html": page for site, page in outcome.internal.items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written
