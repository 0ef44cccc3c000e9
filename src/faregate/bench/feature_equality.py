"""Holds the online engine to the offline engine over the payments of the benchmark, value for value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pyarrow as pa

from faregate.bench.feature_events import batches_of_events, benchmark_events
from faregate.features.benchmark import BENCHMARK, PAYMENT
from faregate.features.declarations import Value
from faregate.features.offline import backfill
from faregate.features.online import OnlineFeatures
from faregate.features.skew import Skew
from faregate.infra.cache import Cache
from faregate.sandbox.traffic.benchmark import CUSTOMERS, benchmark_payments

PIPELINE = 200
"""Events that are under way in one round trip."""
SAY_EVERY_S = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """What came of it: the skew, how long each engine took, and what Valkey held in the end."""

    skew: Skew
    events: int
    offline_s: float
    online_s: float
    held_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "set": BENCHMARK.name,
            "version": BENCHMARK.version,
            "events": self.events,
            "offline_s": round(self.offline_s, 1),
            "online_s": round(self.online_s, 1),
            "online_events_per_s": round(self.events / self.online_s) if self.online_s else 0,
            "held_bytes": self.held_bytes,
            **self.skew.as_json(),
        }


async def verify_equality(cache: Cache, *, customers: int = CUSTOMERS, say: Say) -> Equality:
    """Compute every feature of every payment with both engines and compare; `cache` must be empty."""
    say("simulating the payments")
    payments, _ = await asyncio.to_thread(benchmark_payments, customers=customers)
    table = benchmark_events(payments)
    say(f"{len(payments):,} payments, {len(BENCHMARK.features)} features: offline")
    began = perf_counter()
    offline = await asyncio.to_thread(backfill, table, BENCHMARK)
    offline_s = perf_counter() - began
    say(f"offline took {offline_s:.1f} s; online")
    held = await cache.memory_bytes()
    began = perf_counter()
    skew = await _compare(cache, table, offline, say=say)
    online_s = perf_counter() - began
    held = await cache.memory_bytes() - held
    return Equality(skew=skew, events=table.num_rows, offline_s=offline_s, online_s=online_s, held_bytes=held)


async def _compare(cache: Cache, table: pa.Table, offline: pa.Table, *, say: Say) -> Skew:
    # The answers to events that come again are not needed here, and would be most of the memory.
    features = OnlineFeatures(cache, BENCHMARK, remembered_s=0)
    await features.load()
    names = list(BENCHMARK.feature_named)
    skew, reference = Skew(features=names), _rows(offline, names)
    expected = next(reference, None)
    done, said = 0, perf_counter()
    for events in batches_of_events(table, size=PIPELINE):
        observed = await features.apply(events)
        for event, one in zip(events, observed, strict=True):
            if event.source != PAYMENT.name:
                continue
            values = None if one.values is None else list(one.values.values())
            if expected is not None and expected[0] == event.id:
                skew.compare(event.id, expected[1:], values)
                expected = next(reference, None)
            else:
                skew.compare(event.id, None, values)
        done += len(events)
        if perf_counter() - said > SAY_EVERY_S:
            said = perf_counter()
            say(f"{done:,} of {table.num_rows:,} events, {skew.values - skew.matches:,} values differ")
    for row in [expected, *reference] if expected else ():
        skew.compare(str(row[0]), row[1:], None)
    return skew


def _rows(offline: pa.Table, names: Sequence[str]) -> Iterator[Sequence[Value | Any]]:
    """Yield the id and the values of each row."""
    for batch in offline.select(["id", *names]).to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
