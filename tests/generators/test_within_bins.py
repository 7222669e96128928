"""Follow-up times inside bins: no bias of Kaplan-Meier at the edges or between them, on laws with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import compare_survival, decode, encode, kaplan_meier
from generators.within_bins import bin_limits, follow_up, monotone_tables, stratified, uniform
from privacy import Schema
from privacy.schema import Column

STEP = 365
HORIZON = 3650
# Between the edges, where wide bins could bias.
FINE = np.arange(30, HORIZON, 30)


def survival_schema(step=STEP, last=HORIZON, **survival):
    return Schema.from_dict(
        {
            "columns": {
                "time": {"kind": "integer", "bounds": [0, 6000], "edges": list(range(step, last + 1, step))},
                "event": {"categories": ["0", "1"]},
            },
            "survival": {"time": "time", "event": "event", **survival},
        }
    )


def followed(law, n, rng):
    """Times of death by the law, losses uniform over ten years and more, in days, as a table."""
    death = np.minimum(law(rng, n), 1e9)
    loss = rng.uniform(300, 6000, n)
    time = np.ceil(np.minimum(np.minimum(death, loss), 6000)).astype(int)
    return pd.DataFrame({"time": time, "event": (death <= loss).astype(int).astype(str)})


LAWS = {
    "constant hazard": lambda rng, n: rng.exponential(1500, n),
    "falling hazard": lambda rng, n: 800 * rng.weibull(0.6, n),
    "rising hazard": lambda rng, n: 2500 * rng.weibull(1.8, n),
}


@pytest.mark.parametrize("name", LAWS)
def test_kaplan_meier_is_kept_at_and_between_the_edges(name):
    rng = np.random.default_rng(1)
    frame = followed(LAWS[name], 20_000, rng)
    schema = survival_schema()
    table = decode(encode(frame, schema), schema, rng=rng)
    real, ours = (
        (kaplan_meier(t["time"], t["event"].astype(int), FINE), kaplan_meier(t["time"], t["event"].astype(int), [STEP]))
        for t in (frame, table)
    )
    assert np.abs(real[0] - ours[0]).max() < 0.03
    assert np.abs(real[0] - ours[0]).mean() < 0.004
    assert abs(real[1] - ours[1]).item() < 0.003


def test_uniform_times_within_wide_bins_are_biased_where_hazards_fall():
    # The negative control of the test above: the law that it must tell apart.
    rng = np.random.default_rng(2)
    frame = followed(LAWS["falling hazard"], 20_000, rng)
    schema = survival_schema()
    column = schema.column("time")
    bins = encode(frame, schema)[:, 0].astype(np.int64)
    flat = uniform(bins, rng.random(len(bins)), bin_limits(column).astype(float))
    real, ours = (kaplan_meier(t, frame["event"].astype(int), FINE) for t in (frame["time"], flat))
    assert np.abs(real - ours).max() > 0.1


def test_follow_up_stops_at_the_horizon_and_no_time_is_zero():
    rng = np.random.default_rng(3)
    frame = followed(LAWS["constant hazard"], 3000, rng)
    frame.loc[:50, "time"] = 0
    schema = survival_schema(horizon=HORIZON)
    schema.validate(frame)
    table = decode(encode(frame, schema), schema, rng=rng)
    assert table["time"].min() >= 1
    assert table["time"].max() == HORIZON
    assert set(table.loc[table["time"] == HORIZON, "event"]) == {"0"}
    assert (table["time"] == HORIZON).sum() == (frame["time"] >= HORIZON).sum()
    distance = compare_survival(
        (frame["time"], frame["event"].astype(int)), (table["time"], table["event"].astype(int)), FINE
    )
    assert distance.short_sightedness == 0


def test_given_counts_make_the_law_whatever_the_codes():
    schema = survival_schema(step=1000, last=5000)
    codes = np.zeros((2000, 2), dtype=np.uint8)
    falling = np.zeros((6, 2))
    falling[:, 0] = [3200, 1600, 800, 400, 200, 100]
    medians = [
        decode(codes, schema, survival_counts=counts, rng=np.random.default_rng(4))["time"].median()
        for counts in (falling, falling[::-1])
    ]
    assert medians[0] < 400
    assert medians[1] > 450


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_the_cubic_is_monotone_and_keeps_every_count(counts, seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate(([0.0], np.cumsum(rng.uniform(0.1, 5, len(counts)))))
    tables = monotone_tables(x, np.concatenate(([0.0], np.cumsum(counts))))
    assert (np.diff(tables, axis=1) >= 0).all()
    assert (tables[:, 0] == 0).all()
    assert (tables[:, -1] == 1).all()
    column = Column("t", kind="continuous", bounds=(float(x[0]), float(x[-1])), edges=tuple(x[1:-1].tolist()))
    law = follow_up(np.array(counts, dtype=float), column)
    bins = np.repeat(np.arange(len(counts)), 9)
    positions = law(bins, np.tile(np.linspace(0, 1, 9, endpoint=False), len(counts)), bin_limits(column))
    assert (positions >= x[bins] - 1e-9).all()
    assert (positions <= x[bins + 1] + 1e-9).all()


def test_the_cubic_equals_that_of_scipy_inside():
    from scipy.interpolate import PchipInterpolator

    x = np.array([0.0, 1.0, 3.0, 4.0, 6.0])
    y = np.array([0.0, 5.0, 6.0, 6.0, 10.0])
    tables = monotone_tables(x, y)
    for i in (1, 2):
        t = np.linspace(x[i], x[i + 1], tables.shape[1])
        rise = y[i + 1] - y[i]
        expected = (PchipInterpolator(x, y)(t) - y[i]) / rise if rise else np.linspace(0, 1, tables.shape[1])
        assert np.allclose(tables[i], expected, atol=1e-12)


def test_stratified_numbers_fill_every_interval_of_a_bin_once():
    bins = np.random.default_rng(5).integers(0, 4, 1000)
    at = stratified(bins, 4, rng=np.random.default_rng(6))
    for code in range(4):
        inside = np.sort(at[bins == code])
        assert np.array_equal(np.floor(inside * inside.size), np.arange(inside.size))
