"""The last look at the lease before bytes go out, and the time that a provider is told: on real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from faregate.gateway.exchange import Answer, exchange
from faregate.gateway.last_check import CheckedRequest, sending_while
from faregate.kernel.outcome import NotDone, Unknown


class Provider:
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append(dict(request.headers))
        return web.Response(text="{}")


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, URL]]:
    heard, app = Provider(), web.Application()
    app.router.add_post("/", heard.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield heard, URL(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await runner.cleanup()


async def send(url: URL, session: aiohttp.ClientSession, *, timeout_s: float = 5.0) -> Any:
    return await exchange(session, "POST", url, timeout_s=timeout_s, headers={}, body=b"{}")


async def test_nothing_is_sent_when_the_lease_ended_while_connecting(
    provider: tuple[Provider, URL],
) -> None:
    heard, url = provider
    lease_holds = [True]

    async def the_machine_was_suspended(*_: Any) -> None:
        lease_holds[0] = False

    connecting = aiohttp.TraceConfig()
    connecting.on_connection_create_end.append(the_machine_was_suspended)
    async with aiohttp.ClientSession(request_class=CheckedRequest, trace_configs=[connecting]) as session:
        with sending_while(lambda: lease_holds[0]):
            assert await send(url, session) == NotDone("lease_over", retryable=True)
        assert heard.heard == []
        assert isinstance(await send(url, session), Answer), "and the session is as good as before"


async def test_one_call_that_is_too_late_does_not_stop_another(provider: tuple[Provider, URL]) -> None:
    heard, url = provider
    async with aiohttp.ClientSession(request_class=CheckedRequest) as session:

        async def call(is_in_time: bool) -> Any:
            with sending_while(lambda: is_in_time):
                return await send(url, session)

        late, in_time = await asyncio.gather(call(False), call(True))
    assert isinstance(late, NotDone)
    assert isinstance(in_time, Answer)
    assert len(heard.heard) == 1


async def test_a_provider_is_told_how_long_we_wait(provider: tuple[Provider, URL]) -> None:
    heard, url = provider
    async with aiohttp.ClientSession(request_class=CheckedRequest) as session:
        await send(url, session, timeout_s=2.5)
    assert heard.heard[0]["X-Request-Deadline-Ms"] == "2500"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_request_whose_connection_was_lost_is_not_sent_again_behind_our_back(method: str) -> None:
    """The client would: it takes these methods for harmless, and a connection that was used before for stale."""
    heard: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append(request.method)
        if len(heard) == 2 and request.transport is not None:
            request.transport.abort()
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    async with aiohttp.ClientSession(request_class=CheckedRequest) as session:
        for _ in range(2):
            last = await exchange(session, method, url, timeout_s=5, headers={})
    await runner.cleanup()
    assert last == Unknown("connection_lost")
    assert heard == [method, method]
