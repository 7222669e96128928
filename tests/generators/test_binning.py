"""Private edges: near quantiles, from the public grid, at the price that is noted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import BudgetInvalid, ChowLiu, DomainMismatch, Independent, TooManyRecords, private_edges
from generators.binning import _edges
from generators.encoding import check_decodable
from privacy import RdpAccountant, Schema, SchemaError, ZcdpAccountant, rho_of
from privacy.randomness import InsecureSeededRng

RHO = 0.1


def ages(**more):
    return Schema.from_dict({"columns": {"age": {"kind": "integer", "bounds": [0, 110], **more}}})


def test_edges_hold_about_equally_many_patients():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"age": np.clip(rng.normal(65, 12, 5000), 0, 110).astype(int)})
    schema, _ = private_edges(frame, ages(), bins={"age": 8}, rho=RHO, rng=InsecureSeededRng(1))
    column = schema.column("age")
    assert len(column.edges) == 7
    shares = np.bincount(column.encode(frame["age"].to_numpy()), minlength=8) / 5000
    assert shares.min() > 0.08
    assert shares.max() < 0.17
    # The negative control: equal widths, which such a test must tell apart.
    equal = ages(bins=8).column("age")
    assert (np.bincount(equal.encode(frame["age"].to_numpy()), minlength=8) / 5000).max() > 0.3


@pytest.mark.parametrize(
    ("neighbours", "most", "n_events"), [("add_remove_one", 1, 3), ("replace_one", 1, 7), ("add_remove_one", 2, 7)]
)
def test_the_price_is_what_was_granted_and_never_more(neighbours, most, n_events):
    frame = pd.DataFrame({"age": np.arange(1000) % 100})
    _, events = private_edges(
        frame, ages(), bins={"age": 8}, rho=RHO, neighbours=neighbours, max_records_per_patient=most
    )
    assert len(events) == n_events
    assert RHO * (1 - 1e-6) < sum(rho_of(event) for event in events) <= RHO
    for accountant in (ZcdpAccountant(neighbours=neighbours), RdpAccountant(neighbours=neighbours)):
        for event in events:
            accountant.compose(event)
        assert accountant.epsilon(delta=1e-6) < 5


def scores_of_neighbours(values, extra, bins):
    """Replay the recursion on two neighbouring tables through the same blocks: [(scores, claimed sensitivity), ...]."""
    seen: list[list[tuple[list[int], int]]] = []

    def recorder(scores, *, epsilon, sensitivity, rng):
        del epsilon, rng
        seen[-1].append((scores, sensitivity))
        # A choice that does not depend on the table.
        return len(scores) // 2

    points = np.arange(1, 110, dtype=np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generators.binning.exponential_mechanism", recorder)
        for table in (values, [*values, extra]):
            seen.append([])
            _edges(np.sort(np.array(table, dtype=np.float64)), points, bins, 1.0, 1, InsecureSeededRng(1))
    return zip(*seen, strict=True)


@given(st.lists(st.integers(0, 110), min_size=0, max_size=30), st.integers(0, 110), st.integers(2, 9))
def test_one_row_changes_one_blocks_scores_by_at_most_the_claim(values, extra, bins):
    changed = 0
    for (scores, claim), (others, _) in scores_of_neighbours(values, extra, bins):
        change = np.abs(np.array(scores) - np.array(others)).max()
        assert change <= claim
        changed += int(change > 0)
    assert changed <= int(np.ceil(np.log2(bins)))


@pytest.mark.parametrize("bins", range(2, 10))
def test_the_claimed_sensitivity_is_attained_so_a_smaller_one_would_be_wrong(bins):
    attained = False
    for extra in (0, 110):
        for (scores, claim), (others, _) in scores_of_neighbours([3, 50, 90], extra, bins):
            attained |= bool(np.abs(np.array(scores) - np.array(others)).max() == claim)
    assert attained


def test_edges_come_from_the_public_grid_whatever_the_values_are():
    frame = pd.DataFrame({"age": [7] * 500 + [83] * 500})
    schema, _ = private_edges(frame, ages(), bins={"age": 4}, rho=1.0, grids={"age": [10, 20, 40, 60, 80, 100]})
    assert set(schema.column("age").edges) <= {10, 20, 40, 60, 80, 100}
    check_decodable(schema)


def test_where_the_grid_has_no_room_there_are_fewer_bins_at_the_same_price():
    schema = Schema.from_dict({"columns": {"grade": {"kind": "integer", "bounds": [0, 2]}}})
    frame = pd.DataFrame({"grade": [0, 1, 2] * 100})
    binned, events = private_edges(frame, schema, bins={"grade": 8}, rho=RHO)
    assert set(binned.column("grade").edges) <= {1.0}
    assert sum(rho_of(event) for event in events) == pytest.approx(RHO)


def test_decimals_dates_and_missing_values_are_binned_on_their_own_grids():
    rng = np.random.default_rng(2)
    days = np.datetime64("2010-01-01") + rng.integers(0, 3000, 2000)
    frame = pd.DataFrame({"wbc": np.round(rng.gamma(1.5, 20, 2000).clip(0, 500), 1), "seen": days})
    frame.loc[:200, "wbc"] = np.nan
    schema = Schema.from_dict(
        {
            "columns": {
                "wbc": {"kind": "continuous", "bounds": [0, 500], "decimals": 1, "nullable": True},
                "seen": {"kind": "date", "bounds": ["2005-01-01", "2025-12-31"]},
            }
        }
    )
    binned, _ = private_edges(frame, schema, bins={"wbc": 4, "seen": 4}, rho=5.0, rng=InsecureSeededRng(3))
    check_decodable(binned)
    quartiles = frame["wbc"].quantile([0.25, 0.5, 0.75]).to_numpy()
    assert np.allclose(binned.column("wbc").edges, quartiles, atol=2)
    assert binned.to_dict()["columns"]["seen"]["edges"][1][:4] == "2014"
    model = ChowLiu(rho=5.0).fit(frame, binned)
    table = model.sample(500)
    binned.validate(table)
    assert table["wbc"].median() == pytest.approx(frame["wbc"].median(), rel=0.25)


def test_adding_an_extreme_row_changes_no_grid_and_no_price():
    frame = pd.DataFrame({"age": [50, 60, 70] * 100})
    more = pd.concat([frame, pd.DataFrame({"age": [110]})])
    found = [private_edges(t, ages(), bins={"age": 4}, rho=1e-4)[1] for t in (frame, more)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "rest",
    [
        {"survival": {"time": "t", "event": "e", "horizon": 80}},
        {"rules": [{"forbid": {"t": "50-79", "e": "1"}}]},
    ],
    ids=["horizon", "rule"],
)
def test_edges_that_the_schema_names_are_not_replaced_and_no_row_is_looked_at(rest):
    columns = {"t": {"kind": "integer", "bounds": [0, 100], "edges": [50, 80]}, "e": {"categories": ["0", "1"]}}
    schema = Schema.from_dict({"columns": columns, **rest})

    class Untouchable:
        def __getattr__(self, name):
            pytest.fail(f"{name} of the table was looked at")

    with pytest.raises(SchemaError, match=r"horizon|a rule names"):
        private_edges(Untouchable(), schema, bins={"t": 4}, rho=0.5)


def test_what_cannot_be_binned_is_refused():
    frame = pd.DataFrame({"age": [1, 2], "sex": ["F", "M"]})
    schema = Schema.from_dict(
        {
            "columns": {
                "age": {"kind": "integer", "bounds": [0, 9]},
                "sex": {"categories": ["F", "M"]},
            }
        }
    )
    for bins, message in (({}, "no column"), ({"sex": 2}, "number or date"), ({"age": 1}, "at least 2")):
        with pytest.raises(DomainMismatch, match=message):
            private_edges(frame, schema, bins=bins, rho=1.0)
    with pytest.raises(DomainMismatch, match="strictly inside"):
        private_edges(frame, schema, bins={"age": 2}, rho=1.0, grids={"age": [0, 5]})
    with pytest.raises(BudgetInvalid):
        private_edges(frame, schema, bins={"age": 2}, rho=0.0)
    visits = Schema.from_dict(
        {
            "table": {"patient_id": "pid"},
            "columns": {"pid": {}, **schema.to_dict()["columns"]} | {"pid": {"role": "identifier"}},
        }
    )
    with pytest.raises(TooManyRecords):
        private_edges(frame.assign(pid="a"), visits, bins={"age": 2}, rho=1.0)


def test_what_the_schema_cost_is_the_first_part_of_a_models_price(tmp_path):
    frame = pd.DataFrame({"age": np.arange(100)})
    schema, paid = private_edges(frame, ages(), bins={"age": 4}, rho=0.5)
    model = Independent(rho=0.25).fit(frame, schema, prior_events=paid)
    assert model.events[: len(paid)] == paid
    assert len(model.events) == len(paid) + 1
    model.save(tmp_path / "model")
    assert Independent.load(tmp_path / "model").events == model.events
    with pytest.raises(TypeError, match="prior_events"):
        Independent(rho=0.25).fit(frame, schema, prior_events=[0.5])
