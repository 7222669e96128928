"""Stated sensitivities against all neighbours of small tables, with the noise taken out; overflow; refusals."""

import itertools
import math
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import InsecureSeededRng, NonPrivate, ZcdpAccountant
from privacy.events import Composed, DiscreteGaussian, DiscreteLaplace
from privacy.mechanisms import (
    _noise,
    choices,
    noisy_count,
    noisy_histogram,
    noisy_max,
    noisy_mean,
    noisy_quantile,
    noisy_sum,
    noisy_top_k,
    to_fixed_point,
)

PATIENTS = "abc"
RELATIONS = ["add_remove_one", "replace_one"]


@pytest.fixture
def no_noise(monkeypatch):
    """Take the noise out and note the scales that were asked for."""
    scales = []

    def zeros(scale, size, *, rng):  # noqa: ARG001 - the sampler's signature
        scales.append(Fraction(scale))
        return np.zeros(size, dtype=np.int64)

    monkeypatch.setattr(_noise, "sample_discrete_gaussian", zeros)
    monkeypatch.setattr(_noise, "sample_discrete_laplace", zeros)
    return scales


def rows_of_a_patient(values, most_rows):
    return [rows for n in range(1, most_rows + 1) for rows in itertools.product(values, repeat=n)]


def neighbours_of(values, relation, *, most_rows):
    """Yield pairs of tables, each a list of (patient, value), that differ in one patient's rows."""
    mine = rows_of_a_patient(values, most_rows)
    spread = [*[("b", values[0]), ("b", values[-1])][:most_rows], ("c", values[-1])]
    for first, others in itertools.product(mine, (spread, [("b", values[0]), ("c", values[0])])):
        table = [("a", value) for value in first] + others
        if relation == "add_remove_one":
            yield table, others
        else:
            for second in mine:
                yield table, [("a", value) for value in second] + others


def largest_change(release, values, relation, *, most_rows):
    """Return the largest L1, squared L2 and Linf change of the exact answer over all neighbours."""
    l1 = l2 = linf = 0
    for one, other in neighbours_of(values, relation, most_rows=most_rows):
        difference = np.abs(np.atleast_1d(release(one)) - np.atleast_1d(release(other)))
        l1, l2 = max(l1, int(difference.sum())), max(l2, int((difference**2).sum()))
        linf = max(linf, int(difference.max()))
    return l1, l2, linf


def grouped(table, m, row_is_patient):
    return {} if row_is_patient else {"patients": [owner for owner, _ in table], "max_contributions": m}


CASES = [
    ("count", (0, 1), lambda t, o: noisy_count([v for _, v in t], **o)),
    ("histogram", (0, 1, 2), lambda t, o: noisy_histogram([v for _, v in t], n_categories=3, **o)),
    ("sum", (-3, 0, 7), lambda t, o: noisy_sum([v for _, v in t], bounds=(-3, 7), **o)),
    ("sum of clipped", (-30, 0, 70), lambda t, o: noisy_sum([v for _, v in t], bounds=(2, 7), **o)),
]


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize(("name", "values", "release"), CASES, ids=[case[0] for case in CASES])
def test_no_neighbour_changes_an_answer_by_more_than_the_event_says(no_noise, name, values, release, m, relation):
    row_is_patient = m == 1

    def options(table):
        return {"neighbours": relation, **grouped(table, m, row_is_patient)}

    l1, l2, linf = largest_change(
        lambda table: release(table, {"rho": 0.5, **options(table)})[0], values, relation, most_rows=1 if m == 1 else 3
    )
    table = next(neighbours_of(values, relation, most_rows=1))[0]
    event = release(table, {"rho": 0.5, **options(table)})[1]
    assert isinstance(event, DiscreteGaussian)
    assert no_noise[-1] == Fraction(event.scale)
    assert l2 <= event.l2_sensitivity_squared
    assert linf <= event.linf_sensitivity
    laplace = release(table, {"epsilon": 0.7, **options(table)})[1]
    assert isinstance(laplace, DiscreteLaplace)
    stated_l1 = no_noise[-1] / Fraction(laplace.noise_multiplier)
    assert stated_l1.denominator == 1
    assert l1 <= stated_l1
    if (m, name) != (2, "sum of clipped") and not (name == "sum" and relation == "replace_one" and m == 2):
        # The bound is attained: nothing is wasted. (A patient with several rows of bounds above zero: an upper bound.)
        assert (l1, l2) == (stated_l1, event.l2_sensitivity_squared)


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("m", [1, 2])
def test_both_parts_of_a_mean_are_covered(monkeypatch, relation, m):
    parts = []
    original = _noise.with_noise

    def spy(exact, sensitivity, **options):
        parts.append((exact[0], sensitivity.l1))
        return original(exact, sensitivity, **options)

    monkeypatch.setattr("privacy.mechanisms.sums.with_noise", spy)
    for one, other in neighbours_of((-9, 0, 5), relation, most_rows=3):
        seen = []
        for table in (one, other):
            parts.clear()
            options = grouped(table, m, row_is_patient=False)
            noisy_mean([v for _, v in table], bounds=(-4, 5), neighbours=relation, rho=1.0, **options)
            seen.append(list(parts))
        for (before, stated), (after, _) in zip(*seen, strict=True):
            assert abs(before - after) <= stated
    assert len(parts) == 2


@pytest.mark.usefixtures("no_noise")
def test_the_mean_of_a_public_number_of_rows_spends_all_on_the_sum():
    answer, event = noisy_mean([1, 2, 9], bounds=(0, 9), neighbours="replace_one", rho=0.5)
    assert answer == 4
    assert isinstance(event, DiscreteGaussian)
    assert event.l2_sensitivity_squared == 81
    answer, event = noisy_mean([1, 2, 9], bounds=(0, 9), neighbours="add_remove_one", epsilon=0.5)
    assert answer == 4
    assert isinstance(event, Composed)
    assert [1 / part.noise_multiplier for part in event.events] == pytest.approx([0.25, 0.25])
    with pytest.raises(ValueError, match="no mean"):
        noisy_mean([], bounds=(0, 9), neighbours="replace_one", rho=0.5)
    assert noisy_mean([], bounds=(0, 9), neighbours="add_remove_one", rho=0.5)[0] == 4


@pytest.mark.slow
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("quantile", [0, 0.25, Fraction(1, 3), 0.5, 0.9, 1.0])
def test_the_scores_of_a_quantile_change_by_no_more_than_their_sensitivity(monkeypatch, relation, grouping, quantile):
    calls = []

    def spy(scores, *, sensitivity, **_options):
        calls.append((list(scores), sensitivity))
        return 0

    monkeypatch.setattr(choices, "exponential_mechanism", spy)
    attained = 0
    m = 2 if grouping else 1
    for one, other in neighbours_of((0, 3, 5), relation, most_rows=3 if grouping else 1):
        calls.clear()
        for table in (one, other):
            noisy_quantile(
                [v for _, v in table],
                quantile=quantile,
                grid=range(-1, 7),
                epsilon=1.0,
                neighbours=relation,
                **grouped(table, m, not grouping),
            )
        (before, stated), (after, _) = calls
        change = max(abs(x - y) for x, y in zip(before, after, strict=True))
        assert change <= stated
        attained = max(attained, change / stated)
    assert attained >= (0.5 if grouping else 0.99)


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_counts_of_a_top_k_change_by_no_more_than_their_sensitivity_and_one_way_where_that_is_claimed(
    monkeypatch, relation
):
    calls = []

    def spy(scores, *, sensitivity, monotone, **_options):
        calls.append((np.array(scores), sensitivity, monotone))
        return 0

    monkeypatch.setattr(choices, "exponential_mechanism", spy)
    for one, other in neighbours_of((0, 1, 2), relation, most_rows=3):
        calls.clear()
        for table in (one, other):
            options = grouped(table, 2, row_is_patient=False)
            noisy_top_k([v for _, v in table], n_categories=3, k=1, epsilon=1.0, neighbours=relation, **options)
        (before, stated, monotone), (after, _, _) = calls
        assert np.abs(before - after).max() <= stated
        assert monotone == (relation == "add_remove_one")
        assert not monotone or (before >= after).all()


def test_an_exact_quantile_is_found_without_noise_in_the_choice():
    values = [1, 2, 2, 3, 10, 10, 10]
    for quantile, expected in [(0.0, -5), (0.5, 3), (1.0, 10)]:
        answer, _ = noisy_quantile(
            values * 1000, quantile=quantile, grid=[-5, 2, 3, 10], epsilon=5.0, neighbours="replace_one"
        )
        assert answer == expected


@pytest.mark.usefixtures("no_noise")
def test_only_the_first_rows_of_each_patient_count():
    flags, patients = [1, 1, 1, 0, 1, 1], ["a", "b", "a", "b", "a", "c"]
    options = {"neighbours": "add_remove_one", "rho": 0.5, "patients": patients}
    assert [noisy_count(flags, max_contributions=m, **options)[0] for m in (1, 2, 3)] == [3, 4, 5]
    numbered = {**options, "patients": np.array([7, 9, 7, 9, 7, 8])}
    assert [noisy_count(flags, max_contributions=m, **numbered)[0] for m in (1, 2, 3)] == [3, 4, 5]


@pytest.mark.usefixtures("no_noise")
def test_sums_do_not_overflow():
    big = 2**62 - 1
    values = [big, -big, big, big, big, big] * 50
    options = {"neighbours": "replace_one", "epsilon": 1e12}
    # The noise would have to be as wide as the bounds, beyond the sampler's scales: refused rather than wrapped.
    with pytest.raises(ValueError, match="2\\^40"):
        noisy_sum(values, bounds=(-big, big), neighbours="replace_one", rho=1.0)
    assert noisy_sum(values, bounds=(-big, big), **options)[0] == sum(values)
    assert sum(values) > 2**63
    # Negative control: NumPy's sum is another number.
    assert int(np.array(values).sum()) != sum(values)


@given(
    values=st.lists(st.integers(-(2**62) + 1, 2**62 - 1), max_size=30),
    low=st.integers(-(2**61), 0),
    width=st.integers(1, 2**61),
)
def test_a_sum_is_that_of_the_clipped_values(values, low, width):
    from privacy.mechanisms.sums import _exact_sum, _kept_values

    kept = _kept_values(values, low, low + width, None, 1)
    assert _exact_sum(kept) == sum(min(max(v, low), low + width) for v in values)


@given(
    values=st.lists(st.decimals(-(10**9), 10**9, allow_nan=False, places=6), max_size=20),
    decimals=st.integers(0, 8),
)
def test_fixed_point_is_the_decimal_rounded_half_to_even(values, decimals):
    expected = [int(v.scaleb(decimals).to_integral_value(rounding=ROUND_HALF_EVEN)) for v in values]
    assert to_fixed_point(values, decimals=decimals).tolist() == expected
    assert to_fixed_point([Fraction(v) for v in values], decimals=decimals).tolist() == expected


def test_fixed_point_reads_floats_as_they_are_written_and_moves_the_infinite_to_the_bound():
    assert to_fixed_point(np.array([0.285, 1e-9, -2.5]), decimals=2).tolist() == [28, 0, -250]
    assert to_fixed_point(np.array([1, 2], dtype=np.int8), decimals=1).tolist() == [10, 20]
    largest = 2**62 - 1
    assert to_fixed_point([math.inf, -math.inf, 1e300, 10**30], decimals=3).tolist() == [
        largest,
        -largest,
        largest,
        largest,
    ]
    assert to_fixed_point([], decimals=3).tolist() == []
    for missing in (math.nan, None, "x", Decimal("nan")):
        with pytest.raises(ValueError, match="missing"):
            to_fixed_point([missing], decimals=0)
    for decimals in (-1, 16):
        with pytest.raises(ValueError, match="decimals"):
            to_fixed_point([1], decimals=decimals)


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1 / 3, 0.7, 1.0, 3.0, 41.7])
def test_a_laplace_price_is_at_most_what_was_granted_and_the_noise_is_what_the_event_says(no_noise, epsilon):
    _, event = noisy_count([1], neighbours="add_remove_one", epsilon=epsilon)
    assert 1 / event.noise_multiplier <= epsilon
    assert 1 / event.noise_multiplier == pytest.approx(epsilon, rel=1e-15)
    assert no_noise[-1] == Fraction(event.noise_multiplier)


@pytest.mark.parametrize("rho", [1e-9, 0.013, 0.5, 77.0])
def test_a_gaussian_price_is_at_most_what_was_granted(rho):
    _, event = noisy_histogram([0, 1], n_categories=2, neighbours="replace_one", rho=rho)
    accountant = ZcdpAccountant(neighbours="replace_one")
    accountant.compose(event)
    assert rho * (1 - 1e-9) < accountant.rho <= rho


GOOD = {"neighbours": "add_remove_one", "rho": 0.5}


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: noisy_count([0.5], **GOOD), "integers"),
        (lambda: noisy_count([[1]], **GOOD), "one-dimensional"),
        (lambda: noisy_count([2], **GOOD), "0 or 1"),
        (lambda: noisy_count(["1"], **GOOD), "integers"),
        (lambda: noisy_count([1], neighbours="add", rho=0.5), "neighbours"),
        (lambda: noisy_count([1], neighbours="replace_one"), "exactly one"),
        (lambda: noisy_count([1], epsilon=1.0, **GOOD), "exactly one"),
        (lambda: noisy_count([1], neighbours="replace_one", rho=0.0), "rho"),
        (lambda: noisy_count([1], neighbours="replace_one", epsilon=math.nan), "epsilon"),
        (lambda: noisy_count([1], neighbours="replace_one", epsilon=1e6), "exact release"),
        (lambda: noisy_count([1], neighbours="replace_one", rho=1e-30), "2\\^40"),
        (lambda: noisy_count([1], max_contributions=2, **GOOD), "patients="),
        (lambda: noisy_count([1], patients=["a", "b"], **GOOD), "one patient for each"),
        (lambda: noisy_count([1, 0], patients=["a", None], **GOOD), "missing"),
        (lambda: noisy_count([1, 0], patients=["1", 1], **GOOD), "all texts"),
        (lambda: noisy_count([1, 0], patients=[1.0, math.nan], **GOOD), "missing"),
        (lambda: noisy_histogram([3], n_categories=3, **GOOD), "codes"),
        (lambda: noisy_histogram([-1], n_categories=3, **GOOD), "codes"),
        (lambda: noisy_histogram([0], n_categories=0, **GOOD), "n_categories"),
        (lambda: noisy_sum([2**62], bounds=(0, 1), **GOOD), "2\\^62"),
        (lambda: noisy_sum([2**64], bounds=(0, 1), **GOOD), "integers"),
        (lambda: noisy_sum([1], bounds=(1, 1), **GOOD), "low < high"),
        (lambda: noisy_sum([1], bounds=(0.0, 1.5), **GOOD), "low"),
        (lambda: noisy_quantile([1], quantile=1.5, grid=[1], epsilon=1.0, neighbours="replace_one"), "quantile"),
        (lambda: noisy_quantile([1], quantile=1 / 3, grid=[1], epsilon=1.0, neighbours="replace_one"), "denominator"),
        (lambda: noisy_quantile([1], quantile=0.5, grid=[1, 1], epsilon=1.0, neighbours="replace_one"), "grid"),
        (lambda: noisy_quantile([1], quantile=0.5, grid=[], epsilon=1.0, neighbours="replace_one"), "grid"),
        (lambda: noisy_top_k([1], n_categories=2, k=3, epsilon=1.0, neighbours="replace_one"), "k must be"),
        (lambda: noisy_max([1], sensitivity=1, epsilon=1.0, monotone=True), "monotone"),
        (lambda: noisy_max([1], sensitivity=1, epsilon=1.0, method="gumbel"), "method"),
        (lambda: noisy_max([], sensitivity=1, epsilon=1.0), "candidate"),
        (lambda: noisy_max([1], sensitivity=0, epsilon=1.0), "sensitivity"),
        (lambda: noisy_max([2**62], sensitivity=1, epsilon=1.0), "2\\^62"),
    ],
)
def test_what_cannot_be_protected_is_refused_with_the_rule(call, rule):
    with pytest.raises(ValueError, match=rule):
        call()


def test_numpys_generators_are_not_taken_for_noise():
    with pytest.raises(TypeError, match="SecureRng"):
        noisy_count([1], rng=np.random.default_rng(1), **GOOD)


def test_a_refusal_names_no_value():
    with pytest.raises(ValueError) as caught:
        noisy_histogram([987_654], n_categories=3, **GOOD)
    assert "987" not in str(caught.value)


def test_the_same_source_gives_the_same_answer():
    first = noisy_histogram([0, 1, 1], n_categories=4, rng=InsecureSeededRng(1), **GOOD)[0]
    again = noisy_histogram([0, 1, 1], n_categories=4, rng=InsecureSeededRng(1), **GOOD)[0]
    assert (first == again).all()
    assert not isinstance(noisy_histogram([0], n_categories=1, **GOOD)[1], NonPrivate)
