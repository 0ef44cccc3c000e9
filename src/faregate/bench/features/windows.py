"""What the length of a window costs at an entity with very many events, and how many bytes an event takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Final

import numpy as np

from faregate.bench.feature_events import batches_of_events, benchmark_events
from faregate.bench.features.reading import Read, of_seconds
from faregate.features.benchmark import BENCHMARK
from faregate.features.declarations import Entity, Source, count, days, mean, minutes, total
from faregate.features.facts import FeatureEvent
from faregate.features.feature_set import FeatureSet
from faregate.features.online import OnlineFeatures
from faregate.features.plan import plan_of
from faregate.infra.cache import Cache
from faregate.sandbox.traffic.benchmark import benchmark_payments

CARD: Final = Entity.CARD
PAID: Final = Source(name="paid", entities=(CARD,), numbers=("amount",))
BATCH: Final = 1_000
BEGINS_MS: Final = 20_000 * 86_400_000
SPAN_MS: Final = 29 * 86_400_000
"""So long the events of the hot entity last: all are inside thirty days."""


def over(name: str, window_s: int) -> FeatureSet:
    """Return the same three features over a window."""
    return FeatureSet(
        name=name,
        asked_by=PAID,
        others=(),
        features=(
            count("n", by=CARD, of=PAID, over=window_s),
            total("sum", "amount", by=CARD, of=PAID, over=window_s),
            mean("mean", "amount", by=CARD, of=PAID, over=window_s),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Reads with a window of a minute and of thirty days, and the bytes of an event."""

    minute: Read
    month: Read
    events: int
    bytes_each: float


def hot_events(number: int, *, first: int = 0) -> Iterator[FeatureEvent]:
    """Yield the events of one card, of which `number` come in the span; it goes on for ever."""
    while True:
        at_ms = BEGINS_MS + first * SPAN_MS // number
        yield FeatureEvent(
            id=str(first),
            source=PAID.name,
            at_ms=at_ms,
            observed_ms=at_ms,
            entities={CARD: "hot"},
            values={"amount": first % 997},
        )
        first += 1


async def window_costs(cache: Cache, *, events: int, reads: int) -> Windows:
    """Fill a card with so many events, then read by turns with the short window and the long one."""
    minute, month = (
        OnlineFeatures(cache, over(name, window_s), remembered_s=0)
        for name, window_s in (("minute", minutes(1)), ("month", days(30)))
    )
    held = await cache.memory_bytes()
    await _fill(month, events, first=0)
    bytes_each = (await cache.memory_bytes() - held) / events
    # Of the short window only what it keeps: the rest would be forgotten on the way.
    kept = int(plan_of(minute.declared).runs[0].keep_s * 1_000 * events / SPAN_MS) + BATCH
    await _fill(minute, events, first=max(0, events - kept))
    taken: dict[str, list[float]] = {"minute": [], "month": []}
    for event in islice(hot_events(events, first=events), reads):
        for features in (minute, month):
            began = perf_counter()
            await features.observe(event)
            taken[features.declared.name].append(perf_counter() - began)
    return Windows(
        minute=of_seconds(taken["minute"]),
        month=of_seconds(taken["month"]),
        events=events,
        bytes_each=bytes_each,
    )


async def _fill(features: OnlineFeatures, events: int, *, first: int) -> None:
    made = hot_events(events, first=first)
    while first < events:
        batch = list(islice(made, min(BATCH, events - first)))
        await features.apply(batch)
        first += len(batch)


async def bytes_of_many(cache: Cache, *, customers: int) -> tuple[int, float]:
    """Return how many events the benchmark's payments leave inside windows, and the bytes of each, keys included."""
    features = OnlineFeatures(cache, BENCHMARK, remembered_s=0)
    table = benchmark_events(benchmark_payments(customers=customers)[0])
    held = await cache.memory_bytes()
    seen: dict[tuple[str, str, str], list[int]] = {}
    for batch in batches_of_events(table, size=BATCH):
        await features.apply(batch)
        for event in batch:
            for entity, name in event.entities.items():
                seen.setdefault((event.source, entity, name), []).append(event.at_ms)
    held = await cache.memory_bytes() - held
    keep_ms = {(run.source, run.entity): run.keep_s * 1_000 for run in plan_of(BENCHMARK).runs}
    inside = sum(_kept(times, keep_ms.get(whose[:2], 0)) for whose, times in seen.items())
    return inside, held / inside


def _kept(times: Sequence[int], keep_ms: int) -> int:
    """Count the events that could still be asked for when the last of them came."""
    at = np.asarray(times)
    return int((at >= at.max() - keep_ms).sum()) if keep_ms else 0
