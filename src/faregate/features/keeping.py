"""Keeps the features of live payments in Valkey up to date from the event log, and fills them again when they are lost.

The log is the record. An event may be applied twice, by the service that scored the payment and by the consumer, or by
the consumer and a rebuild: nothing changes. Values are to be trusted once everything was applied in this run of Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import structlog

from faregate.events.payments import PaymentAuthorised, PaymentReversed
from faregate.features.declarations import Entity
from faregate.features.facts import (
    Fact,
    FeatureEvent,
    FeatureEventInvalid,
    Reversal,
    ReversalById,
    Status,
    source_of,
)
from faregate.features.online import Observed, OnlineFeatures
from faregate.features.payments import PAYMENT, PAYMENTS
from faregate.features.plan import plan_of
from faregate.infra.cache import Cache, FunctionFailed
from faregate.infra.database import Database
from faregate.infra.eventlog import CaughtUp, ConsumerGroup
from faregate.infra.readiness import NotReady
from faregate.kernel.errors import ConflictError
from faregate.kernel.event import Event

_log = structlog.get_logger(__name__)

GROUP: Final = "features.payments"
TYPES: Final = (PaymentAuthorised.type, PaymentReversed.type)
REVERSIBLE_S: Final = 8 * 86_400
"""So long after it an authorisation can be reversed by its id; card schemes let it end after seven days."""
LAG_S_MAX: Final = 1.0
BATCH: Final = 500
HORIZON: Final = timedelta(seconds=max(run.keep_s for run in plan_of(PAYMENTS).runs))
"""What happened before is in no window any more."""


class FeaturesCold(NotReady):
    """Valkey does not hold everything that windows reach: values would be plausible and too low."""


class FillTakenOver(ConflictError):
    """Somebody else began to fill the features, or Valkey lost them once more."""


def live_features(cache: Cache) -> OnlineFeatures:
    """Return the features of live payments."""
    return OnlineFeatures(cache, PAYMENTS, reversible_s=REVERSIBLE_S)


def fact_of(event: Event) -> Fact | None:
    """Return what an event of the log is to features; None for one that is nothing to them."""
    data = event.data
    if event.type == PaymentReversed.type:
        return ReversalById(source=PAYMENT.name, id=data["payment_id"], observed_ms=_ms(event.time))
    if event.type != PaymentAuthorised.type:
        return None
    entities = {Entity.MERCHANT: data["merchant"]}
    if data["member_id"] is not None:
        entities[Entity.MEMBER] = data["member_id"]
    return FeatureEvent(
        id=data["payment_id"],
        source=PAYMENT.name,
        at_ms=_ms(datetime.fromisoformat(data["authorised_at"])),
        observed_ms=_ms(event.time),
        entities=entities,
        values={
            "amount_minor": data["amount_minor"],
            "merchant_id": data["merchant"],
            "category": str(data["merchant_category"]),
        },
    )


class FeatureKeeper:
    """Applies events to the features, and knows whether everything was applied."""

    def __init__(self, features: OnlineFeatures, cache: Cache) -> None:
        self._features = features
        self._cache = cache

    def consumer_group(self) -> ConsumerGroup:
        """Return the group that keeps the features up to date."""
        return ConsumerGroup(name=GROUP, types=TYPES, handler=self._handle)

    async def _handle(self, _: Any, events: Sequence[Event]) -> None:
        await self.apply(events)

    async def apply(self, events: Sequence[Event]) -> int:
        """Apply events, and return how many had a part in features. One that cannot be applied is logged."""
        facts = [fact for event in events if (fact := self._usable(event)) is not None]
        try:
            applied = await self._features.apply(facts)
        except FunctionFailed:
            applied = [await self._apply_alone(fact) for fact in facts]
        for fact, observed in zip(facts, applied, strict=True):
            if observed.status in (Status.LATE, Status.AHEAD, Status.CONFLICT):
                _log.warning("feature_event_without_effect", event_id=_id(fact), status=observed.status.name)
        return len(facts)

    def _usable(self, event: Event) -> Fact | None:
        fact = fact_of(event)
        try:
            if isinstance(fact, FeatureEvent):
                source_of(fact, self._features.declared)
        except FeatureEventInvalid as error:
            _log.warning("feature_event_refused", event_id=str(event.id), why=error.detail)
            return None
        return fact

    async def _apply_alone(self, fact: Fact) -> Observed:
        # What fails by itself would fail for ever, and hold up everything behind it.
        try:
            [observed] = await self._features.apply([fact])
        except FunctionFailed as error:
            _log.warning("feature_event_refused", event_id=_id(fact), why=error.detail)
            return Observed(status=Status.CONFLICT, values=None)
        return observed

    async def fill(self, events: AsyncIterator[Event]) -> None:
        """Fill what is kept from the log if it is cold and nobody else does."""
        if await self.is_warm():
            return
        holder = uuid4().hex
        if await self._features.begin_to_fill(holder, by_force=False):
            await self._fill(events, holder, say=lambda _: None)

    async def rebuild(
        self, events: AsyncIterator[Event], *, say: Callable[[int], None] = lambda _: None
    ) -> int:
        """Forget what is kept and fill it again; return how many events had a part. Raises FillTakenOver."""
        holder = uuid4().hex
        await self._features.begin_to_fill(holder, by_force=True)
        await self._features.forget()
        return await self._fill(events, holder, say=say)

    async def is_warm(self) -> bool:
        """Return whether everything was applied since Valkey was started."""
        return await self._features.is_warm()

    async def _fill(self, events: AsyncIterator[Event], holder: str, *, say: Callable[[int], None]) -> int:
        # A Valkey that is started again meanwhile may have lost something: it is not the one that was filled.
        incarnation = await self._cache.incarnation()
        done, batch = 0, list[Event]()
        async for event in events:
            if event.type in TYPES:
                batch.append(event)
            if len(batch) == BATCH:
                done += await self.apply(batch)
                batch = []
                await self._require(self._features.go_on_filling(holder))
                say(done)
        done += await self.apply(batch)
        await self._require(self._features.end_filling(holder, incarnation))
        return done

    async def _require(self, kept: Awaitable[bool]) -> None:
        if not await kept:
            raise FillTakenOver("somebody else fills the features now, or Valkey was emptied meanwhile")


class WarmUp:
    """The gate before features: open once Valkey holds everything, and the consumer is less than a second behind."""

    def __init__(self, keeper: FeatureKeeper, database: Database, *, lag_s_max: float = LAG_S_MAX) -> None:
        self._keeper = keeper
        self._caught_up = CaughtUp(database=database, group=GROUP, lag_s_max=lag_s_max)

    async def check(self) -> None:
        """Return if the features can be trusted. Raises FeaturesCold, ConsumersBehind and CacheUnavailable."""
        if not await self._keeper.is_warm():
            raise FeaturesCold("they are being filled from the event log")
        await self._caught_up.check()


def _id(fact: Fact) -> str:
    return fact.event.id if isinstance(fact, Reversal) else fact.id


def _ms(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
