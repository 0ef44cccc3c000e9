"""Recording and exporting spans with the OpenTelemetry SDK. Imported only when an exporter is configured."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from pathlib import Path

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from faregate.infra.telemetry.masking import mask_text

_EXPORT_EVERY_MS = 500


class FileExporter(SpanExporter):
    """Appends spans to a file, one JSON object a line. A batch is one write: processes may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the batch."""
        os.write(self._file, b"".join(orjson.dumps(_as_json(span)) + b"\n" for span in spans))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        os.close(self._file)


class _Switch(SpanProcessor):
    """Hands spans to the processor set now: the SDK allows one provider a process, and tests need several."""

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.target is not None:
            self.target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.target is not None:
            self.target.on_end(span)


_switch = _Switch()


class SpanRecording:
    """A processor with its exporter, set as the target of this process's spans."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor: SpanProcessor | None = processor
        _switch.target = processor
        atexit.register(self.close)

    def flush(self) -> None:
        """Export every span that has ended."""
        if self._processor is not None:
            self._processor.force_flush()

    def close(self) -> None:
        """Export what is waiting and stop; a second call does nothing."""
        processor, self._processor = self._processor, None
        if processor is None:
            return
        if _switch.target is processor:
            _switch.target = None
        processor.shutdown()
        atexit.unregister(self.close)


def start_recording(
    *, service: str, endpoint: str | None, path: Path | None, sample_ratio: float
) -> SpanRecording:
    """Install the SDK (once a process) and record to the file, or else to the OTLP endpoint."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider(
            resource=Resource.create({"service.name": service}),
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_switch)
        trace.set_tracer_provider(provider)
    exporter = FileExporter(path) if path is not None else _otlp_exporter(endpoint)
    return SpanRecording(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS))


def _otlp_exporter(endpoint: str | None) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint)


def _as_json(span: ReadableSpan) -> dict[str, object]:
    own = span.get_span_context()
    return {
        "service": span.resource.attributes.get("service.name"),
        "name": span.name,
        "trace_id": format(own.trace_id, "032x") if own else None,
        "span_id": format(own.span_id, "016x") if own else None,
        "parent_id": format(span.parent.span_id, "016x") if span.parent else None,
        "start_unix_ns": span.start_time,
        "end_unix_ns": span.end_time,
        "status": span.status.status_code.name,
        "description": mask_text(span.status.description) if span.status.description else None,
        "attributes": dict(span.attributes or {}),
        "links": [format(link.context.trace_id, "032x") for link in span.links],
    }
