"""Delivers what is due: claims under a lease, sends, records. Several processes may run one sender each.

A sender that dies leaves its claims to the lease; another sends them again under the same `webhook-id`. So a message
arrives at least once. What an answer leads to is decided in `domain.schedule`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from faregate.events.webhooks import EndpointDisabled
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.infra.security.signatures import sign_webhook
from faregate.kernel.clock import Clock
from faregate.kernel.ids import RANDOM_BYTES, uuid7
from faregate.webhooks import metrics
from faregate.webhooks.domain.schedule import ATTEMPTS_MAX, Answer, DisabledBy, judge
from faregate.webhooks.secrets import SecretVault
from faregate.webhooks.store import deliveries, endpoints
from faregate.webhooks.store.deliveries import Claimed, Outcome
from faregate.webhooks.transport import TIMEOUT_S, Transport

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderOptions:
    """Limits of a sender: requests in flight in all and to one endpoint; `lease_s` outlasts any request."""

    in_flight_max: int = 256
    in_flight_each: int = 10
    lease_s: float = TIMEOUT_S + 10.0
    idle_s: float = 0.5
    error_s: float = 2.0
    drain_s: float = 5.0


class Sender:
    """Sends until told to stop. `chance` returns numbers from 0 to 1 for jitter, `new_token` names a claim.

    An endpoint that hangs holds at most `in_flight_each` places of `in_flight_max`, and one place from its first
    failure to its next success.
    """

    def __init__(
        self,
        *,
        database: Database,
        transport: Transport,
        vault: SecretVault,
        clock: Clock,
        chance: Callable[[], float],
        new_token: Callable[[], UUID],
        options: SenderOptions | None = None,
    ) -> None:
        self._database = database
        self._transport = transport
        self._vault = vault
        self._clock = clock
        self._chance = chance
        self._new_token = new_token
        self._options = options or SenderOptions()
        self._recorder = Coalescer(write=self._record, writers_max=1)
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, then wait a moment for what is in flight."""
        waking = asyncio.create_task(self._wake_at(stop))
        while not stop.is_set():
            self._wake.clear()
            pause_s = await self._try()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)
        waking.cancel()
        await self._drain()

    async def settled(self) -> None:
        """Wait until nothing is in flight and every outcome is recorded."""
        while self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _drain(self) -> None:
        """Wait for requests in flight; what outlasts this is left to its lease and sent again."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=self._options.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def claim(self) -> int:
        """Begin to send what is due, as far as there are places; return how much that is."""
        free = self._options.in_flight_max - len(self._sending)
        if free <= 0:
            return 0
        token, now = self._new_token(), self._clock.now()
        async with self._database.transaction() as conn:
            claimed = await deliveries.claim(
                conn,
                token=token,
                most=free,
                most_each=self._options.in_flight_each,
                now=now,
                lease_ends_at=now + timedelta(seconds=self._options.lease_s),
            )
            secrets = await endpoints.signing_secrets(conn, [c.endpoint_id for c in claimed], now=now)
        for one in claimed:
            self._start(self._deliver(one, token=token, sealed=secrets[one.endpoint_id]))
        return len(claimed)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _try(self) -> float:
        """Claim once; return how long to pause after it, unless something ends before."""
        try:
            return 0.0 if await self.claim() else self._options.idle_s
        except Exception:  # noqa: BLE001 - a loop at the edge outlives an outage of its database
            _log.exception("webhooks.claim_failed")
            return self._options.error_s

    def _start(self, delivering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(delivering)
        self._sending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()  # there is a place again
        if not task.cancelled() and (error := task.exception()):
            # The lease brings the delivery back; one that cannot be signed or recorded must not stop the others.
            _log.error("webhooks.delivery_failed", exc_info=error)

    async def _deliver(self, claimed: Claimed, *, token: UUID, sealed: Sequence[tuple[str, bytes]]) -> None:
        # A message that ended its sender each time is given up: it would do so for ever.
        is_hopeless = claimed.attempts > ATTEMPTS_MAX
        answer = Answer(error="sender_lost") if is_hopeless else await self._send(claimed, sealed)
        verdict = judge(
            answer,
            attempts=claimed.attempts,
            now=self._clock.now(),
            chance=self._chance(),
            failing_since=claimed.failing_since,
        )
        metrics.count(answer, verdict)
        await self._recorder.submit(Outcome(claimed=claimed, token=token, answer=answer, verdict=verdict))

    async def _send(self, claimed: Claimed, sealed: Sequence[tuple[str, bytes]]) -> Answer:
        body, started = claimed.body.encode(), time.monotonic()
        headers = sign_webhook(
            message_id=claimed.message_id,
            body=body,
            secrets=[self._vault.open(ciphertext, secret_id=secret_id) for secret_id, ciphertext in sealed],
            now=self._clock.now(),
        )
        with metrics.IN_FLIGHT.track_inprogress():
            answer = await self._transport.post(claimed.url, headers=headers, body=body)
        metrics.SECONDS.observe(time.monotonic() - started)
        return answer

    async def _record(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        """Record a batch in one transaction, with what it does to the endpoints."""
        now = self._clock.now()
        async with self._database.transaction() as conn:
            await deliveries.record(conn, outcomes, now=now)
            for outcome in outcomes:
                if outcome.verdict.disabled:
                    await self._disable(conn, outcome.claimed, outcome.verdict.disabled, now=now)
        return [None] * len(outcomes)

    async def _disable(
        self, conn: Connection, claimed: Claimed, reason: DisabledBy, *, now: datetime
    ) -> None:
        endpoint_id = claimed.endpoint_id
        client_id = await endpoints.disable_endpoint(
            conn, endpoint_id, url=claimed.url, reason=reason, now=now
        )
        if client_id is None:
            return
        _log.warning("webhooks.endpoint_disabled", endpoint_id=endpoint_id, reason=reason)
        event = EndpointDisabled(endpoint_id=endpoint_id, client_id=client_id, reason=reason, disabled_at=now)
        await append(
            conn, [event.to_event(id=uuid7(now=now, random=self._vault.random(RANDOM_BYTES)), time=now)]
        )
