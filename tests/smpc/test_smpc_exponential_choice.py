"""The exponential mechanism on shares: its law, its integers, what is opened on the way, and what it costs."""

from fractions import Fraction

import numpy as np
import pytest
from exponential_reference import cut, weights
from noise_checks import fit_pvalue
from scipy import stats

from privacy import ExponentialMechanism, Repeated
from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, FrameRejected, PartyFailed, RangeExceeded, Session, exponential_choice, forecast, run_local
from smpc.bitplanes import unpack_bits
from smpc.kinds import OneHot
from smpc.material import MaterialStore
from smpc.noise import exponential, exponential_law
from smpc.truncation import truncated

SAMPLE_SIZE = 4_000
ALPHA = 1e-6

# Scores, and epsilon: ties, one behind the cut, one digit and several, both ways to find the largest.
CASES = {
    "ties": ((0, 0, 0), 1.5),
    "apart": ((3, 0, 2, 1, 3), 1.0),
    "beyond the cut": ((700, -700, 699, 698), 1.0),
    "three digits": ((5_000, 3_000, 0, -5_000), 1e-3),
    "two": ((-1, 2), 0.4),
    "many": ((*range(40, 0, -1), *range(41)), 0.3),
}


def opened(scores, epsilon, *, n_parties=2, rows=SAMPLE_SIZE, seed=5, **options):
    """Indices that came out, the event, and the run."""
    table = np.tile(scores, (rows, 1)) if rows else np.array(scores)

    async def protocol(s, x):
        a = (await s.input(x, max_abs=int(np.abs(scores).max(initial=1))))[0]
        index, event = await exponential_choice(s, a, sensitivity=1, epsilon=epsilon, **options)
        return await s.open(index), event

    done = run_local(protocol, [table] * n_parties, rng=InsecureSeededRng(seed), record_views=True)
    return *done.results[0], done


@pytest.mark.parametrize(
    "name", [name if name != "many" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_choice_has_the_law_of_the_exponential_mechanism(name):
    scores, epsilon = CASES[name]
    chosen, event, _ = opened(scores, epsilon)
    assert event == Repeated(ExponentialMechanism(epsilon), SAMPLE_SIZE)
    # The textbook's law; the cut takes e^-10 of it.
    weight = np.exp(epsilon * (np.array(scores) - max(scores)) / 2)
    textbook = dict(enumerate(weight / weight.sum()))
    assert fit_pvalue(chosen, textbook) > ALPHA
    law, _ = exponential_law(epsilon, 1, len(scores))
    assert fit_pvalue(chosen, dict(enumerate(law.ideal(scores)))) > ALPHA
    if len(set(scores)) > 1:
        # Negative controls: half the epsilon, which noisy max would run at; and a third more.
        for factor in (0.5, 4 / 3):
            other, _ = exponential_law(factor * epsilon, 1, len(scores))
            assert fit_pvalue(chosen, dict(enumerate(other.ideal(scores)))) < ALPHA


def test_monotone_scores_are_worth_twice_as_much():
    scores = (3, 0, 1)
    chosen, _, _ = opened(scores, 1.0, n_parties=3, monotone=True)
    assert fit_pvalue(chosen, dict(enumerate(exponential_law(2.0, 1, 3)[0].ideal(scores)))) > ALPHA
    assert fit_pvalue(chosen, dict(enumerate(exponential_law(1.0, 1, 3)[0].ideal(scores)))) < ALPHA


@pytest.mark.parametrize("scores", [[7], [-3, 40, 40 - 30], [0.5, -9.25, -30.0]])
def test_one_row_gives_one_index(scores):
    frac_bits = 4 if isinstance(scores[0], float) else 0

    async def protocol(s, x):
        a = (await s.input(x, max_abs=64, frac_bits=frac_bits))[0]
        index, event = await exponential_choice(s, a, sensitivity=1, epsilon=9.0)
        return int(await s.open(index)), event

    assert run_local(protocol, [scores] * 2).results[0] == (int(np.argmax(scores)), ExponentialMechanism(9.0))


def test_an_index_that_is_opened_at_once_has_the_same_law():
    scores, epsilon = (3, 0, 2, 1, 3), 1.0
    law, _ = exponential_law(epsilon, 1, 5)

    async def protocol(s, x):
        a = (await s.input(x, max_abs=3))[0]
        return [await exponential.opened_draw(s, a, law) for _ in range(60)]

    done = run_local(protocol, [scores] * 2, rng=InsecureSeededRng(1), record_views=True)
    assert done.results[0] == done.results[1]
    assert fit_pvalue(done.results[0], dict(enumerate(law.ideal(scores)))) > ALPHA
    assert fit_pvalue(done.results[0], dict(enumerate(exponential_law(4.0, 1, 5)[0].ideal(scores)))) < ALPHA
    # The bits that are opened are the index in ones.
    opened_bits = [part for name, part in done.views[0].record.opened if name.startswith("open")]
    for index, part in zip(done.results[0], opened_bits, strict=True):
        assert unpack_bits(part, 4).reshape(-1).tolist() == [0] * index + [1] * (4 - index)


# The integers on shares.


@pytest.mark.parametrize(("epsilon", "bound"), [(1.0, 40), (0.02, 2000), (1e-3, 50_000)])
def test_weights_on_shares_are_among_those_of_the_reference(epsilon, bound):
    law, _ = exponential_law(epsilon, 1, 7)
    below = np.unique(np.r_[0, 1, law.cut - 1, law.cut, law.cut + 1, 2 * bound, np.geomspace(1, 2 * bound, 40)])
    below = below.astype(int)

    async def protocol(s, x):
        a = (await s.input(x, max_abs=2 * bound))[0]
        words = await exponential._weights(s, a._share, 2 * bound, law)
        return await s.open(s.shared(words))

    done = run_local(protocol, [below] * 2, rng=InsecureSeededRng(3), record_views=True)
    [c] = [words for name, words in done.views[0].record.opened if name.startswith("one hot")]
    spare = np.uint64(64 - 6 * law.n_digits)
    for d, opened_word, value in zip(below, (c >> spare).tolist(), done.results[0].tolist(), strict=True):
        mask = (opened_word - (int(d) << law.stretch)) % 64**law.n_digits
        assert value in weights(law, int(d), mask)


def test_the_point_on_shares_is_as_near_as_was_said():
    law, _ = exponential_law(0.1, 1, 50)
    total = np.linspace(2**30, 50 * law.largest_weight, 300).astype(np.int64)
    seen = []

    async def protocol(s, x):
        limbs = await exponential._limbs(s, law, len(total))
        point = await exponential._point(s, limbs, (await s.input(x))[0]._share)
        return await s.open(s.shared(limbs), s.shared(point))

    limbs, point = run_local(protocol, [total] * 2, rng=InsecureSeededRng(3)).results[0]
    assert limbs.min() == 0
    assert limbs.max() == 15
    for column, whole, u in zip(limbs.T.tolist(), total.tolist(), point.tolist(), strict=True):
        r = sum(limb << 4 * place for place, limb in enumerate(column))
        seen.append(u - Fraction(16 * r * whole, 16**law.n_limbs))
        assert abs(seen[-1]) < law.n_limbs - 1
    # It is not exact either: the bound is for something.
    assert max(map(abs, seen)) > 1


def test_what_a_cut_does_is_told_by_what_was_opened():
    # The law of a choice given all that is opened, which the enumeration of laws takes, rests on this.
    x = np.arange(300) * 0x9E3779B97F4A7 % 2**61

    async def protocol(s, mine):
        words = (await s.input(mine))[0]._share
        return await s.open(s.shared(await truncated(s, words, 12, "stochastic")))

    done = run_local(protocol, [x] * 2, rng=InsecureSeededRng(3), record_views=True)
    [words] = [part for name, part in done.views[0].record.opened if name == "truncate"]
    expected = [cut(number, 12, word) for number, word in zip(x.tolist(), words.tolist(), strict=True)]
    assert done.results[0].tolist() == expected
    assert 0 < (done.results[0] - (x >> 12)).sum() < len(x)


# What is opened on the way.


def openings(scores, seed, n=2_000):
    _, _, done = opened(scores, 1.0, rows=n, seed=seed)
    return done.views[0].record.opened


def test_nothing_but_masked_words_and_the_index_is_opened():
    [*before, (name, index)] = openings((4, -4, 0, 1), 8)
    assert name.startswith("open")
    assert set(np.unique(index)) <= {0, 1, 2, 3}
    assert not any(label.startswith("open") for label, _ in before)
    checked = 0
    for _, part in before:
        # The highest four bits of each word; short arrays are of packed bits, whose last words are not full.
        if part.dtype.itemsize == 8 and part.size >= 1_000:
            high = (part.reshape(-1) >> np.uint64(60)).astype(int)
            assert stats.chisquare(np.bincount(high, minlength=16)).pvalue > ALPHA
            checked += 1
    # Steps of the tournament, the cut, the lookup, products, their cuts, U, the comparison.
    assert checked >= 8


def test_rounds_and_sizes_are_the_same_whatever_the_scores():
    # In each of them the cut, and differences of several digits; one of 64 candidates or fewer, and one of more.
    for m in (5, 70):
        law, _ = exponential_law(1e-2, 1, m)

        async def protocol(s, x, law=law):
            return await exponential.opened_draw(s, (await s.input(x, max_abs=10**6))[0], law)

        told = []
        for scores in ([0] * m, [10**6, -(10**6), *range(m - 2)]):
            done = run_local(protocol, [scores] * 3, record_views=True)
            told.append([(name, part.dtype, part.shape) for name, part in done.views[0].record.opened])
            told[-1].append((done.cost.rounds, done.cost.material))
        assert told[0] == told[1]


def lookups(monkeypatch, change=None):
    """What two choices, one after the other, open of the same differences: of four candidates, position by position."""
    take, kept = MaterialStore.take, {}

    def changed(self, kind, count):
        arrays = take(self, kind, count)
        return change(kept, self, arrays) if change is not None and isinstance(kind, OneHot) else arrays

    monkeypatch.setattr(MaterialStore, "take", changed)

    async def protocol(s, x):
        a = (await s.input(x, max_abs=50))[0]
        for _ in range(2):
            await exponential_choice(s, a, sensitivity=1, epsilon=1.0)

    x = np.tile((4, -4, 0, 1), (SAMPLE_SIZE // 2, 1))
    done = run_local(protocol, [x] * 2, rng=InsecureSeededRng(6), record_views=True)
    first, second = (part for name, part in done.views[0].record.opened if name.startswith("one hot"))
    return first >> np.uint64(58), second >> np.uint64(58)


def uniform_pvalue(words):
    return stats.chisquare(np.bincount(words.astype(int), minlength=64)).pvalue


def test_the_word_that_a_difference_is_opened_in_is_uniform_and_so_is_what_two_of_them_tell(monkeypatch):
    first, second = lookups(monkeypatch)
    for words in (first, second, (first - second) % np.uint64(64)):
        assert uniform_pvalue(words) > ALPHA
    # One candidate by itself, too.
    assert uniform_pvalue(first[1::4]) > ALPHA


def test_lookups_without_a_mask_or_with_one_mask_for_two_are_caught(monkeypatch):
    with monkeypatch.context() as patch:
        first, _ = lookups(patch, lambda _, __, arrays: [np.zeros_like(part) for part in arrays])
    assert uniform_pvalue(first) < ALPHA
    first, second = lookups(monkeypatch, lambda kept, store, arrays: kept.setdefault(id(store), arrays))
    assert uniform_pvalue(first) > ALPHA
    assert uniform_pvalue((first - second) % np.uint64(64)) < ALPHA


@pytest.mark.parametrize("unmasked", [None, 0, 1, 2])
def test_every_digit_of_the_word_has_a_mask(unmasked, monkeypatch):
    law, _ = exponential_law(1e-3, 1, 4)
    assert law.n_digits == 3
    take = MaterialStore.take

    def handed(self, kind, count):
        arrays = take(self, kind, count)
        if isinstance(kind, OneHot) and unmasked is not None:
            # Negative controls: the masks of this digit are zero. Each party's share of that is none.
            arrays[1].reshape(law.n_digits, -1)[unmasked] = 0
        return arrays

    monkeypatch.setattr(MaterialStore, "take", handed)
    _, _, done = opened((4, -4, 0, 1), 1e-3, rows=1_000)
    [words] = [part for name, part in done.views[0].record.opened if name.startswith("one hot")]
    digits = [(words >> np.uint64(46 + 6 * place)) % np.uint64(64) for place in range(law.n_digits)]
    assert not (words % np.uint64(1 << 46)).any()
    hidden = [uniform_pvalue(digit) > ALPHA for digit in digits]
    assert hidden == [place != unmasked for place in range(law.n_digits)]


def test_no_party_alone_knows_the_random_number():
    # All but one party draw zeros: the law is still that of the mechanism, from the words of the last alone.
    random_words = exponential.random_words

    def only_the_first(session, *shape):
        return random_words(session, *shape) if session.party == 0 else np.zeros(shape, dtype=np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exponential, "random_words", only_the_first)
        scores, epsilon = CASES["apart"]
        chosen, _, _ = opened(scores, epsilon, n_parties=3)
        assert fit_pvalue(chosen, dict(enumerate(exponential_law(epsilon, 1, 5)[0].ideal(scores)))) > ALPHA
        # Negative control: if nobody draws, the best candidate is always first.
        patch.setattr(exponential, "random_words", lambda _, *shape: np.zeros(shape, dtype=np.uint64))
        chosen, _, _ = opened(scores, epsilon, n_parties=3)
        assert set(chosen.tolist()) == {0}


def test_parties_with_different_tables_stop():
    laws = [exponential_law(epsilon, 1, 3)[0] for epsilon in (1.0, 1.0001)]
    # The same kinds and numbers of everything: only the tables' entries differ.
    assert {(law.n_digits, law.n_limbs, law.factor_bits, law.cut) for law in laws} == {(1, 12, 28, 23)}
    assert laws[0].digest != laws[1].digest

    async def protocol(s, x):
        a = (await s.input(x, max_abs=3))[0]
        return await exponential.opened_draw(s, a, laws[s.party])

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, [[1, 2, 3]] * 2)
    assert isinstance(failed.value.__cause__, FrameRejected)


# What it costs.


@pytest.mark.parametrize(("m", "epsilon", "largest"), [(41, 0.01, 7), (41, 1.0, 7), (1000, 1.0, 25)])
def test_rounds_are_those_of_the_parts(m, epsilon, largest):
    law, _ = exponential_law(epsilon, 16, m)
    bound = 1 << 20

    async def protocol(s, _):
        scores = s.shared(np.zeros(m, dtype=np.uint64), bound=bound)
        await exponential_choice(s, scores, sensitivity=16, epsilon=epsilon)

    levels = (law.n_digits - 1).bit_length()
    # The largest; lookup, products and their cuts, the power, beside the comparison with D; the weight beyond D; U; the
    # comparison with U, and to numbers.
    cost = forecast(protocol, [None] * 2, rehearsals=1)
    assert cost.rounds == largest + max(1 + 2 * levels + 1, 3) + 1 + 2 + 4
    assert cost.material[OneHot(6)] == m * law.n_digits


@pytest.mark.parametrize(
    ("x", "options", "arguments", "error"),
    [
        ([1, 2], {}, {}, RangeExceeded),
        ([1, 2], {"max_abs": 2**61}, {}, RangeExceeded),
        (1, {"max_abs": 2}, {}, ValueError),
        ([], {"max_abs": 2}, {}, ValueError),
        ([1, 2], {"max_abs": 2}, {"sensitivity": 0}, ValueError),
        ([1, 2], {"max_abs": 2}, {"epsilon": 1e-9}, ValueError),
        ([1, 2], {"max_abs": 2, "domain": FIELD61}, {}, ValueError),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_sent(x, options, arguments, error):
    rounds = []

    async def protocol(s: Session, mine):
        a = (await s.input(mine, **options))[0]
        before = len(rounds)
        s.reveal = lambda *_: rounds.append(1)
        try:
            await exponential_choice(s, a, **{"sensitivity": 1, "epsilon": 1.0} | arguments)
        finally:
            assert len(rounds) == before

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, [x, x])
    assert isinstance(failed.value.__cause__, error)
