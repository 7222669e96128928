"""The `[policy]` section of a site's TOML.

    [policy]
    version = 1
    preset = "datashield"                       # optional; `policy = "datashield"` alone takes its defaults
    epsilon_cap = 3.0
    delta_cap = 1e-6
    min_patients = 20                           # public: a refusal may say it
    timezone = "Europe/Vienna"
    algorithms = ["overlap", "marginals:chow-liu@1", "kaplan-meier"]
    purpose_words = ["leukaemia", "survival"]
    weekdays = ["mon", "tue", "wed", "thu", "fri"]
    hours = "08:00-18:00"
    jobs_per_day = 5                            # of each researcher
    researcher_epsilon_cap = 1.0                # of each researcher, over all studies

    [[policy.researchers]]
    name = "Anna Huber, MedUni Vienna"
    key = "3f0c..."                             # Ed25519, 64 hexadecimal digits
    purposes = ["survival after first remission"]
    valid_from = 2026-01-01
    valid_until = 2026-12-31
    approve = "automatic"                       # exact releases still ask, unless `automatic` lists them

Unknown entries and values out of range are refused, all at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthema.errors import PolicyError
from synthema.governance.datashield import Filters, policy_fields
from synthema.governance.terms import WEEKDAYS, Researcher, Terms, Window, check_pattern
from synthema.policy import SitePolicy
from synthema.steps import APPROXIMATE_PART
from synthema.study import MOST_ROWS

VERSION: Final = 1
# What a bare `policy = "datashield"` lets the private releases of all studies cost together.
PRESET_EPSILON: Final = 1.0
PRESET_DELTA: Final = 1e-6

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


def _hours(text: str) -> str:
    if _HOURS.fullmatch(text) is None or text[:5] == text[6:]:
        raise ValueError(f"hours are written HH:MM-HH:MM, from and until, got {text!r}")
    return text


Pattern = Annotated[str, AfterValidator(check_pattern)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Terms(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    purposes: tuple[str, ...] = ()
    purpose_words: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = ()
    algorithms: tuple[Pattern, ...] | None = None
    valid_from: date | None = None
    valid_until: date | None = None
    weekdays: tuple[Weekday, ...] | None = None
    hours: Annotated[str, AfterValidator(_hours)] | None = None
    jobs_per_day: int | None = Field(default=None, ge=1)
    approve: Literal["ask", "automatic"] = "ask"
    automatic: tuple[Pattern, ...] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.valid_from is not None and self.valid_until is not None and self.valid_from > self.valid_until:
            raise ValueError("valid_from is after valid_until")
        if self.automatic is not None and self.approve == "ask":
            raise ValueError('automatic lists algorithms for approve = "automatic"')
        return self

    def terms(self, epsilon_cap: float | None) -> Terms:
        hours = None
        if self.hours is not None:
            start, end = self.hours.split("-")
            hours = (time.fromisoformat(start), time.fromisoformat(end))
        days = None if self.weekdays is None else frozenset(WEEKDAYS.index(day) for day in self.weekdays)
        return Terms(
            purposes=self.purposes,
            purpose_words=self.purpose_words,
            algorithms=self.algorithms,
            window=Window(self.valid_from, self.valid_until, days, hours),
            epsilon_cap=epsilon_cap,
            jobs_per_day=self.jobs_per_day,
            approve=self.approve,
            automatic=self.automatic,
        )


class ResearcherSection(_Terms):
    """A researcher whose studies are considered, and what they must keep to beside the site's own terms."""

    name: str = Field(min_length=1, max_length=200)
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    epsilon_cap: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class SitePolicySection(_Terms):
    """What `[policy]` may hold. Rules that are left out are the preset's, or the defaults of `SitePolicy`."""

    version: Literal[1] = VERSION
    preset: Literal["datashield"] | None = None
    filters: Filters | None = None
    epsilon_cap: float = Field(gt=0, allow_inf_nan=False)
    delta_cap: float = Field(gt=0, lt=1, allow_inf_nan=False)
    approximate_delta: float | None = Field(default=None, ge=0, lt=1, allow_inf_nan=False)
    researcher_epsilon_cap: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_patients: int | None = Field(default=None, ge=2)
    max_patients: int | None = Field(default=None, ge=2, le=MOST_ROWS)
    min_sites_per_patient: int | None = Field(default=None, ge=1)
    require_overlap_check: bool | None = None
    min_collusion_threshold: int | None = Field(default=None, ge=1)
    min_input_check: Literal["full", "totals", "none"] | None = None
    allow_exact: bool | None = None
    min_sites: int | None = Field(default=None, ge=2)
    min_cell: int | None = Field(default=None, ge=3)
    min_leaf: int | None = Field(default=None, ge=3)
    min_grid_days: int | None = Field(default=None, ge=1)
    min_k: int | None = Field(default=None, ge=2)
    max_parameter_ratio: float | None = Field(default=None, gt=0, le=1)
    dominance: float | None = Field(default=None, gt=0, le=1)
    max_levels: int | None = Field(default=None, ge=1)
    max_level_density: float | None = Field(default=None, gt=0, le=1)
    max_text: int | None = Field(default=None, ge=1)
    timezone: str = "UTC"
    researchers: tuple[ResearcherSection, ...] = ()
    any_researcher: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.filters is not None and self.preset is None:
            raise ValueError('filters belong to preset = "datashield"')
        if self.any_researcher and self.researchers:
            raise ValueError("any_researcher is for a site that lists nobody")
        for what in ("key", "name"):
            if len({getattr(each, what) for each in self.researchers}) < len(self.researchers):
                raise ValueError(f"two researchers have one {what}")
        return self


# Fields that are the policy's own and pass as they are.
_PASSED = (
    "min_patients",
    "max_patients",
    "min_sites_per_patient",
    "require_overlap_check",
    "min_collusion_threshold",
    "min_input_check",
    "allow_exact",
    "min_sites",
    "min_cell",
    "min_leaf",
    "min_grid_days",
    "min_k",
    "max_parameter_ratio",
    "dominance",
    "max_levels",
    "max_level_density",
    "max_text",
)


def read_policy(
    data: Mapping[str, Any] | str, *, partners: frozenset[str], hosts: Mapping[str, str] | None = None
) -> SitePolicy:
    """Return the policy of a site.

    Parameters
    ----------
    data
        The parsed `[policy]` section, or the name of a ready policy.
    partners
        The sites whose keys this site has pinned.
    hosts
        Of the partners and this site, those whose table another holds: guest -> host.

    Raises
    ------
    PolicyError
        With every problem, by field. A site that lists no researcher, and does not say `any_researcher`, considers
        nobody's studies.

    Examples
    --------
    >>> policy = read_policy("datashield", partners=frozenset({"madrid"}))
    >>> policy.min_cell, policy.max_levels, policy.epsilon_cap, policy.knows("0" * 64)
    (3, 40, 1.0, False)
    """
    if isinstance(data, str):
        data = {"version": VERSION, "preset": data, "epsilon_cap": PRESET_EPSILON, "delta_cap": PRESET_DELTA}
    if data.get("version", VERSION) != VERSION:
        raise PolicyError(f"policy.version must be {VERSION}, the format of this policy")
    try:
        section = SitePolicySection(**_tuples(data))
    except ValidationError as error:
        problems = [f"policy.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise PolicyError("; ".join(problems)) from None
    try:
        zone = ZoneInfo(section.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PolicyError(f"policy.timezone: {section.timezone!r} is unknown here; try Europe/Vienna or UTC") from None
    fields: dict[str, Any] = policy_fields(section.filters or Filters()) if section.preset is not None else {}
    fields |= {name: value for name in _PASSED if (value := getattr(section, name)) is not None}
    return SitePolicy(
        epsilon_cap=section.epsilon_cap,
        delta_cap=section.delta_cap,
        approximate_delta=section.delta_cap * APPROXIMATE_PART
        if section.approximate_delta is None
        else section.approximate_delta,
        partners=partners,
        hosts=dict(hosts or {}),
        terms=section.terms(section.researcher_epsilon_cap),
        listed=None
        if section.any_researcher
        else tuple(Researcher(each.name, each.key, each.terms(each.epsilon_cap)) for each in section.researchers),
        timezone=zone,
        preset=section.preset or "",
        **fields,
    )


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return value
