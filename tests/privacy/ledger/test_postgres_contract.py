"""A ledger in PostgreSQL does what one in SQLite does: the same tests, any order of operations, cosigned spends."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from privacy import SpentWithoutAnswer, ZeroConcentratedDP
from privacy.ledger import (
    LedgerRefused,
    LedgerRestored,
    LocalWitness,
    WitnessPolicy,
    WitnessUnavailable,
    generate_key,
    open_ledger,
    verify,
)

pytestmark = pytest.mark.postgres

# Tests of SQLite's files, by what they take for granted.
OF_FILES = {
    "test_a_new_file_is_for_its_owner_alone",
    "test_another_database_or_format_version_is_refused",
}
# Of the others, those that use the fixtures are about any store.
FIXTURES = {"ledger", "url"}
AML = {"epsilon": 3.0, "delta": 1e-6, "neighbours": "add_remove_one"}


def private_copy(name):
    """The module, loaded once more, so that what is replaced in it is replaced here alone."""
    place = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_on_postgres", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


spending = private_copy("test_ledger_spending")
states = private_copy("test_ledger_states")
SHARED = [
    name
    for name, test in inspect.getmembers(spending, inspect.isfunction)
    if name.startswith("test_") and name not in OF_FILES and FIXTURES & set(inspect.signature(test).parameters)
]
globals().update({name: getattr(spending, name) for name in SHARED})


@pytest.fixture
def url(database, tmp_path, monkeypatch):
    # A database has no folder beside it for the key of the stored answers.
    opening = functools.partial(open_ledger, answer_key=tmp_path / "answers.key")
    monkeypatch.setattr(spending, "open_ledger", opening)
    return database


@pytest.fixture
def ledger(url):
    with spending.open_ledger(url, site="vienna") as opened:
        opened.open_account("aml", **AML)
        yield opened


def test_most_of_the_contract_is_shared():
    assert len(SHARED) > 30


class PostgresMachine(states.LedgerMachine):
    """The model of `test_ledger_states`, on a database instead of a file."""

    server = None

    def place(self):
        return self.server.database()

    def teardown(self):
        super().teardown()
        self.server.give_back(self.url)


class TestPostgresStates(PostgresMachine.TestCase):
    settings = settings(
        max_examples=5, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )

    @pytest.fixture(autouse=True)
    def _on(self, server):
        PostgresMachine.server = server


def test_caps_blocks_and_accounts_below_accounts_balance(ledger, url, tmp_path, server):
    site = generate_key(tmp_path / "site.key", name="vienna.example/site")
    officer = generate_key(tmp_path / "officer.key", name="vienna.example/officer")
    ledger.close()
    with open_ledger(url, signer=site, answer_key=tmp_path / "answers.key") as opened:
        opened.set_key("site", site.verifier.vkey, reason="the first key", holder=site)
        opened.set_key("officer", officer.verifier.vkey, reason="a second pair of eyes", holder=officer)
        blocks = {"blocks": ["a", "b"], "block_rule": "the patient's clinic"}
        opened.open_account("mds", **AML, **blocks)
        opened.open_account("mds/part", **(AML | {"epsilon": 1.0}), parent="mds", **blocks)
        with opened.spend("mds/part", ZeroConcentratedDP(0.01), key="1", purpose="p", blocks=["b"]) as block:
            block.release(1)
        held = opened.reserve("mds/part", ZeroConcentratedDP(0.01), key="2", purpose="p")
        opened.set_cap("mds", epsilon=0.01, delta=1e-6, reason="lowered below what is spent")
        held.start()
        held.post()
        opened.reserve("aml", ZeroConcentratedDP(0.01), key="3", purpose="p").void()
        opened.set_cap("mds", epsilon=4.0, delta=1e-6, reason="raised by two", officer=officer)
        opened.set_cap("mds", epsilon=3.5, delta=1e-6, reason="lowered again")
        note = opened.checkpoint()
    result = verify(url, site_key=site.verifier.vkey, notes=[note])
    assert (result.problems, result.assurance) == ((), "signed")
    from postgres_server import database_of

    rows = server.execute("SELECT * FROM synthema_ledger.balance", database=database_of(url))
    assert {row[:2] for row in rows} == {("aml", "")} | {(a, b) for a in ("mds", "mds/part") for b in "ab"}
    # The amount of rho was capped higher once; that of delta never.
    assert all(row[6] > row[3] for row in rows if row[0] == "mds" and row[2] == 0)
    assert all(row[6] == row[3] for row in rows if row[0] != "mds")


def test_an_erasure_destroys_the_answers_of_a_version_and_no_others(ledger, url, server):
    from postgres_server import database_of

    for version in ("v1", "v2"):
        ledger.record_data(version, change="refresh", reason="monthly")
        event = ZeroConcentratedDP(1e-6)
        with ledger.spend("aml", event, key=version, purpose="p", data_version=version) as block:
            block.release(version)
    ledger.record_data("v1", change="erasure", reason="a patient withdrew")
    with pytest.raises(LedgerRefused, match="erased"):
        ledger.reserve("aml", event, key="v1", purpose="p", data_version="v1")
    assert ledger.reserve("aml", event, key="v2", purpose="p", data_version="v2").stored == "v2"
    assert verify(url).ok
    assert server.execute("SELECT count(*) FROM synthema_ledger.answer", database=database_of(url)) == [(1,)]


class Unreachable:
    """A witness behind a wire that can be cut."""

    def __init__(self, witness):
        self.witness, self.cut = witness, False
        self.name, self.vkey = witness.name, witness.vkey

    def add_checkpoint(self, **asked):
        if self.cut:
            raise WitnessUnavailable("no route")
        return self.witness.add_checkpoint(**asked)


def test_a_spend_starts_only_when_it_is_cosigned_and_a_restored_database_is_refused(database, tmp_path, server):
    from postgres_server import database_of

    site = generate_key(tmp_path / "site.key", name="vienna.example/site")
    other = generate_key(tmp_path / "witness.key", name="madrid.example/witness")
    options = {"signer": site, "answer_key": tmp_path / "answers.key"}
    with open_ledger(database, **options) as ledger:
        ledger.set_key("site", site.verifier.vkey, reason="the first key", holder=site)
        ledger.open_account("aml", **AML)
        origin = f"synthema-ledger/{ledger.ledger_id}"
    wire = Unreachable(LocalWitness(tmp_path / "witness.db", other, {origin: site.verifier}))
    options["witnesses"] = WitnessPolicy([wire])
    server.execute(f"CREATE DATABASE backup TEMPLATE {database_of(database)}")
    with open_ledger(database, **options) as ledger:
        with ledger.spend("aml", ZeroConcentratedDP(1e-6), key="1", purpose="p") as block:
            block.release(1)
        wire.cut = True
        with pytest.raises(WitnessUnavailable), ledger.spend("aml", ZeroConcentratedDP(1e-6), key="2", purpose="p"):
            pytest.fail("the block must not run")
        assert ledger.remaining("aml").rho_spent == pytest.approx(1e-6)
        wire.cut = False
        with ledger.spend("aml", ZeroConcentratedDP(1e-6), key="2", purpose="p"):
            pass
        with pytest.raises(SpentWithoutAnswer), ledger.spend("aml", ZeroConcentratedDP(1e-6), key="2", purpose="p"):
            pass
        ledger.checkpoint()
    found = verify(database, witness_keys=[wire.vkey])
    assert (found.problems, found.assurance) == ((), "witnessed")
    # The old copy is in order by itself; the witness remembers more.
    old = server.url("backup")
    assert verify(old).ok
    with pytest.raises(LedgerRestored):
        open_ledger(old, **options)
