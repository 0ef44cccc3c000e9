"""`faregate archive` and the commands that read across the border, on a real database."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.settings import Settings
from tests.archive_world import filled, small_log  # noqa: F401
from tests.eventlog import Log

pytestmark = pytest.mark.requirement("C31")


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`await command("archive", "list", "--json")` returns the exit status and what was printed."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    settings.home.mkdir(mode=0o700)

    async def run(*arguments: str) -> tuple[int, Any]:
        with capture_logs():
            ended = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        printed = json.loads(ended.stdout) if "--json" in arguments else ended.stdout
        return ended.exit_code, printed

    return run


async def test_an_operator_moves_old_events_reads_them_and_brings_them_back(log: Log, command: Any) -> None:
    sent = await filled(log, 25)
    mine = [str(e.id) for e in sent if e.aggregate_id == "app_1"]
    _, before = await command("events", "show", "app_1", "--json")
    status, moved = await command("archive", "run", "--older-than", "0s", "--json")
    assert (status, moved["segments"], moved["events"]) == (0, 2, 20)
    _, listed = await command("archive", "list", "--json")
    assert [(row["from_seq"], row["state"]) for row in listed] == [(1, "cold"), (11, "cold"), (21, "open")]
    _, after = await command("events", "show", "app_1", "--json")
    assert [row["id"] for row in after] == mine
    assert after == before
    assert (await command("archive", "verify"))[0] == 0
    assert (await command("archive", "restore", "--from-seq", "11")) == (0, "brought 10 events back\n")


async def test_verify_ends_with_status_one_and_names_the_damaged_segment(
    log: Log, command: Any, settings: Settings
) -> None:
    await filled(log, 25)
    await command("archive", "run", "--older-than", "0s")
    [path] = (settings.home / "archive" / "events" / "segment=11").glob("*.parquet")
    path.unlink()
    status, found = await command("archive", "verify", "--json")
    assert status == 1
    assert [row["segment"] for row in found if row["damage"] != "none"] == [11]


@pytest.mark.parametrize("age", ["30", "30w", "d", "-1d", ""])
async def test_an_age_that_cannot_be_read_is_a_usage_error(command: Any, age: str) -> None:
    assert (await command("archive", "run", "--older-than", age))[0] == 2
