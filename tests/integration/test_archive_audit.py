"""The audit commands read an application whose events were moved to cold storage."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.bootstrap.archive import event_archive
from faregate.entrypoints.cli import app
from faregate.infra.eventlog import Sequencer
from tests.archive_world import AT_ONCE, make_small
from tests.credit_world import CreditWorld, world
from tests.eventlog import running
from tests.sandbox import until

__all__ = ["world"]


async def _submit_and_archive(world: CreditWorld) -> str:
    """Submit twelve applications, move the events of the first ten, and return the id of the first."""
    async with AsyncExitStack() as stack:
        admin = await world.site.database(stack, "eventlog", connections_max=4)
        await make_small(admin)
        ids = [await world.submitted() for _ in range(12)]

        async def in_log() -> int:
            return len(await world.sql("select seq from eventlog.event"))

        async with running(Sequencer(database=admin, holder="test").run):
            await until(in_log, lambda n: n == 12)
        await (await event_archive(stack, world.site)).run(older_than=AT_ONCE)
        assert await in_log() == 2
    return ids[0]


async def _faregate(world: CreditWorld, *arguments: str) -> tuple[int, str]:
    settings = world.settings
    assert settings.database_url
    assert settings.valkey_url
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    with capture_logs():
        ended = await asyncio.to_thread(CliRunner(env=environment).invoke, app, arguments)
    return ended.exit_code, ended.stdout


@pytest.mark.requirement("C31")
@pytest.mark.requirement("C32")
async def test_audit_commands_work_across_the_border_of_cold_storage(
    world: CreditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    application_id = await _submit_and_archive(world)
    status, shown = await _faregate(world, "audit", "show", application_id, "--json")
    assert status == 0
    [event] = json.loads(shown)["events"]
    assert (event["type"], event["subject"]) == ("credit.application.submitted", application_id)
    assert "credit.application.submitted" in (await _faregate(world, "audit", "show", application_id))[1]
    assert [(await _faregate(world, "audit", command))[0] for command in ("verify", "replay")] == [0, 0]
