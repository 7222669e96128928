"""Somebody who asks for more than is left, block by block and account by account: stopped at the exact unit."""

from __future__ import annotations

import pytest

from privacy import ApproximateDP, BudgetExceeded, PureDP
from privacy._units import LOSS
from privacy.ledger import LedgerRefused, open_ledger, verify

# An epsilon of 1e-18 is one unit of a pure account.
UNIT = 1 / LOSS


def greedy(ledger, account, event_of, amount, blocks=()):
    """Ask for one unit more than is left, which must be refused; then for all of it, which must pass."""
    left = ledger.dry_run(account, event_of(UNIT), blocks=blocks).largest_count
    size = ledger.head[0]
    with pytest.raises(BudgetExceeded) as caught:
        ledger.reserve(account, event_of((left + 1) / LOSS), key=f"{account}-{size}-more", purpose="p", blocks=blocks)
    assert caught.value.amount == amount
    assert ledger.head[0] == size
    if left:
        ledger.reserve(account, event_of(left / LOSS), key=f"{account}-{size}", purpose="p", blocks=blocks).start()
    with pytest.raises(BudgetExceeded):
        ledger.reserve(account, event_of(UNIT), key=f"{account}-{size}-last", purpose="p", blocks=blocks)
    return left


def terms(**more):
    return {"delta": 1e-6, "neighbours": "replace_one", "filter": "pure"} | more


def test_two_blocks_share_the_cap_to_the_unit(tmp_path):
    with open_ledger(f"sqlite:///{tmp_path}/blocks.db") as mine:
        mine.open_account("b", epsilon=1e-6, **terms(blocks=["a", "b", "c"], block_rule="year"))
        mine.reserve("b", PureDP(6e-7), key="1", purpose="p", blocks=["a"]).start()
        assert greedy(mine, "b", PureDP, "epsilon", ["b"]) == 4 * 10**11
        # Block c may have as much as b: with a it is still below the cap, with b far below.
        assert greedy(mine, "b", PureDP, "epsilon", ["c"]) == 4 * 10**11
        assert greedy(mine, "b", PureDP, "epsilon", ["a"]) == 0
        assert greedy(mine, "b", PureDP, "epsilon") == 0
    assert verify(f"sqlite:///{tmp_path}/blocks.db").ok


def test_a_child_and_its_parent_stop_each_other_to_the_unit(tmp_path):
    with open_ledger(f"sqlite:///{tmp_path}/child.db") as mine:
        mine.open_account("all", epsilon=1e-6, **terms())
        mine.open_account("one", epsilon=7e-7, **terms(parent="all"))
        mine.open_account("two", epsilon=7e-7, **terms(parent="all"))
        mine.reserve("all", PureDP(1e-7), key="0", purpose="p")
        assert greedy(mine, "one", PureDP, "epsilon") == 7 * 10**11
        assert greedy(mine, "two", PureDP, "epsilon") == 2 * 10**11
        assert greedy(mine, "all", PureDP, "epsilon") == 0
        # What is given back by one may be spent by the other.
        mine.void("0")
        assert greedy(mine, "two", PureDP, "epsilon") == 10**11
    assert verify(f"sqlite:///{tmp_path}/child.db").ok


@pytest.mark.parametrize("rule", ["zcdp", "renyi", "pure"])
def test_approximate_deltas_stop_at_the_last_unit(tmp_path, rule):
    part = {} if rule == "pure" else {"approximate_delta": 1e-7}
    more = {"delta": 1e-6 if rule != "pure" else 1e-7, "neighbours": "add_remove_one", "filter": rule}
    with open_ledger(f"sqlite:///{tmp_path}/delta.db") as mine:
        mine.open_account("a", epsilon=3.0, **more, **part)
        for i, delta in enumerate((6e-8, 3e-8, 9.999999e-9)):
            mine.reserve("a", ApproximateDP(0.001, delta), key=str(i), purpose="p").start()
        with pytest.raises(BudgetExceeded) as caught:
            mine.reserve("a", ApproximateDP(0.001, 1.000001e-15), key="too much", purpose="p")
        assert caught.value.amount == "delta"
        mine.reserve("a", ApproximateDP(0.001, 1e-15), key="the rest", purpose="p").start()
        with pytest.raises(BudgetExceeded):
            mine.reserve("a", ApproximateDP(0.001, 1e-36), key="a unit", purpose="p")
    assert verify(f"sqlite:///{tmp_path}/delta.db").ok


@pytest.mark.parametrize("blocks", [["z"], ["a", "a"], ["a", "z"]])
def test_blocks_that_an_account_does_not_have_are_refused_by_every_door(tmp_path, blocks):
    with open_ledger(f"sqlite:///{tmp_path}/blocks.db") as mine:
        mine.open_account("b", epsilon=1e-6, **terms(blocks=["a", "b"], block_rule="year"))
        with pytest.raises(LedgerRefused, match="has the blocks a, b only"):
            mine.dry_run("b", PureDP(UNIT), blocks=blocks)
        with pytest.raises(LedgerRefused, match="has the blocks a, b only"):
            mine.reserve("b", PureDP(UNIT), key="k", purpose="p", blocks=blocks)
