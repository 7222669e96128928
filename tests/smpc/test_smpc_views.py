"""What a coalition sees must have the same law whatever the others put in: played out, with a test that can fail.

Each protocol runs on arrays of SAMPLE_SIZE equal values, so that every position is one independent sample. The
coalition's view is every array it holds or received: frames, openings, shares of material, streams of received seeds,
and the shares that the protocol leaves it with. For two choices of the honest parties' inputs that lead to the same
output, each of these arrays, and each sum and difference of two of them, must have the same distribution of its four
top bits and of its two groups of four low bits.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, inner_product, joint_discrete_gaussian, run_local, small_cells
from smpc.material import MaterialStore
from smpc.prg import SEED_BYTES
from smpc.sharing import expand_seed

SAMPLE_SIZE = 4096
# Divided by the number of comparisons.
ALPHA = 1e-3


def arrays_seen(run, coalition, domain):
    """Every array of SAMPLE_SIZE words in the coalition's views."""
    seen = []
    for view in (run.views[party] for party in coalition):
        for frame in view.record.frames:
            if frame.sender in coalition:
                continue
            payload = frame.payload
            if payload.size == SEED_BYTES + 8:
                # A seed and a shape of one axis.
                seen.append(expand_seed(payload.tobytes()[:SEED_BYTES], domain, (SAMPLE_SIZE,)))
            elif payload.size % (8 * SAMPLE_SIZE) == 0:
                seen.extend(payload.view(np.uint64).reshape(-1, SAMPLE_SIZE))
        for _, fields in view.record.material:
            seen.extend(part.reshape(-1) for part in fields if part.size == SAMPLE_SIZE)
    for party in coalition:
        seen.extend(x._share for x in run.results[party] or () if x.size == SAMPLE_SIZE)
    # All parties see the same openings.
    seen.extend(part.reshape(-1) for _, part in run.views[coalition[0]].record.opened if part.size == SAMPLE_SIZE)
    return seen


def features(run, coalition, domain):
    seen = arrays_seen(run, coalition, domain)
    yield from seen
    for a, b in itertools.combinations(seen, 2):
        yield domain.add(a, b)
        yield domain.sub(a, b)


def homogeneity_pvalue(a, b):
    """Chi-square that two samples of 0..15, equally many, have one law."""
    first, second = (np.bincount(sample, minlength=16) for sample in (a, b))
    both = first + second
    statistic = ((first - second) ** 2 / np.maximum(both, 1)).sum()
    return stats.chi2.sf(statistic, max(np.count_nonzero(both) - 1, 1))


def least_pvalue(protocol, honest_choices, *, own, coalition, domain):
    """Smallest corrected p-value over all features, for two choices of the honest parties' inputs."""
    runs = []
    for seed, honest in enumerate(honest_choices):
        inputs = [np.full(SAMPLE_SIZE, value) for value in (*own, *honest)]
        runs.append(run_local(protocol, inputs, record_views=True, rng=InsecureSeededRng(100 + seed)))
    pvalues = []
    for a, b in zip(*(features(run, coalition, domain) for run in runs), strict=True):
        for shift in (0, 4, domain.modulus.bit_length() - (5 if domain is RING64 else 4)):
            halves = [((words >> np.uint64(shift)) & np.uint64(15)).astype(int) for words in (a, b)]
            pvalues.append(homogeneity_pvalue(*halves))
    assert len(pvalues) > 1
    return min(pvalues) * len(pvalues)


# Protocols of three parties; the coalition is party 0, or parties 0 and 1. Results are opened only where both choices
# of the honest inputs lead to the same.


def only_input(domain):
    async def protocol(s, x):
        return await s.input(x, domain=domain)

    return protocol


def sum_opened(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        await s.open(a + b + c)
        return a, b, c

    return protocol


def product_opened(domain):
    async def protocol(s, x):
        _, b, c = await s.input(x, domain=domain)
        product = await s.mul(b, c)
        await s.open(product)
        return b, c, product

    return protocol


def products_kept(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        product, _ = await s.mul_many([(a, c), (b, c)])
        return a, b, c, product, await s.mul(product, product)

    return protocol


def inner_product_kept(domain):
    async def protocol(s, x):
        a, _, c = await s.input(x, domain=domain)
        await inner_product(s, a, c)

    return protocol


def small_cells_asked(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        await small_cells(s, a + b + c)
        return a, b, c

    return protocol


def noisy_sum_kept(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        return a, b, c, await joint_discrete_gaussian(s, a + b + c, 3.0, collusion_threshold=2)

    return protocol


PAIR = (0, 1)
CASES = [
    (only_input, RING64, (0,), (1, 1), ((0, 0), (5, 123456))),
    pytest.param(only_input, FIELD61, PAIR, (1, 1), ((0,), (-77,)), marks=pytest.mark.slow),
    pytest.param(sum_opened, RING64, (0,), (4, 4), ((5, 9), (9, 5)), marks=pytest.mark.slow),
    (sum_opened, FIELD61, (0,), (4, 4), ((5, 9), (-100, 114))),
    (product_opened, RING64, (0,), (1, 1), ((6, 4), (3, 8))),
    pytest.param(product_opened, FIELD61, (0,), (1, 1), ((0, 7), (0, 1000)), marks=pytest.mark.slow),
    pytest.param(products_kept, RING64, PAIR, (2, 3), ((0,), (8,)), marks=pytest.mark.slow),
    (products_kept, FIELD61, PAIR, (2, 3), ((0,), (8,))),
    (inner_product_kept, RING64, PAIR, (1, 1), ((0,), (1,))),
    (small_cells_asked, FIELD61, PAIR, (0, 0), ((5,), (1000,))),
    pytest.param(small_cells_asked, FIELD61, PAIR, (0, 0), ((1,), (4,)), marks=pytest.mark.slow),
    (noisy_sum_kept, RING64, PAIR, (1, 1), ((0,), (50,))),
]


@pytest.mark.parametrize(("make", "domain", "coalition", "own", "choices"), CASES)
def test_a_coalitions_view_does_not_depend_on_the_others_inputs(make, domain, coalition, own, choices):
    own = own[: len(coalition)]
    pvalue = least_pvalue(make(domain), choices, own=own, coalition=coalition, domain=domain)
    assert pvalue > ALPHA


# Negative controls: each of these protocols gives the right answer and leaks, and the same test says so.


def share_sent_bare(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        # The party that knows b opens what hides c instead of their sum.
        await s.open(b, c)
        await s.open(a + b + c)

    return protocol


def one_mask_for_two(domain):
    async def protocol(s, x):
        _, b, c = await s.input(x, domain=domain)
        r = s.random(SAMPLE_SIZE, domain)
        await s.open(b - r, c - r)

    return protocol


def mask_of_too_few_bits(domain):
    async def protocol(s, x):
        _, b, _ = await s.input(x, domain=domain)
        r = s.shared(domain.from_signed(s.rng.below(2**6, SAMPLE_SIZE)), domain)
        await s.open(b + r)

    return protocol


def mask_known_to_a_party(domain):
    async def protocol(s, x):
        _, b, _ = await s.input(x, domain=domain)
        mask = s.random(SAMPLE_SIZE, domain) if s.party == 0 else s.shared(np.zeros(SAMPLE_SIZE, np.uint64), domain)
        # The same words come back as a share that party 0 holds: opened by itself they undo the mask.
        await s.open(b + mask, mask)

    return protocol


def unmasked_small_cells(domain):
    async def protocol(s, x):
        a, b, c = await s.input(x, domain=domain)
        total = a + b + c
        product = await s.mul(total - 1, total - 2)
        await s.open(product)

    return protocol


LEAKS = [
    (share_sent_bare, RING64, (4,), (0,), ((5, 9), (9, 5))),
    (one_mask_for_two, RING64, (1,), (0,), ((5, 9), (9, 5))),
    (one_mask_for_two, FIELD61, (1,), (0,), ((5, 9), (9, 5))),
    (mask_of_too_few_bits, RING64, (1,), (0,), ((0, 0), (32, 0))),
    (mask_known_to_a_party, FIELD61, (1,), (0,), ((3, 0), (11, 0))),
    (unmasked_small_cells, FIELD61, (0, 0), PAIR, ((5,), (1000,))),
]


@pytest.mark.parametrize(("make", "domain", "own", "coalition", "choices"), LEAKS)
def test_a_protocol_that_leaks_is_caught_by_the_same_test(make, domain, own, coalition, choices):
    pvalue = least_pvalue(make(domain), choices, own=own, coalition=coalition, domain=domain)
    assert pvalue < ALPHA / 1000


def test_material_used_twice_is_caught_by_the_same_test(monkeypatch):
    taken = {}
    take = MaterialStore.take

    def take_the_first_again(self, kind, count):
        # The object itself is kept, so that no other store can get its number.
        return taken.setdefault((id(self), kind, count), (self, take(self, kind, count)))[1]

    monkeypatch.setattr(MaterialStore, "take", take_the_first_again)

    async def protocol(s, x):
        _, b, c = await s.input(x)
        await s.mul(b, c)
        await s.mul(c, b)

    pvalue = least_pvalue(protocol, ((5, 9), (9, 5)), own=(1,), coalition=(0,), domain=RING64)
    assert pvalue < ALPHA / 1000
