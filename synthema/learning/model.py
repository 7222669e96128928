"""What every kind of joint model says of itself: what it may ask, what it opens, what that costs, and how it is fitted.

A study lists models in `[models.NAME]`; each becomes one step of its plan. A kind of model is a `ModelSpec`, a value of
public things alone, and two halves of the work:

    SiteHalf   at every site, with the rows: makes the site's contribution to each round, and keeps what it needs to
               know what is asked next. What a site gives follows from the study and from what was opened before;
               nobody can ask it for sums at coefficients of their choice
    fit        at every member, without rows: gathers contributions, has the compute parties open what may be opened,
               and puts the answer together, the same at all

Exact models are not covered by epsilon: each is charged to the exact account, tested on shares before anything is
opened, and subject to the site's policy for exact releases. Private models add joint noise, paid for by `budget_share`
of the study's epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from smpc import FIELD61, RING64, Domain, Session, Shared, SharePackage, pool

if TYPE_CHECKING:
    import pandas as pd

    from privacy import Event, Schema
    from synthema.governance.refusals import Reason
    from synthema.networks.base import StepNetwork
    from synthema.policy import SitePolicy
    from synthema.study import Study

Mode = Literal["exact", "private"]
# A private model's share of the study's rho has to buy something.
_LEAST_SHARE = 1e-3

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What a site puts into one round, before it is shared among the compute parties.

    values   integers (fixed point is the model's business), any shape
    domain   RING64 for sums, products and comparisons of numbers of a declared range; FIELD61 for counts that are
             tested (`smpc.small_cells`)
    """

    values: Ints
    domain: Domain = RING64

    @classmethod
    def counts(cls, values: npt.ArrayLike) -> Contribution:
        """Return counts that are tested before they are opened."""
        return cls(np.asarray(values, dtype=np.int64), FIELD61)


class SiteHalf(Protocol):
    """One site's half of a model that is being fitted: it alone sees the rows."""

    def contribute(self, what: str, opened: Any) -> Contribution:
        """Return the contribution of this name; `opened`: what `fit` says was opened before, public.

        Called once for each name, in the order in which `fit` asks. Raises StudyError for what is not due.
        """
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """A part of a summary: a title, column names, and rows of text, numbers or None.

    Numbers are shown to four significant digits; `note` is a sentence below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    note: str = ""


class ModelSpec(BaseModel):
    """A model that a study asks for: public, and all there is to know in advance of what it opens.

    mode           "exact": the pooled result, no epsilon; "private": joint noise, differential privacy per patient
    min_cell       exact models only: a cell that is opened holds 0 or at least so many patients
    budget_share   private models only: the part of the study's rho that this one may spend
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # In policies, an algorithm is written model:KIND (exact) or model:KIND-private.
    kind: str
    mode: Mode = "exact"
    min_cell: int = Field(default=5, ge=3, le=20)
    budget_share: float | None = Field(default=None, ge=_LEAST_SHARE, le=1)

    title: ClassVar[str]
    # In exact mode: whether counts of deaths by time are opened, and whether the outcome is a state by a horizon.
    opens_survival_counts: ClassVar[bool] = False
    # In exact mode: whether counts of columns' values are opened.
    opens_column_counts: ClassVar[bool] = False
    # In exact mode, by a horizon: whether those who were lost before it are tested beside models that have them.
    tests_losses: ClassVar[bool] = False
    # In exact mode: whether its numbers would tell cells that exact curves of the same patients leave closed.
    stands_beside_no_curves: ClassVar[bool] = False
    # In exact mode: whether two of the kind in one study could be subtracted from each other, whatever they ask.
    one_in_a_study: ClassVar[bool] = False
    # Whether a private fit needs correlated randomness: anything but opening sums does. An exact one always does.
    needs_material: ClassVar[bool] = False

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        if (self.mode == "private") != (self.budget_share is not None):
            raise ValueError("budget_share goes with mode 'private', and private models need one")
        return self

    def check(self, schema: Schema) -> None:
        """Raise ValueError, naming the field and the rule, unless the model may be asked for of such a table."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """What is opened, in plain words."""
        raise NotImplementedError

    @property
    def has_horizon(self) -> bool:
        """Whether the outcome is a state by a horizon: then its sums tell deaths and losses up to it."""
        return False

    def tells_deaths(self, schema: Schema) -> str:
        """Return which deaths the exact model's sums tell by category, in words; "" if none.

        Counts of two different ones could be subtracted, and so could those of curves: one study opens one of them.
        """
        del schema
        return f"within {getattr(self, 'horizon_days', None)} days" if self.has_horizon else ""

    @property
    def algorithm(self) -> str:
        """Its name in policies: "model:cox" allows the exact model, "model:cox-private" the private one."""
        return self.kind if self.mode == "exact" else f"{self.kind}-private"

    def parameters(self) -> str:
        """Return every parameter that changes what an exact model opens: part of the ledger's entry."""
        body = self.model_dump(mode="json", exclude={"kind", "mode", "budget_share"})
        return "; ".join(f"{key} {_plain(value)}" for key, value in body.items())

    def n_coefficients(self, schema: Schema) -> int:
        """Return how many coefficients the model has: those of all exact models of a study count together."""
        del schema
        return 0

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """Yield every rule of a site's policy that this model, in exact mode, breaks; from public things alone."""
        del policy, study
        yield from ()

    def event(self, study: Study, rho: float) -> Event:
        """Return the event of a private fit that costs at most `rho`. Raises StudyError if there is no such."""
        raise NotImplementedError

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """Return a site's half. `rows`: the site's table, valid for the schema."""
        raise NotImplementedError

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """Fit over a network, and return the answer: plain data that JSON holds, numbers as exact decimal strings.

        Raises
        ------
        DisclosureRefused
            A test on shares says that what would be opened describes too few patients.
        ModelFailed
            Separation, collinearity, no events, no convergence: the message says which, and the way out.
        """
        raise NotImplementedError

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """Return the answer as tables for people."""
        raise NotImplementedError

    def chart(self, answer: dict[str, Any], *, key: str) -> str:
        """Return a picture of the answer as SVG, or "" if there is none. `key`: its name on the page."""
        del answer, key
        return ""


class Rounds:
    """The rounds of one model's step, over a network: what `ModelSpec.fit` works with."""

    def __init__(self, network: StepNetwork, step: str, spec: ModelSpec, event: Event) -> None:
        self._network, self._step = network, step
        self.study = network.study
        self.spec = spec
        self.event = event

    @property
    def schema(self) -> Schema:
        """The study's schema."""
        return self.study.data_schema

    def run(self, what: str, protocol: Callable[..., Any], *, opened: Any = None) -> Any:
        """Have every site give its contribution of this name, and the compute parties make something of them.

        Parameters
        ----------
        what
            Names the contribution; each is given once, so rounds of an iteration are numbered ("sums/3").
        protocol
            `async protocol(session, packages)`, one package of every site (`pooled`, `each`); what it returns was
            opened, and is an answer that a ledger can store.
        opened
            What the sites are told was opened before. Where each site is a process it knows already.
        """
        shares = self._network.gather(self._step, lambda job: job.model_shares(self._step, what, opened))
        return self._network.compute(self._step, protocol, shares)


def pooled(
    session: Session,
    packages: Sequence[SharePackage],
    domain: Domain = RING64,
    *,
    bound: int | None = None,
    frac_bits: int = 0,
) -> Shared:
    """Return the sum over all sites, as shares. `bound`: public, of the sum; without one, any word is reckoned with."""
    return session.shared(pool(packages, domain=domain), domain, bound=bound, frac_bits=frac_bits)


def each(
    session: Session,
    packages: Sequence[SharePackage],
    domain: Domain = RING64,
    *,
    bound: int | None = None,
    frac_bits: int = 0,
) -> list[Shared]:
    """Return every site's contribution, as shares. `bound`: public, of each."""
    return [session.shared(package.expand(), domain, bound=bound, frac_bits=frac_bits) for package in packages]


def number_text(value: float) -> str:
    """Return a number of an exact answer as text, to twelve digits: members' arithmetic may differ in the last bits.

    Examples
    --------
    >>> number_text(0.1 + 0.2)
    '0.3'
    """
    return repr(float(f"{value:.12g}"))


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
