"""What an attempt leads to: delivered, tried again, given up, the endpoint paused or disabled. Pure.

The schedule and the meaning of the statuses follow Standard Webhooks 1.0.0 (standardwebhooks.com, "Sender best
practices"): the times below add up to 75 h 35 min 5 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds before each attempt, counted from the one before it."""

ATTEMPTS_MAX = len(DELAYS_S)
JITTER = 0.1
"""Each delay is stretched by up to this share, so that what failed together does not come back together."""

PAUSE_S = 30.0
"""How long an endpoint that is too busy and does not say for how long is left alone."""
PAUSE_S_MAX = 86_400.0
DISABLED_AFTER = timedelta(days=5)
"""An endpoint at which nothing arrived for so long is disabled: longer than one message is tried for."""

_GONE = 410
_TOO_BUSY = frozenset({429, 502, 503, 504})


class State(StrEnum):
    """Where a delivery stands. `dead`: given up; it can be sent again on request."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


DisabledBy = Literal["gone", "failing"]
"""Why we stop sending to an endpoint: it answered 410, or it failed for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an attempt brought: a status, or the reason why there is none. `retry_after_s`: the pause asked for."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the endpoint took the message. A redirect is none: it is never followed."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the delivery, and of its endpoint: a pause, or its end."""

    state: State
    next_at: datetime | None = None
    paused_until: datetime | None = None
    disabled: DisabledBy | None = None


def judge(
    answer: Answer, *, attempts: int, now: datetime, chance: float, failing_since: datetime | None
) -> Verdict:
    """Say what the answer to attempt number `attempts` (from 1) leads to. `chance` is uniform in [0, 1)."""
    if answer.is_success:
        return Verdict(state=State.DELIVERED)
    if answer.status == _GONE:
        return Verdict(state=State.DEAD, disabled="gone")
    if failing_since is not None and now - failing_since >= DISABLED_AFTER:
        return Verdict(state=State.DEAD, disabled="failing")
    pause_s = _pause_s(answer)
    paused_until = now + timedelta(seconds=pause_s) if pause_s else None
    if attempts >= ATTEMPTS_MAX:
        return Verdict(state=State.DEAD, paused_until=paused_until)
    delay_s = DELAYS_S[attempts] * (1 + JITTER * chance)
    next_at = now + timedelta(seconds=max(delay_s, pause_s))
    return Verdict(state=State.PENDING, next_at=next_at, paused_until=paused_until)


def _pause_s(answer: Answer) -> float:
    if answer.status not in _TOO_BUSY:
        return 0.0
    asked = PAUSE_S if answer.retry_after_s is None else answer.retry_after_s
    return min(max(asked, 0.0), PAUSE_S_MAX)
