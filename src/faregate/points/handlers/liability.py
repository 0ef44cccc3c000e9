"""What the programme owes: outstanding points by month, valued, and compared with the balances that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from faregate.infra.database import Database
from faregate.points.contracts.liability import LiabilityReport, Valuation
from faregate.points.domain.liability import breakage_bp, liability_report
from faregate.points.handlers.reading import ONE_INSTANT
from faregate.points.store import programme as store
from faregate.points.store.reading import expired_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Liability:
    """A report, with what stands beside it.

    `overdue` points are over, but their expiry is not entered yet: they are not in the report. `posted` is what all
    balances add up to, which report and overdue must too. `breakage_seen_bp`: the share of all points whose day is over
    that expired.
    """

    report: LiabilityReport
    overdue: int
    posted: int
    breakage_seen_bp: int

    @property
    def is_reconciled(self) -> bool:
        """Whether the outstanding lots are the balances."""
        return self.report.points + self.overdue == self.posted


async def liability(
    database: Database, *, valuation: Valuation, day_of: Callable[[datetime], date]
) -> Liability:
    """Return what is owed now, read at one instant."""
    async with database.transaction() as conn:
        await conn.execute(ONE_INSTANT)
        _, now = await expired_until(conn, now=None)
        today = day_of(now)
        found = await store.outstanding(conn)
        posted = await store.posted_total(conn)
        cohorts = await store.cohorts(conn, today=today)
    standing = [one for one in found if one.expires_on is None or one.expires_on >= today]
    return Liability(
        report=liability_report(standing, valuation=valuation, on=today),
        overdue=sum(one.points for one in found) - sum(one.points for one in standing),
        posted=posted,
        breakage_seen_bp=breakage_bp(cohorts),
    )
