"""A PostgreSQL server for tests: made in a folder of its own, on a unix socket alone, and stopped by its process id.

`initdb` is looked for in PATH and where Debian puts it. It refuses to run as root: then the server runs as the user
`postgres`, or `nobody`. fsync stays on: what is tested is durable.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

REQUIRE = "SYNTHEMA_REQUIRE_POSTGRES"
PASSWORD = "s3cret:of the@owner"
STARTS_WITHIN_SECONDS = 60.0
STOPS_WITHIN_SECONDS = 30.0


def missing() -> str | None:
    """Why there can be no server here, or None."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    return None if binaries() else "no initdb in PATH or /usr/lib/postgresql"


def binaries() -> Path | None:
    found = [Path(os.path.realpath(each)).parent for each in [shutil.which("initdb")] if each]
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next(
        (path for path in [*found, *places] if (path / "initdb").exists() and (path / "postgres").exists()), None
    )


class Server:
    """A running server. `database()` makes an empty one and returns its URL; `owner` and `url` name the superuser's."""

    owner = "keeper"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = binaries()
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self._process: subprocess.Popen | None = None
        self.data = folder / "data"
        self._free: list[str] = []

    def start(self) -> None:
        import psycopg

        password = self.folder / "password"
        password.write_text(PASSWORD + "\n")
        if self._user is not None:
            for path in (self.folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={self.owner}"]
        self._run("initdb", "--pgdata", self.data, f"--pwfile={password}", "--data-checksums", *options)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "80",
            "fsync": "on",
            "shared_buffers": "64MB",
        }
        command = [self._bin / "postgres", "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", **self._as_user()
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # At once: an orderly shutdown syncs every file of every test's database before they are removed.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOPS_WITHIN_SECONDS)

    def url(self, database="postgres", user=owner, password=PASSWORD, **options):
        from urllib.parse import quote

        more = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        host = quote(str(self.folder), safe="")
        return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={host}" + (more and "&" + more)

    def connect(self, database="postgres"):
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, *statements, database="postgres"):
        """Run statements as the superuser; return the rows of the last."""
        with contextlib.closing(self.connect(database)) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def database(self) -> str:
        if self._free:
            return self.url(self._free.pop())
        name = f"ledger_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Empty a database for the next test: a thousand files that need not be made, and removed, again."""
        name = database_of(url)
        self.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        self.execute(
            "DROP SCHEMA IF EXISTS synthema_ledger CASCADE",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            database=name,
        )
        self._free.append(name)

    def _as_user(self):
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, program, *arguments):
        done = subprocess.run(
            [self._bin / program, *arguments], capture_output=True, text=True, check=False, cwd="/", **self._as_user()
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")


def _unprivileged():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("root needs a user postgres or nobody: a server refuses to run as root")


@contextlib.contextmanager
def running():
    """Give a server; skip the test if there can be none, or fail where the environment says that there must."""
    if (reason := missing()) is not None:
        (pytest.fail if os.environ.get(REQUIRE) == "1" else pytest.skip)(f"no PostgreSQL server: {reason}")
    # Not below pytest's folder, which is closed to other users; and short: a socket's path has 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def database_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


if __name__ == "__main__":
    print(missing() or "a server can run", file=sys.stderr)
