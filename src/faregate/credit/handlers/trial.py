"""What is tried beside the active ruleset on live applications: a challenger decides a share, a shadow watches.

The shadow can neither change nor fail a decision: whatever it raises, its own storing included, is counted, logged
and recorded as its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from prometheus_client import Counter

from faregate.credit.domain.comparison import Answer, Change, change_between
from faregate.credit.domain.decision import replay
from faregate.credit.domain.scorecard import ScoringModel
from faregate.credit.store import trials
from faregate.credit.store.decisions import NewDecision
from faregate.infra.database import Connection
from faregate.rules.api import Rulesets
from faregate.rules.contracts import Traffic
from faregate.rules.ruleset import CompiledRuleset, RulesetFailed
from faregate.rules.split import Arm, arm_of

SHADOWED = Counter(
    "faregate_credit_shadow_evaluations", "Evaluations of a shadow ruleset by what they gave.", ["answer"]
)
_ERROR_CHARS_MAX = 500
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one application is decided: by which version, in which arm of a split, watched by which shadow."""

    name: str
    traffic: Traffic
    arm: Arm | None

    @property
    def version(self) -> int:
        """The version that decides."""
        challenger = self.traffic.challenger_version if self.arm is Arm.CHALLENGER else None
        return challenger or self.traffic.version


async def trial_of(
    conn: Connection, application_id: str, *, rulesets: Rulesets, name: str, at: datetime
) -> Trial:
    """Return how an application is decided at an instant, in one look. Raises NoActiveRuleset."""
    traffic = await rulesets.traffic(conn, name=name, at=at)
    return Trial(name=name, traffic=traffic, arm=arm_of(application_id, name=name, traffic=traffic))


async def record_trial(
    conn: Connection,
    trial: Trial,
    decision: NewDecision,
    *,
    rulesets: Rulesets,
    scorecard: ScoringModel,
    now: datetime,
) -> None:
    """Record the arm of a decision, and what the shadow says of the same inputs; nothing where nothing is tried."""
    traffic = trial.traffic
    if trial.arm is not None:
        challenger = trials.Challenger(
            version=f"{trial.name}-{traffic.challenger_version}", basis_points=traffic.challenger_basis_points
        )
        await trials.insert_arm(conn, decision, arm=trial.arm, challenger=challenger, now=now)
    if traffic.shadow_version is not None:
        shadow = _Shadow(name=trial.name, version=traffic.shadow_version, rulesets=rulesets)
        SHADOWED.labels(await _watch(conn, shadow, decision, scorecard=scorecard, now=now)).inc()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shadow:
    name: str
    version: int
    rulesets: Rulesets

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"

    async def answer(
        self, conn: Connection, inputs: Mapping[str, Any], *, scorecard: ScoringModel
    ) -> Answer | str:
        """Return the answer, or what went wrong."""
        try:
            ruleset = await self.rulesets.version(conn, name=self.name, version=self.version)
            return shadow_answer(inputs, scorecard=scorecard, ruleset=ruleset)
        except Exception as failure:  # noqa: BLE001 - no failure of a shadow may touch the decision beside it
            return f"{type(failure).__name__}: {failure}"[:_ERROR_CHARS_MAX]


async def _watch(
    conn: Connection, shadow: _Shadow, decision: NewDecision, *, scorecard: ScoringModel, now: datetime
) -> str:
    """Record what the shadow says, behind a savepoint; return "agreed", "differed" or "error"."""
    try:
        async with conn.transaction():
            said = await shadow.answer(conn, decision.inputs, scorecard=scorecard)
            result = _result(shadow, decision, said)
            await trials.insert_shadow_result(conn, result, now=now)
    except Exception:  # noqa: BLE001 - as above; what the database refused is rolled back to the savepoint
        _log.exception("shadow_not_recorded", shadow=shadow.label, application_id=decision.application_id)
        return "error"
    if result.error is not None:
        _log.warning("shadow_failed", shadow=shadow.label, application_id=decision.application_id)
        return "error"
    return "agreed" if result.agrees else "differed"


def _result(shadow: _Shadow, decision: NewDecision, said: Answer | str) -> trials.ShadowResult:
    answer = said if isinstance(said, Answer) else None
    given = Answer.of_record(decision.result)
    return trials.ShadowResult(
        application_id=decision.application_id,
        decision_version=decision.version,
        shadow_version=shadow.label,
        ruleset_version=decision.ruleset_version,
        decided=decision.outcome,
        answer=answer,
        agrees=answer is not None and change_between(given, answer) is Change.UNCHANGED,
        error=said if isinstance(said, str) else None,
    )


def shadow_answer(inputs: Mapping[str, Any], *, scorecard: ScoringModel, ruleset: CompiledRuleset) -> Answer:
    """Return what a ruleset says of recorded inputs. Raises RulesetFailed if it cannot be evaluated on them."""
    result = replay(inputs, scorecard=scorecard, ruleset=ruleset)
    if error := result.trace["ruleset"]["error"]:
        raise RulesetFailed(error)
    return Answer.of_result(result)
