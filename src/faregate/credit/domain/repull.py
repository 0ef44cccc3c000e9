"""A new pull of checks whose outcome is known: two people authorise it. Pure: who may, and what the request is then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from faregate.credit.contracts import Repull, RepullState
from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.credit.domain.review import SamePerson
from faregate.kernel.errors import ConflictError, InvalidError, NotFoundError


class RepullNotFound(NotFoundError):
    """The review has no such request for a new pull."""


class CheckUnknown(InvalidError):
    """A new pull is of checks that were made before, each named once."""


class PullStillOpen(ConflictError):
    """What became of an earlier request about the check is not known: asking again could make it happen twice.

    Wait until it is known; look-ups go on by themselves, and `faregate review show` tells the state.
    """


class RepullPending(ConflictError):
    """A new pull was asked for and nobody has answered yet: one at a time."""


class RepullAnswered(ConflictError):
    """The request for a new pull was authorised or rejected before."""


def require_checks(checks: Sequence[str]) -> None:
    """Raise CheckUnknown unless these are checks, each once."""
    unknown = sorted(set(checks) - PROVIDERS_OF_CHECK.keys())
    if unknown or not checks or len(set(checks)) != len(checks):
        known = ", ".join(PROVIDERS_OF_CHECK)
        raise CheckUnknown(f"name each check once; there are {known}", unknown=unknown)


def answered(
    repull: Repull,
    *,
    by: str,
    state: RepullState,
    now: datetime,
    provider_request_ids: Sequence[str] = (),
) -> Repull:
    """Return the request after the second person's answer. Raises RepullAnswered or SamePerson."""
    if repull.state is not RepullState.REQUESTED:
        raise RepullAnswered(f"the new pull {repull.id} was {repull.state} before", by=repull.answered_by)
    if by == repull.requested_by:
        raise SamePerson("who asked for a new pull does not authorise or reject it")
    return replace(
        repull,
        state=state,
        answered_by=by,
        answered_at=now,
        provider_request_ids=tuple(provider_request_ids),
    )
