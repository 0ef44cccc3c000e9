"""A household as a pure state machine: who may invite, join, leave or hand over, and what becomes of it.

A household has at least one member and at most HOUSEHOLD_MAX; the head is one of them. Who leaves as the last ends it;
when the head leaves, the member who has been there longest becomes the head, so that nobody is kept from leaving.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from faregate.kernel.errors import ConflictError, ForbiddenError, NotFoundError
from faregate.members.contracts import Household

HOUSEHOLD_MAX: Final = 8
INVITED_FOR: Final = timedelta(days=14)


class HouseholdNotFound(NotFoundError):
    """There is no such household, or the member is in none."""


class AlreadyInHousehold(ConflictError):
    """The member is in a household already. Leave that one first."""


class NotHeadOfHousehold(ForbiddenError):
    """Only the head of a household may do this."""


class NotInvited(ForbiddenError):
    """The household's head did not invite this member, or the invitation has ended.

    Let the head invite the member again.
    """


class HouseholdFull(ConflictError):
    """The household has as many members as one may have. Invitations do not count before they are accepted."""


class NotInHousehold(ConflictError):
    """The member is not in this household."""


def created(*, id: str, member_id: str, now: datetime) -> Household:  # noqa: A002 - the field that it becomes
    """Return a new household of one member, who is its head."""
    return Household(id=id, head_id=member_id, members=(member_id,), invitations={}, created_at=now)


def invited(household: Household, *, by: str, member_id: str, now: datetime) -> Household:
    """Return the household with a member invited from now on for INVITED_FOR; inviting again renews it.

    Raises NotHeadOfHousehold, AlreadyInHousehold or HouseholdFull.
    """
    _require_head(household, by)
    if member_id in household.members:
        raise AlreadyInHousehold(f"member {member_id} is in this household already")
    _require_room(household)
    return replace(household, invitations={**household.invitations, member_id: now + INVITED_FOR})


def joined(household: Household, *, member_id: str, now: datetime) -> Household:
    """Return the household with an invited member in it. Raises AlreadyInHousehold, NotInvited or HouseholdFull."""
    if member_id in household.members:
        raise AlreadyInHousehold(f"member {member_id} is in this household already")
    ends_at = household.invitations.get(member_id)
    if ends_at is None or now >= ends_at:
        raise NotInvited(f"member {member_id} has no invitation that still holds")
    _require_room(household)
    remaining = {invitee: until for invitee, until in household.invitations.items() if invitee != member_id}
    return replace(household, members=(*household.members, member_id), invitations=remaining)


def left(household: Household, *, member_id: str) -> Household | None:
    """Return the household without a member, None if that was the last one. Raises NotInHousehold."""
    _require_inside(household, member_id)
    remaining = tuple(member for member in household.members if member != member_id)
    if not remaining:
        return None
    head_id = remaining[0] if household.head_id == member_id else household.head_id
    return replace(household, members=remaining, head_id=head_id)


def handed_over(household: Household, *, by: str, to: str) -> Household:
    """Return the household with another head. Raises NotHeadOfHousehold or NotInHousehold."""
    _require_head(household, by)
    _require_inside(household, to)
    return replace(household, head_id=to)


def _require_head(household: Household, member_id: str) -> None:
    if household.head_id != member_id:
        raise NotHeadOfHousehold(f"member {member_id} is not the head of household {household.id}")


def _require_inside(household: Household, member_id: str) -> None:
    if member_id not in household.members:
        raise NotInHousehold(f"member {member_id} is not in household {household.id}")


def _require_room(household: Household) -> None:
    if len(household.members) >= HOUSEHOLD_MAX:
        raise HouseholdFull(f"a household has at most {HOUSEHOLD_MAX} members", members_max=HOUSEHOLD_MAX)
