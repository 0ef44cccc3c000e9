"""One call to a provider: its time limit, its span, its metrics. Nothing is remembered or retried here."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from faregate.gateway.intent import Intent
from faregate.gateway.last_check import sending_while
from faregate.gateway.metrics import CALL_SECONDS, CALLS, IN_FLIGHT
from faregate.gateway.settlement import Step
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("faregate.gateway")
_propagator = TraceContextTextMapPropagator()
_NAMES: dict[type, str] = {Done: "done", Accepted: "accepted", NotDone: "not_done", Unknown: "unknown"}


async def observed(
    call: Awaitable[Outcome], *, intent: Intent, step: Step, until: float, may_send: Callable[[], bool]
) -> Outcome:
    """Await an adapter's call inside a span of the intent's trace, at most until this time of the event loop.

    `may_send` is asked once more when the connection stands, right before the bytes go out. Whatever goes wrong in the
    call is Unknown: what we cannot explain may have been executed.
    """
    started = perf_counter()
    with (
        IN_FLIGHT.labels(intent.provider).track_inprogress(),
        sending_while(may_send),
        _tracer.start_as_current_span(
            f"gateway {step} {intent.provider}",
            context=_context(intent),
            kind=trace.SpanKind.CLIENT,
            attributes={"provider": intent.provider, "provider_request_id": intent.provider_request_id},
        ) as span,
    ):
        outcome = await _guarded(call, intent=intent, until=until)
        name = _NAMES[type(outcome)]
        span.set_attribute("outcome", name)
    CALLS.labels(intent.provider, step, name).inc()
    CALL_SECONDS.labels(intent.provider, step).observe(perf_counter() - started)
    return outcome


async def _guarded(call: Awaitable[Outcome], *, intent: Intent, until: float) -> Outcome:
    try:
        async with asyncio.timeout_at(until):
            return await call
    except TimeoutError:
        return Unknown("timeout")
    except Exception as error:  # noqa: BLE001 - whatever an adapter's fault is, its call may have arrived
        name = type(error).__name__
        # Its message may quote what was sent, so only the kind and the place are logged.
        where = traceback.format_tb(error.__traceback__)
        _log.error("gateway.adapter_failed", provider=intent.provider, error=name, where=where)
        return Unknown(f"adapter_failed: {name}")


async def hedged(
    look: Callable[[], Awaitable[Outcome]],
    *,
    after_s: float | None,
    again: Callable[[], Awaitable[Outcome]] | None,
) -> Outcome:
    """Look up; when the answer is later than `after_s`, look up `again` beside it. The first that knows wins.

    The other one is cancelled. Only for what changes nothing at the provider.
    """
    if after_s is None or again is None:
        return await look()
    asked = [asyncio.ensure_future(look())]
    try:
        await asyncio.wait(asked, timeout=after_s)
        if not asked[0].done():
            asked.append(asyncio.ensure_future(again()))
        return await _first_that_knows(asked)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _first_that_knows(asked: Sequence[asyncio.Future[Outcome]]) -> Outcome:
    waiting, answer = set(asked), Unknown("timeout")
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            outcome = one.result()
            if not isinstance(outcome, Unknown):
                return outcome
            answer = outcome
    return answer


def _context(intent: Intent) -> Context | None:
    return _propagator.extract({"traceparent": intent.traceparent}) if intent.traceparent else None
