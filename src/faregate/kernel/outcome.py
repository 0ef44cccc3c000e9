"""What is known of a call to the outside world: done, accepted for later, not done, or unknown.

`Unknown` is not a failure. Whoever holds one asks again by our own reference; nobody sends it again blindly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The other side did it, and this is its normalised answer. `raw` is the body as received."""

    payload: Mapping[str, Any]
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The other side took it and will answer later, by callback or when asked."""

    poll_after_s: float


@dataclass(frozen=True, slots=True)
class NotDone:
    """The other side certainly did not do it. `retryable` says whether trying again can help."""

    reason: str
    retryable: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened: a time-out, a dropped connection, an answer we do not understand."""

    reason: str


Outcome = Done | Accepted | NotDone | Unknown
