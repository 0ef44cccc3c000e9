"""How many workers a backlog asks for: a pure rule. Reading the backlog and starting processes do not belong here.

`infra/local_system` follows it on one machine; elsewhere an autoscaler takes the same figure from the workers' metric
`faregate_backlog_items`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from faregate.kernel.errors import InvalidError

ITEMS_A_WORKER = 400
"""What one worker may have waiting before another one is worth its start."""


class ScalingPolicyInvalid(InvalidError):
    """The limits of a scaling policy contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits for a worker: unhandled events, intents that are due, runs that have not begun or could go on."""

    events: int = 0
    intents: int = 0
    runs: int = 0

    @property
    def items(self) -> int:
        """All of it together."""
        return self.events + self.intents + self.runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """When workers come and go.

    Each worker may have `items_a_worker` waiting; what is beyond that asks for more workers, all at once. One leaves
    when the others would have less than `idle_share` of it. A reason must have held for `grow_after_s` or
    `shrink_after_s`, and two changes lie `rest_s` apart, so that a new worker's effect is seen before the next.
    """

    workers_min: int = 1
    workers_max: int = 1
    items_a_worker: int = ITEMS_A_WORKER
    idle_share: float = 0.25
    grow_after_s: float = 2.0
    shrink_after_s: float = 20.0
    rest_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.workers_min <= self.workers_max:
            raise ScalingPolicyInvalid(
                f"at least {self.workers_min} and at most {self.workers_max} workers contradict each other"
            )
        if self.items_a_worker < 1 or not 0 < self.idle_share < 1:
            raise ScalingPolicyInvalid(
                "a worker's share must be positive, and the idle share between 0 and 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many workers there are, when that changed last, and since when there was reason to change it.

    Instants are readings of one clock that only grows, in seconds.
    """

    workers: int
    changed_at_s: float = -math.inf
    high_since_s: float | None = None
    low_since_s: float | None = None


def next_scale(scale: Scale, *, backlog: Backlog, now_s: float, policy: ScalingPolicy) -> Scale:
    """Return what follows from the backlog at this instant: the same number, more, or one less."""
    is_high = backlog.items > policy.items_a_worker * scale.workers
    is_low = backlog.items < policy.idle_share * policy.items_a_worker * (scale.workers - 1)
    seen = replace(
        scale,
        high_since_s=_since(scale.high_since_s, holds=is_high, now_s=now_s),
        low_since_s=_since(scale.low_since_s, holds=is_low, now_s=now_s),
    )
    wanted = _wanted(seen, backlog=backlog, now_s=now_s, policy=policy)
    if wanted == scale.workers or now_s - scale.changed_at_s < policy.rest_s:
        return seen
    return Scale(workers=wanted, changed_at_s=now_s)


def members_wanted(events: int, *, members_max: int) -> int:
    """Return how many members of a consumer group its lag asks for: a hint for an autoscaler that is not ours."""
    return min(max(1, math.ceil(events / ITEMS_A_WORKER)), members_max)


def _since(since_s: float | None, *, holds: bool, now_s: float) -> float | None:
    if not holds:
        return None
    return now_s if since_s is None else since_s


def _wanted(scale: Scale, *, backlog: Backlog, now_s: float, policy: ScalingPolicy) -> int:
    workers = scale.workers
    if scale.high_since_s is not None and now_s - scale.high_since_s >= policy.grow_after_s:
        workers = math.ceil(backlog.items / policy.items_a_worker)
    elif scale.low_since_s is not None and now_s - scale.low_since_s >= policy.shrink_after_s:
        workers -= 1
    return min(max(workers, policy.workers_min), policy.workers_max)
