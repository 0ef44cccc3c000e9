"""What a reviewer gets to read: the file of a review, and apart from it, who the applicant is. Reading changes nothing.

The file holds no direct identifier. Somebody's name is shown only to who holds the review, and that is written down.
"""

from __future__ import annotations

from typing import Any

from faregate.credit.contracts import Identity, ReviewFile, SignalView, Status
from faregate.credit.domain.checks import CHECKS
from faregate.credit.domain.decision import (
    ApplicationFacts,
    CheckSignal,
    DecisionInputs,
    DecisionResult,
    inputs_document,
    replay,
)
from faregate.credit.domain.review import codes_for_reviewers, require_claim
from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.handlers.identity import IdentityVault
from faregate.credit.handlers.review import ReviewDesk, actor_of
from faregate.credit.store import applications, decisions, reviews
from faregate.credit.store.reviews import repulls
from faregate.infra.database import Connection

_FORM = ("product_type", "amount", "purpose", "annual_income", "age_years")


async def review_file(conn: Connection, review_id: str, *, desk: ReviewDesk) -> ReviewFile:
    """Return all that a reviewer needs to decide; raise ReviewNotFound.

    The review is read first: what is newer than its revision makes a decision on it a conflict.
    """
    review, now = await reviews.review_of(conn, review_id)
    application_id = review.application_id
    application = await reviews.application_facts(conn, application_id)
    signals = await decisions.signals_of(conn, application_id)
    ruleset = await desk.rulesets.active(conn, name=RULESET_NAME, at=now)
    document = inputs_document(_inputs(application, signals))
    by_rules = replay(document, scorecard=desk.scorecard, ruleset=ruleset)
    return ReviewFile(
        review=review,
        application={name: value for name, value in application.items() if name != "mandatory_checks"},
        signals=tuple(signals),
        decisions=tuple(await reviews.outcomes(conn, application_id)),
        by_rules=_shown(by_rules),
        second_person={
            outcome.value: desk.policy.second_person_because(
                outcome, amount=application["amount"], by_rules=by_rules.outcome
            )
            for outcome in (Status.APPROVED, Status.DENIED)
        },
        reason_codes=tuple(codes_for_reviewers(ruleset.codes)),
        repulls=tuple(await repulls.repulls_of(conn, application_id)),
        audit_trail=tuple(await decisions.audit_trail(conn, application_id)),
    )


async def identity_for_reviewer(
    conn: Connection, review_id: str, *, reviewer: str, fence: int, desk: ReviewDesk, vault: IdentityVault
) -> Identity:
    """Return who the applicant is to who holds the review, and write down that it was shown.

    Raises ReviewNotFound, ReviewOver or ClaimLost.
    """
    review, now = await reviews.review_of(conn, review_id)
    require_claim(review, reviewer=reviewer, fence=fence, now=now)
    [person] = await applications.identities(conn, [review.application_id])
    await reviews.add_audit_entry(
        conn,
        application_id=review.application_id,
        actor=actor_of(reviewer),
        action="review.identity_shown",
        details={"review_id": review_id},
        now=desk.tools.clock.now(),
    )
    return vault.open_identity(person.id, person.identity_encrypted)


def _inputs(application: dict[str, Any], signals: list[SignalView]) -> DecisionInputs:
    return DecisionInputs(
        application=ApplicationFacts(**{name: application[name] for name in _FORM}),
        signals={
            signal.check: CheckSignal(
                status=signal.status,
                provider=signal.provider,
                provider_request_id=signal.provider_request_id,
                facts=signal.facts,
            )
            for signal in signals
        },
        required_checks=application["mandatory_checks"] or CHECKS,
        latest_step=application["latest_step"],
    )


def _shown(by_rules: DecisionResult) -> dict[str, Any]:
    return {
        "outcome": by_rules.outcome.value,
        "risk_score": by_rules.risk_score,
        "reason_codes": list(by_rules.reason_codes),
        "ruleset_version": by_rules.ruleset_version,
        "scorecard_version": by_rules.scorecard_version,
        "trace": dict(by_rules.trace),
    }
