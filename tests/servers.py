"""Servers of one's own that a fault test may kill: durable commits, real recovery, nobody else disturbed."""

from __future__ import annotations

import atexit
import itertools
import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from faregate.infra.embedded import embedded_servers, processes, servers_of
from faregate.infra.embedded.kafka import embedded_kafka, kafka_of, why_no_kafka
from faregate.infra.migrations import migrate

# Nothing of such a server survives the test session, so nothing need reach the disk.
VOLATILE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "128MB"}

KAFKA_IS_DEMANDED = os.environ.get("KAFKA_TESTS") == "required"
"""Continuous integration sets it: there a missing Java or Maven is a failure, not a reason to skip."""


_numbers = itertools.count(1)


class Server(Protocol):
    def pid(self) -> int | None: ...
    def ensure_running(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Breakable:
    """A server under a test's hands."""

    server: Server

    def kill9(self) -> None:
        """Kill the server and return when it is gone."""
        pid = self.server.pid()
        assert pid is not None, "the server does not run"
        os.kill(pid, signal.SIGKILL)
        assert processes.wait_for(lambda: not processes.is_alive(pid), timeout_s=10)

    def start(self) -> None:
        """Start it, or recover it after a kill."""
        self.server.ensure_running()

    def restart(self) -> None:
        """Stop it in order and start it again; clients lose their connections."""
        self.server.stop()
        self.server.ensure_running()

    def is_running(self) -> bool:
        return self.server.pid() is not None


@dataclass(frozen=True)
class OwnServers:
    """The running pair, with what a test needs to reach and to break it."""

    home: Path
    database_url: str
    valkey_socket: Path
    postgres: Breakable
    valkey: Breakable


def free_ports(count: int) -> int:
    """Return the first of so many ports that nobody listens on, below those that connections get by themselves."""
    while True:
        first = random.randrange(10_000, 30_000)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


@contextmanager
def new_database(postgres_url: str) -> Iterator[str]:
    """Yield the URL of a fresh, migrated, empty database on the server of the template `faregate`."""
    name = f"own_{next(_numbers)}"
    with psycopg.connect(postgres_url.replace("/faregate?", "/postgres?"), autocommit=True) as server:
        server.execute(f"create database {name} template faregate strategy file_copy")
        yield postgres_url.replace("/faregate?", f"/{name}?")
        server.execute(f"drop database {name} with (force)")


@contextmanager
def own_servers(home: Path, *, migrated: bool = True) -> Iterator[OwnServers]:
    """Run a pair of servers in `home` for one test. A server that the test left dead is no error."""
    if not home.exists():
        copy_of_used_home(home, migrated=migrated)
    with embedded_servers(home, end_with_us=True) as running:
        postgres, valkey = servers_of(home.absolute(), end_with_us=True)
        yield OwnServers(
            home=home,
            database_url=running.database_url,
            valkey_socket=running.valkey_socket,
            postgres=Breakable(postgres),
            valkey=Breakable(valkey),
        )


@dataclass(frozen=True)
class OwnKafka:
    """The running broker, with what a test needs to reach and to break it."""

    home: Path
    bootstrap: str
    kafka: Breakable


@contextmanager
def own_kafka(home: Path) -> Iterator[OwnKafka]:
    """Run a broker in `home` for one test. A broker that the test left dead is no error."""
    require_kafka()
    with embedded_kafka(home, end_with_us=True) as bootstrap:
        yield OwnKafka(
            home=home, bootstrap=bootstrap, kafka=Breakable(kafka_of(home.absolute(), end_with_us=True))
        )


def require_kafka() -> None:
    """Skip the test where no broker can run, with the reason; fail it instead where that is demanded."""
    if missing := why_no_kafka():
        (pytest.fail if KAFKA_IS_DEMANDED else pytest.skip)(missing)


def copy_of_used_home(home: Path, *, migrated: bool) -> None:
    """Put a home there whose servers ran before: copying one is quicker than making it."""
    shutil.copytree(_used_home(migrated=migrated), home, ignore=shutil.ignore_patterns("run"))


@cache
def _used_home(*, migrated: bool) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faregate-used-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    home = folder / "home"
    if migrated:
        copy_of_used_home(home, migrated=False)
    with embedded_servers(home, postgres_settings=VOLATILE, end_with_us=True) as servers:
        if migrated:
            migrate(servers.database_url)
    return home
