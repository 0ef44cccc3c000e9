"""Prometheus metrics of the gateway. Labels are providers and outcomes, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter(
    "faregate_gateway_calls", "Calls to providers by what they brought.", ["provider", "operation", "outcome"]
)
IN_FLIGHT = Gauge("faregate_gateway_in_flight", "Calls to providers that have not returned.", ["provider"])
CALL_SECONDS = Histogram(
    "faregate_gateway_call_seconds",
    "Duration of calls to providers.",
    ["provider", "operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
SETTLED = Counter("faregate_gateway_settled", "Checks as told to their owners.", ["provider", "status"])
REFUSED = Counter(
    "faregate_gateway_refused_records", "Outcomes that came after their claim was lost.", ["provider"]
)
CALLBACKS = Counter("faregate_gateway_callbacks", "Processed callbacks.", ["provider", "result"])
REFUSALS = Counter(
    "faregate_gateway_refusals",
    "Calls that a policy did not let through: nothing was sent.",
    ["provider", "operation", "reason"],
)
RETRIES = Counter(
    "faregate_gateway_retries",
    "Repeated sends that asked for leave, by what they got.",
    ["provider", "result"],
)
HEDGES = Counter("faregate_gateway_hedges", "Second look-ups beside one that was late.", ["provider"])
LIMIT = Gauge("faregate_gateway_limit", "Most calls in flight in this process.", ["provider", "operation"])
BREAKER = Gauge(
    "faregate_gateway_breaker",
    "1 for the state that a breaker is in as this process sees it: closed, half_open, open.",
    ["provider", "operation", "state"],
)
CHANGES = Counter(
    "faregate_gateway_breaker_changes",
    "Changes of a breaker's state that this process made.",
    ["provider", "operation", "state"],
)
