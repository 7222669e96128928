"""A combinatorial refinement attack: linear programs over what the steps of local recoding allow, on the table alone.

The attacker knows the public schema, the algorithm and k, and reads the released texts. Unknown are the counts x[c, t]
of rows of class c with raw tuple t. In the order in which nodes were released (unknown as well: every order is tried)

    the counts of a class sum to its size;
    a class takes all rows of its region: no later class has a tuple of it;
    a group of a node that was not released there failed: the later classes have at most k - 1 rows of it together.

Source: Chhillar, Righi, Sutter, Kornaropoulos 2025, arXiv:2509.03350 (the idea; their programs are ARX's).
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from anonymise import AttackableRelease, KAnonymity, Schema, anonymise, build_hierarchy

K = 3
SCHEMA = Schema.from_dict(
    {
        "columns": {
            "region": {
                "role": "quasi-identifier",
                "categories": ["Graz", "Linz", "Wien", "Krems"],
                "hierarchy": {
                    "rows": [
                        ["Graz", "south", "*"],
                        ["Linz", "south", "*"],
                        ["Wien", "east", "*"],
                        ["Krems", "east", "*"],
                    ]
                },
            },
            "age": {"role": "quasi-identifier", "categories": ["young", "middle", "old"]},
            "status": {"role": "sensitive", "categories": ["HIV", "none", "hepatitis"]},
        }
    }
)
# (region, age): the status of each patient there.
CLINIC = {
    ("Wien", "young"): ["none"] * 15 + ["hepatitis"] * 5,
    ("Krems", "middle"): ["none"] * 16 + ["hepatitis"] * 4,
    ("Graz", "young"): ["HIV"] * 2,
    ("Linz", "young"): ["HIV"] * 2,
    ("Linz", "middle"): ["none", "hepatitis"],
    ("Linz", "old"): ["none", "none"],
}
TARGET = ("Linz", "young")


def clinic():
    return pd.DataFrame(
        [(*where, status) for where, patients in CLINIC.items() for status in patients],
        columns=["region", "age", "status"],
    )


class Refinement:
    """The programs of one released table."""

    def __init__(self, table, k):
        self.k = k
        self.hierarchies = [build_hierarchy(SCHEMA.column(name)) for name in SCHEMA.quasi_identifiers]
        self.tuples = list(itertools.product(*(h.labels[0] for h in self.hierarchies)))
        self.classes = {
            text: rows["status"].tolist() for text, rows in table.groupby(list(SCHEMA.quasi_identifiers), sort=True)
        }
        self.nodes = {text: self._node(text) for text in self.classes}

    def _node(self, text):
        return tuple(
            next(level for level, labels in enumerate(h.labels) if label in labels)
            for h, label in zip(self.hierarchies, text, strict=True)
        )

    def text_at(self, raw, node):
        return tuple(
            h.labels[level][h.codes[level][h.labels[0].index(value)]]
            for h, value, level in zip(self.hierarchies, raw, node, strict=True)
        )

    def covering(self, raw):
        """Return the classes whose text covers a raw tuple: what k-anonymity itself gives away."""
        return {text for text in self.classes if self.text_at(raw, self.nodes[text]) == text}

    def bounds(self, text, raw):
        """Return the least and the greatest number of rows of a class with a raw tuple, over all possible orders."""
        found = [self._bounds(order, text, raw) for order in itertools.permutations(set(self.nodes.values()))]
        found = [pair for pair in found if pair is not None]
        assert found, "no order explains the table"
        return min(low for low, _ in found), max(high for _, high in found)

    def _bounds(self, order, text, raw):
        step = {node: at for at, node in enumerate(order)}
        variables = [
            (c, t)
            for c in self.classes
            for t in self.tuples
            if self.text_at(t, self.nodes[c]) == c
            and not any(self.text_at(t, node) in self.classes for node in order[: step[self.nodes[c]]])
        ]
        index = {variable: at for at, variable in enumerate(variables)}
        sizes = np.array([len(status) for status in self.classes.values()], dtype=float)
        members = np.array([[c == of for of, _ in variables] for c in self.classes], dtype=float)
        failing = [
            [step[self.nodes[c]] > step[node] and self.text_at(t, node) == group for c, t in variables]
            for node in order
            for group in {self.text_at(t, node) for t in self.tuples} - set(self.classes)
        ]
        target = np.zeros(len(variables))
        if (text, raw) in index:
            target[index[text, raw]] = 1.0
        ends = []
        for sign in (1.0, -1.0):
            program = linprog(
                sign * target,
                A_ub=np.array(failing, dtype=float).reshape(-1, len(variables)),
                b_ub=np.full(len(failing), self.k - 1.0),
                A_eq=members,
                b_eq=sizes,
                method="highs",
            )
            if program.status == 2:
                return None
            assert program.status == 0
            ends.append(sign * program.fun)
        # Counts are whole numbers.
        return int(np.ceil(ends[0] - 1e-6)), int(np.floor(ends[1] + 1e-6))

    def possible(self, raw):
        """Return the classes that can hold a patient with these quasi-identifiers."""
        return {text for text in self.covering(raw) if self.bounds(text, raw)[1] > 0}

    def plausible(self, classes):
        return {status for text in classes for status in self.classes[text]}


@pytest.fixture(scope="module")
def local():
    with pytest.warns(AttackableRelease, match=r"arXiv 2509\.03350"):
        return anonymise(clinic(), SCHEMA, models=[KAnonymity(K)], algorithm="local").table


def test_local_recoding_betrays_the_status_of_a_patient_that_k_anonymity_hides(local):
    attack = Refinement(local, K)
    covering = attack.covering(TARGET)
    assert covering == {("south", "young"), ("Linz", "*")}
    assert attack.plausible(covering) == {"HIV", "none", "hepatitis"}
    # (south, young) came first: had (Linz, *) come first, Graz alone would hold 4 rows of a group that failed with 3.
    assert attack.possible(TARGET) == {("south", "young")}
    assert attack.plausible(attack.possible(TARGET)) == {"HIV"}
    assert set(CLINIC[TARGET]) == {"HIV"}


def test_local_recoding_betrays_how_a_class_splits(local):
    # 4 rows, two groups of at most 2: both raw tuples are known, row counts and all.
    attack = Refinement(local, K)
    assert attack.bounds(("south", "young"), ("Graz", "young")) == (2, 2)
    assert attack.bounds(("south", "young"), TARGET) == (2, 2)


def test_every_bound_holds_in_the_real_table(local):
    attack = Refinement(local, K)
    for raw in attack.tuples:
        bounds = [attack.bounds(text, raw) for text in attack.covering(raw)]
        n = len(CLINIC.get(raw, []))
        assert sum(low for low, _ in bounds) <= n <= sum(high for _, high in bounds)


@pytest.mark.parametrize("limit", [0.0, 0.2])
def test_the_default_betrays_nothing_to_the_same_attack(limit):
    table = anonymise(clinic(), SCHEMA, models=[KAnonymity(K)], suppression_limit=limit).table
    attack = Refinement(table, K)
    for raw in attack.tuples:
        assert attack.possible(raw) == attack.covering(raw)
        for text in attack.covering(raw):
            same = [t for t in attack.tuples if attack.text_at(t, attack.nodes[text]) == text]
            size = len(attack.classes[text])
            assert attack.bounds(text, raw) == ((size, size) if len(same) == 1 else (0, size))
