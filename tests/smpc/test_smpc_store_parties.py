"""Runs on material from disk: crashes waste items, restored and copied stores are found, no item serves twice."""

from __future__ import annotations

import shutil

import material_parties as parties
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from smpc.agreement import Statement
from smpc.errors import (
    FrameRejected,
    MaterialDiscarded,
    MaterialExhausted,
    MaterialMismatch,
    MaterialNotAgreed,
    MaterialRolledBack,
    PeerUnavailable,
    ProtocolAbort,
)
from smpc.kinds import Bit, Digits, MatrixProduct, Product
from smpc.ring import FIELD61, RING64
from smpc.store import StoredMaterial, open_store

PRODUCT = Product(RING64)
AMOUNTS = {PRODUCT: 2000, Product(FIELD61): 500, MatrixProduct(RING64, 2, 3, 4): 40, Digits(16): 900}


def multiply(count, *, served=None):
    """Return a protocol of one product of `count` numbers, which notes the items that each party was served."""

    async def protocol(session):
        await session.agree_on_material()
        start = session._material._used[PRODUCT]
        if served is not None:
            served.append((session.party, start, start + count))
        x = await session.input(np.arange(count))
        product = await session.open(await session.mul(x[0], x[1]))
        assert (product == np.arange(count) ** 2).all()
        return start

    return protocol


@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_runs_on_stores_give_what_runs_in_memory_give(tmp_path, n_parties):
    folders = parties.dealt(
        {**AMOUNTS, Bit(RING64): 20, Bit(FIELD61): 20, **negative_of_64_bits()}, n_parties, tmp_path
    )
    rng = np.random.default_rng(1)
    x, y = rng.integers(-1000, 1000, (2, 3)), rng.integers(-1000, 1000, (3, 4))

    async def protocol(session):
        await session.agree_on_material()
        a, b = (await session.input(x))[0], (await session.input(y))[0]
        small = (await session.input(x, max_abs=1000))[1]
        field = (await session.input(x % 2, domain=FIELD61))[0]
        return await session.open(
            await session.matmul(a, b), await session.less(small, 5), await session.mul(field, field)
        )

    for _ in range(2):
        for product, less, square in parties.play(protocol, folders):
            assert (product == x @ y).all()
            assert (less.reshape(x.shape) == (x < 5)).all()
            assert (square == (x % 2) ** 2).all()


def negative_of_64_bits():
    """Return what the tree of a comparison of 16 bits takes, by running it."""
    from smpc import run_local

    async def protocol(session, x):
        return await session.open(await session.less((await session.input(x, max_abs=1000))[1], 5))

    material = run_local(protocol, [np.zeros((2, 3), dtype=int)] * 2).cost.material
    return {kind: 2 * count for kind, count in material.items() if kind not in AMOUNTS and kind != Bit(RING64)}


def test_nothing_is_taken_before_the_parties_agreed(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)

    async def protocol(session):
        x = await session.input([1])
        return await session.mul(x[0], x[1])

    assert all(isinstance(error, MaterialNotAgreed) for error in parties.play(protocol, folders))


def test_a_store_that_was_closed_loses_nothing(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    for turn in range(4):
        assert parties.play(multiply(7), folders) == [7 * turn] * 2


def test_after_a_crash_of_one_party_both_go_on_behind_what_it_reserved(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    block = -(-2000 // 64)
    assert parties.play(multiply(7), folders, close=False) == [0, 0]
    # Two blocks are wasted, and no more.
    assert parties.play(multiply(7), folders) == [7 + 2 * block] * 2


def test_the_marks_of_the_party_that_is_furthest_count(tmp_path):
    folders = parties.dealt(AMOUNTS, 3, tmp_path)
    parties.play(multiply(5), folders)
    # Party 1 reserved, and was killed before the others wrote anything.
    with open_store(folders[1]) as store:
        store.new_statement()
        store.reserve_from([300, 0, 0, 0], {}, {})
        parties.crash(store)
    served = []
    parties.play(multiply(5, served=served), folders)
    assert {start for _, start, _ in served} == {300 + -(-2000 // 64)}


@pytest.mark.parametrize("party", [0, 1])
def test_a_restored_store_is_found_and_discarded_and_the_others_learn_why(tmp_path, party):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    parties.play(multiply(5), folders)
    restore = parties.snapshot(folders[party])
    parties.play(multiply(5), folders)
    restore()
    for error in parties.play(multiply(5), folders):
        assert isinstance(error, MaterialRolledBack)
        assert error.party == party
    with pytest.raises(MaterialDiscarded):
        open_store(folders[party])
    # Put back again and again, it is found again and again.
    for _ in range(3):
        restore()
        assert all(isinstance(error, MaterialRolledBack) for error in parties.play(multiply(5), folders))


def test_without_the_agreement_a_restored_store_would_serve_items_again(tmp_path, monkeypatch):
    """The negative control: each party goes by its own marks, and nobody compares what is remembered."""
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    parties.play(multiply(5), folders)
    restore = parties.snapshot(folders[0])
    served = []
    parties.play(multiply(5, served=served), folders)
    restore()
    monkeypatch.setattr("smpc.agreement.knows_too_little", lambda *_: False)
    monkeypatch.setattr("smpc.agreement.outrun", lambda *_: False)
    reserve_from = StoredMaterial.reserve_from
    monkeypatch.setattr(StoredMaterial, "reserve_from", lambda self, _, *rest: reserve_from(self, self.marks, *rest))
    parties.play(multiply(5, served=served), folders)
    again = [(start, end) for party, start, end in served if party == 0]
    assert again[0] == again[1]


def test_a_snapshot_is_found_also_after_failed_attempts_to_use_it(tmp_path):
    # Each attempt makes a statement, so that its numbers pass what the other party remembers: the tags do not.
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    parties.play(multiply(5), folders)
    restore = parties.snapshot(folders[0])
    parties.play(multiply(5), folders)
    restore()
    for _ in range(5):
        with open_store(folders[0]) as store:
            store.new_statement()
    assert all(isinstance(error, MaterialRolledBack) for error in parties.play(multiply(5), folders))


def test_a_snapshot_from_within_a_run_is_made_harmless_by_the_marks_of_the_others(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    restores, ends = [], []

    async def protocol(session):
        await session.agree_on_material()
        if session.party == 0:
            restores.append(parties.snapshot(folders[0]))
        x = await session.input(np.arange(1500))
        await session.mul(x[0], x[1])
        ends.append(session._material._used[PRODUCT])

    parties.play(protocol, folders, close=False)
    restores[0]()
    assert ends == [1500, 1500]
    assert min(parties.play(multiply(1), folders)) >= 1500


def test_a_copy_of_a_store_is_found_by_those_who_heard_the_other_one(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    parties.play(multiply(5), folders)
    copy = tmp_path / "copy"
    shutil.copytree(folders[1], copy)
    parties.play(multiply(5), folders)
    results = parties.play(multiply(5), [folders[0], copy])
    assert all(isinstance(error, MaterialRolledBack) and error.party == 1 for error in results)


def test_a_package_that_is_installed_twice_is_found(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    parties.play(multiply(5), folders)
    from smpc.store import install_package

    install_package(tmp_path / "packages" / "party-0.package", tmp_path / "again")
    results = parties.play(multiply(5), [tmp_path / "again", folders[1]])
    assert all(isinstance(error, MaterialRolledBack) and error.party == 0 for error in results)


def test_stores_that_were_all_restored_together_agree_and_an_anchor_finds_them(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    anchors = [tmp_path / "anchor", None]
    parties.play(multiply(5), folders, anchors=anchors)
    restores = [parties.snapshot(folder) for folder in folders]
    served = []
    parties.play(multiply(5, served=served), folders, anchors=anchors)
    for restore in restores:
        restore()
    # The limit, stated in the documentation: without an anchor nobody can know.
    parties.play(multiply(5, served=served), folders)
    assert served[0][1] == served[2][1]
    for restore in restores:
        restore()
    with pytest.raises(MaterialRolledBack):
        open_store(folders[0], anchor=anchors[0])


def test_what_a_run_is_expected_to_need_is_reserved_at_once(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    seen = []

    async def protocol(session):
        await session.agree_on_material({PRODUCT: 1000})
        seen.append(session._material._record.marks[0])

    parties.play(protocol, folders)
    assert all(mark >= 1000 for mark in seen)

    async def greedy(session):
        await session.agree_on_material({PRODUCT: 2001})

    for error in parties.play(greedy, folders):
        assert isinstance(error, MaterialExhausted)
        assert (error.wanted, error.left) == (2001, 2000)


def test_an_item_that_the_dealer_did_not_make_is_refused_before_it_is_taken(tmp_path):
    folders = parties.dealt(AMOUNTS, 2, tmp_path)
    assert all(isinstance(error, MaterialExhausted) for error in parties.play(multiply(2001), folders))
    assert parties.play(multiply(2000), folders) == [0, 0]
    assert all(isinstance(error, MaterialExhausted) for error in parties.play(multiply(1), folders))


def test_stores_of_two_batches_do_not_come_together(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    one, two = (parties.dealt(AMOUNTS, 2, tmp_path / name) for name in "ab")
    assert all(isinstance(error, MaterialMismatch) for error in parties.play(multiply(1), [one[0], two[1]]))
    assert all(isinstance(error, MaterialMismatch) for error in parties.play(multiply(1), [one[1], one[0]]))


def test_a_party_that_tells_others_different_things_is_stopped(tmp_path):
    folders = parties.dealt(AMOUNTS, 3, tmp_path)

    async def protocol(session):
        if session.party == 2:
            exchange = session._exchange

            async def lie(operation, payloads):
                if not session._step:
                    truth = Statement.decode(payloads[0].tobytes(), sender=2)
                    other = Statement(truth.fingerprint, 2, truth.number, truth.tag, (9, 0, 0, 0), truth.memories)
                    payloads = [np.frombuffer(other.encode(), dtype=np.uint8), *payloads[1:]]
                return await exchange(operation, payloads)

            session._exchange = lie
        await session.agree_on_material()

    results = parties.play(protocol, folders)
    assert all(isinstance(error, ProtocolAbort | PeerUnavailable) for error in results)
    assert any(isinstance(error, ProtocolAbort) for error in results)


@pytest.mark.parametrize("cut", [0, 10, 79, -1])
def test_a_malformed_statement_is_rejected(cut):
    good = Statement(bytes(32), 1, 4, bytes(16), (1, 2), ((0, bytes(16)), (3, b"x" * 16)))
    assert Statement.decode(good.encode(), sender=1) == good
    with pytest.raises(FrameRejected):
        Statement.decode(good.encode()[:cut], sender=1)
    for bad, sender in ((good.encode() + b"\0", 1), (good.encode(), 0), (b"x" + good.encode()[1:], 1)):
        with pytest.raises(FrameRejected):
            Statement.decode(bad, sender=sender)


class Stores(RuleBasedStateMachine):
    """Runs, crashes, snapshots and restores in any order: either an error, or items that never served before.

    Snapshots of one party at a time; those of all together are the limit that is tested above.
    """

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.served = set()
        self.restores = {}
        self.dead = False

    def teardown(self):
        self.folder.cleanup()

    @initialize(n_parties=st.integers(2, 3))
    def deal(self, n_parties):
        self.folders = parties.dealt({PRODUCT: 5000}, n_parties, self.path)

    @precondition(lambda self: not self.dead)
    @rule(count=st.integers(1, 120), close=st.booleans())
    def run(self, count, close):
        served = []
        try:
            results = parties.play(multiply(count, served=served), self.folders, close=close)
        except MaterialDiscarded:
            self.dead = True
            return
        if any(isinstance(result, Exception) for result in results):
            assert all(isinstance(result, MaterialRolledBack | MaterialExhausted) for result in results), results
            return
        starts = {start for _, start, _ in served}
        assert len(starts) == 1
        items = set(range(min(starts), min(starts) + count))
        assert not items & self.served
        self.served |= items

    @precondition(lambda self: not self.dead)
    @rule(party=st.integers(0, 2), statements=st.integers(0, 2))
    def crash_alone(self, party, statements):
        folder = self.folders[party % len(self.folders)]
        try:
            store = open_store(folder)
        except MaterialDiscarded:
            self.dead = True
            return
        for _ in range(statements):
            store.new_statement()
        parties.crash(store)

    @rule(party=st.integers(0, 2))
    def back_up(self, party):
        party %= len(self.folders)
        self.restores = {party: parties.snapshot(self.folders[party])}

    @precondition(lambda self: self.restores)
    @rule()
    def restore(self):
        for restore in self.restores.values():
            restore()
        self.dead = False


Stores.TestCase.settings = settings(
    max_examples=15, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
TestStores = Stores.TestCase
