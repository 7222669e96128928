"""Coins and uniform integers on shares: right for every number, of the stated law, and known to nobody."""

from fractions import Fraction

import numpy as np
import pytest
from noise_checks import bit_rows, dependence_pvalue, fit_pvalue

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, PartyFailed, SharedBits, run_local
from smpc.bitplanes import pack_bits, unpack_bits
from smpc.forecast import forecast
from smpc.noise import biased_bits, geometric_law, uniform_below
from smpc.noise.coins import WIDE_DIGIT, below_all, below_each, digits_of, random_words, tree_cost
from smpc.noise.laplace import geometric_words
from smpc.transport import HEADER_BYTES

SAMPLE_SIZE = 40_000
ALPHA = 1e-6


def run(protocol, n_parties=2, seed=7, **options):
    async def alone(s, _):
        return await protocol(s)

    return run_local(alone, [None] * n_parties, rng=InsecureSeededRng(seed), **options)


def planes_of(numbers, n_bits):
    """Bits of integers, highest first, packed: shape (n_bits, words)."""
    return pack_bits(
        np.array([[number >> j & 1 for number in numbers] for j in reversed(range(n_bits))], dtype=np.uint8)
    )


def as_share(s, words):
    """Words that party 0 knows, masked by what the last party draws."""
    masks = InsecureSeededRng(5).uint64(words.size).reshape(words.shape)
    return words ^ masks if s.party == 0 else masks if s.party == s.n_parties - 1 else np.zeros_like(words)


def edges(n_bits):
    top = 2**n_bits - 1
    near = {0, 1, 2, 3, 7, 8, 15, 16, 17, top, top - 1, top // 2, top // 2 + 1, top // 3, 2 * top // 3}
    return sorted(each for each in near if 0 <= each <= top)


@pytest.mark.parametrize(("n_bits", "n_parties"), [(8, 2), (24, 3), (64, 2), (128, 3)])
def test_numbers_are_compared_with_public_thresholds_as_integers_are(n_bits, n_parties):
    draw = InsecureSeededRng(n_bits)
    numbers = edges(n_bits) + [int.from_bytes(draw.bytes(16), "little") % 2**n_bits for _ in range(50)]
    thresholds = edges(n_bits)
    length = len(numbers)

    async def protocol(s):
        u = as_share(s, planes_of(numbers, n_bits))
        every = await below_all(s, u, thresholds)
        own = await below_each(s, np.repeat(u[:, None], len(thresholds), axis=1), thresholds)
        return await s.open(SharedBits(s, every, length), SharedBits(s, own, length))

    done = run(protocol, n_parties)
    expected = np.array([[u < t for u in numbers] for t in thresholds])
    assert (done.results[0][0] == expected).all()
    assert (done.results[0][1] == expected).all()
    assert done.cost.rounds == (1 + tree_cost(n_bits)[0]) + (1 + tree_cost(n_bits, WIDE_DIGIT)[0]) + 1


@pytest.mark.parametrize(("length", "n_bits", "n_parties"), [(64, 64, 2), (1000, 64, 3), (65, 8, 2), (130, 128, 3)])
def test_coins_cost_the_rounds_and_bytes_of_the_closed_form(length, n_bits, n_parties):
    async def protocol(s):
        return await s.open(await biased_bits(s, Fraction(3, 16), length, n_bits=n_bits))

    cost = run(protocol, n_parties).cost
    rounds, bits = tree_cost(n_bits)
    n_words = -(-length // 64)
    assert cost.rounds == 1 + rounds + 1
    payload = 8 * n_words * (n_bits + bits + 1)
    assert cost.bytes_sent_by_party == ((n_parties - 1) * (cost.rounds * HEADER_BYTES + payload),) * n_parties


@pytest.mark.parametrize("n_bits", [4, 12])
def test_every_number_of_few_bits_is_compared_with_every_threshold(n_bits):
    numbers, thresholds = range(2**n_bits), range(0, 2**n_bits, 1 if n_bits == 4 else 97)

    async def protocol(s):
        u = as_share(s, planes_of(numbers, n_bits))
        below = await below_each(s, np.repeat(u[:, None], len(thresholds), axis=1), thresholds)
        return await s.open(SharedBits(s, below, len(numbers)))

    assert (run(protocol).results[0] == np.array([[u < t for u in numbers] for t in thresholds])).all()


@pytest.mark.parametrize("probability", [Fraction(1, 3) // Fraction(1, 2**64) * Fraction(1, 2**64), Fraction(1, 1024)])
def test_biased_bits_have_the_probability(probability):
    def tossed(p):
        async def protocol(s):
            return await s.open(await biased_bits(s, p, SAMPLE_SIZE))

        return run(protocol).results[0]

    law = {0: 1 - probability, 1: probability}
    assert fit_pvalue(tossed(probability).astype(int), law) > ALPHA
    # Negative control: 30 % less.
    smaller = Fraction(int(probability * 2**64 * Fraction(7, 10)), 2**64)
    if probability > Fraction(1, 100):
        assert fit_pvalue(tossed(smaller).astype(int), law) < ALPHA


@pytest.mark.parametrize("n_bits", [4, 64])
def test_a_probability_of_zero_never_comes_up_and_the_largest_nearly_always(n_bits):
    async def protocol(s):
        return await s.open(
            await biased_bits(s, Fraction(0), 500, n_bits=n_bits),
            await biased_bits(s, 1 - Fraction(1, 2**n_bits), 500, n_bits=n_bits),
        )

    never, nearly = run(protocol).results[0]
    assert not never.any()
    assert nearly.mean() > 0.85


@pytest.mark.parametrize("bound", [1, 2, 3, 6, 8, 10, 1000])
@pytest.mark.parametrize("domain", [RING64, FIELD61])
def test_uniform_integers_are_uniform(bound, domain):
    async def protocol(s):
        return await s.open(await uniform_below(s, bound, SAMPLE_SIZE, domain=domain))

    done = run(protocol)
    law = dict.fromkeys(range(bound), Fraction(1, bound))
    assert fit_pvalue(done.results[0], law) > ALPHA
    power = bound & (bound - 1) == 0
    n_padded = -(-(bound - 1).bit_length() // 4) * 4
    # Numbers of bits, opening; before them digits, tree and the accepted.
    assert done.cost.rounds == (1 if bound == 1 else 2 if power else 2 + 2 + tree_cost(n_padded)[0])
    # Negative control: what comes of taking remainders of a number of three bits more.
    if not power:
        n_bits = (bound - 1).bit_length() + 3
        skewed = InsecureSeededRng(1).below(2**n_bits, 25 * SAMPLE_SIZE) % bound
        assert fit_pvalue(skewed, law) < ALPHA


def test_uniform_integers_reach_the_edges_of_large_ranges():
    async def protocol(s):
        return await s.open(await uniform_below(s, 2**62, 2000), await uniform_below(s, 2**61 + 1, 2000))

    for values, bound in zip(run(protocol).results[0], (2**62, 2**61 + 1), strict=True):
        assert 0 <= values.min() < bound // 100
        assert bound - bound // 100 < values.max() < bound


def test_uniform_integers_are_forecast_by_one_batch():
    async def protocol(s, _):
        return await s.open(await uniform_below(s, 10, 500))

    before = forecast(protocol, [None] * 2, rehearsals=1)
    cost = run_local(protocol, [None] * 2).cost
    assert (before.rounds, before.bytes_sent_by_party) == (cost.rounds, cost.bytes_sent_by_party)


def test_a_short_batch_of_uniform_integers_is_made_up_for(monkeypatch):
    monkeypatch.setattr("smpc.noise.coins._SPARE_DEVIATIONS", -3)

    async def protocol(s):
        return await s.open(await uniform_below(s, 5, 3000))

    done = run(protocol)
    assert done.cost.rounds > 6
    assert fit_pvalue(done.results[0], dict.fromkeys(range(5), Fraction(1, 5))) > ALPHA


# What a coalition knows. All of a coin's bits that are opened, bare and without the masks that the coalition holds, are
# independent of the number that the coins make.

N = 8192
LAW = geometric_law(Fraction(1, 2), 1, Fraction(1, 100))


def noise_and_knowledge(coalition, *, with_dealer=False):
    async def protocol(s):
        return await geometric_words(s, LAW, N, domain=RING64)

    done = run(protocol, 3, record_views=True)
    noise = sum(done.results)
    targets = np.array([(noise >> np.uint64(j)) & np.uint64(1) for j in range(LAW.n_digits)])
    known = [done.views[party].record for party in (range(3) if with_dealer else coalition)]
    arrays = [part for _, part in done.views[coalition[0]].record.opened]
    knowledge = list(arrays)
    # What is opened first in a round are the variables under their masks: the first field of the material.
    masks = [
        np.bitwise_xor.reduce([record.material[i][1][0] for record in known]) for i in range(len(known[0].material))
    ]
    knowledge += [part ^ mask.reshape(part.shape) for part, mask in zip(arrays, masks, strict=True)]
    knowledge += masks
    # The shares of the noise that the coalition ends up with.
    mine = sum(done.results[party] for party in coalition)
    knowledge += [pack_bits(np.array([(mine >> np.uint64(j)) & np.uint64(1) for j in range(64)], dtype=np.uint8))]
    return bit_rows(knowledge, N), targets


@pytest.mark.parametrize("coalition", [(0,), (0, 1), (1, 2)])
def test_what_a_coalition_sees_says_nothing_of_the_noise(coalition):
    assert dependence_pvalue(*noise_and_knowledge(coalition)) > ALPHA


def test_a_dealer_that_colludes_with_a_party_knows_the_noise_and_the_same_test_says_so():
    assert dependence_pvalue(*noise_and_knowledge((0,), with_dealer=True)) < ALPHA / 1000


class OneOtherSeed(InsecureSeededRng):
    """The same seeds for dealer and parties, but for one party's; of all that is drawn, the n-th last."""

    def __init__(self, n_drawn, party, n_parties, other):
        super().__init__(3)
        self.left, self.changed, self.other = n_drawn, n_parties - party, other

    def bytes(self, n):
        drawn = super().bytes(n)
        self.left -= 1
        return bytes([self.other]) * n if self.left + 1 == self.changed and self.other else drawn


def noise_of(rng):
    async def protocol(s, _):
        return await s.open(s.shared(await geometric_words(s, LAW, SAMPLE_SIZE, domain=RING64)))

    return run_local(protocol, [None] * 3, rng=rng).results[0]


def test_with_all_randomness_but_one_partys_fixed_the_noise_still_has_its_law():
    counting = OneOtherSeed(0, 0, 3, 0)
    reference = noise_of(counting)
    n_drawn = -counting.left
    law = dict(enumerate(LAW.pmf()))
    assert fit_pvalue(reference, law) > ALPHA
    for party in range(3):
        noise = noise_of(OneOtherSeed(n_drawn, party, 3, 77))
        assert fit_pvalue(noise, law) > ALPHA
        assert abs(np.corrcoef(noise, reference)[0, 1]) < 6 / SAMPLE_SIZE**0.5
    # Negative control: nothing changed, nothing new.
    assert (noise_of(OneOtherSeed(n_drawn, 0, 3, 0)) == reference).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: biased_bits(s, Fraction(1, 3), 5),
        lambda s: biased_bits(s, Fraction(1), 5),
        lambda s: biased_bits(s, Fraction(-1, 2), 5),
        lambda s: biased_bits(s, Fraction(1, 2), 0),
        lambda s: biased_bits(s, Fraction(1, 2), 5, n_bits=6),
        lambda s: uniform_below(s, 0, 5),
        lambda s: uniform_below(s, 2**62 + 1, 5),
        lambda s: uniform_below(s, 2**61, 5, domain=FIELD61),
        lambda s: uniform_below(s, 5, 0),
        lambda s: below_each(s, random_words(s, 8, 1, 1), [256]),
    ],
)
def test_coins_that_cannot_be_are_refused(call):
    with pytest.raises(PartyFailed) as caught:
        run(call)
    assert isinstance(caught.value.__cause__, ValueError)


def test_digits_come_highest_first():
    assert digits_of([0x1A2B], 16).ravel().tolist() == [1, 10, 2, 11]
    assert unpack_bits(planes_of([2], 4), 1).ravel().tolist() == [0, 0, 1, 0]
