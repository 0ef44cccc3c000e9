"""Every adapter, every way in which a call can end: what is known of the work afterwards.

The provider here is a puppet that answers exactly what a row says. The expected columns are what the gateway
builds on: not done only when certainly nothing was done, and a failed look-up tells nothing about the work.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from faregate.gateway.contracts import Adapter
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown
from tests.sandbox import Sandbox, adapters, request

PROVIDERS = ["bureau", "bureau_alt", "fraud", "income", "kyc"]
ASYNCHRONOUS = {"income", "kyc"}
TOKEN = {"access_token": "token", "expires_in": 60}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

every_provider = pytest.mark.parametrize("provider", PROVIDERS)


@asynccontextmanager
async def puppet(handler: Handler) -> AsyncIterator[dict[str, Adapter]]:
    """Serve `handler` at every address but the token endpoint; yields the adapters that speak to it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/oauth/token"):
            return web.json_response(TOKEN)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield adapters(Sandbox(f"http://127.0.0.1:{runner.addresses[0][1]}", session))
    finally:
        await runner.cleanup()


Call = Callable[..., Awaitable[Outcome]]


async def submit(handler: Handler, provider: str, *, timeout_s: float = 5.0) -> Outcome:
    async with puppet(handler) as each:
        return await each[provider].submit(request(provider), timeout_s=timeout_s)


async def look_up(handler: Handler, provider: str, *, timeout_s: float = 5.0) -> Outcome:
    async with puppet(handler) as each:
        return await each[provider].look_up(f"app_1:{provider}:1", timeout_s=timeout_s)


async def submit_to_each(handlers: list[Handler], provider: str) -> list[Outcome]:
    async with puppet(in_turn(handlers)) as each:
        return [await each[provider].submit(request(provider), timeout_s=5) for _ in handlers]


async def look_up_at_each(handlers: list[Handler], provider: str) -> list[Outcome]:
    async with puppet(in_turn(handlers)) as each:
        return [await each[provider].look_up(f"app_1:{provider}:1", timeout_s=5) for _ in handlers]


def in_turn(handlers: list[Handler]) -> Handler:
    """Answer with each handler once; income gets a 401 twice, since it tries again with a new token."""
    waiting = iter(handlers)
    repeated: list[Handler] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if repeated:
            return await repeated.pop()(request)
        handler = next(waiting)
        response = await handler(request)
        if response.status == 401 and "/income/" in request.path:
            repeated.append(handler)
        return response

    return answer


def says(status: int, body: bytes = b"", *, retry_after: str | None = None) -> Handler:
    headers = {"Retry-After": retry_after} if retry_after else {}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def drops(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def stops_halfway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"reference":')
    return await drops(request)


async def floods(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * 1_100_000)


SUBMIT_STATUSES = [
    # status, what is known after a submit
    (204, Unknown("http_204")),
    (302, Unknown("http_302")),
    (400, NotDone("bad_request")),
    (401, NotDone("unauthorised")),
    (403, NotDone("forbidden")),
    (404, NotDone("no_such_address")),
    (405, NotDone("no_such_method")),
    (408, Unknown("http_408")),
    (409, Unknown("http_409")),
    (413, NotDone("request_too_large")),
    (415, NotDone("wrong_media_type")),
    (418, Unknown("http_418")),
    (422, NotDone("refused_request")),
    (429, NotDone("rate_limited", retryable=True)),
    (500, Unknown("http_500")),
    (501, Unknown("http_501")),
    (502, Unknown("http_502")),
    (503, NotDone("unavailable", retryable=True)),
    (504, Unknown("http_504")),
]


@every_provider
async def test_each_status_of_a_submit_says_what_the_table_says(provider: str) -> None:
    outcomes = await submit_to_each([says(status) for status, _ in SUBMIT_STATUSES], provider)
    known = [(status, outcome) for (status, _), outcome in zip(SUBMIT_STATUSES, outcomes, strict=True)]
    assert known == SUBMIT_STATUSES


@every_provider
async def test_no_status_of_a_look_up_but_a_documented_one_says_anything(provider: str) -> None:
    statuses = [status for status, _ in SUBMIT_STATUSES] + [202]
    outcomes = await look_up_at_each([says(status) for status in statuses], provider)
    assert outcomes == [Unknown(f"http_{status}") for status in statuses]


@every_provider
@pytest.mark.parametrize("status", [429, 503])
async def test_a_provider_may_say_when_to_come_back(provider: str, status: int) -> None:
    outcome = await submit(says(status, retry_after="7"), provider)
    assert isinstance(outcome, NotDone)
    assert (outcome.retryable, outcome.retry_after_s) == (True, 7.0)


@every_provider
async def test_a_retry_after_in_another_form_is_passed_over(provider: str) -> None:
    outcome = await submit(says(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT"), provider)
    assert outcome == NotDone("unavailable", retryable=True)


@every_provider
async def test_a_202_is_an_acceptance_only_where_work_goes_on_later(provider: str) -> None:
    outcome = await submit(says(202, retry_after="3"), provider)
    expected: Outcome = Accepted(poll_after_s=3.0) if provider in ASYNCHRONOUS else Unknown("http_202")
    assert outcome == expected


NOT_UNDERSTOOD = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"<report",
    b'{"reference": "app_1:bureau:1"}',
    b'{"request_id": "app_1:fraud:1", "verdict": {"level": "NONE", "score": 0.1}}',
    b'{"request_id": "app_1:fraud:1", "verdict": {"level": "LOW", "score": 7}}',
    b'{"request_id": "app_2:fraud:1", "verdict": {"level": "LOW", "score": 0.1}}',
    b'{"external_id": "app_1:kyc:1", "state": "completed"}',
    b'{"external_id": "app_2:kyc:1", "state": "pending"}',
    b'{"client_reference": "app_1:income:1", "status": "COMPLETE"}',
    b'{"client_reference": "app_2:income:1", "status": "REJECTED"}',
    b'<report reference="app_1:bureau_alt:1"><creditHistory>excellent</creditHistory></report>',
    b'<!DOCTYPE r [<!ENTITY e "x">]><report reference="app_1:bureau_alt:1">&e;</report>',
    "\N{SNOWMAN}".encode("utf-16"),
]


@every_provider
@pytest.mark.parametrize("call_each", [submit_to_each, look_up_at_each])
async def test_a_success_that_is_not_understood_is_unknown(
    provider: str, call_each: Callable[..., Awaitable[list[Outcome]]]
) -> None:
    known = await call_each([says(200, body) for body in NOT_UNDERSTOOD], provider)
    assert set(known) == {Unknown("answer_not_understood")}


async def test_a_label_that_no_fact_has_is_unknown_and_no_guess() -> None:
    body = (
        b'{"reference":"app_1:bureau:1","report":{"credit_history":"splendid","number_of_credits":1,'
        b'"other_installment_plans":"none","debtors_or_guarantors":"none","installment_rate":2,'
        b'"property":"real estate","duration_in_month":12}}'
    )
    understood = body.replace(b"splendid", b"delay in paying off in the past")
    assert await submit(says(200, body), "bureau") == Unknown("answer_not_understood")
    assert isinstance(await submit(says(200, understood), "bureau"), Done)


@every_provider
@pytest.mark.parametrize("call", [submit, look_up])
@pytest.mark.parametrize(
    ("handler", "reason"),
    [(drops, "connection_lost"), (stops_halfway, "connection_lost"), (floods, "answer_too_large")],
)
async def test_an_answer_that_ends_early_or_never_is_unknown(
    provider: str, call: Call, handler: Handler, reason: str
) -> None:
    assert await call(handler, provider) == Unknown(reason)


@every_provider
@pytest.mark.parametrize("call", [submit, look_up])
async def test_a_call_that_runs_out_of_time_is_unknown(provider: str, call: Call) -> None:
    assert await call(hangs, provider, timeout_s=0.15) == Unknown("timed_out")


@every_provider
async def test_a_refused_connection_sent_nothing_and_looked_up_nothing(provider: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with aiohttp.ClientSession() as session:
            adapter = adapters(Sandbox(f"http://127.0.0.1:{unheard.getsockname()[1]}", session))[provider]
            submitted = await adapter.submit(request(provider), timeout_s=5)
            looked_up = await adapter.look_up(f"app_1:{provider}:1", timeout_s=5)
    assert isinstance(submitted, NotDone)
    assert submitted.retryable
    assert isinstance(looked_up, Unknown)


async def test_a_connection_that_is_never_made_sent_nothing() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with aiohttp.ClientSession() as session:
            bureau = adapters(Sandbox(f"http://127.0.0.1:{full.getsockname()[1]}", session))["bureau"]
            outcome = await bureau.submit(request("bureau"), timeout_s=0.4)
    assert outcome == NotDone("not_connected", retryable=True)


async def test_a_pull_over_a_connection_that_dies_is_never_sent_again_by_itself() -> None:
    """The HTTP client repeats what is safe to repeat over a stale connection; a pull is not."""
    received: list[bytes] = []

    async def answers_once_then_hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"}"))
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        received.append(await reader.readuntil(b"}"))
        writer.close()

    server = await asyncio.start_server(answers_once_then_hangs_up, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        bureau = adapters(Sandbox(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", session))[
            "bureau"
        ]
        outcomes = [await bureau.submit(request("bureau"), timeout_s=5) for _ in range(2)]
    assert outcomes == [NotDone("unavailable", retryable=True), Unknown("connection_lost")]
    assert len(received) == 2


@pytest.mark.parametrize(
    ("provider", "body", "outcome"),
    [
        ("bureau", b'{"error":"not_found","reference":"app_1:bureau:1"}', "not_found"),
        ("bureau", b'{"error":"not_found","reference":"app_2:bureau:1"}', None),
        ("bureau", b'{"error":"no_such_route","reference":"app_1:bureau:1"}', None),
        ("bureau", b"<h1>Not Found</h1>", None),
        ("bureau_alt", b'<error reference="app_1:bureau_alt:1"><code>not_found</code></error>', "not_found"),
        ("bureau_alt", b'<error reference="app_2:bureau_alt:1"><code>not_found</code></error>', None),
        ("bureau_alt", b"<h1>Not Found</h1>", None),
        ("kyc", b'{"error":"not_found","reference":"app_1:kyc:1"}', "not_found"),
        ("fraud", b'{"error":"not_found","reference":"app_1:fraud:1"}', "not_found"),
        ("income", b'{"error":"not_found","reference":"app_1:income:1"}', "not_found"),
    ],
)
async def test_only_the_providers_own_words_about_our_reference_mean_not_found(
    provider: str, body: bytes, outcome: str | None
) -> None:
    expected: Outcome = NotDone("not_found", retryable=True) if outcome else Unknown("http_404")
    assert await look_up(says(404, body), provider) == expected
