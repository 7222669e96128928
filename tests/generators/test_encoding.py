"""Tables to codes and back: what decoding draws must encode to the code it came from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import Domain, DomainMismatch, decode, encode
from generators.encoding import check_decodable
from privacy import Schema, SchemaError


@st.composite
def numeric_schemas(draw):
    kind = draw(st.sampled_from(["integer", "continuous"]))
    decimals = draw(st.none() | st.integers(0, 3)) if kind == "continuous" else None
    # Tenths and hundredths are not dyadic: the place where rounding could leave a bin.
    values = st.integers(-3000, 3000).map(lambda k: k / 100)
    edges = sorted(draw(st.sets(values, min_size=2, max_size=6)))
    column = {"kind": kind, "bounds": [edges[0], edges[-1]], "nullable": draw(st.booleans())}
    if edges[1:-1]:
        column["edges"] = edges[1:-1]
    if decimals is not None:
        column["decimals"] = decimals
    return Schema.from_dict({"columns": {"x": column}})


@given(numeric_schemas(), st.booleans(), st.integers(0, 2**32 - 1))
def test_decoded_numbers_encode_to_their_code(schema, logarithmic, seed):
    try:
        check_decodable(schema)
    except SchemaError as error:
        assert "bin that holds no" in str(error)  # noqa: PT017 - both outcomes are right, each for its schemas
        return
    codes = np.repeat(np.arange(schema.column("x").n_codes), 25)[:, None]
    frame = decode(codes, schema, log_scale=["x"] if logarithmic else [], rng=np.random.default_rng(seed))
    assert np.array_equal(encode(frame, schema), codes)


def test_a_whole_schema_goes_round_with_its_types(clinic_schema, clinic_frame):
    codes = encode(clinic_frame, clinic_schema)
    table = decode(codes, clinic_schema, log_scale=["wbc", "visits"], rng=np.random.default_rng(1))
    assert np.array_equal(encode(table, clinic_schema), codes)
    assert list(table.columns) == [name for name in clinic_schema.names if name != "pid"]
    assert table["age"].dtype == np.int64
    assert table["time"].dtype == np.int64
    assert table["visits"].dtype == np.float64
    assert table["wbc"].dtype == np.float64
    assert set(table["sex"]) == {"F", "M"}
    for name in ("pregnant", "wbc", "visits"):
        assert np.array_equal(table[name].isna(), clinic_frame[name].isna())
    assert table["time"].min() >= 1
    assert table["visits"].dropna().mod(1).eq(0).all()
    tenths = table["wbc"].dropna().to_numpy() * 10
    assert np.allclose(tenths, np.rint(tenths), atol=1e-9)


def test_codes_take_the_smallest_type(leuk_schema, leuk_frame):
    assert encode(leuk_frame, leuk_schema).dtype == np.uint8
    wide = Schema.from_dict({"columns": {"x": {"categories": [str(i) for i in range(300)]}}})
    assert encode(pd.DataFrame({"x": [299]}), wide).dtype == np.uint16


def test_every_whole_number_of_a_bin_is_drawn_equally_often():
    n = 20_000
    schema = Schema.from_dict({"columns": {"x": {"kind": "integer", "bounds": [0, 9], "edges": [4]}}})
    drawn = decode(np.ones((n, 1), dtype=np.uint8), schema, rng=np.random.default_rng(3))["x"]
    counts = np.bincount(drawn, minlength=10)
    assert counts[:4].sum() == 0
    # Six values, the closed upper bound among them; chi-square with 5 degrees of freedom exceeds 25.7 once in 10^4.
    assert np.square(counts[4:] - n / 6).sum() / (n / 6) < 25.7


def test_the_logarithmic_scale_prefers_small_values():
    schema = Schema.from_dict({"columns": {"x": {"kind": "continuous", "bounds": [0.0, 500.0], "edges": [50]}}})
    codes = np.ones((4000, 1), dtype=np.uint8)
    plain = decode(codes, schema, rng=np.random.default_rng(4))["x"].median()
    skewed = decode(codes, schema, log_scale=["x"], rng=np.random.default_rng(4))["x"].median()
    assert plain == pytest.approx(275, rel=0.05)
    assert skewed == pytest.approx(np.sqrt(51 * 501) - 1, rel=0.05)


def test_a_bin_without_values_is_refused_before_anything_is_spent():
    schema = Schema.from_dict({"columns": {"x": {"kind": "integer", "bounds": [0, 9], "edges": [4.2, 4.8]}}})
    with pytest.raises(SchemaError, match="bin that holds no whole number"):
        check_decodable(schema)


def test_log_scale_of_a_category_is_refused(clinic_schema):
    with pytest.raises(DomainMismatch, match="which is no number"):
        decode(np.zeros((1, 8), dtype=np.uint8), clinic_schema, log_scale=["sex"], rng=np.random.default_rng(1))


def test_all_problems_of_a_table_are_reported_without_values(clinic_schema, clinic_frame):
    bad = clinic_frame.drop(columns="sex").assign(age=777)
    with pytest.raises(SchemaError) as caught:
        encode(bad, clinic_schema)
    assert {problem.column for problem in caught.value.problems} == {"sex", "age"}
    assert "777" not in str(caught.value)


def test_the_domain_does_not_depend_on_the_rows(clinic_schema, clinic_frame):
    assert encode(clinic_frame.head(1), clinic_schema).shape == (1, len(Domain.from_schema(clinic_schema)))
