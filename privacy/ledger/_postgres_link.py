"""A connection to the PostgreSQL server that keeps a ledger: how it is opened, what it must promise, and its errors.

A password is in the URL and nowhere else: not in names, errors or what they were caused by.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from privacy.errors import LedgerCorrupt, LedgerError
from privacy.ledger.errors import LedgerUnavailable

if TYPE_CHECKING:
    import psycopg

_PREFIX = "postgresql://"
_LEAST_SERVER = 140000
# A dead client must not block the others for ever: how long one waits for the others, how long a statement may take,
# and how long a client may stay silent in the middle of a transaction before the server ends its session.
LOCK_SECONDS = 30.0
STATEMENT_SECONDS = 60.0
IDLE_SECONDS = 30.0
CONNECT_SECONDS = 10
_UNCONFIRMED = "was not confirmed by its standby: it is there, and may be lost if the server fails over"

# Conditions (SQLSTATE) that say that what is stored is not as we left it.
_CORRUPT = ("23", "22", "42P01", "42703", "42883", "3F000", "XX001", "XX002")


def driver() -> ModuleType:
    """Return psycopg. Raises LedgerUnavailable, with the way out, if it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise LedgerUnavailable(
            "a ledger in PostgreSQL needs psycopg 3, which is not installed: pip install 'synthema[postgres]'"
        ) from error
    return psycopg


class Link:
    """How to reach the server of a URL, `postgresql://user:password@host:port/database?option=value`.

    name   host and database: what errors call the ledger

    Raises
    ------
    ValueError
        It is no such URL. The error does not repeat it: a password may be anywhere in it.
    LedgerUnavailable
        psycopg is not installed.
    """

    def __init__(self, url: str) -> None:
        self._psycopg = driver()
        self.errors: tuple[type[psycopg.Error], type[OSError]] = (self._psycopg.Error, OSError)
        bad = ValueError(
            "a ledger's URL is postgresql://user:password@host:port/database; a password's special characters (@ : / "
            "? # %) are percent-encoded"
        )
        try:
            netloc = urlsplit(url).netloc
            parts = self._psycopg.conninfo.conninfo_to_dict(url)
        except (ValueError, self._psycopg.Error):
            raise bad from None
        # libpq would take a part of a password that is not encoded for a host or a port, and name it in its errors.
        torn = url.count("@") > netloc.count("@") or netloc.count("@") > 1
        port = str(parts.get("port") or "0").replace(",", "")
        if not url.startswith(_PREFIX) or torn or not port.isdecimal() or not parts.get("dbname"):
            raise bad
        self._parts: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "synthema-ledger",
        } | parts
        secrets = [str(parts[name]) for name in ("password", "sslpassword") if parts.get(name)]
        raw = netloc.rpartition("@")[0].partition(":")[2]
        self._secrets = sorted({each for each in (*secrets, raw, unquote(raw)) if each}, key=len, reverse=True)
        where = ":".join(str(parts[name]) for name in ("host", "port") if parts.get(name))
        self.name = f"{parts['dbname']} on {where or 'the local server'}"

    def __repr__(self) -> str:
        return f"Link({self.name!r})"

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection in which each statement is its own transaction, until BEGIN.

        Raises
        ------
        LedgerUnavailable
            The server cannot be reached, is too old, or does not promise that what it commits is on the disk.
        """
        driver = self._psycopg
        try:
            connection: psycopg.Connection[Any] = driver.connect(**self._parts, autocommit=True)
        except driver.Error as error:
            raise self.translated(error) from None
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, driver.Error):
                raise self.translated(error) from None
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        # Nothing in front of the system's own names; and times in milliseconds.
        settings = {"search_path": "pg_catalog, pg_temp", "client_min_messages": "warning"}
        seconds = {"lock": LOCK_SECONDS, "statement": STATEMENT_SECONDS, "idle_in_transaction_session": IDLE_SECONDS}
        settings |= {f"{name}_timeout": str(round(1000 * value)) for name, value in seconds.items()}
        for name, text in settings.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, text))
        if connection.info.server_version < _LEAST_SERVER:
            raise LedgerUnavailable(f"{self.name}: the server is older than PostgreSQL 14: use a newer one")
        if connection.info.parameter_status("server_encoding") != "UTF8" or connection.info.encoding != "utf-8":
            raise LedgerUnavailable(f"{self.name}: make the database, and connect, with the encoding UTF8")
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'), "
            "current_setting('full_page_writes')"
        ).fetchone()
        self.check_durable(row or ())
        if row is not None and row[1] != "remote_apply":
            connection.execute("SET synchronous_commit = on")

    def check_durable(self, settings: Sequence[str]) -> None:
        """Raise LedgerUnavailable if a setting says that a commit may be forgotten in a power cut."""
        for name, value in zip(("fsync", "synchronous_commit", "full_page_writes"), settings, strict=True):
            if value == "off":
                raise LedgerUnavailable(
                    f"{self.name}: the server has {name} = off, so that it can forget a charge that it acknowledged: "
                    "nothing is spent until it is on"
                )

    @contextlib.contextmanager
    def limited(self, connection: psycopg.Connection[Any], *, standby: bool) -> Iterator[None]:
        """Let a commit wait for a synchronous standby no longer than a statement: the server sets that wait no limit.

        The server then warns that the commit is here and perhaps nowhere else.
        """
        if not standby:
            yield
            return
        timer = threading.Timer(STATEMENT_SECONDS, connection.cancel_safe)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            # A cancellation that is on its way must not meet the next statement.
            timer.join()

    def translated(self, error: psycopg.Error | OSError) -> LedgerError:
        """Return what an error of the driver means to a ledger. Its details, which may quote rows, are left out."""
        psycopg = self._psycopg
        state, primary = "", None
        if not isinstance(error, OSError):
            state, primary = error.sqlstate or "", error.diag.message_primary
        said = (primary or f"{error}" or type(error).__name__).strip()
        for secret in self._secrets:
            said = said.replace(secret, "***")
        if state == "23505":
            return LedgerUnavailable(
                f"{self.name}: somebody wrote the same entry or answer at the same time, without waiting in the queue; "
                "nothing of ours was written: try again with the same key"
            )
        if state == "55P03":
            return LedgerUnavailable(
                f"{self.name}: another session has held the journal for {LOCK_SECONDS:g} seconds; nothing was written: "
                "look for it in pg_stat_activity (application_name synthema-ledger), end it with pg_terminate_backend, "
                "and try again with the same key"
            )
        if state == "42501":
            return LedgerUnavailable(f"{self.name}: {said}: the owner grants a role its rights (`grant_writer`)")
        if state == "25006":
            return LedgerUnavailable(f"{self.name}: {said}: this is a standby, or read-only: use the primary server")
        if state.startswith(_CORRUPT) or isinstance(error, psycopg.DataError):
            return LedgerCorrupt(f"{self.name} is not as this software left it: {said}; see verify")
        return LedgerUnavailable(
            f"{self.name} could not be read or written ({said}); what was not acknowledged is there as a whole or not "
            "at all: mend the server or the way to it, and try again with the same key"
        )

    def unconfirmed(self) -> LedgerUnavailable:
        """Return the error for a commit that a synchronous standby did not confirm."""
        return LedgerUnavailable(f"{self.name}: what was written {_UNCONFIRMED}; try again with the same key")
