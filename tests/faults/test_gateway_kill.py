"""A pool's process is killed or stopped at each boundary: the check still ends, with one executed pull."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from faregate.gateway import api
from faregate.gateway.intent import NewIntent
from faregate.infra.database import Database
from tests.conftest import OpenDatabase
from tests.faults.gateway_process import TABLES, table_pool


@dataclass
class Ground:
    """One declared check, its database, and questions to the truth in it."""

    url: str
    database: Database
    truth: psycopg.Connection[Any]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.truth.execute(query).fetchall()

    def pulls(self) -> list[str]:
        return [row[0] for row in self.rows("select provider_request_id from public.pull")]

    def told(self) -> list[tuple[Any, ...]]:
        return self.rows("select status, by from public.told")

    def is_sending(self) -> bool:
        return bool(self.rows("select from gateway.intent where state = 'sending'"))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - conditions here are rows of other processes
                await asyncio.sleep(0.01)

    @contextmanager
    def process(self, mode: str) -> Iterator[subprocess.Popen[str]]:
        """A process with a pool, which is gone at the end whatever the test did to it."""
        command = [sys.executable, "-m", "tests.faults.gateway_process", self.url, "first", mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @asynccontextmanager
    async def second_pool(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        pool = table_pool(self.database, url=self.url, name="second", mode="answers")
        running = asyncio.create_task(pool.run(stop))
        yield
        stop.set()
        await running


@pytest.fixture
async def ground(database_url: str, open_database: OpenDatabase) -> AsyncIterator[Ground]:
    database = await open_database("credit")
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    intent = NewIntent(subject_id="app_1", check="bureau", provider="bureau", deadline=deadline)
    async with database.transaction() as conn:
        await api.declare(conn, [intent])
    with psycopg.connect(database_url, autocommit=True) as truth:
        truth.execute(TABLES)
        yield Ground(database_url, database, truth)


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C28")
@pytest.mark.parametrize("mode", ["before", "after", "recorded"])
async def test_after_kill_9_the_check_ends_with_one_executed_pull(ground: Ground, mode: str) -> None:
    with ground.process(mode) as process:
        await ground.until(ground.is_sending if mode == "before" else lambda: bool(ground.pulls()))
        process.kill()
    async with ground.second_pool():
        await ground.until(lambda: bool(ground.told()))
    assert ground.pulls() == ["app_1:bureau:2" if mode == "before" else "app_1:bureau:1"]
    assert ground.told() == [("done", "second")]


@pytest.mark.requirement("C23")
async def test_a_stopped_process_that_wakes_up_later_can_neither_send_nor_record(ground: Ground) -> None:
    with ground.process("after") as process:
        await ground.until(lambda: bool(ground.pulls()))
        os.kill(process.pid, signal.SIGSTOP)
        async with ground.second_pool():
            await ground.until(lambda: bool(ground.told()))
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert output.splitlines()[-1] == "refused 1"
    assert (ground.pulls(), ground.told()) == (["app_1:bureau:1"], [("done", "second")])


@pytest.mark.requirement("C23")
async def test_a_process_stopped_before_its_send_does_not_send_after_it(ground: Ground) -> None:
    with ground.process("before") as process:
        await ground.until(ground.is_sending)
        os.kill(process.pid, signal.SIGSTOP)
        async with ground.second_pool():
            await ground.until(lambda: bool(ground.told()))
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        process.communicate(timeout=20)
    assert ground.pulls() == ["app_1:bureau:2"]
