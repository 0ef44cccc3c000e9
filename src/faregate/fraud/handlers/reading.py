"""Reads the features of a payment, which it updates by that, in one round trip; and watches how fresh they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from faregate.features.facts import FeatureEvent, FeatureEventInvalid, Status
from faregate.features.online import Observed, OnlineFeatures
from faregate.features.payments import payment_fact
from faregate.fraud.contracts.scoring import FeaturesRead, Payment, Values
from faregate.infra.cache import FunctionFailed
from faregate.infra.coalescer import Coalescer
from faregate.kernel.errors import UnavailableError

_log = structlog.get_logger(__name__)

LOOK_S: Final = 0.5
"""How often it is looked how fresh the features are."""
LAG_S_MAX: Final = 1.0
MISSES_MAX: Final = 5
TRY_AGAIN_S: Final = 0.1
BATCH_MAX: Final = 32
WRITERS_MAX: Final = 2
EVERY_S: Final = 0.003
"""Least time between two batches: of a busy service each holds more than one payment; a lone one waits for nothing."""
FORGOTTEN_S: Final = 2.0
"""A look that is older says nothing any more."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether Valkey holds everything that windows reach, and how far the consumer of the log is behind."""

    is_warm: bool
    lag_s: float | None


Look = Callable[[], Awaitable[Freshness]]


class FeatureReader:
    """The features of payments as the scorer asks them."""

    def __init__(self, *, features: OnlineFeatures, look: Look, wait_s: float) -> None:
        self._look, self._wait_s = look, wait_s
        # Payments that come together share a round trip: the client's own work is most of what one costs.
        self._coalescer = Coalescer[FeatureEvent, Observed](
            write=features.apply, batch_max=BATCH_MAX, writers_max=WRITERS_MAX, every_s=EVERY_S
        )
        self._misses = 0
        self._try_again_at = 0.0
        self._freshness: Freshness | None = None
        self._looked_at = 0.0
        self.version = features.declared.version

    async def read(self, payment: Payment, *, now: datetime) -> tuple[FeaturesRead, Status | None]:
        """Let a payment have its effect, and return the values as of it, with what came of it.

        None for no status: Valkey did not answer in time, or refused.
        """
        fact = payment_fact(
            payment_id=payment.payment_id,
            at=payment.occurred_at,
            observed_at=now,
            amount_minor=payment.amount_minor,
            merchant=payment.merchant,
            merchant_category=payment.merchant_category,
            card_token=payment.card_token,
            member_id=payment.member_id,
            terminal_id=payment.terminal_id,
            device_id=payment.device_id,
            ip_token=payment.ip_token,
            country=payment.country,
            channel=payment.channel,
        )
        observed = await self._observed(fact)
        if observed is None:
            return self._read(None), None
        return self._read(observed.values), observed.status

    async def _observed(self, fact: FeatureEvent) -> Observed | None:
        """Return what Valkey says in time. After some silence in a row it is left alone, but for a try now and then."""
        now = asyncio.get_running_loop().time
        if self._misses >= MISSES_MAX:
            if now() < self._try_again_at:
                return None
            self._try_again_at = now() + TRY_AGAIN_S
        try:
            async with asyncio.timeout(self._wait_s):
                observed = await self._coalescer.submit(fact)
        except (TimeoutError, UnavailableError):
            self._misses += 1
            return None
        except (FunctionFailed, FeatureEventInvalid) as error:
            _log.warning("fraud_features_refused", payment_id=fact.id, why=error.detail)
            return None
        self._misses = 0
        return observed

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the freshness again and again, for the length of the block."""
        await self.look()
        watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def look(self) -> None:
        """Look at the freshness; what cannot be seen is not fresh."""
        try:
            self._freshness = await self._look()
        except UnavailableError:
            self._freshness = None
        self._looked_at = asyncio.get_running_loop().time()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the watch outlives whatever it looks at; an old look counts as none
                _log.warning("fraud_freshness_unknown", exc_info=True)

    def _read(self, values: Values | None) -> FeaturesRead:
        seen = self._freshness
        if asyncio.get_running_loop().time() > self._looked_at + FORGOTTEN_S:
            seen = None
        lag_s = None if seen is None else seen.lag_s
        is_stale = seen is None or not seen.is_warm or lag_s is None or lag_s >= LAG_S_MAX
        return FeaturesRead(self.version, values, is_stale, None if lag_s is None else round(lag_s * 1_000))
