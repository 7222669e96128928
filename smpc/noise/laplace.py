"""Discrete Laplace noise that no party knows, at the accuracy of a single trusted party.

The noise is the difference of two geometric variables whose binary digits are independent coins, tossed on shares; its
exact law, why it is the discrete Laplace law and what it costs are in `smpc.noise.geometric_law`. It is bounded:
what the bound costs is a delta, stated in the event and by default below 2^-64. A coalition of n - 1 parties, or the
dealer, knows nothing of it: there is no threshold to choose and no party to wait for.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from privacy import ApproximateDP
from privacy._checks import check_count, check_positive, check_probability
from smpc.noise.coins import below_each, random_words, weighted
from smpc.noise.geometric_law import GeometricLaw, exact_down, float_up, geometric_law
from smpc.ring import RING64, Domain, Words
from smpc.session import Session
from smpc.shared import Shared

# A delta that no budget notices.
MAX_DELTA = 2.0**-64


def discrete_laplace_law(
    epsilon: float, l1_sensitivity: int, dimension: int = 1, *, max_delta: float = MAX_DELTA
) -> tuple[GeometricLaw, ApproximateDP]:
    """Return the law of each of the two geometric variables, and the event that their difference implements.

    Of a vector, at most m = min(l1_sensitivity, dimension) coordinates change, each by d_i with a sum of at most
    l1_sensitivity: their epsilons d_i rate add up to epsilon, their deltas to at most m tail(l1_sensitivity).

    Parameters
    ----------
    epsilon
        Of the event; > 0. The noise is for exactly this number.
    l1_sensitivity
        The most that one patient changes the integers, added up.
    dimension
        Number of integers.
    max_delta
        The event's delta is the exact one, rounded up, and at most this.

    Examples
    --------
    >>> law, event = discrete_laplace_law(1.0, l1_sensitivity=1)
    >>> law.largest, event.epsilon, event.delta < 2.0**-64
    (63, 1.0, True)
    """
    check_positive("epsilon", epsilon)
    check_count("l1_sensitivity", l1_sensitivity)
    check_count("dimension", dimension)
    check_probability("max_delta", max_delta)
    n_changed = min(l1_sensitivity, dimension)
    law = geometric_law(exact_down(epsilon) / l1_sensitivity, l1_sensitivity, Fraction(max_delta) / n_changed)
    return law, ApproximateDP(float(epsilon), float_up(n_changed * law.tail(l1_sensitivity)))


async def joint_discrete_laplace(
    session: Session, x: Shared, *, epsilon: float, l1_sensitivity: int, max_delta: float = MAX_DELTA
) -> tuple[Shared, ApproximateDP]:
    """Return x plus discrete Laplace noise, still shared, and the event of opening it. Rounds: see `geometric_words`.

    The event depends on public arguments only: charge that of `discrete_laplace_law(epsilon, l1_sensitivity, x.size)`
    first.

    Parameters
    ----------
    x
        Integers, any shape; each gets noise of its own.
    epsilon, l1_sensitivity, max_delta
        As in `discrete_laplace_law`; the sensitivity is that of x as a whole, in units of 2^-frac_bits.

    Raises
    ------
    RangeExceeded
        If x has a declared range and the domain does not hold it with noise.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     noisy, event = await joint_discrete_laplace(s, a[0] + a[1], epsilon=0.5, l1_sensitivity=1)
    ...     return await s.open(noisy), event.epsilon
    >>> noisy, epsilon = run_local(protocol, inputs=[[100], [200]]).results[0]
    >>> bool(abs(noisy[0] - 300) < 100), epsilon
    (True, 0.5)
    """
    law, event = discrete_laplace_law(epsilon, l1_sensitivity, max(x.size, 1), max_delta=max_delta)
    both = await geometric_words(session, law, 2 * x.size, domain=x.domain)
    words = x.domain.sub(both[: x.size], both[x.size :]).reshape(x.shape)
    return x + session.shared(words, x.domain, bound=law.largest, frac_bits=x.frac_bits), event


async def joint_geometric(session: Session, law: GeometricLaw, length: int, *, domain: Domain = RING64) -> Shared:
    """Return independent variables of the law, shape (length,). Rounds: see `geometric_words`."""
    check_count("length", length)
    return session.shared(await geometric_words(session, law, length, domain=domain), domain, bound=law.largest)


async def geometric_words(session: Session, law: GeometricLaw, length: int, *, domain: Domain) -> Words:
    """Return shares of independent variables of the law; shape (length,). With coins of 64 bits: four rounds.

    One for the digits of the coins, `coins.tree_cost(law.coin_bits)[0]` to join them, one to make numbers of bits.
    """
    if not length:
        return np.zeros(0, dtype=np.uint64)
    u = random_words(session, law.coin_bits, law.n_digits, -(-length // 64))
    return await weighted(session, await below_each(session, u, law.thresholds), length, domain)
