"""The two steps of an application's run: dispatch the checks, then decide.

Each step is one transaction and may be repeated by the engine: what is there already is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from faregate.credit.domain.application import missing_checks, transition
from faregate.credit.domain.checks import PROVIDERS_OF_CHECK, primary_providers
from faregate.credit.domain.decision import inputs_document, replay
from faregate.credit.domain.plans import CheckPlans
from faregate.credit.domain.scorecard import ScoringModel
from faregate.credit.handlers.checks import GatewayHooks
from faregate.credit.handlers.recording import decision_of, inputs_of, record
from faregate.credit.handlers.tools import Tools
from faregate.credit.handlers.trial import record_trial, trial_of
from faregate.credit.store import applications
from faregate.credit.store.applications import LockedApplication
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.events.base import PublishedEvent
from faregate.events.credit import DecisionReady
from faregate.gateway.api import declare
from faregate.gateway.intent import NewIntent
from faregate.infra.database import Connection, Database
from faregate.infra.telemetry.tracing import current_traceparent
from faregate.infra.workflow import failed_among
from faregate.rules.api import Rulesets, activate, activations, publish
from faregate.rules.store import ActivationInThePast

APPLICATION_RUN = "credit.application"
RULESET_NAME = "card-eligibility"
ACTOR = "decision-service"
OVERDUE_AFTER = timedelta(seconds=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OVERDUE_BATCH = 1000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class DecisionService:
    """The single writer of decisions."""

    tools: Tools
    hooks: GatewayHooks
    rulesets: Rulesets
    scorecard: ScoringModel
    plans: CheckPlans

    async def dispatch(self, conn: Connection, application_id: str) -> dict[str, str]:
        """Declare the checks of an application's plan and announce the requests; return the run's deadline."""
        now = self.tools.clock.now()
        begun = await applications.begin_execution(conn, application_id, plans=self.plans, now=now)
        declared = await declare(
            conn,
            [
                NewIntent(
                    subject_id=application_id,
                    check=check,
                    provider=PROVIDERS_OF_CHECK[check][0],
                    deadline=planned.deadline(now=now, application_deadline=begun.deadline_at),
                    traceparent=current_traceparent(),
                )
                for check, planned in self.plans.of(begun.product_type).checks.items()
            ],
        )
        if declared:
            await self.hooks.announce(conn, declared)
        return {"deadline": begun.deadline_at.isoformat()}

    async def decide(self, conn: Connection, application_id: str) -> dict[str, str]:
        """Decide an application once, on the signals that there are; a decided one is left as it is."""
        application = await applications.lock_application(conn, application_id)
        if application.decision_version:
            return {"status": application.status.value}
        document = inputs_document(inputs_of(application))
        now = self.tools.clock.now()
        trial = await trial_of(conn, application_id, rulesets=self.rulesets, name=RULESET_NAME, at=now)
        ruleset = await self.rulesets.version(conn, name=RULESET_NAME, version=trial.version)
        result = replay(document, scorecard=self.scorecard, ruleset=ruleset)
        status = transition(current=application.status, outcome=result.outcome)
        decision = decision_of(application, document, result, actor=ACTOR)
        await record(conn, [decision], tools=self.tools, before=_left_waiting(application))
        await record_trial(conn, trial, decision, rulesets=self.rulesets, scorecard=self.scorecard, now=now)
        return {"status": status.value}


async def decide_overdue(database: Database, *, service: DecisionService) -> None:
    """Decide what no run decided long after its deadline, so that no application is stranded.

    A run fails for good when its steps keep failing, the first one too; `decide` writes once, whoever calls it. An
    application whose run has not begun waits for a worker, however long, unless that run failed.
    """
    before, after = service.tools.clock.now() - OVERDUE_AFTER, (EPOCH, "")
    while True:
        async with database.connection() as conn:
            found = await applications.overdue(conn, before=before, after=after, limit=OVERDUE_BATCH)
            failed = await failed_among(conn, [one.id for one in found if not one.has_begun])
        if not found:
            return
        for one in found:
            if one.has_begun or one.id in failed:
                await _decide_one_overdue(database, one.id, service=service)
        after = (found[-1].deadline_at, found[-1].id)


async def _decide_one_overdue(database: Database, application_id: str, *, service: DecisionService) -> None:
    try:
        async with database.transaction() as conn:
            decided = await service.decide(conn, application_id)
    except Exception:  # noqa: BLE001 - one that cannot be decided must not hold up the others; it is tried again
        _log.exception("overdue_application_not_decided", application_id=application_id)
        return
    _log.warning("overdue_application_decided", application_id=application_id, **decided)


def _left_waiting(application: LockedApplication) -> list[PublishedEvent]:
    """Return what a decision at the deadline announces before itself: that it is made without some signals."""
    if application.ready_at is not None:
        return []
    settled = {signal["check"] for signal in application.signals}
    missing = missing_checks(application.asked_checks, settled=settled)
    unanswered = [signal["provider"] for signal in application.signals if signal["status"] != "done"]
    ready = DecisionReady(
        application_id=application.id,
        required_signals_complete=False,
        missing_providers=(*primary_providers(missing), *unanswered),
    )
    return [ready]


async def publish_first_ruleset(database: Database, *, now: datetime) -> None:
    """Publish and activate the ruleset of the package, unless some ruleset is active already."""
    async with database.transaction() as conn:
        if await activations(conn, name=RULESET_NAME):
            return
        document = load_ruleset_document(f"{RULESET_NAME}-1")
        published = await publish(conn, document=document, published_at=now, published_by=ACTOR)
        with suppress(ActivationInThePast):  # another worker that starts at this moment was faster
            await activate(
                conn, name=RULESET_NAME, version=published.version, activated_at=now, activated_by=ACTOR
            )
