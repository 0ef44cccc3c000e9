"""Outcomes as JSON for the inbox of callbacks. The raw body does not belong in it: it is kept encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome without its raw body."""
    match outcome:
        case Done():
            return {"kind": "done", "payload": dict(outcome.payload)}
        case Accepted():
            return {"kind": "accepted", "poll_after_s": outcome.poll_after_s}
        case NotDone():
            retry = {"retryable": outcome.retryable, "retry_after_s": outcome.retry_after_s}
            return {"kind": "not_done", "reason": outcome.reason, **retry}
        case Unknown():
            return {"kind": "unknown", "reason": outcome.reason}


def outcome_from_json(value: Mapping[str, Any]) -> Outcome:
    """Read what `outcome_to_json` wrote. Raises ValueError for another kind."""
    match value["kind"]:
        case "done":
            return Done(value["payload"])
        case "accepted":
            return Accepted(value["poll_after_s"])
        case "not_done":
            return NotDone(value["reason"], value["retryable"], value["retry_after_s"])
        case "unknown":
            return Unknown(value["reason"])
        case kind:
            raise ValueError(f"no outcome is called {kind!r}")
