"""The HTTP layer over real HTTP: every refusal is a problem, and nothing breaks the server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from fastapi import APIRouter

from faregate.infra.http.app import create_app
from faregate.infra.http.edge import Limits
from faregate.infra.http.server import HEAD_BYTES_MAX, serving
from faregate.infra.telemetry.logs import configure_logging
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.telemetry.tracing import configure_tracing
from tests.integration.http_world import ORDER, client_of, make_app

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client(log: io.BytesIO) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(make_app(limits=Limits(body_bytes_max=2048, request_s_max=0.3))) as session:
        yield session


@pytest.fixture
def log() -> Iterator[io.BytesIO]:
    root, stream = logging.getLogger(), io.BytesIO()
    handlers, level = list(root.handlers), root.level
    configure_logging(stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faregate.infra.http.server.HEAD_S_MAX", 0.2)


async def problem(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    """The status and the problem type's name of an answer that must be a well-formed problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = json.loads(await answer.read())
    assert body["status"] == answer.status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail", "instance"} <= set(body)
    return answer.status, str(body["type"]).removeprefix("/problems/")


@pytest.mark.parametrize("path", ["/orders", "/typed-orders/1"])
async def test_a_good_order_is_taken(client: aiohttp.ClientSession, path: str) -> None:
    answer = await client.post(path, json=ORDER)
    assert answer.status in {200, 202}
    assert (await answer.json())["amount"] == 3


@pytest.mark.requirement("C11")
@pytest.mark.parametrize("path", ["/orders", "/typed-orders/1"])
@pytest.mark.parametrize(
    ("headers", "body", "status", "slug"),
    [
        (JSON, b'{"amount": 3', 400, "broken-json"),
        (JSON, b'{"amount": 3, "amount": 4}', 400, "broken-json"),
        (JSON, b'{"amount": NaN}', 400, "broken-json"),
        (JSON, b'"\xff"', 400, "broken-json"),
        ({"Content-Type": "text/plain"}, b'{"amount": 3}', 415, "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, "unsupported-media-type"),
        (JSON, b"{}", 422, "validation-failed"),
        (JSON, b'{"amount": "x"}', 422, "validation-failed"),
        (JSON, b'{"amount": 3, "colour": {}}', 422, "validation-failed"),
        (JSON, b'{"amount": 3, "other": 1}', 422, "validation-failed"),
        (JSON, b" " * 3000, 413, "body-too-large"),
        (JSON, b" " * 1_000_000, 413, "body-too-large"),
    ],
)
async def test_a_bad_body_gets_its_own_problem(
    client: aiohttp.ClientSession, path: str, headers: dict[str, str], body: bytes, status: int, slug: str
) -> None:
    answer = await client.post(path, data=body, headers=headers)
    assert await problem(answer) == (status, slug)


@pytest.mark.parametrize("path", ["/orders", "/typed-orders/1"])
async def test_a_chunked_body_is_cut_off_at_the_limit(client: aiohttp.ClientSession, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1000

    answer = await client.post(path, data=chunks(), headers=JSON)
    assert await problem(answer) == (413, "body-too-large")


async def test_after_a_refused_body_the_server_goes_on(client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        await client.post("/orders", data=b" " * 500_000, headers=JSON)
    assert (await client.post("/orders", json=ORDER)).status == 202


@asynccontextmanager
async def raw_connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving(make_app()) as url, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        yield reader, writer
        writer.close()


def raw_problem(answer: bytes) -> tuple[int, int]:
    """The status and the problem's status of the one answer that these bytes must be."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    return int(head.split()[1]), json.loads(body)["status"]


async def whole_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.partition(b"content-length: ")[2].split()[0]
    return head + await reader.readexactly(int(length))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz?%b HTTP/1.1\r\n\r\n" % (b"x" * HEAD_BYTES_MAX),
        b"GET /healthz HTTP/1.1\r\nx: %b\r\n\r\n" % (b"x" * HEAD_BYTES_MAX),
        b"GET /healthz HTTP/1.1\r\n%b\r\n" % (b"x: yy\r\n" * (HEAD_BYTES_MAX // 3)),
    ],
    ids=["target", "one header", "many headers"],
)
async def test_a_request_with_too_long_a_head_is_refused_and_the_connection_closed(head: bytes) -> None:
    async with raw_connection() as (reader, writer):
        writer.write(head)
        assert raw_problem(await reader.read()) == (431, 431)


async def test_a_head_without_an_end_is_cut_off() -> None:
    async with raw_connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nx: " + b"x" * 4_000_000)
        with suppress(ConnectionError):  # the server does not read the rest
            assert raw_problem(await reader.read()) == (431, 431)


CHUNKED = b"POST /orders HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


def as_chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("trailers", [b"x: " + b"x" * 4_000_000, b"x: yy\r\n" * 600_000], ids=["one", "many"])
async def test_trailers_without_an_end_are_cut_off(trailers: bytes) -> None:
    async with raw_connection() as (reader, writer):
        writer.write(CHUNKED + as_chunk(b"{") + b"0\r\n" + trailers)
        with suppress(ConnectionError):  # the server does not read the rest
            assert raw_problem(await reader.read()) == (431, 431)


async def test_a_trailer_is_no_header() -> None:
    async with raw_connection() as (reader, writer):
        trailer = b"0\r\nx-request-id: from-a-trailer\r\n\r\n"
        writer.write(CHUNKED + as_chunk(json.dumps(ORDER).encode()) + trailer)
        answer = await whole_answer(reader)
        assert answer.startswith(b"HTTP/1.1 202")
        assert b"from-a-trailer" not in answer


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nx: %b\r\n\r\n" % (b"x" * HEAD_BYTES_MAX), 431),
        (CHUNKED + b"no length\r\n", 400),
    ],
    ids=["no head", "long head", "no chunk"],
)
async def test_a_bad_request_behind_others_is_refused_after_their_answers(bad: bytes, status: int) -> None:
    async with raw_connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n" * 2 + bad)
        for _ in range(2):
            assert (await whole_answer(reader)).startswith(b"HTTP/1.1 200")
        assert raw_problem(await reader.read()) == (status, status)


async def test_a_body_that_breaks_after_its_answer_began_only_closes_the_connection() -> None:
    async with raw_connection() as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await whole_answer(reader)).startswith(b"HTTP/1.1 404")
        writer.write(b"no length\r\n")
        assert await reader.read() == b""


async def test_a_long_body_and_part_of_the_next_request_in_one_read_are_no_long_head() -> None:
    async with raw_connection() as (reader, writer):
        order = json.dumps(ORDER).encode().ljust(60_000)
        head = (
            f"POST /orders HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(order)}\r\n\r\n"
        )
        writer.write(head.encode() + order + b"GET /healthz HTTP/1.1\r\nx: " + b"x" * 6_000)
        assert (await whole_answer(reader)).startswith(b"HTTP/1.1 202")
        writer.write(b"\r\n\r\n")
        assert (await whole_answer(reader)).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("part", [b"G", b"GET /healthz HTTP/1.1\r\nx: "])
async def test_a_head_that_does_not_end_in_time_is_answered_and_the_connection_closed(part: bytes) -> None:
    async with raw_connection() as (reader, writer):
        writer.write(part)
        assert raw_problem(await reader.read()) == (408, 408)


async def test_a_connection_that_never_sends_anything_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faregate.infra.http.server.KEEP_ALIVE_S", 0.2)
    async with raw_connection() as (reader, _):
        assert await reader.read() == b""


@pytest.mark.usefixtures("hasty")
async def test_the_second_request_of_a_connection_has_as_little_time_for_its_head() -> None:
    async with raw_connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert (await whole_answer(reader)).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        assert raw_problem(await reader.read()) == (408, 408)


@pytest.mark.usefixtures("hasty")
async def test_the_time_for_the_head_does_not_run_while_a_request_is_answered() -> None:
    limits = Limits(request_s_max=0.6)
    async with client_of(make_app(limits=limits)) as client:
        assert await problem(await client.get("/hang")) == (503, "request-timed-out")


async def test_a_validation_problem_names_the_nested_field_and_no_value(
    client: aiohttp.ClientSession,
) -> None:
    for path in ("/orders", "/typed-orders/1"):
        answer = await client.post(path, json={"amount": 3, "colour": {"name": 4242}})
        text = await answer.text()
        errors = orjson.loads(text)["errors"]
        assert errors == [{"field": "colour.name", "message": "Input should be a valid string"}]
        assert "4242" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "route-not-found"),
        ("GET", "/orders/", 404, "route-not-found"),
        ("DELETE", "/orders", 405, "method-not-allowed"),
        ("GET", "/typed-orders/1", 405, "method-not-allowed"),
        ("GET", "/orders/o_1", 409, "order-closed"),
        ("GET", "/no-database", 503, "database-unavailable"),
        ("GET", "/crash", 500, "internal-error"),
        ("GET", "/hang", 503, "request-timed-out"),
        ("GET", "/problems/no-such-problem", 404, "problem-unknown"),
    ],
)
async def test_every_other_failure_is_a_problem_too(
    client: aiohttp.ClientSession, method: str, path: str, status: int, slug: str
) -> None:
    answer = await client.request(method, path)
    assert await problem(answer) == (status, slug)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_refused_method_names_those_of_all_routes_with_the_path(
    client: aiohttp.ClientSession,
) -> None:
    for path, methods in (("/orders/1", "DELETE, GET"), ("/orders/open", "POST")):
        answer = await client.put(path)
        assert answer.headers["allow"] == methods


async def test_the_type_of_a_problem_leads_to_its_page(client: aiohttp.ClientSession) -> None:
    closed = await (await client.get("/orders/o_1")).json(content_type=None)
    page = await client.get(closed["type"])
    text = await page.text()
    assert page.headers["content-type"].startswith("text/html")
    assert "The order was closed before." in text
    assert "Read the present state" in text


async def test_a_crash_is_logged_once_under_its_request_id(log: io.BytesIO) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/crash", headers={"X-Request-Id": "mine-1"})
        assert b"ZeroDivisionError" not in await answer.read()
    lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
    crashes = [line for line in lines if "exception" in line]
    assert [(line["event"], line["request_id"]) for line in crashes] == [("request crashed", "mine-1")]
    assert answer.headers["x-request-id"] == "mine-1"


async def test_an_expected_error_is_not_logged_as_a_crash(log: io.BytesIO) -> None:
    async with client_of(make_app()) as client:
        await client.get("/orders/o_1")
        await client.get("/healthz")
    [line] = [orjson.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["route"], line["status"]) == ("request", "/orders/{order_id}", 409)


async def test_a_failure_after_the_answer_began_breaks_it_off(client: aiohttp.ClientSession) -> None:
    answer = await client.get("/break-off")
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()


@pytest.mark.parametrize("header", ["a b", "x" * 65, "é"])
async def test_a_request_id_that_could_forge_a_log_line_is_replaced(header: str) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/healthz", headers={"X-Request-Id": header})
        assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.requirement("P4")
async def test_a_trace_begins_at_the_request_or_goes_on_from_the_client(
    client: aiohttp.ClientSession,
) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    continued = await (await client.get("/trace", headers={"traceparent": given})).text()
    begun = [await (await client.get("/trace")).text() for _ in range(2)]
    assert continued[:36] == given[:36]
    assert all(begun)
    assert begun[0] != begun[1]


@pytest.mark.requirement("P4")
async def test_with_an_exporter_a_request_is_a_span_with_its_route_and_status(tmp_path: Path) -> None:
    tracing = configure_tracing(service="api", exporter="file", path=tmp_path / "spans.jsonl")
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with client_of(make_app()) as client:
        answer = await (await client.get("/trace", headers={"traceparent": given})).text()
    tracing.close()
    span = orjson.loads((tmp_path / "spans.jsonl").read_bytes())
    assert (span["name"], span["attributes"]["http.response.status_code"]) == ("GET /trace", 200)
    assert (span["trace_id"], span["parent_id"]) == (given[3:35], given[36:52])
    assert answer[36:52] == span["span_id"]


@pytest.mark.requirement("P4")
async def test_requests_are_counted_by_route_template(client: aiohttp.ClientSession) -> None:
    for path in ("/orders/o_1", "/orders/o_2", "/made-up-1", "/made-up-2"):
        await client.get(path)
    text = await (await client.get("/metrics")).text()
    assert 'faregate_http_requests_total{method="GET",route="/orders/{order_id}",status="409"} 2.0' in text
    assert 'route="unmatched",status="404"} 2.0' in text
    assert "made-up" not in text


@pytest.mark.requirement("P4")
async def test_readiness_names_the_check_that_fails_and_nothing_secret() -> None:
    async def good() -> None: ...

    async def bad() -> None:
        raise ConnectionError("postgresql://user:secret@db")

    async with client_of(make_app(checks={"database": bad, "cache": good})) as client:
        answer = await client.get("/readyz")
        assert answer.status == 503
        assert await answer.json() == {
            "ready": False,
            "checks": {"database": "ConnectionError", "cache": "ok"},
        }
        assert (await client.get("/healthz")).status == 200


async def test_readiness_is_200_when_every_check_passes() -> None:
    async def good() -> None: ...

    async with client_of(make_app(checks={"database": good})) as client:
        assert (await client.get("/readyz")).status == 200


async def test_many_requests_at_once_keep_their_own_ids_and_traces() -> None:
    async with client_of(make_app(metrics=Metrics())) as client:
        answers = await asyncio.gather(*(client.get("/trace") for _ in range(50)))
        assert len({answer.headers["x-request-id"] for answer in answers}) == 50
        assert len({await answer.text() for answer in answers}) == 50


async def test_a_router_that_reads_json_loosely_is_refused() -> None:
    loose = APIRouter()

    @loose.get("/x")
    async def x() -> None: ...

    with pytest.raises(TypeError):
        create_app(title="x", version="1", routers=[loose])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app().openapi()


def test_the_openapi_document_shows_bodies_and_problems_with_examples(document: dict[str, Any]) -> None:
    order = document["paths"]["/orders"]["post"]
    body = order["requestBody"]["content"]["application/json"]
    assert body["examples"]["red"]["value"] == ORDER
    assert order["responses"]["202"]["content"]["application/json"]["example"] == {"order_id": "o_1"}
    assert order["parameters"][0]["name"] == "Idempotency-Key"
    refused = order["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert set(refused) == {"validation-failed", "idempotency-key-reused"}
    assert {"202", "400", "401", "403", "409", "413", "415", "422", "500", "503"} == set(order["responses"])


def test_every_route_documents_its_path_parameters_and_the_problems_that_any_may_meet(
    document: dict[str, Any],
) -> None:
    described = document["paths"]["/problems/{slug}"]["get"]
    assert described["parameters"][0]["name"] == "slug"
    assert {"200", "404", "500", "503"} <= set(described["responses"])
    ready = document["paths"]["/readyz"]["get"]["responses"]["503"]["content"]
    assert set(ready) == {"application/json", "application/problem+json"}


def test_every_reference_in_the_openapi_document_leads_somewhere(document: dict[str, Any]) -> None:
    text = orjson.dumps(document).decode()
    wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert {"Order", "OrderTaken", "Colour", "Problem"} <= wanted <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in text
    assert "$defs" not in text
    assert "x-model" not in text
