"""Several tables from one model: plausible models, the rule that combines answers, and whether its intervals cover."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import binom, t

from generators import Domain, DomainMismatch, Measurement, Schema, decode
from generators.analyses import logistic_regression, mean, survival_at
from generators.combining import combine, student_quantile
from generators.copies import draw_counts, evidence_on, plausible_models, simulate
from generators.estimation import fit_graph
from generators.factor import sum_onto
from generators.inference import estimate_total, merge
from generators.junction_tree import JunctionTree
from generators.mechanism import Findings, ForestMechanism, Learned, Mechanism
from generators.propagation import propagate
from privacy import InsecureSeededRng

# A normal variable leaves this interval once in 10^6 tests; a binomial one is judged at the same level.
Z_THRESHOLD = 4.9
P_THRESHOLD = 1e-6
N_DRAWS = 4000
N_FITS = 100
N_TRIALS, N_COPIES = 50, 8
N_TRIALS_SLOW = 300


@pytest.fixture
def marginals():
    rng = np.random.default_rng(1)
    tree = JunctionTree.build(Domain(tuple("abcd"), (2, 3, 2, 2)), [("a", "b", "c"), ("b", "d")])
    return propagate(tree, [rng.normal(0, 1, tree.shape(i)) for i in range(len(tree.cliques))])


def joint_design(tree):
    """Return a matrix from cells of the whole table to cells of all cliques, one after the other."""
    cells = tree.domain.cells(tree.domain.columns)
    units = np.eye(cells).reshape(cells, *tree.domain.n_codes)
    return np.stack(
        [np.concatenate([sum_onto(u, tree.domain.columns, c).ravel() for c in tree.cliques]) for u in units]
    )


def test_counts_of_cliques_are_those_of_independent_rows(marginals):
    rng = np.random.default_rng(2)
    n, tree = 50, marginals.tree
    drawn = np.stack(
        [np.concatenate([part.ravel() for part in draw_counts(marginals, n, rng=rng)]) for _ in range(N_DRAWS)]
    )
    joint = marginals.project(tree.domain.columns).ravel()
    design = joint_design(tree)
    expected_mean = n * joint @ design
    expected = n * design.T @ (np.diag(joint) - np.outer(joint, joint)) @ design

    def worst_covariance(values):
        """Return the largest standardised error of a covariance."""
        centred = values - expected_mean
        products = centred[:, :, None] * centred[:, None, :]
        error = np.abs(products.mean(axis=0) - expected)
        return (error / (products.std(axis=0) / math.sqrt(len(values)))).max()

    assert (np.abs(drawn.mean(axis=0) - expected_mean) < Z_THRESHOLD * np.sqrt(np.diag(expected) / N_DRAWS)).all()
    assert worst_covariance(drawn) < Z_THRESHOLD
    # Negative control: cliques drawn each on its own have the right means, but do not vary together.
    first = drawn[:, : math.prod(tree.shape(0))]
    apart = np.concatenate([first, rng.permutation(drawn[:, first.shape[1] :])], axis=1)
    assert worst_covariance(apart) > Z_THRESHOLD


@pytest.mark.slow
def test_simulated_measurements_vary_as_sampling_and_noise_say_and_forgotten_noise_is_noticed(marginals):
    rng = np.random.default_rng(3)
    n = 200
    zeros = np.zeros((2, 2), dtype=np.int64)
    # a and d share no clique: their pair tells about each alone, with the noise of two cells.
    parts = [Measurement(("b", "d"), np.zeros((3, 2), dtype=np.int64), 4.0), Measurement(("d", "a"), zeros, 3.0)]
    drawn = [evidence_on(marginals.tree, parts, simulate(marginals, n, parts, rng=rng)) for _ in range(N_DRAWS)]
    assert [part.columns for part in drawn[0]] == [("b", "d"), ("a",), ("d",)]
    assert [part.variance for part in drawn[0]] == [16.0, 18.0, 18.0]
    for k, columns in enumerate([("b", "d"), ("a",), ("d",)]):
        p = marginals.project(columns).ravel()
        values = np.stack([one[k].values.ravel() for one in drawn])
        sampling = n * p * (1 - p)
        variance = sampling + drawn[0][k].variance
        # The relative standard error of a normal variance is sqrt(2 / N).
        error = (values.var(axis=0, ddof=1) / variance - 1) / math.sqrt(2 / N_DRAWS)
        assert np.abs(error).max() < Z_THRESHOLD
        assert (np.abs(values.mean(axis=0) - n * p) < Z_THRESHOLD * np.sqrt(variance / N_DRAWS)).all()
        without_noise = (values.var(axis=0, ddof=1) / sampling - 1) / math.sqrt(2 / N_DRAWS)
        assert without_noise.max() > Z_THRESHOLD


def test_fits_to_measurements_without_noise_vary_as_counts_of_a_sample():
    # With next to no noise, the fitted share of a code is its share in a sample of n rows: variance p (1 - p) / n.
    rng = np.random.default_rng(4)
    tree = JunctionTree.build(Domain(("a", "b"), (2, 2)), [("a", "b")])
    table = np.array([[40, 10], [20, 30]])
    fits = list(plausible_models(tree, [Measurement(("a", "b"), table, 0.01)], N_FITS, rng=rng))
    shares = np.stack([fit.marginals.project(("a", "b")) for fit in fits])
    p = table / 100
    assert np.abs((shares.mean(axis=0) - p) / np.sqrt(p * (1 - p) / 100 / len(fits))).max() < Z_THRESHOLD
    assert np.abs((shares.var(axis=0, ddof=1) / (p * (1 - p) / 100) - 1) / math.sqrt(2 / len(fits))).max() < Z_THRESHOLD


def test_fits_of_a_clique_of_three_vary_as_sampling_and_noise_say():
    # All cells are measured once, and far from zero: the fit is what was measured, over the total.
    rng = np.random.default_rng(6)
    tree = JunctionTree.build(Domain(("a", "b", "c"), (2, 2, 2)), [("a", "b", "c")])
    table = np.array([[[400, 300], [250, 350]], [[300, 200], [300, 400]]])
    n, std = table.sum(), 20.0
    fits = list(plausible_models(tree, [Measurement(("a", "b", "c"), table, std)], N_FITS, rng=rng))
    shares = np.stack([fit.marginals.project(("a", "b", "c")) for fit in fits])
    p = table / n
    # Delta method for x / sum(x) with x_i of variance n p (1 - p) + std^2, sampling negatively correlated, noise not.
    variance = p * (1 - p) / n + (std / n) ** 2 * (1 - 2 * p + 8 * p**2)
    assert np.abs((shares.mean(axis=0) - p) / np.sqrt(variance / N_FITS)).max() < Z_THRESHOLD
    error = (shares.var(axis=0, ddof=1) / variance - 1) / math.sqrt(2 / N_FITS)
    assert np.abs(error).max() < Z_THRESHOLD
    # Negative control: sampling alone is not enough.
    assert ((shares.var(axis=0, ddof=1) / (p * (1 - p) / n) - 1) / math.sqrt(2 / N_FITS)).max() > Z_THRESHOLD


def test_the_quantile_of_student_equals_scipy():
    for probability in (0.6, 0.9, 0.975, 0.9995):
        for freedom in (1, 2, 4.5, 19, 99, 10_000):
            assert student_quantile(probability, freedom) == pytest.approx(t.ppf(probability, freedom), rel=1e-9)
    with pytest.raises(ValueError, match="probability"):
        student_quantile(0.4, 3)


def test_the_rule_is_its_formula_cell_by_cell():
    answers = np.random.default_rng(5).normal(size=(7, 3, 2))
    found = combine(answers, level=0.9)
    total = (1 + 1 / 7) * answers.var(axis=0, ddof=1)
    assert np.allclose(found.estimate, answers.mean(axis=0))
    assert np.allclose(found.std_error, np.sqrt(total))
    assert found.degrees_of_freedom == 6
    assert np.allclose(found.high - found.estimate, t.ppf(0.95, 6) * np.sqrt(total))
    assert np.allclose(found.estimate - found.low, found.high - found.estimate)


@pytest.mark.parametrize("answers", [[1.0], [], 3.0, [1.0, math.nan]], ids=str)
def test_one_table_has_no_interval(answers):
    with pytest.raises(DomainMismatch, match="at least two tables"):
        combine(answers)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match="level"):
        combine([1.0, 2.0], level=level)


class KnownTree(ForestMechanism):
    """Measures the pairs that the patients below are made from, so that its structure contains the truth."""

    name: ClassVar[str] = "known-tree"
    edges: ClassVar = (("time", "event"), ("age", "event"), ("age", "response"))

    def _explore(self, oracle, known):  # noqa: ARG002 - its edges are what is known
        measured = oracle.measure([*((name,) for name in oracle.domain), *self.edges], rho=self.rho)
        return Findings(self.edges, tuple(measured), tuple(merge(measured, oracle.domain).values()))


class KnownTriple(Mechanism):
    """Measures age, time and event together: 80 cells, some of them nearly empty."""

    name: ClassVar[str] = "known-triple"

    def _learn(self, oracle, schema):  # noqa: ARG002 - its cliques are what is known
        cliques = [("age", "time", "event"), ("age", "response")]
        measured = oracle.measure(cliques, rho=self.rho)
        evidence = tuple(merge(measured, oracle.domain).values())
        fit = fit_graph(oracle.domain, evidence, total=estimate_total(evidence))
        return Learned(fit.marginals, fit.total, tuple(measured), fit.gap_per_cell)


SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {"kind": "integer", "bounds": [20, 89], "edges": [40, 50, 60, 70]},
            "response": {"categories": ["no", "yes"]},
            "time": {"kind": "continuous", "bounds": [0, 1600], "edges": [200, 400, 600, 800, 1000, 1200, 1400]},
            "event": {"categories": ["0", "1"]},
        },
        "survival": {"time": "time", "event": "event"},
    }
)


def draw_patients(n, rng):
    age = rng.choice(5, n, p=[0.1, 0.2, 0.3, 0.25, 0.15])
    response = rng.random(n) < 1 / (1 + np.exp(1.5 - 0.6 * age))
    event = (rng.random(n) < np.array([0.3, 0.4, 0.5, 0.65, 0.75])[age]).astype(int)
    times = np.cumsum([[1, 1, 2, 2, 3, 3, 4, 4], [6, 4, 3, 2, 2, 1, 1, 1]], axis=1) / 20
    time = (rng.random((n, 1)) > times[event]).sum(axis=1)
    return decode(np.stack([age, response, time, event], axis=1), SCHEMA, rng=rng)


ANALYSES = ("mean age", "S(800)", "log odds", "adjusted")


def analyse(table):
    """Mean age; survival at 800 days; log odds of response per decade; of an event per 100 days, adjusted for age."""
    decades, event = table["age"] / 10, table["event"] == "1"
    response = logistic_regression(decades, table["response"] == "yes")
    adjusted = logistic_regression(np.column_stack([decades, table["time"] / 100]), event)
    return np.array(
        [
            mean(table["age"]),
            survival_at(table["time"], event, 800.0),
            (response.estimate[1], response.variance[1]),
            (adjusted.estimate[2], adjusted.variance[2]),
        ]
    )


def coverage(*, epsilon, n, n_trials, n_copies, seed, rows=1.0, mechanism=KnownTree):
    """Return how many intervals covered the truth, by rule: shape (4,), in the order of ANALYSES.

    copies      the rule of `combine`
    one table   a synthetic table taken for real
    subtracted  (1 + 1 / m) b - mean(v_i), with mean(v_i) where that is negative
    patients    the private table itself, without privacy
    """
    rng = np.random.default_rng(seed)
    truth = analyse(draw_patients(500_000, rng))[:, 0]
    counted = {name: np.zeros(4, dtype=int) for name in ("copies", "one table", "subtracted", "patients")}
    for trial in range(n_trials):
        frame = draw_patients(n, rng)
        model = mechanism(epsilon=epsilon, delta=1e-9).fit(frame, SCHEMA, rng=InsecureSeededRng(1000 * seed + trial))
        n_rows = round(model.total * rows)
        answers = np.stack([analyse(table) for table in model.sample(n_rows, copies=n_copies, rng=rng)])
        found = combine(answers[:, :, 0])
        counted["copies"] += (found.low <= truth) & (truth <= found.high)
        within = answers[:, :, 1].mean(axis=0)
        less = found.std_error**2 - within
        half = t.ppf(0.975, n_copies - 1) * np.sqrt(np.where(less > 0, less, within))
        counted["subtracted"] += np.abs(found.estimate - truth) <= half
        for name, table in (("one table", model.sample(n_rows, rng=rng)), ("patients", frame)):
            estimate, variance = analyse(table).T
            counted[name] += np.abs(estimate - truth) <= 1.96 * np.sqrt(variance)
    return counted


@pytest.mark.slow
def test_intervals_from_copies_cover_and_other_rules_do_not():
    counted = coverage(epsilon=0.25, n=1500, n_trials=N_TRIALS, n_copies=N_COPIES, seed=1)
    assert (binom.cdf(counted["copies"], N_TRIALS, 0.95) > P_THRESHOLD).all()
    # Negative control: the same test rejects intervals that know nothing of the noise.
    assert (binom.cdf(counted["one table"], N_TRIALS, 0.95) < P_THRESHOLD).all()


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_intervals_cover_at_usual_budgets(epsilon):
    counted = coverage(epsilon=epsilon, n=1500, n_trials=N_TRIALS_SLOW, n_copies=N_COPIES, seed=2)
    assert (binom.cdf(counted["copies"], N_TRIALS_SLOW, 0.95) > P_THRESHOLD).all()
    # Negative control: rows are stratified, so the variance that independent rows would add must not be subtracted.
    assert (binom.cdf(counted["subtracted"], N_TRIALS_SLOW, 0.95) < P_THRESHOLD).any()
    if epsilon == 1.0:
        assert (binom.cdf(counted["one table"], N_TRIALS_SLOW, 0.95) < P_THRESHOLD).any()


@pytest.fixture
def model(clinic_schema, clinic_frame):
    return KnownTreeOfClinic(epsilon=3.0, delta=1e-9).fit(clinic_frame, clinic_schema, rng=InsecureSeededRng(1))


class KnownTreeOfClinic(KnownTree):
    edges: ClassVar = (("sex", "pregnant"), ("time", "event"), ("age", "event"))


def test_copies_are_seeded_keep_rules_and_conditions_and_differ(model):
    first = model.sample(300, copies=3, given={"sex": "M"}, rng=np.random.default_rng(1))
    second = model.sample(300, copies=3, given={"sex": "M"}, rng=np.random.default_rng(1))
    assert len(first) == 3
    assert all(one.equals(two) for one, two in zip(first, second, strict=True))
    assert not first[0].equals(first[1])
    for table in first:
        assert (table["sex"] == "M").all()
        assert not (table["pregnant"] == "yes").any()
        model.schema.subset(model.domain).validate(table)


def test_a_model_read_from_a_file_gives_the_same_copies(model, tmp_path):
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    for one, two in zip(
        again.plausible(2, rng=np.random.default_rng(1)), model.plausible(2, rng=np.random.default_rng(1)), strict=True
    ):
        assert np.allclose(one.marginal(["age", "event"]).estimate, two.marginal(["age", "event"]).estimate)
        assert one.total == pytest.approx(two.total)


@pytest.mark.parametrize("copies", [0, -1, True, 1.5])
def test_copies_is_a_count(model, copies):
    with pytest.raises(ValueError, match="copies"):
        model.sample(10, copies=copies)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cliques", [(("a", "b"), ("b", "c")), (("a", "b"), ("b", "c"), ("a", "c"))], ids=["tree", "triple"]
)
def test_merged_codes_are_fitted_as_groups_and_told_apart_by_their_own_counts(cliques):
    # The pair (a, b) was measured with the last three codes of a merged; the column a by single codes.
    rng = np.random.default_rng(8)
    domain = Domain(("a", "b", "c"), (5, 2, 2))
    group = np.array([0, 1, 2, 2, 2])
    tree = JunctionTree.build(domain, cliques)
    a = np.array([500, 300, 90, 60, 50])
    parts = [
        Measurement(("a",), a, 3.0),
        Measurement(("a", "b"), np.array([[300, 200], [100, 200], [150, 50]]), 3.0, (group, None)),
        Measurement(("b", "c"), np.array([[250, 300], [300, 150]]), 3.0),
    ]
    found = list(plausible_models(tree, parts, N_FITS, rng=rng))
    counts = np.stack([one.total * one.marginals.project(("a", "b")) for one in found])
    assert one_group_shares_alike(counts)
    # b given a merged code is b given the group.
    p = np.concatenate([[[300, 200], [100, 200]], np.outer([90, 60, 50], [150, 50]) / 200])
    expected = p / 1000
    sampling = 1000 * expected * (1 - expected)
    # Sampling, noise of the pair, and of the 1-way counts by which codes are told apart, bound the variance.
    assert np.abs((counts.mean(axis=0) - p) / np.sqrt((sampling + 18.0) / N_FITS)).max() < Z_THRESHOLD
    assert (counts.var(axis=0) < 2 * (sampling + 18.0)).all()
    # Single codes vary on their own: their shares are not taken as known.
    rare = counts[:, 2:].sum(axis=2)
    assert (rare.var(axis=0) > 0.5 * np.array([90, 60, 50])).all()


def one_group_shares_alike(counts):
    shares = counts[:, 2:, 0] / counts[:, 2:].sum(axis=2)
    return np.allclose(shares, shares[:, :1])


def test_codes_that_were_merged_in_two_ways_are_refused():
    tree = JunctionTree.build(Domain(("a", "b"), (3, 2)), [("a", "b")])
    parts = [
        Measurement(("a", "b"), np.full((2, 2), 10), 1.0, (np.array(group), None)) for group in ([0, 0, 1], [0, 1, 1])
    ]
    with pytest.raises(DomainMismatch, match="merged in two ways"):
        next(plausible_models(tree, parts, 1, rng=np.random.default_rng(1)))
