"""Why a site says no: a fixed list of reasons. The sentence beside it is made of public things only.

Public are the study's text, the schema, the policy's thresholds and what the ledger's history says; never a row, nor a
number that was computed from rows. The one exception is a threshold that is public itself: `cohort` says that there
are fewer patients than the policy's minimum, and nothing else. `rows` tells how the site keeps its table.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Reason = Literal[
    "signature",
    "researcher",
    "purpose",
    "algorithm",
    "window",
    "clock",
    "rate",
    "document",
    "not-a-member",
    "partners",
    "schema",
    "rows",
    "cohort",
    "collusion",
    "overlap",
    "exact",
    "exact-again",
    "filters",
    "budget",
    "researcher-budget",
    "spent",
    "data-changed",
    "ledger",
    "operator",
    "site",
]
REASONS: Final[tuple[str, ...]] = get_args(Reason)

# What an operator may answer to a researcher. What they write beside it stays at the site.
OperatorReason = Literal["not-now", "not-this-purpose", "not-this-method", "needs-approval", "other-rules"]
OPERATOR_SENTENCES: Final[dict[str, str]] = {
    "not-now": "the site does not take part at present: ask again later",
    "not-this-purpose": "the site does not take part for this purpose",
    "not-this-method": "the site does not take part with this method",
    "needs-approval": "the site needs the approval of its ethics or data access committee first",
    "other-rules": "the site's own rules do not allow this study",
}
