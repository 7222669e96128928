"""What somebody who owns a ledger's file can do to it: lift the triggers, change rows, seal a history anew."""

from __future__ import annotations

import json
from pathlib import Path

from privacy.ledger import verify
from privacy.ledger._sqlite_library import connect
from privacy.ledger.books import Books
from privacy.ledger.chain import START, entry_hash
from privacy.ledger.rules import BrokenRule, Replay


def check(path, **more):
    return verify(f"sqlite:///{path}", **more)


class Open:
    """The file in the hands of its owner: triggers lifted, and put back as they were."""

    def __init__(self, path):
        self.connection = connect(
            Path(path), "rw", 5.0
        )  # the process's own: two libraries would not see each other's locks
        self.connection.execute("PRAGMA synchronous = OFF")

    def __enter__(self):
        self.triggers = self.connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in self.triggers:
            self.connection.execute(f"DROP TRIGGER {name}")
        return self.connection

    def __exit__(self, *_):
        for _, sql in self.triggers:
            self.connection.execute(sql)
        self.connection.close()


def entries(path):
    with Open(path) as db:
        return [tuple(row) for row in db.execute("SELECT seq, body, hash FROM entry ORDER BY seq")]


def reseal(path, bodies):
    """Rewrite the whole history with hashes that fit: what somebody who owns the file can do."""
    with Open(path) as db:
        db.execute("DELETE FROM entry")
        head = START
        for seq, body in enumerate(bodies, start=1):
            data = body if isinstance(body, bytes) else canonical(body)
            head = entry_hash(head, data)
            db.execute("INSERT INTO entry VALUES (?, ?, ?)", (seq, data, head))
        rewrite_states(db)


def rewrite_states(db):
    """Keep beside the entries what they imply, as far as they imply anything."""
    bodies = dict(db.execute("SELECT seq, body FROM entry"))
    books = Books()
    replay = Replay(books, bodies.__getitem__)
    for row in db.execute("SELECT seq, body, hash FROM entry ORDER BY seq").fetchall():
        try:
            replay.extend(*row)
        except (BrokenRule, KeyError):
            break
    db.execute("DELETE FROM state")
    db.executemany("INSERT INTO state VALUES (?, ?)", books.documents())


def canonical(body):
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def documents(path):
    return [json.loads(body) for _, body, _ in entries(path)]


def numbered(bodies):
    return [body | {"seq": seq} for seq, body in enumerate(bodies, start=1)]


def change(bodies, place, **fields):
    return [body | fields if body["seq"] == place else body for body in bodies]
