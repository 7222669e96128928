"""Node, score and suppressed rows of every privacy model are those that ARX 3.9.2 finds on Adult.

Where they differ is asserted too: ARX rounds entropies, drops others of several classes of one size, and does not
converge on the SNB model of the population.
"""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonymise import Schema, build_hierarchy, encode_table
from anonymise.checking import failing_tuples
from anonymise.lattice import search
from anonymise.loss import Loss
from anonymise.models import (
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    PopulationUniqueness,
    SampleUniqueness,
    TableModel,
    TCloseness,
)
from privacy.schema import HierarchySpec

ROOT = Path(__file__).parents[1]
VECTORS = json.loads((ROOT / "vectors" / "arx_anonymise.json").read_text(encoding="utf-8"))
MADE = {
    "k": lambda m: KAnonymity(m["k"]),
    "distinct": lambda m: LDiversity(m["l"], attribute=m["attribute"]),
    "entropy": lambda m: LDiversity(m["l"], attribute=m["attribute"], kind="entropy"),
    "recursive": lambda m: LDiversity(m["l"], attribute=m["attribute"], kind="recursive", c=m["c"]),
    "t_equal": lambda m: TCloseness(m["t"], attribute=m["attribute"]),
    "t_ordered": lambda m: TCloseness(m["t"], attribute=m["attribute"], distance="ordered"),
    "t_hierarchical": lambda m: TCloseness(m["t"], attribute=m["attribute"], distance="hierarchical"),
    "delta_disclosure": lambda m: DeltaDisclosure(m["delta"], attribute=m["attribute"]),
    "beta_basic": lambda m: BetaLikeness(m["beta"], attribute=m["attribute"]),
    "beta_enhanced": lambda m: BetaLikeness(m["beta"], attribute=m["attribute"], kind="enhanced"),
    "delta_presence": lambda m: DeltaPresence(m["lowest"], m["highest"]),
    "k_map": lambda m: KMap(m["k"]),
    "k_map_poisson": lambda m: KMap(m["k"], population_size=m["population_size"], significance_level=m["significance"]),
    "k_map_zero_truncated": lambda m: KMap(
        m["k"],
        population_size=m["population_size"],
        significance_level=m["significance"],
        estimator="zero_truncated_poisson",
    ),
    "average_risk": lambda m: AverageRisk(m["average"]),
    "sample_uniqueness": lambda m: SampleUniqueness(m["fraction"]),
    "population_uniqueness": lambda m: PopulationUniqueness(
        m["fraction"], population_size=m["population_size"], estimator=m["estimator"]
    ),
}


def known(entry):
    """Whether the entry speaks of models that are here, and of the plain metric."""
    kinds = {model["kind"] for model in entry["models"]} - {"inclusion"}
    return entry["metric"] == {"name": "loss", "function": "arithmetic"} and kinds <= set(MADE)


def cases(table):
    """Entries by their models: the three limits of each are one case."""
    out = {}
    for entry in VECTORS["results"]:
        if known(entry) and entry["table"] == table:
            text = " ".join("-".join(str(value) for value in model.values()) for model in entry["models"])
            out.setdefault(f"{entry['quasi_identifiers']} {text} {entry.get('released_rows', '')}".strip(), []).append(
                entry
            )
    return out


@pytest.fixture(scope="module")
def adult():
    schema = Schema.load(ROOT / "anonymise" / "data" / "adult.toml")
    return schema, pd.read_csv(ROOT / "anonymise" / "data" / "adult.csv.gz", sep=";")


def sensitive_hierarchy(schema, name):
    """The column's hierarchy in the order of ARX: that of numbers or texts."""
    column = schema.column(name)
    rows = sorted(column.hierarchy.rows, key=lambda row: float(row[0]) if column.kind == "integer" else row[0])
    return build_hierarchy(replace(column, hierarchy=HierarchySpec("rows", rows=tuple(rows))))


def encoded(adult, entry, models):
    schema, frame = adult
    if entry["table"] == "adult_2000":
        frame = frame.iloc[:2000]
    names = VECTORS["attribute_sets"][entry["quasi_identifiers"]]
    hierarchies = [build_hierarchy(schema.column(name)) for name in names]
    released = frame.iloc[: entry.get("released_rows", len(frame))]
    attributes = {getattr(model, "attribute", None) for model in models} - {None}
    return encode_table(
        [released[name] for name in names],
        hierarchies,
        sensitive={name: [(released[name], sensitive_hierarchy(schema, name))] for name in attributes},
        population=[frame[name] for name in names] if "released_rows" in entry else None,
    ), Loss.of(hierarchies)


def compare(adult, entry, models):
    """Assert that what ARX found is found here; return what is found."""
    table, metric = encoded(adult, entry, models)
    limit = min(int(Fraction(str(entry["limit"])) * table.n_rows), table.n_rows - 1)
    found = search(table, metric, models, max_suppressed=limit)
    assert found is not None
    node = tuple(entry["node"])
    # The same rows fail at ARX's node. It also calls rows suppressed that are "*" everywhere.
    failing = int(table.counts[failing_tuples(table, models, node)].sum())
    assert failing == entry["suppressed"] or entry["suppressed"] == table.n_rows
    # ARX cuts each column's loss to ten decimals. Where it missed its own optimum, checking every node found it.
    best = entry.get("best_score", entry["score"])
    if any(isinstance(model, TableModel) for model in models) and failing:
        # Of several classes of one size ARX drops those first that lost least, which costs most; here the others go:
        # the same number of rows, with a slightly lower loss.
        assert best - 5e-4 < found.score < best + 1e-9
    else:
        assert found.score == pytest.approx(best, abs=1e-9)
    if found.node != node:
        # Another node is as good, and the first in lexicographic order is taken.
        assert "best_score" in entry or found.node < node
    return found


SMALL = cases("adult_2000")


# The same models together with k-anonymity, at a tenth of a second and more for each.
DEAR = (
    "k-5 t_hierarchical",
    "k-5 t_equal",
    "k-5 t_ordered",
    "k-5 delta_disclosure",
    "k-5 beta",
    "beta_enhanced-occupation-1",
)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.slow] if any(dear in name for dear in DEAR) else [])
        for name in SMALL
        if "snb" not in name
    ],
)
def test_2000_rows_of_adult_are_released_as_in_arx(adult, case):
    for entry in SMALL[case]:
        compare(adult, entry, [MADE[model["kind"]](model) for model in entry["models"] if model["kind"] in MADE])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("distinct", {"l": 4}),
        ("entropy", {"l": 2.6}),
        ("recursive", {"c": 1.5}),
        ("t_equal", {"t": 0.42}),
        ("t_ordered", {"t": 0.21}),
        ("t_hierarchical", {"t": 0.31}),
        ("delta_disclosure", {"delta": 0.8}),
        ("beta_basic", {"beta": 1.2}),
        ("beta_enhanced", {"beta": 0.95}),
    ],
    ids=str,
)
def test_a_slightly_wrong_parameter_is_noticed(adult, kind, wrong):
    entries = (entry for case in SMALL.values() for entry in case)
    entry = next(e for e in entries if [m["kind"] for m in e["models"]] == [kind] and e["limit"] == 1.0)
    with pytest.raises(AssertionError):
        compare(adult, entry, [MADE[kind](entry["models"][0] | wrong)])


def test_every_model_is_compared():
    kinds = {model["kind"] for entries in SMALL.values() for entry in entries for model in entry["models"]}
    assert kinds - {"inclusion"} == set(MADE)
    assert sum(len(entries) for entries in SMALL.values()) >= 120


def test_the_snb_model_converges_where_that_of_arx_does_not(adult):
    (case,) = (entries for name, entries in SMALL.items() if "snb" in name)
    for entry in case:
        models = [MADE["population_uniqueness"](entry["models"][0])]
        table, metric = encoded(adult, entry, models)
        found = search(table, metric, models, max_suppressed=int(entry["limit"] * (table.n_rows - 1)))
        # ARX's answer is that of no unique row at all.
        alone = [SampleUniqueness(0.0)]
        assert search(table, metric, alone, max_suppressed=int(entry["limit"] * (table.n_rows - 1))).node == tuple(
            entry["node"]
        )
        assert found.score < entry["score"]


WHOLE = cases("adult")
QUICK = ("k", "distinct", "k_map", "delta_presence")
ROUNDING = "8 k-5 entropy-occupation-4"


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in WHOLE if "population_uniqueness" not in name])
def test_adult_is_released_as_in_arx(adult, case):
    for entry in WHOLE[case]:
        # Without a limit the models of distributions take seconds each.
        if (entry["limit"] < 1 or entry["models"][-1]["kind"] in QUICK) and (case, entry["limit"]) != (ROUNDING, 0.02):
            compare(adult, entry, [MADE[model["kind"]](model) for model in entry["models"] if model["kind"] in MADE])


class Rounded(LDiversity):
    """Entropy l-diversity in floating point, as ARX computes it: two rows each of four values have less than ln 4."""

    def class_fails(self, classes):
        return np.array([self._fails([int(count) for count in row if count]) for row in classes.counts(self.attribute)])

    def _fails(self, counts):
        n, total = sum(counts), 0.0
        for count in counts:
            total += count * math.log(count)
        return len(counts) < self.l or n * (math.log(n) - math.log(self.l)) < total


def test_a_class_with_exactly_the_entropy_asked_for_passes_here_and_fails_in_arx(adult):
    (entry,) = (entry for entry in WHOLE[ROUNDING] if entry["limit"] == 0.02)
    options = {"attribute": "occupation", "kind": "entropy"}
    compare(adult, entry, [KAnonymity(5), Rounded(4, **options)])
    table, _ = encoded(adult, entry, [LDiversity(4, **options)])
    failing = failing_tuples(table, [KAnonymity(5), LDiversity(4, **options)], tuple(entry["node"]))
    # One class of eight rows, two of each of four values.
    assert int(table.counts[failing].sum()) == entry["suppressed"] - 8
