"""What a coalition sees of comparisons, gates, truncations and selections has one law, whatever the others put in.

As in test_smpc_views.py the adversary is played, here for protocols on bits, digits and narrow words. A run computes on
SAMPLE_SIZE equal numbers, each position an independent sample. Read from a coalition's memory, position by position:

    every peer's share of every opening, and the opening itself
    every member's material, field by field, and what the coalition's shares of a field add up to: a mask is hidden from
    n - 1 parties only by the share of the last
    the shares that are left in the end

From words the four highest and four lowest bits are taken, and four in the middle of long ones; from bits the bits;
from thermometers four of their bits at both ends. Compared between two runs, by chi-square: the law of each, and the
joint law of each opening or result with each other one and with each sum of material (so that differences and exclusive
ors of openings are covered).
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import Shared, exponential_choice, run_local
from smpc._rounds import Rounds
from smpc.binary import BITS
from smpc.kinds import Bit, Conjunctions, Digits, Gate, Product, Truncation
from smpc.material import Dealer, MaterialStore
from smpc.ring import RING64

pytestmark = pytest.mark.slow

SAMPLE_SIZE = 4096
# For a whole run; divided by the number of comparisons.
ALPHA = 1e-3
# What a leak must reach, to be far from chance.
CAUGHT = 1e-9


@dataclass
class Memory:
    """What one party holds: arrays with their domains."""

    openings: list = field(default_factory=list)
    peers: list = field(default_factory=list)
    material: list = field(default_factory=list)
    results: list = field(default_factory=list)


def run(protocol, values, *, seed, monkeypatch):
    """Run on arrays of equal numbers, and return each party's memory."""
    memories = [Memory() for _ in values]
    layouts = {}
    reveal, exchange, take = Rounds.reveal, Rounds._exchange, Rounds.take

    async def recording_reveal(self, operation, layout, buffer):
        layouts[f"{operation} {layout}"] = layout
        opened = await reveal(self, operation, layout, buffer)
        memories[self.party].openings.extend(
            (domain, part.copy()) for domain, part in zip(layout.domains, opened, strict=True)
        )
        return opened

    async def recording_exchange(self, operation, payloads):
        received = await exchange(self, operation, payloads)
        # Inputs are seen as the shares they leave, joined payloads as their parts.
        if operation in layouts:
            for peer in self._peers:
                parts = layouts[operation].views(received[peer])
                memories[self.party].peers.extend(
                    (peer, domain, part.copy()) for domain, part in zip(layouts[operation].domains, parts, strict=True)
                )
        return received

    def recording_take(self, kind, count):
        arrays = take(self, kind, count)
        fields = (*kind.free, *kind.tied)
        memories[self.party].material.append([(f.domain, a) for f, a in zip(fields, arrays, strict=True)])
        return arrays

    async def recorded(s, x):
        kept = await protocol(s, x)
        memories[s.party].results = [
            (x.domain, x._share) if isinstance(x, Shared) else (BITS, x._words) for x in kept or ()
        ]

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "reveal", recording_reveal)
        patch.setattr(Rounds, "_exchange", recording_exchange)
        patch.setattr(Rounds, "take", recording_take)
        inputs = [np.full(SAMPLE_SIZE, value) for value in values]
        run_local(recorded, inputs, rng=InsecureSeededRng(seed))
    return memories


def rows(domain, array):
    """Rows of SAMPLE_SIZE small integers, as far as an array has any."""
    if domain is BITS:
        bits = np.unpackbits(np.ascontiguousarray(array).view(np.uint8), bitorder="little")
        parts = [bits]
    else:
        flat = np.ascontiguousarray(array).reshape(-1)
        width = 8 * flat.dtype.itemsize
        places = (0, width // 2, width - 4) if width == 64 else (0, width - 4)
        parts = [flat >> flat.dtype.type(place) & flat.dtype.type(15) for place in places]
    for part in parts:
        whole = part.size // SAMPLE_SIZE * SAMPLE_SIZE
        if whole:
            yield from part[:whole].reshape(-1, SAMPLE_SIZE).astype(np.intp)
        elif part.size >= 256:
            # Fewer words than positions: their own sample.
            yield part.astype(np.intp)


def features(memories, coalition):
    """Rows that depend on messages, rows of what the coalition's material adds up to, and the parts of both."""
    messages = [row for domain, part in memories[coalition[0]].openings for row in rows(domain, part)]
    material, parts = [], []
    for fields in zip(*(memories[party].material for party in coalition), strict=True):
        for shares in zip(*fields, strict=True):
            domain, total = shares[0]
            for _, share in shares[1:]:
                total = domain.add(total, share)
            material.extend(rows(domain, total))
    for mine in (memories[party] for party in coalition):
        messages.extend(row for domain, part in mine.results for row in rows(domain, part))
        parts.extend(row for peer, domain, part in mine.peers if peer not in coalition for row in rows(domain, part))
        parts.extend(row for fields in mine.material for domain, part in fields for row in rows(domain, part))
    return messages, material, parts


def homogeneity(first, second):
    """P-values that two samples have one law, for each row of counts; 1 where there is one class only."""
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    both = first + second
    # Samples of one size.
    statistic = ((first - second) ** 2 / np.maximum(both, 1)).sum(axis=1)
    classes = np.count_nonzero(both, axis=1)
    return np.where(classes > 1, stats.chi2.sf(statistic, np.maximum(classes - 1, 1)), 1.0)


MOST_PAIRS = 12_000


def least_pvalue(protocol, choices, *, own, coalition, monkeypatch):
    """Smallest p-value, times the number of comparisons, for two choices of the honest party's number."""
    n_parties = max(coalition) + (2 if 0 in coalition else 1)
    honest = (set(range(n_parties)) - set(coalition)).pop()
    runs = []
    for seed, choice in enumerate(choices):
        values = [choice if party == honest else own for party in range(n_parties)]
        runs.append(features(run(protocol, values, seed=10 + seed, monkeypatch=monkeypatch), coalition))
    assert [len(part) for part in runs[0]] == [len(part) for part in runs[1]]
    messages, material, _ = runs[0]
    assert messages

    alone = [np.stack([np.bincount(row, minlength=16) for part in each for row in part]) for each in runs]
    n = len(messages)
    joint = [messages + material for messages, material, _ in runs]
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n + len(material)) if joint[0][i].size == joint[0][j].size]
    # All of them, or so many, evenly spread.
    pairs = pairs[:: -(-len(pairs) // MOST_PAIRS) or 1]
    together = [
        np.stack([np.bincount(16 * each[i] + each[j], minlength=256) for i, j in pairs]).astype(np.float32)
        for each in joint
    ]
    pvalues = np.concatenate([homogeneity(*alone), homogeneity(*together)])
    return pvalues.min() * len(pvalues)


# Protocols. Party i puts in x; what comes out stays shared unless both choices lead to the same.


def compared(bound, method):
    async def protocol(s, x):
        a = await s.input(x, max_abs=bound)
        return [*a, await getattr(s, method)(a[0], a[-1])]

    return protocol


def of_one(bound, ask):
    async def protocol(s, x):
        a = await s.input(x, max_abs=bound)
        total = a[0] + a[-1]
        return [*a, await ask(s, total, a)]

    return protocol


async def outcome_opened(s, x):
    a = await s.input(x, max_abs=1000)
    less = await s.less(a[0], a[-1])
    await s.open(less)
    return [*a, less]


async def selected(s, x):
    a = await s.input(x, max_abs=100)
    table = [a[0], a[-1], a[0] + a[-1], a[-1] - a[0]]
    # Four candidates for each position.
    words = np.stack([each._share for each in table], axis=1)
    index, value = await s.argmax_and_max(s.shared(words, bound=200))
    return [*a, index, value]


async def chosen(s, x):
    a = await s.input(x, max_abs=100)
    words = np.stack([each._share for each in (a[0], a[-1], a[0] - a[-1])], axis=1)
    index, _ = await exponential_choice(s, s.shared(words, bound=200), sensitivity=1, epsilon=1.0)
    return [*a, index]


async def ranked(s, x):
    a = await s.input(x, max_abs=1000)
    # 128 numbers, 8128 pairs; every second number is the honest party's.
    row = s.shared(np.concatenate([a[0]._share[:64], a[-1]._share[:64]]), bound=1000)
    return [*a, *await s.top_k(row, 16)]


async def conjoined(s, x):
    a = await s.input(x, max_abs=3)
    bits = [await s.equal_bits(a[-1], v) for v in range(4)]
    three = await s.conjunction([~bits[0], bits[1] ^ bits[2], ~bits[3]])
    return [*a, three, await s.to_numbers(three)]


async def side_by_side(s, x):
    a = await s.input(x, max_abs=1000)
    less, product, equal = await s.together(s.less(a[0], a[-1]), s.mul(a[0], a[-1]), s.equal_bits(a[0], a[-1]))
    return [*a, less, product, equal]


async def where_bits(s, total, a):
    return await s.where(await s.negative_bits(a[-1]), total, a[0])


HALF = 2**15
PROTOCOLS = {
    "less, 8 bits": (compared(40, "less"), (30, -40)),
    "less, 16 bits": (compared(2**13, "less"), (8000, -8000)),
    "less, 32 bits": (compared(2**29, "less"), (2**29, -(2**29))),
    "less, 64 bits": (compared(2**61, "less"), (2**61, -(2**61))),
    "less, undeclared": (compared(None, "less"), (2**63 - 1, -(2**63))),
    "equal, 8 bits": (compared(40, "equal_bits"), (7, -40)),
    "equal, 64 bits": (compared(2**61, "equal"), (7, 2**60)),
    "negative": (of_one(2**50, lambda s, t, _: s.negative(t)), (-8, 2**50 - 7)),
    "bits": (of_one(2**50, lambda s, t, _: s.to_bits(t)), (-8, 2**50 - 7)),
    "absolute value": (of_one(2**20, lambda s, t, _: s.abs(t)), (-(2**19), 2**19)),
    "where, by bits": (of_one(9, where_bits), (-9, 9)),
    "where, by numbers": (of_one(9, lambda s, t, a: s.where(a[-1], t, a[0])), (0, 1)),
    "truncation, exact": (of_one(2**40, lambda s, t, _: s.truncate(t, 16)), (HALF - 7, 2**40 - 7)),
    "truncation, stochastic": (of_one(2**40, lambda s, t, _: s.truncate(t, 16, how="stochastic")), (HALF, 2**39)),
    "truncation, odd": (of_one(2**40, lambda s, t, _: s.truncate(t, 61)), (-(2**40), 2**40)),
    "arg max": (selected, (100, -100)),
    "exponential choice": (chosen, (100, -100)),
    "top k": (ranked, (8, 1000)),
    "conjunctions": (conjoined, (1, 3)),
    "side by side": (side_by_side, (7, -1000)),
    "opened outcome": (outcome_opened, (8, 1000)),
}


# One of two, the last of two, one of three, each pair of three.
# Two of three hold all shares but one: what they do not learn, no single party does. The others are for the long suite.
@pytest.mark.parametrize(
    "coalition",
    [pytest.param((0,), marks=pytest.mark.slow), pytest.param((1, 2), marks=pytest.mark.slow), (0, 1)],
    ids=str,
)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_a_coalition_sees_does_not_depend_on_the_others_inputs(name, coalition, monkeypatch):
    protocol, choices = PROTOCOLS[name]
    own = 7 if name != "conjunctions" else 2
    if coalition == (1, 2):
        protocol = mirrored(protocol)
    assert least_pvalue(protocol, choices, own=own, coalition=coalition, monkeypatch=monkeypatch) > ALPHA


def mirrored(protocol):
    """The same with the inputs in the opposite order: the honest party is the first, and its number still the last."""

    async def turned(s, x):
        original = s.input

        async def backwards(*args, **options):
            return (await original(*args, **options))[::-1]

        s.input = backwards
        return await protocol(s, x)

    return turned


# Negative controls: the same test, against material that does not hide.


def tampered_take(monkeypatch, change):
    """Let `change(store, kind, arrays)` replace what a party is handed."""
    take = MaterialStore.take

    def changed(self, kind, count):
        return change(self, kind, take(self, kind, count))

    monkeypatch.setattr(MaterialStore, "take", changed)


def reused(kind_type):
    taken = {}

    def change(store, kind, arrays):
        if not isinstance(kind, kind_type):
            return arrays
        return taken.setdefault((id(store), kind, arrays[0].shape), (store, arrays))[1]

    return change


def of_the_last_party(kind_type, weaken):
    """Weaken the free fields that the honest party, the last one, holds: the corrections are its mark."""

    def change(store, kind, arrays):
        if not isinstance(kind, kind_type) or store._corrections is None:
            return arrays
        n_free = len(kind.free)
        return [*(weaken(array) for array in arrays[:n_free]), *arrays[n_free:]]

    return change


async def two_comparisons(s, x):
    a = await s.input(x, max_abs=1000)
    await s.less_bits(a[0], a[-1])
    await s.less_bits(a[-1], a[0])
    return a


async def two_gates(s, x):
    a = await s.input(x)
    bits = s.random_bits(SAMPLE_SIZE)
    await s.where(bits, a[0], a[-1])
    await s.where(~bits, a[-1], a[0])
    return a


async def two_truncations(s, x):
    a = await s.input(x, max_abs=2**40)
    await s.truncate(a[-1], 8, how="stochastic")
    await s.truncate(3 * a[-1], 8, how="stochastic")
    return a


async def two_conversions(s, x):
    a = await s.input(x, max_abs=1000)
    bits = await s.less_bits(a[0], a[-1])
    await s.to_numbers(bits)
    await s.to_numbers(bits ^ True)
    await s.to_numbers(await s.equal_bits(a[-1], 5))
    return a


async def two_conjunctions(s, x):
    a = await s.input(x, max_abs=2)
    bits = [await s.equal_bits(a[-1], v) for v in range(3)]
    await s.both(bits[0], bits[1])
    await s.both(bits[2], bits[1])
    return a


async def unmasked_outcome(s, x):
    a = await s.input(x, max_abs=1000)
    less, equal = await s.less_bits(a[0], a[-1]), await s.equal_bits(a[0], a[-1])
    await s.open(less ^ equal)
    return a


# What the others put in, the honest party's two choices, and what is done to the material.
LEAKS = {
    "digits used twice": (two_comparisons, 7, (8, 90), reused(Digits)),
    "a gate used twice": (two_gates, 7, (8, 90), reused(Gate)),
    "a truncation used twice": (two_truncations, 7, (2**30, 5), reused(Truncation)),
    "a bit used twice": (two_conversions, 7, (5, 6), reused(Bit)),
    "conjunctions used twice": (two_conjunctions, 2, (0, 1), reused(Conjunctions)),
    "digits of too few bits": (
        compared(2**61, "less_bits"),
        7,
        (2**60, -(2**60)),
        of_the_last_party(Digits, lambda r: r >> np.uint64(8)),
    ),
    "a truncation of too few bits": (
        of_one(2**40, lambda s, t, _: s.truncate(t, 16, how="stochastic")),
        7,
        (HALF, 2**33),
        of_the_last_party(Truncation, lambda r: r & np.uint64(2**24 - 1)),
    ),
    "a gate without masks": (of_one(9, where_bits), 7, (-9, 9), of_the_last_party(Gate, np.zeros_like)),
    "conjunctions without masks": (conjoined, 2, (1, 3), of_the_last_party(Conjunctions, np.zeros_like)),
    "a bit without a mask": (compared(40, "less"), 7, (30, -40), of_the_last_party(Bit, np.zeros_like)),
    "an outcome opened": (unmasked_outcome, 7, (5, 1000), None),
}


@pytest.mark.parametrize("coalition", [(0,), pytest.param((0, 1), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", LEAKS)
def test_material_that_does_not_hide_is_caught_by_the_same_test(name, coalition, monkeypatch):
    protocol, own, choices, change = LEAKS[name]
    if change is not None:
        tampered_take(monkeypatch, change)
    assert least_pvalue(protocol, choices, own=own, coalition=coalition, monkeypatch=monkeypatch) < CAUGHT


# The dealer.


def test_the_dealer_is_told_nothing_but_which_items_are_due(monkeypatch):
    correction, asked = Dealer.correction, []

    def listening(self, *args):
        asked[-1].append(args)
        return correction(self, *args)

    monkeypatch.setattr(Dealer, "correction", listening)
    for value in (5, -1000):
        asked.append([])
        run_local(side_by_side, [np.full(100, value), np.full(100, 3), np.full(100, 8)])
        assert asked[-1]
        assert all(isinstance(start, int) and isinstance(count, int) for _, start, count in asked[-1])
        assert {type(kind) for kind, *_ in asked[-1]} == {Product, Digits, Conjunctions, Bit}
    assert asked[0] == asked[1]
    # It holds seeds, streams and positions: no line to any party.
    assert set(vars(Dealer(2))) == {"n_parties", "_seeds", "_handed_out", "_streams", "_next", "bytes_sent"}
    assert RING64 in {kind.free[0].domain for kind, *_ in asked[0]}
