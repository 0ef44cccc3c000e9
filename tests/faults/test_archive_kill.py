"""Archiving and restoring killed at every step: every event stays readable exactly once, and the next run ends it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.archive_world import (  # noqa: F401
    AT_ONCE,
    WEEK,
    archive_of,
    assert_whole,
    files_of,
    filled,
    many,
    read,
    small_log,
)
from tests.eventlog import Log, assert_each_once_and_in_order, running

pytestmark = pytest.mark.requirement("C31")


async def killed(log: Log, folder: Path, what: str, step: str) -> None:
    """Run a process that must die at a step."""
    arguments = ["-m", "tests.faults.archive_process", log.admin.url, str(folder), what, step]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    assert await process.wait() == -9


@pytest.mark.parametrize("step", ["read", "written", "committed", "copied", "closing", "closed"])
async def test_an_archiver_killed_at_any_step_loses_and_doubles_nothing(
    log: Log, tmp_path: Path, step: str
) -> None:
    sent = await filled(log, 35)
    await killed(log, tmp_path, "run", step)
    assert_whole(await read(log.admin, tmp_path), sent)
    async with running(log.member()):
        await log.append(*(more := many(5, start=35)))
        effects = await log.until_effects(40)
    assert_each_once_and_in_order(effects, [*sent, *more])
    await archive_of(log.admin, tmp_path).run(older_than=AT_ONCE)
    assert_whole(await read(log.admin, tmp_path), [*sent, *more])
    assert files_of(tmp_path)[:3] == [1, 11, 21]
    assert set((await archive_of(log.admin, tmp_path).verify()).values()) == {None}


@pytest.mark.parametrize("step", ["table_made", "loaded", "reopened"])
async def test_a_restoration_killed_at_any_step_loses_and_doubles_nothing(
    log: Log, tmp_path: Path, step: str
) -> None:
    sent = await filled(log, 35)
    await archive_of(log.admin, tmp_path).run(older_than=AT_ONCE)
    await killed(log, tmp_path, "restore", step)
    assert_whole(await read(log.admin, tmp_path), sent)
    await archive_of(log.admin, tmp_path).restore(from_seq=1, keep=WEEK)
    [row] = await log.rows("select count(*) as n, min(seq) as first, max(seq) as last from eventlog.event")
    assert (row["n"], row["first"], row["last"]) == (35, 1, 35)
    assert_whole(await read(log.admin, tmp_path), sent)


async def test_what_dead_archivers_left_behind_is_cleared_away(log: Log, tmp_path: Path) -> None:
    await filled(log, 15)
    for step in ("committed", "written"):
        await killed(log, tmp_path, "run", step)
    await archive_of(log.admin, tmp_path).run(older_than=AT_ONCE)
    left = sorted((tmp_path / "events" / "segment=1").iterdir())
    assert len(left) <= 2, "the copy that counts, and the one that it took the place of"
    assert files_of(tmp_path) == [1]
