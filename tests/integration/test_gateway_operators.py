"""What operators do with the gateway by command and by route, on real servers."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from faregate.credit.domain.checks import CHECK_OF_PROVIDER
from faregate.entrypoints.bootstrap.gateway import gateway_desk
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.cli import app
from faregate.gateway.store.backlog import due_intents
from faregate.infra.failures import line_of
from tests.credit_world import CreditWorld, Reply, shared_world  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROVIDERS = "/internal/gateway/providers"
WHY = ["--reason", "they asked us to"]


@pytest.fixture(name="world")
def a_shared_world(shared_world: CreditWorld) -> CreditWorld:  # noqa: F811
    return shared_world


async def command(world: CreditWorld, *arguments: str) -> Result:
    settings = world.settings
    assert settings.database_url
    assert settings.valkey_url
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    return await asyncio.to_thread(CliRunner().invoke, app, ["gateway", *arguments], env=environment)


async def printed(world: CreditWorld, *arguments: str) -> Any:
    result = await command(world, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def ask(
    world: CreditWorld, method: str, path: str, body: Any = None, *, scope: str = "gateway:operate"
) -> Reply:
    await world.add_key("operator", client="ops-team", scopes=[scope])
    headers = {"Content-Type": "application/json"} if body is not None else {}
    data = None if body is None else orjson.dumps(body)
    return await world.request(method, PROVIDERS + path, client="operator", headers=headers, data=data)


async def test_a_policy_is_shown_set_and_reset_and_its_history_kept(world: CreditWorld) -> None:
    before = await printed(world, "policy", "show", "kyc")
    assert (before["version"], before["overrides"], before["fields"]["retry.sends_max"]) == (0, {}, 8)
    await printed(world, "policy", "set", "kyc", "retry.sends_max=2", *WHY)
    both = await printed(world, "policy", "set", "kyc", "rate.per_s=5.5", "rate.burst=6", *WHY)
    assert both["overrides"] == {"retry.sends_max": 2, "rate.per_s": 5.5, "rate.burst": 6}
    one_less = await printed(world, "policy", "reset", "kyc", "rate.burst", *WHY)
    assert sorted(one_less["overrides"]) == ["rate.per_s", "retry.sends_max"]
    none = await printed(world, "policy", "reset", "kyc", *WHY)
    assert (none["overrides"], none["fields"]) == ({}, before["fields"])
    history = await printed(world, "policy", "history", "kyc")
    assert [change["content"] for change in history][:2] == [{}, one_less["overrides"]]
    assert history[0]["changed_by"].startswith("cli:")


async def test_a_breaker_is_held_and_let_go_by_command(world: CreditWorld) -> None:
    held = await printed(world, "open", "fraud", *WHY)
    assert held == {"provider": "fraud", "held": {"send": "forced_open"}}
    await printed(world, "close", "fraud", "--operation", "look_up", *WHY)
    status = {view["provider"]: view for view in await printed(world, "status")}
    assert set(status) == {*CHECK_OF_PROVIDER, "airline_a", "airline_b", "hotel_c", "hotel_d"}
    assert [operation["override"] for operation in status["fraud"]["operations"]] == [
        "forced_open",
        "forced_closed",
    ]
    assert (await command(world, "auto", "fraud", *WHY)).stdout == "fraud: nothing is held\n"


@pytest.mark.requirement("C30")
async def test_calls_that_an_open_breaker_holds_back_ask_for_no_further_worker(world: CreditWorld) -> None:
    for _ in range(3):
        await world.submitted()
    settings = world.settings
    assert settings.database_url
    assert settings.valkey_url
    site = Site(
        settings=settings,
        database_url=settings.database_url.get_secret_value(),
        valkey_url=settings.valkey_url.get_secret_value(),
    )
    async with AsyncExitStack() as stack:
        gateway = await site.database(stack, "gateway", connections_max=2)
        desk = await gateway_desk(stack, site, database=gateway)

        async def intents() -> int:
            async with gateway.connection() as conn:
                return await due_intents(conn, held_back=await desk.held_back())

        [due] = await world.sql(
            "select count(*) as all, count(*) filter (where provider = 'fraud') as fraud from gateway.intent"
        )
        assert (await intents(), due["fraud"]) == (due["all"], due["all"] // 4)
        await printed(world, "open", "fraud", *WHY)
        assert await intents() == due["all"] - due["fraud"]
        await printed(world, "auto", "fraud", *WHY)
        await desk.breakers.open("fraud/send", seen_generation=0, for_s=60.0)
        assert await intents() == due["all"] - due["fraud"]
        await printed(world, "close", "fraud", *WHY)
        assert await intents() == due["all"]
    assert (await command(world, "auto", "fraud", *WHY)).exit_code == 0


async def test_a_travel_partner_is_declared_by_its_own_file_and_changed_like_a_provider(
    world: CreditWorld,
) -> None:
    declared = await printed(world, "policy", "show", "hotel_d")
    assert declared["fields"]["retry.sends_max"] == 1
    changed = await printed(world, "policy", "set", "hotel_d", "send.bulkhead.in_flight_max=4", *WHY)
    assert changed["fields"]["send.bulkhead.in_flight_max"] == 4
    await printed(world, "policy", "reset", "hotel_d", *WHY)


async def test_the_tables_name_every_provider_and_field(world: CreditWorld) -> None:
    shown = (await command(world, "status")).stdout
    assert all(name in shown for name in ("bureau", "income", "send"))
    await printed(world, "policy", "set", "income", "timeout_s=4.0", *WHY)
    policy = (await command(world, "policy", "show", "income")).stdout
    assert "timeout_s" in policy
    assert "yes" in policy


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["policy", "show", "burro"], "there is no provider 'burro'; there are bureau,"),
        (["policy", "set", "kyc", "retry.sends_max=0", *WHY], "retry.sends_max: input should be greater"),
        (["policy", "set", "kyc", "retry={sends_max=1}", *WHY], "retry: it must be one value"),
        (["policy", "set", "kyc", "retry.sends_max", *WHY], "not of the form field=value"),
        (["open", "kyc", "--operation", "write", *WHY], "no write calls are made to kyc"),
    ],
)
async def test_a_mistake_is_one_clear_line(world: CreditWorld, arguments: list[str], says: str) -> None:
    failed = await command(world, *arguments)
    assert failed.exit_code == 1
    assert isinstance(failed.exception, Exception)
    assert says in (line_of(failed.exception) or "")


async def test_routes_do_what_commands_do(world: CreditWorld) -> None:
    seen = (await ask(world, "GET", "/bureau/policy", scope="gateway:read")).json["version"]
    wanted = {"overrides": {"send.bulkhead.in_flight_max": 8}, "seen_version": seen, "reason": "slow"}
    changed = await ask(world, "PUT", "/bureau/policy", wanted)
    assert changed.status == 200, changed.body
    assert changed.json["fields"]["send.bulkhead.in_flight_max"] == 8
    assert changed.json["change"]["changed_by"] == "ops-team"
    held = await ask(world, "PUT", "/bureau/breaker", {"state": "forced_open", "reason": "slow"})
    assert held.json == {"held": {"send": "forced_open"}}
    await ask(world, "PUT", "/bureau/breaker", {"state": "automatic", "reason": "well"})
    changes = (await ask(world, "GET", "/bureau/changes", scope="gateway:read")).json["changes"]
    assert [change["kind"] for change in changes][:3] == ["breaker", "breaker", "policy"]
    providers = (await ask(world, "GET", "", scope="gateway:read")).json["providers"]
    assert providers[0]["provider"] == "bureau"
    assert providers[0]["changed_fields"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", "/bureau/policy", {"overrides": {}, "seen_version": 99, "reason": "r"}, 409),
        ("PUT", "/bureau/policy", {"overrides": {"no.such": 1}, "seen_version": 0, "reason": "r"}, 400),
        ("PUT", "/bureau/policy", {"overrides": {"retry": {}}, "seen_version": 0, "reason": "r"}, 422),
        ("PUT", "/bureau/policy", {"overrides": {}, "seen_version": 0, "reason": "a\u0000"}, 422),
        (
            "PUT",
            "/bureau/policy",
            {"overrides": {"rate.credential": "\u0000"}, "seen_version": 0, "reason": "r"},
            400,
        ),
        ("PUT", "/burro/breaker", {"state": "automatic", "reason": "r"}, 404),
        ("PUT", "/bureau/breaker", {"state": "ajar", "reason": "r"}, 422),
        ("PUT", "/bureau/breaker", {"state": "automatic", "operations": ["write"], "reason": "r"}, 400),
        ("GET", "/burro/policy", None, 404),
        ("GET", "/burro/changes", None, 404),
    ],
)
async def test_what_cannot_be_done_is_a_problem(
    world: CreditWorld, method: str, path: str, body: Any, expected: int
) -> None:
    scope = "gateway:read" if method == "GET" else "gateway:operate"
    assert (await ask(world, method, path, body, scope=scope)).problem[0] == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", "/bureau/policy"), ("PUT", "/bureau/breaker"), ("GET", "/x/policy")],
)
async def test_a_client_without_the_scope_is_refused(world: CreditWorld, method: str, path: str) -> None:
    assert (await ask(world, method, path, {}, scope="credit:read")).problem == (403, "scope-missing")
