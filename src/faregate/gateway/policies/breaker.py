"""A circuit breaker: it stops calls to a provider that fails, and lets a few through to see whether it is well again.

States and thresholds follow M. Nygard, "Release It!" (2007), chapter 5, with the two kinds of windows, the slow calls
and the bounded half-open state that Resilience4j made common. Who shares the state with other processes does not
belong here: `is_led`, `grant` and the three changes of state are what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from faregate.gateway.policies.declared import BreakerPolicy, Override
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policies.windows import FAILED, SLOW, CallWindow, Tally, TimeWindow, Window

PROBE_AGAIN_S = 0.1
"""How soon to ask again where all probes are out: their answers decide, and usually come soon."""


class State(StrEnum):
    """CLOSED lets calls pass, OPEN none, HALF_OPEN a few."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Pass(NamedTuple):
    """The leave to make one call. `round` tells whether what it brings still says something about the present."""

    round: int
    is_probe: bool


class CircuitBreaker:
    """The breaker of one operation of one provider, in this process.

    It leads itself: after `open_s` it half-opens and hands out `own_probes`, the policy's. One that `is_led` is
    half-opened, given probes and closed by somebody else, and only opens by itself. `on_change` hears of every change
    of state that the breaker makes by itself.
    """

    __slots__ = (
        "_abandoned", "_failures", "_on_change", "_open_until", "_policy", "_probes", "_started", "_successes",
        "_windows", "is_led", "override", "own_probes", "round", "state",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy, *, on_change: Callable[[State], None] | None = None) -> None:
        self._on_change = on_change or _nobody
        self._open_until = 0.0
        self._probes = self._started = self._successes = self._failures = self._abandoned = 0
        self.state = State.CLOSED
        self.round = 0
        self.override = Override.AUTOMATIC
        self.is_led = False
        self.adapt(policy)

    def adapt(self, policy: BreakerPolicy) -> None:
        """Go by another policy from now on: the state stays, the windows begin anew."""
        self._policy = policy
        self.own_probes = policy.probes
        self._windows: list[Window] = []
        if policy.window_calls:
            self._windows.append(CallWindow(size=policy.window_calls))
        if policy.window_s:
            self._windows.append(TimeWindow(seconds=policy.window_s))

    def refusal(self, *, now: float) -> Refusal | None:
        """Return why no call may be made now; None when one may."""
        if self.override is Override.FORCED_OPEN:
            return Refusal(Reason.BREAKER_OPEN, self._policy.open_s)
        if self.state is State.CLOSED or self.override is Override.FORCED_CLOSED:
            return None
        if self.state is State.OPEN:
            if now < self._open_until:
                return Refusal(Reason.BREAKER_OPEN, self._open_until - now)
            if self.is_led:
                return Refusal(Reason.PROBES_TAKEN, PROBE_AGAIN_S)
            self.half_open(probes=self.own_probes)
            self._on_change(State.HALF_OPEN)
        return None if self._started < self._probes else Refusal(Reason.PROBES_TAKEN, PROBE_AGAIN_S)

    def room(self, *, now: float) -> int | None:
        """Return how many calls may be made now, None for as many as there are."""
        if self.refusal(now=now):
            return 0
        is_probing = self.state is State.HALF_OPEN and self.override is Override.AUTOMATIC
        return self._probes - self._started if is_probing else None

    def enter(self) -> Pass:
        """Count a call that `refusal` did not refuse in this instant."""
        is_probe = self.state is State.HALF_OPEN and self.override is Override.AUTOMATIC
        if is_probe:
            self._started += 1
        return Pass(self.round, is_probe)

    def leave(self, entered: Pass, *, now: float, took_s: float, is_failure: bool) -> None:
        """Learn how a call ended. What began before the last change of state says nothing any more."""
        if entered.round != self.round:
            return
        if self.override is not Override.AUTOMATIC:
            if not self.is_led:  # its place must not be missing when the operator lets go
                self.cancel(entered)
            return
        is_slow = took_s >= self._policy.slow_call_s
        if self.state is State.CLOSED:
            self._count((FAILED if is_failure else 0) | (SLOW if is_slow else 0), now)
        elif entered.is_probe and not self.is_led:
            self._judge_probe(is_good=not is_failure and not is_slow, now=now)

    def cancel(self, entered: Pass) -> None:
        """Forget a call that was not made after all; a probe's place is free again."""
        if entered.is_probe and entered.round == self.round and self.state is State.HALF_OPEN:
            self._started -= 1
            self._make_up_for_abandoned()

    def abandon(self, entered: Pass) -> None:
        """Hear that nobody waits any more for a call that was made, and that may still keep the provider busy.

        A probe's place stays taken; those of a breaker that leads itself are free again when every other probe has
        ended without a verdict, because it would never get one otherwise.
        """
        if entered.is_probe and entered.round == self.round and self.state is State.HALF_OPEN:
            self._abandoned += 1
            self._make_up_for_abandoned()

    def open(self, *, now: float, for_s: float) -> None:
        """Let no call pass for this long."""
        self._begin(State.OPEN)
        self._open_until = now + for_s

    def half_open(self, *, probes: int) -> None:
        """Let this many probes pass."""
        self._begin(State.HALF_OPEN)
        self._probes = probes

    def close(self) -> None:
        """Let all calls pass, with a clean slate."""
        self._begin(State.CLOSED)
        for window in self._windows:
            window.clear()

    def grant(self, probes: int) -> None:
        """Allow further probes in a half-open round that somebody else leads."""
        self._probes += probes

    def withdraw(self) -> int:
        """Take back the probes that were granted and not begun; return how many there were."""
        unused = self._probes - self._started
        self._probes = self._started
        return unused

    def is_ripe(self, *, now: float) -> bool:
        """Say whether it has been open for long enough to try."""
        return self.state is State.OPEN and now >= self._open_until

    def open_for_s(self, *, now: float) -> float:
        """Return how long it stays open from now on."""
        return max(0.0, self._open_until - now) if self.state is State.OPEN else 0.0

    def recent(self, *, now: float) -> dict[str, int]:
        """Return how many calls, failed and slow ones its shortest window holds."""
        tally = self._windows[-1].tally(now)
        return {"calls": tally.calls, "failed": tally.failed, "slow": tally.slow}

    def _begin(self, state: State) -> None:
        self.state = state
        self.round += 1
        self._probes = self._started = self._successes = self._failures = self._abandoned = 0

    def _count(self, mark: int, now: float) -> None:
        trips = False
        for window in self._windows:
            tally = window.add(mark, now)
            if tally.failed or tally.slow:
                trips = trips or self._trips(tally)
        if trips:
            self._open_itself(now)

    def _trips(self, tally: Tally) -> bool:
        policy, calls = self._policy, tally.calls
        if calls < policy.calls_min:
            return False
        return tally.failed >= policy.failure_rate * calls or tally.slow >= policy.slow_rate * calls

    def _judge_probe(self, *, is_good: bool, now: float) -> None:
        """Close with enough good probes; open as soon as there cannot be enough any more."""
        if is_good:
            self._successes += 1
        else:
            self._failures += 1
        if self._successes >= min(self._policy.successes, self._probes):
            self.close()
            self._on_change(State.CLOSED)
        elif self._failures > self._probes - min(self._policy.successes, self._probes):
            self._open_itself(now)
        else:
            self._make_up_for_abandoned()

    def _make_up_for_abandoned(self) -> None:
        in_flight = self._started - self._successes - self._failures - self._abandoned
        if not self.is_led and in_flight == 0:
            self._started -= self._abandoned
            self._abandoned = 0

    def _open_itself(self, now: float) -> None:
        self.open(now=now, for_s=self._policy.open_s)
        self._on_change(State.OPEN)


def _nobody(_: State) -> None:
    """Hear nothing."""
