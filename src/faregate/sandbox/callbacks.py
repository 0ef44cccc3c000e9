"""Sends results to the callers' own addresses: at least once, with backoff, over restarts of either side.

What a callback says and how it is signed is the provider's; here is when it goes out, how often, and what can
go wrong on the way.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp

from faregate.kernel.clock import Clock
from faregate.sandbox.executions import Execution
from faregate.sandbox.faults import Fault, Faults, Stage
from faregate.sandbox.journal import Journal
from faregate.sandbox.personas import faults_of
from faregate.sandbox.providers.base import Provider, Reply

ATTEMPTS_MAX: Final = 200
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
SEND_TIMEOUT_S: Final = 10.0
SENDING_MAX: Final = 64
_UNAUTHORISED: Final = 401
_GONE: Final = 410
_CLOCK: Final = {Fault.CALLBACK_SKEWED: "skewed", Fault.CALLBACK_STALE: "stale"}


class Callbacks:
    """The callbacks that are due. Counted since ever: sent, failed, lost; the others since the start."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        faults: Callable[[], Faults],
        journal: Journal,
        session: aiohttp.ClientSession,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._faults = faults
        self._journal = journal
        self._session = session
        self._clock = clock
        self._sending = asyncio.Semaphore(SENDING_MAX)
        self._passed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    def resume(self, executions: Iterable[Execution], closed: Mapping[int, str]) -> None:
        """Take up what the last process left: count what was closed and schedule the rest, each with its own fate."""
        self.counts.update(closed.values())
        for execution in executions:
            if execution.callback_url is not None and execution.number not in closed:
                self.schedule(execution, fault=self._fate(execution))

    def schedule(self, execution: Execution, *, fault: Fault | None) -> asyncio.Task[None]:
        """Send the result when it is ready; the returned task ends when nothing is left to send."""
        task = asyncio.create_task(self._deliver(execution, fault))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pending(self) -> int:
        """Return how many callbacks have not been closed."""
        return len(self._tasks)

    async def close(self) -> None:
        """Stop sending. What is pending stays in the journal for the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fate(self, execution: Execution) -> Fault | None:
        """What goes wrong with a callback: a new process draws what the last one drew."""
        provider = execution.provider
        always = faults_of(execution.persona, provider=provider)
        return self._faults().draw(
            Stage.CALLBACK, provider=provider, reference=execution.reference, always=always
        )

    async def _deliver(self, execution: Execution, fault: Fault | None) -> None:
        await self._until_due(execution, fault)
        if fault is Fault.CALLBACK_LOST:
            await self._close(execution, "lost")
            return
        await self._send_faulty(execution, fault)
        off_s = self._clock_off_s(execution, fault)
        is_taken = await self._send_until_taken(execution, off_s=off_s)
        if fault is not None and off_s:
            self.counts[f"{_CLOCK[fault]}_{'accepted' if is_taken else 'refused'}"] += 1
        if is_taken and fault is Fault.CALLBACK_DUPLICATE:
            self.counts["duplicates"] += 1
            await self._send(execution, self._worded(execution))
        self._let_overtaken_pass(execution.provider)
        await self._close(execution, "sent" if is_taken else "failed")

    async def _until_due(self, execution: Execution, fault: Fault | None) -> None:
        behaviour = self._faults().plan.of(execution.provider)
        late_s = behaviour.callback_late_s if fault is Fault.CALLBACK_LATE else 0.0
        await asyncio.sleep(max(0.0, execution.ready_at + late_s - self._clock.now().timestamp()))
        if fault is not Fault.CALLBACK_OVERTAKEN:
            return
        try:
            await asyncio.wait_for(self._passed[execution.provider].wait(), behaviour.callback_late_s)
            self.counts["overtaken"] += 1
        except TimeoutError:
            self.counts["overtaken_by_none"] += 1

    def _let_overtaken_pass(self, provider: str) -> None:
        self._passed[provider].set()
        self._passed[provider] = asyncio.Event()

    async def _send_faulty(self, execution: Execution, fault: Fault | None) -> None:
        """Send a message that nobody should accept, and count whoever does."""
        if fault is Fault.CALLBACK_WRONG_SIGNATURE:
            reply = self._worded(execution, genuine=False)
        elif fault is Fault.CALLBACK_MALFORMED:
            reply = half(self._worded(execution))
        else:
            return
        self.counts["faulty"] += 1
        if accepted(await self._send(execution, reply)):
            self.counts["faulty_accepted"] += 1

    def _clock_off_s(self, execution: Execution, fault: Fault | None) -> float:
        """How far the clock is off that signs a callback, either way; 0 where no time is signed."""
        if fault not in _CLOCK or not self._providers[execution.provider].statement.signs_time:
            return 0.0
        behaviour = self._faults().plan.of(execution.provider)
        unit = self._faults().unit("clock", provider=execution.provider, reference=execution.reference)
        if fault is Fault.CALLBACK_SKEWED:
            return behaviour.callback_skew_s * (2 * unit - 1)
        return math.copysign(behaviour.callback_stale_s, unit - 0.5)

    async def _send_until_taken(self, execution: Execution, *, off_s: float) -> bool:
        """Send until it is accepted, or refused for good: repeating mends no wrong clock."""
        for attempt in range(ATTEMPTS_MAX):
            status = await self._send(execution, self._worded(execution, off_s=off_s))
            if accepted(status) or status == _GONE or (off_s and status == _UNAUTHORISED):
                return accepted(status)
            unit = self._faults().unit("backoff", provider=execution.provider, reference=execution.reference)
            backoff_s = min(BACKOFF_FIRST_S * 2 ** min(attempt, 10), BACKOFF_MAX_S)
            await asyncio.sleep(backoff_s * (0.5 + unit / 2))
        return False

    async def _send(self, execution: Execution, reply: Reply) -> int | None:
        """Send once; return the status, None if there was none."""
        if execution.callback_url is None:
            raise ValueError(f"{execution.reference} has nowhere to call back")
        headers = {"Content-Type": reply.content_type, **reply.headers, **_trace(execution)}
        self.counts["attempts"] += 1
        async with self._sending:
            try:
                async with self._session.post(
                    execution.callback_url,
                    data=reply.body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=SEND_TIMEOUT_S),
                ) as response:
                    await response.read()
                    return response.status
            except (aiohttp.ClientError, TimeoutError):
                return None

    def _worded(self, execution: Execution, *, genuine: bool = True, off_s: float = 0.0) -> Reply:
        now = self._clock.now().timestamp() + off_s
        return self._providers[execution.provider].callback(execution, now=now, genuine=genuine)

    async def _close(self, execution: Execution, state: str) -> None:
        self.counts[state] += 1
        record: dict[str, Any] = {"type": "callback_closed", "number": execution.number, "state": state}
        await self._journal.append(record)


def accepted(status: int | None) -> bool:
    """Say whether the receiver took a message."""
    return status is not None and 200 <= status < 300


def half(reply: Reply) -> Reply:
    """Return an answer of which only the first half of the body is left."""
    return Reply(
        status=reply.status,
        body=reply.body[: len(reply.body) // 2],
        content_type=reply.content_type,
        headers=reply.headers,
    )


def _trace(execution: Execution) -> dict[str, str]:
    return {"traceparent": execution.traceparent} if execution.traceparent else {}
