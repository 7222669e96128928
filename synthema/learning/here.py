"""A joint model on tables that lie in one pair of hands: the same arithmetic, no network, no ledger, nothing opened.

For a custodian who compares methods on tables of their own, and for synthetic ones: what comes of it is INTERNAL, as
the rows are. The model's own rounds run on shares in this process, so the answer is what a federation would open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from privacy import NonPrivate
from smpc import PartyFailed, run_local, share
from synthema.errors import StudyError, SynthemaError
from synthema.learning.model import Rounds

if TYPE_CHECKING:
    import pandas as pd

    from synthema.learning.model import ModelSpec
    from synthema.study import Study

_PARTIES = 2


class RoundsHere(Rounds):
    """The rounds of a model whose sites are tables in this process."""

    def __init__(self, study: Study, spec: ModelSpec, frames: Mapping[str, pd.DataFrame]) -> None:
        self.study, self.spec, self.event = study, spec, NonPrivate(what="computed where the rows are")
        self._halves = [spec.site_half(study, study.data_schema, frame) for frame in frames.values()]

    def run(self, what: str, protocol: Callable[..., Any], *, opened: Any = None) -> Any:
        """See `Rounds.run`."""
        given = [half.contribute(what, opened) for half in self._halves]
        packages = [share(each.values, _PARTIES, domain=each.domain) for each in given]
        try:
            return run_local(protocol, [[each[party] for each in packages] for party in range(_PARTIES)]).results[0]
        except PartyFailed as failure:
            # What a party says in the words of this package is the reason; that a party failed follows from it.
            if isinstance(failure.__cause__, SynthemaError):
                raise failure.__cause__ from None
            raise


def fit_here(spec: ModelSpec, job: Study, frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the answer of an exact model on these tables. INTERNAL: no site's policy was asked, and no ledger.

    Columns of the job's schema that a table lacks, as a synthetic one lacks identifiers, are left out.

    Raises
    ------
    StudyError, SchemaError
        If the model is private, or the tables do not fit the job's schema.
    DisclosureRefused, ModelFailed
        As in a federation: a model that would not be opened there is not computed here.
    """
    if spec.mode != "exact":
        raise StudyError("here, only exact models are fitted: noise is for what leaves")
    names = [name for name in job.data_schema.names if all(name in frame.columns for frame in frames.values())]
    here = job.of_columns(names).with_model("here", spec)
    for frame in frames.values():
        here.data_schema.validate(frame[names])
    return spec.fit(RoundsHere(here, spec, frames))
