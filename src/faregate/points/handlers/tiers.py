"""Keeps the tiers of members: looked at when they earn or give back, and when a tier does not hold any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from faregate.events.points import TierChanged
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.points.contracts.programme import TierState
from faregate.points.domain.programme import Programme
from faregate.points.domain.tiers import new_member_tier, period_of, tier_change
from faregate.points.store import programme as store
from faregate.points.store.reading import expired_until

PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TierKeeper:
    """Decides and announces changes of tiers."""

    programme: Programme
    day_of: Callable[[datetime], date]
    begins: Callable[[date], datetime]
    new_id: Callable[[], UUID]

    async def look_at(self, conn: Connection, member_ids: Sequence[str], *, now: datetime) -> int:
        """Decide the tiers of members in the caller's transaction; return how many changed."""
        members, on = sorted(set(member_ids)), self.day_of(now)
        first, last = period_of(on, self.programme)
        since, until = self.begins(first), self.begins(last + timedelta(days=1))
        held = await store.lock_tiers(conn, members)
        points = await store.qualifying(conn, members, since=since, until=until)
        changed: dict[str, TierState] = {}
        for member in members:
            state = held.get(member) or new_member_tier(on, self.programme)
            change = tier_change(state, qualifying=points.get(member, 0), on=on, programme=self.programme)
            if change is not None:
                changed[member] = change.after
        await store.save_tiers(conn, changed)
        news = [
            TierChanged(member_id=member, tier=state.tier, changed_at=now).to_event(
                id=self.new_id(), time=now
            )
            for member, state in changed.items()
            if state.tier != (held[member].tier if member in held else self.programme.tiers[0].name)
        ]
        await append(conn, news)
        return len(changed)

    async def look_at_overdue(self, database: Database) -> int:
        """Decide the tiers that do not hold any more; return how many there were."""
        seen = 0
        while True:
            async with database.transaction() as conn:
                _, now = await expired_until(conn, now=None)
                members = await store.overdue_tiers(
                    conn, today=self.day_of(now), lowest=self.programme.tiers[0].name, limit=PAGE
                )
                await self.look_at(conn, members, now=now)
            seen += len(members)
            if len(members) < PAGE:
                return seen
