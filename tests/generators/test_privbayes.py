"""PrivBayes: its network is its own junction tree, its tables are the families', and rare data break no rule."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from generators import Domain, Independent, LocalTableOracle, PrivBayes, count_marginal, encode, workload_error
from generators.auditing import Selection, transcript
from generators.inference import Evidence
from generators.junction_tree import JunctionTree
from generators.network import Network
from privacy import InsecureSeededRng, Schema

DELTA = 1e-9


def flags(names: str) -> Schema:
    return Schema.from_dict({"columns": {name: {"categories": ["0", "1", "2"]} for name in names}})


@pytest.fixture(scope="module")
def chain():
    """Five columns, c depending on a and b together and on neither alone, d on c, e on nothing."""
    rng = np.random.default_rng(5)
    n = 30_000
    a, b, e = (rng.integers(0, 3, n) for _ in range(3))
    c = np.where(rng.random(n) < 0.8, (a + b) % 3, rng.integers(0, 3, n))
    d = np.where(rng.random(n) < 0.7, c, rng.integers(0, 3, n))
    return pd.DataFrame(np.stack([a, b, c, d, e], axis=1).astype(str), columns=list("abcde"))


def test_two_parents_are_found_where_one_tells_nothing(chain):
    schema = flags("abcde")
    model = PrivBayes(rho=100.0).fit(chain, schema, rng=InsecureSeededRng(1))
    assert {("a", "c"), ("b", "c"), ("c", "d")} <= set(model.edges)
    counts = count_marginal(encode(chain, schema), Domain.from_schema(schema), ("a", "b", "c"))
    assert model.marginal(["a", "b", "c"]).estimate == pytest.approx(counts, rel=0.02, abs=60)
    # One parent cannot hold it.
    single = PrivBayes(rho=100.0, degree=1).fit(chain, schema, rng=InsecureSeededRng(1))
    assert np.abs(single.marginal(["a", "b", "c"]).estimate - counts).max() > 1000


def test_the_cliques_are_the_families_that_were_measured_and_keep_their_tables(chain):
    schema = flags("abcde")
    for rho in (0.001, 0.1, 10.0):
        model = PrivBayes(rho=rho, degree=3).fit(chain, schema, rng=InsecureSeededRng(2))
        measured = {part.columns for part in model.measurements}
        assert set(model.cliques) <= measured
        assert max(len(clique) for clique in model.cliques) <= 4
        # No column is in two cliques with different counts.
        for first, second in itertools.combinations(range(len(model.cliques)), 2):
            shared = [name for name in model.cliques[first] if name in model.cliques[second]]
            if shared:
                tables = [
                    model.marginals.cliques[i].sum(
                        axis=tuple(k for k, name in enumerate(model.cliques[i]) if name not in shared)
                    )
                    for i in (first, second)
                ]
                assert tables[0] == pytest.approx(tables[1], abs=1e-9)


def test_the_network_is_the_product_of_its_conditionals_written_out():
    domain = Domain(("a", "b", "c", "d"), (2, 3, 2, 2))
    rng = np.random.default_rng(3)
    joint = rng.dirichlet(np.full(24, 0.5)).reshape(2, 3, 2, 2) * 1e6
    cells = {"a": (0,), "b": (1,), "c": (2,), "d": (3,)}

    def evidence(columns):
        rest = tuple(axis for axis, name in enumerate("abcd") if name not in columns)
        return Evidence(tuple(columns), joint.sum(axis=rest), 1.0)

    network = Network(domain, [evidence(name) for name in cells], JunctionTree.build(domain, []), {})
    for child, parents in (("b", "a"), ("c", "ab"), ("d", "bc")):
        family = (child, tuple(parents))
        assert family in network.candidates(2, most_cells=1e9)
        network.grow(evidence(sorted(parents + child)), family)
    p = joint / joint.sum()
    a, ab, abc, bc, bcd = p.sum((1, 2, 3)), p.sum((2, 3)), p.sum(3), p.sum((0, 3)), p.sum(0)
    product = np.einsum("ab,abc,bcd->abcd", ab, abc / ab[:, :, None], bcd / bc[:, :, None])
    assert network.marginals().project(("a", "b", "c", "d")) == pytest.approx(product, abs=2e-5)
    assert network.marginals().project(("a",)) == pytest.approx(a, abs=1e-5)


def test_useful_families_only_have_several_parents(chain):
    schema = flags("abcde")

    def sizes(usefulness):
        oracle = LocalTableOracle(chain, schema, rng=InsecureSeededRng(4))
        answers = transcript(PrivBayes(rho=0.01, usefulness=usefulness), schema, oracle)
        return {len(clique) for a in answers if isinstance(a, Selection) for clique in a.candidates}

    assert sizes(0.0) == {2, 3}
    assert sizes(1e6) == {2}
    with pytest.raises(ValueError, match="usefulness"):
        PrivBayes(rho=1.0, usefulness=-1.0)
    with pytest.raises(ValueError, match="degree"):
        PrivBayes(rho=1.0, degree=0)


def test_rules_on_joined_columns_hold_after_the_network_joins_them_to_others():
    schema = Schema.from_dict(
        {
            "columns": {name: {"categories": ["0", "1", "2"]} for name in "abcdef"},
            "rules": [
                {"forbid": {"a": "1", "b": "1"}},
                {"forbid": {"b": "2", "c": "0"}},
                {"forbid": {"e": "0", "f": "0"}},
                {"forbid": {"d": "2"}},
            ],
        }
    )
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(rng.integers(0, 3, (4000, 6)).astype(str), columns=list("abcdef"))
    frame["d"] = frame["a"].replace("2", "0")
    broken = ((frame["a"] == "1") & (frame["b"] == "1")) | ((frame["b"] == "2") & (frame["c"] == "0"))
    frame = frame[~(broken | ((frame["e"] == "0") & (frame["f"] == "0")))]
    for rho in (1e-4, 1.0):
        model = PrivBayes(rho=rho).fit(frame, schema, rng=InsecureSeededRng(7))
        assert model.marginal(["a", "b"]).estimate[1, 1] == 0
        assert model.marginal(["b", "c"]).estimate[2, 0] == 0
        assert model.marginal(["e", "f"]).estimate[0, 0] == 0
        assert model.marginal(["d"]).estimate[2] == 0
        for part in model.marginals.cliques:
            assert part.sum() == pytest.approx(1.0)
        schema.validate(model.sample(300, rng=np.random.default_rng(1)))


def test_error_on_leukaemia_patients_is_in_the_measured_range(leuk_frame, leuk_schema):
    domain, codes = Domain.from_schema(leuk_schema), encode(leuk_frame, leuk_schema)

    def error(kind, epsilon):
        out = []
        for seed in range(4):
            model = kind(epsilon=epsilon, delta=DELTA).fit(leuk_frame, leuk_schema, rng=InsecureSeededRng(seed))
            rows = model.sample_codes(round(model.total), rng=np.random.default_rng(seed))
            out.append(workload_error(codes, rows, domain))
        return float(np.mean(out))

    assert 0.63 < error(PrivBayes, 10.0) < 0.72
    assert error(PrivBayes, 10.0) < error(Independent, 10.0)
