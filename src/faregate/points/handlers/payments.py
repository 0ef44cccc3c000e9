"""Earning follows the life of a payment: authorised promises, captured gives, reversed withdraws, refunded takes back.

Every operation of the ledger has a key made of the payment's id: an event that comes again does nothing again, and one
that comes after a crash finds what was done. What was promised is the ratio of all that follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import structlog

from faregate.events.payments import (
    PaymentAuthorised,
    PaymentCaptured,
    PaymentEvent,
    PaymentRefunded,
    PaymentReversed,
)
from faregate.infra.database import Connection, Database
from faregate.points.contracts.ledger import (
    Answer,
    Cancel,
    Confirm,
    EarnPending,
    KeyReused,
    Operation,
    Request,
    Reverse,
)
from faregate.points.contracts.programme import Earner, Purchase
from faregate.points.domain.earning import EarnRates
from faregate.points.domain.programme import CapPeriod, Programme, earn_for, months_after, refund_points
from faregate.points.handlers.earning import EarnRules
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store import batch, reading
from faregate.points.store import programme as store
from faregate.points.store.programme import Payment

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEarning:
    """Lets payments earn: by `rules` their rates, by `programme` the rest.

    `day_of` tells the programme's day of an instant, `begins` when a day begins.
    """

    database: Database
    writer: LedgerWriter
    programme: Programme
    rules: EarnRules
    day_of: Callable[[datetime], date]
    begins: Callable[[date], datetime]

    async def follow(self, conn: Connection, events: Sequence[PaymentEvent]) -> None:
        """Follow events in their order, in batches of one event a payment; the payments change in the transaction."""
        known = await store.payments(conn, {event.payment_id for event in events})
        for round_ in _rounds(events):
            promised = [e for e in round_ if isinstance(e, PaymentAuthorised) and self._earns(e)]
            for on in sorted({self.day_of(event.authorised_at) for event in promised}):
                of_day = [event for event in promised if self.day_of(event.authorised_at) == on]
                await self._authorised(conn, known, of_day, on=on)
                await store.save_payments(conn, list(known.values()))  # which the next day's caps count
            await self._captured(known, [e for e in round_ if isinstance(e, PaymentCaptured)])
            await self._reversed(known, [e for e in round_ if isinstance(e, PaymentReversed)])
            await self._refunded(known, [e for e in round_ if isinstance(e, PaymentRefunded)])
        await store.save_payments(conn, list(known.values()))

    def _earns(self, event: PaymentAuthorised) -> bool:
        """Whether a payment may earn: it is a member's, and its amount is in the programme's currency."""
        if event.member_id is not None and event.currency != self.programme.currency:
            _log.info(
                "points.payment_in_another_currency", payment_id=event.payment_id, currency=event.currency
            )
        return event.member_id is not None and event.currency == self.programme.currency

    async def _authorised(
        self, conn: Connection, known: dict[str, Payment], events: Sequence[PaymentAuthorised], *, on: date
    ) -> None:
        fresh = [event for event in events if event.payment_id not in known]
        if not fresh:
            return
        async with (
            self.database.transaction() as own
        ):  # there before the ledger looks, by a connection of its own
            await batch.open_accounts(
                own, [str(event.member_id) for event in fresh], at=fresh[0].authorised_at
            )
        earners = await self._earners(conn, {str(event.member_id) for event in fresh}, on=on)
        rates = await self.rules.active_at(conn, [event.authorised_at for event in fresh])
        promises: list[EarnPending] = []
        for event in fresh:
            member_id = str(event.member_id)
            promise = self._promise(event, member_id, earners, rates=rates[event.authorised_at])
            known[event.payment_id] = Payment(
                payment_id=event.payment_id,
                member_id=member_id,
                amount_minor=event.amount_minor,
                earned=0 if promise is None else promise.amount,
                occurred_at=event.authorised_at,
                promoted=None if promise is None else promise.promoted,
            )
            if promise is not None:
                promises.append(promise)
            elif found := await batch.operation_of_key(conn, _promise_key(event.payment_id)):
                await _remember(conn, known[event.payment_id], found)
        for promise, answer in zip(promises, await self._write(conn, promises), strict=True):
            await _remember(conn, known[promise.reference], answer)

    async def _earners(self, conn: Connection, members: Collection[str], *, on: date) -> dict[str, Earner]:
        """Return who earns, with what was earned so far in all periods that caps speak of."""
        window = store.Window(
            day=self.begins(on),
            day_end=self.begins(on + timedelta(days=1)),
            month=self.begins(on.replace(day=1)),
            month_end=self.begins(months_after(on.replace(day=1), 1)),
        )
        lowest = self.programme.tiers[0].name
        earners = await store.earners(conn, members, window=window, lowest=lowest)
        capped = [one for one in self.programme.promotions if one.counts_on(on)]
        if not capped:
            return earners
        begins = min(
            [window.month.date(), *(one.begins for one in capped if one.cap_per is CapPeriod.PROMOTION)]
        )
        since = None if begins == date.min else self.begins(begins)
        names = [one.name for one in capped]
        given = await store.promoted(conn, members, names, window=window, since=since)
        return {
            member: replace(
                earner,
                promoted={
                    one.name: given[member, one.name][one.cap_per]
                    for one in capped
                    if (member, one.name) in given
                },
            )
            for member, earner in earners.items()
        }

    def _promise(
        self, event: PaymentAuthorised, member_id: str, earners: dict[str, Earner], *, rates: EarnRates
    ) -> EarnPending | None:
        """Return what a payment promises, None if nothing. It counts against the caps of the next ones."""
        earner = earners[member_id]
        purchase = Purchase(
            amount_minor=event.amount_minor,
            merchant_category=event.merchant_category,
            merchant=event.merchant,
            occurred_at=event.authorised_at,
        )
        on = self.day_of(event.authorised_at)
        quote = earn_for(purchase, earner, self.programme, rates=rates, on=on)
        earners[member_id] = Earner(
            tier=earner.tier,
            earned_today=earner.earned_today + quote.points,
            earned_this_month=earner.earned_this_month + quote.points,
            promoted=Counter(earner.promoted) + Counter(quote.promoted),
        )
        if not quote.points:
            return None
        return EarnPending(
            key=_promise_key(event.payment_id),
            by="payments",
            member_id=member_id,
            amount=quote.points,
            qualifying=quote.qualifying,
            expires_on=quote.expires_on,
            is_rolling=quote.active_until is not None,
            active_until=quote.active_until,
            reference=event.payment_id,
            earned_by=f"{quote.rules} {quote.version}",
            promoted=quote.promoted or None,
        )

    async def _captured(self, known: dict[str, Payment], events: Sequence[PaymentCaptured]) -> None:
        requests: list[Request] = []
        captured: list[Payment] = []
        for event in events:
            payment = known.get(event.payment_id)
            if payment is None or payment.captured_minor is not None:
                continue
            payment.captured_minor = min(event.amount_minor, payment.amount_minor)
            payment.confirmed = _share(payment, payment.captured_minor)
            if payment.promised_no is None:
                continue
            key = f"capture:{payment.payment_id}"
            if payment.confirmed:
                captured.append(payment)
                requests.append(
                    Confirm(key=key, by="payments", subject=payment.promised_no, amount=payment.confirmed)
                )
            else:
                await self._ask([Cancel(key=key, by="payments", subject=payment.promised_no)])
        for payment, answer in zip(captured, await self._ask(requests), strict=True):
            if isinstance(answer, Operation) and answer.refusal is None:
                payment.confirmed_no = answer.no
            else:  # its points would have expired by now
                payment.confirmed = 0
                await self._ask(
                    [
                        Cancel(
                            key=f"lapse:{payment.payment_id}", by="payments", subject=payment.promised_no or 0
                        )
                    ]
                )

    async def _reversed(self, known: dict[str, Payment], events: Sequence[PaymentReversed]) -> None:
        payments = [known[event.payment_id] for event in events if event.payment_id in known]
        withdrawn = [one for one in payments if one.promised_no is not None and one.captured_minor is None]
        await self._ask(
            [
                Cancel(key=f"reversal:{one.payment_id}", by="payments", subject=one.promised_no or 0)
                for one in withdrawn
            ]
        )
        for payment in withdrawn:
            payment.earned, payment.promoted = 0, None  # nor does it count against a cap

    async def _refunded(self, known: dict[str, Payment], events: Sequence[PaymentRefunded]) -> None:
        requests: list[Request] = []
        for event in events:
            payment = known.get(event.payment_id)
            if payment is None or payment.captured_minor is None or event.refund_id in payment.refunds:
                continue
            payment.refunds.append(event.refund_id)
            refunded = min(event.amount_minor, payment.captured_minor - payment.refunded_minor)
            points = refund_points(
                amount_minor=payment.captured_minor,
                points=payment.confirmed or 0,
                refunded_minor=payment.refunded_minor,
                refund_minor=refunded,
            )
            payment.refunded_minor += refunded
            if points and payment.confirmed_no is not None:
                requests.append(
                    Reverse(
                        key=f"refund:{event.payment_id}:{event.refund_id}",
                        by="payments",
                        subject=payment.confirmed_no,
                        amount=points,
                        reason="refunded",
                    )
                )
        await self._ask(requests)

    async def _write(self, conn: Connection, promises: Sequence[EarnPending]) -> list[Operation | None]:
        """Return what was promised, None for nothing: of a crash before, what was promised then."""
        found: list[Operation | None] = []
        for promise, answer in zip(promises, await self._ask(promises), strict=True):
            if isinstance(answer, KeyReused):
                found.append(await batch.operation_of_key(conn, promise.key))
            else:
                found.append(answer)
        return [one if one is not None and one.refusal is None else None for one in found]

    async def _ask(self, requests: Sequence[Request]) -> list[Answer]:
        answers = await self.writer.write(requests) if requests else []
        return [answer for answer in answers if answer is not None]


async def _remember(conn: Connection, payment: Payment, promise: Operation | None) -> None:
    """Let a payment know what it promised. Of a crash before it is what was promised then, whatever is by now."""
    payment.promised_no = None if promise is None else promise.no
    payment.earned = 0 if promise is None else promise.amount
    if promise is None:
        payment.promoted = None
    elif promise.is_replay:
        payment.promoted = (await reading.asked(conn, promise.no)).details.get("promoted")


def _promise_key(payment_id: str) -> str:
    return f"payment:{payment_id}"


def _share(payment: Payment, captured_minor: int) -> int:
    """Return the points of what was captured, at the ratio of what was promised."""
    return payment.earned * captured_minor // payment.amount_minor if payment.amount_minor else payment.earned


def _rounds(events: Iterable[PaymentEvent]) -> Iterator[list[PaymentEvent]]:
    """Split events so that each part has at most one of a payment, in the order in which they came."""
    rounds: list[list[PaymentEvent]] = []
    come: Counter[str] = Counter()
    for event in events:
        place = come[event.payment_id]
        come[event.payment_id] += 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(event)
    yield from rounds
