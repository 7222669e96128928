"""What the database itself refuses, what `verify` finds in it, what the server must promise, and what errors say."""

from __future__ import annotations

import contextlib
import time

import pytest

from privacy import LedgerCorrupt, LedgerError, ZeroConcentratedDP
from privacy.ledger import LedgerRestored, LedgerUnavailable, _postgres_link, _postgres_schema, open_ledger, verify
from privacy.ledger._postgres import PostgresStore
from privacy.ledger._postgres_schema import grant_writer, schema_hash

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgres

ONE = ZeroConcentratedDP(1e-3)
AML = {"epsilon": 3.0, "delta": 1e-6, "neighbours": "add_remove_one"}
ROLE_PASSWORD = "a/pass:word"


@pytest.fixture
def answer_key(tmp_path):
    return tmp_path / "answers.key"


@pytest.fixture
def url(database, answer_key):
    with open_ledger(database, answer_key=answer_key) as ledger:
        ledger.open_account("aml", **AML)
        with ledger.spend("aml", ONE, key="1", purpose="p") as spend:
            spend.release([1, 2])
        ledger.reserve("aml", ONE, key="2", purpose="p")
    assert verify(database).ok
    return database


@pytest.fixture
def sql(server, url):
    from postgres_server import database_of

    return lambda *statements: server.execute(*statements, database=database_of(url))


def unlocked(table, statement):
    """The statements of an owner who lifts the triggers, and puts them back as they were."""
    return (
        f"ALTER TABLE synthema_ledger.{table} DISABLE TRIGGER USER",
        statement,
        *(
            _postgres_schema._always(trigger)
            for trigger in _postgres_schema._TRIGGERS
            if f"synthema_ledger.{table} " in trigger
        ),
    )


# What the database refuses, even its owner


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = body",
        "UPDATE entry SET seq = seq WHERE false",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "INSERT INTO entry VALUES (99, '', decode(repeat('00', 32), 'hex'))",
        "INSERT INTO entry VALUES (1, '', decode(repeat('00', 32), 'hex'))",
        "INSERT INTO entry SELECT max(seq) + 1, '', '' FROM entry",
        "UPDATE answer SET body = ''",
        "DELETE FROM answer",
        "TRUNCATE answer",
        "INSERT INTO answer SELECT * FROM answer",
        "DELETE FROM state",
        "TRUNCATE state",
        "DELETE FROM balance",
        "TRUNCATE balance",
        "UPDATE balance SET charged = most + 1",
        "UPDATE balance SET charged = 'NaN'",
        "UPDATE balance SET most = 'Infinity'",
        "UPDATE balance SET most = 'NaN'",
        "UPDATE balance SET reserved = -1",
        "DELETE FROM schema_version",
        "SET session_replication_role = replica; DELETE FROM entry",
    ],
)
def test_the_tables_only_grow(sql, url, statement):
    with pytest.raises(psycopg.IntegrityError):
        sql("SET search_path = synthema_ledger", statement)
    assert verify(url).ok


def test_only_an_answer_whose_erasure_is_recorded_can_be_deleted(sql):
    sql("INSERT INTO synthema_ledger.erased SELECT key_digest FROM synthema_ledger.answer")
    sql("DELETE FROM synthema_ledger.answer")
    with pytest.raises(psycopg.IntegrityError):
        sql("DELETE FROM synthema_ledger.erased")


# What `verify` finds


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER entry_stays ON synthema_ledger.entry",
        "DROP TRIGGER balance_stays ON synthema_ledger.balance",
        "ALTER TABLE synthema_ledger.entry DISABLE TRIGGER entry_stays",
        "ALTER TABLE synthema_ledger.entry ENABLE TRIGGER entry_stays",
        "ALTER TABLE synthema_ledger.entry ENABLE REPLICA TRIGGER entry_stays",
        "CREATE OR REPLACE FUNCTION synthema_ledger.stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "ALTER FUNCTION synthema_ledger.stays() SECURITY DEFINER",
        "ALTER FUNCTION synthema_ledger.stays() RESET ALL",
        "CREATE FUNCTION synthema_ledger.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER more BEFORE INSERT ON synthema_ledger.entry EXECUTE FUNCTION synthema_ledger.stays()",
        "ALTER TABLE synthema_ledger.balance DROP CONSTRAINT balance_holds",
        "ALTER TABLE synthema_ledger.balance DROP CONSTRAINT balance_pkey",
        "ALTER TABLE synthema_ledger.balance ALTER most TYPE double precision",
        "ALTER TABLE synthema_ledger.entry ADD COLUMN more text",
        "ALTER TABLE synthema_ledger.entry ALTER body DROP NOT NULL",
        "ALTER TABLE synthema_ledger.entry ALTER body SET DEFAULT ''",
        "ALTER TABLE synthema_ledger.entry SET UNLOGGED",
        "ALTER TABLE synthema_ledger.entry ENABLE ROW LEVEL SECURITY",
        "CREATE RULE quiet AS ON INSERT TO synthema_ledger.entry DO INSTEAD NOTHING",
        "CREATE TABLE synthema_ledger.child () INHERITS (synthema_ledger.entry)",
        "CREATE TABLE public.child () INHERITS (synthema_ledger.entry)",
        "CREATE VIEW synthema_ledger.more AS SELECT 1",
        "GRANT DELETE ON synthema_ledger.entry TO PUBLIC",
        "GRANT TRUNCATE ON synthema_ledger.answer TO PUBLIC",
        "GRANT UPDATE (body) ON synthema_ledger.entry TO PUBLIC",
        "INSERT INTO synthema_ledger.schema_version VALUES (2)",
        "DROP TABLE synthema_ledger.balance",
        "ALTER TABLE synthema_ledger.erased RENAME TO gone",
    ],
)
def test_a_changed_schema_is_found_and_stops_the_next_opening(sql, url, change):
    sql(change)
    found = verify(url)
    assert not found.ok
    assert found.assurance == "none"
    assert "s3cret" not in str(found)
    with pytest.raises(LedgerCorrupt, match=r"schema|left it"):
        open_ledger(url)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE synthema_ledger.balance SET charged = charged + 1 WHERE amount = 0", "balance"),
        ("UPDATE synthema_ledger.balance SET charged = 0", "balance"),
        ("UPDATE synthema_ledger.balance SET reserved = 0", "balance"),
        ("UPDATE synthema_ledger.balance SET cap = cap + 1, most = most + 1 WHERE amount = 0", "balance"),
        ("UPDATE synthema_ledger.balance SET most = most + 1 WHERE amount = 0", "balance"),
        ("UPDATE synthema_ledger.balance SET account = 'other'", "balance"),
        ("DELETE FROM synthema_ledger.balance WHERE amount = 1", "balance"),
        ("INSERT INTO synthema_ledger.balance VALUES ('mds', '', 0, 1, 0, 0, 1)", "no entry implies"),
    ],
)
def test_a_balance_that_was_tampered_with_is_found(sql, url, statement, words):
    sql(*unlocked("balance", statement))
    found = verify(url)
    assert any(words in problem for problem in found.problems), found


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE synthema_ledger.balance SET charged = charged + 1 WHERE amount = 0",
        "UPDATE synthema_ledger.balance SET charged = 0",
        "UPDATE synthema_ledger.balance SET reserved = 0",
        "UPDATE synthema_ledger.balance SET cap = cap - 1 WHERE amount = 0",
        "UPDATE synthema_ledger.balance SET cap = cap + 1, most = most + 1 WHERE amount = 0",
        "DELETE FROM synthema_ledger.balance",
    ],
)
def test_nothing_moves_from_a_balance_that_is_not_what_the_books_say(sql, url, answer_key, statement):
    sql(*unlocked("balance", statement))
    with open_ledger(url, answer_key=answer_key) as ledger:
        before = ledger.entries()
        with pytest.raises(LedgerCorrupt, match="balance of account 'aml'"):
            ledger.reserve("aml", ONE, key="3", purpose="p")
        with pytest.raises(LedgerCorrupt, match="balance of account 'aml'"):
            ledger.void("2")
        assert ledger.entries() == before


def test_the_guard_holds_the_cap_by_itself(url, answer_key, monkeypatch):
    """With our own check of the cap taken away, the row still refuses."""
    from privacy.ledger import requests, rules

    for module in (requests, rules):
        monkeypatch.setattr(module, "over", lambda *_: None)
    with open_ledger(url, answer_key=answer_key, check="head") as ledger:
        fits = ZeroConcentratedDP(ledger.remaining("aml").rho_left * 0.9)
        ledger.reserve("aml", fits, key="fits", purpose="p")
        with pytest.raises(LedgerCorrupt, match="does not cover"):
            ledger.reserve("aml", fits, key="does not", purpose="p")


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("entry", "UPDATE synthema_ledger.entry SET body = 'x' WHERE seq = 2"),
        ("entry", "DELETE FROM synthema_ledger.entry WHERE seq = (SELECT max(seq) FROM synthema_ledger.entry)"),
        ("entry", "TRUNCATE synthema_ledger.entry"),
        ("answer", "UPDATE synthema_ledger.answer SET body = 'x'"),
        ("answer", "DELETE FROM synthema_ledger.answer"),
        ("state", "UPDATE synthema_ledger.state SET value = 'x' WHERE name = 'key 1'"),
        ("state", "DELETE FROM synthema_ledger.state WHERE name = 'head'"),
        ("erased", "INSERT INTO synthema_ledger.erased VALUES ('x')"),
    ],
)
def test_what_an_owner_changes_behind_lifted_triggers_is_found(sql, url, table, statement):
    sql(*unlocked(table, statement))
    assert not verify(url).ok
    if table != "entry" and "head" not in statement:
        return
    with pytest.raises(LedgerCorrupt):
        open_ledger(url)


def test_a_ledger_whose_entries_were_emptied_is_not_taken_for_a_new_one(sql, url):
    for table in ("entry", "state"):
        sql(*unlocked(table, f"TRUNCATE synthema_ledger.{table}"))
    with pytest.raises(LedgerCorrupt):
        open_ledger(url)
    assert sql("SELECT count(*) FROM synthema_ledger.entry") == [(0,)]


def test_a_history_that_grows_while_it_is_verified_is_one_state(url, answer_key, monkeypatch):
    from privacy.ledger.verification import Audit

    original = Audit.check_states
    with open_ledger(url, answer_key=answer_key) as ledger:

        def meanwhile(audit, kept):
            with ledger.spend("aml", ONE, key="3", purpose="p") as spend:
                spend.release(1)
            original(audit, kept)

        monkeypatch.setattr(Audit, "check_states", meanwhile)
        found = verify(url)
    assert found.problems == ()


# A role that only writes


@pytest.fixture
def writer(server, url, sql):
    role = f"writer_{time.monotonic_ns()}"
    sql(f"CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    from postgres_server import database_of

    return role, server.url(database_of(url), role, ROLE_PASSWORD)


def test_a_role_without_rights_is_told_how_to_get_them(writer):
    with pytest.raises(LedgerUnavailable, match="grant_writer"):
        open_ledger(writer[1])


def test_a_writer_spends_and_erases_and_cannot_touch_what_is_written(writer, url, sql, answer_key):
    role, own = writer
    sql(grant_writer(role))
    with open_ledger(own, answer_key=answer_key) as ledger:
        ledger.open_account("mds", **AML)
        ledger.set_cap("mds", epsilon=1.0, delta=1e-6, reason="lower")
        ledger.record_data("v1", change="refresh", reason="monthly")
        with ledger.spend("mds", ONE, key="3", purpose="p", data_version="v1") as spend:
            spend.release(1)
        ledger.void("2")
        ledger.record_data("v1", change="erasure", reason="a patient withdrew")
    assert verify(own).ok
    assert verify(url).ok
    for statement in (
        "UPDATE synthema_ledger.entry SET body = ''",
        "DELETE FROM synthema_ledger.entry",
        "TRUNCATE synthema_ledger.entry",
        "ALTER TABLE synthema_ledger.entry DISABLE TRIGGER ALL",
        "DROP TRIGGER entry_stays ON synthema_ledger.entry",
        "DROP TABLE synthema_ledger.entry",
        "DROP SCHEMA synthema_ledger CASCADE",
        "CREATE TABLE synthema_ledger.more ()",
        "CREATE OR REPLACE FUNCTION synthema_ledger.stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "SET session_replication_role = replica",
        "DELETE FROM synthema_ledger.state",
        "DELETE FROM synthema_ledger.balance",
        "UPDATE synthema_ledger.answer SET body = ''",
        "DELETE FROM synthema_ledger.erased",
        "INSERT INTO synthema_ledger.schema_version VALUES (2)",
    ):
        with (
            contextlib.closing(psycopg.connect(own, autocommit=True)) as connection,
            contextlib.suppress(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)
            pytest.fail(f"the role may {statement}")
    with contextlib.closing(psycopg.connect(own, autocommit=True)) as connection:
        # This one warns, and gives nothing.
        connection.execute(f"GRANT DELETE ON synthema_ledger.entry TO {role}")
        query = "SELECT has_table_privilege('synthema_ledger.entry', 'DELETE')"
        assert connection.execute(query).fetchone() == (False,)
    assert verify(url).ok


def test_names_of_roles_are_quoted():
    assert 'TO "a""b; DROP";' in grant_writer('a"b; DROP')
    for bad in ("", "a\x00b"):
        with pytest.raises(ValueError, match="role"):
            grant_writer(bad)


# Scripts


def test_the_schema_hash_is_in_the_journal_and_changes_with_the_scripts(url, monkeypatch):
    with open_ledger(url) as ledger:
        assert ledger.entries()[0].body["schema"] == schema_hash()
    assert schema_hash().startswith("postgres-1:")
    assert len(schema_hash()) == len("postgres-1:") + 64
    before = schema_hash()
    monkeypatch.setattr(_postgres_schema, "MIGRATIONS", ((1, ("SELECT 1",)),))
    assert schema_hash() != before


def second_script(monkeypatch):
    more = (*_postgres_schema.MIGRATIONS, (2, ("CREATE TABLE synthema_ledger.more (x integer PRIMARY KEY)",)))
    columns = _postgres_schema._COLUMNS | {"more": ("x integer",)}
    monkeypatch.setattr(_postgres_schema, "_COLUMNS", columns)
    monkeypatch.setattr(_postgres_schema, "_CONSTRAINTS", (*_postgres_schema._CONSTRAINTS, "more_pkey PRIMARY KEY (x)"))
    monkeypatch.setattr(_postgres_schema, "MIGRATIONS", more)
    monkeypatch.setattr(_postgres_schema, "VERSION", 2)


def test_a_newer_software_brings_an_old_ledger_up_to_date_once_and_the_journal_says_so(
    url, writer, sql, answer_key, monkeypatch
):
    sql(grant_writer(writer[0]))
    second_script(monkeypatch)
    assert not verify(url).ok
    # A writer may not; the owner does it by opening.
    with pytest.raises(LedgerUnavailable, match="owner"):
        open_ledger(writer[1])
    for _ in range(2):
        with open_ledger(url, answer_key=answer_key) as ledger:
            assert [entry.body["schema"] for entry in ledger.entries() if "schema" in entry.body][1:] == [schema_hash()]
    assert verify(url).problems == ()
    monkeypatch.undo()
    # And an older software says that it is too old.
    with pytest.raises(LedgerCorrupt, match="scripts"):
        open_ledger(url)


def test_a_script_that_does_not_make_what_it_should_is_rolled_back(url, monkeypatch):
    columns = _postgres_schema._COLUMNS
    second_script(monkeypatch)
    monkeypatch.setattr(_postgres_schema, "_COLUMNS", columns)
    with pytest.raises(LedgerCorrupt, match="extra"):
        open_ledger(url)
    monkeypatch.undo()
    assert verify(url).ok


def test_a_database_that_is_restored_from_a_backup_is_seen_by_the_anchor(server, url, answer_key, tmp_path):
    from postgres_server import database_of

    options = {"answer_key": answer_key, "anchor": tmp_path / "anchor"}
    with open_ledger(url, **options) as ledger:
        ledger.note("before the backup")
    server.execute(f"CREATE DATABASE b{time.monotonic_ns()} TEMPLATE {database_of(url)}")
    (backup,) = server.execute("SELECT max(datname) FROM pg_database WHERE datname ~ '^b[0-9]+$'")[0]
    with open_ledger(url, **options) as ledger:
        ledger.note("after it")
    with pytest.raises(LedgerRestored):
        open_ledger(server.url(backup), **options)


# What the server must promise


@contextlib.contextmanager
def server_with(server, name, value):
    def wait_for(expected):
        for _ in range(200):
            if expected(server.execute(f"SHOW {name}")[0][0]):
                return
            time.sleep(0.02)
        pytest.fail("the server does not take the setting")

    before = server.execute(f"SHOW {name}")[0][0]
    server.execute(f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
    try:
        wait_for(lambda now: now != before)
        yield
    finally:
        server.execute("SET synchronous_commit = local", f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")
        wait_for(lambda now: now == before)


def test_a_server_that_forgets_what_it_acknowledged_is_refused(server, url, answer_key):
    with open_ledger(url, answer_key=answer_key) as ledger:
        before = ledger.entries()
        # fsync of the command line cannot be changed in a running server; this is its neighbour.
        with server_with(server, "full_page_writes", "off"):
            with pytest.raises(LedgerUnavailable, match="full_page_writes = off"):
                ledger.note("x")
            with pytest.raises(LedgerUnavailable, match="full_page_writes = off"):
                open_ledger(url)
        with server_with(server, "synchronous_commit", "off"), pytest.raises(LedgerUnavailable, match="commit = off"):
            open_ledger(url)
        assert ledger.entries() == before
        ledger.note("x")


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
def test_each_setting_is_looked_at(url, setting):
    link = PostgresStore(url)._link
    values = ["off" if name == setting else "on" for name in ("fsync", "synchronous_commit", "full_page_writes")]
    with pytest.raises(LedgerUnavailable, match=f"{setting} = off"):
        link.check_durable(values)
    link.check_durable(["on", "remote_apply", "on"])


def test_a_client_that_asks_for_fast_commits_is_refused(url):
    with pytest.raises(LedgerUnavailable, match="synchronous_commit"):
        open_ledger(url + "&options=-csynchronous_commit%3Doff")
    with open_ledger(url + "&options=-csynchronous_commit%3Dlocal") as ledger:
        assert ledger._journal.store._open().execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_commit_that_no_standby_confirmed_is_not_acknowledged(server, url, answer_key, monkeypatch):
    monkeypatch.setattr(_postgres_link, "STATEMENT_SECONDS", 1.0)
    with open_ledger(url, answer_key=answer_key) as ledger:
        ghost = server_with(server, "synchronous_standby_names", "'ghost'")
        with ghost, pytest.raises(LedgerUnavailable, match="standby"):
            ledger.reserve("aml", ONE, key="3", purpose="p")
        # It was written here all the same: the same key takes it up.
        ledger.reserve("aml", ONE, key="3", purpose="p").start()
        assert [entry.body["key"] for entry in ledger.entries() if entry.kind == "reserve"].count("3") == 1
    assert verify(url).ok


def test_a_standby_or_a_read_only_server_is_no_place_to_spend(url):
    with open_ledger(url) as ledger:
        store = ledger._journal.store
        with pytest.raises(LedgerUnavailable, match="primary"), store.reading():
            store.put_states([("x", b"")])


def test_another_encoding_is_refused(server):
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(LedgerUnavailable, match="UTF8"):
        open_ledger(server.url("latin"))


# What errors say


def everything_said(error):
    said = ""
    while error is not None:
        said += f"{error} {error!r} "
        error = error.__cause__
    return said


def test_no_error_repr_or_name_holds_a_password(server, url, monkeypatch):
    from postgres_server import PASSWORD, database_of

    name = database_of(url)
    urls = [
        server.url(name, password="wr0ng:pass@word"),
        server.url("no_such_database"),
        server.url(name, user="nobody"),
        f"postgresql://keeper:wr0ng%3Apass%40word@127.0.0.1:1/{name}",
        f"postgresql://keeper@127.0.0.1:1/{name}?password=wr0ng%3Apass%40word",
        f"postgresql://keeper:wr0ng:pass@word@127.0.0.1:1/{name}",
        f"postgresql://keeper:wr0ng%zz@127.0.0.1:1/{name}",
        f"postgresql://keeper:wr0ng/pass@127.0.0.1:1/{name}",
        f"postgresql://keeper:wr0ng@127.0.0.1:wr0ng/{name}",
        "postgresql://keeper:wr0ng@[/x",
        f"postgresql://keeper:wr0ng@127.0.0.1:1/{name}?nonsense=1",
        "postgresql://keeper:wr0ng@127.0.0.1:1",
    ]
    for each in urls:
        with pytest.raises((LedgerError, ValueError)) as caught:
            open_ledger(each)
        said = everything_said(caught.value)
        with contextlib.suppress(ValueError):
            said += str(verify(each))
        for secret in (PASSWORD, "wr0ng", "pass@word", "s3cret"):
            assert secret not in said, each
    store = PostgresStore(url)
    assert store.name.startswith(name)
    for text in (store.name, repr(store), repr(store._link)):
        assert "s3cret" not in text
    monkeypatch.setattr(store._link, "_psycopg", psycopg)
    said = str(store._link.translated(psycopg.OperationalError(f"cannot connect with {PASSWORD}")))
    assert "***" in said
    assert PASSWORD not in said


def test_details_of_the_servers_errors_which_quote_rows_are_left_out(url):
    store = PostgresStore(url)
    with contextlib.closing(store), pytest.raises(LedgerCorrupt) as caught, store.writing():
        store._open().execute("UPDATE synthema_ledger.balance SET charged = most + 1")
    assert "Failing row" not in everything_said(caught.value)


def test_without_psycopg_the_error_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerUnavailable, match=r"synthema\[postgres\]"):
        open_ledger("postgresql://localhost/ledger")
    assert any("synthema[postgres]" in problem for problem in verify("postgresql://localhost/ledger").problems)


def test_a_schema_of_the_same_name_that_is_no_ledger_is_left_alone(server, database):
    from postgres_server import database_of

    server.execute("CREATE SCHEMA synthema_ledger", database=database_of(database))
    with pytest.raises(LedgerCorrupt):
        open_ledger(database)
    assert not verify(database).ok


def test_a_database_without_a_ledger_is_a_problem_to_verify_and_stays_empty(server, database):
    from postgres_server import database_of

    assert not verify(database).ok
    found = server.execute(
        "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'synthema'", database=database_of(database)
    )
    assert found == [(0,)]
