"""What all sites and the server agree on before a sum starts: who, how much, and how many may be missing.

The digest of the plan (`tag`) enters every message, every key and every signature of the run, so nothing that was said
under another plan, or in another run, has a meaning in this one.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from privacy.randomness import Rng, SecureRng
from smpc.errors import RangeExceeded
from smpc.secure_sum.graph import MOST_COMPLETE, neighbours, sparse_degree

SESSION_BYTES = 16
TAG_BYTES = 32
PUBLIC_KEY_BYTES = 32

LEAST_SITES = 3
MOST_SITES = 10_000
MOST_COUNTERS = 2**26
_LEAST_CONTRIBUTORS = 2
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class SumPlan:
    """One sum. Made by `plan_sum`; public.

    roster            Ed25519 public key of each site, 32 bytes; site i is roster[i]
    n_counters        length of every vector
    max_abs           no site's counter is larger in absolute value
    degree            number of peers with whom a site shares masks
    threshold         number of shares that give back one secret of a site
    min_contributors  fewer vectors than this are not summed
    session_id        16 bytes, drawn for this sum after the roster was fixed

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    RangeExceeded
        If the sum of all sites could leave the range of int64.
    """

    roster: tuple[bytes, ...]
    n_counters: int
    max_abs: int
    degree: int
    threshold: int
    min_contributors: int
    session_id: bytes
    tag: bytes = field(init=False, repr=False)
    peers: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n = self.n_sites
        _check_int("number of sites", n, LEAST_SITES, MOST_SITES)
        if any(len(key) != PUBLIC_KEY_BYTES for key in self.roster) or len(set(self.roster)) != n:
            raise ValueError(f"roster must hold distinct public keys of {PUBLIC_KEY_BYTES} bytes")
        _check_int("n_counters", self.n_counters, 1, MOST_COUNTERS)
        _check_int("max_abs", self.max_abs, 0, _LARGEST)
        _check_int("min_contributors", self.min_contributors, _LEAST_CONTRIBUTORS, n)
        _check_int("degree", self.degree, 2, n - 1)
        # The site itself holds a share, too. In a complete graph, up to half could otherwise be asked for one secret of
        # a site and the other half for the other.
        least = n // 2 + 1 if self.degree == n - 1 else 2
        _check_int("threshold", self.threshold, least, min(self.degree + 1, n))
        if len(self.session_id) != SESSION_BYTES:
            raise ValueError(f"session_id must have {SESSION_BYTES} bytes, got {len(self.session_id)}")
        if self.max_abs * n > _LARGEST:
            raise RangeExceeded(
                rule=f"max_abs={self.max_abs} at {n} sites can sum to more than 2^63 - 1",
                way_out=f"declare max_abs <= {_LARGEST // n}",
            )
        object.__setattr__(self, "tag", self._digest())
        graph_seed = hashlib.sha256(b"synthema/smpc/secure_sum/graph/1\x00" + self.tag).digest()
        object.__setattr__(self, "peers", neighbours(n, self.degree, graph_seed))

    @property
    def n_sites(self) -> int:
        """Number of sites on the roster."""
        return len(self.roster)

    @property
    def word(self) -> np.dtype[Any]:
        """The ring in which masks are added: Z_2^32 where every possible sum fits, at half the cost, else Z_2^64."""
        return np.dtype("<u4") if self.max_abs * self.n_sites < 2**31 else np.dtype("<u8")

    def holders(self, site: int) -> tuple[int, ...]:
        """Return who holds shares of this site's secrets: its peers and itself, ascending."""
        return tuple(sorted((*self.peers[site], site)))

    def _digest(self) -> bytes:
        numbers = (self.n_sites, self.n_counters, self.max_abs, self.degree, self.threshold, self.min_contributors)
        parts = (b"synthema/smpc/secure_sum/1\x00", self.session_id, struct.pack("<6Q", *numbers), *self.roster)
        return hashlib.sha256(b"".join(parts)).digest()


def plan_sum(
    roster: Sequence[bytes],
    n_counters: int,
    *,
    max_abs: int,
    threshold: int | None = None,
    min_contributors: int | None = None,
    corruption: float = 0.05,
    dropout: float = 0.05,
    sigma: int = 40,
    eta: int = 30,
    rng: Rng | None = None,
) -> SumPlan:
    """Return a plan with a fresh session id. Up to 100 sites all pairs share masks, above that a sparse graph.

    Parameters
    ----------
    roster
        Ed25519 public keys of the sites, 32 bytes each; 3..10,000 distinct ones.
    n_counters
        Length of every vector, 1..2^26.
    max_abs
        Largest absolute value of a counter at one site, noise included.
    threshold
        Up to 100 sites: survivors that can finish a sum, by default floor(2n/3) + 1, above n/2. Fewer colluding sites
        than this learn nothing together with the server. Above 100 sites it follows from the fractions below.
    min_contributors
        By default `threshold`; above 100 sites, all but the fraction `dropout`.
    corruption, dropout, sigma, eta
        Of the sparse graph (`smpc.secure_sum.graph`): at most these fractions of all sites collude with the server, and
        drop out. Privacy then fails with probability at most 2^-sigma, completion with at most 2^-eta.
    rng
        Source of the session id; the operating system's by default.

    Raises
    ------
    ValueError, RangeExceeded
        As `SumPlan`, and if no sparse graph is safe at these fractions.

    Examples
    --------
    >>> roster = [bytes([i]) * 32 for i in range(10)]
    >>> plan = plan_sum(roster, 1000, max_abs=10**6)
    >>> plan.degree, plan.threshold, plan.min_contributors
    (9, 7, 7)
    """
    n = len(roster)
    _check_int("number of sites", n, LEAST_SITES, MOST_SITES)
    if n <= MOST_COMPLETE:
        degree, shares = n - 1, 2 * n // 3 + 1 if threshold is None else threshold
        least = shares
    else:
        if threshold is not None:
            raise ValueError(f"threshold is computed above {MOST_COMPLETE} sites: state corruption and dropout")
        degree, shares = sparse_degree(n, corruption=corruption, dropout=dropout, sigma=sigma, eta=eta)
        # With more missing, nothing is known about the graph that is left.
        least = n - math.ceil(dropout * n)
    if n > MOST_COMPLETE and min_contributors is not None and min_contributors < least:
        raise ValueError(f"min_contributors must be >= {least} at dropout={dropout!r}, got {min_contributors!r}")
    return SumPlan(
        roster=tuple(roster),
        n_counters=n_counters,
        max_abs=max_abs,
        degree=degree,
        threshold=shares,
        min_contributors=least if min_contributors is None else min_contributors,
        session_id=(SecureRng() if rng is None else rng).bytes(SESSION_BYTES),
    )


def _check_int(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, got {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be in {least}..{most}, got {value!r}")
