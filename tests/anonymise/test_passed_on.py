import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise
from anonymise.recoding import passed_on

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
            "lab": {"role": "sensitive", "kind": "integer", "bounds": [0, 1000], "nullable": True},
        }
    }
)


def test_a_value_that_was_made_missing_is_not_in_the_memory_of_the_release():
    frame = pd.DataFrame({"age": [31, 34, 38, 32], "lab": pd.array([777, 2, 3, 4], dtype="Int64")})
    frame.loc[0, "lab"] = pd.NA
    # The case is real: the value is still under the mask.
    assert 777 in frame["lab"].array._data
    table = anonymise(frame, SCHEMA, models=[KAnonymity(2)]).table
    assert sorted(table["lab"].dropna()) == [2, 3, 4]
    assert table["lab"].isna().sum() == 1
    assert 777 not in table["lab"].array._data


@pytest.mark.parametrize("dtype", ["Int8", "UInt16", "Int64", "Float32", "Float64", "boolean"])
def test_masked_types_stay_and_hide_nothing(dtype):
    values = pd.Series([1, 1, 1, 0], dtype=dtype)
    values[1] = pd.NA
    released = pd.Series(passed_on(values, np.array([3, 1, 0])))
    assert released.dtype == values.dtype
    assert released.isna().tolist() == [False, True, False]
    assert [released[0], released[2]] == [0, 1]
    assert released.array._data.tolist() == [0, 0, 1]


def test_a_dictionary_of_arrow_does_not_leave():
    pa = pytest.importorskip("pyarrow")
    values = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(["A", "B", None, "RARE"]).dictionary_encode()))
    released = passed_on(values, np.array([2, 1, 0]))
    assert pd.isna(released[0])
    assert released[1:].tolist() == ["B", "A"]
    assert "RARE" not in str(released.__arrow_array__())
