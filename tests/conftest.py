"""Real servers for every test: one PostgreSQL and one Valkey a session, one database a test."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from pydantic import SecretStr

from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.embedded import Servers, embedded_servers
from faregate.infra.embedded.kafka import embedded_kafka
from faregate.infra.kafka import KafkaAddress
from faregate.infra.migrations import migrate
from faregate.infra.settings import ENV_PREFIX, Settings
from faregate.infra.telemetry import logs
from tests.servers import VOLATILE, require_kafka

OpenDatabase = Callable[..., Awaitable[Database]]

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs inside a test logs to its captured output, which is closed when the next test logs."""
    monkeypatch.setattr(logs, "_request_lines", logs._request_lines)
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, logs._ToStructlog)]


# To copy a database is to make a thousand small files: in memory that takes half as long.
MEMORY = Path("/dev/shm")


def _in_memory() -> Path | None:
    """Return where files are kept in memory, if there is room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 1024**3 else None


# Fault tests, which need durable commits or kill servers, run their own: tests/servers.py.
@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with (
        tempfile.TemporaryDirectory(prefix="faregate-tests-", dir=_in_memory()) as folder,
        embedded_servers(Path(folder) / "home", postgres_settings=VOLATILE, end_with_us=True) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def postgres_url(servers: Servers) -> str:
    """The migrated template: do not connect to it in a test, clones of it need it unused."""
    migrate(servers.database_url)
    return servers.database_url


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """The URL of a fresh, migrated, empty database, as the superuser."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_url.replace("/faregate?", "/postgres?"), autocommit=True) as server:
        server.execute(f"create database {name} template faregate strategy file_copy")
        yield postgres_url.replace("/faregate?", f"/{name}?")
        server.execute(f"drop database {name} with (force)")


@pytest.fixture
async def open_database(database_url: str) -> AsyncIterator[OpenDatabase]:
    """`await open_database("credit")` gives a Database that acts as `faregate_credit`."""
    opened: list[Database] = []

    async def open_one(part: str, *, connections_max: int = 10) -> Database:
        opened.append(
            await Database.open(database_url, role=f"faregate_{part}", connections_max=connections_max)
        )
        return opened[-1]

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture(scope="session")
def valkey_socket(servers: Servers) -> Path:
    return servers.valkey_socket


@pytest.fixture
async def cache(valkey_socket: Path) -> AsyncIterator[Cache]:
    """An open Cache on an empty Valkey."""
    opened = await Cache.open(f"unix://{valkey_socket}", request_timeout_ms=5_000)
    await opened.clear()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The address of a broker that tests share: each makes topics and groups of its own."""
    require_kafka()
    with (
        tempfile.TemporaryDirectory(prefix="faregate-tests-") as folder,
        embedded_kafka(Path(folder) / "home", end_with_us=True) as bootstrap,
    ):
        yield bootstrap


@pytest.fixture(scope="session")
def kafka_address(kafka: str) -> KafkaAddress:
    return KafkaAddress(bootstrap=kafka)


@pytest.fixture(scope="module")
def bus_of_module() -> Mapping[str, Any]:
    """The settings of the bus that carries a module's events: none, for the log in PostgreSQL."""
    return {}


@pytest.fixture
def settings(
    tmp_path: Path, database_url: str, valkey_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings that point at this test's database and Valkey, blind to the environment and to `.env`."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        database_url=SecretStr(database_url),
        valkey_url=SecretStr(f"unix://{valkey_socket}"),
    )
