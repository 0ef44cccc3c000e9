"""Prometheus metrics of one process: a registry that makes each metric once, and probes read at scrape time.

What is counted stands with the part that counts it; only the HTTP metrics are defined here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PROBE_S_MAX = 1.0
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Probe = Callable[[], Awaitable[None]]
"""Sets gauges from somewhere else, such as lag from the database, just before they are read."""

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class Metrics:
    """The metrics of one process. Asking twice for a name gives the same metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[str, MetricWrapperBase] = {}
        self._probes: list[Probe] = []

    def counter(self, name: str, help: str, *, labels: Sequence[str] = ()) -> Counter:  # noqa: A002
        """Return the counter `name`, which ends in `_total`."""
        return self._once(name, lambda: Counter(name, help, labels, registry=self.registry))

    def gauge(self, name: str, help: str, *, labels: Sequence[str] = ()) -> Gauge:  # noqa: A002
        """Return the gauge `name`, with its unit last."""
        return self._once(name, lambda: Gauge(name, help, labels, registry=self.registry))

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        *,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Return the histogram `name`, with its unit last (`_seconds`)."""
        return self._once(
            name, lambda: Histogram(name, help, labels, buckets=buckets, registry=self.registry)
        )

    def add_probe(self, probe: Probe) -> None:
        """Await the probe before each scrape, for `PROBE_S_MAX` seconds at most.

        One that fails or takes longer is logged and leaves its gauges as they were.
        """
        self._probes.append(probe)

    async def render(self) -> bytes:
        """Return the text of a scrape (`CONTENT_TYPE`)."""
        await asyncio.gather(*(_ask(probe) for probe in self._probes))
        # The parts that know no process, such as the gateway, count in the library's own registry.
        return generate_latest(self.registry) + generate_latest(REGISTRY)

    def _once(self, name: str, make: Callable[[], _Metric]) -> _Metric:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = make()
        return known  # type: ignore[return-value]  # one name has one kind; mixing them fails at its first use


async def _ask(probe: Probe) -> None:
    try:
        async with asyncio.timeout(PROBE_S_MAX):
            await probe()
    except TimeoutError:
        structlog.get_logger().warning("metrics probe timed out", limit_s=PROBE_S_MAX)
    except Exception:  # noqa: BLE001  # a scrape must show what it can while a dependency is down
        structlog.get_logger().warning("metrics probe failed", exc_info=True)


class HttpMetrics:
    """Requests by method, route template and status, and how long they took. Children are kept."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "faregate_http_requests_total", "HTTP requests answered", labels=("method", "route", "status")
        )
        self._duration = metrics.histogram(
            "faregate_http_request_duration_seconds", "Time to answer", labels=("method", "route")
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one answered request."""
        children = self._children.get((method, route, status))
        if children is None:
            children = self._children[method, route, status] = (
                self._requests.labels(method, route, str(status)),
                self._duration.labels(method, route),
            )
        children[0].inc()
        children[1].observe(duration_s)
