"""The simulator's seeds play without a violation, the same way each time; and it finds a ledger with a rule missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import simulator
import simulator_play
from simulator_disk import Disk
from simulator_model import Violation

from privacy.ledger import account_doors, journal, quotes, requests, rules, spending
from privacy.ledger.books import AccountState, Books
from privacy.ledger.vault import Vault

# How many operations a broken ledger may survive, over all seeds of a control.
FOUND_WITHIN = 4000


@pytest.fixture(autouse=True)
def lightened():
    with simulator.lightened():
        yield


def play(seed, operations, folder):
    return list(simulator.play(seed, operations, str(folder)))


def play_all(seeds, operations, folder):
    for seed in seeds:
        play(seed, operations, folder)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_seed_plays_without_a_violation(seed, tmp_path):
    episodes = play(seed, 800, tmp_path)
    assert sum(episode.disk.faults for episode in episodes) > 20
    assert sum(episode.model.size for episode in episodes) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 104))
def test_many_operations_play_without_a_violation(seed, tmp_path):
    episodes = play(seed, 25_000, tmp_path)
    assert sum(episode.disk.faults for episode in episodes) > 1500


def test_the_same_seed_plays_the_same_operations(tmp_path):
    first, again, other = (play(seed, 200, tmp_path)[0].trace.digest() for seed in (7, 7, 8))
    assert first == again != other


def test_every_door_and_every_refusal_is_played(tmp_path):
    counts = sum((episode.counts for episode in play(5, 1500, tmp_path)), start=simulator.Counter())
    played = {name.split(":")[0] for name in counts}
    assert played >= set(simulator_play.WEIGHTS) - {"replay"}
    ends = {name.split(": ")[1] for name in counts}
    assert ends >= {"BudgetExceeded", "KeyReused", "SpentWithoutAnswer", "UnsupportedEvent", "LedgerRefused"}
    assert ends >= {"done", "crash", "unavailable"}


def test_the_program_says_what_it_played(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["simulator.py", "--seed", "7", "--operations", "50"])
    assert simulator.main() == 0
    said = capsys.readouterr().out
    assert "no violation" in said
    assert "operations/s" in said


# Negative controls: one rule is taken away, in all modules that ask for it.


def everywhere(name, value):
    return [
        (module, name, value) for module in (rules, requests, quotes, spending, account_doors) if hasattr(module, name)
    ]


def worst_of_one(state, amounts):
    return tuple(max(column) for column in zip(*(amounts(block) for block in state.charged), strict=True))


def taken_from_key_alone(_replay, key):
    state = _replay.books.account(key.account)
    return [state] if key.amounts else []


def never_read(_vault, _key, _state, _books):
    return 0


def lying_commit(disk, commit):
    disk.lying = disk.faults % 2 == 1
    original_sync(disk, commit)


def next_to_nothing(account):
    return (1,) * len(requests.filter_of(account).units)


original_sync = Disk._sync
original_reserve_one = spending.Spending._reserve_one


def spent_again(self, books, request):
    before = books.key(request.key)
    if before is not None and before.status == "posted" and before.answer is None:
        before.status = "void"
    return original_reserve_one(self, books, request)


CONTROLS = {
    "no cap": everywhere("over", lambda *_: None),
    "the account above is not charged": everywhere("chain_of", lambda _books, state: [state]),
    "the account above is forgotten when it starts": [(rules.Replay, "_charged_with", taken_from_key_alone)],
    "one block where two count": [(AccountState, "worst", worst_of_one)],
    "a key for anything": everywhere("terms_of", lambda _body: {}),
    "a spent key is sold again": [(spending.Spending, "_reserve_one", spent_again)],
    "erased data": everywhere("is_erased", lambda _books, _version: False),
    "an erasure that is forgotten": [(Books, "data", lambda _books, _version: None)],
    "caps rise by themselves": everywhere("raised", lambda *_: False),
    "another answer": [(Vault, "read", never_read)],
    "a disk that lies": [(Disk, "_sync", lying_commit)],
    "an anchor that nobody asks": [(journal.Journal, "_check_anchor", lambda *_: None)],
    "a price of nothing": [
        *everywhere("price", lambda _event, account: next_to_nothing(account)),
        (rules, "_close", lambda *_: True),
    ],
}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_ledger_without_a_rule_is_found_out(control, tmp_path, monkeypatch):
    for place, name, value in CONTROLS[control]:
        monkeypatch.setattr(place, name, value)
    with pytest.raises(Violation, match=r"^seed \d+, episode \d+, operation \d+: "):
        play_all(range(4), FOUND_WITHIN // 4, tmp_path)
