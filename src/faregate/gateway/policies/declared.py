"""What an operator declares for a provider. Values with their limits, and nothing that happens.

The annotations are the validation of the file that declares them (`gateway.declarations`). Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Gt, Le, MaxLen, Predicate

Share = Annotated[float, Ge(0), Le(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
Seconds = Annotated[float, Gt(0), Le(31_536_000)]  # a year
SecondsOrNone = Annotated[float, Ge(0), Le(31_536_000)]
Count = Annotated[int, Ge(1), Le(10_000)]


def _is_name(text: str) -> bool:
    """Say whether a text is of letters, digits, `.`, `_` and `-` only, or empty."""
    return not text or (text.replace(".", "").replace("_", "").replace("-", "").isalnum() and text.isascii())


class Operation(StrEnum):
    """Kinds of calls that must not take each other's places.

    SEND and LOOK_UP are the journal's; READ and WRITE are calls of a context that keeps no journal of them.
    """

    SEND = "send"
    LOOK_UP = "look_up"
    READ = "read"
    WRITE = "write"


READS = frozenset({Operation.LOOK_UP, Operation.READ})
"""Operations that change nothing at the provider, and may therefore be asked twice at once."""


class Override(StrEnum):
    """What an operator asks of a breaker."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When calls stop, and how they begin again.

    It opens when a window holds `calls_min` calls and the share of failed ones reaches `failure_rate`, or the share
    of those that took longer than `slow_call_s` reaches `slow_rate`. Windows: the last `window_calls` calls and the
    last `window_s` seconds; 0 leaves one out. After `open_s` at most `probes` calls go out, and `successes` of them
    close it again. `probe_lease_s` is how long a probe of a process that died keeps its place.
    """

    window_calls: Annotated[int, Ge(0), Le(10_000)] = 100
    window_s: SecondsOrNone = 10.0
    calls_min: Count = 20
    failure_rate: PositiveShare = 0.5
    slow_call_s: Seconds = 60.0
    slow_rate: PositiveShare = 1.0
    open_s: Seconds = 5.0
    probes: Count = 5
    successes: Count = 3
    probe_lease_s: Seconds = 30.0

    def __post_init__(self) -> None:
        if not self.window_calls and not self.window_s:
            raise ValueError("window_calls and window_s are both 0: a breaker needs at least one window")
        if self.window_calls and self.calls_min > self.window_calls:
            raise ValueError("calls_min is more than window_calls: the breaker could never open")
        if self.successes > self.probes:
            raise ValueError("successes is more than probes: the breaker could never close")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadPolicy:
    """How many calls of one operation may be in flight in this process.

    With `adaptive` the limit moves between `limit_min` and `in_flight_max` by what the provider can take.
    """

    in_flight_max: Count = 64
    adaptive: bool = False
    limit_min: Count = 2

    def __post_init__(self) -> None:
        if self.limit_min > self.in_flight_max:
            raise ValueError("limit_min is more than in_flight_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePolicy:
    """How many calls the credential may make, over all processes: `per_s` a second, `burst` at once; 0 is no limit.

    `credential` names the bucket, the provider's own if empty; providers with one credential share it.
    `kept_for_reads` is the share that only look-ups and reads may use.
    """

    per_s: Annotated[float, Ge(0), Le(1e6)] = 0.0
    burst: Annotated[int, Ge(1), Le(10**9)] = 100
    credential: Annotated[str, MaxLen(63), Predicate(_is_name)] = ""
    kept_for_reads: Annotated[float, Ge(0), Le(0.9)] = 0.1

    def __post_init__(self) -> None:
        if 0 < self.per_s < 0.01:
            raise ValueError("per_s is less than 0.01: that is one call in more than 100 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetPolicy:
    """How many of the sends may be repeats: `ratio` of the first ones, at least `floor_per_s`; kept for `window_s`."""

    ratio: Share = 0.1
    floor_per_s: Annotated[float, Ge(0), Le(1e6)] = 1.0
    window_s: Seconds = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """A second look-up beside one that is late: after `delay_s`, or after the 95th percentile if that is 0.

    At most `share_max` of the look-ups get one; 0 switches it off.
    """

    share_max: Share = 0.0
    delay_s: SecondsOrNone = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPolicy:
    """What stands before the calls of one operation."""

    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """What stands before the calls to one provider."""

    operations: Mapping[Operation, OperationPolicy]
    rate: RatePolicy = field(default_factory=RatePolicy)
    retry_budget: RetryBudgetPolicy = field(default_factory=RetryBudgetPolicy)
    hedge: HedgePolicy = field(default_factory=HedgePolicy)
