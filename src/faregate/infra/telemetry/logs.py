"""Structured logs: one JSON object a line on standard error. Configured once a process, before anything logs.

Everything else calls `structlog.get_logger()`; the standard library's loggers are led into the same stream.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import orjson
import structlog
from opentelemetry import trace

from faregate.infra.telemetry.masking import MASK, is_personal, mask_fields, mask_text

EventDict = MutableMapping[str, Any]
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "alembic", "aiohttp.access", "opentelemetry")

_request_lines: structlog.BytesLogger | None = None

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""The id of the HTTP request that is being answered; the HTTP layer sets it, every log line carries it."""


def configure_logging(
    *,
    format: Literal["json", "console"] = "json",  # noqa: A002  # the word that users know
    level: int = logging.INFO,
    stream: BinaryIO | None = None,
) -> None:
    """Send every log line of the process to `stream` (standard error), as JSON or for a person to read."""
    target = stream or sys.stderr.buffer
    render = _to_json if format == "json" else _ConsoleRenderer()
    global _request_lines
    _request_lines = structlog.BytesLogger(target) if format == "json" and level <= logging.INFO else None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_ids,
            _render_exception,
            _mask,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(level)
    for name in _QUIET:
        quiet = logging.getLogger(name)
        quiet.handlers, quiet.propagate = [], True
        quiet.setLevel(max(level, logging.WARNING))


def log_request(*, method: str, route: str, path: str | None, status: int, duration_s: float) -> None:
    """Log one answered request. As JSON it skips the processors: its few fields hold nothing personal."""
    line: EventDict = {"method": method, "route": route, "path": path, "status": status}
    line["duration_ms"] = round(duration_s * 1000, 2)
    if _request_lines is None:
        structlog.get_logger().info("request", **line)
        return
    line.update(event="request", level="info", timestamp=datetime.now(UTC))
    _request_lines.msg(orjson.dumps(_add_ids(None, "info", line), option=orjson.OPT_UTC_Z))


class _ToStructlog(logging.Handler):
    """Leads records of the standard library's loggers into the structured stream."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


class _ConsoleRenderer:
    """The same events as coloured text, for a person at a terminal."""

    def __init__(self) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def __call__(self, logger: Any, method: str, event: EventDict) -> bytes:
        return str(self._render(logger, method, event)).encode()


def _add_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    request_id = current_request_id.get()
    if request_id is not None:
        event["request_id"] = request_id
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format(span.trace_id, "032x")
    return event


def _render_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = mask_text("".join(traceback.format_exception(error)))
    return event


def _mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if is_personal(name):
            event[name] = MASK
        elif isinstance(value, dict | list | tuple):
            event[name] = mask_fields(value)
    event["event"] = mask_text(str(event.get("event", "")))
    return event


def _to_json(_logger: Any, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)
