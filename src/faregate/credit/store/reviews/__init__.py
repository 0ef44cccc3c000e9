"""The queue of manual reviews as rows: read, save with the audit entry, list. What may be done: `domain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from psycopg.types.json import Jsonb

from faregate.credit.contracts import (
    Cause,
    Priority,
    Proposal,
    QueuedReview,
    QueueLine,
    QueueQuery,
    RecordedOutcome,
    Review,
    ReviewState,
    Status,
    Verdict,
)
from faregate.credit.domain.review import ReviewNotFound
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store.reviews")
_RANKS: Final = {priority: rank for rank, priority in enumerate(Priority, start=1)}
_PRIORITIES: Final = {rank: priority for priority, rank in _RANKS.items()}
_FIELDS: Final = (
    "id",
    "application_id",
    "decision_version",
    "revision",
    "has_new_facts",
    "is_priority_set",
    "opened_at",
    "due_at",
    "claimed_by",
    "claimed_until",
    "fence",
    "closed_at",
    "decided_by",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A review as it became, and its audit entry."""

    review: Review
    actor: str
    action: str
    details: Mapping[str, Any]


async def locate(conn: Connection, review_id: str) -> str:
    """Return the application that a review is about; raise ReviewNotFound."""
    cursor = await conn.execute(_Q["locate"], {"id": review_id})
    if (row := await cursor.fetchone()) is None:
        raise ReviewNotFound(f"there is no review {review_id}")
    return str(row["application_id"])


async def review_of(conn: Connection, review_id: str) -> tuple[Review, datetime]:
    """Return a review and the instant at which it was read; raise ReviewNotFound."""
    cursor = await conn.execute(_Q["review"], {"id": review_id})
    if (row := await cursor.fetchone()) is None:
        raise ReviewNotFound(f"there is no review {review_id}")
    return _review(row), row["read_at"]


async def not_closed(conn: Connection, application_ids: Sequence[str]) -> dict[str, Review]:
    """Return the reviews of applications that are not closed, by application."""
    cursor = await conn.execute(_Q["reviews_not_closed"], {"application_ids": list(application_ids)})
    return {row["application_id"]: _review(row) for row in await cursor.fetchall()}


async def save(conn: Connection, saved: Sequence[Saved], *, now: datetime) -> None:
    """Write reviews, whose applications' rows are locked, and their audit entries."""
    rows = [
        {**_row(one.review), "actor": one.actor, "action": one.action, "details": dict(one.details)}
        for one in saved
    ]
    await conn.execute(_Q["save_reviews"], {"reviews": orjson.dumps(rows).decode(), "now": now})


async def lock_reviewer(conn: Connection, reviewer: str) -> None:
    """Let one person's claims go one after the other until the end of the transaction."""
    await conn.execute(_Q["lock_reviewer"], {"reviewer": reviewer})


async def live_claims(conn: Connection, *, reviewer: str, besides: str) -> int:
    """Return how many live claims a person holds besides one on the given review."""
    cursor = await conn.execute(_Q["live_claims"], {"reviewer": reviewer, "id": besides})
    row = await cursor.fetchone()
    return int(row["claims"]) if row else 0


async def queue(conn: Connection, query: QueueQuery) -> list[QueuedReview]:
    """Return a page of the queue."""
    wanted = asdict(query) | {"priority": _RANKS[query.priority] if query.priority else None}
    cursor = await conn.execute(_Q["queue"], wanted)
    return [
        QueuedReview(
            review=_review(row),
            product_type=row["product_type"],
            amount=row["amount"],
            latest_step=row["latest_step"],
        )
        for row in await cursor.fetchall()
    ]


async def queue_lines(conn: Connection) -> list[QueueLine]:
    """Return a line for each priority that somebody waits in, the most urgent first."""
    cursor = await conn.execute(_Q["queue_lines"])
    return [QueueLine(**{**row, "priority": _PRIORITIES[row["priority"]]}) for row in await cursor.fetchall()]


async def lock_next_unclaimed(conn: Connection, *, reviewer: str, priority: Priority | None) -> str | None:
    """Lock the review that a person should claim next, with its application, and return its id."""
    given = {"reviewer": reviewer, "priority": _RANKS[priority] if priority else None}
    cursor = await conn.execute(_Q["lock_next_unclaimed"], given)
    row = await cursor.fetchone()
    return row["id"] if row else None


async def without_review(conn: Connection, *, limit: int) -> list[str]:
    """Return applications in manual review that stand in no queue."""
    cursor = await conn.execute(_Q["without_review"], {"limit": limit})
    return [row["id"] for row in await cursor.fetchall()]


async def application_facts(conn: Connection, application_id: str) -> dict[str, Any]:
    """Return what a reviewer sees of an application's form and state."""
    cursor = await conn.execute(_Q["application_facts"], {"application_id": application_id})
    row = await cursor.fetchone()
    return dict(row) if row else {}


async def outcomes(conn: Connection, application_id: str) -> list[RecordedOutcome]:
    """Return every version of an application's decision, the newest first."""
    cursor = await conn.execute(_Q["outcomes"], {"application_id": application_id})
    return [
        RecordedOutcome(
            **{
                **row,
                "outcome": Status(row["outcome"]),
                "reason_codes": tuple(row["reason_codes"]),
                "adverse_action_reasons": tuple(row["adverse_action_reasons"]),
            }
        )
        for row in await cursor.fetchall()
    ]


async def add_audit_entry(
    conn: Connection,
    *,
    application_id: str,
    actor: str,
    action: str,
    details: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write down what somebody did that changes no review."""
    given = {"application_id": application_id, "actor": actor, "action": action, "now": now}
    await conn.execute(_Q["add_audit_entry"], {**given, "details": Jsonb(dict(details))})


def _row(review: Review) -> dict[str, Any]:
    proposal = review.proposal
    return {
        **{name: getattr(review, name) for name in _FIELDS},
        "cause": review.cause,
        "priority": _RANKS[review.priority],
        "state": review.state,
        "proposed_by": proposal.by if proposal else None,
        "proposed_at": proposal.at if proposal else None,
        "proposed_outcome": proposal.verdict.outcome if proposal else None,
        "proposed_reason_codes": list(proposal.verdict.reason_codes) if proposal else None,
        "proposed_note": proposal.note if proposal else None,
    }


def _review(row: Mapping[str, Any]) -> Review:
    return Review(
        **{name: row[name] for name in _FIELDS},
        cause=Cause(row["cause"]),
        priority=_PRIORITIES[row["priority"]],
        state=ReviewState(row["state"]),
        proposal=_proposal(row) if row["proposed_by"] else None,
    )


def _proposal(row: Mapping[str, Any]) -> Proposal:
    verdict = Verdict(
        outcome=Status(row["proposed_outcome"]), reason_codes=tuple(row["proposed_reason_codes"])
    )
    return Proposal(by=row["proposed_by"], at=row["proposed_at"], verdict=verdict, note=row["proposed_note"])
