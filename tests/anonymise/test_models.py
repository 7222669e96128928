"""Each privacy model against its definition, and what its flags and its bound claim against brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plain_models import NAME, classes_of, distance, largest_kept, parts, passes
from scipy.optimize import linprog
from scipy.stats import poisson

from anonymise import build_hierarchy
from anonymise.errors import NotAnonymisable
from anonymise.models import (
    AlphaKAnonymity,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    Model,
    PopulationUniqueness,
    SampleUniqueness,
    TableModel,
    TCloseness,
)
from anonymise.population import population_uniqueness
from privacy.schema import Column, HierarchySpec


def tree(*rows):
    return build_hierarchy(
        Column("genotype", categories=tuple(row[0] for row in rows), hierarchy=HierarchySpec("rows", rows=rows))
    )


TREES = {
    1: tree(("a", "*")),
    2: tree(("a", "*"), ("b", "*")),
    3: tree(("a", "x", "*"), ("b", "x", "*"), ("c", "y", "*")),
    # Two values that never become one, and a level that merges nothing.
    4: tree(("a", "a", "x"), ("b", "b", "x"), ("c", "c", "y"), ("d", "d", "y")),
    5: tree(
        ("a", "x", "u", "*"), ("b", "x", "u", "*"), ("c", "y", "u", "*"), ("d", "z", "v", "*"), ("e", "w", "v", "*")
    ),
}

DISTRIBUTION_MODELS = [
    LDiversity(2, attribute=NAME),
    LDiversity(3, attribute=NAME),
    LDiversity(2, attribute=NAME, kind="entropy"),
    LDiversity(1.5, attribute=NAME, kind="entropy"),
    LDiversity(2.7, attribute=NAME, kind="entropy"),
    LDiversity(2, attribute=NAME, kind="recursive", c=1),
    LDiversity(2, attribute=NAME, kind="recursive", c=2.5),
    LDiversity(3, attribute=NAME, kind="recursive", c=1.1),
    TCloseness(0.2, attribute=NAME),
    TCloseness(0.45, attribute=NAME),
    TCloseness(0.15, attribute=NAME, distance="ordered"),
    TCloseness(0.25, attribute=NAME, distance="hierarchical"),
    BetaLikeness(0.5, attribute=NAME),
    BetaLikeness(1, attribute=NAME),
    BetaLikeness(2, attribute=NAME, kind="enhanced"),
    DeltaDisclosure(1, attribute=NAME),
    DeltaDisclosure(0.6, attribute=NAME),
    AlphaKAnonymity(0.5, 3, attribute=NAME),
    AlphaKAnonymity(0.35, 2, attribute=NAME),
]


@st.composite
def tables(draw, n_classes=4, largest=7):
    """Classes of a table, all values of which occur; the last class is the rest."""
    n_values = draw(st.integers(1, 5))
    count = st.integers(0, largest)
    rows = draw(
        st.lists(
            st.lists(count, min_size=n_values, max_size=n_values).filter(any), min_size=n_classes, max_size=n_classes
        )
    )
    overall = [sum(column) + 1 for column in zip(*rows, strict=True)]
    return rows, overall


def fails(model, counts, overall, hierarchy=None):
    return bool(model.class_fails(classes_of([counts], overall, hierarchy))[0])


# ---------------------------------------------------------------- definitions


@given(tables())
def test_a_model_is_its_definition(table):
    rows, overall = table
    hierarchy = TREES[len(overall)]
    for model in DISTRIBUTION_MODELS:
        found = model.class_fails(classes_of(rows, overall, hierarchy))
        assert found.tolist() == [not passes(model, row, overall, hierarchy) for row in rows], model


N_CLASSES = 80


@pytest.mark.parametrize("model", DISTRIBUTION_MODELS, ids=repr)
def test_a_model_is_its_definition_on_classes_of_all_sizes(model):
    rng = np.random.default_rng(1)
    for n_values, largest in ((2, 12), (3, 5), (4, 40), (5, 3)):
        rows = rng.integers(0, largest, (N_CLASSES, n_values))
        rows[:, 0] += rows.sum(axis=1) == 0
        overall = rows.sum(axis=0)
        hierarchy = TREES[n_values]
        found = model.class_fails(classes_of(rows, overall, hierarchy))
        expected = [not passes(model, row, overall, hierarchy) for row in rows]
        assert found.tolist() == expected
        # Large numbers overflow nothing: shares do not change, and so does no answer but that of the size.
        factor = 10**9 + 7
        found = model.class_fails(classes_of(rows * factor, overall * factor, hierarchy))
        alike = rows.sum(axis=1) >= getattr(model, "k", 0)
        assert found[alike].tolist() == np.array(expected)[alike].tolist()


@given(tables(n_classes=1), st.sampled_from(["equal", "ordered", "hierarchical"]))
def test_the_distance_is_the_cheapest_transport(table, kind):
    (counts,), overall = table
    n = len(counts)
    hierarchy = TREES[n]
    if kind == "equal":
        ground = 1.0 - np.eye(n)
    elif kind == "ordered":
        ground = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / max(n - 1, 1)
    else:
        codes = np.array(hierarchy.codes)
        meets = [[np.flatnonzero(codes[:, i] == codes[:, j]) for j in range(n)] for i in range(n)]
        whole = hierarchy.n_groups(hierarchy.n_levels - 1) == 1
        height = hierarchy.n_levels - 1 if whole else hierarchy.n_levels
        ground = np.array([[at[0] / height if at.size else 1.0 for at in row] for row in meets])
    p, q = np.array(counts) / sum(counts), np.array(overall) / sum(overall)
    rows = [np.kron(np.eye(n)[i], np.ones(n)) for i in range(n)] + [np.kron(np.ones(n), np.eye(n)[i]) for i in range(n)]
    cheapest = linprog(ground.ravel(), A_eq=np.array(rows), b_eq=np.concatenate([p, q]), bounds=(0, None)).fun
    assert float(distance(kind, counts, overall, hierarchy)) == pytest.approx(cheapest, abs=1e-7)
    for t, expected in ((cheapest - 1e-6, True), (cheapest + 1e-6, False)):
        if 0 < t < 1:
            assert fails(TCloseness(t, attribute=NAME, distance=kind), counts, overall, hierarchy) is expected


@pytest.mark.parametrize(
    ("salaries", "emd"),
    [((3, 4, 5), Fraction(375, 1000)), ((6, 8, 11), Fraction(1, 6))],
)
def test_ordered_distances_are_those_of_the_paper(salaries, emd):
    # Li, Li, Venkatasubramanian 2007, section 4.3: salaries of 3k to 11k, once each.
    overall = [1] * 9
    counts = [int(k in salaries) for k in range(3, 12)]
    assert distance("ordered", counts, overall) == emd
    just_below = TCloseness(float(emd) - 1e-9, attribute=NAME, distance="ordered")
    just_above = TCloseness(float(emd) + 1e-9, attribute=NAME, distance="ordered")
    assert fails(just_below, counts, overall)
    assert not fails(just_above, counts, overall)


@pytest.mark.parametrize("kind", ["equal", "ordered"])
def test_a_distance_equal_to_t_passes(kind):
    # (3, 2) of (1, 1): both distances are 0.1, which no binary fraction is.
    assert not fails(TCloseness(0.1, attribute=NAME, distance=kind), (3, 2), (7, 7))
    assert fails(TCloseness(0.0999999999999, attribute=NAME, distance=kind), (3, 2), (7, 7))


@pytest.mark.parametrize("n", [2, 3, 5, 7])
@pytest.mark.parametrize("times", [1, 2, 3, 1000])
def test_equal_counts_have_the_entropy_of_their_number(n, times):
    counts = (times,) * n
    assert not fails(LDiversity(n, attribute=NAME, kind="entropy"), counts, counts)
    assert fails(LDiversity(n + 1e-9, attribute=NAME, kind="entropy"), counts, counts)


def test_limits_are_inclusive_or_strict_as_documented():
    # 29 of 100 with q = 1/4: a gain of 0.16.
    assert not fails(BetaLikeness(0.16, attribute=NAME), (29, 71), (25, 75))
    # Twice, and half, of a quarter: |log2| = 1 is not below 1.
    assert fails(DeltaDisclosure(1, attribute=NAME), (2, 2), (2, 6))
    assert fails(DeltaDisclosure(1, attribute=NAME), (1, 7), (2, 6))
    assert not fails(DeltaDisclosure(1.0001, attribute=NAME), (2, 2), (2, 6))
    # A value that is absent from the class is none of delta-disclosure's business.
    assert not fails(DeltaDisclosure(1, attribute=NAME), (0, 5), (2, 6))
    assert not fails(AlphaKAnonymity(0.29, 5, attribute=NAME), (29, 29, 29, 13), (1, 1, 1, 1))
    # r_1 < c (r_l + ...): 121 against 1.1 x 110.
    assert fails(LDiversity(2, attribute=NAME, kind="recursive", c=1.1), (121, 110), (1, 1))
    assert not fails(LDiversity(2, attribute=NAME, kind="recursive", c=1.1), (120, 110), (1, 1))


def test_a_quotient_is_the_fraction_that_was_meant():
    # 1 / 3 in floating point is below a third, and 0.29 times 100 below 29.
    assert AverageRisk(1 / 3).satisfied(np.array([3, 3, 3]))
    assert AverageRisk(1 / 3).least_rows == 3
    assert not AverageRisk(0.3333333).satisfied(np.array([3, 3, 3]))
    assert not fails(TCloseness(1 / 3, attribute=NAME), (5, 1), (50, 50))
    assert fails(TCloseness(0.3333333, attribute=NAME), (5, 1), (50, 50))
    assert not fails(AlphaKAnonymity(2 / 3, 3, attribute=NAME), (2, 1), (50, 50))


def test_distinct_diversity_counts_a_missing_value_as_a_value():
    # The last value is "missing" in the codes of a nullable column.
    assert not fails(LDiversity(2, attribute=NAME), (4, 0, 1), (9, 9, 9))


# ---------------------------------------------------------------- flags


@given(tables(n_classes=2))
def test_the_union_of_passing_classes_passes_where_the_model_says_so(table):
    (one, other), overall = table
    hierarchy = TREES[len(overall)]
    three = [one, other, [a + b for a, b in zip(one, other, strict=True)]]
    for model in DISTRIBUTION_MODELS:
        if model.monotone:
            first, second, union = model.class_fails(classes_of(three, overall, hierarchy))
            assert first or second or not union, model


@given(tables(n_classes=1, largest=4))
def test_every_part_of_a_failing_class_fails_where_the_model_says_so(table):
    (counts,), overall = table
    hierarchy = TREES[len(overall)]
    some = [part for part in parts(counts) if any(part)]
    for model in DISTRIBUTION_MODELS:
        if model.downward_closed and fails(model, counts, overall, hierarchy):
            assert model.class_fails(classes_of(some, overall, hierarchy)).all(), model


def test_delta_disclosure_is_not_monotone():
    # A rare value that is just frequent enough in one class is too rare in its union with a class without it.
    model, overall = DeltaDisclosure(1, attribute=NAME), (20, 80)
    assert not fails(model, (2, 16), overall)
    assert not fails(model, (0, 10), overall)
    assert fails(model, (2, 26), overall)
    assert not model.monotone


@pytest.mark.parametrize("model", [m for m in DISTRIBUTION_MODELS if not m.downward_closed], ids=repr)
def test_what_is_not_called_downward_closed_is_not(model):
    balanced = {2: (2, 2), 3: (2, 2, 2), 5: (1, 1, 1, 1, 1)}
    assert any(
        not fails(model, part, (50,) * n, TREES[n]) and fails(model, (90, *part[1:]), (50,) * n, TREES[n])
        for n, part in balanced.items()
    )


# ---------------------------------------------------------------- bounds


def claims_too_much(model, counts, overall, hierarchy):
    """Whether more rows are claimed to be lost than some split loses."""
    classes = classes_of([counts], overall, hierarchy)
    lost = int(model.least_lost(classes)[0])
    return lost > sum(counts) - largest_kept(model, counts, overall, hierarchy)


@given(tables(n_classes=1, largest=4), st.sampled_from(DISTRIBUTION_MODELS))
def test_no_split_of_a_class_loses_less_than_the_bound(table, model):
    (counts,), overall = table
    overall = [2 * count + 1 for count in overall]
    hierarchy = TREES[len(overall)]
    assume(sum(counts) <= 10 and fails(model, counts, overall, hierarchy))
    assert not claims_too_much(model, counts, overall, hierarchy)


@pytest.mark.parametrize("model", DISTRIBUTION_MODELS, ids=repr)
def test_no_split_of_a_random_class_loses_less_than_the_bound(model):
    rng = np.random.default_rng(2)
    tried = 0
    for n_values, largest in ((2, 12), (3, 6), (4, 4), (5, 3)):
        for _ in range(12):
            # One value in front, so that many classes fail.
            counts = tuple(int(c) for c in rng.integers(0, largest, n_values) // ([1] + [2] * (n_values - 1)))
            overall = rng.integers(10, 40, n_values)
            if sum(counts) and fails(model, counts, overall, TREES[n_values]):
                tried += 1
                assert not claims_too_much(model, counts, overall, TREES[n_values])
                if model.monotone:
                    assert model.least_lost(classes_of([counts], overall, TREES[n_values]))[0] >= 1
    assert tried >= 5


class Boastful(TCloseness):
    def least_lost(self, classes):
        return super().least_lost(classes) + 1


def test_brute_force_notices_a_bound_that_claims_too_much():
    model = Boastful(0.2, attribute=NAME)
    assert claims_too_much(model, (4, 1), (5, 5), None)
    assert not claims_too_much(TCloseness(0.2, attribute=NAME), (4, 1), (5, 5), None)


# Share of the rows that are really lost which the bound finds, over all failing classes of the sample.
TIGHT = {
    "LDiversity distinct": 1.0,
    "LDiversity recursive": 1.0,
    "LDiversity entropy": 0.95,
    "TCloseness equal": 0.85,
    "TCloseness ordered": 0.5,
    "TCloseness hierarchical": 0.5,
    "BetaLikeness basic": 0.95,
    "BetaLikeness enhanced": 0.95,
    "AlphaKAnonymity": 0.98,
}


@pytest.mark.parametrize("model", [m for m in DISTRIBUTION_MODELS if m.monotone and getattr(m, "l", 0) != 3], ids=repr)
def test_the_bound_finds_most_of_what_is_lost(model):
    rng = np.random.default_rng(7)
    claimed = lost = 0
    for _ in range(50):
        overall = rng.integers(20, 40, 3)
        counts = tuple(int(c) for c in rng.integers(0, 5, 3))
        if sum(counts) and fails(model, counts, overall, TREES[3]):
            claimed += int(model.least_lost(classes_of([counts], overall, TREES[3]))[0])
            lost += sum(counts) - largest_kept(model, counts, overall, TREES[3])
    words = [type(model).__name__, getattr(model, "kind", getattr(model, "distance", ""))]
    assert lost > 0
    assert TIGHT[" ".join(words).strip()] <= claimed / lost <= 1.0


def test_a_large_skewed_class_keeps_what_can_be_balanced():
    # 1000 rows of one value, 30 of another: at most 2 x 30 rows can have an entropy of ln 2.
    lost = LDiversity(2, attribute=NAME, kind="entropy").least_lost(classes_of([(1000, 30)], (5000, 5000)))
    assert lost.tolist() == [970]
    # r_1 < 2 r_2 (two values): 59 and 30.
    lost = LDiversity(2, attribute=NAME, kind="recursive", c=2).least_lost(classes_of([(1000, 30)], (5000, 5000)))
    assert lost.tolist() == [941]
    # At distance 0.1 of (1/2, 1/2) the second value fills 0.4 of what is kept: 75 rows.
    lost = TCloseness(0.1, attribute=NAME).least_lost(classes_of([(1000, 30)], (5000, 5000)))
    assert lost.tolist() == [955]


# ---------------------------------------------------------------- populations


@given(st.integers(1, 8), st.integers(0, 8))
def test_k_map_counts_people(rows, more):
    model = KMap(5)
    found = model.class_fails(classes_of([(rows, 0)], (10, 10), people=[rows + more]))
    assert found.tolist() == [rows + more < 5]


def test_without_a_population_table_the_models_say_what_they_need():
    for model in (KMap(5), DeltaPresence(0.1, 0.5)):
        with pytest.raises(NotAnonymisable, match=r"no population table was given; give population="):
            model.class_fails(classes_of([(1, 2)], (10, 10)))


@pytest.mark.parametrize("estimator", ["poisson", "zero_truncated_poisson"])
@pytest.mark.parametrize("k", [2, 3, 5, 20, 1000])
@pytest.mark.parametrize("fraction", [0.0001, 0.01, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_the_derived_threshold_of_k_map_is_the_quantile(estimator, k, fraction, level):
    people = 10**6
    rows = int(people * fraction)
    mean = k * rows / people
    # Points of doubt between two sums of probabilities would be a matter of rounding.
    if estimator == "poisson":
        expected = int(poisson.ppf(1 - level, mean)) + 2
    else:
        zero = poisson.pmf(0, mean)
        x = 1
        while (poisson.cdf(x, mean) - zero) / (1 - zero) < 1 - level:
            x += 1
        expected = x + 1
    model = KMap(k, population_size=people, estimator=estimator, significance_level=level)
    assert model.least_class(rows) == min(k, rows, expected)


def test_a_derived_threshold_of_k_map_is_asked_of_rows():
    model = KMap(5, population_size=100_000, estimator="zero_truncated_poisson")
    assert model.least_class(1_000) == 3
    classes = classes_of([(1, 0), (2, 0), (4, 0)], (500, 500))
    assert model.class_fails(classes).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="population_size must be at least the rows of the table"):
        KMap(5, population_size=10).least_class(11)


@given(st.integers(1, 9), st.integers(0, 20), st.sampled_from([(0.0, 0.5), (0.2, 0.6), (0.29, 0.29), (0.5, 1.0)]))
def test_delta_presence_is_a_share_of_people(rows, more, limits):
    model = DeltaPresence(*limits)
    people = rows + more
    low, high = (Fraction(str(limit)) for limit in limits)
    expected = not low <= Fraction(rows, people) <= high
    assert model.class_fails(classes_of([(rows, 0)], (10, 10), people=[people])).tolist() == [expected]


def presence_kept(rows, people, model):
    """Rows that some split of a class and its people can release, by trying all: parts need a person for each row."""
    best = {(0, 0): 0}
    for _ in range(rows):
        for (used, persons), kept in list(best.items()):
            for size in range(1, rows - used + 1):
                for crowd in range(size, people - persons + 1):
                    released = size if model.low <= size / crowd <= model.high else 0
                    key = used + size, persons + crowd
                    best[key] = max(best.get(key, 0), kept + released)
    # All rows are somewhere; people without a row may be alone.
    return max(kept for (used, _), kept in best.items() if used == rows)


@given(st.integers(1, 4), st.integers(0, 5), st.sampled_from([(0.0, 0.5), (0.25, 0.75), (0.5, 0.75)]))
def test_no_split_of_a_class_and_its_people_loses_less_than_the_bound(rows, more, limits):
    model, classes = DeltaPresence(*limits), classes_of([(rows, 0)], (10, 10), people=[rows + more])
    assume(model.class_fails(classes)[0])
    assert model.least_lost(classes)[0] <= rows - presence_kept(rows, rows + more, model)


# ---------------------------------------------------------------- the release as a whole


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.75]))
def test_no_fewer_of_the_smallest_classes_can_go(sizes, threshold):
    sizes = np.sort(np.array(sizes))

    def risk(kept):
        return Fraction(int(kept.size), int(kept.sum())) if kept.size else Fraction(0)

    def unique(kept):
        return Fraction(int((kept == 1).sum()), int(kept.sum())) if kept.size else Fraction(0)

    for model, figure in ((AverageRisk(threshold), risk), (SampleUniqueness(threshold), unique)):
        enough = [figure(sizes[dropped:]) <= Fraction(str(threshold)) for dropped in range(sizes.size + 1)]
        assert model.least_dropped(sizes) == enough.index(True)
        assert [model.satisfied(sizes[dropped:]) for dropped in range(sizes.size + 1)] == enough


def test_population_uniqueness_drops_until_the_estimate_is_low_enough():
    sizes = np.array([1] * 40 + [2] * 15 + [5] * 6 + [30])
    for estimator in ("dankar", "pitman", "zayatz", "snb"):
        model = PopulationUniqueness(0.05, population_size=10_000, estimator=estimator)
        share = [population_uniqueness(sizes[d:], population_size=10_000, estimator=estimator).value for d in range(41)]
        enough = [value is not None and value <= 0.05 and (value > 0 or d == 40) for d, value in enumerate(share)]
        assert [model.satisfied(sizes[d:]) for d in range(41)] == enough
        dropped = model.least_dropped(sizes)
        assert enough[dropped]
        assert dropped == 0 or not enough[dropped - 1]
        assert model.satisfied(sizes[:0])


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.sampled_from([0.1, 0.3, 0.5]))
def test_merging_classes_breaks_no_statement_on_the_release(sizes, threshold):
    sizes = np.array(sizes)
    merged = np.append(sizes[2:], sizes[:2].sum())
    for model in (AverageRisk(threshold), SampleUniqueness(threshold)):
        assert model.monotone
        assert model.satisfied(merged) or not model.satisfied(sizes)


# ---------------------------------------------------------------- arguments

A = {"attribute": NAME}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LDiversity(1, **A), "l must be an integer >= 2"),
        (lambda: LDiversity(2.5, **A), 'l must be an integer >= 2.*only kind="entropy" takes fractions'),
        (lambda: LDiversity(True, **A), "l must be an integer >= 2"),
        (lambda: LDiversity(math.nan, kind="entropy", **A), "l must be a number > 1"),
        (lambda: LDiversity(1.0, kind="entropy", **A), "l must be a number > 1"),
        (lambda: LDiversity("3", kind="entropy", **A), "l must be a number > 1"),
        (lambda: LDiversity(3, kind="recursive", **A), "recursive l-diversity needs c"),
        (lambda: LDiversity(3, kind="recursive", c=0, **A), "c must be a number > 0"),
        (lambda: LDiversity(3, kind="recursive", c=math.inf, **A), "c must be a number > 0"),
        (lambda: LDiversity(3, c=2, **A), 'c belongs to kind="recursive" only'),
        (lambda: LDiversity(3, kind="renyi", **A), 'kind must be "distinct", "entropy" or "recursive"'),
        (lambda: LDiversity(3, attribute=""), "attribute must name a column"),
        (lambda: LDiversity(3, attribute=("a", "a")), "attribute must name a column, or a tuple of different"),
        (lambda: LDiversity(3, attribute=("a",)), "write one column as text"),
        (lambda: LDiversity(3, attribute=7), "attribute must name a column"),
        (lambda: TCloseness(0, **A), "t must be a number > 0 and < 1 .*only the whole table pass"),
        (lambda: TCloseness(1, **A), "t must be a number > 0 and < 1"),
        (lambda: TCloseness(math.nan, **A), "t must be a number > 0 and < 1"),
        (lambda: TCloseness(True, **A), "t must be a number > 0 and < 1"),
        (lambda: TCloseness(0.2, distance="cosine", **A), 'distance must be "equal", "ordered" or "hierarchical"'),
        (lambda: TCloseness(0.2, attribute=("a", "b"), distance="ordered"), "use distance='equal'"),
        (lambda: BetaLikeness(0, **A), "beta must be a number > 0"),
        (lambda: BetaLikeness(-1, **A), "beta must be a number > 0"),
        (lambda: BetaLikeness(1, kind="advanced", **A), 'kind must be "basic" or "enhanced"'),
        (lambda: DeltaDisclosure(0, **A), "delta must be a number > 0"),
        (lambda: DeltaDisclosure(math.inf, **A), "delta must be a number > 0"),
        (lambda: AlphaKAnonymity(1, 5, **A), "alpha must be a number > 0 and < 1"),
        (lambda: AlphaKAnonymity(0.5, 1, **A), "k must be an integer >= 2"),
        (lambda: KMap(1), "k must be an integer >= 2"),
        (lambda: KMap(5, population_size=0), "population_size must be an integer >= 1 or None"),
        (lambda: KMap(5, population_size=100, estimator="binomial"), 'estimator must be "poisson"'),
        (lambda: KMap(5, population_size=100, significance_level=0), "significance_level must be a number > 0 and < 1"),
        (lambda: KMap(5).least_class(10), "counts people"),
        (lambda: DeltaPresence(0.5, 0.2), "low must not exceed high"),
        (lambda: DeltaPresence(-0.1, 0.2), "low must be a number"),
        (lambda: DeltaPresence(0.0, 1.2), "high must be a number > 0 and <= 1"),
        (lambda: AverageRisk(0), "threshold must be a number > 0 and < 1"),
        (lambda: AverageRisk(1), "threshold must be a number > 0 and < 1"),
        (lambda: SampleUniqueness(-0.1), "threshold must be a number"),
        (lambda: SampleUniqueness(1.0), "threshold must be a number"),
        (lambda: PopulationUniqueness(1.0, population_size=100), "threshold must be a number"),
        (lambda: PopulationUniqueness(0.1, population_size=0), "population_size must be an integer >= 1"),
        (lambda: PopulationUniqueness(0.1, population_size=9, estimator="x"), "estimator must be one of dankar, "),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_model_is_what_the_search_asks_for():
    models = [*DISTRIBUTION_MODELS, KAnonymity(5), KMap(5), DeltaPresence(0, 0.5)]
    assert all(isinstance(model, Model) and not isinstance(model, TableModel) for model in models)
    whole = [AverageRisk(0.1), SampleUniqueness(0.1), PopulationUniqueness(0.1, population_size=100)]
    assert all(isinstance(model, TableModel) and not isinstance(model, Model) for model in whole)
