"""A process that is killed between making somebody a member and its commit: another one enrols, and only once."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.credit_world import world
from tests.integration.test_member_enrolment import Office, consume, decided, office

__all__ = ["office", "world"]


@pytest.mark.requirement("L1")
@pytest.mark.requirement("L6")
async def test_an_enrolment_whose_process_was_killed_is_done_once_by_another(office: Office) -> None:
    await office.tell(decided(await office.application()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.enrolment_process"),
        *(office.log.url, str(office.credit.settings.home)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while (line := await process.stdout.readline()) != b"enrolled\n":
                assert line, "it ended before it enrolled"
    finally:
        process.kill()
        await process.wait()
    assert await office.rows() == []
    await consume(office)
    assert len(await office.rows()) == len(await office.announced()) == 1
