"""An account follows its member: frozen with the member, opened again with it, closed when the member has left.

An account that somebody froze by hand stays frozen, whatever becomes of the member: only what was frozen here is opened
here. An account with points cannot be closed. It is frozen instead: nobody is left to spend them, holds that are open
come to their end, and the points expire on their days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from faregate.infra.database import Database
from faregate.points.contracts.ledger import AccountStatus, Operation, SetStatus
from faregate.points.contracts.membership import MemberChange, Standing
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store import batch, reading
from faregate.points.store.reading import StatusSet

BY = "members"
_BECOMES = {
    Standing.ACTIVE: AccountStatus.OPEN,
    Standing.FROZEN: AccountStatus.FROZEN,
    Standing.LEFT: AccountStatus.CLOSED,
}


async def follow(database: Database, writer: LedgerWriter, changes: Sequence[MemberChange]) -> None:
    """Let accounts follow their members, of whom the last change counts. A change that comes again does nothing."""
    last = {change.member_id: change for change in changes}
    async with database.transaction() as conn:
        await batch.open_accounts(conn, last, at=max(change.at for change in changes))
        stand = await reading.statuses(conn, list(last))
    asked = [_request(change) for change in last.values() if _concerns(change, stand[change.member_id])]
    answers = await writer.write(asked) if asked else []
    not_empty = [
        answer.member_id for answer in answers if isinstance(answer, Operation) and answer.refusal is not None
    ]
    frozen = list(_frozen_instead([last[member] for member in not_empty], stand))
    if frozen:
        await writer.write(frozen)


def _concerns(change: MemberChange, stands: StatusSet) -> bool:
    match change.standing:
        case Standing.ACTIVE:
            return stands.status is AccountStatus.FROZEN and stands.by == BY
        case Standing.FROZEN:
            return stands.status is AccountStatus.OPEN
        case Standing.LEFT:
            return stands.status is not AccountStatus.CLOSED


def _request(change: MemberChange, *, status: AccountStatus | None = None) -> SetStatus:
    becomes = status or _BECOMES[change.standing]
    return SetStatus(
        key=f"member:{change.event_id}:{becomes}",
        by=BY,
        member_id=change.member_id,
        status=becomes,
        reason=f"member_{change.standing}",
    )


def _frozen_instead(changes: Sequence[MemberChange], stand: Mapping[str, StatusSet]) -> Iterator[SetStatus]:
    for change in changes:
        if change.standing is Standing.LEFT and stand[change.member_id].status is AccountStatus.OPEN:
            yield _request(change, status=AccountStatus.FROZEN)
