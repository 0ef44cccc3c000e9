"""Token buckets that all processes share through Valkey, without a round trip for every token.

A process leases a few tokens at a time and spends them by itself; what it did not spend within `LEASE_S` goes back
with its next request. Without Valkey each process goes on with its share: the rate and the burst, divided by the
number of processes that were last seen. What a token stands for, and what a refusal means, is the caller's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from glide import Script

from faregate.infra.cache import Cache, CacheUnavailable
from faregate.infra.rate import Rate

LEASE_S = 1.0
LEASE_TOKENS_MAX = 100
RETRY_S = 1.0
"""How often a process that goes on alone asks Valkey again."""
PROCESSES_UNKNOWN = 4
"""How many processes are taken to share a bucket by one that has not asked Valkey yet."""

_PROCESS_REMEMBERED_MS = 60_000
_BUCKETS_MAX = 10_000

# Returns what was granted, what is left, the milliseconds to the next token, and how many processes take part.
# The bucket's own clock is the server's, so that the clocks of processes do not matter.
_LEASE = Script(  # type: ignore[no-untyped-call]
    """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local rate, burst = tonumber(ARGV[1]) / 1000, tonumber(ARGV[2])
local wanted, returned = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if found[1] then
  tokens = math.min(burst, found[1] + returned + math.max(0, now - found[2]) * rate)
end
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9g', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1000)
local remembered = tonumber(ARGV[6])
redis.call('ZADD', KEYS[2], now, ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered)
redis.call('PEXPIRE', KEYS[2], remembered)
local wait = 0
if tokens < 1 then wait = math.ceil((1 - tokens) / rate) end
return {granted, math.floor(tokens), wait, redis.call('ZCARD', KEYS[2])}
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of asking for one token. `left` is an estimate; `wait_s` is 0 when the token was granted.

    `is_shared` is false when Valkey did not answer and the process decided within its own share.
    """

    is_granted: bool
    left: int
    wait_s: float
    is_shared: bool = True


@dataclass(slots=True)
class _Bucket:
    """What this process knows of one bucket."""

    rate: Rate
    leased: int = 0
    leased_at: float = 0.0
    lease_tokens: int = 1
    left: int = 0  # in the shared bucket, when we asked last
    empty_until: float = 0.0
    waiting: int = 0
    asking: asyncio.Task[None] | None = None
    processes: int = PROCESSES_UNKNOWN
    is_alone: bool = False
    ask_again_at: float = 0.0  # this and the rest count while alone
    own_tokens: float = 0.0
    own_at: float = 0.0


@dataclass(kw_only=True)
class TokenBuckets:
    """The buckets of one kind of process, by key. Every process of that kind opens them with the same `name`."""

    cache: Cache
    name: str
    process: str = field(default_factory=lambda: uuid4().hex)
    monotonic: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    async def take(self, key: str, *, rate: Rate) -> Taken:
        """Take one token out of the bucket of this key, if there is one. A new rate holds from the next lease on.

        What a process holds of a lease it spends first.
        """
        bucket = self._bucket(key, rate)
        while True:
            now = self.monotonic()
            if bucket.is_alone:
                if now >= bucket.ask_again_at:
                    self._ask_soon(key, bucket)
                return self._take_of_share(bucket, now)
            if bucket.leased and now < bucket.leased_at + LEASE_S:
                bucket.leased -= 1
                return Taken(is_granted=True, left=bucket.left + bucket.leased, wait_s=0.0)
            if now < bucket.empty_until:
                return Taken(is_granted=False, left=0, wait_s=bucket.empty_until - now)
            bucket.waiting += 1
            try:
                await asyncio.shield(self._ask_soon(key, bucket))
            finally:
                bucket.waiting -= 1

    async def take_many(self, key: str, *, rate: Rate, wanted: int) -> tuple[int, float]:
        """Take up to `wanted` tokens with at most one request to Valkey.

        Return how many were granted, and when there will be more: 0 seconds when all were.
        """
        bucket = self._bucket(key, rate)
        if self._in_hand(bucket) < wanted and not bucket.is_alone and self.monotonic() >= bucket.empty_until:
            bucket.waiting += wanted
            try:
                await asyncio.shield(self._ask_soon(key, bucket))
            finally:
                bucket.waiting -= wanted
        if bucket.is_alone:
            return await self._take_many_alone(key, rate=rate, wanted=wanted)
        granted = min(wanted, self._in_hand(bucket))
        bucket.leased -= granted
        more_in_s = max(bucket.empty_until - self.monotonic(), 1 / rate.per_s)
        return granted, 0.0 if granted == wanted else more_in_s

    async def _take_many_alone(self, key: str, *, rate: Rate, wanted: int) -> tuple[int, float]:
        for granted in range(wanted):
            taken = await self.take(key, rate=rate)
            if not taken.is_granted:
                return granted, taken.wait_s
        return wanted, 0.0

    def _in_hand(self, bucket: _Bucket) -> int:
        return bucket.leased if self.monotonic() < bucket.leased_at + LEASE_S else 0

    def _bucket(self, key: str, rate: Rate) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS_MAX:
                self._forget_idle()
            bucket = self._buckets[key] = _Bucket(rate)
        if rate is not bucket.rate and rate != bucket.rate:
            bucket.rate, bucket.empty_until = rate, 0.0
        return bucket

    def _forget_idle(self) -> None:
        """What a forgotten bucket had leased is lost to its key, never given out twice."""
        before = self.monotonic() - LEASE_S
        self._buckets = {
            key: bucket for key, bucket in self._buckets.items() if bucket.asking or bucket.leased_at > before
        }

    def _ask_soon(self, key: str, bucket: _Bucket) -> asyncio.Task[None]:
        """One request to Valkey at a time, however many wait for its answer."""
        if bucket.asking is None:
            bucket.asking = asyncio.create_task(self._ask(key, bucket))
        return bucket.asking

    async def _ask(self, key: str, bucket: _Bucket) -> None:
        try:
            await self._lease(key, bucket)
        except CacheUnavailable:
            if not bucket.is_alone:
                self._begin_alone(bucket)
            bucket.ask_again_at = self.monotonic() + RETRY_S
        finally:
            bucket.asking = None

    async def _lease(self, key: str, bucket: _Bucket) -> None:
        now, rate, returned = self.monotonic(), bucket.rate, bucket.leased
        was_used_up = not returned and now < bucket.leased_at + LEASE_S
        size = bucket.lease_tokens * 2 if was_used_up else bucket.lease_tokens // 2
        bucket.lease_tokens = max(1, min(size, LEASE_TOKENS_MAX, rate.burst // (4 * bucket.processes)))
        wanted = max(bucket.lease_tokens, min(bucket.waiting, LEASE_TOKENS_MAX))
        bucket.leased = 0
        numbers = (rate.per_s, rate.burst, wanted, returned)
        granted, left, wait_ms, processes = await self.cache.run_script(
            _LEASE,
            keys=[f"bucket:{{{self.name}}}:{key}", f"bucket:{{{self.name}}}"],
            arguments=[*(repr(n) for n in numbers), self.process, str(_PROCESS_REMEMBERED_MS)],
        )
        answered_at = self.monotonic()
        bucket.leased, bucket.leased_at = granted, answered_at
        bucket.left, bucket.processes, bucket.is_alone = left, processes, False
        bucket.empty_until = 0.0 if granted else answered_at + max(wait_ms, 1) / 1000

    def _begin_alone(self, bucket: _Bucket) -> None:
        """Begin with our share of what was left when we asked last, or of a full bucket if we never did."""
        known = bucket.left if bucket.leased_at else bucket.rate.burst
        bucket.own_tokens, bucket.own_at = known / bucket.processes, bucket.leased_at or self.monotonic()
        bucket.leased, bucket.is_alone = 0, True

    def _take_of_share(self, bucket: _Bucket, now: float) -> Taken:
        per_s = bucket.rate.per_s / bucket.processes
        burst = max(1.0, bucket.rate.burst / bucket.processes)
        bucket.own_tokens = min(burst, bucket.own_tokens + (now - bucket.own_at) * per_s)
        bucket.own_at = now
        if bucket.own_tokens < 1:
            wait_s = (1 - bucket.own_tokens) / per_s
            return Taken(is_granted=False, left=0, wait_s=wait_s, is_shared=False)
        bucket.own_tokens -= 1
        return Taken(is_granted=True, left=int(bucket.own_tokens), wait_s=0.0, is_shared=False)
