"""Why a call is not made now. A refused call was not sent: that is known, and no outcome is in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The policy that said no, in the order in which they are asked."""

    DEADLINE = "deadline"
    BREAKER_OPEN = "breaker_open"
    PROBES_TAKEN = "probes_taken"
    BULKHEAD_FULL = "bulkhead_full"
    RATE_LIMITED = "rate_limited"
    RETRY_BUDGET = "retry_budget"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that is not made. `retry_after_s` is when to ask again; the answer may be no then, too."""

    reason: Reason
    retry_after_s: float
