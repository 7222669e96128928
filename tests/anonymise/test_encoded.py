import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise import build_hierarchy, encode_table
from anonymise.encoded import dense_key, distinct
from privacy.errors import SchemaError
from privacy.schema import Column


@settings(max_examples=4 * settings.default.max_examples)
@given(st.data())
def test_dense_keys_are_equal_exactly_where_all_columns_are(data):
    n = data.draw(st.integers(1, 30))
    # Radices far above the number of rows force both ways of renumbering; their product overflows 64 bits.
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 7, 5000, 90_000, 2**20]), min_size=1, max_size=6)) + [2**20] * 4
    columns = [
        np.array(
            data.draw(st.lists(st.sampled_from(sorted({0, size // 2, size - 1})), min_size=n, max_size=n)), np.int32
        )
        for size in sizes
    ]
    key, bound = dense_key(columns, sizes)
    tuples = list(zip(*(column.tolist() for column in columns), strict=True))
    assert (key >= 0).all()
    assert (key < bound).all()
    assert bound <= 16 * n + 8192
    for i in range(n):
        for j in range(n):
            assert (key[i] == key[j]) == (tuples[i] == tuples[j])


def test_dense_keys_of_many_rows_and_a_large_radix_do_not_wrap_around():
    # 5000 * 2^20 > 2^32: in 32 bits rows 4096 apart would fall together.
    n = 5000
    columns = [np.arange(n, dtype=np.int32), np.full(n, 2**20 - 1, dtype=np.int32), np.zeros(n, dtype=np.int32)]
    key, bound = dense_key(columns, [n, 2**20, 2])
    assert np.unique(key).size == n
    assert 0 <= key.min() <= key.max() < bound


def test_tuples_counts_and_rows_reassemble_the_table():
    columns = [Column("a", categories=("x", "y", "z"), nullable=True), Column("n", kind="integer", bounds=(0, 5))]
    frame = pd.DataFrame({"a": ["x", None, "x", "z", "x", None], "n": [1, 5, 1, 0, 2, 5]})
    encoded = encode_table([frame["a"], frame["n"]], [build_hierarchy(column) for column in columns])
    assert encoded.n_tuples == 4
    assert sorted(encoded.counts.tolist()) == [1, 1, 2, 2]
    assert encoded.leaves[:, encoded.row_tuple].T.tolist() == [[0, 1], [3, 5], [0, 1], [2, 0], [0, 2], [3, 5]]
    assert encoded.shape == (2, 2)


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_codes_do_not_depend_on_how_pandas_stores_the_column(dtype):
    hierarchy = build_hierarchy(Column("a", categories=("1", "2"), nullable=True))
    encoded = encode_table([pd.Series(["2", "1", None, "2"], dtype=dtype)], [hierarchy])
    assert encoded.leaves[0][encoded.row_tuple].tolist() == [1, 0, 2, 1]


def test_numbers_of_any_dtype_are_the_same_leaves():
    hierarchy = build_hierarchy(Column("n", kind="integer", bounds=(3, 9), nullable=True))
    for values in ([3, 9, None], [3.0, 9.0, float("nan")], ["3", "9", None]):
        encoded = encode_table([pd.Series(values)], [hierarchy])
        assert encoded.leaves[0][encoded.row_tuple].tolist() == [0, 6, 7]
    encoded = encode_table([pd.Series([3, 9, None], dtype="Int64")], [hierarchy])
    assert encoded.leaves[0][encoded.row_tuple].tolist() == [0, 6, 7]


def test_a_value_outside_the_schema_is_refused_without_being_named():
    hierarchy = build_hierarchy(Column("a", categories=("x", "y")))
    with pytest.raises(SchemaError, match="'a'") as caught:
        encode_table([pd.Series(["x", "Jane Doe"])], [hierarchy])
    assert "Jane" not in str(caught.value)


def test_the_repr_shows_columns_and_no_counts():
    encoded = encode_table([pd.Series(["x"] * 7)], [build_hierarchy(Column("a", categories=("x", "y")))])
    assert repr(encoded) == "Encoded(columns=('a',))"


@pytest.mark.parametrize("n_categories", [3, 200, 40_000])
@pytest.mark.parametrize("with_missing", [False, True])
def test_distinct_values_of_a_categorical_are_those_of_its_text(n_categories, with_missing):
    rng = np.random.default_rng(5)
    texts = np.array([f"c{i}" for i in range(n_categories)], dtype=object)
    values = texts[rng.integers(0, n_categories, 500)]
    if with_missing:
        values[7] = None
    column = pd.Series(pd.Categorical(values, categories=texts[::-1]))
    codes, found = distinct(column)
    assert sorted(map(str, found)) == sorted({str(value) for value in values})
    assert [found[code] for code in codes] == values.tolist()


def test_distinct_values_are_found_once():
    factor = distinct(pd.Series(["a", "b", "a"]))
    assert distinct(factor) is factor
