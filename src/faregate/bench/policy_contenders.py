"""Calls through our policies, row by row beside those of the peers with the same features.

No call is ever refused, and the call itself does nothing. How they are timed does not belong here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

from faregate.bench import policy_peers as peers
from faregate.bench.overhead import BARE, OURS, CallMany, Contender
from faregate.bench.policy_peers import CALLS_MIN, IN_FLIGHT_MAX, RATE_PER_S, SLOW_S, TIMEOUT_S, Call
from faregate.gateway.gate import Gate
from faregate.gateway.policies.breaker import CircuitBreaker
from faregate.gateway.policies.declared import (
    BreakerPolicy,
    BulkheadPolicy,
    Operation,
    OperationPolicy,
    RatePolicy,
)
from faregate.gateway.policies.refusals import Refusal
from faregate.gateway.policy import ProviderPolicy

COUNT = f"breaker, last {peers.WINDOW_CALLS} calls"
TIME = f"breaker, last {peers.WINDOW_S} s"
PLAIN = "breaker, plain function"
PART = "breaker, bulkhead, time-out"
EVERYTHING = "breaker, bulkhead, rate limit, retry budget, time-out"
_BY_COUNT = BreakerPolicy(
    window_calls=peers.WINDOW_CALLS, window_s=0.0, calls_min=CALLS_MIN, slow_call_s=SLOW_S
)
_BY_TIME = BreakerPolicy(window_calls=0, window_s=peers.WINDOW_S, calls_min=CALLS_MIN, slow_call_s=SLOW_S)
_NO_LIMIT = RatePolicy()
_LIMIT = RatePolicy(per_s=RATE_PER_S, burst=RATE_PER_S)


class CallRefused(Exception):
    """A policy said no, which none may here."""


def contenders() -> list[Contender]:
    """Return everybody, row by row; raises PeersMissing where a peer is not installed."""
    peers.require_peers()
    return [
        *_awaited(COUNT, {OURS: _behind_breaker(_BY_COUNT), **peers.by_count(_nothing)}),
        *_awaited(TIME, {OURS: _behind_breaker(_BY_TIME), **peers.by_time(_nothing)}),
        *_called(PLAIN, {OURS: _plain_behind_breaker(_BY_COUNT), **peers.plain(_nothing_plain)}),
        *_awaited(PART, {OURS: _behind_gate(_NO_LIMIT), **peers.in_part(_nothing)}),
        *_awaited(EVERYTHING, {OURS: _behind_gate(_LIMIT), **peers.everything(_nothing)}),
    ]


async def _nothing() -> None:
    """The call."""


def _nothing_plain() -> None:
    """The call where nothing is awaited."""


def _awaited(row: str, calls: Mapping[str, Call]) -> list[Contender]:
    def many(call: Call) -> CallMany:
        async def call_many(count: int) -> None:
            for _ in range(count):
                await call()

        return call_many

    return [
        Contender(row=row, name=name, call_many=many(call))
        for name, call in {BARE: _nothing, **calls}.items()
    ]


def _called(row: str, calls: Mapping[str, Callable[[], object]]) -> list[Contender]:
    def many(call: Callable[[], object]) -> CallMany:
        async def call_many(count: int) -> None:
            for _ in range(count):
                call()

        return call_many

    return [
        Contender(row=row, name=name, call_many=many(call), has_all=name != peers.PYBREAKER)
        for name, call in {BARE: _nothing_plain, **calls}.items()
    ]


def _behind_breaker(policy: BreakerPolicy) -> Call:
    breaker = CircuitBreaker(policy)

    async def call() -> None:
        begun = monotonic()
        if breaker.refusal(now=begun) is not None:
            raise CallRefused
        entered = breaker.enter()
        try:
            await _nothing()
        except BaseException:
            breaker.leave(entered, now=(ended := monotonic()), took_s=ended - begun, is_failure=True)
            raise
        breaker.leave(entered, now=(ended := monotonic()), took_s=ended - begun, is_failure=False)

    return call


def _plain_behind_breaker(policy: BreakerPolicy) -> Callable[[], object]:
    breaker = CircuitBreaker(policy)

    def call() -> None:
        begun = monotonic()
        if breaker.refusal(now=begun) is not None:
            raise CallRefused
        entered = breaker.enter()
        try:
            _nothing_plain()
        except BaseException:
            breaker.leave(entered, now=(ended := monotonic()), took_s=ended - begun, is_failure=True)
            raise
        breaker.leave(entered, now=(ended := monotonic()), took_s=ended - begun, is_failure=False)

    return call


def _behind_gate(rate: RatePolicy) -> Call:
    """The gate of one provider as its pool asks it; the retry budget counts the call, as every first send does."""
    send = OperationPolicy(breaker=_BY_COUNT, bulkhead=BulkheadPolicy(in_flight_max=IN_FLIGHT_MAX))
    gate = Gate(provider="bench", policy=ProviderPolicy(send=send, rate=rate))

    async def call() -> None:
        permit = gate.admit(Operation.SEND, left_s=TIMEOUT_S)
        if isinstance(permit, Refusal):
            raise CallRefused(permit.reason)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await _nothing()
        except BaseException:
            gate.finish(permit, is_failure=True)
            raise
        gate.finish(permit, is_failure=False)

    return call
