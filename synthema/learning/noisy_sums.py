"""Sums over patients that are opened with noise: what private models are made of.

Every patient adds a vector of integers to the sum, of bounded length. Each compute party adds discrete Gaussian noise
of its own, and only the sum of it all is opened (`smpc.noise.shares`). One event prices a fit, or each of its rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from privacy import Composed, DistributedDiscreteGaussian, Event, Repeated
from smpc.noise import joint_discrete_gaussian
from synthema.errors import StudyError
from synthema.learning.model import pooled
from synthema.steps import joint_noise

if TYPE_CHECKING:
    from smpc import Session, SharePackage
    from synthema.learning.model import Rounds
    from synthema.study import Study


def sum_event(
    study: Study,
    rho: float,
    *,
    dimension: int,
    l1_sensitivity: int,
    l2_sensitivity_squared: int,
    n_rounds: int = 1,
) -> Event:
    """Return the event of opening `n_rounds` sums, each with noise of the same scale, for at most `rho` in all.

    Parameters
    ----------
    l1_sensitivity, l2_sensitivity_squared
        Of the vector of integers that one patient adds at one site. A patient who is known to m sites counts m times.

    Raises
    ------
    StudyError
        If the budget asks for less noise than can be accounted for.
    """
    m = study.max_sites_per_patient
    one = joint_noise(
        study,
        rho / n_rounds,
        dimension=dimension,
        l1_sensitivity=l1_sensitivity * m,
        l2_sensitivity_squared=l2_sensitivity_squared * m * m,
    )
    return one if n_rounds == 1 else Repeated(one, n_rounds)


def noise_of(event: Event) -> DistributedDiscreteGaussian:
    """Return the noise of one round of what `sum_event` made."""
    one = event.event if isinstance(event, Repeated) else event
    if not isinstance(one, DistributedDiscreteGaussian):
        raise TypeError("this is no event of a noisy sum")
    return one


def noise_of_rounds(event: Event, n_rounds: int) -> tuple[DistributedDiscreteGaussian, ...]:
    """Return the noise of each of the rounds that an event is composed of. Raises StudyError if it is of others."""
    if not isinstance(event, Composed) or len(event.events) != n_rounds:
        raise StudyError("this is no event of such rounds")
    return tuple(noise_of(each) for each in event.events)


def noise_stds(study: Study, event: Event, n_rounds: int) -> tuple[float, ...]:
    """Return the standard deviation of the noise in each round's opened integers: every party adds some."""
    n_parties = len(study.compute_parties)
    return tuple(each.per_party_scale * math.sqrt(n_parties) for each in noise_of_rounds(event, n_rounds))


def noise_std(rounds: Rounds, event: Event | None = None) -> float:
    """Return the standard deviation of the noise in each opened integer: every party adds some, colluding ones too.

    `event`: as for `open_noisy_sum`.
    """
    return noise_of(event or rounds.event).per_party_scale * math.sqrt(len(rounds.study.compute_parties))


def open_noisy_sum(
    rounds: Rounds, what: str, *, event: Event | None = None, opened: Any = None
) -> npt.NDArray[np.int64]:
    """Have the sites give what they add, and the parties open the sum with its noise; shape as contributed.

    Every call is one round of the event. Contributions are in RING64.

    Parameters
    ----------
    event
        The part of the step's event that prices this sum, where the step has several; all of it by default.
    opened
        See `Rounds.run`.
    """
    noise, threshold = noise_of(event or rounds.event), rounds.study.federation.collusion_threshold

    async def protocol(session: Session, packages: Sequence[SharePackage]) -> npt.NDArray[np.int64]:
        noisy = await joint_discrete_gaussian(
            session, pooled(session, packages), noise.per_party_scale, collusion_threshold=threshold
        )
        found: npt.NDArray[np.int64] = await session.open(noisy)
        return found

    found: npt.NDArray[np.int64] = rounds.run(what, protocol, opened=opened)
    return found
