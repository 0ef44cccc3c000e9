"""Logs, traces and metrics: one JSON line an event, nothing personal in it, and a trace that never breaks."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from faregate.infra.telemetry.logs import configure_logging, current_request_id, log_request
from faregate.infra.telemetry.masking import MASK, is_personal, mask_fields, mask_text
from faregate.infra.telemetry.metrics import HttpMetrics, Metrics
from faregate.infra.telemetry.tracing import (
    TracingMisconfigured,
    configure_tracing,
    current_traceparent,
    new_span_context,
    parse_traceparent,
    root_context,
    span_from,
)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Log:
    """A log of the process's own lines, read back as JSON."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    root, written = logging.getLogger(), Log()
    handlers, level = list(root.handlers), root.level
    configure_logging(stream=written.stream)
    yield written
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.requirement("P4")
def test_an_event_is_one_json_line_with_its_trace_and_request(log: Log) -> None:
    token = current_request_id.set("req_1")
    with span_from(TRACEPARENT, "work"):
        structlog.get_logger().info("decided", application_id="app_1")
    current_request_id.reset(token)
    [line] = log.lines
    assert (line["event"], line["level"], line["request_id"]) == ("decided", "info", "req_1")
    assert line["trace_id"] == TRACEPARENT[3:35]


def test_the_standard_librarys_records_join_the_same_stream(log: Log) -> None:
    logging.getLogger("dbos").info("chatter")
    logging.getLogger("uvicorn.error").warning("port %s taken", 80)
    assert [(line["event"], line["logger"]) for line in log.lines] == [("port 80 taken", "uvicorn.error")]


def test_debug_lines_are_left_out(log: Log) -> None:
    structlog.get_logger().debug("detail")
    assert log.lines == []


def test_an_answered_request_is_one_line(log: Log) -> None:
    log_request(method="GET", route="/x/{id}", path="/x/1", status=200, duration_s=0.0123)
    [line] = log.lines
    assert (line["event"], line["status"], line["duration_ms"]) == ("request", 200, 12.3)


@pytest.mark.requirement("P3")
def test_personal_fields_never_reach_the_log(log: Log) -> None:
    applicant = {"legal_name": "Jane Doe", "dob": "1980-01-02", "ssn_last4": "6789", "deep": [{"ssn": "1"}]}
    structlog.get_logger().info(
        "received", applicant=applicant, facts=applicant, authorization="Bearer x", application_id="app_1"
    )
    text = log.stream.getvalue().decode()
    assert not any(secret in text for secret in ("Jane", "1980", "6789", "Bearer"))
    assert log.lines[0]["application_id"] == "app_1"


def test_an_exception_is_logged_without_the_rows_and_inputs_that_it_quotes(log: Log) -> None:
    class Form(BaseModel):
        amount: int

    sent = {"amount": "Jane Doe"}
    try:
        Form.model_validate(sent)
    except ValidationError:
        structlog.get_logger().exception("crashed")
    error = psycopg.errors.UniqueViolation("duplicate key\nDETAIL:  Key (name)=(Jane Doe) already exists.")
    structlog.get_logger().error("crashed", exc_info=error)
    assert "Traceback" in log.lines[0]["exception"]
    assert "duplicate key" in log.lines[1]["exception"]
    assert "Jane" not in log.stream.getvalue().decode()


@pytest.mark.parametrize(
    "name",
    [
        "legal_name",
        "dob",
        "ssn_last4",
        "SSN",
        "annual_income",
        "Authorization",
        "x_api_key",
        "webhook_secret",
    ],
)
def test_a_personal_name_is_known(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize("name", ["application_id", "idempotency_key", "provider", "name", "event", "status"])
def test_an_ordinary_name_is_left_alone(name: str) -> None:
    assert not is_personal(name)
    assert mask_fields({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("secret", ["123-45-6789", f"fg_abc_{'0f' * 32}", "whsec_abc", "Bearer abc"])
def test_a_text_loses_what_has_the_shape_of_a_secret(secret: str) -> None:
    assert mask_text(f"before {secret} after") == f"before {MASK} after"


@pytest.mark.requirement("P4")
def test_a_trace_continues_from_its_traceparent_without_an_exporter() -> None:
    with span_from(TRACEPARENT, "work"):
        assert current_traceparent() == TRACEPARENT
        with span_from(None, "part of the work"):
            assert current_traceparent() == TRACEPARENT
    assert current_traceparent() is None


def test_a_trace_begins_where_there_is_none() -> None:
    with span_from(None, "work"):
        begun = current_traceparent()
    assert begun is not None
    assert parse_traceparent(begun) is not None


@pytest.mark.parametrize(
    "malformed",
    ["", "x", TRACEPARENT.upper(), TRACEPARENT + "-00", "ff" + TRACEPARENT[2:], TRACEPARENT[:-1],
     f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01"],
)  # fmt: skip
def test_a_malformed_traceparent_is_ignored(malformed: str) -> None:
    assert parse_traceparent(malformed) is None


def test_a_later_version_of_traceparent_is_read_as_far_as_known() -> None:
    assert parse_traceparent("01" + TRACEPARENT[2:] + "-future") == parse_traceparent(TRACEPARENT)


@given(st.binary(min_size=24, max_size=24).filter(lambda b: any(b[:16]) and any(b[16:])))
def test_a_new_context_survives_the_way_through_a_header(ids: bytes) -> None:
    made = new_span_context(random=lambda _: ids)
    read = parse_traceparent(f"00-{made.trace_id:032x}-{made.span_id:016x}-00")
    assert read is not None
    assert (read.trace_id, read.span_id) == (made.trace_id, made.span_id)
    assert root_context(None, random=lambda _: ids) is not None


@pytest.mark.parametrize("exporter", ["otlp", "file"])
def test_an_exporter_without_a_target_is_refused(exporter: Any) -> None:
    with pytest.raises(TracingMisconfigured):
        configure_tracing(service="api", exporter=exporter)


@pytest.mark.requirement("P4")
def test_spans_are_written_to_a_file_and_hang_together(tmp_path: Path) -> None:
    tracing = configure_tracing(service="api", exporter="file", path=tmp_path / "traces" / "spans.jsonl")
    with span_from(TRACEPARENT, "outer", application_id="app_1", legal_name="Jane Doe"):
        hop = current_traceparent()
    with span_from(hop, "inner"):
        pass
    tracing.close()
    outer, inner = map(orjson.loads, (tmp_path / "traces" / "spans.jsonl").read_bytes().splitlines())
    assert outer["trace_id"] == inner["trace_id"] == TRACEPARENT[3:35]
    assert (outer["parent_id"], inner["parent_id"]) == (TRACEPARENT[36:52], outer["span_id"])
    assert outer["attributes"] == {"application_id": "app_1", "legal_name": MASK}


async def test_a_metric_is_made_once_and_probes_run_before_a_scrape() -> None:
    metrics = Metrics()
    lag = metrics.gauge("faregate_lag_events", "Lag", labels=["group"])
    assert metrics.gauge("faregate_lag_events", "Lag", labels=["group"]) is lag

    async def probe() -> None:
        lag.labels("signals").set(7)

    metrics.add_probe(probe)
    assert b'faregate_lag_events{group="signals"} 7.0' in await metrics.render()


async def test_a_probe_that_fails_does_not_hide_the_other_metrics(log: Log) -> None:
    metrics = Metrics()
    HttpMetrics(metrics).observe(method="GET", route="/x", status=200, duration_s=0.01)

    async def broken() -> None:
        raise OSError("no database")

    metrics.add_probe(broken)
    assert b'faregate_http_requests_total{method="GET",route="/x",status="200"} 1.0' in await metrics.render()
    assert log.lines[0]["event"] == "metrics probe failed"


async def test_a_probe_that_hangs_does_not_hide_the_other_metrics() -> None:
    metrics = Metrics()
    metrics.counter("faregate_counted_total", "Counted").inc()
    metrics.add_probe(asyncio.Event().wait)  # type: ignore[arg-type]
    assert b"faregate_counted_total 1.0" in await metrics.render()
