import numpy as np
import pandas as pd
import pytest

from anonymise import GuaranteeBroken, KAnonymity, Schema, anonymise, release

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "mrn": {"role": "identifier", "kind": "integer", "bounds": [0, 999]},
            "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
            "dx": {"role": "sensitive", "categories": ["A", "B"]},
        }
    }
)
FRAME = pd.DataFrame({"mrn": range(8), "age": [31, 32, 33, 34, 41, 42, 43, 44], "dx": list("ABABABAB")})


def twice(table):
    return pd.concat([table, table], ignore_index=True)


def one_less(table):
    return table.iloc[:-1]


def empty(table):
    return table.iloc[:0]


def with_an_identifier(table):
    return table.assign(mrn=range(len(table)))


def without_a_column(table):
    return table.drop(columns="dx")


def with_the_raw_index(table):
    return table.set_index(np.arange(len(table))[::-1])


def with_notes(table):
    table.attrs["source"] = FRAME
    return table


@pytest.mark.parametrize(
    "wrong",
    [twice, one_less, empty, with_an_identifier, without_a_column, with_the_raw_index, with_notes],
    ids=lambda wrong: wrong.__name__,
)
def test_a_release_that_holds_something_else_than_it_should_is_withheld(wrong, monkeypatch):
    made = release.recoded
    assert len(anonymise(FRAME, SCHEMA, models=[KAnonymity(2)]).table) == len(FRAME)
    monkeypatch.setattr(release, "recoded", lambda *args: wrong(made(*args)))
    with pytest.raises(GuaranteeBroken):
        anonymise(FRAME, SCHEMA, models=[KAnonymity(2)])
