"""Who leads and cannot work tries again with growing pauses, though the lease is there to be had each time."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from faregate.infra.database import Connection
from faregate.infra.eventlog.leadership import LeadershipLost, Progress, lead_in_turn
from faregate.kernel.errors import UnavailableError
from tests.conftest import OpenDatabase


async def test_pauses_grow_while_the_work_fails_and_begin_again_after_progress(
    open_database: OpenDatabase,
) -> None:
    stays = 0
    stop = asyncio.Event()

    async def acquire(conn: Connection) -> int:
        return 1

    async def lead(conn: Connection, lease: int, stop: asyncio.Event, progressed: Progress) -> None:
        nonlocal stays
        stays += 1
        if stays == 5:
            progressed()
        if stays == 7:
            stop.set()
        raise LeadershipLost("shut out") if stays % 2 else UnavailableError("what the work needs is away")

    database = await open_database("eventlog")
    with structlog.testing.capture_logs() as lines:
        await lead_in_turn(
            stop, name="test", holder="me", lease_s=1, database=database, acquire=acquire, lead=lead
        )
    assert pauses(lines) == [0.1, 0.2, 0.4, 0.8, 0.1, 0.2, 0.4]


def pauses(lines: list[Any]) -> list[float]:
    return [line["retry_s"] for line in lines if "retry_s" in line]
