"""What decisions and signals do to the queue of manual reviews, in their own transactions, whatever made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from faregate.credit.contracts import Review, Status
from faregate.credit.domain.review import closed, decided_anew, opened, with_new_facts
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications, decisions, reviews
from faregate.credit.store.decisions import NewDecision
from faregate.credit.store.reviews import Saved
from faregate.events.base import PublishedEvent
from faregate.events.credit import ReviewClosed, ReviewFactsArrived, ReviewOpened
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append

SIGNAL_PROCESSOR = "signal-processor"
ADOPTER = "review-sweep"
_STRAYS_BATCH = 100


async def follow_decisions(
    conn: Connection, made: Sequence[NewDecision], *, tools: Tools, now: datetime
) -> list[PublishedEvent]:
    """Open, renew or close the reviews of applications that were just decided; return what that announces."""
    later = [decision.application_id for decision in made if decision.version > 1]
    known = await reviews.not_closed(conn, later) if later else {}
    saved: list[Saved] = []
    events: list[PublishedEvent] = []
    for decision in made:
        review = known.get(decision.application_id)
        if decision.outcome is Status.MANUAL_REVIEW:
            review = _in_review(review, decision, tools=tools, now=now)
            events.append(_opened_event(review))
            action = "review.opened"
        elif review is not None:
            review = closed(review, decision_version=decision.version, decided_by=None, now=now)
            events.append(_closed_event(review))
            action = "review.closed"
        else:
            continue
        details = {"decision_version": decision.version, "cause": review.cause, "priority": review.priority}
        saved.append(Saved(review=review, actor=decision.actor, action=action, details=details))
    if saved:
        await reviews.save(conn, saved, now=now)
    return events


async def mark_new_facts(
    conn: Connection, checks: Mapping[str, Sequence[str]], *, now: datetime
) -> list[ReviewFactsArrived]:
    """Mark the reviews of applications (rows locked) whose signals changed; return what that announces."""
    known = await reviews.not_closed(conn, sorted(checks))
    saved = [
        Saved(
            review=with_new_facts(review),
            actor=SIGNAL_PROCESSOR,
            action="review.facts_arrived",
            details={"checks": sorted(checks[application_id])},
        )
        for application_id, review in known.items()
    ]
    if saved:
        await reviews.save(conn, saved, now=now)
    return [
        ReviewFactsArrived(
            application_id=application_id,
            review_id=review.id,
            checks=tuple(sorted(checks[application_id])),
        )
        for application_id, review in known.items()
    ]


async def adopt_strays(database: Database, *, tools: Tools) -> int:
    """Open a review for applications in manual review that stand in no queue; return how many there were.

    Code from before there was a queue decided them. Nobody would ever see them otherwise.
    """
    async with database.connection() as conn:
        strays = await reviews.without_review(conn, limit=_STRAYS_BATCH)
    for application_id in strays:
        async with database.transaction() as conn:
            await _adopt(conn, application_id, tools=tools)
    return len(strays)


async def _adopt(conn: Connection, application_id: str, *, tools: Tools) -> None:
    application = await applications.lock_application(conn, application_id)
    decision = await decisions.decision_of(conn, application_id)
    is_stray = application.status is Status.MANUAL_REVIEW and not await reviews.not_closed(
        conn, [application_id]
    )
    if decision is None or not is_stray:
        return
    review = opened(
        id=tools.new_id("rev"),
        application_id=application_id,
        decision_version=decision.version,
        reason_codes=decision.reason_codes,
        amount=application.amount,
        now=tools.clock.now(),
    )
    details = {"decision_version": decision.version, "cause": review.cause, "priority": review.priority}
    saved = Saved(review=review, actor=ADOPTER, action="review.opened", details=details)
    await reviews.save(conn, [saved], now=review.opened_at)
    await append(conn, [tools.stamp(_opened_event(review))])


def _in_review(review: Review | None, decision: NewDecision, *, tools: Tools, now: datetime) -> Review:
    amount = decision.inputs["application"]["amount"]
    if review is not None:
        return decided_anew(
            review, decision_version=decision.version, reason_codes=decision.reason_codes, amount=amount
        )
    return opened(
        id=tools.new_id("rev"),
        application_id=decision.application_id,
        decision_version=decision.version,
        reason_codes=decision.reason_codes,
        amount=amount,
        now=now,
    )


def _opened_event(review: Review) -> ReviewOpened:
    return ReviewOpened(
        application_id=review.application_id,
        review_id=review.id,
        decision_version=review.decision_version,
        cause=review.cause,
        priority=review.priority.value,
        due_at=review.due_at,
    )


def _closed_event(review: Review) -> ReviewClosed:
    return ReviewClosed(
        application_id=review.application_id,
        review_id=review.id,
        decision_version=review.decision_version,
    )
