"""Randomness that no party knows, and the noise made of it: each protocol says which privacy event it implements.

>>> from smpc import run_local
>>> async def protocol(s, x):
...     counts = sum(await s.input(x, max_abs=10**6))
...     noisy, paid = await joint_discrete_laplace(s, counts, epsilon=1.0, l1_sensitivity=1)
...     best, also_paid = await noisy_argmax(s, counts, sensitivity=1, epsilon=1.0, monotone=True)
...     return await s.open(noisy, best), paid.epsilon + also_paid.epsilon
>>> (noisy, best), epsilon = run_local(protocol, inputs=[[10, 500], [20, 500]]).results[0]
>>> noisy.shape, int(best), epsilon
((2,), 1, 2.0)

coins            bits of any dyadic probability, uniform integers
laplace          discrete Laplace and geometric noise, from coins; `geometric_law` is its exact law
gaussian         discrete Gaussian noise at central accuracy, from a table; `gaussian_table` is its exact law
shares           discrete Gaussian noise from each party's own, without a protocol, for more variance
choice           the best of many candidates by noisy scores: pure privacy
exponential      a candidate drawn by the exponential mechanism: bounded range; `exponential_law` is its law and proof

Events follow from public arguments, so they can be charged before the protocol runs: `discrete_laplace_law`,
`noisy_argmax_law`, `exponential_law`, `GaussianTable.event`.
"""

from smpc.noise.choice import noisy_argmax, noisy_argmax_law, rounded_scores
from smpc.noise.coins import biased_bits, uniform_below
from smpc.noise.exponential import exponential_choice
from smpc.noise.exponential_law import ExponentialLaw, exponential_law
from smpc.noise.gaussian import joint_table_gaussian
from smpc.noise.gaussian_table import GaussianTable, gaussian_table
from smpc.noise.geometric_law import GeometricLaw, geometric_law
from smpc.noise.laplace import discrete_laplace_law, joint_discrete_laplace, joint_geometric
from smpc.noise.shares import joint_discrete_gaussian, per_party_scale, priced_discrete_gaussian

__all__ = [
    "ExponentialLaw",
    "GaussianTable",
    "GeometricLaw",
    "biased_bits",
    "discrete_laplace_law",
    "exponential_choice",
    "exponential_law",
    "gaussian_table",
    "geometric_law",
    "joint_discrete_gaussian",
    "joint_discrete_laplace",
    "joint_geometric",
    "joint_table_gaussian",
    "noisy_argmax",
    "noisy_argmax_law",
    "per_party_scale",
    "priced_discrete_gaussian",
    "rounded_scores",
    "uniform_below",
]
