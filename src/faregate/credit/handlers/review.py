"""What reviewers do: claim, decide, confirm, reject, let the rules decide again. Each call is part of one transaction.

The application's row is locked first, so that a review goes in step with decisions and late signals; then the pure
state machine of `domain.review` judges, and the review is saved, audited and announced. Nobody is asked anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from faregate.credit.contracts import (
    Decided,
    Hold,
    Priority,
    Proposal,
    Reevaluated,
    Reevaluation,
    Review,
    Status,
    Verdict,
)
from faregate.credit.domain import review as machine
from faregate.credit.domain.decision import inputs_document, replay
from faregate.credit.domain.reasons import require_reasons
from faregate.credit.domain.scorecard import ScoringModel
from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.handlers.recording import inputs_of
from faregate.credit.handlers.reevaluate import reevaluate
from faregate.credit.handlers.tools import Tools
from faregate.credit.store import applications, reviews
from faregate.credit.store.applications import LockedApplication
from faregate.credit.store.reviews import Saved
from faregate.events.base import PublishedEvent
from faregate.events.credit import (
    ReviewClaimed,
    ReviewClosed,
    ReviewProposed,
    ReviewRejected,
    ReviewReleased,
)
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.rules.api import Rulesets
from faregate.rules.ruleset import CompiledRuleset


@dataclass(frozen=True, kw_only=True)
class ReviewPolicy:
    """The rules of the house, amounts in whole units. `amount_max` is the largest that one person may decide on.

    `amount_if_absent` is what an application that names no amount counts as.
    """

    lease: timedelta
    claims_max: int
    amount_max: int
    amount_if_absent: int
    note_chars_min: int

    def second_person_because(self, outcome: Status, *, amount: int | None, by_rules: Status) -> str | None:
        """Return why a verdict must be confirmed by another person, None if one person may decide."""
        counted = self.amount_if_absent if amount is None else amount
        return machine.second_person_because(
            outcome, amount=counted, amount_max=self.amount_max, by_rules=by_rules
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    """A review under the lock of its application, and the instant at which it was read."""

    review: Review
    application: LockedApplication
    now: datetime


@dataclass(frozen=True, kw_only=True)
class ReviewDesk:
    """The reviewers' counter. A reviewer is the client id of a person's own API key."""

    tools: Tools
    rulesets: Rulesets
    scorecard: ScoringModel
    policy: ReviewPolicy

    async def claim(self, conn: Connection, review_id: str, *, reviewer: str) -> Review:
        """Take a review until the lease ends; a live claim of the same person stays as it is.

        Raises ReviewNotFound, ReviewOver, ReviewTaken, SamePerson or TooManyClaims.
        """
        await reviews.lock_reviewer(conn, reviewer)
        opened = await _open(conn, review_id)
        until = opened.now + self.policy.lease
        claimed = machine.claimed(opened.review, reviewer=reviewer, now=opened.now, until=until)
        if claimed is opened.review:
            return claimed
        held = await reviews.live_claims(conn, reviewer=reviewer, besides=review_id)
        if held >= self.policy.claims_max:
            raise machine.TooManyClaims(f"you hold {held} claims", claims_max=self.policy.claims_max)
        event = ReviewClaimed(**_names(claimed), reviewer=reviewer, fence=claimed.fence, claimed_until=until)
        details = {"fence": claimed.fence, "claimed_until": until}
        return await self._save(conn, claimed, "review.claimed", reviewer, details, event)

    async def claim_next(
        self, conn: Connection, *, reviewer: str, priority: Priority | None = None
    ) -> Review:
        """Take the review that is due first. Raises NothingToClaim or TooManyClaims."""
        await reviews.lock_reviewer(conn, reviewer)
        found = await reviews.lock_next_unclaimed(conn, reviewer=reviewer, priority=priority)
        if found is None:
            raise machine.NothingToClaim("no review waits that you could claim")
        return await self.claim(conn, found, reviewer=reviewer)

    async def extend(self, conn: Connection, review_id: str, *, reviewer: str, fence: int) -> Review:
        """Keep a claim for one more lease from now. Raises ReviewNotFound, ReviewOver or ClaimLost."""
        opened = await _open(conn, review_id)
        until = opened.now + self.policy.lease
        extended = machine.extended(
            opened.review, reviewer=reviewer, fence=fence, now=opened.now, until=until
        )
        details = {"fence": fence, "claimed_until": until}
        return await self._save(conn, extended, "review.extended", reviewer, details)

    async def release(self, conn: Connection, review_id: str, *, reviewer: str, fence: int) -> Review:
        """Give a review back. Raises ReviewNotFound, ReviewOver or ClaimLost."""
        opened = await _open(conn, review_id)
        released = machine.released(opened.review, reviewer=reviewer, fence=fence, now=opened.now)
        event = ReviewReleased(**_names(released), reviewer=reviewer)
        return await self._save(conn, released, "review.released", reviewer, {"fence": fence}, event)

    async def prioritise(
        self, conn: Connection, review_id: str, *, reviewer: str, priority: Priority, reason: str
    ) -> Review:
        """Set a priority that rules then leave alone. Raises ReviewNotFound, ReviewOver or NoteTooShort."""
        machine.require_note(reason, chars_min=self.policy.note_chars_min)
        opened = await _open(conn, review_id)
        changed = machine.prioritised(opened.review, priority=priority)
        details = {"from": opened.review.priority, "to": priority, "reason": reason}
        return await self._save(conn, changed, "review.prioritised", reviewer, details)

    async def decide(
        self, conn: Connection, review_id: str, *, hold: Hold, verdict: Verdict, note: str
    ) -> Decided:
        """Decide the application, or propose it where another person has to confirm.

        Raises ReviewNotFound, ReviewOver, ClaimLost, ReviewChanged, ProposalPending, NoteTooShort, ReasonCodeUnknown
        or AdverseReasonMissing.
        """
        machine.require_note(note, chars_min=self.policy.note_chars_min)
        opened = await _open(conn, review_id)
        machine.require_to_decide(
            opened.review,
            reviewer=hold.reviewer,
            fence=hold.fence,
            revision=hold.revision,
            now=opened.now,
        )
        ruleset = await self._rules(conn, now=opened.now)
        require_reasons(verdict, code_set=ruleset.codes)
        because = self._second_person_because(opened.application, verdict, ruleset=ruleset)
        if because is None:
            return await self._finish(conn, opened, verdict, note=note, by=hold.reviewer, ruleset=ruleset)
        review = machine.proposed(
            opened.review, reviewer=hold.reviewer, verdict=verdict, note=note, now=opened.now
        )
        details = {**_shown(verdict), "note": note, "second_person": because}
        event = ReviewProposed.model_validate(
            {**_names(review), "reviewer": hold.reviewer, **_shown(verdict)}
        )
        saved = await self._save(conn, review, "review.proposed", hold.reviewer, details, event)
        return Decided(review=saved, second_person=because)

    async def confirm(self, conn: Connection, review_id: str, *, hold: Hold, note: str) -> Decided:
        """Confirm what another person proposed, which decides the application.

        Raises ReviewNotFound, ReviewOver, ClaimLost, ReviewChanged, ProposalMissing, SamePerson or NoteTooShort.
        """
        opened, proposal = await self._answering(conn, review_id, hold=hold, note=note)
        ruleset = await self._rules(conn, now=opened.now)
        return await self._finish(
            conn,
            opened,
            proposal.verdict,
            note=note,
            by=hold.reviewer,
            ruleset=ruleset,
            proposal=proposal,
        )

    async def reject(self, conn: Connection, review_id: str, *, hold: Hold, note: str) -> Decided:
        """Reject what another person proposed: the review is back in the queue. Raises as `confirm` does."""
        opened, proposal = await self._answering(conn, review_id, hold=hold, note=note)
        details = {**_shown(proposal.verdict), "proposed_by": proposal.by, "note": note}
        review = machine.rejected(opened.review)
        event = ReviewRejected(**_names(review), reviewer=hold.reviewer)
        return Decided(
            review=await self._save(conn, review, "review.rejected", hold.reviewer, details, event)
        )

    async def reevaluate(self, conn: Connection, review_id: str, *, hold: Hold, reason: str) -> Reevaluated:
        """Let the active rules decide again on the signals that are stored now; no provider is asked.

        Raises ReviewNotFound, ReviewOver, ClaimLost, ReviewChanged, ProposalPending or NoteTooShort.
        """
        machine.require_note(reason, chars_min=self.policy.note_chars_min)
        opened = await _open(conn, review_id)
        machine.require_to_decide(
            opened.review,
            reviewer=hold.reviewer,
            fence=hold.fence,
            revision=hold.revision,
            now=opened.now,
        )
        request = _request(opened, by=hold.reviewer, reason=reason)
        ruleset = await self._rules(conn, now=opened.now)
        return await reevaluate(conn, request, tools=self.tools, scorecard=self.scorecard, ruleset=ruleset)

    async def _answering(
        self, conn: Connection, review_id: str, *, hold: Hold, note: str
    ) -> tuple[_Opened, Proposal]:
        machine.require_note(note, chars_min=self.policy.note_chars_min)
        opened = await _open(conn, review_id)
        proposal = machine.require_to_answer(
            opened.review,
            reviewer=hold.reviewer,
            fence=hold.fence,
            revision=hold.revision,
            now=opened.now,
        )
        return opened, proposal

    async def _finish(
        self,
        conn: Connection,
        opened: _Opened,
        verdict: Verdict,
        *,
        note: str,
        by: str,
        ruleset: CompiledRuleset,
        proposal: Proposal | None = None,
    ) -> Decided:
        """Close the review and append the decision that ended it."""
        version = opened.application.decision_version + 1
        review = machine.closed(opened.review, decision_version=version, decided_by=by, now=opened.now)
        confirmed = proposal.by if proposal else None
        details = {**_shown(verdict), "note": note, "decision_version": version, "proposed_by": confirmed}
        event = ReviewClosed(**_names(review), decision_version=version, reviewer=by, confirmed=confirmed)
        await self._save(conn, review, "review.decided", by, details, event)
        request = _request(opened, by=by, reason=proposal.note if proposal else note, verdict=verdict)
        decision = await reevaluate(
            conn, request, tools=self.tools, scorecard=self.scorecard, ruleset=ruleset
        )
        return Decided(review=review, decision=decision)

    def _second_person_because(
        self, application: LockedApplication, verdict: Verdict, *, ruleset: CompiledRuleset
    ) -> str | None:
        by_rules = replay(inputs_document(inputs_of(application)), scorecard=self.scorecard, ruleset=ruleset)
        return self.policy.second_person_because(
            verdict.outcome, amount=application.amount, by_rules=by_rules.outcome
        )

    async def _rules(self, conn: Connection, *, now: datetime) -> CompiledRuleset:
        return await self.rulesets.active(conn, name=RULESET_NAME, at=now)

    async def _save(
        self,
        conn: Connection,
        review: Review,
        action: str,
        reviewer: str,
        details: Mapping[str, Any],
        *events: PublishedEvent,
    ) -> Review:
        saved = Saved(review=review, actor=actor_of(reviewer), action=action, details=details)
        await reviews.save(conn, [saved], now=self.tools.clock.now())
        await append(conn, [self.tools.stamp(event) for event in events])
        return review


def actor_of(reviewer: str) -> str:
    """Return how the audit trail names a reviewer."""
    return f"reviewer:{reviewer}"


async def _open(conn: Connection, review_id: str) -> _Opened:
    application = await applications.lock_application(conn, await reviews.locate(conn, review_id))
    review, now = await reviews.review_of(conn, review_id)
    return _Opened(review, application, now)


def _request(opened: _Opened, *, by: str, reason: str, verdict: Verdict | None = None) -> Reevaluation:
    """Return the request for the next version; its key is that of the claim, and of the revision decided on."""
    review = opened.review
    return Reevaluation(
        application_id=review.application_id,
        expected_version=review.decision_version,
        request_key=f"{review.id}:{review.fence}:{review.revision}",
        actor=actor_of(by),
        reason=reason,
        verdict=verdict,
    )


def _names(review: Review) -> dict[str, str]:
    return {"application_id": review.application_id, "review_id": review.id}


def _shown(verdict: Verdict) -> dict[str, Any]:
    return {"outcome": verdict.outcome.value, "reason_codes": list(verdict.reason_codes)}
