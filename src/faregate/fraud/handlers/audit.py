"""Keeps every decision before it is answered: in PostgreSQL by a group commit, or in a local spool until that is there.

While PostgreSQL is quick, an answer waits for the commit that its decision shares with others. The first that waits too
long turns everybody to the spool, which is on this machine's disk; a shipper brings what is in it to PostgreSQL, each
decision once, and turns back when PostgreSQL took that quickly. A decision may be written by both ways: its id makes it
one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import orjson
import structlog

from faregate.fraud.contracts.scoring import Degraded, StoredDecision
from faregate.fraud.store import decisions as store
from faregate.fraud.store.decisions import Decided, DecisionUnwritable
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Database
from faregate.infra.spool import Part, Spool
from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, UnavailableError

_log = structlog.get_logger(__name__)

SHIP_S: Final = 0.5
"""How often it is tried to bring to PostgreSQL what waits in the spool."""
SHIP_MAX: Final = 200
AHEAD: Final = timedelta(days=35)
RECENT_MAX: Final = 10_000


class PaymentIdReused(ConflictError):
    """Another payment was scored under this id.

    An id belongs to one payment for ever, with all that was said of it the first time.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """How long an answer waits for PostgreSQL, and how decisions are gathered: a batch begins `every_s` at most."""

    wait_s: float = 0.04
    batch_max: int = 200
    writers_max: int = 2
    every_s: float = 0.004


class DecisionLog:
    """The one way in which decisions are kept; `recent` ones are known without asking."""

    def __init__(
        self,
        *,
        database: Database,
        spool: Spool,
        clock: Clock,
        metrics: Metrics,
        options: AuditOptions = AuditOptions(),
    ) -> None:
        self._database, self._spool, self._clock, self._options = database, spool, clock, options
        self._coalescer = Coalescer[StoredDecision, Decided | None](
            write=self._write,
            batch_max=options.batch_max,
            writers_max=options.writers_max,
            every_s=options.every_s,
        )
        self._recent: OrderedDict[str, Decided] = OrderedDict()
        self._spooled: dict[str, Decided] = {}
        self._appending: dict[str, asyncio.Lock] = {}
        self._is_spooling = False
        self._took_s = 0.0  # how long PostgreSQL took for what was shipped last
        self._wake = asyncio.Event()
        self._counted = metrics.counter(
            "faregate_fraud_audit_total", "Decisions kept, by where they went first", labels=("way",)
        )
        self._refused = metrics.counter(
            "faregate_fraud_audit_refused_total", "Spooled decisions that PostgreSQL refuses: kept as files"
        )
        held = metrics.gauge("faregate_fraud_spool_bytes", "Decisions that wait in the local spool")

        async def probe() -> None:
            held.set(spool.held_bytes)

        metrics.add_probe(probe)

    @property
    def is_spooling(self) -> bool:
        """Whether decisions go to the spool at the moment."""
        return self._is_spooling

    def delay_s(self) -> float:
        """Return how long a decision that comes now would be under way, at most as long as one waits."""
        return 0.0 if self._is_spooling else min(self._coalescer.delay_s(), self._options.wait_s)

    def remembered(self, payment_id: str, digest: bytes) -> bytes | None:
        """Return the answer that was given to this payment by this process. Raises PaymentIdReused."""
        found = self._spooled.get(payment_id) or self._recent.get(payment_id)
        return None if found is None else _same(found, digest)

    async def look_up(self, payment_id: str, digest: bytes) -> bytes | None:
        """Return the answer that was given to this payment by anybody, None if nobody can tell.

        Raises PaymentIdReused.
        """
        if self._is_spooling:
            return None
        try:
            async with asyncio.timeout(self._options.wait_s), self._database.connection() as conn:
                found = (await store.decided(conn, [payment_id])).get(payment_id)
        except (TimeoutError, UnavailableError, store.DecisionStoreGone):
            return None
        return None if found is None else _same(found, digest)

    async def keep(self, decision: StoredDecision) -> bytes:
        """Keep a decision, and return the answer: that of an earlier one of the same payment if there is one.

        Raises PaymentIdReused, SpoolFull and SpoolBroken.
        """
        earlier: Decided | None = None
        if not self._is_spooling:
            try:
                async with asyncio.timeout(self._options.wait_s):
                    earlier = await self._coalescer.submit(decision)
            except (TimeoutError, UnavailableError, DecisionUnwritable) as error:
                self._turn_to_spool(error)
            else:
                self._counted.labels("database").inc()
                kept = earlier or Decided(decision.digest, decision.id, decision.answer)
                self._remember(decision.payment.payment_id, kept)
                return _same(kept, decision.digest)
        return await self._keep_in_spool(decision)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Bring to PostgreSQL what is in the spool, for the length of the block and once more at its end."""
        self._spool.open()
        for part in await self._spool.take():
            self._remember_spooled(part)
        self._is_spooling = not self._spool.is_empty
        await self._make_months()
        shipper = asyncio.create_task(self._ship_for_ever())
        try:
            yield
        finally:
            shipper.cancel()
            with suppress(asyncio.CancelledError):
                await shipper
            await self._coalescer.close()
            with suppress(UnavailableError):
                await self.ship()
            self._spool.close()

    async def ship(self) -> int:
        """Bring what is in the spool to PostgreSQL; return how many decisions were not there yet.

        Raises DecisionStoreGone and DatabaseUnavailable; what was not brought stays.
        """
        shipped = 0
        for part in await self._spool.take():
            rows = [orjson.loads(record) for record in part.records]
            for begin in range(0, len(rows), SHIP_MAX):
                shipped += await self._ship_some(rows[begin : begin + SHIP_MAX])
            self._spool.forget(part)
            for row in rows:
                if self._spooled.pop(row["payment_id"], None) is not None:
                    self._remember(row["payment_id"], _of_row(row))
        return shipped

    async def _make_months(self) -> None:
        """Make the tables of this month and the next, so that no payment waits for it."""
        now = self._clock.now()
        with suppress(UnavailableError):
            await store.make_months(self._database, since=now, until=now + AHEAD)

    async def _ship_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), SHIP_S)
            self._wake.clear()
            if self._spool.is_empty:
                self._is_spooling = False
                if not self._spool.finds_others():
                    continue
            try:
                shipped = await self.ship()
            except Exception as error:  # noqa: BLE001 - the shipper outlives whatever PostgreSQL or the disk do
                _log.warning("fraud_spool_waits", bytes=self._spool.held_bytes, why=str(error))
                await asyncio.sleep(SHIP_S)
                continue
            if shipped:
                _log.info("fraud_spool_shipped", decisions=shipped)
            if self._took_s <= self._options.wait_s:
                self._is_spooling = (
                    False  # also if something came meanwhile: under load there is always something
                )
            if not self._spool.is_empty:
                self._wake.set()

    async def _ship_some(self, rows: Sequence[Mapping[str, Any]]) -> int:
        began = time.monotonic()
        try:
            shipped = await store.ship(self._database, rows)
            self._took_s = time.monotonic() - began
            return shipped
        except DecisionUnwritable:
            if len(rows) > 1:
                middle = len(rows) // 2
                return await self._ship_some(rows[:middle]) + await self._ship_some(rows[middle:])
            self._spool.set_aside(orjson.dumps(rows[0]))
            self._refused.inc()
            _log.exception("fraud_decision_refused", decision_id=rows[0]["id"])
            return 0

    async def _write(self, decisions: Sequence[StoredDecision]) -> Sequence[Decided | None]:
        return await store.write(self._database, decisions)

    def _turn_to_spool(self, error: Exception) -> None:
        if not self._is_spooling:
            self._is_spooling = True
            _log.warning("fraud_audit_to_spool", why=str(error) or type(error).__name__)

    async def _keep_in_spool(self, decision: StoredDecision) -> bytes:
        spooled = with_spooled(decision)
        payment_id = decision.payment.payment_id
        async with self._one_at_a_time(payment_id):
            if (known := self._spooled.get(payment_id)) is not None:
                return _same(known, decision.digest)
            await self._spool.append(orjson.dumps(store.row_of(spooled)))
            self._spooled[payment_id] = Decided(spooled.digest, spooled.id, spooled.answer)
        self._counted.labels("spool").inc()
        self._wake.set()
        return spooled.answer

    @asynccontextmanager
    async def _one_at_a_time(self, payment_id: str) -> AsyncIterator[None]:
        """Let decisions of one payment come after each other."""
        lock = self._appending.setdefault(payment_id, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._appending.pop(payment_id, None)

    def _remember(self, payment_id: str, kept: Decided) -> None:
        self._recent[payment_id] = kept
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    def _remember_spooled(self, part: Part) -> None:
        for record in part.records:
            row = orjson.loads(record)
            kept = _of_row(row)
            self._spooled[row["payment_id"]] = replace(kept, answer=_saying_spooled(kept.answer))


def with_spooled(decision: StoredDecision) -> StoredDecision:
    """Return a decision whose answer says that it is in the spool; what is recorded says it beside, not in it.

    It is true as long as it waits there: afterwards the same payment gets the recorded answer.
    """
    return replace(
        decision,
        degraded=(*decision.degraded, Degraded.AUDIT_SPOOLED.value),
        answer=_saying_spooled(decision.answer),
    )


def _saying_spooled(answer: bytes) -> bytes:
    told: dict[str, Any] = orjson.loads(answer)
    return orjson.dumps({**told, "degraded": [*told["degraded"], Degraded.AUDIT_SPOOLED]})


def _of_row(row: Mapping[str, Any]) -> Decided:
    answer = orjson.dumps(orjson.loads(row["record"])["answer"])
    return Decided(bytes.fromhex(row["hex"]), row["id"], answer)


def _same(found: Decided, digest: bytes) -> bytes:
    if found.digest != digest:
        raise PaymentIdReused("another payment was scored under this id", decision_id=found.id)
    return found.answer
