"""W3C trace context through HTTP, events and workflows, and spans where an exporter is configured.

Without an exporter nothing is recorded and a span costs microseconds, but the context still travels: the HTTP
layer begins a trace for every request, so that each event and log line belongs to one. Such a trace counts as
not sampled, so give all processes the same exporter. `tracestate` is not carried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from faregate.infra.telemetry.masking import MASK, is_personal
from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from faregate.infra.telemetry.span_export import SpanRecording

AttributeValue = str | bool | int | float
Random = Callable[[int], bytes]

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_tracer = trace.get_tracer("faregate")
_recording = False  # a flag of our own, since asking the API for its provider reads the environment each time


class TracingMisconfigured(InvalidError):
    """An exporter lacks its target: `otlp` needs an endpoint, `file` a path."""


class Tracing:
    """A running exporter. `close` sends what is still waiting."""

    def __init__(self, recording: SpanRecording | None) -> None:
        self._recording = recording

    def flush(self) -> None:
        """Send every span that has ended so far."""
        if self._recording is not None:
            self._recording.flush()

    def close(self) -> None:
        """Send what is waiting and stop recording."""
        if self._recording is not None:
            global _recording
            _recording = False
            self._recording.close()


def configure_tracing(
    *,
    service: str,
    exporter: Literal["none", "otlp", "file"] = "none",
    endpoint: str | None = None,
    path: Path | None = None,
    sample_ratio: float = 1.0,
) -> Tracing:
    """Record spans and send them over OTLP/HTTP or append them to a file as JSON lines; or record nothing.

    Several processes may write one file. `sample_ratio` applies to traces that begin here.
    """
    if exporter == "none":
        return Tracing(None)
    if (exporter == "otlp" and not endpoint) or (exporter == "file" and path is None):
        raise TracingMisconfigured(f"the {exporter} exporter has no target")
    from faregate.infra.telemetry.span_export import start_recording  # the SDK takes 0.1 s to import

    global _recording
    _recording = True
    return Tracing(start_recording(service=service, endpoint=endpoint, path=path, sample_ratio=sample_ratio))


def current_traceparent() -> str | None:
    """Return the current trace context as a W3C `traceparent`, or None outside of any trace."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def parse_traceparent(traceparent: str | None) -> SpanContext | None:
    """Return the context that a `traceparent` names, or None if it is missing or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(int(match[4], 16)))


def new_span_context(*, random: Random = os.urandom) -> SpanContext:
    """Return the context of a trace that begins here and is not recorded."""
    ids = random(24)
    return SpanContext(int.from_bytes(ids[:16]), int.from_bytes(ids[16:]), is_remote=False)


def is_recording() -> bool:
    """Whether an exporter was configured in this process."""
    return _recording


def root_context(traceparent: str | None, *, random: Random = os.urandom) -> Context:
    """Return the context to work in for a caller who sent this `traceparent`, or none."""
    parent = parse_traceparent(traceparent)
    if parent is None:
        if is_recording():
            return Context()
        parent = new_span_context(random=random)
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


@contextmanager
def span_from(traceparent: str | None, name: str, /, **attributes: AttributeValue) -> Iterator[Span]:
    """Do the body in a span that continues `traceparent`; None continues the current trace or begins one."""
    if traceparent is None and trace.get_current_span().get_span_context().is_valid:
        parent = context.get_current()
    else:
        parent = root_context(traceparent)
    with start_span(parent, name, kind=SpanKind.INTERNAL, attributes=attributes) as span:
        yield span


@contextmanager
def start_span(
    parent: Context, name: str, *, kind: SpanKind, attributes: dict[str, AttributeValue]
) -> Iterator[Span]:
    """Do the body inside a span of this kind under `parent`. Attributes with personal names are masked."""
    if not is_recording():
        token = context.attach(parent)
        try:
            yield trace.get_current_span()
        finally:
            context.detach(token)
        return
    safe = {key: MASK if is_personal(key) else value for key, value in attributes.items()}
    with _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=safe) as span:
        yield span
