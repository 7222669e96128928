"""The study: a typed, declarative document that says what is asked of the sites. Never code.

A `Study` is read from TOML, checked once, and becomes canonical bytes that the researcher signs. Sites' policies and
files may stand in the same TOML for a simulation; they are not part of the document.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from privacy import Schema, SchemaError
from privacy.neighbours import Neighbours
from privacy.schema import Column
from synthema.errors import StudyError
from synthema.learning import covariates as logistic
from synthema.learning.curves import check_together as check_curves
from synthema.learning.kinds import AnyModel
from synthema.learning.model import ModelSpec
from synthema.signing import SignedDocument, Signer, canonical_json

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
SiteName = Annotated[str, Field(pattern=_NAME)]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]

# Fields that came later: left out of the signed document where they say what was always done, so that the bytes of an
# older study, and the keys under which sites charged it, stay what they were.
_LATER: dict[str, dict[str, Any]] = {
    "federation": {"dealer": None, "most_patients": None},
    "synthesis": {"noise": "shares", "workload": [], "input_check": "auto"},
}
# Most rows of all sites of a study together.
MOST_ROWS = 1 << 24

# Above this an epsilon says almost nothing about a patient, and a typing error is more likely than a wish.
_LARGEST_EPSILON = 100.0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Budget(_Section):
    """What the study asks of each site, for all its private steps together."""

    epsilon: float = Field(ge=1e-3, le=_LARGEST_EPSILON, allow_inf_nan=False)
    delta: float = Field(gt=0, le=1e-3, allow_inf_nan=False)


class Federation(_Section):
    """Which sites compute on shares, and how many of them may collude without breaking the noise.

    dealer         the member, no site of the study, that serves correlated randomness to the compute parties
    most_patients  public bound on the patients of each site, which comparisons on shares rely on: 2^24 over the number
                   of sites by default; a smaller one is cheaper
    """

    compute_parties: tuple[SiteName, ...] = ()
    collusion_threshold: int = Field(default=1, ge=1)
    dealer: SiteName | None = None
    most_patients: int | None = Field(default=None, ge=2, le=MOST_ROWS)


class Overlap(_Section):
    """Check that no patient is known to more sites than stated: buckets of keyed pseudonyms, Beaver products."""

    n_buckets: int = Field(default=2**18, ge=2**16, le=2**22)
    budget_share: float = Field(default=0.05, ge=0.01, le=0.5)

    @field_validator("n_buckets")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value


class Anonymise(_Section):
    """Each site's table to k-anonymity by full-domain generalisation. Not private in the sense of epsilon.

    The survival columns are left out unless `with_survival`, which excludes exact survival results of the same table:
    rows beside a curve give the curve's closed cells away by subtraction.
    """

    k: int = Field(default=5, ge=2)
    suppression_limit: float = Field(default=0.05, ge=0, le=0.2)
    with_survival: bool = False


class Logistic(_Section):
    """Model of death within `horizon_days`; patients lost before it are left out.

    At least one covariate must be a number with many values: a model of categories alone is a table, and its sums
    open that table.
    """

    horizon_days: int = Field(gt=0)
    covariates: tuple[str, ...] = Field(min_length=1)


class KaplanMeier(_Section):
    """Survival curves per group on a public grid."""

    group: str
    grid_days: int = Field(ge=30)


class Exact(_Section):
    """Exact joint releases. Opt-in; not covered by epsilon."""

    min_cell: int = Field(default=5, ge=3, le=20)
    logistic: Logistic | None = None
    kaplan_meier: KaplanMeier | None = None


MechanismName = Literal["chow-liu", "independent", "mst", "aim", "privbayes", "adaptive"]


class Synthesis(_Section):
    """The synthetic table: which columns, how many rows (a public number), and how it is learned.

    noise     "shares": each compute party adds its own, n / (n - t) times the variance that is paid for; "joint":
              sampled on shares, the variance that is paid for, for more messages
    input_check  whether each site's counts are checked on shares first (`validity`): "auto" checks where comparisons
                 rely on it, in mechanisms that choose, and not where sums alone are opened
    workload  for "aim": the sets of columns whose counts shall be right; all pairs and triples, or all pairs where the
              triples are too many (`marginal_layout.TRIPLE_CELLS`)
    """

    rows: int = Field(default=1000, ge=1, le=10_000_000)
    columns: tuple[str, ...] = ()
    mechanism: MechanismName = "chow-liu"
    noise: Literal["shares", "joint"] = "shares"
    workload: tuple[tuple[str, ...], ...] = Field(default=(), max_length=10_000)
    input_check: Literal["auto", "full", "totals", "none"] = "auto"


class PolicySection(_Section):
    """A site's own rules, for simulations that keep them beside the study."""

    epsilon_cap: float = Field(gt=0, allow_inf_nan=False)
    delta_cap: float = Field(gt=0, lt=1, allow_inf_nan=False)
    min_patients: int = Field(default=10, ge=2)
    min_sites_per_patient: int = Field(default=1, ge=1)
    require_overlap_check: bool = False
    min_collusion_threshold: int = Field(default=1, ge=1)
    allow_exact: bool = False
    min_sites: int = Field(default=3, ge=2)
    min_cell: int = Field(default=5, ge=3)
    min_leaf: int = Field(default=20, ge=3)
    min_grid_days: int = Field(default=90, ge=1)
    min_k: int = Field(default=5, ge=2)
    approximate_delta: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)


class SiteSection(_Section):
    """A site of a simulation: its CSV file and its policy."""

    file: str | None = None
    policy: PolicySection | None = None


class Study(_Section):
    """What is asked: schema, sites, budget, steps.

    Examples
    --------
    >>> study = Study.from_dict({
    ...     "study": {"name": "pilot", "purpose": "age and sex", "schema": {
    ...         "columns": {"sex": {"categories": ["F", "M"]}}}},
    ...     "budget": {"epsilon": 1.0, "delta": 1e-6},
    ...     "sites": {"vienna": {}, "madrid": {}, "milan": {}},
    ... })
    >>> study.compute_parties
    ('vienna', 'madrid', 'milan')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    name: str = Field(pattern=_NAME)
    purpose: str = Field(min_length=3, max_length=500)
    neighbours: Neighbours = "add_remove_one"
    max_sites_per_patient: int = Field(default=1, ge=1, le=5)
    data_schema: Schema
    budget: Budget
    federation: Federation = Federation()
    overlap: Overlap | None = None
    anonymise: Anonymise | None = None
    exact: Exact | None = None
    synthesis: Synthesis | None = Synthesis()
    models: dict[ModelName, AnyModel] = Field(default_factory=dict, max_length=20)
    sites: dict[SiteName, SiteSection] = Field(min_length=2, max_length=1000)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study from TOML; the schema file is looked up beside it."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise StudyError(f"study file {path.name}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(
                f"study file {path.name} cannot be read ({type(error).__name__}); give UTF-8 TOML"
            ) from None
        return cls.from_dict(data, folder=path.parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: str | Path | None = None) -> Study:
        """Build a study from parsed TOML. Raises StudyError with every problem, or SchemaError."""
        head = data.get("study")
        if not isinstance(head, Mapping) or "schema" not in head:
            raise StudyError("a study needs [study] with name, purpose and schema; see the README for an example")
        schema = head["schema"]
        if isinstance(schema, str):
            loaded = Schema.load(Path(folder or ".") / schema)
        else:
            loaded = schema if isinstance(schema, Schema) else Schema.from_dict(schema, folder=folder)
        fields = {key: value for key, value in head.items() if key != "schema"}
        clash = sorted(
            set(fields) & (set(cls.model_fields) - {"name", "purpose", "neighbours", "max_sites_per_patient"})
        )
        if clash:
            raise StudyError(f"[study] holds {clash[0]!r}, which is a section of its own")
        rest = {key: _tuples(value) for key, value in data.items() if key != "study"}
        if "models" in rest:
            # A study of models makes a synthetic table only if it says so.
            rest.setdefault("synthesis", None)
        try:
            return cls(**fields, **rest, data_schema=loaded)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or 'study'}: {item['msg']}" for item in error.errors()]
            raise StudyError("; ".join(problems)) from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for party in self.federation.compute_parties:
            if party not in self.sites:
                raise ValueError(f"compute party {party!r} is no site of this study")
        if len(set(self.federation.compute_parties)) < len(self.federation.compute_parties):
            raise ValueError("a compute party is named twice")
        if self.federation.dealer in self.sites:
            raise ValueError("the dealer must be no site of this study: with one party's shares it would know them all")
        if self.largest_cohort * len(self.sites) > MOST_ROWS:
            raise ValueError(f"most_patients: all sites together may hold at most {MOST_ROWS} rows")
        n_parties = len(self.compute_parties)
        if not 2 <= n_parties <= 5:
            raise ValueError(f"compute_parties must name 2 to 5 sites, got {n_parties}")
        if self.federation.collusion_threshold >= n_parties:
            raise ValueError(f"collusion_threshold must be below the number of compute parties ({n_parties})")
        if self.neighbours != "add_remove_one":
            raise ValueError("neighbours: this version prices joint steps under add_remove_one only")
        if self.max_sites_per_patient > len(self.sites):
            raise ValueError("max_sites_per_patient exceeds the number of sites")
        self._check_columns()
        self._check_models()
        return self

    def _check_models(self) -> None:
        shares = [model.budget_share for model in self.models.values() if model.budget_share is not None]
        if self.overlap is not None:
            shares.append(self.overlap.budget_share)
        taken = math.fsum(shares)
        if taken > 1 or (taken == 1 and self.synthesis is not None):
            raise ValueError("budget_share: models and the overlap check take more of the budget than there is")
        for name, model in self.models.items():
            try:
                model.check(self.data_schema)
            except (ValueError, SchemaError) as error:
                raise ValueError(f"models.{name}: {error}") from None
        exact = [model for model in self.models.values() if model.mode == "exact"]
        if exact and self.exact is not None and (self.exact.logistic or self.exact.kaplan_meier):
            raise ValueError("exact models stand in [models] or in [exact], not in both: they are tested together")
        if exact and self.anonymise is not None and self.anonymise.with_survival:
            raise ValueError("anonymise.with_survival and exact models exclude each other")
        tables = [name for name, model in self.models.items() if model.mode == "exact" and model.opens_column_counts]
        if len(tables) > 1:
            raise ValueError(f"models.{tables[1]}: a second exact table of counts could be subtracted from the first")
        check_curves(self.models)
        alone: dict[str, str] = {}
        for name, model in self.models.items():
            if model.mode == "exact" and model.one_in_a_study and alone.setdefault(model.kind, name) != name:
                raise ValueError(
                    f"models.{name}: a second exact {model.kind} could be subtracted from the first: make it private"
                )
        survival = self.data_schema.survival
        if survival is not None and any(model.opens_survival_counts or model.has_horizon for model in exact):
            for name in (*tables, *alone.values()):
                if {survival.time, survival.event} & set(getattr(self.models[name], "columns", ())):
                    raise ValueError(
                        f"models.{name}: leave the survival columns out beside exact survival results, from whose "
                        "counts they could be subtracted"
                    )
        deaths = {model.tells_deaths(self.data_schema) for model in exact} - {""}
        if deaths and any(model.opens_survival_counts for model in exact):
            raise ValueError(
                "models: an exact model of an outcome by a horizon stands beside no exact curves of the same patients, "
                "for counts until the horizon could be subtracted; [exact] tests the two together"
            )
        if len(deaths) > 1:
            raise ValueError(
                f"models: exact models of deaths {' and '.join(sorted(deaths))} stand in studies of their own, for "
                "their counts could be subtracted: ask for one of them"
            )
        if not all(model.has_horizon for model in exact):
            for name, model in self.models.items():
                if model.mode == "exact" and model.has_horizon and not model.tests_losses:
                    raise ValueError(
                        f"models.{name}: exact {model.title.lower()} by a horizon stand beside no exact models of all "
                        "patients, for those who were lost before it could be told by subtraction: make one of them "
                        "private"
                    )

    def with_model(self, name: str, model: ModelSpec) -> Study:
        """Return the study that asks for this model alone: same table, sites, budget and overlap check.

        Raises StudyError, naming the rule that the model breaks.
        """
        return self._with(models={name: model})

    def _check_columns(self) -> None:
        schema = self.data_schema
        try:
            if self.synthesis is not None:
                for name in self.synthesis.columns:
                    if not schema.column(name).is_coded:
                        raise ValueError(f"synthesis.columns: {name!r} has no public list of codes")
                if not self.synthesis_columns:
                    raise ValueError("synthesis needs at least one coded column")
                self._check_workload(self.synthesis)
            exact = self.exact
            if exact is not None and (exact.logistic or exact.kaplan_meier) and schema.survival is None:
                raise ValueError("exact survival results need a [survival] section in the schema")
            if (
                exact is not None
                and exact.kaplan_meier is not None
                and not schema.column(exact.kaplan_meier.group).categories
            ):
                raise ValueError("exact.kaplan_meier.group must be a column with categories")
            if (
                exact is not None
                and exact.kaplan_meier is not None
                and schema.survival is not None
                and exact.kaplan_meier.group in (schema.survival.time, schema.survival.event)
            ):
                raise ValueError(f"exact.kaplan_meier.group: {exact.kaplan_meier.group!r} is the outcome")
            if exact is not None and (exact.logistic or exact.kaplan_meier) and schema.survival is not None:
                for name in (schema.survival.time, schema.survival.event):
                    if schema.column(name).nullable:
                        raise ValueError(f"exact survival results need {name!r} without missing values")
            if exact is not None and (exact.logistic or exact.kaplan_meier):
                days = exact.logistic.horizon_days if exact.logistic else None
                logistic.check_death(schema, horizon_days=days, where="exact.logistic.horizon_days")
            if exact is not None and exact.logistic is not None:
                logistic.check_covariates(schema, exact.logistic.covariates)
            if self.overlap is not None and schema.patient_id is None:
                raise ValueError("the overlap check needs patient_id in the schema")
            if self.anonymise is not None:
                self._check_anonymise(self.anonymise)
        except SchemaError as error:
            raise ValueError(str(error)) from None

    def _check_workload(self, wanted: Synthesis) -> None:
        if wanted.workload and wanted.mechanism != "aim":
            raise ValueError(f"synthesis.workload is for mechanism 'aim', not {wanted.mechanism!r}")
        known = {column.name for column in self.modelled_columns}
        for clique in wanted.workload:
            if not clique or len(set(clique)) < len(clique) or not known.issuperset(clique):
                raise ValueError("synthesis.workload: each entry names different columns of the synthetic table")

    def _check_anonymise(self, wanted: Anonymise) -> None:
        schema = self.data_schema
        if not schema.quasi_identifiers:
            raise ValueError("anonymise needs at least one quasi-identifier in the schema")
        if wanted.with_survival and self.exact is not None and (self.exact.logistic or self.exact.kaplan_meier):
            raise ValueError("anonymise.with_survival and exact survival results exclude each other")
        for name in self.anonymised_columns:
            column = schema.column(name)
            if column.role in ("sensitive", "insensitive") and not column.is_coded:
                raise ValueError(f"anonymise: column {name!r} would leave as it is; give it bounds or categories")

    @property
    def anonymised_columns(self) -> tuple[str, ...]:
        """Columns that the anonymised tables are made of: all, or all but survival; identifiers never leave."""
        schema, wanted = self.data_schema, self.anonymise
        if schema.survival is None or (wanted is not None and wanted.with_survival):
            return schema.names
        return tuple(name for name in schema.names if name not in (schema.survival.time, schema.survival.event))

    @property
    def largest_cohort(self) -> int:
        """Most patients that a site of this study may have: public."""
        return self.federation.most_patients or MOST_ROWS // len(self.sites)

    @property
    def compute_parties(self) -> tuple[str, ...]:
        """The sites that compute on shares: as named, or the first three (two, if there are only two)."""
        return self.federation.compute_parties or tuple(self.sites)[:3]

    @property
    def synthesis_columns(self) -> tuple[str, ...]:
        """Columns of the synthetic table: as named, or every coded column."""
        wanted = self.synthesis.columns if self.synthesis is not None else ()
        return tuple(name for name in self.data_schema.coded if not wanted or name in wanted)

    @property
    def modelled_columns(self) -> tuple[Column, ...]:
        """Columns that the synthesis measures: groups in place of rare categories, and patterns of missing values."""
        return self.data_schema.subset(self.synthesis_columns).modelled

    def with_synthesis(self, synthesis: Synthesis) -> Study:
        """Return the study that asks for this synthetic table alone. Raises StudyError, naming the rule it breaks."""
        return self._with(synthesis=synthesis)

    def of_columns(self, names: Sequence[str]) -> Study:
        """Return the study without models, tables and overlap check, of these columns. Raises StudyError."""
        return self._with(data_schema=self.data_schema.subset(names), overlap=None)

    def _with(self, **sections: Any) -> Study:
        fields: dict[str, Any] = {key: getattr(self, key) for key in type(self).model_fields}
        fields |= {"models": {}, "exact": None, "anonymise": None, "synthesis": None} | sections
        try:
            return type(self)(**fields)
        except ValidationError as error:
            raise StudyError("; ".join(item["msg"] for item in error.errors())) from None

    def document(self) -> bytes:
        """Return the canonical bytes that are signed: everything asked, nothing about files or policies."""
        body = self.model_dump(mode="json", exclude={"sites", "data_schema"})
        body["sites"] = sorted(self.sites)
        body["federation"]["compute_parties"] = list(self.compute_parties)
        for section, fields in _LATER.items():
            for field, default in fields.items():
                if body[section] is not None and body[section][field] == default:
                    del body[section][field]
        if not body["models"]:
            del body["models"]
        body["schema"] = self.data_schema.to_dict()
        body["format"] = "synthema-study-v1"
        return canonical_json(body)

    def signed(self, signer: Signer) -> SignedDocument:
        """Return the document with the researcher's signature."""
        return signer.sign(self.document())

    @classmethod
    def from_document(cls, body: bytes) -> Study:
        """Read back what `document` wrote: what a site does with a job that it received.

        Raises StudyError on anything else.
        """
        try:
            data = json.loads(body)
            if data.pop("format") != "synthema-study-v1":
                raise StudyError("the document has another format version; update this site")
            schema = Schema.from_dict(data.pop("schema"))
            data["sites"] = {name: {} for name in data["sites"]}
        except SchemaError as error:
            raise StudyError(f"the document is not a study: {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            # Nested without end, or a number of more digits than Python reads, among others.
            raise StudyError("the document is not a study") from None
        try:
            return cls(**{key: _tuples(value) for key, value in data.items()}, data_schema=schema)
        except ValidationError as error:
            raise StudyError(f"the document is not a study: {error.errors()[0]['msg']}") from None


def _tuples(value: Any) -> Any:
    """Return parsed TOML with lists as tuples, which is what the frozen models hold."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return value
