"""The sparse graph: regular, the same for all, connected if the ring has fewer than two gaps; its tails exact."""

import itertools
import math

import pytest
from scipy import stats

from smpc.secure_sum.graph import _tails, neighbours, sparse_degree


def is_connected(peers, alive):
    alive = set(alive)
    seen, todo = set(), [min(alive)]
    while todo:
        site = todo.pop()
        if site not in seen:
            seen.add(site)
            todo.extend(alive.intersection(peers[site]))
    return seen == alive


def gaps_of_at_least(ring_removed, length):
    """Number of maximal runs of removed places, around the ring, of at least this length."""
    n = len(ring_removed)
    start = ring_removed.index(False)
    turned = [ring_removed[(start + i) % n] for i in range(n)]
    return sum(1 for removed, run in itertools.groupby(turned) if removed and len(list(run)) >= length)


@pytest.mark.parametrize(("n_sites", "degree"), [(7, 2), (9, 4), (50, 6), (301, 30)])
def test_peers_are_mutual_and_equally_many(n_sites, degree):
    peers = neighbours(n_sites, degree, bytes(32))
    assert all(len(set(mine)) == degree and site not in mine for site, mine in enumerate(peers))
    assert all(site in peers[peer] for site, mine in enumerate(peers) for peer in mine)
    assert all(list(mine) == sorted(mine) for mine in peers)
    assert peers != neighbours(n_sites, degree, bytes([1]) * 32)


@pytest.mark.parametrize(("n_sites", "degree"), [(8, 4), (9, 4), (9, 6)])
def test_survivors_are_cut_only_if_the_ring_has_two_gaps_of_half_the_degree(monkeypatch, n_sites, degree):
    # The ring in its natural order, so that gaps can be seen; all sets of survivors.
    from smpc.secure_sum import graph

    class InOrder:
        def __init__(self, seed, label):
            del seed, label

        def permutation(self, n):
            import numpy as np

            return np.arange(n)

    monkeypatch.setattr(graph, "Prg", InOrder)
    peers = neighbours.__wrapped__(n_sites, degree, bytes(32))
    cuts = 0
    for removed in itertools.product([False, True], repeat=n_sites):
        alive = [site for site in range(n_sites) if not removed[site]]
        if alive:
            # The source's claim: fewer than two gaps leave a path.
            if gaps_of_at_least(list(removed), degree // 2) < 2:
                assert is_connected(peers, alive)
            else:
                cuts += not is_connected(peers, alive)
    assert cuts > 0


def test_tails_are_those_of_the_hypergeometric_law():
    ways = math.comb(199, 30)
    tails = _tails(199, 20, 30)
    for i in (0, 1, 5, 12, 20):
        assert tails[i] / ways == pytest.approx(stats.hypergeom.sf(i - 1, 199, 20, 30), rel=1e-9)
    assert tails[0] == ways
    assert tails[21:] == [0] * 10


@pytest.mark.parametrize(("n_sites", "corruption", "dropout"), [(101, 0.05, 0.05), (300, 0.1, 0.05), (1000, 0.2, 0.1)])
def test_the_degree_meets_the_three_conditions_and_two_less_does_not(n_sites, corruption, dropout):
    corrupt, dropping = math.ceil(corruption * n_sites), math.ceil(dropout * n_sites)

    def meets(k, t):
        colluding = n_sites * stats.hypergeom.sf(t - 1, n_sites - 1, corrupt, k)
        lost = n_sites * stats.hypergeom.sf(k - t, n_sites - 1, dropping, k)
        removed = corrupt + dropping
        cut = math.comb(n_sites, 2) * math.prod((removed - i) / (n_sites - i) for i in range(k))
        return colluding <= 2**-41 and lost <= 2**-30 and cut <= 2**-41

    degree, threshold = sparse_degree(n_sites, corruption=corruption, dropout=dropout)
    assert meets(degree, threshold)
    assert not any(meets(degree - 2, t) for t in range(2, degree - 1))
    assert not meets(degree, threshold - 1)


def test_the_bound_on_cuts_holds_in_a_simulation_where_cuts_happen():
    # A graph so thin that cuts are seen: 40 sites, degree 4, 8 removed at random.
    import numpy as np

    rng = np.random.default_rng(5)
    n, k, removed, trials = 40, 4, 8, 1000
    cut = 0
    for trial in range(trials):
        peers = neighbours.__wrapped__(n, k, trial.to_bytes(32, "big"))
        gone = set(rng.choice(n, removed, replace=False).tolist())
        cut += not is_connected(peers, [site for site in range(n) if site not in gone])
    bound = math.comb(n, 2) * math.comb(n - k, removed - k) / math.comb(n, removed)
    assert 0 < cut / trials < bound < 1


def test_impossible_fractions_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match="use the complete graph"):
        sparse_degree(101, corruption=0.6, dropout=0.5)
    for wrong in ({"corruption": 1.0}, {"dropout": -0.1}, {"sigma": 0}):
        with pytest.raises(ValueError, match="must be"):
            sparse_degree(101, **wrong)
    with pytest.raises(ValueError, match="degree must be"):
        neighbours(10, 5, bytes(32))
