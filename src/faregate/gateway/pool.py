"""A worker pool for one provider: claims intents, calls the adapter, hands the outcomes to the recorder.

What an outcome means is decided in `settlement`. Pools of several processes share one provider's work through
the journal's leases; what a dead process leaves behind is unknown, and a live one asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from faregate.gateway.calls import observed
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.gateway.hooks import Hooks
from faregate.gateway.intent import Intent, State
from faregate.gateway.policy import Policies
from faregate.gateway.poller import Intervals, Poller
from faregate.gateway.recorder import Recorder
from faregate.gateway.settlement import (
    Change,
    Moment,
    Step,
    after_look_up,
    after_send,
    at_deadline,
    call_timeout_s,
    next_step,
)
from faregate.gateway.store import journal
from faregate.gateway.store.journal import Write
from faregate.infra.database import Database
from faregate.kernel.outcome import NotDone, Outcome

_log = structlog.get_logger(__name__)


def monotonic() -> float:
    """Seconds that only grow and, where the system can tell, count a suspended machine's sleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Limits of a pool; durations in seconds. A lease lasts the provider's time-out and `lease_grace_s`."""

    concurrency: int = 64
    lease_grace_s: float = 2.0
    drain_s: float = 5.0
    intervals: Intervals = field(default_factory=Intervals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A batch under one lease. `before` and `after` are readings of our monotonic clock around the claim.

    The database's clock is the one that counts; ours only measures the time since. Between them lies the
    unknown moment at which the claim was made, so that `earliest` and `latest` bracket the true time.
    """

    token: UUID
    read_at: datetime
    before: float
    after: float
    lease_s: float

    def earliest(self) -> datetime:
        """The present instant, certainly not later than it is."""
        return self.read_at + timedelta(seconds=monotonic() - self.after)

    def latest(self) -> datetime:
        """The present instant, certainly not earlier than it is."""
        return self.read_at + timedelta(seconds=monotonic() - self.before)

    def left_s(self) -> float:
        """How much of the lease is certainly left."""
        return self.before + self.lease_s - monotonic()


class ProviderPool:
    """Serves the intents of one provider until told to stop.

    `chance` returns numbers from 0 to 1 for jitter; `new_token` names a claim uniquely; `holder` names the
    process for people who read the journal.
    """

    def __init__(
        self,
        *,
        adapter: Adapter,
        database: Database,
        hooks: Hooks,
        policies: Policies,
        recorder: Recorder,
        holder: str,
        chance: Callable[[], float],
        new_token: Callable[[], UUID],
        options: PoolOptions | None = None,
    ) -> None:
        self._adapter = adapter
        self._database = database
        self._hooks = hooks
        self._policies = policies
        self._recorder = recorder
        self._holder = holder
        self._chance = chance
        self._new_token = new_token
        self._options = options or PoolOptions()
        self._serving: set[asyncio.Task[None]] = set()
        self.provider = adapter.capabilities.provider
        self._poller = Poller(name=self.provider, work=self._claim, intervals=self._options.intervals)

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._poller.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Claim and call until `stop` is set, then wait for the calls in flight."""
        await self._poller.run(stop)
        await self._drain()

    async def _drain(self) -> None:
        """Wait for calls in flight. One that outlasts this is left to its lease: its outcome is unknown."""
        if not self._serving:
            return
        _, late = await asyncio.wait(self._serving, timeout=self._options.drain_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _claim(self) -> int:
        """Claim under a lease and load what is to be sent. Nothing is sent before this has committed."""
        free = self._options.concurrency - len(self._serving)
        if free <= 0:
            return 0
        lease_s = self._adapter.capabilities.timeout_s + self._options.lease_grace_s
        token, before = self._new_token(), monotonic()
        async with self._database.transaction() as conn:
            claimed = await journal.claim(
                conn, provider=self.provider, holder=self._holder, token=token, lease_s=lease_s, most=free
            )
            if claimed is None:
                return 0
            sending = [intent for intent in claimed.intents if intent.state is State.SENDING]
            requests = await self._hooks.load_requests(conn, sending) if sending else {}
        claim = Claim(token=token, read_at=claimed.read_at, before=before, after=monotonic(), lease_s=lease_s)
        for intent in claimed.intents:
            self._start(intent, claim, requests)
        return len(claimed.intents)

    def _start(self, intent: Intent, claim: Claim, requests: Mapping[str, ProviderRequest]) -> None:
        task = asyncio.create_task(self._serve(intent, claim, requests.get(intent.provider_request_id)))
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if len(self._serving) >= self._options.concurrency:
            self._poller.wake()
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The lease brings the intent back; one that cannot be written must not stop the others.
            _log.error("gateway.record_failed", provider=self.provider, exc_info=error)

    async def _serve(self, intent: Intent, claim: Claim, request: ProviderRequest | None) -> None:
        change = await self._change(intent, claim, request)
        if change is not None:
            await self._recorder.record(self._write(change, claim))

    async def _change(self, intent: Intent, claim: Claim, request: ProviderRequest | None) -> Change | None:
        """Do what the intent needs and judge the outcome; None when the lease is too short to do it."""
        rules = self._policies.rules(check=intent.check, provider=intent.provider)
        now = claim.latest()
        step = next_step(intent, now=now, rules=rules)
        if step is Step.EXPIRE:
            return at_deadline(intent, at=self._moment(claim, now), rules=rules)
        timeout_s = call_timeout_s(intent, now=now, rules=rules)
        if claim.left_s() < timeout_s:
            _log.warning("gateway.lease_too_short", provider_request_id=intent.provider_request_id)
            return None
        started_at = claim.earliest()
        if step is Step.LOOK_UP:
            outcome = await self._look_up(intent, claim, timeout_s)
            return after_look_up(intent, outcome, at=self._moment(claim, started_at), rules=rules)
        outcome = await self._send(intent, claim, request, timeout_s)
        return after_send(intent, outcome, at=self._moment(claim, started_at), rules=rules)

    async def _send(
        self, intent: Intent, claim: Claim, request: ProviderRequest | None, timeout_s: float
    ) -> Outcome:
        if request is None:
            return NotDone("request_missing")
        call = self._adapter.submit(request, timeout_s=timeout_s)
        return await observed(call, intent=intent, step=Step.SEND, until=self._until(claim))

    async def _look_up(self, intent: Intent, claim: Claim, timeout_s: float) -> Outcome:
        call = self._adapter.look_up(intent.provider_request_id, timeout_s=timeout_s)
        return await observed(call, intent=intent, step=Step.LOOK_UP, until=self._until(claim))

    def _until(self, claim: Claim) -> float:
        """The end of the lease on the event loop's clock: no byte of this claim leaves us after it."""
        return asyncio.get_running_loop().time() + claim.left_s()

    def _moment(self, claim: Claim, started_at: datetime) -> Moment:
        return Moment(now=claim.latest(), started_at=started_at, chance=self._chance())

    def _write(self, change: Change, claim: Claim) -> Write:
        sealed = self._hooks.seal(change.intent.provider_request_id, change.raw) if change.raw else b""
        return Write(change=change, token=claim.token, received_at=claim.latest(), response=sealed)
