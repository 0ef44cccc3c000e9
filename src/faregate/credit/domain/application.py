"""The state machine of an application and the names of its steps. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final

from faregate.credit.contracts import Status
from faregate.kernel.errors import ConflictError, NotFoundError

OUTCOMES: Final = (Status.APPROVED, Status.DENIED, Status.MANUAL_REVIEW)
"""The states that a decision can lead to."""

_NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PROCESSING: frozenset({Status.APPROVED, Status.DENIED, Status.MANUAL_REVIEW}),
    Status.MANUAL_REVIEW: frozenset({Status.APPROVED, Status.DENIED}),
    Status.APPROVED: frozenset(),
    Status.DENIED: frozenset(),
}
_CORRECTED: Final[Mapping[Status, Mapping[Status, Status]]] = {
    Status.APPROVED: {
        Status.APPROVED: Status.APPROVED,
        Status.DENIED: Status.MANUAL_REVIEW,
        Status.MANUAL_REVIEW: Status.MANUAL_REVIEW,
    },
    Status.DENIED: {outcome: outcome for outcome in OUTCOMES},
    Status.MANUAL_REVIEW: {outcome: outcome for outcome in OUTCOMES},
}
_STEP_OF_SIGNAL: Final = {"done": "completed", "not_done": "failed", "unknown": "timeout"}


class ApplicationNotFound(NotFoundError):
    """There is no such application, or it belongs to another client."""


class DecisionNotMade(NotFoundError):
    """The application exists, but no decision has been made yet: poll its status."""


class DecisionSuperseded(ConflictError):
    """Another version of the decision is there than the one that the request is about.

    Read the newest decision and decide anew; `decision_version` is its number.
    """


class IllegalTransition(ConflictError):
    """The application's state does not allow this decision; final states stay as they are."""


class ApplicationExists(ConflictError):
    """The same applicant applied for the same product a short while ago; follow `application_id`."""


class KeyUsedElsewhere(ConflictError):
    """This applicant and Idempotency-Key were already used by another client: send a new key."""


def transition(*, current: Status, outcome: Status) -> Status:
    """Return the state after a decision; raise IllegalTransition where the machine has no such edge."""
    if outcome not in _NEXT[current]:
        raise IllegalTransition(f"an application that is {current} cannot become {outcome}")
    return outcome


def correction(*, current: Status, outcome: Status, is_persons: bool = False) -> Status:
    """Return the state after rules decided again on an application that is decided already.

    No rule takes back an approval: its bearer may hold a card by now, so a person decides (`manual_review`). Nor does
    one overrule what a person decided (`is_persons`). Every other outcome is applied, the same one included. Raises
    IllegalTransition for an application still in processing.
    """
    if current not in _CORRECTED:
        raise IllegalTransition(f"an application that is {current} has no decision to correct")
    if is_persons and outcome is not current:
        return Status.MANUAL_REVIEW
    return _CORRECTED[current][outcome]


def step_of_signal(*, check: str, status: str) -> str:
    """Return the step that a settled check leaves behind, such as `fraud_check_timeout`."""
    return f"{check}_check_{_STEP_OF_SIGNAL[status]}"


def step_of_decision(*, outcome: Status, statuses: Mapping[str, str], mandatory: Sequence[str]) -> str:
    """Return the last step of a decided application: what sent it to review, or that it was finalized."""
    if outcome is Status.MANUAL_REVIEW:
        for check in mandatory:
            if (status := statuses.get(check, "unknown")) != "done":
                return step_of_signal(check=check, status=status)
    return "decision_finalized"


def missing_checks(asked: Sequence[str], *, settled: Collection[str]) -> list[str]:
    """Return the checks that were asked and have no settled signal yet."""
    return [check for check in asked if check not in settled]


def age_years(*, dob: date, on: date) -> int:
    """Return the completed years of life on a day."""
    return on.year - dob.year - ((on.month, on.day) < (dob.month, dob.day))
