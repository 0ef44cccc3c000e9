"""The second person: a correction that was refused for want of one is done when another approves it."""

from __future__ import annotations

from datetime import date

from faregate.infra.database import Database
from faregate.kernel.errors import ConflictError, ForbiddenError
from faregate.points.contracts.ledger import Adjust, OperationKind, Refusal
from faregate.points.store import reading


class NothingToApprove(ConflictError):
    """The operation is no correction that waits for a second person."""


class SamePersonApproves(ForbiddenError):
    """Whoever asked for a correction cannot approve it."""


async def approved(database: Database, no: int, *, by: str) -> Adjust:
    """Return the correction that an operation asked for, with its approval.

    Its key comes from the operation, so that it is done once, whoever approves it how often. Raises
    OperationNotFound, NothingToApprove or SamePersonApproves.
    """
    async with database.connection() as conn:
        asked = await reading.asked(conn, no)
    if (
        asked.operation.kind is not OperationKind.ADJUST
        or asked.operation.refusal is not Refusal.SECOND_PERSON_NEEDED
    ):
        raise NothingToApprove(f"operation {no} waits for nobody", operation=no)
    if asked.by == by:
        raise SamePersonApproves("a second person has to approve it", operation=no)
    expires_on = asked.details.get("expires_on")
    return Adjust(
        key=f"approved:{no}",
        by=asked.by,
        member_id=asked.operation.member_id,
        amount=asked.operation.amount,
        reason=asked.details["reason"],
        approved_by=by,
        expires_on=None if expires_on is None else date.fromisoformat(expires_on),
    )
