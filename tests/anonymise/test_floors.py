import itertools

import numpy as np
import pandas as pd
import pytest

from anonymise import build_hierarchy, encode_table
from anonymise.checking import Checker
from anonymise.floors import Floors
from anonymise.loss import Loss
from anonymise.models import AlphaKAnonymity, BetaLikeness, DeltaDisclosure, DeltaPresence, LDiversity, TCloseness
from privacy.schema import Column, HierarchySpec

N_TABLES = 25
ROWS = tuple((str(i), f"{i // 2}", f"{i // 4}", "*") for i in range(6))
# Of two models the one that fails first at a node tells how much is lost, so a node can prove less than one above it.
MODELS = (
    [DeltaPresence(0.0, 0.5)],
    [TCloseness(0.2, attribute="s")],
    [BetaLikeness(0.5, attribute="s"), LDiversity(2, attribute="s", kind="recursive", c=1.0)],
    [AlphaKAnonymity(2 / 3, 3, attribute="s"), LDiversity(2.5, attribute="s", kind="entropy")],
    [DeltaDisclosure(0.5, attribute="s"), DeltaPresence(0.0, 0.5)],
)


def tables(n_tables):
    for seed in range(n_tables):
        rng = np.random.default_rng(seed)
        chosen = [
            build_hierarchy(Column(name, categories=tuple("012345"), hierarchy=HierarchySpec("rows", rows=ROWS)))
            for name in ("a", "b")
        ]
        n_rows = int(rng.integers(8, 25))
        columns = [rng.integers(0, 6, n_rows).astype(str).astype(object) for _ in chosen]
        others = [rng.integers(0, 6, 12).astype(str).astype(object) for _ in chosen]
        letters = pd.Series(rng.choice(list("aabc"), n_rows).astype(object))
        yield encode_table(
            columns,
            chosen,
            sensitive={"s": [(letters, build_hierarchy(Column("s", categories=("a", "b", "c"))))]},
            population=[np.concatenate(pair) for pair in zip(columns, others, strict=True)],
        )


@pytest.mark.parametrize("models", MODELS, ids=repr)
def test_no_floor_along_a_way_down_is_above_a_score_below_it(models):
    nodes = list(itertools.product(range(4), repeat=2))
    n_compared = 0
    for number, data in enumerate(tables(N_TABLES)):
        metric = Loss.of(data.hierarchies)
        checker, floors = Checker(data, models), Floors(data, metric)
        scores = {}
        for node in nodes:
            failing = checker.failing(node)
            kept = data.counts[~failing] @ metric.row_losses(data.leaves[:, ~failing], node)
            scores[node] = kept + data.counts[failing].sum()
        rng = np.random.default_rng(number)
        for _ in range(4):
            node, floor = (3, 3), None
            while True:
                floor = floors.floor(checker.check(node, max_suppressed=data.n_rows), node, floor)
                below = [p for p in nodes if p[0] <= node[0] and p[1] <= node[1]]
                for p in below:
                    assert floor.at(p) <= scores[p] + 1e-9
                n_compared += len(below)
                if len(below) == 1:
                    break
                node = below[rng.integers(len(below) - 1)]
    assert n_compared > 1000
