"""The load generator against a real HTTP server: what it counts as what, and that it omits nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from faregate.bench.load_process import application, applications, generate_apart
from faregate.bench.loadgen import Load, LoadReport, NobodyListens, generate, percentile_ms

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    server = web.AppRunner(web.Application(middlewares=[]), access_log=None)
    server.app.router.add_post("/api/credit-applications", answer)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0, shutdown_timeout=0.1)
    await site.start()
    yield f"http://127.0.0.1:{server.addresses[0][1]}"
    await server.cleanup()


async def send(url: str, **changed: object) -> LoadReport:
    load = Load(**({"urls": (url,), "count": 200, "connections": 8} | changed))  # type: ignore[arg-type]
    return await generate(load, applications(load, run="t"))


async def accept(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({}, status=202)


async def test_every_request_is_a_valid_application_of_its_own() -> None:
    seen: list[tuple[str, str, str]] = []

    async def remember(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append(
            (
                request.headers["Idempotency-Key"],
                body["applicant"]["legal_name"],
                request.headers["X-Api-Key"],
            )
        )
        return web.json_response({}, status=202)

    async with serving(remember) as url:
        report = await send(url, first=1000, headers={"X-Api-Key": "k"})
    assert (report.sent, report.accepted, report.failed, report.dropped) == (200, 200, 0, 0)
    assert {key for key, _, _ in seen} == {f"t-{n}" for n in range(1000, 1200)}
    assert len({name for _, name, _ in seen}) == 200
    assert {api_key for _, _, api_key in seen} == {"k"}


@pytest.mark.parametrize(
    ("status", "field"), [(202, "accepted"), (429, "refused"), (503, "refused"), (500, "failed")]
)
async def test_answers_are_counted_by_their_status(status: int, field: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(answer) as url:
        report = await send(url, count=50)
    assert getattr(report, field) == 50
    assert report.statuses == {str(status): 50}


async def test_latency_counts_from_the_due_time_so_that_a_stall_shows_in_every_request_it_delays() -> None:
    stalled = asyncio.Event()

    async def stall_once(request: web.Request) -> web.Response:
        if not stalled.is_set():
            stalled.set()
            await asyncio.sleep(0.5)
        return await accept(request)

    async with serving(stall_once) as url:
        report = await send(url, count=100, connections=1, rate_per_s=200.0)
    assert report.accepted == 100
    assert report.latency_ms_p50 > 50
    assert report.latency_ms_max >= 500


async def test_a_due_request_without_a_connection_is_dropped_and_reported() -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return await accept(request)

    async with serving(slow) as url:
        report = await send(url, count=50, connections=1, rate_per_s=500.0, patience_s=0.1)
    assert report.dropped + report.sent == report.due == 50
    assert report.dropped > 40


async def test_refusals_whose_headers_are_wrong_are_counted_by_what_is_wrong() -> None:
    async def refuse(request: web.Request) -> web.Response:
        proper = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        is_odd = int(request.headers["Idempotency-Key"].rpartition("-")[2]) % 2
        return web.Response(status=503, headers=proper if is_odd else {})

    async with serving(refuse) as url:
        report = await send(url, count=50)
    assert (report.refused, report.refusal_faults) == (50, {"503: no valid Retry-After": 25})


async def test_accepted_answers_are_kept_one_a_line(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        number = int(request.headers["Idempotency-Key"].rpartition("-")[2])
        return web.json_response({"number": number}, status=202 if number < 30 else 409)

    async with serving(answer) as url:
        await send(url, count=40, answers_file=str(tmp_path / "answers"))
    kept = [json.loads(line)["number"] for line in (tmp_path / "answers").read_text().splitlines()]
    assert sorted(kept) == list(range(30))


async def test_what_is_sent_late_is_reported_although_it_was_answered() -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return await accept(request)

    async with serving(slow) as url:
        report = await send(url, count=10, connections=1, rate_per_s=1000.0, patience_s=5.0)
    assert (report.accepted, report.dropped, report.late) == (10, 0, 9)


async def test_a_broken_connection_is_a_failure_and_is_opened_again() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        if request.headers["Idempotency-Key"].endswith("7"):
            request.transport.abort()
        return await accept(request)

    async with serving(hang_up) as url:
        report = await send(url, count=40, connections=2)
    assert (report.accepted, report.failed) == (36, 4)


async def test_an_overdue_answer_is_a_failure() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(never) as url:
        report = await send(url, count=2, connections=2, timeout_s=0.2)
    assert (report.accepted, report.failed) == (0, 2)


async def test_a_server_that_is_not_there_is_said_at_once(unused_tcp_port: int) -> None:
    with pytest.raises(NobodyListens):
        await send(f"http://127.0.0.1:{unused_tcp_port}")


async def test_the_generator_as_a_process_of_its_own_reports_the_same(unused_tcp_port: int) -> None:
    async with serving(accept) as url:
        report = await generate_apart(Load(urls=(url, url), count=100, connections=4), run="apart")
    assert report.accepted == 100
    with pytest.raises(NobodyListens):
        await generate_apart(Load(urls=(f"http://127.0.0.1:{unused_tcp_port}",), count=1), run="apart")


def test_runs_and_numbers_never_share_an_applicant() -> None:
    names = {application(n, run=run)["applicant"]["legal_name"] for run in "ab" for n in range(500)}
    assert len(names) == 1000


def test_percentiles_are_nearest_rank() -> None:
    hundred = [n / 1000 for n in range(1, 101)]
    assert [round(percentile_ms(hundred, p)) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile_ms([], 99) == 0.0
