"""A site's policy: what it allows, decided from the study's public text and the site's own ledger.

The researcher writes the study; the site writes the policy, and nothing in a study loosens it. The `[policy]` section
of a site's TOML is read by `synthema.governance.policy_file`; the rules are in `synthema.governance.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Literal

from synthema.governance.refusals import Reason
from synthema.governance.terms import Approve, Researcher, Terms
from synthema.study import Study

__all__ = ["Approve", "Reason", "SitePolicy"]


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What a site allows. A researcher cannot loosen it.

    epsilon_cap, delta_cap   of everything that this site's table ever pays for, in all studies together
    partners                 sites that it works with; a study that names another is refused, and so is every study if
                             there is none
    hosts                    sites whose table another site holds for them (guest -> host): the two count as one
    min_patients             smallest cohort the site takes part with: a public number
    max_patients             most patients that the table ever has: a public number, to which its joint counts are held
    min_sites_per_patient    least `max_sites_per_patient` that a study must reckon with
    require_overlap_check    whether a study must check that statement
    min_collusion_threshold  fewest colluding compute parties that the joint noise must withstand
    min_input_check          how far the counts that sites share must at least be checked where a mechanism chooses by
                             comparing them ("full", "totals", "none"): below "full", another site that lies can make a
                             choice tell a patient of this one
    allow_exact              whether exact (non-private) releases are allowed at all
    min_sites                fewest sites for a joint exact release
    min_cell                 smallest number of patients that an opened cell may show, if it is not 0
    min_leaf                 fewest patients of a leaf of exact boosted trees
    min_grid_days            narrowest grid for survival curves
    min_k                    smallest class of an anonymised table
    max_parameter_ratio      most coefficients of a model per patient
    dominance                largest part that one patient may have in an opened sum of numbers
    max_levels               most categories of a column that an exact result is broken down by; None: any number
    max_level_density        most categories per patient of such a column
    max_text                 longest text in a study, but for its purpose and the schema; None: any length
    terms                    what every study must keep to
    listed                   researchers with terms of their own; None: see `researchers`
    researchers              public keys whose studies are considered; None: any valid signature, if `listed` is None
    timezone                 in which time windows are read
    preset                   the name of a ready policy that this one started from
    approximate_delta        part of delta_cap set aside for what is private but for a small probability: choices on
                             shares, noise sampled jointly; a 1024th of delta_cap suits. 0: such studies are refused
    """

    epsilon_cap: float
    delta_cap: float
    partners: frozenset[str] = frozenset()
    min_patients: int = 10
    max_patients: int = 100_000
    min_sites_per_patient: int = 1
    require_overlap_check: bool = False
    min_collusion_threshold: int = 1
    min_input_check: Literal["full", "totals", "none"] = "full"
    allow_exact: bool = False
    min_sites: int = 3
    min_cell: int = 5
    min_leaf: int = 20
    min_grid_days: int = 90
    min_k: int = 5
    researchers: frozenset[str] | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    max_parameter_ratio: float = 0.33
    dominance: float = 0.9
    max_levels: int | None = None
    max_level_density: float = 0.33
    max_text: int | None = None
    terms: Terms = field(default_factory=Terms)
    listed: tuple[Researcher, ...] | None = None
    timezone: tzinfo = UTC
    preset: str = ""
    approximate_delta: float = 0.0

    def knows(self, key: str) -> bool:
        """Return whether studies signed by this public key are considered."""
        if self.listed is None:
            return self.researchers is None or key in self.researchers
        return self.researcher(key) is not None or (self.researchers is not None and key in self.researchers)

    def researcher(self, key: str) -> Researcher | None:
        """Return the listed researcher with this public key, or None."""
        return next((each for each in self.listed or () if each.key == key), None)

    def terms_of(self, key: str) -> tuple[Terms, ...]:
        """Return the terms that a researcher's studies must keep to, all of them."""
        own = self.researcher(key)
        return (self.terms,) if own is None else (self.terms, own.terms)

    def approval(self, study: Study, key: str) -> Approve:
        """Return whether a person must approve a study that broke no rule.

        A researcher's own terms decide where there are any; a site that lists nobody decides by the common ones.
        """
        return self.terms_of(key)[-1].approval(study)

    def host_of(self, site: str) -> str:
        """Return who holds a site's table: its host, or the site itself."""
        return self.hosts.get(site, site)
