"""Attacks find leaks that are there, in order of size, and none in tables that cannot leak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from generators.attacks import privacy_attacks
from generators.attacks.closest import closest_records
from generators.attacks.inference import inference
from generators.attacks.linkability import linkability
from generators.attacks.membership import membership
from generators.attacks.singling_out import singling_out
from generators.attacks.table import Rows
from generators.errors import DomainMismatch
from privacy import Schema

N_ROWS = 400
N_SEEDS = 20


# Of so many intervals of 95 %, fewer that cover than this have p < 1e-4.
def least_covered(n_seeds: int) -> int:
    return int(stats.binom.ppf(1e-4, n_seeds, 0.95))


LEAST_COVERED = least_covered(N_SEEDS)


def population(n: int, *, rng: np.random.Generator) -> Rows:
    """Made-up patients whose columns depend on each other, with numbers, codes and missing values."""
    age = rng.integers(18, 95, n).astype(float)
    kind = rng.integers(0, 6, n)
    wbc = np.round(rng.gamma(1 + kind, 8), 1)
    wbc[rng.random(n) < 0.05] = np.nan
    event = (rng.random(n) < age / 120).astype(np.uint8)
    return Rows(
        ("age", "sex", "kind", "wbc", "site", "stage", "event"),
        (True, False, False, True, False, False, False),
        (age, rng.integers(0, 2, n).astype(np.uint8), kind.astype(np.uint8), wbc,
         rng.integers(0, 9, n).astype(np.uint8), ((kind + rng.integers(0, 2, n)) % 6).astype(np.uint8), event),
    )  # fmt: skip


def leak(real: Rows, fresh: Rows, part: float) -> Rows:
    """The first rows are copies, the others are people of the same kind."""
    n = round(part * len(real))
    return real.take(np.arange(n)).joined(fresh.take(np.arange(n, len(fresh))))


def three_tables(seed: int, n_control: int = N_ROWS) -> tuple[Rows, Rows, Rows, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return population(N_ROWS, rng=rng), population(N_ROWS, rng=rng), population(n_control, rng=rng), rng


ATTACKS = {
    "multivariate": lambda *tables, rng: singling_out(*tables, n_attacks=400, rng=rng).risk,
    "linkability": lambda *tables, rng: linkability(*tables, n_neighbours=3, n_attacks=250, rng=rng).risk,
    "inference": lambda *tables, rng: inference(*tables, secrets=["kind"], n_attacks=250, rng=rng)[0].risk,
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_larger_leaks_give_larger_risks(attack):
    parts = (0.0, 0.1, 0.5, 1.0)
    risks = []
    for seed in range(6):
        real, fresh, control, rng = three_tables(500 + seed)
        risks.append([ATTACKS[attack](real, leak(real, fresh, part), control, rng=rng) for part in parts])
    means = np.mean([[risk.value for risk in of_seed] for of_seed in risks], axis=0)
    assert np.all(np.diff(means) > 0)
    # A leak of half the rows is told from none in every single run.
    assert all(of_seed[0].low <= 0.05 and of_seed[2].low > 0 for of_seed in risks)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_tables_of_other_people_give_no_risk(attack):
    def covered(part: float) -> int:
        hits = 0
        for seed in range(N_SEEDS):
            real, fresh, control, rng = three_tables(100 + seed)
            risk = ATTACKS[attack](real, leak(real, fresh, part), control, rng=rng)
            hits += risk.low <= 0 <= risk.high
        return hits

    assert covered(0.0) >= LEAST_COVERED
    # Negative control: a leak of half the rows is not taken for none.
    assert covered(0.5) < LEAST_COVERED


@pytest.mark.parametrize(
    ("n_control", "n_seeds"), [(100, 10), *(pytest.param(n, N_SEEDS, marks=pytest.mark.slow) for n in (100, 1200))]
)
def test_a_control_of_another_size_does_not_look_like_a_leak(n_control, n_seeds):
    corrected, naive = [], []
    for seed in range(n_seeds):
        real, fresh, control, rng = three_tables(200 + seed, n_control)
        found = singling_out(real, fresh, control, n_attacks=400, rng=rng)
        corrected.append(found.risk.low <= 0 <= found.risk.high)
        # What comparing the rates as they are would say: the control has its own number of rows.
        matched = singling_out(control, fresh, n_attacks=400, rng=rng).success
        naive.append(found.success.low <= matched.value <= found.success.high)
    assert sum(corrected) >= least_covered(n_seeds)
    assert sum(naive) < least_covered(n_seeds)


def test_a_small_control_measures_a_leak_as_a_large_one_does():
    values = []
    for n_control in (200, N_ROWS, 1200):
        real, fresh, control, rng = three_tables(4, n_control)
        risk = singling_out(real, leak(real, fresh, 0.5), control, n_attacks=1000, rng=rng).risk
        values.append(risk)
    assert values[0].value == pytest.approx(values[1].value, abs=0.12)
    assert values[2].value == pytest.approx(values[1].value, abs=0.08)
    assert min(risk.low for risk in values) > 0


@pytest.mark.parametrize("n_control", [100, N_ROWS, 1200])
def test_a_total_leak_is_a_total_risk_whatever_the_size_of_the_control(n_control):
    real, _, control, rng = three_tables(4, n_control)
    assert singling_out(real, real, control, n_attacks=500, rng=rng).risk.value == 1.0


def test_univariate_predicates_are_shared_among_columns():
    rng = np.random.default_rng(1)
    crowd = rng.permutation(500).astype(float)
    codes = np.array([0] * 490 + list(range(1, 11)), dtype=np.uint8)
    table = Rows(("crowd", "rare"), (True, False), (crowd, codes))
    found = singling_out(table, table, table, mode="univariate", n_attacks=20, rng=rng)
    assert "predicates by column: crowd 10, rare 10" in found.notes
    # A column that has too few gives its turn away.
    many = singling_out(table, table, mode="univariate", n_attacks=100, rng=rng)
    assert "predicates by column: crowd 90, rare 10" in many.notes


def test_attacks_that_could_not_be_made_are_said():
    real, fresh, control, rng = three_tables(5)
    few = singling_out(real, fresh, control, mode="univariate", n_attacks=5000, rng=rng)
    assert few.success.attempts < 5000
    assert any("attacks asked for could be made" in note for note in few.notes)
    # The rate is of the attacks made: divided by 5,000 a total leak would look like none.
    all_found = singling_out(real, real, control, mode="univariate", n_attacks=5000, rng=rng)
    assert all_found.success.value == 1.0
    codes = Rows(("a", "b"), (False, False), (np.zeros(50, np.uint8), np.zeros(50, np.uint8)))
    none = singling_out(codes, codes.joined(codes), codes, mode="univariate", n_attacks=10, rng=rng)
    # One distinct row is left, and both its values are rare in it; a second one takes that away.
    assert none.success.attempts == 2
    two = Rows(("a", "b"), (False, False), (np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 0, 1], np.uint8)))
    nothing = singling_out(two, two, two, mode="univariate", n_attacks=10, rng=rng)
    assert nothing.success.attempts == 0
    assert nothing.risk.value is None
    assert "says nothing about the risk" in nothing.meaning


def test_a_control_that_always_succeeds_gives_no_risk_and_no_error():
    real, fresh, control, rng = three_tables(6)
    constant = np.zeros(N_ROWS, np.uint8)
    tables = [Rows((*t.names, "same"), (*t.numeric, False), (*t.columns, constant)) for t in (real, fresh, control)]
    (found,) = inference(*tables, secrets=["same"], rng=rng)
    assert found.control.value == found.success.value == 1.0
    assert found.risk.value is None
    assert "cannot be measured" in found.meaning


def test_inference_of_numbers_allows_for_the_tolerance_and_for_signs():
    secret = np.array([-100.0, 100.0, 0.0, np.nan])
    key = np.arange(4, dtype=np.uint8)
    table = Rows(("key", "x"), (False, True), (key, secret))
    near = Rows(("key", "x"), (False, True), (key, np.array([-104.0, 96.0, 0.0, np.nan])))
    far = Rows(("key", "x"), (False, True), (key, np.array([-120.0, 80.0, 1.0, 0.0])))
    rng = np.random.default_rng(1)
    assert inference(near, table, secrets=["x"], rng=rng)[0].success.value == 1.0
    assert inference(far, table, secrets=["x"], rng=rng)[0].success.value == 0.0


@pytest.mark.slow
def test_membership_is_chance_for_other_people_and_certain_for_copies():
    def interval(part: float, seed: int):
        real, fresh, control, rng = three_tables(300 + seed)
        found = membership(real, leak(real, fresh, part), control, n_attacks=200, rng=rng)
        return found, found.low <= 0.5 <= found.high

    assert sum(interval(0.0, seed)[1] for seed in range(N_SEEDS)) >= LEAST_COVERED
    assert sum(interval(0.5, seed)[1] for seed in range(N_SEEDS)) < LEAST_COVERED
    aucs = [np.mean([interval(part, seed)[0].auc for seed in range(4)]) for part in (0.0, 0.1, 0.5, 1.0)]
    assert aucs == sorted(aucs)
    everything = interval(1.0, 0)[0]
    assert everything.auc > 0.99
    assert everything.tpr.value > 0.95
    assert interval(0.5, 0)[0].tpr.value == pytest.approx(0.5, abs=0.1)


def test_membership_at_low_false_positive_rates_accuses_no_more_than_it_says():
    rates = []
    for seed in range(N_SEEDS):
        real, fresh, control, rng = three_tables(400 + seed)
        rates.append(membership(real, fresh, control, rng=rng).tpr.value)
    # Members and others are alike here, so that the mean is the false-positive rate.
    assert np.mean(rates) == pytest.approx(0.01, abs=0.01)


def test_copies_and_near_rows_are_counted():
    real, fresh, control, rng = three_tables(7)
    found = closest_records(real, leak(real, fresh, 0.4), control, rng=rng)
    assert found.real.copies.value == pytest.approx(0.4, abs=0.01)
    assert found.reference.copies.value < 0.02
    assert found.nearer.low > 0.3
    assert found.real.dcr[0] == 0
    clean = closest_records(real, fresh, control, rng=rng)
    assert clean.nearer.low <= 0.05 <= clean.nearer.high
    assert "2312.05114" in clean.meaning
    assert clean.to_dict()["guarantee"] is False


def test_without_control_real_rows_are_compared_among_themselves():
    real, fresh, _, rng = three_tables(8)
    leaky = closest_records(real, real, rng=rng)
    clean = closest_records(real, fresh, rng=rng)
    assert leaky.real.copies.value == 1.0
    assert leaky.reference.copies.value < 0.02
    assert clean.nearer.low <= 0.05 <= clean.nearer.high
    # A synthetic table that is larger than what is left of the real one is cut to its size.
    many = closest_records(real, fresh.joined(population(4 * N_ROWS, rng=rng)), rng=rng)
    assert many.nearer.low <= 0.05 <= many.nearer.high
    assert clean.to_dict()["reference_is"] == "real rows to other real rows"


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(9)
    n = 900
    kind = rng.integers(0, 4, n)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 95, n),
            "kind": kind.astype(str),
            "wbc": np.round(rng.gamma(1 + kind, 9) + 4000.007, 3),
            "site": rng.choice(["Leeds", "York", "Hull"], n),
        }
    )
    return {"real": frame[:300], "control": frame[300:600], "fresh": frame[600:]}


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.from_dict(
        {
            "columns": {
                "age": {"kind": "integer", "bounds": [0, 110]},
                "kind": {"categories": ["0", "1", "2", "3"]},
                "wbc": {"kind": "continuous", "bounds": [0, 9000]},
                "site": {"categories": ["Leeds", "York", "Hull"]},
            }
        }
    )


def test_every_figure_stands_between_two_rulers_and_says_what_it_means(tables, schema):
    found = privacy_attacks(
        tables["real"], tables["fresh"], control=tables["control"], schema=schema, n_attacks=300, ruler_attacks=300,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    kinds = [finding["attack"] for finding in plain["findings"]]
    assert kinds == [
        "singling out (univariate)", "singling out (multivariate)", "linkability", *["inference"] * 4, "membership",
        "closest records",
    ]  # fmt: skip
    for finding in plain["findings"]:
        assert len(finding["meaning"]) > 60
        assert set(finding["rulers"]) == {"total_leak", "harmless"}
        if "risk" in finding and finding["risk"]["value"] is not None:
            harmless = finding["rulers"]["harmless"]["risk"]
            assert harmless["value"] is None or harmless["low"] <= 0.05
    assert found.total_leak.multivariate.risk.low > 0.5
    assert found.total_leak.membership.low > 0.9
    assert found.total_leak.closest.real.copies.value == 1.0
    assert abs(found.harmless.membership.auc - 0.5) < 0.1
    assert found.harmless.closest.real.copies.value < 0.02
    assert plain["internal"] is True
    assert "reconstruct" in plain["notes"][0]


def test_nothing_in_the_results_is_a_persons_value(tables, schema):
    found = privacy_attacks(
        tables["real"],
        tables["real"],
        control=tables["control"],
        schema=schema,
        n_attacks=100,
        ruler_attacks=100,
        rng=np.random.default_rng(1),
    )
    text = json.dumps(found.to_dict()) + repr(found)
    assert not [value for value in tables["real"]["wbc"] if str(value) in text]
    assert "Leeds" not in text


def test_without_control_the_risk_is_over_guessing_and_membership_is_left_out(tables, schema):
    found = privacy_attacks(
        tables["real"], tables["fresh"], schema=schema, n_attacks=200, ruler_attacks=None, rng=np.random.default_rng(1)
    )
    assert found.synthetic.membership is None
    assert found.total_leak is None
    assert found.synthetic.linkability.to_dict()["reference"] == "random guesses"
    assert any("Without a control group" in note for note in found.notes)


def test_the_same_generator_gives_the_same_figures(tables, schema):
    results = [
        privacy_attacks(
            tables["real"], tables["fresh"], control=tables["control"], schema=schema, n_attacks=50, ruler_attacks=None,
            rng=np.random.default_rng(7),
        )
        for _ in range(2)
    ]  # fmt: skip
    assert results[0] == results[1]


def test_the_worst_column_is_named_with_an_interval_that_allows_for_the_choice(tables, schema):
    found = privacy_attacks(
        tables["real"], tables["real"], control=tables["control"], schema=schema, n_attacks=300, ruler_attacks=None,
        rng=np.random.default_rng(1),
    ).synthetic  # fmt: skip
    worst = found.worst_inference
    alone = next(result for result in found.inference if result.secret == worst.secret)
    assert worst.risk.value == max(result.risk.value or 0 for result in found.inference)
    assert worst.risk.low < alone.risk.low


def test_options_that_make_no_sense_are_refused(tables, schema):
    real, rng = tables["real"], np.random.default_rng(1)
    with pytest.raises(ValueError, match="n_attacks"):
        privacy_attacks(real, real, schema=schema, n_attacks=0)
    with pytest.raises(ValueError, match="tolerance"):
        privacy_attacks(real, real, schema=schema, tolerance=2.0)
    with pytest.raises(DomainMismatch, match="disjoint"):
        privacy_attacks(real, real, schema=schema, halves=(["age"], ["age", "wbc"]), rng=rng)
    with pytest.raises(DomainMismatch, match="no comparable column"):
        privacy_attacks(real, real, schema=schema, secrets=["name"], rng=rng)
    rows = Rows.of(real, schema)
    with pytest.raises(DomainMismatch, match="four rows"):
        membership(rows, rows, rows.take(np.arange(3)), rng=rng)


def test_tables_of_a_few_rows_are_attacked_too(tables, schema):
    found = privacy_attacks(
        tables["real"][:6], tables["fresh"][:5], control=tables["control"][:4], schema=schema, n_attacks=20,
        ruler_attacks=20,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    assert found.synthetic.linkability.success.attempts == 6
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_package_reads_no_more_than_its_tables():
    # The module that is used by reports must not write or send what it reads.
    package = Path(__import__("generators.attacks", fromlist=["x"]).__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    assert not [word for word in ("open(", "print(", "logging", "to_csv", "socket") if word in text]
