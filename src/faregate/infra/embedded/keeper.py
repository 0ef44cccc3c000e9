"""Keeps embedded servers running beside a long-lived process, and says which ones have to be embedded at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from faregate.infra.embedded import ServerName, start_again
from faregate.infra.embedded.kafka import start_kafka_again
from faregate.infra.periodic import run_periodically

_log = structlog.get_logger(__name__)
WATCH_S = 0.5


def unnamed_servers(*, database_url: str | None, valkey_url: str | None) -> frozenset[ServerName]:
    """Return the servers that no URL names: these have to be embedded ones."""
    urls: dict[ServerName, str | None] = {"postgres": database_url, "valkey": valkey_url}
    return frozenset(name for name, url in urls.items() if not url)


@asynccontextmanager
async def servers_kept_running(
    home: Path, *, wanted: Collection[ServerName], end_with_us: bool = False
) -> AsyncIterator[None]:
    """Start those embedded servers of `home` again whenever one dies. Only within `embedded_servers` of them."""

    def start() -> tuple[str, ...]:
        return start_again(home, wanted=wanted, end_with_us=end_with_us)

    async with _kept_running("embedded servers", start):
        yield


@asynccontextmanager
async def kafka_kept_running(home: Path, *, end_with_us: bool = False) -> AsyncIterator[None]:
    """Start the embedded broker of `home` again whenever it dies. Only within `embedded_kafka` of it."""

    def start() -> tuple[str, ...]:
        return ("kafka",) if start_kafka_again(home, end_with_us=end_with_us) else ()

    async with _kept_running("embedded Kafka", start):
        yield


@asynccontextmanager
async def _kept_running(name: str, start: Callable[[], tuple[str, ...]]) -> AsyncIterator[None]:
    stop = asyncio.Event()

    async def watch() -> None:
        started = await asyncio.to_thread(start)
        if started:
            _log.warning("embedded_servers_died", started_again=started)

    keeper = asyncio.create_task(run_periodically(stop, name=name, every_s=WATCH_S, work=watch))
    try:
        yield
    finally:
        stop.set()
        await keeper
