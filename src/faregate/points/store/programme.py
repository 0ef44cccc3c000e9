"""What payments earned, who has which tier, and what is outstanding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.points.contracts.liability import Outstanding
from faregate.points.contracts.programme import Earner, TierState

_Q = load_queries("faregate.points.store")


@dataclass(slots=True, kw_only=True)
class Payment:
    """A payment that earns, as far as it has come. Amounts in minor units."""

    payment_id: str
    member_id: str
    amount_minor: int
    earned: int
    occurred_at: datetime
    promised_no: int | None = None
    captured_minor: int | None = None
    confirmed: int | None = None
    confirmed_no: int | None = None
    refunded_minor: int = 0
    refunds: list[str] = field(default_factory=list)
    promoted: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The periods that caps speak of: a day, and its month. Each ends before its end."""

    day: datetime
    day_end: datetime
    month: datetime
    month_end: datetime


async def payments(conn: Connection, payment_ids: Iterable[str]) -> dict[str, Payment]:
    """Return what is known of payments, by id."""
    rows = await _rows(conn, "payments", payment_ids=list(payment_ids))
    return {row["payment_id"]: Payment(**row) for row in rows}


async def save_payments(conn: Connection, changed: Sequence[Payment]) -> None:
    """Remember what became of payments."""
    if changed:
        rows = orjson.dumps([asdict(payment) for payment in changed]).decode()
        await conn.execute(_Q["save_payments"], {"rows": rows})


async def earners(
    conn: Connection,
    member_ids: Iterable[str],
    *,
    window: Window,
    lowest: str,
) -> dict[str, Earner]:
    """Return who of these may earn, with what was earned in a day and in its month. Others have no account."""
    given = {"member_ids": sorted(set(member_ids)), **asdict(window)}
    return {
        row["member_id"]: Earner(
            tier=row["tier"] or lowest,
            earned_today=row["today"],
            earned_this_month=row["this_month"],
            is_first_purchase=row["is_first"],
        )
        for row in await _rows(conn, "earners", **given)
    }


async def promoted(
    conn: Connection,
    member_ids: Iterable[str],
    names: Sequence[str],
    *,
    window: Window,
    since: datetime | None,
) -> dict[tuple[str, str], Mapping[str, int]]:
    """Return what promotions gave members in a day, in its month, and in all since an instant (None: ever)."""
    given = {
        "member_ids": sorted(set(member_ids)),
        "names": list(names),
        "since": since,
        **asdict(window),
    }
    return {(row["member_id"], row["name"]): row for row in await _rows(conn, "promoted", **given)}


async def qualifying(
    conn: Connection, member_ids: Sequence[str], *, since: datetime, until: datetime
) -> dict[str, int]:
    """Return the qualifying points of members from one instant and before another."""
    given = {"member_ids": list(member_ids), "since": since, "until": until}
    return {row["member_id"]: row["points"] for row in await _rows(conn, "qualifying", **given)}


async def lock_tiers(conn: Connection, member_ids: Sequence[str]) -> dict[str, TierState]:
    """Lock the tiers of members who have one, and return them."""
    rows = await _rows(conn, "lock_tiers", member_ids=list(member_ids))
    return {row["member_id"]: TierState(tier=row["tier"], valid_until=row["valid_until"]) for row in rows}


async def save_tiers(conn: Connection, tiers: Mapping[str, TierState]) -> None:
    """Write tiers of members."""
    rows = [
        {"member_id": name, "tier": state.tier, "valid_until": state.valid_until}
        for name, state in tiers.items()
    ]
    if rows:
        await conn.execute(_Q["save_tiers"], {"rows": orjson.dumps(rows).decode()})


async def overdue_tiers(conn: Connection, *, today: date, lowest: str, limit: int) -> list[str]:
    """Return members above the lowest tier whose tier does not hold any more."""
    rows = await _rows(conn, "overdue_tiers", today=today, lowest=lowest, limit=limit)
    return [row["member_id"] for row in rows]


async def outstanding(conn: Connection) -> list[Outstanding]:
    """Return the points of all members by the day on which they expire."""
    rows = await _rows(conn, "outstanding")
    return [Outstanding(expires_on=row["expires_on"], points=row["points"]) for row in rows]


async def posted_total(conn: Connection) -> int:
    """Return what all members have."""
    [row] = await _rows(conn, "posted_total")
    return int(row["posted"])


async def cohorts(conn: Connection, *, today: date) -> list[tuple[int, int]]:
    """Return points earned and expired by month of earning, of lots whose day is over."""
    rows = await _rows(conn, "cohorts", today=today)
    return [(row["points"], row["expired"]) for row in rows]


async def _rows(conn: Connection, name: str, **given: Any) -> Sequence[Mapping[str, Any]]:
    return await (await conn.execute(_Q[name], given)).fetchall()
