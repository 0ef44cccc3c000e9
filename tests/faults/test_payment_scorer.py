"""The real fraud service behind payments, on servers of its own that are stopped and delayed: each cell holds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from faregate.entrypoints.bootstrap.features import features
from faregate.entrypoints.bootstrap.fraud import fraud_registry
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.sequencer import sequencer
from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.conftest import OpenDatabase
from tests.credit_world import CreditWorld, open_credit_world
from tests.fraud_models import made_up
from tests.fraud_world import open_fraud_world
from tests.integration.test_fraud_models import doing
from tests.integration.test_payment_failures import AMOUNTS, BANDS, WRITTEN
from tests.payments_world import NETWORK, PATIENT_MS, SCOPES, PaymentsWorld
from tests.scorer_twin import ScorerTwin
from tests.servers import OwnServers, own_servers

pytestmark = [pytest.mark.timeout(240), pytest.mark.requirement("F9")]


USUAL = 30_000
_numbers = itertools.count(1)


async def regular(world: PaymentsWorld) -> dict[str, Any]:
    """Return a card that paid from its device before, and where it pays now: no rule minds it."""
    number = next(_numbers)
    place = {
        "card_token": await world.card(),
        "merchant": f"mer_{number}",
        "device_id": f"dev_{number}",
        "channel": "in_store",
        "ip": None,
    }
    for _ in range(2):
        await world.attempt(amount_minor=USUAL, **place)
    return place


@dataclass
class Line:
    """The line to the fraud service: it passes everything on, after a while if it is told so."""

    to: str
    delay_s: float = 0.0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async with aiohttp.ClientSession() as session:

            async def passed_on(request: web.Request) -> web.Response:
                body = await request.read()
                await asyncio.sleep(self.delay_s)
                url = self.to + request.path_qs
                try:
                    async with session.request(
                        request.method, url, headers=request.headers, data=body
                    ) as answer:
                        return web.Response(
                            status=answer.status, body=await answer.read(), content_type="application/json"
                        )
                except aiohttp.ClientError:
                    raise web.HTTPBadGateway from None

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", passed_on)
            async with TestServer(app) as server:
                yield str(server.make_url("")).rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Both:
    """Payments, and the fraud service that scores them, each on servers of its own."""

    payments: PaymentsWorld
    hurried: PaymentsWorld
    fraud: CreditWorld
    servers: OwnServers
    line: Line

    async def expect(self, state: str, *missing: str, hurried: bool = False) -> None:
        """Try each amount: the cells are those of the table, and the answers name what was missing, or more."""
        world = self.hurried if hurried else self.payments
        replies = [await world.attempt(amount_minor=amount, **await regular(world)) for amount in AMOUNTS]
        found = [(r.json["status"], r.json["flagged"], r.json["message"]) for r in replies]
        assert found == list(WRITTEN[state]), [r.json for r in replies]
        cells = [None if state == "available" else f"everything.{band}.{state}" for band in BANDS]
        assert [r.json["policy"]["cell"] for r in replies] == cells, replies[3].json["reasons"]
        named = [set(r.json["degraded"]) for r in replies]
        assert all(set(missing) <= one and bool(missing) == bool(one) for one in named), named

    async def until(self, is_so: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
        """Try until what is missing is so, and return it: services notice after a while what befell their servers."""
        seen: list[tuple[str, ...]] = []
        try:
            async with asyncio.timeout(30):
                while not seen or not is_so(seen[-1]):
                    reply = await self.payments.attempt(amount_minor=1, **await regular(self.payments))
                    seen.append(tuple(reply.json["degraded"]))
        except TimeoutError:
            raise AssertionError(f"what was missing last: {seen[-5:]}") from None
        return seen[-1]

    async def activate_a_model(self) -> None:
        async with AsyncExitStack() as stack:
            registry = await fraud_registry(stack, self.fraud.site)
            made = await registry.register(made_up(), name="payments", doing=doing())
            await registry.activate(made.label, doing=doing())


@pytest.fixture
async def both(
    settings: Settings, cache: Cache, tmp_path: Path, open_database: OpenDatabase
) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(own_servers(tmp_path / "fraud"))
        valkey = f"unix://{servers.valkey_socket}"
        own = settings.model_copy(
            update={
                "home": servers.home,
                "database_url": SecretStr(servers.database_url),
                "valkey_url": SecretStr(valkey),
                "fraud_features_ms_max": 1_000,
                "fraud_audit_ms_max": 1_000,
            }
        )
        its_cache = await Cache.open(valkey)
        stack.push_async_callback(its_cache.close)
        fraud = (await stack.enter_async_context(open_fraud_world(own, cache=its_cache))).world
        await keep_features(stack, fraud)
        line = Line(fraud.url)
        url = await stack.enter_async_context(line.open())
        worlds = [
            await stack.enter_async_context(
                paying(settings, cache, url=url, key=fraud.tokens["payments"], deadline_ms=deadline_ms)
            )
            for deadline_ms in (PATIENT_MS, 80)
        ]
        yield Both(payments=worlds[0], hurried=worlds[1], fraud=fraud, servers=servers, line=line)


async def keep_features(stack: AsyncExitStack, fraud: CreditWorld) -> None:
    """Run beside the service what keeps its features fresh, as a worker does."""
    process, stop = Process(stack, fraud.site, connections_max=4), asyncio.Event()
    loops = {**(await features(process)).loops, **(await sequencer(process)).loops}
    running = [asyncio.create_task(loop(stop)) for loop in loops.values()]

    async def stopped() -> None:
        stop.set()
        await asyncio.gather(*running, return_exceptions=True)

    stack.push_async_callback(stopped)


@asynccontextmanager
async def paying(
    settings: Settings, cache: Cache, *, url: str, key: str, deadline_ms: int
) -> AsyncIterator[PaymentsWorld]:
    changed: dict[str, Any] = {
        "scorer_url": url,
        "scorer_key": SecretStr(key),
        "scorer_deadline_ms": deadline_ms,
    }
    own = settings.model_copy(update=changed)
    async with open_credit_world(own, cache=cache, contexts=["payments"]) as world:
        await world.add_key(NETWORK, client=NETWORK, scopes=SCOPES)
        yield PaymentsWorld(world=world, scorer=ScorerTwin())


async def test_whatever_happens_to_the_fraud_service_each_cell_is_the_written_one(both: Both) -> None:
    await both.until(lambda missing: missing == ("model_missing",))
    await both.expect("model_missing", "model_missing")
    await both.activate_a_model()
    await both.until(lambda missing: missing == ())
    await both.expect("available")
    both.line.delay_s = 0.02
    await both.expect("available")
    both.line.delay_s = 0.2
    await both.expect("unavailable", "score", hurried=True)
    both.line.delay_s = 0.0
    both.servers.valkey.kill9()
    await both.expect("stale", *await both.until(lambda missing: "features_missing" in missing))
    both.servers.valkey.start()
    await both.until(lambda missing: missing == ())
    both.servers.postgres.server.stop()
    await both.expect(
        "stale", *await both.until(lambda missing: {"features_stale", "audit_spooled"} <= set(missing))
    )
    both.servers.postgres.start()
    await both.until(lambda missing: missing == ())
    both.line.to = "http://127.0.0.1:1"
    await both.expect("unavailable", "score")
    both.line.to = both.fraud.url
    await both.expect("available")
