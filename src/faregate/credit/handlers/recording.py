"""From an application and a result to a recorded and announced decision, a first or a further one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from faregate.credit.contracts import Status
from faregate.credit.domain.application import step_of_decision
from faregate.credit.domain.decision import (
    ApplicationFacts,
    CheckSignal,
    DecisionInputs,
    DecisionResult,
    document_sha256,
)
from faregate.credit.handlers.following import follow_decisions
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import decisions
from faregate.credit.store.applications import LockedApplication
from faregate.credit.store.decisions import NewDecision
from faregate.events.base import PublishedEvent
from faregate.events.credit import DecisionFinalized
from faregate.infra.database import Connection
from faregate.infra.eventlog import append

_OUTCOMES: Mapping[Status, Literal["approved", "denied", "manual_review"]] = {
    Status.APPROVED: "approved",
    Status.DENIED: "denied",
    Status.MANUAL_REVIEW: "manual_review",
}


def inputs_of(application: LockedApplication) -> DecisionInputs:
    """Return what a decision is made from: the form and the stored signals."""
    return DecisionInputs(
        application=ApplicationFacts(
            product_type=application.product_type,
            amount=application.amount,
            purpose=application.purpose,
            annual_income=application.annual_income,
            age_years=application.age_years,
        ),
        signals={
            signal["check"]: CheckSignal(
                status=signal["status"],
                provider=signal["provider"],
                provider_request_id=signal["provider_request_id"],
                facts=signal["facts"],
            )
            for signal in application.signals
        },
        required_checks=application.mandatory_checks,
        latest_step=application.latest_step,
    )


def decision_of(
    application: LockedApplication,
    document: dict[str, Any],
    result: DecisionResult,
    *,
    actor: str,
    reason: str | None = None,
) -> NewDecision:
    """Return the next version of an application's decision; `document` are the inputs that led to the result."""
    statuses = {check: found["status"] for check, found in document["checks"].items()}
    settled = {check: status for check, status in statuses.items() if status != "missing"}
    return NewDecision(
        application_id=application.id,
        version=application.decision_version + 1,
        outcome=result.outcome,
        step=step_of_decision(
            outcome=result.outcome, statuses=settled, mandatory=application.mandatory_checks
        ),
        risk_score=result.risk_score,
        reason_codes=result.reason_codes,
        adverse_action_reasons=[reason.document() for reason in result.adverse_action_reasons],
        ruleset_version=result.ruleset_version,
        scorecard_version=result.scorecard_version,
        code_set_version=result.code_set_version,
        inputs=document,
        inputs_sha256=bytes.fromhex(document_sha256(document)),
        result=result.document(),
        actor=actor,
        reason=reason,
    )


async def record(
    conn: Connection, made: Sequence[NewDecision], *, tools: Tools, before: Sequence[PublishedEvent] = ()
) -> None:
    """Record decisions on applications whose rows are locked, with all that follows: reviews and events.

    `before` are events that come before those of the decisions.
    """
    now = tools.clock.now()
    for decision in made:
        await decisions.insert_decision(conn, decision, now=now)
    of_reviews = await follow_decisions(conn, made, tools=tools, now=now)
    events = [*before, *(finalized_event(decision) for decision in made), *of_reviews]
    await append(conn, [tools.stamp(event) for event in events])


def finalized_event(decision: NewDecision) -> DecisionFinalized:
    """Return what a decision announces."""
    return DecisionFinalized(
        application_id=decision.application_id,
        outcome=_OUTCOMES[decision.outcome],
        risk_score=decision.risk_score,
        reason_codes=tuple(decision.reason_codes),
        ruleset_version=decision.ruleset_version,
        decision_version=decision.version,
    )
