"""Values of a column as text or as missing: looked up once each, with the same result as one by one."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import Schema, SchemaError
from privacy._values import _one_missing, _one_text, is_missing, text_of

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), float("inf"), np.float32(0.5), np.nan]),
    st.sampled_from([np.float32(1.0), np.True_, Decimal("1.0"), Decimal("1.50"), Decimal("1.5"), Decimal("-0.0")]),
    st.sampled_from([2.0**53, 2**53, 2**60, 2.0**60]),
    st.sampled_from(["", "  ", "\t", "F", " F", "F ", "1", "nan"]),
    st.sampled_from([pd.NA, pd.NaT]),
    # A value that cannot be hashed.
    st.lists(st.integers(0, 1), max_size=1),
)


def as_objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@given(st.lists(VALUES, max_size=12))
def test_each_value_reads_as_it_does_alone(values):
    column = as_objects(values)
    assert is_missing(column).tolist() == [_one_missing(value) for value in values]
    present = [value for value in values if not _one_missing(value)]
    assert text_of(as_objects(present)) == [_one_text(value) for value in present]


def test_a_row_of_another_type_changes_how_no_other_row_is_coded():
    column = Schema.from_dict({"columns": {"a": {"categories": ["1", "1.0", "True"]}}}).column("a")
    for value in (Decimal("1.0"), np.float32(1.0), np.True_):
        alone = column.encode(as_objects([value, value])).tolist()
        assert column.encode(as_objects([1, value, value]))[1:].tolist() == alone


def test_long_codes_do_not_become_others_by_way_of_doubles():
    # Two SNOMED CT codes; pandas makes doubles of whole numbers as soon as one of a column is missing.
    codes = [900000000000207008, 900000000000207016]
    column = Schema.from_dict(
        {"columns": {"a": {"categories": [*map(str, codes), str(int(float(codes[1])))], "nullable": True}}}
    ).column("a")
    assert column.encode(pd.Series(codes).to_numpy()).tolist() == [0, 1]
    with pytest.raises(SchemaError, match="none of its 3 categories"):
        column.encode(pd.Series([*codes, None]).to_numpy())


def test_decimals_that_are_equal_read_alike():
    texts = ["1", "1.0", "1E+2", "1.50", "1.5", "-0.00", "NaN"]
    assert text_of(as_objects([Decimal(text) for text in texts])) == ["1", "1", "100", "1.5", "1.5", "0", "NaN"]


def test_a_number_beyond_all_doubles_is_refused_like_any_other_that_is_none():
    column = Schema.from_dict({"columns": {"a": {"kind": "integer", "bounds": [0, 9]}}}).column("a")
    with pytest.raises(SchemaError, match="must hold numbers"):
        column.encode(as_objects([10**400]))


def test_every_nan_is_missing_and_the_shape_is_kept():
    column = as_objects([float("nan"), float("nan"), "a", np.nan, None, 1]).reshape(2, 3)
    assert is_missing(column).tolist() == [[True, True, False], [True, True, False]]


@given(
    st.lists(st.integers(-3, 5), min_size=1, max_size=8),
    st.sampled_from([np.int8, np.int64, np.uint8, np.uint64]),
    st.sampled_from([0, 100, 10_000]),
)
def test_whole_numbers_are_coded_as_the_same_objects_are(values, dtype, far):
    if np.dtype(dtype).kind == "u":
        values = [abs(value) for value in values]
    if dtype in {np.int64, np.uint64}:
        values = [*values, values[0] + far]
    if dtype is np.uint64 and far:
        values = [2**64 - 1]
    column = Schema.from_dict(
        {"columns": {"a": {"categories": ["3", "-1", "0", "2", "1", "103", str(2**64 - 1)]}}}
    ).column("a")

    def outcome(array):
        try:
            return column.encode(array).tolist()
        except SchemaError as error:
            return str(error)

    assert outcome(np.array(values, dtype=dtype)) == outcome(as_objects(values))
