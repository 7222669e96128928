"""Who masks with whom: everybody with everybody, or a sparse random graph that is safe except with small probability.

n        sites                       gamma n, delta n   at most so many collude; at most so many drop out
k        neighbours of each site     t                  shares that give back a secret of a site
sigma    the graph is unsafe with probability at most 2^-sigma
eta      too few neighbours survive with probability at most 2^-eta

Source: Bell, Bonawitz, Gascon, Lepoint, Raykova 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", CCS 2020, section 3: sites on a ring in random order, each joined to the k/2 nearest on either side (a Harary
graph). Their three conditions, for colluding and dropping sites chosen independently of the order, are here bounded by
exact hypergeometric sums in integers and a union bound:

1. no honest site has t or more colluding neighbours:     n P[Hyp(n - 1, gamma n, k) >= t]         <= 2^-(sigma + 1)
2. the honest survivors are connected by edges:           C(n, 2) P[k given sites are all removed]  <= 2^-(sigma + 1)
3. every site keeps t surviving neighbours:               n P[Hyp(n - 1, delta n, k) >= k - t + 1]  <= 2^-eta

For 2, which is sharper than their n (gamma + delta)^(k/2): neighbouring survivors on the ring are joined unless k/2
sites in a row are missing between them. One such gap leaves a path through all survivors, so a cut needs two gaps:
k removed sites, at one of C(n, 2) pairs of places, out of (gamma + delta) n that were removed.
"""

from __future__ import annotations

import math
from functools import lru_cache

from smpc.prg import Prg

# Up to here all pairs share masks: less to explain, and less than 0.1 s of a site's time.
MOST_COMPLETE = 100


def sparse_degree(
    n_sites: int, *, corruption: float = 0.05, dropout: float = 0.05, sigma: int = 40, eta: int = 30
) -> tuple[int, int]:
    """Return the least even degree k, and the least threshold t for it, that meet the three conditions.

    Parameters
    ----------
    n_sites
        Number of sites.
    corruption, dropout
        Largest fractions of the sites that collude with the server, and that drop out: gamma and delta.
    sigma, eta
        Security and correctness in bits.

    Raises
    ------
    ValueError
        If an argument is out of range, or only the complete graph would do.

    Examples
    --------
    >>> sparse_degree(1000)
    (34, 18)
    >>> sparse_degree(1000, corruption=0.2, dropout=0.1)
    (76, 47)
    """
    for name, fraction in (("corruption", corruption), ("dropout", dropout)):
        if not 0 <= fraction < 1:
            raise ValueError(f"{name} must be in [0, 1), got {fraction!r}")
    if min(sigma, eta) < 1:
        raise ValueError(f"sigma and eta must be >= 1, got {sigma!r} and {eta!r}")
    # Rounded up: a fraction like 0.07 is no binary number, and 0.07 * 100 may fall short of 7.
    corrupt, dropping = math.ceil(corruption * n_sites), math.ceil(dropout * n_sites)
    for degree in range(2, n_sites - 1, 2):
        if not _connected(n_sites, corrupt + dropping, degree, sigma):
            continue
        colluding = _tails(n_sites - 1, corrupt, degree)
        lost = _tails(n_sites - 1, dropping, degree)
        ways = math.comb(n_sites - 1, degree)
        for threshold in range(2, degree + 1):
            if n_sites * colluding[threshold] << (sigma + 1) <= ways:
                # A larger threshold is as safe, and less likely to be met.
                if n_sites * lost[degree - threshold + 1] << eta <= ways:
                    return degree, threshold
                break
    raise ValueError(
        f"no sparse graph of {n_sites} sites is safe at corruption={corruption!r}, dropout={dropout!r}: "
        "use the complete graph, or state smaller fractions"
    )


def _tails(population: int, marked: int, drawn: int) -> list[int]:
    """Return, for i = 0..drawn, the number of draws (of C(population, drawn)) with at least i marked ones."""
    tails = [0] * (drawn + 1)
    total = 0
    for i in reversed(range(drawn + 1)):
        total += math.comb(marked, i) * math.comb(population - marked, drawn - i)
        tails[i] = total
    return tails


def _connected(n_sites: int, removed: int, degree: int, sigma: int) -> bool:
    """Tell whether condition 2 holds. P[k given sites removed] = C(n - k, R - k) / C(n, R)."""
    if removed > n_sites:
        return False
    if removed < degree:
        return True
    cuts = math.comb(n_sites, 2) * math.comb(n_sites - degree, removed - degree)
    return cuts << (sigma + 1) <= math.comb(n_sites, removed)


@lru_cache(maxsize=8)
def neighbours(n_sites: int, degree: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """Return each site's neighbours, in ascending order.

    Parameters
    ----------
    n_sites, degree
        `degree` is n_sites - 1 (complete), or even and smaller (Harary's graph on a random order).
    seed
        32 bytes; public. The colluding sites must have been chosen before it was drawn.

    Examples
    --------
    >>> neighbours(4, 3, bytes(32))
    ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2))
    >>> {len(peers) for peers in neighbours(200, 24, bytes(32))}
    {24}
    """
    if degree == n_sites - 1:
        return tuple(tuple(peer for peer in range(n_sites) if peer != site) for site in range(n_sites))
    if degree % 2 or not 2 <= degree < n_sites - 1:
        raise ValueError(f"degree must be {n_sites - 1}, or even and in 2..{n_sites - 2}, got {degree!r}")
    ring = Prg(seed, b"secure_sum/graph").permutation(n_sites).tolist()
    peers: list[tuple[int, ...]] = [()] * n_sites
    for place, site in enumerate(ring):
        steps = (step for distance in range(1, degree // 2 + 1) for step in (-distance, distance))
        peers[site] = tuple(sorted(ring[(place + step) % n_sites] for step in steps))
    return tuple(peers)
