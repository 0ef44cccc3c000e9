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
