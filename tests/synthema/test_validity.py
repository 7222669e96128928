"""A site that shares what cannot be counts of patients is named, before anything opens; an honest one shows nothing."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, forecast, run_local, share
from smpc._rounds import Rounds
from smpc.kinds import Digits
from smpc.sharing import SharePackage
from synthema.errors import SiteInputInvalid, StudyError
from synthema.validity import MOST_CELLS_COMPARED, check_contributions, level_of, n_cells

SITES = ("vienna", "madrid", "milan")
CAP = 100
WORD = 2**64


@dataclass(frozen=True)
class Layout:
    sizes: dict
    cliques: tuple


DOMAIN = {"a": 2, "b": 3, "c": 2}
PAIRS = Layout(DOMAIN, (("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")))
TRIPLE = Layout(DOMAIN, (*PAIRS.cliques, ("a", "b", "c")))
# Not closed downwards, and in orders of their own, as a network's cliques may be.
LOOSE = Layout(DOMAIN, (("c", "a"), ("b", "c"), ("b",)))


def marginals(table, layout):
    """The vector of a table of counts over the whole domain, in words."""
    parts = []
    for clique in layout.cliques:
        others = tuple(i for i, name in enumerate(layout.sizes) if name not in clique)
        order = [name for name in layout.sizes if name in clique]
        margin = table.sum(axis=others, dtype=np.uint64)
        parts.append(margin.transpose([order.index(name) for name in clique]).ravel())
    return np.concatenate(parts)


def table_of(seed, n=60):
    counts = np.random.default_rng(seed).multinomial(n, np.ones(12) / 12)
    return counts.astype(np.uint64).reshape(2, 3, 2)


def start_of(layout, clique):
    before = layout.cliques[: layout.cliques.index(clique)]
    return sum(math.prod(layout.sizes[name] for name in each) for each in before)


def verdict(vectors, layout=PAIRS, *, cap=CAP, least=0, level="full", n_parties=2, tamper=None):
    """What every party's check raises, as (site, rule), or None."""
    packages = [share(vector, n_parties) for vector in vectors]
    mine = [list(part) for part in zip(*packages, strict=True)]
    if tamper:
        tamper(mine)

    async def protocol(s, packages):
        try:
            await check_contributions(s, layout, packages, sites=SITES, cap=cap, least=least, level=level)
        except SiteInputInvalid as error:
            return error.site, error.rule
        return None

    results = run_local(protocol, mine).results
    assert len(set(results)) == 1
    return results[0]


def honest(layout=PAIRS):
    return [marginals(table_of(seed), layout) for seed in range(3)]


def keeps_the_rules(vector, layout, *, least, cap):
    """The rules, cell by cell, in Python's integers: the first that is broken."""
    cells = [int(word) for word in vector]
    signed = [word - WORD if word >= WORD // 2 else word for word in cells]
    tables, start = {}, 0
    for clique in layout.cliques:
        codes = list(itertools.product(*(range(layout.sizes[name]) for name in clique)))
        tables[clique] = dict(zip(codes, signed[start : start + len(codes)], strict=True))
        start += len(codes)
    for (first, one), (second, other) in itertools.combinations(tables.items(), 2):
        both = [name for name in first if name in second]
        margins = []
        for clique, table in ((first, one), (second, other)):
            margin = {}
            for code, count in table.items():
                key = tuple(code[clique.index(name)] for name in both)
                margin[key] = (margin.get(key, 0) + count) % WORD
            margins.append(margin)
        if margins[0] != margins[1]:
            return "margins"
    if not least <= sum(next(iter(tables.values())).values()) % WORD <= cap:
        return "total"
    return None if all(0 <= count <= cap for count in signed) else "cells"


# Honest sites.


@pytest.mark.parametrize("level", ["full", "totals", None])
@pytest.mark.parametrize("layout", [PAIRS, TRIPLE, LOOSE], ids=["pairs", "triple", "loose"])
@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_honest_sites_pass(layout, level, n_parties):
    assert verdict(honest(layout), layout, level=level, n_parties=n_parties) is None


def test_an_empty_site_and_one_at_its_cap_pass():
    full = np.zeros((2, 3, 2), dtype=np.uint64)
    full[1, 2, 0] = CAP
    vectors = [marginals(table, PAIRS) for table in (full, table_of(1), np.zeros_like(full))]
    assert verdict(vectors) is None
    assert verdict(vectors, cap={"vienna": CAP, "madrid": 60, "milan": 1}) is None


# Lies. Each changes the honest vector of madrid.


def lied(change, layout=PAIRS):
    vectors = honest(layout)
    vectors[1] = change(vectors[1])
    return vectors


def added(layout, clique, cell, word):
    def change(vector):
        out = vector.copy()
        place = start_of(layout, clique) + cell
        out[place : place + 1] += np.array([word % WORD], dtype=np.uint64)
        return out

    return change


@pytest.mark.parametrize("level", ["full", "totals"])
@pytest.mark.parametrize("word", [1, -1, 2**63, 2**62, -(2**63) + 1], ids=str)
@pytest.mark.parametrize(("clique", "cell"), [(("a",), 0), (("a", "b"), 5), (("b", "c"), 2)], ids=str)
def test_one_cell_that_is_off_by_anything_is_found(clique, cell, word, level):
    # One more is a patient counted twice in one marginal. Off by 2^63 is what products with uniform words miss.
    assert verdict(lied(added(PAIRS, clique, cell, word)), level=level) == ("madrid", "margins")


def test_two_cells_off_by_half_of_the_ring_keep_every_total_and_are_found():
    def change(vector):
        once = added(PAIRS, ("a", "b"), 0, 2**63)(vector)
        return added(PAIRS, ("a", "b"), 4, 2**63)(once)

    assert change(honest()[1])[7:13].sum(dtype=np.uint64) == 60
    assert verdict(lied(change)) == ("madrid", "margins")


def test_a_patient_moved_in_one_marginal_keeps_its_total_and_is_found():
    def change(vector):
        return added(PAIRS, ("a", "b"), 5, 1)(added(PAIRS, ("a", "b"), 0, -1)(vector))

    assert verdict(lied(change)) == ("madrid", "margins")


def test_one_marginal_of_another_table_is_found():
    def change(vector):
        out, start = vector.copy(), start_of(PAIRS, ("a",))
        out[start : start + 2] += np.array([1, 2], dtype=np.uint64)
        return out

    assert verdict(lied(change)) == ("madrid", "margins")


def negative(table):
    out = table.copy()
    out[0, 0, 0], out[1, 1, 1] = WORD - 3, int(out[1, 1, 1]) + int(out[0, 0, 0]) + 3
    return out


def test_a_negative_count_hidden_in_positive_sums_is_found_where_it_shows():
    # In the triple its cell is negative, in the pairs it may hide in sums: then they are the marginals of some table.
    assert verdict(lied(lambda _: marginals(negative(table_of(1)), TRIPLE), TRIPLE), TRIPLE) == ("madrid", "cells")
    table = np.zeros((2, 3, 2), dtype=np.uint64)
    table[1, 1, 1] = 60
    assert verdict(lied(lambda _: marginals(negative(table), PAIRS))) == ("madrid", "cells")


def test_level_totals_does_not_see_it_as_it_says():
    vectors = lied(lambda _: marginals(negative(table_of(1)), TRIPLE), TRIPLE)
    assert verdict(vectors, TRIPLE, level="totals") is None


@pytest.mark.parametrize(
    "cells",
    [
        (2**63, 2**63 + 9),
        (2**62, 2**62, 2**62, 2**62 + 9),
        (2**64 - 1, 10),
        (CAP + 1, 2**64 - CAP),
    ],
    ids=["two halves", "four quarters", "minus one", "above the cap"],
)
def test_counts_whose_sum_wraps_to_a_small_total_are_found(cells):
    table = np.zeros(12, dtype=np.uint64)
    table[: len(cells)] = np.array(cells, dtype=np.uint64)
    assert table.sum(dtype=np.uint64) <= CAP
    assert verdict(lied(lambda _: marginals(table.reshape(2, 3, 2), TRIPLE), TRIPLE), TRIPLE) == ("madrid", "cells")


@pytest.mark.parametrize("level", ["full", "totals"])
@pytest.mark.parametrize(("n", "least", "found"), [(101, 0, "total"), (100, 0, None), (9, 10, "total"), (10, 10, None)])
def test_a_total_beyond_the_cap_or_below_the_least_is_found(n, least, found, level):
    vectors = lied(lambda _: marginals(table_of(4, n), PAIRS))
    assert verdict(vectors, least=least, level=level) == (found and ("madrid", found))


def test_caps_are_each_sites_own():
    assert verdict(honest(), cap={"vienna": 60, "madrid": 60, "milan": 59}) == ("milan", "total")


def test_the_first_site_in_order_is_named_and_its_first_rule():
    vectors = honest()
    vectors[2] = added(PAIRS, ("a",), 0, 1)(vectors[2])
    vectors[1] = marginals(table_of(1, 200), PAIRS)
    assert verdict(vectors) == ("madrid", "total")
    vectors[1] = added(PAIRS, ("a",), 0, 1)(vectors[1])
    assert verdict(vectors) == ("madrid", "margins")


@pytest.mark.parametrize("parties", [(0,), (1,), (0, 1)])
def test_packages_of_another_shape_or_domain_are_named_by_every_party(parties):
    def shorter(mine):
        for party in parties:
            mine[party][2] = SharePackage(mine[party][2].domain, (n_cells(PAIRS) - 1,), seed=bytes(32))

    def other(mine):
        for party in parties:
            mine[party][0] = SharePackage(FIELD61, (n_cells(PAIRS),), seed=bytes(32))

    assert verdict(honest(), tamper=shorter) == ("milan", "shape")
    assert verdict(honest(), tamper=other) == ("vienna", "shape")


@given(
    layout=st.sampled_from([PAIRS, TRIPLE, LOOSE]),
    table=st.lists(st.integers(0, 12) | st.sampled_from([2**63, WORD - 1, WORD - 5]), min_size=12, max_size=12),
    edits=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1, WORD - 1, 2**63, 2**32])), max_size=2),
    least=st.sampled_from([0, 20]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_found_is_what_breaks_a_rule(layout, table, edits, least):
    vector = marginals(np.array(table, dtype=np.uint64).reshape(2, 3, 2), layout)
    for cell, word in edits:
        place = cell % len(vector)
        vector[place : place + 1] += np.array([word], dtype=np.uint64)
    rule = keeps_the_rules(vector, layout, least=least, cap=CAP)
    vectors = lied(lambda _: vector, layout)
    assert verdict(vectors, layout, least=least) == (rule and ("madrid", rule))


# What shows.


def test_the_error_names_site_and_rule_and_no_number():
    error = SiteInputInvalid(site="madrid", rule="total")
    assert str(error) == (
        "site 'madrid' shared what cannot be counts of patients: its total lies outside the declared range"
    )
    texts = [str(SiteInputInvalid(site="madrid", rule=rule)) for rule in ("shape", "margins", "total", "cells")]
    assert not any(character.isdigit() for text in texts for character in text)


def views(vectors, seed=5):
    packages = [share(vector, 3) for vector in vectors]

    async def protocol(s, mine):
        try:
            await check_contributions(s, PAIRS, mine, sites=SITES, cap=CAP, level="full")
        except SiteInputInvalid:
            return

    run = run_local(protocol, list(zip(*packages, strict=True)), record_views=True, rng=InsecureSeededRng(seed))
    return [view.record.opened for view in run.views]


def opened_in(record, operation):
    return [part for name, part in record if name == operation]


EXTREME = np.zeros((2, 3, 2), dtype=np.uint64)
EXTREME[1, 2, 1] = CAP


def test_of_honest_sites_the_same_bits_are_opened_whatever_their_data():
    # One party's record is every party's: openings are sums of all shares.
    first = views(honest())
    second = views([marginals(EXTREME, PAIRS), marginals(np.zeros_like(EXTREME), PAIRS), honest()[0]])
    for record in (*first, *second):
        [bits] = opened_in(record, "open")
        assert (bits.ravel() & np.uint64(7)).tolist() == [7, 7, 7]
    liar = lied(added(PAIRS, ("a",), 0, 1))
    [bits] = opened_in(views(liar)[0], "open")
    assert (bits.ravel() & np.uint64(7)).tolist() != [7, 7, 7]


def masked_nibbles(vectors, seeds):
    """Counts of the hexadecimal digits of everything that was opened under a mask, of numbers."""
    counts = np.zeros(16, dtype=np.int64)
    for seed in seeds:
        for part in opened_in(views(vectors, seed)[0], "masked"):
            digits = part.view(np.uint8)
            counts += np.bincount(digits & 15, minlength=16) + np.bincount(digits >> 4, minlength=16)
    return counts


def test_what_is_opened_under_masks_is_uniform_whatever_the_data(monkeypatch):
    # 4 runs of 3 (64 + 1 + 23) words of 16 digits for each of two data sets; each against the uniform law.
    alpha, caught = 1e-3 / 2, 1e-9
    extreme = [marginals(EXTREME, PAIRS)] * 3
    for vectors in (honest(), extreme):
        counts = masked_nibbles(vectors, range(4))
        assert counts.sum() == 4 * 3 * 88 * 16
        assert stats.chisquare(counts).pvalue > alpha

    # Negative control: masks that are zero show the words themselves.
    take = Rounds.take

    def zero_masks(self, kind, count):
        arrays = take(self, kind, count)
        return [np.zeros_like(array) for array in arrays] if isinstance(kind, Digits) else arrays

    monkeypatch.setattr(Rounds, "take", zero_masks)
    assert stats.chisquare(masked_nibbles(extreme, range(2))).pvalue < caught


def test_coins_are_the_same_at_all_parties_and_others_in_the_next_run(monkeypatch):
    seeds = []
    coin = Rounds.coin

    async def noting(self, n_bytes):
        # Public coins: not a byte of them depends on what is shared, and the check calls for them with packages given.
        seeds.append(await coin(self, n_bytes))
        return seeds[-1]

    monkeypatch.setattr(Rounds, "coin", noting)
    assert verdict(honest()) is None
    assert verdict(honest()) is None
    assert len(seeds) == 4
    assert len(set(seeds)) == 2
    assert all(len(seed) == 32 for seed in seeds)


# What is refused, and what it costs.


@pytest.mark.parametrize(
    ("layout", "arguments", "match"),
    [
        (PAIRS, {"sites": ("vienna", "madrid")}, "package"),
        (PAIRS, {"sites": ("vienna", "vienna", "milan")}, "once"),
        (Layout(DOMAIN, ()), {}, "clique"),
        (Layout(DOMAIN, (("a", "b"), ("b", "a"))), {}, "once"),
        (Layout({"x": 2**20, "y": 2**20}, (("x", "y"),)), {"cap": 2**23}, "cap of vienna"),
        (PAIRS, {"cap": {"vienna": 1}}, "cap must name"),
        (PAIRS, {"cap": 5, "least": 6}, "cap of vienna"),
        (PAIRS, {"cap": 2**63 // 6}, "cap of vienna"),
        (PAIRS, {"level": "none"}, "level"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_is_sent(layout, arguments, match):
    packages = [share(vector, 2) for vector in honest()]

    async def protocol(s, mine):
        with pytest.raises(StudyError, match=match):
            await check_contributions(s, layout, mine, **{"sites": SITES, "cap": CAP, **arguments})
        assert s.usage.rounds == 0

    run_local(protocol, list(zip(*packages, strict=True)))


@pytest.mark.parametrize(("level", "compared"), [("full", 1), ("totals", 0)])
def test_rounds_and_openings_are_those_of_the_formula(level, compared):
    packages = [share(vector, 3) for vector in honest()]

    async def protocol(s, mine):
        await check_contributions(s, PAIRS, mine, sites=SITES, cap=CAP, level=level)

    cost = run_local(protocol, list(zip(*packages, strict=True))).cost
    assert cost.rounds == 2 + 6 + 1
    assert cost.material[Digits(64)] == 3 * (64 + 1 + compared * n_cells(PAIRS))

    async def rehearsed(s, mine):
        try:
            await protocol(s, mine)
        except SiteInputInvalid:
            return

    assert forecast(rehearsed, list(zip(*packages, strict=True))).material == cost.material


def test_every_count_is_compared_up_to_a_public_number_of_cells():
    width = math.isqrt(MOST_CELLS_COMPARED // 4)
    layout = Layout({"x": width, "y": width}, (("x", "y"),))
    assert level_of(layout, 4) == "full"
    assert level_of(layout, 5) == "totals"
