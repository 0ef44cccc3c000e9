"""Keeps the features of live payments in Valkey up to date from the event log, and fills them again when they are lost.

The log is the record. An event may be applied twice, by the service that scored the payment and by the consumer, or by
the consumer and a rebuild: nothing changes. Values are to be trusted once everything was applied in this run of Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import structlog

from faregate.events.payments import PaymentAuthorised, PaymentDeclined, PaymentReversed
from faregate.features.behaviour import TYPES as BEHAVIOUR_TYPES
from faregate.features.behaviour import behaviour_fact
from faregate.features.facts import (
    Fact,
    FeatureEvent,
    FeatureEventInvalid,
    Reversal,
    ReversalById,
    Status,
    milliseconds,
    source_of,
)
from faregate.features.feature_set import FeatureSet
from faregate.features.online import Observed, OnlineFeatures
from faregate.features.payments import PAYMENT, PAYMENTS, payment_fact
from faregate.features.plan import plan_of
from faregate.infra.cache import Cache, FunctionFailed
from faregate.infra.database import Database
from faregate.infra.eventlog import CaughtUp, ConsumerGroup
from faregate.infra.readiness import NotReady
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError
from faregate.kernel.event import Event

_log = structlog.get_logger(__name__)

TYPES: Final = (PaymentAuthorised.type, PaymentDeclined.type, PaymentReversed.type, *BEHAVIOUR_TYPES)
REVERSIBLE_S: Final = 8 * 86_400
"""So long after it an authorisation can be reversed by its id; card schemes let it end after seven days."""
LAG_S_MAX: Final = 1.0
BATCH: Final = 500
HORIZON: Final = timedelta(seconds=max(run.keep_s for run in plan_of(PAYMENTS).runs))
"""What happened before is in no window any more."""
DISORDER: Final = timedelta(hours=1)
"""The log may disagree so much with the times of its events."""


class FeaturesCold(NotReady):
    """Valkey does not hold everything that windows reach: values would be plausible and too low."""


class FillTakenOver(ConflictError):
    """Somebody else began to fill the features, or Valkey lost them once more."""


def group_of(declared: FeatureSet) -> str:
    """Return the name of the group that keeps a set up to date.

    A group a version: while two versions of the code run, neither takes events away from the other.
    """
    return f"features.{declared.name}.{declared.version[:8]}"


GROUP: Final = group_of(PAYMENTS)


def live_features(cache: Cache) -> OnlineFeatures:
    """Return the features of live payments."""
    return OnlineFeatures(cache, PAYMENTS, reversible_s=REVERSIBLE_S)


def fact_of(event: Event) -> Fact | None:
    """Return what an event of the log is to features; None for one that is nothing to them. Raises ValueError."""
    if event.type == PaymentReversed.type:
        return ReversalById(
            source=PAYMENT.name, id=event.data["payment_id"], observed_ms=milliseconds(event.time)
        )
    if event.type == PaymentAuthorised.type:
        return _payment(event, at=event.data["authorised_at"])
    if event.type == PaymentDeclined.type:
        return _payment(event, at=event.data["declined_at"])
    return behaviour_fact(event)


def _payment(event: Event, *, at: str) -> FeatureEvent:
    data = event.data
    return payment_fact(
        payment_id=data["payment_id"],
        at=datetime.fromisoformat(at),
        observed_at=event.time,
        amount_minor=data["amount_minor"],
        merchant=data["merchant"],
        merchant_category=data["merchant_category"],
        member_id=data["member_id"],
        # Events that were published before cards were ours have none of these.
        card_token=data.get("card_token"),
        terminal_id=data.get("terminal_id"),
        device_id=data.get("device_id"),
        ip_token=data.get("ip_token"),
        country=data.get("country"),
        channel=data.get("channel"),
    )


class FeatureKeeper:
    """Applies events to the features, and knows whether everything was applied."""

    def __init__(self, features: OnlineFeatures, cache: Cache) -> None:
        self.group = group_of(features.declared)
        self._features = features
        self._cache = cache

    def consumer_group(self, *, clock: Clock) -> ConsumerGroup:
        """Return the group that keeps the features up to date.

        It begins with the log, where it passes over what no window reaches any more.
        """

        async def handle(_: Any, events: Sequence[Event]) -> None:
            begins = clock.now() - HORIZON - DISORDER
            await self.apply([event for event in events if event.time >= begins])

        return ConsumerGroup(name=self.group, types=TYPES, handler=handle)

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
        self._caught_up = CaughtUp(database=database, group=keeper.group, lag_s_max=lag_s_max)

    async def check(self) -> None:
        """Return if the features can be trusted. Raises FeaturesCold, ConsumersBehind and CacheUnavailable."""
        if not await self._keeper.is_warm():
            raise FeaturesCold("they are being filled from the event log")
        await self._caught_up.check()


def _id(fact: Fact) -> str:
    return fact.event.id if isinstance(fact, Reversal) else fact.id
