"""`faregate members`: what an operator sees and does, on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.bootstrap.members import members_api
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.cli import app
from faregate.infra.settings import Settings
from faregate.members.api import MembersApi
from faregate.members.contracts import Profile

pytestmark = pytest.mark.requirement("L1")


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run("show", "--json")` runs a command on this test's servers and returns what it printed."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    settings.home.mkdir(mode=0o700)

    def command(*arguments: str, typed: str = "", group: str = "members") -> Any:
        ended = CliRunner().invoke(app, [group, *arguments], input=typed, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout) if "--json" in arguments else ended.stdout

    return command


def with_members(settings: Settings, act: Callable[[MembersApi], Awaitable[Any]]) -> Any:
    """Do something with the members context on the servers of the commands."""

    async def inside() -> Any:
        assert settings.database_url
        site = Site(
            settings=settings, database_url=settings.database_url.get_secret_value(), valkey_url="unused"
        )
        async with AsyncExitStack() as stack:
            return await act(await members_api(stack, site))

    return asyncio.run(inside())


@pytest.fixture
def ada(run: Any, settings: Settings) -> str:
    """The id of a member who heads a household of one."""

    async def register(members: MembersApi) -> str:
        async with members.database.transaction() as conn:
            made = await members.register(conn, Profile(name="Ada", email="ada@example.com"), by="x")
            await members.households.create(conn, made.id, by="x")
        return made.id

    return str(with_members(settings, register))


def test_an_operator_finds_a_member_by_an_address_that_was_typed_or_given(run: Any, ada: str) -> None:
    assert run("find", typed="Ada@example.com\n").splitlines()[-1] == ada
    assert run("find", "ada@example.com", "--json") == {"member_id": ada}
    assert run("find", "bob@example.com").strip() == "nobody has this address"


def test_who_a_member_is_is_shown_only_when_asked_for(run: Any, ada: str) -> None:
    shown = run("show", ada, "--json")
    assert shown["member"]["status"] == "active"
    assert "profile" not in shown["member"]
    assert [entry["act"] for entry in shown["record"]] == ["registered", "household_changed"]
    assert "Ada" not in run("show", ada)
    assert run("show", ada, "--personal", "--json")["member"]["profile"]["name"] == "Ada"


def test_a_household_is_shown_with_its_head(run: Any, ada: str) -> None:
    [row] = run("household", ada, "--json")
    assert (row["member"], row["is"]) == (ada, "head")


def test_an_erasure_is_asked_about_and_then_final(run: Any, ada: str) -> None:
    refused = CliRunner().invoke(app, ["members", "erase", ada, "--reason", "member_request"], input="n\n")
    assert refused.exit_code == 1
    [erased] = run("erase", ada, "--reason", "member_request", "--yes", "--json")
    assert (erased["id"], erased["status"]) == (ada, "closed")
    assert run("find", "ada@example.com", "--json") == {"member_id": None}
    [last] = run("show", ada, "--json")["record"][-1:]
    assert (last["act"], last["by"]) == ("erased", "operator")


def test_a_rotation_of_keys_takes_members_along(run: Any, ada: str) -> None:
    assert "1 values are now under the current key" in run("rotate", group="pii")
    assert run("show", ada, "--personal", "--json")["member"]["profile"]["email"] == "ada@example.com"
