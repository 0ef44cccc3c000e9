"""Deliveries: written by those who announce, listed and sent again for clients, claimed and recorded by senders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import InvalidError, NotFoundError
from faregate.webhooks.contracts import Announcement, Backlog, Delivery
from faregate.webhooks.domain.schedule import Answer, State, Verdict

_Q = load_queries("faregate.webhooks.store")

BODY_BYTES_MAX = 20_000
_PRUNE_ROWS = 10_000


class MessageTooLong(InvalidError):
    """A webhook message has fewer than 20,000 bytes: it says what happened, and the receiver asks for the rest."""


class DeliveryNotFound(NotFoundError):
    """The endpoint has no such message: it never had, or it was settled more than 30 days ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery to be sent now. `attempts` counts this attempt."""

    endpoint_id: str
    message_id: str
    body: str
    attempts: int
    url: str
    failing_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a claimed delivery."""

    claimed: Claimed
    token: UUID
    answer: Answer
    verdict: Verdict


def body_of(*, event_type: str, at: datetime, data: object) -> str:
    """Return a message as it is sent, in the form that Standard Webhooks proposes; raise MessageTooLong."""
    body = orjson.dumps({"type": event_type, "timestamp": at.isoformat(), "data": data})
    if len(body) >= BODY_BYTES_MAX:
        raise MessageTooLong(f"the message has {len(body)} bytes")
    return body.decode()


async def insert_announcements(conn: Connection, announcements: Sequence[Announcement]) -> int:
    """Write the deliveries of announcements in the caller's transaction and role; return how many there are."""
    messages = [
        {
            "client_id": a.client_id,
            "message_id": a.message_id,
            "event_type": a.event_type,
            "subject_id": a.subject_id,
            "body": body_of(event_type=a.event_type, at=a.at, data=a.data),
            "at": a.at,
        }
        for a in announcements
    ]
    [row] = await (
        await conn.execute(_Q["announce"], {"messages": orjson.dumps(messages).decode()})
    ).fetchall()
    return int(row["written"])


async def insert_delivery(
    conn: Connection, *, endpoint_id: str, message: Announcement, now: datetime
) -> Delivery:
    """Write a message to one endpoint, whatever types it wants."""
    given = {
        "endpoint_id": endpoint_id,
        "message_id": message.message_id,
        "event_type": message.event_type,
        "subject_id": message.subject_id,
        "body": body_of(event_type=message.event_type, at=message.at, data=message.data),
        "now": now,
    }
    [row] = await (await conn.execute(_Q["insert_delivery"], given)).fetchall()
    return Delivery(**row)


async def deliveries_of(
    conn: Connection, endpoint_id: str, *, state: State | None, after: str | None, limit: int
) -> Sequence[Delivery]:
    """Return an endpoint's deliveries, newest first, beginning after a message."""
    given = {"endpoint_id": endpoint_id, "state": state, "after": after, "limit": limit}
    return [Delivery(**row) for row in await (await conn.execute(_Q["deliveries"], given)).fetchall()]


async def resend(conn: Connection, *, endpoint_id: str, message_id: str, now: datetime) -> Delivery:
    """Begin a delivery's schedule anew; one in flight stays as it is. Raises DeliveryNotFound."""
    given = {"endpoint_id": endpoint_id, "message_id": message_id, "now": now}
    for query in ("resend", "delivery"):
        if row := await (await conn.execute(_Q[query], given)).fetchone():
            return Delivery(**row)
    raise DeliveryNotFound(f"the endpoint has no message {message_id}")


async def resend_dead(conn: Connection, *, endpoint_id: str, now: datetime) -> int:
    """Begin the schedule of every given-up delivery anew; return how many those are."""
    [row] = await (await conn.execute(_Q["resend_dead"], {"endpoint_id": endpoint_id, "now": now})).fetchall()
    return int(row["resent"])


async def claim(
    conn: Connection, *, token: UUID, most: int, most_each: int, now: datetime, lease_ends_at: datetime
) -> Sequence[Claimed]:
    """Claim due deliveries inside the caller's transaction, at most `most_each` in flight an endpoint."""
    rows = await (await conn.execute(_Q["lock_due"], {"now": now, "limit": most})).fetchall()
    if not rows:
        return []
    given = {
        "endpoint_ids": [row["id"] for row in rows],
        "token": token,
        "most": most,
        "most_each": most_each,
        "now": now,
        "lease_ends_at": lease_ends_at,
    }
    return [Claimed(**row) for row in await (await conn.execute(_Q["claim"], given)).fetchall()]


async def record(conn: Connection, outcomes: Sequence[Outcome], *, now: datetime) -> None:
    """Record outcomes, and how their endpoints do; those whose claim was lost are passed over."""
    ids = sorted({o.claimed.endpoint_id for o in outcomes})
    await conn.execute(_Q["lock_endpoints"], {"ids": ids})
    health = {
        "endpoint_ids": ids,
        "arrived": [any(o.answer.is_success for o in outcomes if o.claimed.endpoint_id == i) for i in ids],
        "paused_untils": [_longest_pause(outcomes, endpoint_id=i) for i in ids],
        "now": now,
    }
    await conn.execute(_Q["record_health"], health)
    given = {
        "endpoint_ids": [o.claimed.endpoint_id for o in outcomes],
        "message_ids": [o.claimed.message_id for o in outcomes],
        "tokens": [o.token for o in outcomes],
        "states": [o.verdict.state.value for o in outcomes],
        "next_ats": [o.verdict.next_at for o in outcomes],
        "statuses": [o.answer.status for o in outcomes],
        "errors": [o.answer.error for o in outcomes],
        "now": now,
    }
    await conn.execute(_Q["record"], given)


def _longest_pause(outcomes: Sequence[Outcome], *, endpoint_id: str) -> datetime | None:
    pauses = [o.verdict.paused_until for o in outcomes if o.claimed.endpoint_id == endpoint_id]
    return max((pause for pause in pauses if pause), default=None)


async def backlog(conn: Connection, *, now: datetime) -> Backlog:
    """Return what waits and what was given up."""
    [row] = await (await conn.execute(_Q["backlog"], {"now": now})).fetchall()
    return Backlog(**row)


async def prune_deliveries(conn: Connection, *, before: datetime) -> None:
    """Forget what was settled before an instant, in small transactions."""
    given = {"before": before, "limit": _PRUNE_ROWS}
    while (await conn.execute(_Q["prune_deliveries"], given)).rowcount == _PRUNE_ROWS:
        pass
