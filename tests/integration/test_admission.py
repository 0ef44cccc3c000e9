"""Overload and outages, caused for real: what is refused, what is still answered, and that it ends by itself."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from tests.credit_world import (
    APPLICATIONS,
    CreditWorld,
    Reply,
    new_form,
    open_credit_world,
    shared_world,
)
from tests.sandbox import until
from tests.servers import own_servers

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

DELAY_S_MAX = 0.1


@asynccontextmanager
async def impatient(shared_world: CreditWorld) -> AsyncIterator[CreditWorld]:
    """An API that refuses submissions after a tenth of a second."""
    settings = shared_world.settings.model_copy(
        update={"admission_delay_s_max": DELAY_S_MAX, "status_cache_ttl_s": 60.0}
    )
    async with open_credit_world(settings, cache=shared_world.cache) as world:
        await world.add_key("watcher", client="watcher", scopes=["metrics:read"])
        yield world


@asynccontextmanager
async def stuck(world: CreditWorld, table: str) -> AsyncIterator[None]:
    """Let every transaction that needs a table wait for the length of the block."""
    url = world.site.database_url
    async with await psycopg.AsyncConnection.connect(url) as conn:
        await conn.execute(f"lock table {table} in access exclusive mode".encode())
        yield
        await conn.rollback()


async def delay(world: CreditWorld, signal: str) -> float:
    """What an operator sees of a signal."""
    text = (await world.request("GET", "/metrics", client="watcher")).body.decode()
    found = re.search(rf'faregate_admission_delay_seconds\{{signal="{signal}"\}} ([0-9.e+-]+)', text)
    assert found, text
    return float(found[1])


async def send_until(
    world: CreditWorld, send: Callable[[], Coroutine[Any, Any, Reply]], *, signal: str, above_s: float
) -> list[asyncio.Task[Reply]]:
    """Send requests that get stuck until a signal shows a delay; return them, unanswered for the most part."""
    sent: list[asyncio.Task[Reply]] = []

    async def a_few_more() -> float:
        sent.extend(asyncio.create_task(send()) for _ in range(4))
        return await delay(world, signal)

    await until(a_few_more, lambda seconds: seconds > above_s)
    return sent


@pytest.mark.requirement("C30")
async def test_when_submissions_are_stuck_new_ones_are_refused_and_the_rest_goes_on(
    shared_world: CreditWorld,
) -> None:
    async with impatient(shared_world) as world:
        form, seen = new_form(), await world.submitted()
        first = await world.submit(form, key="known")
        assert (await world.status(seen)).status == 200
        async with stuck(world, "credit.applicant"):
            waiting = await send_until(world, world.submit, signal="submissions", above_s=2 * DELAY_S_MAX)
            shed = await world.submit(key="shed")
            invalid = await world.submit({}, key="invalid")
            listed = await world.request("GET", APPLICATIONS)
            replay = await world.submit(form, key="known")
            reused = await world.submit(new_form(), key="known")
            health = [await world.request("GET", p, client=None) for p in ("/healthz", "/readyz")]
            status = await world.status(seen)
            callback = await unsigned_callback(world)
        assert [r.problem for r in (shed, invalid, listed)] == [(503, "overloaded")] * 3
        assert {r.headers["retry-after"] for r in (shed, invalid, listed)} == {"1"}
        assert (replay.status, replay.body) == (202, first.body)
        assert reused.problem == (422, "idempotency-key-reused")
        assert [r.status for r in (*health, status, callback)] == [200, 200, 200, 401]
        assert 202 in {reply.status for reply in await asyncio.gather(*waiting)}
        await until(lambda: world.submit(key="shed"), lambda reply: reply.status == 202)


async def applications(world: CreditWorld) -> int:
    [row] = await world.sql("select count(*) as rows from credit.application")
    return int(row["rows"])


async def unsigned_callback(world: CreditWorld) -> Reply:
    body = b'{"provider_request_id": "app_x:kyc:1", "status": "success", "payload": {}, "signature": "x"}'
    path, headers = "/internal/providers/kyc/callbacks", {"Content-Type": "application/json"}
    return await world.request("POST", path, client=None, headers=headers, data=body)


@pytest.mark.requirement("C30")
async def test_what_is_refused_in_an_overload_leaves_nothing(shared_world: CreditWorld) -> None:
    async with impatient(shared_world) as world:
        before = await applications(world)
        async with stuck(world, "access.idempotency_key"):
            sent = await send_until(world, world.submit, signal="known_keys", above_s=3 * DELAY_S_MAX)
            at_once = await world.submit(key="fresh")
        replies = [at_once, *await asyncio.gather(*sent)]
        accepted = [reply for reply in replies if reply.status == 202]
        refusals = [reply.problem for reply in replies if reply.status != 202]
        assert at_once.problem == (503, "overloaded")
        assert set(refusals) == {(503, "overloaded")}
        assert await applications(world) == before + len(accepted)


@pytest.mark.requirement("C30")
async def test_a_read_that_needs_the_database_is_refused_when_it_would_wait_for_it(
    shared_world: CreditWorld,
) -> None:
    async with impatient(shared_world) as world:
        cached, other = await world.submitted(), await world.submitted()
        assert (await world.status(cached)).status == 200
        async with stuck(world, "credit.application"):
            ids = itertools.count()
            waiting = await send_until(
                world,
                lambda: world.status(f"app_{next(ids):026d}"),
                signal="database",
                above_s=3 * DELAY_S_MAX,
            )
            assert (await world.status(other)).problem == (503, "overloaded")
            assert (await world.status(cached)).status == 200
        assert {reply.status for reply in await asyncio.gather(*waiting)} <= {404, 503}
        await until(lambda: world.status(other), lambda reply: reply.status == 200)


@pytest.mark.requirement("C11")
@pytest.mark.requirement("C19")
async def test_while_postgresql_is_down_submissions_get_503_and_snapshots_are_still_read(
    tmp_path: Path, shared_world: CreditWorld
) -> None:
    with own_servers(tmp_path / "own") as servers:
        own = shared_world.settings.model_copy(
            update={
                "database_url": SecretStr(servers.database_url),
                "valkey_url": SecretStr(f"unix://{servers.valkey_socket}"),
                "status_cache_ttl_s": 60.0,
            }
        )
        async with open_credit_world(own, cache=shared_world.cache) as world:
            seen = await world.submitted()
            before = (await world.status(seen)).body
            servers.postgres.kill9()
            replies = await asyncio.gather(*(world.submit() for _ in range(5)), world.submit())
            assert {reply.status for reply in replies} == {503}
            assert {reply.headers["retry-after"] for reply in replies} <= {"1", "2", "5", "6"}
            assert (await world.status(seen)).body == before
            servers.postgres.start()
            await until(world.submit, lambda reply: reply.status == 202)
