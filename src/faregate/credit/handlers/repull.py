"""New pulls: asked for by one person, authorised by another, declared in the journal as a new epoch of the check.

A pull costs money and may mark a person's file. So nobody asks again while the truth about an earlier request is not
known, and the journal permits one executed request an epoch. The answer becomes a signal like any other; then the
application is decided again, as a further version, without a second run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from faregate.credit.contracts import Reevaluation, Repull, RepullState, Status
from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.credit.domain.decision import inputs_document, replay
from faregate.credit.domain.repull import CheckUnknown, PullStillOpen, answered, require_checks
from faregate.credit.domain.review import require_note, require_open
from faregate.credit.handlers.checks import GatewayHooks
from faregate.credit.handlers.decide import RULESET_NAME, DecisionService
from faregate.credit.handlers.recording import inputs_of
from faregate.credit.handlers.reevaluate import reevaluate_all
from faregate.credit.handlers.review import actor_of
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications, reviews
from faregate.credit.store.applications import LockedApplication
from faregate.credit.store.decisions import ChangedSignal
from faregate.credit.store.reviews import repulls
from faregate.gateway.api import declare_anew, history
from faregate.gateway.intent import FINAL, Intent, NewIntent
from faregate.infra.database import Connection
from faregate.infra.telemetry.tracing import current_traceparent
from faregate.kernel.errors import FaregateError
from faregate.rules.ruleset import CompiledRuleset

ACTOR = "new-pull"


@dataclass(frozen=True, kw_only=True)
class RepullDesk:
    """Where people ask for new pulls; `deadline` is how long the providers get to answer."""

    tools: Tools
    hooks: GatewayHooks
    deadline: timedelta
    note_chars_min: int

    async def request(
        self, conn: Connection, review_id: str, *, by: str, checks: Sequence[str], reason: str
    ) -> Repull:
        """Ask for a new pull; nobody is asked anything until another person authorises it.

        Raises ReviewNotFound, ReviewOver, NoteTooShort, CheckUnknown, PullStillOpen or RepullPending.
        """
        require_note(reason, chars_min=self.note_chars_min)
        require_checks(checks)
        application_id = await self._lock(conn, review_id)
        await _require_known_outcomes(conn, application_id, checks)
        repull = Repull(
            id=self.tools.new_id("rpl"),
            review_id=review_id,
            application_id=application_id,
            checks=tuple(checks),
            reason=reason,
            requested_by=by,
            requested_at=self.tools.clock.now(),
        )
        await repulls.save(conn, repull)
        await self._audit(conn, repull, "review.repull_requested", by, {"reason": reason})
        return repull

    async def authorise(
        self, conn: Connection, review_id: str, repull_id: str, *, by: str, note: str
    ) -> Repull:
        """Begin a new epoch of the checks: their providers are asked once more, under new references.

        Raises ReviewNotFound, ReviewOver, RepullNotFound, RepullAnswered, SamePerson, NoteTooShort or PullStillOpen.
        """
        require_note(note, chars_min=self.note_chars_min)
        application_id = await self._lock(conn, review_id)
        repull = await repulls.repull_of(conn, repull_id, review_id=review_id)
        now = self.tools.clock.now()
        answered(repull, by=by, state=RepullState.AUTHORISED, now=now)  # who may not, begins no epoch
        declared = await self._declare(conn, application_id, repull.checks)
        authorised = answered(
            repull,
            by=by,
            state=RepullState.AUTHORISED,
            now=now,
            provider_request_ids=sorted(intent.provider_request_id for intent in declared),
        )
        await repulls.save(conn, authorised)
        details = {"note": note, "provider_request_ids": list(authorised.provider_request_ids)}
        await self._audit(conn, authorised, "review.repull_authorised", by, details)
        await self.hooks.announce(conn, declared)
        return authorised

    async def reject(self, conn: Connection, review_id: str, repull_id: str, *, by: str, note: str) -> Repull:
        """Reject a new pull that another person asked for. Raises as `authorise` does, but for the last."""
        require_note(note, chars_min=self.note_chars_min)
        await self._lock(conn, review_id)
        repull = await repulls.repull_of(conn, repull_id, review_id=review_id)
        rejected = answered(repull, by=by, state=RepullState.REJECTED, now=self.tools.clock.now())
        await repulls.save(conn, rejected)
        await self._audit(conn, rejected, "review.repull_rejected", by, {"note": note})
        return rejected

    async def _lock(self, conn: Connection, review_id: str) -> str:
        """Lock the application of a review that is not closed, and return its id."""
        application_id = await reviews.locate(conn, review_id)
        await applications.lock_applications(conn, [application_id])
        review, _ = await reviews.review_of(conn, review_id)
        require_open(review)
        return application_id

    async def _declare(
        self, conn: Connection, application_id: str, checks: Sequence[str]
    ) -> Sequence[Intent]:
        deadline = self.tools.clock.now() + self.deadline
        declared = await declare_anew(
            conn,
            [
                NewIntent(
                    subject_id=application_id,
                    check=check,
                    provider=PROVIDERS_OF_CHECK[check][0],
                    deadline=deadline,
                    traceparent=current_traceparent(),
                )
                for check in checks
            ],
        )
        attempts = {intent.check: intent.attempt for intent in declared}
        awaited = await repulls.await_attempts(conn, application_id, attempts)
        # A check without a signal has an outcome on its way, which could not be told from the new one.
        if left := sorted(set(checks) - awaited):
            raise PullStillOpen(f"the outcome is not known of {', '.join(left)}", checks=left)
        return declared

    async def _audit(
        self, conn: Connection, repull: Repull, action: str, by: str, details: Mapping[str, Any]
    ) -> None:
        named = {"review_id": repull.review_id, "repull_id": repull.id, "checks": list(repull.checks)}
        await reviews.add_audit_entry(
            conn,
            application_id=repull.application_id,
            actor=actor_of(by),
            action=action,
            details={**named, **details},
            now=self.tools.clock.now(),
        )


async def decide_repulled(
    conn: Connection, changed: Sequence[ChangedSignal], *, service: DecisionService
) -> None:
    """Let the rules decide applications again whose new pulls were answered just now.

    Their rows are locked, and the signals stored, by this same transaction. One that was finally decided meanwhile gets
    a further version only if the rules say otherwise.
    """
    repulled = {s.application_id: s.provider_request_id for s in changed if s.is_repulled}
    if not repulled:
        return
    ruleset = await service.rulesets.active(conn, name=RULESET_NAME, at=service.tools.clock.now())
    locked = await applications.lock_to_decide(conn, sorted(repulled))
    requests = [
        Reevaluation(
            application_id=application.id,
            expected_version=application.decision_version,
            request_key=f"repull:{repulled[application.id]}",
            actor=ACTOR,
            reason=f"answer to the new pull {repulled[application.id]}",
        )
        for application in locked.values()
        if _says_otherwise(application, service=service, ruleset=ruleset)
    ]
    answers = await reevaluate_all(
        conn, requests, tools=service.tools, scorecard=service.scorecard, ruleset=ruleset
    )
    for answer in answers:
        if isinstance(answer, FaregateError):
            raise answer  # the rows are locked: nothing can have come in between


def _says_otherwise(
    application: LockedApplication, *, service: DecisionService, ruleset: CompiledRuleset
) -> bool:
    """Tell whether the rules have something to add: always in review, else only another outcome."""
    if application.status is Status.MANUAL_REVIEW:
        return True
    document = inputs_document(inputs_of(application))
    return replay(document, scorecard=service.scorecard, ruleset=ruleset).outcome is not application.status


async def _require_known_outcomes(conn: Connection, application_id: str, checks: Sequence[str]) -> None:
    states: dict[str, set[str]] = {check: set() for check in checks}
    for row in await history(conn, subject_id=application_id):
        if row["check_name"] in states:
            states[row["check_name"]].add(row["state"])
    if never := [check for check, found in states.items() if not found]:
        raise CheckUnknown(f"nobody was asked about {', '.join(never)} before", unknown=never)
    if unknown := [check for check, found in states.items() if found - FINAL]:
        raise PullStillOpen(f"the outcome is not known of {', '.join(unknown)}", checks=unknown)
