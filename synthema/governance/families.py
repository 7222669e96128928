"""Families of exact releases: which are one and the same, and which are a difference of two.

Two exact releases that differ a little differ by a few patients: another grid, another horizon, one site fewer, new
rows, a table beside a curve. So a table makes the exact releases of one study, and of one only. A later study that asks
for the same again (steps and parameters, schema, set of sites, rows) is given the stored answers; everything else is
refused. What was begun and not finished is not begun again: the sums of a model at several coefficients, one set for
each try, would be more equations about the same patients.

Private releases are free to vary: the ledger pays for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy import NonPrivate
from synthema.signing import canonical_json
from synthema.steps import plan
from synthema.study import Study

if TYPE_CHECKING:
    from synthema.governance.history import Charge


@dataclass(frozen=True, slots=True)
class Family:
    """What identifies a study's exact releases: SHA-256 of what they are (steps, parameters, schema), and of the sites.

    Which parties compute, and how the study is called, makes no difference to what is opened.
    """

    content: str
    sites: str


def exact_steps(study: Study) -> tuple[str, ...]:
    """Return the names of the study's exact steps, in the order in which they run."""
    return tuple(step.name for step in plan(study) if isinstance(step.event, NonPrivate))


def family_of(study: Study) -> Family | None:
    """Return the family of the study's exact releases, or None if it makes none."""
    steps = exact_steps(study)
    if not steps:
        return None
    content = {
        "steps": list(steps),
        "exact": None if study.exact is None else study.exact.model_dump(mode="json"),
        "anonymise": None if study.anonymise is None else study.anonymise.model_dump(mode="json"),
        "schema": study.data_schema.content_hash(),
    }
    models = {name: model for name, model in study.models.items() if model.mode == "exact"}
    if models:
        content["models"] = {name: model.model_dump(mode="json") for name, model in models.items()}
    return Family(_hash(content), _hash(sorted(study.sites)))


def stored_by(earlier: Sequence[Charge], study: Study, *, data_version: str) -> str | None:
    """Return the earlier job whose stored answers are those of this study's exact steps, or None.

    `earlier`: the table's exact releases so far, of other jobs.
    """
    steps, family = exact_steps(study), family_of(study)
    jobs = {charge.job_id for charge in earlier}
    if len(jobs) != 1 or {charge.key.partition("/")[2] for charge in earlier} != set(steps):
        return None
    same = all(
        charge.family == family and charge.data_version == data_version and charge.answered for charge in earlier
    )
    return jobs.pop() if same else None


def why_not(earlier: Sequence[Charge], study: Study, *, data_version: str) -> str | None:
    """Return why this study's exact releases are a difference to earlier ones, in public words; None if they are not.

    `earlier`: the table's exact releases so far, of other jobs.
    """
    family = family_of(study)
    if family is None or not earlier or stored_by(earlier, study, data_version=data_version) is not None:
        return None
    contents = {charge.family.content if charge.family is not None else "" for charge in earlier}
    sites = {charge.family.sites if charge.family is not None else "" for charge in earlier}
    if contents != {family.content}:
        return "another study made exact releases of this table, and two can be subtracted"
    if sites != {family.sites}:
        return "the same was released for another set of sites, and a site fewer or more can be subtracted"
    if {charge.data_version for charge in earlier} != {data_version}:
        return "the same was released of other rows, and two can be subtracted"
    return "the same release was begun and not finished: it is not begun again"


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
