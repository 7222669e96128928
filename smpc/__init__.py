"""Sums that nobody sees: secure multi-party computation on additive shares, for 2 to 5 compute parties.

Every party runs the same coroutine. Sums and public multiples are local; what costs a round of messages is awaited.

>>> from smpc import run_local, Session
>>> async def protocol(s: Session, x):
...     a = await s.input(x)                        # a[i]: what party i put in, shared
...     total = a[0] + a[1] + a[2]                  # local
...     scores = await s.mul(a[0], a[1]) + 3 * a[2]  # one round for the product
...     return await s.open(total, scores)          # independent openings share a round
>>> run = run_local(protocol, inputs=[[1, 2], [10, -20], [100, 200]], security="semi_honest")
>>> run.results[0]
(array([111, 182]), array([310, 560]))
>>> run.cost.rounds, run.cost.triples
(3, 2)

Comparisons, selection and real numbers cost a few rounds each; protocols side by side share theirs:

>>> async def choose(s: Session, x):
...     a = await s.input(x, max_abs=1000)
...     best, smaller = await s.together(s.argmax(a[0] + a[1]), s.less(a[0], a[1]))
...     return await s.open(best, smaller)
>>> run_local(choose, inputs=[[1, 2, 3], [10, -20, 0]]).results[0]
(array(0), array([1, 0, 0]))

Hospitals that are no compute parties hand out packages instead, one to each party, and may go offline:

>>> from smpc import share, reconstruct
>>> packages = share([7, 0, -2], 3)
>>> packages[0]
SharePackage(RING64, shape=(3,), n_bytes=32)
>>> reconstruct(packages)
array([ 7,  0, -2])

Sums of many sites need no compute parties: masks that cancel, sites that may drop out, a server that learns the sum.

>>> from smpc import secure_sum_local
>>> secure_sum_local([[1, 2], [10, -20], [100, 200]], max_abs=1000).total
array([111, 182])

What is protected, of shares: any n - 1 parties that follow the protocol learn nothing beyond their own inputs and what
is opened, if the dealer of multiplication triples colludes with none of them. A party that deviates can falsify
results; that is not detected at the security level that exists, "semi_honest". Of sums of many sites: `secure_sum`.
"""

from smpc.bits import SharedBits
from smpc.errors import (
    ConfirmationMissing,
    DomainMismatch,
    FrameRejected,
    MacCheckFailed,
    MaterialError,
    MaterialRolledBack,
    PartyFailed,
    PeerUnavailable,
    ProtocolAbort,
    RangeExceeded,
    RecoveryFailed,
    SessionBusy,
    SessionMismatch,
    SessionReused,
    SmpcError,
    StepRefused,
    TooFewContributors,
    TripleOutOfOrder,
    TripleReused,
    UnsupportedSecurity,
)
from smpc.fixed_point import FixedPoint
from smpc.forecast import Forecast, forecast, forecast_async
from smpc.local import Cost, LocalRun, run_local, run_local_async
from smpc.material import Dealer
from smpc.noise import (
    biased_bits,
    exponential_choice,
    joint_discrete_gaussian,
    joint_discrete_laplace,
    joint_table_gaussian,
    noisy_argmax,
    per_party_scale,
    priced_discrete_gaussian,
    uniform_below,
)
from smpc.protocols import any_small, count_more_than, inner_product, product, small_cells
from smpc.ring import FIELD61, RING64, Domain
from smpc.secure_sum import SecureSumClient, SecureSumServer, SumPlan, plan_sum, secure_sum_local
from smpc.session import Session
from smpc.shared import Shared, concatenate
from smpc.sharing import SharePackage, pool, reconstruct, share
from smpc.store import StoredMaterial, install_package, open_store

__all__ = [
    "FIELD61",
    "RING64",
    "ConfirmationMissing",
    "Cost",
    "Dealer",
    "Domain",
    "DomainMismatch",
    "FixedPoint",
    "Forecast",
    "FrameRejected",
    "LocalRun",
    "MacCheckFailed",
    "MaterialError",
    "MaterialRolledBack",
    "PartyFailed",
    "PeerUnavailable",
    "ProtocolAbort",
    "RangeExceeded",
    "RecoveryFailed",
    "SecureSumClient",
    "SecureSumServer",
    "Session",
    "SessionBusy",
    "SessionMismatch",
    "SessionReused",
    "SharePackage",
    "Shared",
    "SharedBits",
    "SmpcError",
    "StepRefused",
    "StoredMaterial",
    "SumPlan",
    "TooFewContributors",
    "TripleOutOfOrder",
    "TripleReused",
    "UnsupportedSecurity",
    "any_small",
    "biased_bits",
    "concatenate",
    "count_more_than",
    "exponential_choice",
    "forecast",
    "forecast_async",
    "inner_product",
    "install_package",
    "joint_discrete_gaussian",
    "joint_discrete_laplace",
    "joint_table_gaussian",
    "noisy_argmax",
    "open_store",
    "per_party_scale",
    "plan_sum",
    "pool",
    "priced_discrete_gaussian",
    "product",
    "reconstruct",
    "run_local",
    "run_local_async",
    "secure_sum_local",
    "share",
    "small_cells",
    "uniform_below",
]
