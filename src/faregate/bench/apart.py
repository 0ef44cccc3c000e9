"""What a call through the gateway costs besides the policies in the process: the journal, and the shared token bucket.

Wall time, because what counts is the wait for PostgreSQL and Valkey. Both work in batches: so do the pools.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from faregate.gateway.contracts import Capabilities
from faregate.gateway.intent import NewIntent
from faregate.gateway.policy import RetryPolicy, Rules
from faregate.gateway.settlement import Moment, after_send
from faregate.gateway.store import journal
from faregate.gateway.store.journal import Room, Write
from faregate.infra.database import Database
from faregate.infra.rate import Rate
from faregate.infra.token_bucket import LEASE_TOKENS_MAX, TokenBuckets
from faregate.kernel.outcome import Done

PROVIDER = "bench"
BATCH = 64
BATCHES = 30
TOKENS = 5_000
LEASE_S = 60.0
_RATE = Rate(per_s=1e6, burst=10**6)
_RULES = Rules(
    capabilities=Capabilities(
        provider=PROVIDER,
        asynchronous=False,
        deduplicates=True,
        look_up_lag_s_max=1.0,
        timeout_s=3.0,
        callback=False,
        polls=False,
    ),
    retry=RetryPolicy(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Microseconds a call."""

    journal_us: float
    token_us: float

    def in_words(self) -> dict[str, str]:
        """Return both with what they are about."""
        return {
            f"apart: journal, declared to recorded, in batches of {BATCH}": f"{self.journal_us:,.0f} µs",
            f"apart: token of the shared bucket, leased by {LEASE_TOKENS_MAX}": f"{self.token_us:,.1f} µs",
        }


async def measure_apart(*, database: Database, buckets: TokenBuckets) -> Apart:
    """Measure both on running servers; `database` acts as a context that may use the journal."""
    numbers = count()
    await _journal_batch(database, numbers)
    begun = time.perf_counter()
    for _ in range(BATCHES):
        await _journal_batch(database, numbers)
    journal_us = (time.perf_counter() - begun) * 1e6 / (BATCHES * BATCH)
    await buckets.take(PROVIDER, rate=_RATE)
    begun = time.perf_counter()
    for _ in range(TOKENS):
        await buckets.take(PROVIDER, rate=_RATE)
    return Apart(journal_us=journal_us, token_us=(time.perf_counter() - begun) * 1e6 / TOKENS)


async def _journal_batch(database: Database, numbers: Iterator[int]) -> None:
    """Take a batch of intents from their declaration to their end, in the three transactions of a pool."""
    deadline = datetime.now(UTC) + timedelta(hours=1)
    wanted = [
        NewIntent(subject_id=f"bench-{next(numbers)}", check=PROVIDER, provider=PROVIDER, deadline=deadline)
        for _ in range(BATCH)
    ]
    token = uuid4()
    async with database.transaction() as conn:
        await journal.declare(conn, wanted)
    async with database.transaction() as conn:
        claimed = await journal.claim(
            conn,
            provider=PROVIDER,
            holder=PROVIDER,
            token=token,
            lease_s=LEASE_S,
            room=Room(sends=BATCH, looks=0),
        )
    if claimed is None:
        return
    at = Moment(now=claimed.read_at, started_at=claimed.read_at, chance=0.5)
    writes = [
        Write(
            change=after_send(intent, Done({"score": 7}), at=at, rules=_RULES),
            token=token,
            received_at=claimed.read_at,
        )
        for intent in claimed.intents
    ]
    async with database.transaction() as conn:
        await journal.record(conn, writes)
