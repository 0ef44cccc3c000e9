"""Settles intents by what providers told us themselves. Verifying and keeping them happens before (`api`).

A batch is one transaction that holds the rows' locks, so that it needs no lease: a crash rolls it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from faregate.gateway.hooks import Hooks
from faregate.gateway.intent import FINAL, Intent, State
from faregate.gateway.metrics import CALLBACKS
from faregate.gateway.policy import Policies
from faregate.gateway.poller import Intervals, Poller
from faregate.gateway.recorder import write_changes
from faregate.gateway.settlement import Change, Moment, after_callback
from faregate.gateway.store import journal
from faregate.gateway.store.journal import ClaimedCallback, Write
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.outage import is_outage
from faregate.kernel.outcome import Done, NotDone

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlerOptions:
    """Limits of a settler. A callback that cannot be processed is put off for `put_off_s` seconds."""

    batch_max: int = 200
    put_off_s: float = 30.0
    intervals: Intervals = field(default_factory=Intervals)


class CallbackSettler:
    """Processes kept callbacks of one owner until told to stop; several processes may run one each."""

    def __init__(
        self,
        *,
        database: Database,
        hooks: Hooks,
        policies: Policies,
        chance: Callable[[], float],
        options: SettlerOptions | None = None,
    ) -> None:
        self._database = database
        self._hooks = hooks
        self._policies = policies
        self._chance = chance
        self._options = options or SettlerOptions()
        self._singly = 0
        self._poller = Poller(name="callbacks", work=self.settle, intervals=self._options.intervals)

    def wake(self) -> None:
        """Look for callbacks now instead of at the next poll."""
        self._poller.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop` is set."""
        await self._poller.run(stop)

    async def settle(self) -> int:
        """Process one batch and return its size. Those of a batch that failed by itself are taken one by one."""
        most = 1 if self._singly else self._options.batch_max
        claimed: Sequence[ClaimedCallback] = ()
        try:
            async with self._database.transaction() as conn:
                claimed = await journal.claim_callbacks(conn, most=most)
                if claimed and most == 1:
                    await self._apply_or_put_off(conn, claimed)
                elif claimed:
                    await self._apply(conn, claimed)
        except Exception as error:
            if most > 1 and not is_outage(error):
                self._singly = len(claimed)
            raise
        self._singly = max(0, self._singly - 1) if claimed else 0
        return len(claimed)

    async def _apply_or_put_off(self, conn: Connection, claimed: Sequence[ClaimedCallback]) -> None:
        try:
            async with conn.transaction():
                await self._apply(conn, claimed)
        except Exception as error:  # one callback at fault must not hold up the others
            if is_outage(error):
                raise
            _log.exception("gateway.callback_failed", ords=[callback.ord for callback in claimed])
            results = {callback.ord: "failed" for callback in claimed}
            await journal.close_callbacks(conn, results=results, retry_s=self._options.put_off_s)

    async def _apply(self, conn: Connection, claimed: Sequence[ClaimedCallback]) -> None:
        """Judge callbacks in the order in which they came; each sees what the one before it changed."""
        intents: dict[str, Intent] = {}
        writes: list[Write] = []
        results: dict[int, str] = {}
        for callback in claimed:
            intent = intents.get(callback.intent.provider_request_id, callback.intent)
            change = self._judge(replace(callback, intent=intent))
            results[callback.ord] = _result(callback, intent, change)
            CALLBACKS.labels(intent.provider, results[callback.ord]).inc()
            if change is not None:
                intents[intent.provider_request_id] = change.intent
                writes.append(_write(callback, change))
        if writes:
            await write_changes(conn, writes, hooks=self._hooks)
        await journal.close_callbacks(conn, results=results)

    def _judge(self, callback: ClaimedCallback) -> Change | None:
        intent = callback.intent
        at = Moment(now=callback.read_at, started_at=callback.read_at, chance=self._chance())
        rules = self._policies.rules(check=intent.check, provider=intent.provider)
        return after_callback(intent, callback.outcome, at=at, rules=rules)


def _write(callback: ClaimedCallback, change: Change) -> Write:
    return Write(change=change, token=None, received_at=callback.received_at, response=callback.response)


def _result(callback: ClaimedCallback, intent: Intent, change: Change | None) -> str:
    """Name what a callback did, for people: a contradiction is a provider's fault worth a telephone call."""
    if change is not None:
        return "applied"
    if intent.state not in FINAL:
        return "ignored"
    agrees = isinstance(callback.outcome, Done if intent.state is State.DONE else NotDone)
    return "repeated" if agrees else "contradicts"
