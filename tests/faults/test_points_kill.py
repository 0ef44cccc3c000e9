"""Processes of the ledger are killed and PostgreSQL with them, under load: what was answered is there, all adds up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from faregate.infra.database import Database
from faregate.points.contracts.ledger import Operation
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from tests.faults.points_process import number_of, request_of
from tests.servers import own_servers

MEMBERS = [f"mbr_{number}" for number in range(5)]
ROUNDS = 4
LINES_A_ROUND = 300


class Worker:
    """A process that works on the ledger, and what it has answered so far."""

    def __init__(self, url: str, name: str, stack: ExitStack, output: Path) -> None:
        self.output = output
        command = [sys.executable, "-m", "tests.faults.points_process", url, name, *MEMBERS]
        self.process = stack.enter_context(subprocess.Popen(command, stdout=output.open("w")))
        stack.callback(self.process.kill)

    def lines(self) -> list[str]:
        """Return what was answered; a line that the kill cut off was not."""
        return self.output.read_text().splitlines(keepends=True)

    def answered(self) -> list[str]:
        return [line for line in self.lines() if line.endswith("\n")]

    async def until_busy(self) -> None:
        async with asyncio.timeout(60):
            while len(self.answered()) < LINES_A_ROUND:  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.02)


@pytest.mark.requirement("L2")
@pytest.mark.requirement("L12")
@pytest.mark.timeout(240)
async def test_what_was_answered_is_there_and_all_adds_up_after_kills_of_workers_and_database(
    tmp_path: Path,
) -> None:
    with own_servers(tmp_path / "home") as servers, ExitStack() as stack:
        async with opened(servers.database_url) as database, database.transaction() as conn:
            await open_accounts(conn, MEMBERS, at=datetime.now(UTC))
        answered: list[str] = []
        for number in range(ROUNDS):
            pair = [
                Worker(servers.database_url, f"{number}{side}", stack, tmp_path / f"{number}{side}")
                for side in "ab"
            ]
            await asyncio.gather(*(worker.until_busy() for worker in pair))
            if number % 2:
                servers.postgres.kill9()
                servers.postgres.start()
            for worker in pair:
                worker.process.kill()
                worker.process.wait()
                answered += worker.answered()
        async with opened(servers.database_url) as database:
            await assert_all_there(database, answered)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await Database.open(url, role="faregate_points")
    yield database
    await database.close()


async def assert_all_there(database: Database, answered: list[str]) -> None:
    """Ask everything again that was answered: it has the number that it had, and nothing is done twice."""
    before = await reconcile(database)
    assert before.is_clean, (before.breaks, before.unbalanced)
    assert before.operations > 0
    writer = LedgerWriter(database=database, day_of=lambda instant: instant.date())
    for begin in range(0, len(answered), 500):
        lines = answered[begin : begin + 500]
        answers = await writer.write([request_of(line) for line in lines])
        for line, answer in zip(lines, answers, strict=True):
            assert isinstance(answer, Operation)
            assert (answer.no, answer.is_replay) == (number_of(line), True)
    assert await reconcile(database) == before
