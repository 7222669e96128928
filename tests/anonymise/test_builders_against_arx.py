"""Hierarchies by rule beside those of ARX's own builders (recorded): the same groups, or the same text."""

import json
from pathlib import Path

import numpy as np
import pytest

from anonymise import Schema, build_hierarchy

VECTORS = json.loads((Path(__file__).parent / "vectors" / "arx_builders.json").read_text(encoding="utf-8"))
STAGES = ["I", "II", "III", "IV", "V", "VI", "VII"]
CODES = ["1010", "1020", "99", "123456", "7"]
RULES = {
    "interval 5 10 20": {"kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [5, 10, 20]}},
    "interval 6 12 24 bottom 18 top 90": {
        "kind": "integer",
        "bounds": [0, 110],
        "hierarchy": {"interval": [6, 12, 24], "bottom": 18, "top": 90},
    },
    "cuts 18 40 65": {"kind": "integer", "bounds": [0, 98], "hierarchy": {"interval": [[18, 40, 65]]}},
    "order 2 3 1 1, 2 2": {"categories": STAGES, "hierarchy": {"order": [[2, 3, 1, 1], [2, 2]]}},
    "order each 2, each 2": {"categories": STAGES, "hierarchy": {"order": [2, 2]}},
    "date month quarter year decade century": {
        "kind": "date",
        "bounds": ["1998-12-20", "2001-01-19"],
        "hierarchy": {"date": ["month", "quarter", "year", "decade", "century"]},
    },
}


def labels(rule, values):
    h = build_hierarchy(Schema.from_dict({"columns": {"x": {"role": "quasi-identifier", **rule}}}).column("x"))
    leaves = h.encode(np.array(values, dtype=object))
    return [[h.labels[level][code] for code in h.codes[level][leaves]] for level in range(h.n_levels)]


def partition(texts):
    return [texts.index(text) for text in texts]


@pytest.mark.parametrize("name", RULES)
def test_groups_are_those_of_arxs_builder(name):
    values, *levels = VECTORS[name]
    ours = labels(RULES[name], values)[1:]
    if name.startswith("date"):
        ours = ours[: len(levels)]  # ARX adds no last "*" to days.
    assert [partition(texts) for texts in ours] == [partition(texts) for texts in levels]


@pytest.mark.parametrize("align", ["left", "right"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_redacted_text_is_that_of_arxs_builder(align, side):
    values, *levels = VECTORS[f"redact align {align} side {side}"]
    assert values == CODES
    rule = {"redact": [1, 2, 3, 4, 5], "align": align, "side": side, "pad": "0"}
    ours = labels({"categories": CODES, "hierarchy": rule}, values)
    assert ours[1:-1] == levels[:-1]
    # Of all masked, ARX keeps the length, we write one sign.
    assert (ours[-1], levels[-1]) == (["*"] * 5, ["******"] * 5)
