"""Decide again what a ruleset decided that has been replaced: first a report, then what the report says.

Both steps decide on the inputs that are recorded with each decision, so that nothing but the ruleset differs, no
provider is asked, and what is applied is what was reported. The rule for applying it: a better answer, a denial of
what was in review or denied before, other reasons, and whatever goes to review are applied; an approval is never
taken back by rules, the application goes to review instead (`correction` in the state machine). An application that
was decided by somebody else since the report is skipped, and so is one in review about which facts have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from faregate.credit.contracts import (
    AppliedBatch,
    Redecision,
    RedecisionItem,
    Reevaluated,
    Reevaluation,
)
from faregate.credit.domain.comparison import Answer, Change, change_between
from faregate.credit.domain.decision import replay, revised_inputs
from faregate.credit.handlers.reevaluate import reevaluate_all
from faregate.credit.handlers.tools import Tools, giving_way
from faregate.credit.store import applications, redecisions, reviews
from faregate.credit.store.artefacts import load_scorecard
from faregate.credit.store.redecisions import RedecisionOutcome, StandingDecision
from faregate.infra.database import Connection
from faregate.kernel.errors import ConflictError, FaregateError
from faregate.rules.api import Rulesets, note
from faregate.rules.contracts import Act
from faregate.rules.ruleset import CompiledRuleset, parse_label

NEW_FACTS: Final = "facts arrived since it was decided: its review decides"
REPORT_PAGE: Final = 500
APPLY_BATCH: Final = 200


class RulesetStillActive(ConflictError):
    """The version still decides: its decisions would come out the same.

    Roll it back or activate another version first.
    """


class ReportNotComplete(ConflictError):
    """The report does not cover every decision yet: go on with it before it is applied."""


class ReportOutdated(ConflictError):
    """Another version is active than the one that the report was made with: make a new report."""


@dataclass(frozen=True, kw_only=True)
class Redecider:
    """Makes and applies reports; `scorecard` is the card of new reports, by the name of its artefact."""

    tools: Tools
    rulesets: Rulesets
    scorecard: str

    async def begin(self, conn: Connection, *, ruleset_version: str, actor: str, reason: str) -> Redecision:
        """Begin a report on a version's decisions under the active one.

        Raises RulesetLabelInvalid, RulesetVersionNotFound, NoActiveRuleset or RulesetStillActive.
        """
        name, version = parse_label(ruleset_version)
        now = self.tools.clock.now()
        await self.rulesets.version(conn, name=name, version=version)
        target = await self.rulesets.active(conn, name=name, at=now)
        if target.version == version:
            raise RulesetStillActive(f"{ruleset_version} is the active version")
        begun = Redecision(
            id=self.tools.new_id("red"),
            ruleset_version=ruleset_version,
            target_version=target.label,
            scorecard=self.scorecard,
            created_at=now,
            created_by=actor,
            reported_to="",
            is_complete=False,
        )
        await redecisions.insert(conn, begun)
        details = {"redecision": begun.id, "target": target.label}
        act = Act(actor=actor, at=now, reason=reason)
        await note(conn, name=name, version=version, action="redecision_begun", act=act, details=details)
        return begun

    async def report_page(
        self, conn: Connection, redecision_id: str, *, limit: int = REPORT_PAGE
    ) -> Redecision:
        """Add the next page to a report and return it; a complete one stays as it is. Raises RedecisionNotFound."""
        report = await redecisions.one(conn, redecision_id, locked=True)
        if report.is_complete:
            return report
        target = await self._target(conn, report)
        found = await redecisions.standing(
            conn, ruleset_version=report.ruleset_version, after_id=report.reported_to, limit=limit
        )
        items = [
            _item(decision, target=target, scorecard=report.scorecard) async for decision in giving_way(found)
        ]
        reported_to = found[-1].application_id if found else report.reported_to
        is_complete = len(found) < limit
        await redecisions.add_items(conn, report.id, items, reported_to=reported_to, is_complete=is_complete)
        return await redecisions.one(conn, report.id)

    async def apply_batch(
        self, conn: Connection, redecision_id: str, *, actor: str, reason: str, limit: int = APPLY_BATCH
    ) -> AppliedBatch:
        """Apply a report to its next applications; repeated, it goes on where it was, and then does nothing.

        Raises RedecisionNotFound, ReportNotComplete or ReportOutdated.
        """
        report = await redecisions.one(conn, redecision_id, locked=True)
        if not report.is_complete:
            raise ReportNotComplete(f"the report {report.id} covers only a part of the decisions")
        name, version = parse_label(report.ruleset_version)
        now = self.tools.clock.now()
        target = await self.rulesets.active(conn, name=name, at=now)
        if target.label != report.target_version:
            raise ReportOutdated(f"{target.label} is active, the report is about {report.target_version}")
        batch = await redecisions.pending(conn, report.id, limit=limit)
        outdated = await _with_new_facts(conn, [application_id for application_id, _ in batch])
        current = [item for item in batch if item[0] not in outdated]
        answers = await reevaluate_all(
            conn,
            [_request(item, report=report, actor=actor, reason=reason) for item in current],
            tools=self.tools,
            scorecard=load_scorecard(report.scorecard),
            ruleset=target,
        )
        settled = [_outcome(item, answer) for (item, _), answer in zip(current, answers, strict=True)]
        settled += [RedecisionOutcome(application_id=one, note=NEW_FACTS) for one in sorted(outdated)]
        await redecisions.settle(conn, report.id, settled)
        done = AppliedBatch(
            applied=sum(outcome.note is None for outcome in settled),
            skipped=sum(outcome.note is not None for outcome in settled),
            pending=await redecisions.pending_count(conn, report.id),
        )
        if batch:
            act = Act(actor=actor, at=now, reason=reason)
            details = {"redecision": report.id, "applied": done.applied, "skipped": done.skipped}
            await note(
                conn, name=name, version=version, action="redecision_applied", act=act, details=details
            )
        return done

    async def report(self, conn: Connection, redecision_id: str) -> Redecision:
        """Return a report. Raises RedecisionNotFound."""
        return await redecisions.one(conn, redecision_id)

    async def reports(
        self, conn: Connection, *, ruleset_version: str | None = None, limit: int = 20
    ) -> Sequence[Redecision]:
        """Return the newest reports, on one version or on all."""
        return await redecisions.newest(conn, ruleset_version=ruleset_version, limit=limit)

    async def counts(self, conn: Connection, redecision_id: str) -> Sequence[Mapping[str, Any]]:
        """Return what a report adds up to: applications by outcome before and after, change and state."""
        return await redecisions.counts_of(conn, redecision_id)

    async def items(
        self,
        conn: Connection,
        redecision_id: str,
        *,
        only_changed: bool = False,
        after_id: str = "",
        limit: int = 100,
    ) -> Sequence[RedecisionItem]:
        """Return a page of a report, by application id."""
        return await redecisions.items_of(
            conn, redecision_id, only_changed=only_changed, after_id=after_id, limit=limit
        )

    async def _target(self, conn: Connection, report: Redecision) -> CompiledRuleset:
        name, version = parse_label(report.target_version)
        return await self.rulesets.version(conn, name=name, version=version)


def _item(decision: StandingDecision, *, target: CompiledRuleset, scorecard: str) -> RedecisionItem:
    before = Answer.of_record(decision.record)
    inputs = revised_inputs(decision.inputs, status_before=decision.status)
    after = Answer.of_result(replay(inputs, scorecard=load_scorecard(scorecard), ruleset=target))
    change = change_between(before, after)
    return RedecisionItem(
        application_id=decision.application_id,
        decision_version=decision.version,
        change=change.value,
        before=before.document(),
        after=after.document(),
        state="unchanged" if change is Change.UNCHANGED else "pending",
        new_version=None,
        note=None,
    )


async def _with_new_facts(conn: Connection, application_ids: Sequence[str]) -> set[str]:
    """Return the applications in review of which a person must read what came since: the report did not know it."""
    await applications.lock_to_decide(conn, application_ids)
    open_reviews = await reviews.not_closed(conn, application_ids)
    return {application_id for application_id, review in open_reviews.items() if review.has_new_facts}


def _request(item: tuple[str, int], *, report: Redecision, actor: str, reason: str) -> Reevaluation:
    application_id, version = item
    return Reevaluation(
        application_id=application_id,
        expected_version=version,
        request_key=report.id,
        actor=actor,
        reason=f"{reason} ({report.ruleset_version} replaced by {report.target_version}, {report.id})",
        recorded_version=version,
    )


def _outcome(application_id: str, answer: Reevaluated | FaregateError) -> RedecisionOutcome:
    if isinstance(answer, FaregateError):
        return RedecisionOutcome(application_id=application_id, note=answer.detail)
    return RedecisionOutcome(application_id=application_id, new_version=answer.version)
