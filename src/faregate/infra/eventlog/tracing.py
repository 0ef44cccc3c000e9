"""Carries traces over the log: a handler's span points back to the spans that appended. No set-up here."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from faregate.kernel.event import Event

LINKS_MAX = 128
"""OpenTelemetry's default limit for the links of a span."""

_PROPAGATOR = TraceContextTextMapPropagator()


def current_traceparent() -> str | None:
    """Return the current span as a W3C `traceparent`, or None outside any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def link_to(span: Span, events: Iterable[Event]) -> None:
    """Link a span to the spans that appended these events, each once. Free when nothing is recorded."""
    if not span.is_recording():
        return
    origins = dict.fromkeys(event.traceparent for event in events if event.traceparent)
    for traceparent in list(origins)[:LINKS_MAX]:
        context = _PROPAGATOR.extract({"traceparent": traceparent})
        span.add_link(trace.get_current_span(context).get_span_context())
