"""Computes decisions again from what was recorded, and compares to the last bit: score, action, reasons, rules."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from faregate.fraud.contracts.scoring import FeaturesRead, Payment, Ruleset
from faregate.fraud.domain.scoring import facts_of
from faregate.fraud.handlers.decisions import DecisionReader
from faregate.fraud.handlers.models import Model
from faregate.fraud.handlers.score import judge
from faregate.fraud.store import decisions as store
from faregate.infra.database import Connection, Database

BATCH: Final = 500
SHOWN_MAX: Final = 20

RulesetOf = Callable[[Connection, str, int], Awaitable[Ruleset]]
"""Returns a published version by name and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that came out otherwise than it was recorded."""

    decision_id: str
    what: str
    recorded: Any
    computed: Any


@dataclass(slots=True)
class Replayed:
    """How many decisions were computed again, how many of them by what, and the first differences."""

    decisions: int = 0
    by_action: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    explained: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)


class Replayer:
    """Computes decisions again."""

    def __init__(self, *, database: Database, reader: DecisionReader, ruleset_of: RulesetOf) -> None:
        self._database, self._reader, self._ruleset_of = database, reader, ruleset_of
        self._rulesets: dict[tuple[str, int], Ruleset] = {}

    async def replay(self, *, last: int, say: Callable[[int], None] = lambda _: None) -> Replayed:
        """Compute the newest decisions again. Raises ModelNotFound and what the rulesets raise."""
        found = Replayed()
        async with self._database.connection() as conn:
            ids = await store.newest(conn, limit=last)
            for begin in range(0, len(ids), BATCH):
                for decision_id, record in await store.records(conn, ids[begin : begin + BATCH]):
                    await self._compare(conn, found, decision_id, orjson.loads(record))
                say(found.decisions)
        return found

    async def _compare(self, conn: Connection, found: Replayed, decision_id: str, record: Any) -> None:
        answer = record["answer"]
        computed = compute(
            record, ruleset=await self._ruleset(conn, answer), model=await self._model(conn, answer)
        )
        differences = [
            Difference(decision_id=decision_id, what=what, recorded=recorded, computed=computed[what])
            for what, recorded in recorded_of(record).items()
            if bits(recorded) != bits(computed[what])
        ]
        found.decisions += 1
        found.by_action[answer["action"]] += 1
        found.scored += answer["score"] is not None
        found.explained += any(reason["source"] == "model" for reason in answer["reasons"])
        found.differing += bool(differences)
        found.differences += differences[: SHOWN_MAX - len(found.differences)]

    async def _ruleset(self, conn: Connection, answer: Mapping[str, Any]) -> Ruleset | None:
        if (named := answer["ruleset"]) is None:
            return None
        version = (named["name"], named["version"])
        if version not in self._rulesets:
            self._rulesets[version] = await self._ruleset_of(conn, *version)
        return self._rulesets[version]

    async def _model(self, conn: Connection, answer: Mapping[str, Any]) -> Model | None:
        return None if answer["model"] is None else await self._reader.model(conn, answer["model"]["sha256"])


def recorded_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says came out."""
    answer, rules = record["answer"], record["rules"]
    return {
        "score": answer["score"],
        "action": answer["action"],
        "reasons": answer["reasons"],
        "thresholds": record["thresholds"],
        "rules": rules,
    }


def compute(record: Mapping[str, Any], *, ruleset: Ruleset | None, model: Model | None) -> dict[str, Any]:
    """Return what comes out of the recorded inputs."""
    payment = payment_of(record["payment"])
    features = FeaturesRead("", record["features"], is_stale=False, lag_ms=None)
    facts = facts_of(payment, features=record["features"], lists=record["lists"])
    evaluated = None if ruleset is None else ruleset.evaluate(facts)
    score, verdict, reasons = judge(features, evaluated, ruleset, model, explain=record["explained"])
    return {
        "score": score,
        "action": verdict.action.value,
        "reasons": [reason.document() for reason in reasons],
        "thresholds": None
        if model is None
        else {"review_at": model.thresholds.review_at, "decline_at": model.thresholds.decline_at},
        "rules": None
        if ruleset is None or evaluated is None
        else {
            "sha256": ruleset.sha256,
            "fired": [one.rule for one in evaluated.fired],
            "unknown": list(evaluated.unknown),
        },
    }


def payment_of(document: Mapping[str, Any]) -> Payment:
    """Return the payment of a record."""
    return Payment(**{**document, "occurred_at": datetime.fromisoformat(document["occurred_at"])})


def bits(value: Any) -> Any:
    """Return what is equal only if every bit is: 0.0 and -0.0 are not."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, Mapping):
        return {name: bits(inner) for name, inner in value.items()}
    return (
        [bits(inner) for inner in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )
