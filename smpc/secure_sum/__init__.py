"""Sums of integer vectors over many sites, any of which may drop out; the server learns the sum and nothing else.

>>> from smpc import secure_sum_local
>>> run = secure_sum_local([[5, 0, 1], [1, 2, 3], [0, -4, 2], [9, 9, 9]], max_abs=100, dropouts={"share": [3]})
>>> run.total, run.contributors
(array([ 6, -2,  6]), (0, 1, 2))

Without the network: `plan_sum` fixes who takes part, `SecureSumClient` and `SecureSumServer` turn bytes into bytes.

    plan        what all agree on           graph    who masks with whom
    shamir      secrets in t-of-n shares    masks    streams that cancel, sealing
    messages    layouts and signatures      client   a site's five steps
    server      the server's five steps     simulation  all of it in one process
"""

from smpc.secure_sum.client import ClientRun, SecureSumClient
from smpc.secure_sum.graph import sparse_degree
from smpc.secure_sum.plan import SumPlan, plan_sum
from smpc.secure_sum.server import SecureSumServer, SumResult
from smpc.secure_sum.simulation import SumCost, SumRun, secure_sum_local

__all__ = [
    "ClientRun",
    "SecureSumClient",
    "SecureSumServer",
    "SumCost",
    "SumPlan",
    "SumResult",
    "SumRun",
    "plan_sum",
    "secure_sum_local",
    "sparse_degree",
]
