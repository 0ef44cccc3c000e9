"""The status of a member as a pure state machine, and what each status still allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from faregate.kernel.errors import ConflictError, InvalidError, NotFoundError
from faregate.members.contracts import MemberStatus, StatusAct

REASON_PATTERN: Final = r"^[a-z][a-z0-9_]{0,63}$"
_REASON: Final = re.compile(REASON_PATTERN)

_LEADS_TO: Final[Mapping[tuple[MemberStatus, StatusAct], MemberStatus]] = MappingProxyType(
    {
        (MemberStatus.ACTIVE, StatusAct.FREEZE): MemberStatus.FROZEN,
        (MemberStatus.FROZEN, StatusAct.UNFREEZE): MemberStatus.ACTIVE,
        (MemberStatus.ACTIVE, StatusAct.CLOSE): MemberStatus.CLOSED,
        (MemberStatus.FROZEN, StatusAct.CLOSE): MemberStatus.CLOSED,
    }
)


class MemberNotFound(NotFoundError):
    """There is no such member."""


class MemberErased(ConflictError):
    """The member's personal data was erased. Only the id is left, and nothing can be done under it."""


class MemberClosed(ConflictError):
    """The member has left the programme for good."""


class MemberFrozen(ConflictError):
    """The member is frozen. Unfreeze it first."""


class StatusActRefused(ConflictError):
    """The member's present status does not allow this: `status` says how it stands."""


class ReasonMalformed(InvalidError):
    """A reason is one word of lower-case letters, digits and `_`, such as `member_request`.

    Free text could tell who the member is, and would survive an erasure.
    """


def after(status: MemberStatus, act: StatusAct) -> MemberStatus:
    """Return the status that an act leads to. Raises StatusActRefused."""
    following = _LEADS_TO.get((status, act))
    if following is None:
        raise StatusActRefused(f"a member that is {status} cannot {act}", status=status.value)
    return following


def require_not_erased(member_id: str, *, is_erased: bool) -> None:
    """Raise MemberErased for a member that was erased."""
    if is_erased:
        raise MemberErased(f"member {member_id} was erased")


def require_open(member_id: str, *, status: MemberStatus, is_erased: bool) -> None:
    """Raise MemberErased or MemberClosed unless the member still belongs to the programme."""
    require_not_erased(member_id, is_erased=is_erased)
    if status is MemberStatus.CLOSED:
        raise MemberClosed(f"member {member_id} is closed")


def require_active(member_id: str, *, status: MemberStatus, is_erased: bool) -> None:
    """Raise MemberErased, MemberClosed or MemberFrozen unless the member is active."""
    require_open(member_id, status=status, is_erased=is_erased)
    if status is MemberStatus.FROZEN:
        raise MemberFrozen(f"member {member_id} is frozen")


def require_reason(reason: str) -> None:
    """Raise ReasonMalformed for anything but one word."""
    if not _REASON.fullmatch(reason):
        raise ReasonMalformed("a reason is one word, such as member_request")
