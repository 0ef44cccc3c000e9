"""One call to a provider is timed, counted and traced, and never raises; its outcome survives as JSON."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from faregate.gateway import calls
from faregate.gateway.intent import Intent, State
from faregate.gateway.settlement import Step
from faregate.gateway.store.outcomes import outcome_from_json, outcome_to_json
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

INTENT = Intent(
    provider_request_id="app_1:slowpoke:1",
    subject_id="app_1",
    check="kyc",
    provider="slowpoke",
    attempt=1,
    state=State.SENDING,
    deadline=datetime(2026, 3, 1, tzinfo=UTC),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


async def call(answer: Outcome | Exception | None, *, most_s: float = 5.0) -> Outcome:
    async def adapter() -> Outcome:
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    until = asyncio.get_running_loop().time() + most_s
    return await calls.observed(adapter(), intent=INTENT, step=Step.SEND, until=until, may_send=lambda: True)


async def test_an_answer_comes_back_as_it_is() -> None:
    assert await call(NotDone("refused")) == NotDone("refused")


async def test_a_call_past_its_time_is_unknown() -> None:
    assert await call(None, most_s=0.01) == Unknown("timeout")


async def test_a_fault_of_the_adapter_is_unknown_and_names_only_its_kind() -> None:
    assert await call(ValueError("Jane Doe, 1234")) == Unknown("adapter_failed: ValueError")


async def test_a_cancelled_call_stays_cancelled() -> None:
    task = asyncio.create_task(call(None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_calls_are_counted_by_provider_and_outcome() -> None:
    labels = {"provider": "slowpoke", "operation": "send", "outcome": "accepted"}
    before = REGISTRY.get_sample_value("faregate_gateway_calls_total", labels) or 0
    await call(Accepted(1.0))
    assert REGISTRY.get_sample_value("faregate_gateway_calls_total", labels) == before + 1
    assert REGISTRY.get_sample_value("faregate_gateway_in_flight", {"provider": "slowpoke"}) == 0


async def test_the_span_of_a_call_belongs_to_the_trace_of_its_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(calls, "_tracer", provider.get_tracer("test"))
    await call(Done({}))
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert dict(span.attributes or {})["outcome"] == "done"


@pytest.mark.parametrize(
    "outcome",
    [
        Done({"housing": "own", "dependants": 2}),
        Accepted(1.5),
        NotDone("busy", retryable=True, retry_after_s=3.0),
        NotDone("refused"),
        Unknown("timeout"),
    ],
)
def test_an_outcome_survives_the_inbox(outcome: Outcome) -> None:
    assert outcome_from_json(outcome_to_json(outcome)) == outcome


def test_the_raw_body_does_not_enter_the_inbox_in_clear() -> None:
    assert "secret" not in str(outcome_to_json(Done({}, b"secret")))


def test_an_outcome_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="perhaps"):
        outcome_from_json({"kind": "perhaps"})
