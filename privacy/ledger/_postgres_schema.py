"""What a ledger is made of in PostgreSQL: numbered scripts, and the catalog that they must have left behind.

entry, answer, erased, state   as in SQLite (`_sqlite`)
balance                        per account, block and amount, in whole units: the cap in force, what is charged and
                               reserved, and `most`, the largest cap that was ever in force (a cap may be lowered below
                               what is spent; nothing ever rises above `most`)
schema_version                 the numbers of the scripts that were run

The journal names the hash of the scripts' text. The catalog itself is compared line by line by `catalog_problems`;
its rendering is that of PostgreSQL 14 to 17 with `search_path` pg_catalog.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

SCHEMA = "synthema_ledger"
# 2**62 or so, so that nobody's own small numbers meet it: the queue of writers, and of those who make the ledger.
QUEUE = 0x53594E4C_45444745

_STAYS = """
BEGIN
  RAISE EXCEPTION '% only grows', TG_TABLE_NAME USING ERRCODE = '23000';
END
"""
_NEXT = """
DECLARE
  last bigint := (SELECT coalesce(max(seq), 0) FROM synthema_ledger.entry);
BEGIN
  IF NEW.seq <= last THEN
    RAISE EXCEPTION 'the entry is there' USING ERRCODE = '23505';
  ELSIF NEW.seq <> last + 1 THEN
    RAISE EXCEPTION 'entries have no gaps' USING ERRCODE = '23000';
  END IF;
  RETURN NEW;
END
"""
_ERASED_ONLY = """
BEGIN
  IF NOT EXISTS (SELECT 1 FROM synthema_ledger.erased WHERE key_digest = OLD.key_digest) THEN
    RAISE EXCEPTION 'answers are for ever' USING ERRCODE = '23000';
  END IF;
  RETURN OLD;
END
"""
_FUNCTIONS = {"erased_only": _ERASED_ONLY, "next_entry": _NEXT, "stays": _STAYS}

# The triggers stop accidents, and whoever is not the owner. The owner can drop them: `verify` sees that. Written as
# `pg_get_triggerdef` renders them.
_TRIGGERS = tuple(
    f"CREATE TRIGGER {name} BEFORE {actions} ON {SCHEMA}.{table} FOR EACH {each} EXECUTE FUNCTION {SCHEMA}.{function}()"
    for name, actions, table, each, function in (
        ("answer_delete", "DELETE", "answer", "ROW", "erased_only"),
        ("answer_stays", "UPDATE OR TRUNCATE", "answer", "STATEMENT", "stays"),
        ("balance_stays", "DELETE OR TRUNCATE", "balance", "STATEMENT", "stays"),
        ("entry_next", "INSERT", "entry", "ROW", "next_entry"),
        ("entry_stays", "DELETE OR UPDATE OR TRUNCATE", "entry", "STATEMENT", "stays"),
        ("erased_stays", "DELETE OR UPDATE OR TRUNCATE", "erased", "STATEMENT", "stays"),
        ("schema_version_stays", "DELETE OR UPDATE OR TRUNCATE", "schema_version", "STATEMENT", "stays"),
        ("state_stays", "DELETE OR TRUNCATE", "state", "STATEMENT", "stays"),
    )
)


def _always(trigger: str) -> str:
    # ALWAYS: also under session_replication_role = replica, which switches ordinary triggers off.
    name, table = trigger.split()[2], trigger.split(" ON ")[1].split(maxsplit=1)[0]
    return f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"


# A script is never changed once a ledger was made with it: the journal names its hash. Changes are new scripts.
MIGRATIONS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        1,
        (
            "CREATE SCHEMA synthema_ledger",
            "CREATE TABLE synthema_ledger.schema_version (version integer PRIMARY KEY)",
            """CREATE TABLE synthema_ledger.entry (
                seq bigint PRIMARY KEY CHECK (seq >= 1),
                body bytea NOT NULL,
                hash bytea NOT NULL CHECK (octet_length(hash) = 32)
            )""",
            "CREATE TABLE synthema_ledger.answer (key_digest bytea PRIMARY KEY, body bytea NOT NULL)",
            "CREATE TABLE synthema_ledger.erased (key_digest bytea PRIMARY KEY)",
            'CREATE TABLE synthema_ledger.state (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)',
            """CREATE TABLE synthema_ledger.balance (
                account text COLLATE "C",
                block text COLLATE "C",
                amount integer,
                cap numeric NOT NULL,
                charged numeric NOT NULL,
                reserved numeric NOT NULL,
                most numeric NOT NULL,
                PRIMARY KEY (account, block, amount),
                CONSTRAINT balance_holds CHECK (charged >= 0 AND reserved >= 0 AND charged + reserved <= most),
                CONSTRAINT balance_most CHECK (cap <= most AND most < 'Infinity')
            )""",
            *(
                f"CREATE FUNCTION synthema_ledger.{name}() RETURNS trigger LANGUAGE plpgsql "
                f"SET search_path = pg_catalog, pg_temp AS $body${body}$body$"
                for name, body in _FUNCTIONS.items()
            ),
            *_TRIGGERS,
            *(_always(trigger) for trigger in _TRIGGERS),
        ),
    ),
)
VERSION = MIGRATIONS[-1][0]

_COLUMNS = {
    "answer": ("key_digest bytea", "body bytea"),
    "balance": (
        'account text "C"',
        'block text "C"',
        "amount integer",
        *(f"{name} numeric" for name in ("cap", "charged", "reserved", "most")),
    ),
    "entry": ("seq bigint", "body bytea", "hash bytea"),
    "erased": ("key_digest bytea",),
    "schema_version": ("version integer",),
    "state": ('name text "C"', "value bytea"),
}
_HOLDS = "((charged >= (0)::numeric) AND (reserved >= (0)::numeric) AND ((charged + reserved) <= most))"
_CONSTRAINTS = (
    "answer_pkey PRIMARY KEY (key_digest)",
    f"balance_holds CHECK ({_HOLDS})",
    "balance_most CHECK (((cap <= most) AND (most < 'Infinity'::numeric)))",
    "balance_pkey PRIMARY KEY (account, block, amount)",
    "entry_hash_check CHECK ((octet_length(hash) = 32))",
    "entry_pkey PRIMARY KEY (seq)",
    "entry_seq_check CHECK ((seq >= 1))",
    "erased_pkey PRIMARY KEY (key_digest)",
    "schema_version_pkey PRIMARY KEY (version)",
    "state_pkey PRIMARY KEY (name)",
)

# One line for each thing in the schema. What is not a plain, logged table without row security is a line of its own:
# an unlogged table is emptied by a crash, row security hides rows, a rule rewrites statements.
_CATALOG_QUERY = """
WITH ours AS (
  SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'synthema_ledger'
)
SELECT concat_ws(' ', 'relation', relname, relkind, relpersistence,
  CASE WHEN relrowsecurity OR relforcerowsecurity THEN 'row security' END,
  CASE WHEN relhasrules THEN 'rules' END, CASE WHEN relispartition THEN 'partition' END)
  FROM ours WHERE relkind NOT IN ('i', 't')
UNION ALL
SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod),
  (SELECT quote_ident(collname) FROM pg_collation l WHERE l.oid = attcollation AND collname <> 'default'),
  CASE WHEN NOT attnotnull THEN 'null' END, CASE WHEN atthasdef OR attidentity <> '' THEN 'default' END)
  FROM ours JOIN pg_attribute ON attrelid = ours.oid
  WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT concat_ws(' ', 'constraint', conname, pg_get_constraintdef(k.oid), CASE WHEN NOT convalidated THEN '?' END)
  FROM ours JOIN pg_constraint k ON conrelid = ours.oid WHERE contype <> 'n'
UNION ALL
SELECT concat_ws(' ', 'trigger', tgenabled, pg_get_triggerdef(t.oid))
  FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal
UNION ALL
SELECT concat_ws(' ', 'function', proname, lanname, prosecdef, proconfig, prosrc)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
  WHERE nspname = 'synthema_ledger'
UNION ALL
SELECT concat_ws(' ', 'index', i.relname, x.indisvalid AND x.indisready)
  FROM ours JOIN pg_index x ON x.indrelid = ours.oid JOIN pg_class i ON i.oid = x.indexrelid WHERE ours.relkind = 'r'
UNION ALL
SELECT concat_ws(' ', 'inheritance of', relname) FROM ours JOIN pg_inherits ON ours.oid IN (inhrelid, inhparent)
UNION ALL
SELECT concat_ws(' ', 'right of others to', privilege_type, relname)
  FROM ours, aclexplode(relacl) WHERE relkind = 'r' AND grantee <> relowner AND NOT (
    privilege_type IN ('SELECT', 'INSERT') OR (privilege_type, relname) IN (
      ('UPDATE', 'state'), ('UPDATE', 'balance'), ('DELETE', 'answer')))
UNION ALL
SELECT concat_ws(' ', 'right of others to', privilege_type, relname, attname)
  FROM ours JOIN pg_attribute ON attrelid = ours.oid, aclexplode(attacl)
  WHERE grantee <> relowner AND NOT (privilege_type IN ('SELECT', 'INSERT') OR relname IN ('state', 'balance'))
"""


def _expected() -> Counter[str]:
    lines = [f"relation {table} r p" for table in _COLUMNS]
    lines += [f"column {table} {column}" for table, columns in _COLUMNS.items() for column in columns]
    lines += [f"constraint {each}" for each in _CONSTRAINTS]
    lines += [f"trigger A {each}" for each in _TRIGGERS]
    # One setting, which holds a comma.
    path = '{"search_path=pg_catalog, pg_temp"}'
    lines += [f"function {name} plpgsql f {path} {body}" for name, body in _FUNCTIONS.items()]
    lines += [f"index {each.split()[0]} t" for each in _CONSTRAINTS if "PRIMARY KEY" in each]
    return Counter(lines)


def catalog_problems(connection: psycopg.Connection[Any]) -> list[str]:
    """Return what is wrong with tables, columns, constraints, triggers, functions and rights; nothing if all is well.

    Raises psycopg.Error.
    """
    versions = [row[0] for row in connection.execute("SELECT version FROM synthema_ledger.schema_version ORDER BY 1")]
    if versions != [version for version, _ in MIGRATIONS]:
        return [f"the schema has the scripts {versions}; this software has scripts 1 to {VERSION}"]
    found, expected = Counter(row[0] for row in connection.execute(_CATALOG_QUERY)), _expected()
    changes = [(line, "is missing") for line in (expected - found)] + [
        (line, "is extra") for line in (found - expected)
    ]
    return [f"the schema was changed: {' '.join(line.split())[:160]} {what}" for line, what in sorted(changes)]


def missing_scripts(connection: psycopg.Connection[Any]) -> list[int]:
    """Return the numbers of the scripts that were not run; none for a schema that is newer. Raises psycopg.Error."""
    row = connection.execute("SELECT max(version) FROM synthema_ledger.schema_version").fetchone()
    last = 0 if row is None or row[0] is None else int(row[0])
    return [version for version, _ in MIGRATIONS if version > last]


def run_scripts(connection: psycopg.Connection[Any]) -> bool:
    """Run, in the transaction that is open, the scripts that were not run; return whether there were any."""
    made = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'synthema_ledger'").fetchone()
    missing = [version for version, _ in MIGRATIONS] if made is None else missing_scripts(connection)
    for version, statements in MIGRATIONS:
        if version in missing:
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO synthema_ledger.schema_version VALUES (%s)", (version,))
    return bool(missing)


def schema_hash() -> str:
    """Return the hash of the scripts, which the journal names: `postgres-1:` and 64 hexadecimal digits."""
    text = "\n".join(f"{version}: {statement}" for version, statements in MIGRATIONS for statement in statements)
    return f"postgres-{VERSION}:{hashlib.sha256(text.encode()).hexdigest()}"


def grant_writer(role: str) -> str:
    """Return the SQL that lets a role write this ledger and never change or remove an entry; the owner runs it.

    The role then opens the ledger like the owner does; it cannot make one, nor drop triggers. The site's service
    should be such a role, and the owner's password should be elsewhere.

    Examples
    --------
    >>> print(grant_writer("spender").splitlines()[0])
    GRANT USAGE ON SCHEMA synthema_ledger TO "spender";
    """
    if not role or "\x00" in role:
        raise ValueError("role must be the name of a role, not empty")
    name = '"' + role.replace('"', '""') + '"'
    on = f"ON synthema_ledger.{{}} TO {name};"
    rights = (
        ("SELECT", "schema_version"),
        *(("SELECT, INSERT", table) for table in ("entry", "erased")),
        ("SELECT, INSERT, DELETE", "answer"),
        *(("SELECT, INSERT, UPDATE", table) for table in ("state", "balance")),
    )
    lines = [f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name};"]
    lines += [f"GRANT {right} {on.format(table)}" for right, table in rights]
    return "\n".join(lines) + "\n"
