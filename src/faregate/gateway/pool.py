"""A worker pool for one provider: claims intents, calls the adapter, hands the outcomes to the recorder.

What an outcome means is decided in `settlement`. Pools of several processes share one provider's work through
the journal's leases; what a dead process leaves behind is unknown, and a live one asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from faregate.gateway.calls import hedged, observed
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.gateway.gate import Gate, monotonic
from faregate.gateway.hooks import Hooks
from faregate.gateway.intent import Intent, State
from faregate.gateway.policies.declared import Operation
from faregate.gateway.policies.guard import Permit
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policy import Policies, Rules
from faregate.gateway.poller import Intervals, Poller
from faregate.gateway.recorder import Recorder
from faregate.gateway.settlement import (
    Change,
    Moment,
    Step,
    after_look_up,
    after_refusal,
    after_send,
    at_deadline,
    call_timeout_s,
    is_failure,
    look_up_refused,
    next_step,
)
from faregate.gateway.store import journal
from faregate.gateway.store.journal import Room, Write
from faregate.infra.database import Database
from faregate.kernel.outcome import NotDone, Outcome, Unknown

_log = structlog.get_logger(__name__)
_OPERATIONS = {Step.SEND: Operation.SEND, Step.LOOK_UP: Operation.LOOK_UP}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Limits of a pool; durations in seconds. A lease lasts the provider's time-out and `lease_grace_s`.

    At most `diverts_max` intents that cannot be sent are handed to their fallback at a time.
    """

    diverts_max: int = 50
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A call that was let through."""

    intent: Intent
    claim: Claim
    step: Step
    request: ProviderRequest | None
    timeout_s: float
    permit: Permit


class ProviderPool:
    """Serves the intents of one provider until told to stop.

    `gate` holds the policies before the provider, those of `policies` in this process alone if not given. `chance`
    returns numbers from 0 to 1 for jitter; `new_token` names a claim uniquely; `holder` names the process for people
    who read the journal.
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
        gate: Gate | None = None,
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
        self._serving: dict[asyncio.Task[None], Operation | None] = {}
        self.provider = adapter.capabilities.provider
        self._gate = gate or Gate(provider=self.provider, policy=policies.provider(self.provider))
        self._poller = Poller(name=self.provider, work=self._claim, intervals=self._options.intervals)

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._poller.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Claim and call until `stop` is set, then wait for the calls in flight."""
        await self._poller.run(stop)
        await self._drain()
        await self._gate.close()

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
        room = await self._room()
        lease_s = self._policies.timeout_s(self.provider) + self._options.lease_grace_s
        token = self._new_token()
        async with self._database.transaction() as conn:
            before = monotonic()  # the lease begins with the statement that follows, not with the transaction
            claimed = await journal.claim(
                conn, provider=self.provider, holder=self._holder, token=token, lease_s=lease_s, room=room
            )
            if claimed is None:
                self._gate.idle()
                return 0
            sending = [intent for intent in claimed.intents if intent.state is State.SENDING]
            requests = await self._hooks.load_requests(conn, sending) if sending else {}
        claim = Claim(token=token, read_at=claimed.read_at, before=before, after=monotonic(), lease_s=lease_s)
        await self._start_all(claimed.intents, claim, requests)
        return len(claimed.intents)

    async def _room(self) -> Room:
        """How much is worth claiming. What cannot be sent stays in the queue, or goes where it can be."""
        looks, sends = await self._free(Operation.LOOK_UP), await self._free(Operation.SEND)
        has_elsewhere = self._policies.has_fallback(self.provider) and self._gate.stopped(Operation.SEND)
        diverts = self._options.diverts_max if has_elsewhere else 0
        return Room(sends=sends, diverts=diverts, looks=looks)

    async def _free(self, operation: Operation) -> int:
        """How many calls may begin, counting those that have returned and are not recorded yet as in flight."""
        busy = sum(one is operation for one in self._serving.values())
        return max(0, min(await self._gate.room(operation), self._gate.limit(operation) - busy))

    async def _start_all(
        self, intents: Sequence[Intent], claim: Claim, requests: Mapping[str, ProviderRequest]
    ) -> None:
        """Begin to serve a batch, look-ups first: they end what is in doubt, and need their tokens for that."""
        looks = [intent for intent in intents if intent.state not in (State.SENDING, State.DECLARED)]
        sends = [intent for intent in intents if intent.state is State.SENDING]
        await self._gate.fill(Operation.LOOK_UP, calls=len(looks))
        for intent in looks:
            self._start(intent, claim, None)
        await self._gate.fill(Operation.SEND, calls=len(sends))
        for intent in sends:
            self._start(intent, claim, requests.get(intent.provider_request_id))
        for intent in intents:
            if intent.state is State.DECLARED:
                self._begin(self._serve_unsent(intent, claim), None)

    def _start(self, intent: Intent, claim: Claim, request: ProviderRequest | None) -> None:
        """Let one intent through the gate, which is charged in this moment, and serve it."""
        rules = self._policies.rules(check=intent.check, provider=intent.provider)
        now = claim.latest()
        step = next_step(intent, now=now, rules=rules)
        if step is Step.EXPIRE:
            self._begin(self._serve_unsent(intent, claim), None)
            return
        if step is Step.SEND and request is None:
            change = after_send(intent, NotDone("request_missing"), at=self._moment(claim, now), rules=rules)
            self._begin(self._record(change, claim), None)
            return
        operation, timeout_s = _OPERATIONS[step], call_timeout_s(intent, now=now, rules=rules)
        answer = self._gate.admit(
            operation, left_s=timeout_s, is_retry=step is Step.SEND and intent.sends > 1
        )
        if isinstance(answer, Refusal):
            self._begin(self._record(self._put_back(intent, answer, claim, step, rules), claim), None)
            return
        call = _Call(
            intent=intent, claim=claim, step=step, request=request, timeout_s=timeout_s, permit=answer
        )
        self._begin(self._serve(call, rules), operation)

    def _begin(self, work: Coroutine[Any, Any, None], operation: Operation | None) -> None:
        task = asyncio.create_task(work)
        self._serving[task] = operation
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        operation = self._serving.pop(task)
        if operation and self._is_full_but_one(operation):
            self._poller.wake()
        if not task.cancelled() and (error := task.exception()):
            # The lease brings the intent back; one that cannot be written must not stop the others.
            _log.error("gateway.record_failed", provider=self.provider, exc_info=error)

    def _is_full_but_one(self, operation: Operation) -> bool:
        busy = sum(one is operation for one in self._serving.values())
        return busy + 1 >= self._gate.limit(operation)

    async def _serve_unsent(self, intent: Intent, claim: Claim) -> None:
        """End a budget that is over, or find another way for what the breaker does not let through."""
        rules = self._policies.rules(check=intent.check, provider=intent.provider)
        at = self._moment(claim, claim.latest())
        if intent.deadline <= at.now or intent.state is not State.DECLARED:
            change = at_deadline(intent, at=at, rules=rules)
        else:
            stopped = self._gate.stopped(Operation.SEND) or Refusal(Reason.PROBES_TAKEN, 0.0)
            change = after_refusal(intent, stopped, at=at, rules=rules)
        await self._record(change, claim)

    async def _serve(self, call: _Call, rules: Rules) -> None:
        await self._record(await self._change(call, rules), call.claim)

    async def _change(self, call: _Call, rules: Rules) -> Change:
        """Make the call and judge what it brought. Where the lease is too short for it, nothing is sent."""
        claim = call.claim
        if claim.left_s() < call.timeout_s:
            self._gate.cancel(call.permit)
            _log.warning("gateway.lease_too_short", provider_request_id=call.intent.provider_request_id)
            return self._put_back(call.intent, Refusal(Reason.DEADLINE, 0.0), claim, call.step, rules)
        started_at = claim.earliest()
        outcome = await (self._send(call) if call.step is Step.SEND else self._look_up(call))
        judge = after_send if call.step is Step.SEND else after_look_up
        return judge(call.intent, outcome, at=self._moment(claim, started_at), rules=rules)

    def _put_back(self, intent: Intent, refusal: Refusal, claim: Claim, step: Step, rules: Rules) -> Change:
        """What becomes of an intent for which nothing was sent: that is certain, even after the lease."""
        refused = after_refusal if step is Step.SEND else look_up_refused
        return refused(intent, refusal, at=self._moment(claim, claim.latest()), rules=rules)

    async def _send(self, call: _Call) -> Outcome:
        if call.request is None:
            raise ValueError("a send has a request")
        return await self._made(
            call, self._adapter.submit(call.request, timeout_s=call.timeout_s), call.permit
        )

    async def _look_up(self, call: _Call) -> Outcome:
        def look(permit: Permit) -> Awaitable[Outcome]:
            asked = self._adapter.look_up(call.intent.provider_request_id, timeout_s=call.timeout_s)
            return self._made(call, asked, permit)

        async def again() -> Outcome:
            permit = self._gate.hedge(left_s=call.claim.left_s())
            return Unknown("not_hedged") if permit is None else await look(permit)

        return await hedged(
            lambda: look(call.permit), after_s=self._gate.guard.hedging.delay_s(), again=again
        )

    async def _made(self, call: _Call, made: Awaitable[Outcome], permit: Permit) -> Outcome:
        """Await a call under its permit, which ends with it. One that we gave up says nothing of the provider."""
        try:
            outcome = await observed(
                made,
                intent=call.intent,
                step=call.step,
                until=asyncio.get_running_loop().time() + call.claim.left_s(),
                may_send=lambda: call.claim.left_s() > 0,
            )
        except BaseException:
            self._gate.abandon(permit)
            raise
        self._gate.finish(permit, is_failure=is_failure(call.step, outcome))
        return outcome

    async def _record(self, change: Change, claim: Claim) -> None:
        sealed = self._hooks.seal(change.intent.provider_request_id, change.raw) if change.raw else b""
        await self._recorder.record(
            Write(change=change, token=claim.token, received_at=claim.latest(), response=sealed)
        )

    def _moment(self, claim: Claim, started_at: datetime) -> Moment:
        return Moment(now=claim.latest(), started_at=started_at, chance=self._chance())
