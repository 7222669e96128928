"""Rows of a patient are chosen by a key and that patient's rows alone; so one patient changes at most m counts."""

from __future__ import annotations

import sqlite3
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import (
    AIM,
    MST,
    Adaptive,
    ChowLiu,
    Independent,
    LocalTableOracle,
    PrivBayes,
    SqlOracle,
    TableOracle,
    TooManyRecords,
    count_marginal,
    encode,
    keep_records,
)
from generators.domain import Domain
from privacy import Schema, SchemaError, SecureRng
from privacy.randomness import InsecureSeededRng

N_DRAWS = 1500


def visits(counts):
    rows = [(name, visit) for name, count in counts for visit in range(count)]
    return pd.DataFrame(rows, columns=["pid", "visit"])


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 6), min_size=1),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
def test_another_patients_rows_never_change_which_of_mine_are_kept(counts, mine, most, seed, order):
    others = visits(counts.items())
    me = visits([("me", mine)])
    together = pd.concat([others, me], ignore_index=True)
    # Whatever the order of patients in the table; mine among each other keep theirs.
    places = list(range(len(together)))
    order.shuffle(places)
    shuffled = together.iloc[places].sort_values("visit", kind="stable").reset_index(drop=True)
    kept = [keep_records(frame, "pid", most=most, rng=InsecureSeededRng(seed)) for frame in (together, shuffled, me)]
    chosen = [sorted(frame.loc[frame["pid"] == "me", "visit"]) for frame in kept]
    assert chosen[0] == chosen[1] == chosen[2]
    assert len(chosen[0]) == min(mine, most)
    # And mine change nothing of theirs.
    without = keep_records(others, "pid", most=most, rng=InsecureSeededRng(seed))
    assert kept[0][kept[0]["pid"] != "me"].to_numpy().tolist() == without.to_numpy().tolist()


def test_one_stream_for_all_patients_would_let_others_choose_for_me():
    # The negative control: the obvious implementation, which the test above must reject.
    def naive(frame, seed):
        rng = np.random.default_rng(seed)
        return frame.groupby("pid", group_keys=False)[["pid", "visit"]].apply(
            lambda rows: rows.iloc[np.sort(rng.permutation(len(rows))[:2])]
        )

    me, other = visits([("me", 6)]), visits([("a", 6)])
    chosen = [
        [naive(frame, seed).query("pid == 'me'")["visit"].tolist() for frame in (me, pd.concat([other, me]))]
        for seed in range(20)
    ]
    assert any(alone != together for alone, together in chosen)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=15),
    st.lists(st.sampled_from("xyz"), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_one_patient_changes_a_marginal_by_at_most_m(rows, mine, most, seed):
    schema = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, "x": {"categories": list("xyz")}}}
    )
    without = pd.DataFrame(rows, columns=["pid", "x"])
    with_me = pd.concat([pd.DataFrame({"pid": "me", "x": mine}), without], ignore_index=True)
    domain = Domain.from_schema(schema)
    first, second = (
        count_marginal(encode(keep_records(t, "pid", most=most, rng=InsecureSeededRng(seed)), schema), domain, ["x"])
        for t in (without, with_me)
    )
    assert (second >= first).all()
    assert (second - first).sum() <= most


def test_each_row_is_kept_equally_often():
    frame = visits([("a", 5), ("b", 2)])
    source = SecureRng()
    counts = np.zeros(5)
    for _ in range(N_DRAWS):
        kept = keep_records(frame, "pid", most=2, rng=source)
        assert kept["pid"].tolist() == ["a", "a", "b", "b"]
        np.add.at(counts, kept.loc[kept["pid"] == "a", "visit"].to_numpy(), 1)
    expected = N_DRAWS * 2 / 5
    # Sum of squares over a sample without replacement: variance n p (1 - p) for each of five rows, correlation -1/4.
    statistic = np.square(counts - expected).sum() / (expected * (1 - 2 / 5)) * 4 / 5
    assert statistic < 23.5  # chi-square with 4 degrees of freedom, once in 10^4
    # The negative control: always the first two.
    biased = np.array([N_DRAWS, N_DRAWS, 0, 0, 0])
    assert np.square(biased - expected).sum() / (expected * 3 / 5) * 4 / 5 > 23.5


def test_a_name_is_one_patients_however_it_is_written():
    names = [1, 1.0, True, "1", " 1", "1 ", Decimal("1.0"), "01", None, ""]
    frame = pd.DataFrame({"pid": pd.Series(names, dtype=object), "x": range(len(names))})
    kept = keep_records(frame, "pid", most=1)
    # Rows without a name are all kept; the oracle refuses them if they are too many.
    assert len(kept) == 1 + 1 + 2


def oracle_of(source, frame, schema, **options):
    if source is not SqlOracle:
        return source(frame, schema, **options)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE visits (pid, x TEXT)")
    connection.executemany("INSERT INTO visits VALUES (?, ?)", frame.to_numpy(dtype=object).tolist())
    return SqlOracle(connection, "visits", schema, **options)


@pytest.mark.parametrize("source", [LocalTableOracle, TableOracle, SqlOracle])
@pytest.mark.parametrize("names", [("A", "A "), (7, "7"), (7.0, 7), ("", None), ("", " ")], ids=repr)
def test_no_source_takes_one_patient_for_two(source, names):
    schema = Schema.from_dict(
        {
            "table": {"patient_id": "pid"},
            "columns": {"pid": {"role": "identifier", "nullable": True}, "x": {"categories": ["0", "1"]}},
        }
    )
    frame = pd.DataFrame({"pid": pd.Series(names, dtype=object), "x": ["0", "1"]})
    with pytest.raises(TooManyRecords, match="max_records_per_patient = 1"):
        oracle_of(source, frame, schema)
    assert oracle_of(source, frame, schema, max_records_per_patient=2).domain.columns == ("x",)


@pytest.mark.parametrize("source", [LocalTableOracle, TableOracle])
def test_names_that_are_no_longer_exact_are_refused(source):
    schema = Schema.from_dict(
        {
            "table": {"patient_id": "pid"},
            "columns": {"pid": {"role": "identifier", "nullable": True}, "x": {"categories": ["0", "1"]}},
        }
    )
    # One missing name makes doubles of a chunk, and of this patient another.
    chunks = [pd.DataFrame({"pid": [2**53 + 1], "x": "0"}), pd.DataFrame({"pid": [2**53 + 1, None], "x": "1"})]
    with pytest.raises(SchemaError, match="do not tell patients apart") as caught:
        source(chunks if source is TableOracle else chunks[1], schema)
    assert "900719925" not in str(caught.value)
    source(chunks[0], schema)


def test_the_oracle_refuses_by_default_and_keeps_at_random_when_asked():
    schema = Schema.from_dict(
        {"table": {"patient_id": "pid"}, "columns": {"pid": {"role": "identifier"}, "x": {"categories": ["0", "1"]}}}
    )
    frame = pd.DataFrame({"pid": ["a"] * 900 + [f"p{i}" for i in range(100)], "x": ["1"] * 900 + ["0"] * 100})
    with pytest.raises(TooManyRecords, match="keep='random'"):
        LocalTableOracle(frame, schema)
    oracle = LocalTableOracle(frame, schema, keep="random", max_records_per_patient=2)
    [measured] = oracle.measure([("x",)], rho=50.0)
    assert np.abs(measured.values - [100, 2]).max() < 3
    assert oracle.events[0].linf_sensitivity == 2
    model = ChowLiu(rho=50.0, keep="random").fit(frame, schema)
    assert model.total == pytest.approx(101, abs=2)
    with pytest.raises(ValueError, match="keep must be"):
        ChowLiu(rho=1.0, keep="first")


@pytest.mark.parametrize("kind", [Independent, ChowLiu, MST, PrivBayes, AIM, Adaptive], ids=lambda kind: kind.__name__)
def test_every_mechanism_keeps_at_most_m_rows_of_a_patient_if_asked(kind):
    schema = Schema.from_dict(
        {
            "table": {"patient_id": "pid"},
            "columns": {
                "pid": {"role": "identifier"},
                "a": {"categories": ["0", "1"]},
                "b": {"categories": ["0", "1"]},
            },
        }
    )
    frame = pd.DataFrame({"pid": np.repeat(np.arange(200), 3).astype(str), "a": ["0", "0", "1"] * 200, "b": "1"})
    with pytest.raises(TooManyRecords):
        kind(rho=5.0).fit(frame, schema)
    assert abs(kind(rho=5.0, keep="random").fit(frame, schema).total - 200) < 20
