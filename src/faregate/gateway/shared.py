"""Keeps one breaker of this process in step with the one that all processes share, and goes on alone without it.

While it is led, this process opens the breaker by what it saw itself, and learns the rest from the others. Alone it
half-opens and closes by itself, with its share of the probes; once the others are back, what it opened is theirs too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from faregate.gateway.policies.breaker import PROBE_AGAIN_S, CircuitBreaker, State
from faregate.gateway.policies.declared import BreakerPolicy
from faregate.gateway.policies.guard import Lease, Permit
from faregate.infra.cache import CacheUnavailable
from faregate.infra.shared_breakers import SharedBreakers, SharedView
from faregate.infra.token_bucket import PROCESSES_UNKNOWN, TokenBuckets

_log = structlog.get_logger(__name__)

ALL: Final = "all"
PROCESS: Final = "process"

Told = Callable[[State, str], None]
"""Hears of a change of state and whose it is: of ALL processes, or of this PROCESS alone."""


@dataclass(slots=True, kw_only=True)
class Shared:
    """What the processes share: breakers, token buckets, and how many of them there are."""

    breakers: SharedBreakers
    buckets: TokenBuckets
    processes: int = PROCESSES_UNKNOWN


class BreakerLink:
    """One breaker and its shared twin. `now` reads the clock of the breaker, `new_id` names leases."""

    def __init__(
        self,
        *,
        key: str,
        breaker: CircuitBreaker,
        policy: BreakerPolicy,
        shared: Shared,
        now: Callable[[], float],
        new_id: Callable[[], str],
        told: Told,
    ) -> None:
        self.key = key
        self.policy = policy
        self._breaker = breaker
        self._shared = shared
        self._now = now
        self._new_id = new_id
        self._told = told
        self._generation = 0
        self._seen_at_us = 0
        self._leases: deque[Lease] = deque()
        self._ask_again_at = 0.0
        self._untold_opening = False
        self._tasks: set[asyncio.Task[None]] = set()
        breaker.is_led = True

    def changed(self, state: State) -> None:
        """Take in a change that the breaker made by itself: an opening is for all, the rest it does only alone."""
        if state is State.OPEN and self._breaker.is_led:
            self._untold_opening = True
            self._begin(self._tell_opening())
        else:
            self._told(state, PROCESS)

    async def prepare(self) -> None:
        """Get leases for probes where it is time for some and none is in hand."""
        now = self._now()
        self._drop_old_leases(now)
        is_probing = self._breaker.state is State.HALF_OPEN or self._breaker.is_ripe(now=now)
        if not (self._breaker.is_led and is_probing) or self._leases or now < self._ask_again_at:
            return
        self._ask_again_at = now + PROBE_AGAIN_S
        wanted = [self._new_id() for _ in range(self.policy.probes)]
        view = await self._try(
            lambda: self._shared.breakers.probe(
                self.key, leases=wanted, probes=self.policy.probes, lease_s=self.policy.probe_lease_s
            )
        )
        if view is not None and view.granted:
            until = now + self.policy.probe_lease_s
            self._leases.extend(Lease(lease, until) for lease in wanted[: view.granted])
            self._breaker.grant(view.granted)

    def enter(self, permit: Permit) -> None:
        """Give a probe the lease that it needs."""
        if permit.passed.is_probe and self._leases:
            permit.lease = self._leases.popleft()

    def leave(self, permit: Permit, *, is_good: bool) -> None:
        """Report what a probe brought."""
        if permit.lease is not None:
            self._begin(self._report(permit.lease.id, self._generation, is_good))

    def cancel(self, permit: Permit) -> None:
        """Take back the lease of a probe that was not sent: the next one has it, if this round still goes on."""
        if permit.lease is None:
            return
        if permit.passed.round == self._breaker.round and self._breaker.is_led:
            self._leases.appendleft(permit.lease)
        else:
            self._begin(self._release([permit.lease.id]))

    def adopt(self, view: SharedView) -> None:
        """Follow the shared breaker; what this process opened and could not tell yet comes first."""
        if not self._is_news(view):
            return
        is_forgotten = not self._breaker.is_led or view.generation < self._generation
        self._breaker.is_led = True
        if is_forgotten and view.state == State.CLOSED and self._breaker.state is not State.CLOSED:
            self._untold_opening = True
        if self._untold_opening:
            self._begin(self._tell_opening())
        elif view.generation != self._generation or view.state != self._breaker.state:
            self._follow(view)

    def go_alone(self) -> None:
        """Lead the breaker here until the others are back, with a share of the probes."""
        if self._breaker.is_led:
            self._breaker.is_led = False
            self._breaker.own_probes = max(1, self.policy.probes // max(1, self._shared.processes))
            self._leases.clear()
            if self._breaker.state is State.HALF_OPEN:
                self._breaker.half_open(probes=self._breaker.own_probes)
            if self._untold_opening:
                self._untold_opening = False
                self._told(State.OPEN, PROCESS)

    async def close(self) -> None:
        """Tell what is left to tell, and give back the leases that nobody used."""
        if self._leases:
            self._begin(self._release([lease.id for lease in self._leases]))
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _is_news(self, view: SharedView) -> bool:
        """Say whether an answer is the latest that was heard; what it changed is told even if another overtook it."""
        if view.is_changed:
            self._told(State(view.state), ALL)
        is_news = view.at_us >= self._seen_at_us
        self._seen_at_us = max(self._seen_at_us, view.at_us)
        return is_news

    def _follow(self, view: SharedView) -> None:
        self._generation = view.generation
        if view.state == State.OPEN:
            self._breaker.open(now=self._now(), for_s=view.open_for_s)
        elif view.state == State.HALF_OPEN:
            self._breaker.half_open(probes=0)
        elif self._breaker.state is not State.CLOSED:
            self._breaker.close()
        self._leases.clear()

    def _drop_old_leases(self, now: float) -> None:
        if self._leases and self._leases[0].until <= now:
            self._leases.clear()
            self._breaker.withdraw()

    async def _tell_opening(self) -> None:
        for_s = self._breaker.open_for_s(now=self._now()) or self.policy.open_s
        seen = self._generation
        view = await self._try(
            lambda: self._shared.breakers.open(self.key, seen_generation=seen, for_s=for_s)
        )
        if view is not None:
            self._untold_opening = False

    async def _report(self, lease: str, generation: int, is_good: bool) -> None:
        policy = self.policy
        await self._try(
            lambda: self._shared.breakers.report(
                self.key,
                generation=generation,
                lease=lease,
                is_good=is_good,
                probes=policy.probes,
                successes=policy.successes,
                open_s=policy.open_s,
            )
        )

    async def _release(self, leases: list[str]) -> None:
        await self._try(lambda: self._shared.breakers.release(self.key, leases=leases))

    async def _try(self, ask: Callable[[], Awaitable[SharedView]]) -> SharedView | None:
        """Ask and follow the answer; None, and alone from now on, if there is none."""
        try:
            view = await ask()
        except CacheUnavailable as error:
            _log.warning("gateway.breaker_alone", breaker=self.key, error=error.detail)
            self.go_alone()
            return None
        if self._is_news(view) and self._breaker.is_led and view.generation != self._generation:
            self._follow(view)
        return view

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
