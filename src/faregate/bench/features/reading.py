"""Reads the features of payments, ours and the peer's: over HTTP, alone and many at once, and directly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

from faregate.bench.features import endpoint
from faregate.bench.features.feast_peer import PATH as FEAST_PATH
from faregate.bench.features.feast_peer import SERVICE
from faregate.bench.features.workload import Asked, Rows, payments
from faregate.bench.loadgen import Load, LoadReport, generate, percentile_ms
from faregate.features.online import OnlineFeatures

BATCH: Final = 200
CONNECTIONS: Final = 8
"""Requests under way at once when the rate is measured, of one server process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """How reading went. Latencies in milliseconds with one read under way; the rate with many."""

    p50_ms: float
    p99_ms: float
    per_s: float
    failed: int = 0

    def as_json(self) -> dict[str, float]:
        """Return the figures, rounded."""
        return {"p50_ms": round(self.p50_ms, 3), "p99_ms": round(self.p99_ms, 3), "per_s": round(self.per_s)}


async def fill_ours(features: OnlineFeatures, *, people: int, count: int) -> Rows:
    """Let so many payments have their effect; return what was said last of each entity."""
    rows, made = Rows(), payments(people=people)
    for _ in range(0, count, BATCH):
        facts = [one.fact() for one in islice(made, BATCH)]
        for fact, observed in zip(facts, await features.apply(facts), strict=True):
            if observed.values is not None:
                rows.note(fact, observed.values)
    return rows


def later(*, people: int, after: int, count: int, seed: int) -> Sequence[Asked]:
    """Return payments that come after so many others."""
    return list(islice(payments(people=people, first=after, seed=seed), count))


def entity_rows(asked: Sequence[Asked]) -> Sequence[Mapping[str, str]]:
    """Return the payments as the peer is asked about them: the names of the entities only."""
    return [{str(entity): name for entity, name in one.fact().entities.items()} for one in asked]


async def ours_over_http(url: str, asked: Sequence[Asked], *, alone: int) -> Read:
    """Measure our server: the first `alone` payments one after the other, then the rest many at once."""
    bodies = [json.dumps(_body(one)).encode() for one in asked]
    return await _measure(url, endpoint.PATH, lambda number: bodies[number], len(bodies), alone=alone)


async def feast_over_http(url: str, asked: Sequence[Mapping[str, str]], *, alone: int) -> Read:
    """Measure the peer's server in the same way."""
    bodies = [
        json.dumps(
            {"feature_service": SERVICE, "entities": {name: [value] for name, value in one.items()}}
        ).encode()
        for one in asked
    ]
    return await _measure(url, FEAST_PATH, lambda number: bodies[number], len(bodies), alone=alone)


async def ours_directly(features: OnlineFeatures, asked: Sequence[Asked]) -> Read:
    """Measure our library, one payment after the other."""
    taken = []
    for one in asked:
        began = perf_counter()
        await features.observe(one.fact())
        taken.append(perf_counter() - began)
    return of_seconds(taken)


def of_seconds(taken: Sequence[float]) -> Read:
    """Return the figures of reads that came one after the other."""
    ordered = sorted(taken)
    return Read(
        p50_ms=percentile_ms(ordered, 50), p99_ms=percentile_ms(ordered, 99), per_s=len(taken) / sum(taken)
    )


def _body(one: Asked) -> dict[str, Any]:
    return {
        "payment_id": one.payment_id,
        "at": one.at.isoformat(),
        "amount_minor": one.amount_minor,
        "merchant": one.merchant,
        "merchant_category": one.merchant_category,
        "card_token": one.card_token,
        "member_id": one.member_id,
        "terminal_id": one.terminal_id,
        "device_id": one.device_id,
        "ip_token": one.ip_token,
        "country": one.country,
    }


async def _measure(url: str, path: str, body_of: Callable[[int], bytes], count: int, *, alone: int) -> Read:
    host = urlsplit(url).netloc

    def request(number: int) -> bytes:
        body = body_of(number)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    one = await _load(url, request, first=0, count=alone, connections=1)
    many = await _load(url, request, first=alone, count=count - alone, connections=CONNECTIONS)
    return Read(
        p50_ms=one.latency_ms_p50,
        p99_ms=one.latency_ms_p99,
        per_s=many.accepted_per_s,
        failed=one.due - one.accepted + many.due - many.accepted,
    )


async def _load(
    url: str, request: Callable[[int], bytes], *, first: int, count: int, connections: int
) -> LoadReport:
    return await generate(Load(urls=(url,), count=count, first=first, connections=connections), request)
