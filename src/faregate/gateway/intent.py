"""An intent: one request to one provider as the submission journal knows it, and what its owner is told.

Frozen data without behaviour; `settlement` decides, `store` remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where an intent stands. In DONE and NOT_DONE the truth is known and nothing more is sent or asked."""

    DECLARED = "declared"
    SENDING = "sending"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    DONE = "done"
    NOT_DONE = "not_done"


FINAL = frozenset({State.DONE, State.NOT_DONE})


class Status(StrEnum):
    """What the owner of a check is told at its end."""

    DONE = "done"
    NOT_DONE = "not_done"
    UNKNOWN = "unknown"


def provider_request_id(*, subject_id: str, provider: str, attempt: int) -> str:
    """Return our reference for an attempt: the same over retries, crashes and changes of process."""
    return f"{subject_id}:{provider}:{attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntent:
    """What somebody wants asked: `check` about `subject_id` at `provider`, with an answer by `deadline`.

    `sends` are those already made to this provider for this check; `delay_s` postpones the first send.
    """

    subject_id: str
    check: str
    provider: str
    deadline: datetime
    attempt: int = 1
    sends: int = 0
    delay_s: float = 0.0
    traceparent: str | None = None

    @property
    def provider_request_id(self) -> str:
        """Our reference for this attempt."""
        return provider_request_id(subject_id=self.subject_id, provider=self.provider, attempt=self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One row of the journal.

    `next_at`: when it needs somebody next (the lease's end while it is claimed), None when nobody.
    `sent_end`: when our last send had certainly ended; while `reason` is "not_found", when a look-up first said so.
    `doubtful`: a send may have been executed without our knowing. `settled`: what the owner was told, None before.
    """

    provider_request_id: str
    subject_id: str
    check: str
    provider: str
    attempt: int
    state: State
    deadline: datetime
    next_at: datetime | None = None
    sends: int = 0
    looks: int = 0
    sent_end: datetime | None = None
    doubtful: bool = False
    reason: str | None = None
    settled: Status | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The end of a check as its owner learns it. After `unknown`, a `done` may still follow.

    `facts` are the provider's normalised answer, empty unless `done`.
    """

    subject_id: str
    check: str
    provider: str
    provider_request_id: str
    attempt: int
    status: Status
    facts: Mapping[str, Any]
    reason: str | None
    received_at: datetime
    traceparent: str | None
