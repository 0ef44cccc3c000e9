"""Scores a payment: features, rules, model, record, answer. What is decided stands in `domain.scoring`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from faregate.features.facts import Status
from faregate.fraud.contracts.scoring import (
    Action,
    Degraded,
    Evaluated,
    FeaturesRead,
    Payment,
    Reason,
    Rules,
    Ruleset,
    StoredDecision,
)
from faregate.fraud.domain.scoring import (
    Verdict,
    facts_of,
    reasons_of_rules,
    verdict_of_rules,
    verdict_of_score,
)
from faregate.fraud.handlers.audit import DecisionLog, PaymentIdReused
from faregate.fraud.handlers.models import Model, ModelBook
from faregate.fraud.handlers.reading import FeatureReader
from faregate.kernel.clock import Clock
from faregate.kernel.errors import UnavailableError
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id

USUAL_S: Final = 0.002
_NEWEST_WEIGHT: Final = 0.1
_STANDING: Final = (Status.DUPLICATE, Status.CONFLICT, Status.REVERSED)


class DeadlineCannotBeMet(UnavailableError):
    """The caller would not wait long enough for an answer, so nothing was begun.

    Decide without a score, or ask again with more time.
    """


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one payment led to, before it is written down."""

    payment: Payment
    features: FeaturesRead
    lists: Mapping[str, bool]
    ruleset: Ruleset | None
    evaluated: Evaluated | None
    model: Model | None
    score: float | None
    verdict: Verdict
    reasons: Sequence[Reason]
    explained: bool
    shadow: Mapping[str, Any] | None

    @property
    def degraded(self) -> list[str]:
        """What it had to do without."""
        without = {
            Degraded.FEATURES_MISSING: self.features.values is None,
            Degraded.FEATURES_STALE: self.features.is_stale,
            Degraded.MODEL_MISSING: self.model is None and not self.verdict.by_rule,
            Degraded.RULES_MISSING: self.ruleset is None,
        }
        return [name.value for name, is_so in without.items() if is_so]


class Scorer:
    """Decides payments on one event loop."""

    def __init__(
        self,
        *,
        reader: FeatureReader,
        rules: Rules,
        models: ModelBook,
        log: DecisionLog,
        clock: Clock,
        random: Callable[[int], bytes],
        loop_lag_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.reader, self.rules, self.models, self.log = reader, rules, models, log
        self._clock, self._random, self._loop_lag_s = clock, random, loop_lag_s
        self._usual_s = USUAL_S

    async def score(
        self, payment: Payment, *, client_id: str, explain: bool, deadline_s: float | None
    ) -> bytes:
        """Decide a payment, keep the decision, and return the answer. The same payment again gets the same answer.

        Raises DeadlineCannotBeMet, PaymentIdReused, SpoolFull and SpoolBroken.
        """
        began = asyncio.get_running_loop().time()
        digest = digest_of(payment)
        if (known := self.log.remembered(payment.payment_id, digest)) is not None:
            return known
        self._require_time(deadline_s)
        now = self._clock.now()
        features, status = await self.reader.read(payment, now=now)
        if status in _STANDING:
            if (known := await self.log.look_up(payment.payment_id, digest)) is not None:
                return known
            if status is Status.CONFLICT:
                raise PaymentIdReused("another payment was told under this id a moment ago")
        outcome = self.decide(payment, features, explain=explain, at=now)
        decision_id = prefixed_id("dec", now=now, random=self._random(RANDOM_BYTES))
        answer = await self.log.keep(
            stored(outcome, decision_id=decision_id, decided_at=now, digest=digest, client_id=client_id)
        )
        self._usual_s += _NEWEST_WEIGHT * (asyncio.get_running_loop().time() - began - self._usual_s)
        return answer

    def decide(self, payment: Payment, features: FeaturesRead, *, explain: bool, at: datetime) -> Outcome:
        """Return what a payment leads to with these features, by what is in force now."""
        lists = self.rules.memberships(payment, at=at)
        ruleset, model = self.rules.active(payment), self.models.active
        facts = facts_of(payment, features=features.values, lists=lists)
        evaluated = None if ruleset is None else ruleset.evaluate(facts)
        judged = judge(features, evaluated, ruleset, model, explain=explain)
        return Outcome(
            payment=payment,
            features=features,
            lists=lists,
            ruleset=ruleset,
            evaluated=evaluated,
            model=model,
            score=judged[0],
            verdict=judged[1],
            reasons=judged[2],
            explained=explain,
            shadow=self._watched(facts, features),
        )

    def _watched(self, facts: Mapping[str, Any], features: FeaturesRead) -> Mapping[str, Any] | None:
        """Return what those that watch make of it: it is recorded and never answered."""
        seen: dict[str, Any] = {}
        if (model := self.models.shadow) is not None and features.values is not None:
            score = model.score(features.values)
            action = verdict_of_score(score, model.thresholds).action
            seen["model"] = {**model.named(), "score": score, "action": action}
        if (ruleset := self.rules.shadow()) is not None:
            verdict = verdict_of_rules(evaluated := ruleset.evaluate(facts))
            seen["ruleset"] = {
                **_named(ruleset),
                "fired": [one.rule for one in evaluated.fired],
                "action": None if verdict is None else verdict.action,
            }
        return seen or None

    def _require_time(self, deadline_s: float | None) -> None:
        """Raise DeadlineCannotBeMet if what stands before this payment takes longer than its caller waits."""
        if deadline_s is None:
            return
        expected_s = self._loop_lag_s() + max(self._usual_s, self.log.delay_s())
        if expected_s > deadline_s:
            raise DeadlineCannotBeMet(
                f"an answer takes {expected_s * 1_000:.0f} ms", expected_ms=round(expected_s * 1_000)
            )


def judge(
    features: FeaturesRead,
    evaluated: Evaluated | None,
    ruleset: Ruleset | None,
    model: Model | None,
    *,
    explain: bool,
) -> tuple[float | None, Verdict, Sequence[Reason]]:
    """Return score, verdict and reasons: of the rules where they decide, else of the model."""
    reasons = reasons_of_rules(evaluated, ruleset)
    by_rules = verdict_of_rules(evaluated)
    if by_rules is not None or model is None or features.values is None:
        return None, by_rules or verdict_of_score(None, None), reasons
    score = model.score(features.values)
    verdict = verdict_of_score(score, model.thresholds)
    if verdict.action is not Action.APPROVE or explain:
        reasons = [*reasons, *model.reasons(features.values)]
    return score, verdict, reasons


def stored(
    outcome: Outcome, *, decision_id: str, decided_at: datetime, digest: bytes, client_id: str
) -> StoredDecision:
    """Return a decision as it is kept: the answer, and all that it was made of."""
    payment, degraded = outcome.payment, outcome.degraded
    answer = orjson.dumps(answer_of(outcome, decision_id=decision_id, degraded=degraded))
    record = orjson.dumps(
        {
            "answer": orjson.Fragment(answer),
            "client": client_id,
            "payment": payment,
            "features": outcome.features.values,
            "lists": outcome.lists,
            "explained": outcome.explained,
            "rules": _traced(outcome),
            "thresholds": outcome.model.thresholds if outcome.model else None,
            "shadow": outcome.shadow,
        }
    )
    return StoredDecision(
        id=decision_id,
        decided_at=decided_at,
        payment=payment,
        digest=digest,
        action=outcome.verdict.action.value,
        score=outcome.score,
        degraded=tuple(degraded),
        answer=answer,
        record=record,
    )


def answer_of(outcome: Outcome, *, decision_id: str, degraded: Sequence[str]) -> dict[str, Any]:
    """Return what the caller is told."""
    features = outcome.features
    return {
        "decision_id": decision_id,
        "payment_id": outcome.payment.payment_id,
        "score": outcome.score,
        "action": outcome.verdict.action.value,
        "reasons": [reason.document() for reason in outcome.reasons],
        "ruleset": None if outcome.ruleset is None else _named(outcome.ruleset),
        "model": None if outcome.model is None else outcome.model.named(),
        "features": {
            "version": features.version,
            "as_of": outcome.payment.occurred_at.isoformat(),
            "fresh_ms": features.lag_ms,
        },
        "degraded": degraded,
    }


def digest_of(payment: Payment) -> bytes:
    """Return what tells this payment from another under its id."""
    return hashlib.blake2b(orjson.dumps(payment), digest_size=16).digest()


def _traced(outcome: Outcome) -> dict[str, Any] | None:
    if outcome.ruleset is None or outcome.evaluated is None:
        return None
    return {
        "sha256": outcome.ruleset.sha256,
        "fired": [one.rule for one in outcome.evaluated.fired],
        "unknown": outcome.evaluated.unknown,
    }


def _named(ruleset: Ruleset) -> dict[str, Any]:
    return {"name": ruleset.name, "version": ruleset.version}
