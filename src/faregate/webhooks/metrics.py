"""Prometheus metrics of webhooks. Labels are results, never clients or addresses."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from faregate.webhooks.contracts import Backlog
from faregate.webhooks.domain.schedule import Answer, State, Verdict

ATTEMPTS = Counter("faregate_webhook_attempts", "Attempts to deliver by what they brought.", ["result"])
GIVEN_UP = Counter("faregate_webhook_given_up", "Deliveries that were given up.")
DISABLED = Counter("faregate_webhook_endpoints_disabled", "Endpoints that were disabled.", ["reason"])
IN_FLIGHT = Gauge("faregate_webhook_in_flight", "Requests to endpoints that have not returned.")
SECONDS = Histogram(
    "faregate_webhook_seconds",
    "Duration of requests to endpoints.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

DUE = Gauge("faregate_webhook_due", "Deliveries that are due and not sent yet.")
DUE_SECONDS = Gauge("faregate_webhook_due_seconds", "How long the oldest of them has been due.")
DEAD = Gauge("faregate_webhook_dead", "Deliveries that were given up and can be sent again.")


def show(backlog: Backlog) -> None:
    """Set the gauges of what waits."""
    DUE.set(backlog.due)
    DUE_SECONDS.set(backlog.oldest_s)
    DEAD.set(backlog.dead)


def count(answer: Answer, verdict: Verdict) -> None:
    """Count one attempt."""
    ATTEMPTS.labels(answer.error or f"{answer.status}"[0] + "xx").inc()
    if verdict.state is State.DEAD:
        GIVEN_UP.inc()
    if verdict.disabled:
        DISABLED.labels(verdict.disabled).inc()
