"""Noise by shares: each party adds discrete Gaussian noise of its own, so that no coalition knows enough of the sum.

n  compute parties;  t  collusion threshold, 1 <= t <= n - 1: at most t of them pool what they know
s  scale of each party's noise, parameter of the discrete Gaussian

Every party adds its own exact discrete Gaussian to its share. A coalition of t parties can subtract its own noise, so
only that of the other n - t protects: accounting is `privacy.DistributedDiscreteGaussian(per_party_scale=s,
n_honest=n - t, ...)`. What everyone sees has the noise of all n, hence n / (n - t) times the variance that is paid
for. The guarantee is of `n - t` parties that draw what they confirm.

Source: Kairouz, Liu, Steinke 2021, arXiv:2102.06387, section 4 (sums of discrete Gaussians).
"""

from __future__ import annotations

import math
from fractions import Fraction

from privacy import DistributedDiscreteGaussian
from privacy._checks import check_positive
from privacy.samplers import sample_discrete_gaussian
from smpc.errors import ConfirmationMissing
from smpc.session import Session
from smpc.shared import Shared
from smpc.sharing import check_parties

# Below this the bound on sums of discrete Gaussians does not hold, so such noise could not be accounted for.
LEAST_SCALE = 0.5

_CONFIRMED = b"\x01"


async def joint_discrete_gaussian(
    session: Session, x: Shared, per_party_scale: float, *, collusion_threshold: int, confirm: bool = True
) -> Shared:
    """Return x plus the sum of all parties' independent discrete Gaussian noise, still shared.

    Parameters
    ----------
    x
        Any shape; each element gets noise of its own.
    per_party_scale
        Scale s of each party's noise, >= 0.5; see `per_party_scale`.
    collusion_threshold
        t, 1..n - 1. Does not change the noise; it is checked here because the price depends on it.
    confirm
        Exchange one byte after the noise was added and go on only when all n parties confirmed. One round. The
        guarantee needs n - t; but additive shares open only with all n, so a party that is missing stops the run
        either way, here before anything is opened. False only where the caller confirms by other means.

    Raises
    ------
    ConfirmationMissing
        If a party answers anything but its confirmation.
    PartyFailed
        If a party does not answer.

    Examples
    --------
    >>> import numpy as np
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     noisy = await joint_discrete_gaussian(s, a[0] + a[1] + a[2], 10.0, collusion_threshold=1)
    ...     return await s.open(noisy)
    >>> noisy = run_local(protocol, inputs=[np.array([100]), np.array([200]), np.array([300])]).results[0]
    >>> bool(abs(noisy[0] - 600) < 200)
    True
    """
    _check_threshold(session.n_parties, collusion_threshold)
    check_positive("per_party_scale", per_party_scale)
    if per_party_scale < LEAST_SCALE:
        raise ValueError(f"per_party_scale must be >= {LEAST_SCALE} to be accounted for, got {per_party_scale!r}")
    noise = sample_discrete_gaussian(per_party_scale, x.size, rng=session.rng).reshape(x.shape)
    noisy = session.shared(x.domain.from_signed(noise), x.domain) + x
    if confirm:
        for party, answer in enumerate(await session.exchange(_CONFIRMED)):
            if answer != _CONFIRMED:
                raise ConfirmationMissing(party)
    return noisy


async def priced_discrete_gaussian(
    session: Session,
    x: Shared,
    per_party_scale: float,
    *,
    collusion_threshold: int,
    l1_sensitivity: int,
    l2_sensitivity_squared: int,
    confirm: bool = True,
) -> tuple[Shared, DistributedDiscreteGaussian]:
    """Return what `joint_discrete_gaussian` does, and the event of opening it.

    The event depends on public arguments only; it is made before any noise is drawn, so sensitivities that no event
    takes raise ValueError with nothing sent.

    Parameters
    ----------
    l1_sensitivity, l2_sensitivity_squared
        Of x as a whole, in units of 2^-frac_bits.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     total = (await s.input(x))[0]
    ...     noisy, event = await priced_discrete_gaussian(
    ...         s, total, 10.0, collusion_threshold=1, l1_sensitivity=1, l2_sensitivity_squared=1
    ...     )
    ...     return event
    >>> run_local(protocol, inputs=[[100], [200], [300]]).results[0].n_honest
    2
    """
    _check_threshold(session.n_parties, collusion_threshold)
    event = DistributedDiscreteGaussian(
        per_party_scale=per_party_scale,
        n_honest=session.n_parties - collusion_threshold,
        dimension=max(x.size, 1),
        l1_sensitivity=l1_sensitivity,
        l2_sensitivity_squared=l2_sensitivity_squared,
    )
    noisy = await joint_discrete_gaussian(
        session, x, per_party_scale, collusion_threshold=collusion_threshold, confirm=confirm
    )
    return noisy, event


def per_party_scale(total_scale: float, n_parties: int, collusion_threshold: int) -> float:
    """Return the least float s with (n_parties - collusion_threshold) * s^2 >= total_scale^2, exactly.

    The squared scale is what the accounting counts. (The variance of a discrete Gaussian lies below it, by less than
    1 part in 10^6 from scale 1 on.)

    Examples
    --------
    >>> per_party_scale(20.0, 3, 1)
    14.1421356237309...
    """
    check_parties(n_parties)
    _check_threshold(n_parties, collusion_threshold)
    check_positive("total_scale", total_scale)
    n_honest = n_parties - collusion_threshold
    # Start a few units too low and step up: the first that satisfies the inequality in rationals is the least.
    scale = total_scale / math.sqrt(n_honest)
    for _ in range(4):
        scale = math.nextafter(scale, 0.0)
    while n_honest * Fraction(scale) ** 2 < Fraction(total_scale) ** 2:
        scale = math.nextafter(scale, math.inf)
    return scale


def _check_threshold(n_parties: int, collusion_threshold: int) -> None:
    if isinstance(collusion_threshold, bool) or not isinstance(collusion_threshold, int):
        raise ValueError(f"collusion_threshold must be an integer, got {type(collusion_threshold).__name__}")
    if not 1 <= collusion_threshold < n_parties:
        raise ValueError(f"collusion_threshold must be in 1..{n_parties - 1}, got {collusion_threshold!r}")
