"""Authorising a payment: hard knock-outs, the scorer within its hard time, the policy; written in batches.

Guards in this order: the key, knock-outs, the scorer's word or the policy's cell, and the knock-outs once more under
the locks of the card's limits. Locks in this order: idempotency scopes (only tried), limits by card and currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.infra.http.idempotency_store import (
    Attempt as KeyAttempt,
)
from faregate.infra.http.idempotency_store import (
    Fresh,
    InFlight,
    KeyScope,
    KeyState,
    StoredResponse,
    check_attempts,
    save_responses,
)
from faregate.kernel.errors import ConflictError
from faregate.payments.contracts.cards import Card, Spending
from faregate.payments.contracts.payments import Attempt, Degraded, PaymentStatus
from faregate.payments.contracts.policy import PolicyVersion
from faregate.payments.contracts.scoring import Asked, NoScore, Scorer
from faregate.payments.domain.cards import knock_out
from faregate.payments.domain.verdict import Verdict, decide, knocked_out
from faregate.payments.handlers.announce import decided_events
from faregate.payments.handlers.answers import created, refused
from faregate.payments.handlers.policies import PolicyBook
from faregate.payments.handlers.tools import EXPIRES_AFTER, Tools, payment_id_of
from faregate.payments.handlers.watch import Watch
from faregate.payments.store import cards as card_store
from faregate.payments.store import payments as store
from faregate.payments.store.cards import Look
from faregate.payments.store.payments import NewPayment

Answer = StoredResponse | KeyState
"""A new answer, or what is known of the key."""
_Spent = dict[tuple[str, str], tuple[date, int]]


class PaymentExists(ConflictError):
    """The key was used for another payment, longer ago than answers are kept. Use a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A payment on its way to be written, with what was decided of it before its card's limit was locked."""

    key: KeyAttempt
    payment_id: str
    attempt: Attempt
    version: PolicyVersion
    verdict: Verdict
    asked: Asked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a decision begins with, as of the moment at which it was looked."""

    look: Look
    version: PolicyVersion


@dataclass(frozen=True, kw_only=True)
class Looker:
    """Looks at batches of attempts: what is known of their keys, else their cards and the policy that counts."""

    database: Database
    book: PolicyBook = field(default_factory=PolicyBook)

    async def __call__(self, asked: Sequence[tuple[KeyAttempt, Attempt]]) -> list[Sight | KeyState]:
        """Return what was seen of each, in their order."""
        async with self.database.transaction() as conn:
            states = await check_attempts(conn, [key for key, _ in asked])
            looks = await card_store.look(conn, [(one.card_token, one.currency) for _, one in asked])
            return [
                Sight(look=look, version=await self.book.version(conn, look.policy_version))
                if isinstance(state, Fresh)
                else state
                for state, look in zip(states, looks, strict=True)
            ]


@dataclass(frozen=True, kw_only=True)
class Authoriser:
    """Decides payments."""

    tools: Tools
    scorer: Scorer
    watch: Watch
    looks: Coalescer[tuple[KeyAttempt, Attempt], Sight | KeyState]
    writes: Coalescer[Draft, Answer]
    _deciding: set[KeyScope] = field(default_factory=set)

    async def __call__(self, key: KeyAttempt, attempt: Attempt) -> Answer:
        """Answer an attempt once a key.

        The second of two at once is told so before anybody scores it: the scorer would take it for another payment.
        """
        if key.scope in self._deciding:
            return InFlight()
        self._deciding.add(key.scope)
        try:
            return await self._decide(key, attempt)
        finally:
            self._deciding.discard(key.scope)

    async def _decide(self, key: KeyAttempt, attempt: Attempt) -> Answer:
        seen = await self.looks.submit((key, attempt))
        if not isinstance(seen, Sight):
            return seen
        look, version = seen.look, seen.version
        attempt = _held_by(attempt, look.card)
        reason = _against(attempt, look.card, look.spending, version, self.tools.clock.now())
        payment_id = payment_id_of(key.scope.client_id, key.scope.key)
        asked = None if reason else await self.scorer.score(payment_id, attempt)
        verdict = (
            knocked_out(reason, version.policy) if reason else decide(attempt, _came(asked), version.policy)
        )
        self.watch.decided(verdict, asked)
        return await self.writes.submit(
            Draft(
                key=key,
                payment_id=payment_id,
                attempt=attempt,
                version=version,
                verdict=verdict,
                asked=asked,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes batches of decided payments: rows, spent limits, degraded decisions, events and answers, or nothing."""

    database: Database
    tools: Tools

    async def __call__(self, drafts: Sequence[Draft]) -> list[Answer]:
        """Write each draft and return the answers in their order."""
        async with self.database.transaction() as conn:
            states = await check_attempts(conn, [draft.key for draft in drafts])
            answers: list[Answer] = list(states)
            fresh = {n: drafts[n] for n, state in enumerate(states) if isinstance(state, Fresh)}
            if fresh:
                for n, answer in (await self._write(conn, fresh)).items():
                    answers[n] = answer
        return answers

    async def _write(self, conn: Connection, fresh: Mapping[int, Draft]) -> dict[int, StoredResponse]:
        now = self.tools.clock.now()
        known = await store.known(conn, [draft.payment_id for draft in fresh.values()])
        new = {n: draft for n, draft in fresh.items() if draft.payment_id not in known}
        payments = await self._settle(conn, new, now=now)
        await store.insert_payments(conn, list(payments.values()))
        degraded = [_degraded(new[n], payment) for n, payment in payments.items() if new[n].verdict.cell]
        await store.insert_degraded(conn, degraded)
        events = [
            self.tools.stamp(event, now=now)
            for payment in payments.values()
            for event in decided_events(payment, now=now)
        ]
        await append(conn, events)
        exists = refused(PaymentExists("this Idempotency-Key was used for another payment: send a new one"))
        answers = {n: created(payments[n]) if n in payments else exists for n in fresh}
        await save_responses(conn, [(fresh[n].key, answer) for n, answer in answers.items()], now=now)
        return answers

    async def _settle(
        self, conn: Connection, new: Mapping[int, Draft], *, now: datetime
    ) -> dict[int, NewPayment]:
        """Look at each card once more under the locks of its limit, one draft after the other."""
        wanted = [
            (draft.attempt.card_token, draft.attempt.currency)
            for draft in new.values()
            if draft.attempt.card_token is not None and not draft.verdict.is_declined
        ]
        locked = await card_store.lock_limits(conn, wanted) if wanted else {}
        spent: _Spent = {}
        payments = {n: self._payment(draft, locked, spent, now=now) for n, draft in new.items()}
        await card_store.save_spending(conn, spent)
        return payments

    def _payment(
        self,
        draft: Draft,
        locked: Mapping[tuple[str, str], tuple[Card, Spending | None]],
        spent: _Spent,
        *,
        now: datetime,
    ) -> NewPayment:
        attempt, verdict, day = draft.attempt, draft.verdict, now.date()
        if not verdict.is_declined and attempt.card_token is not None:
            place = (attempt.card_token, attempt.currency)
            card, spending = locked[place]
            if spending is not None and place in spent:
                spending = replace(spending, spent_on=spent[place][0], spent_minor=spent[place][1])
            reason = _against(attempt, card, spending, draft.version, now)
            if reason is not None:
                verdict = replace(knocked_out(reason, draft.version.policy), missing=verdict.missing)
            elif spending is not None:
                spent[place] = (day, spending.spent_at(day) + attempt.amount_minor)
        return NewPayment(
            id=draft.payment_id,
            client_id=draft.key.scope.client_id,
            attempt=attempt,
            status=PaymentStatus.DECLINED if verdict.is_declined else PaymentStatus.AUTHORISED,
            is_flagged=verdict.is_flagged,
            decision=_decision(draft, verdict),
            decided_at=now,
            expires_at=now + EXPIRES_AFTER,
        )


def _held_by(attempt: Attempt, card: Card | None) -> Attempt:
    if card is None:
        return replace(attempt, card_token=None)
    return replace(attempt, member_id=card.member_id)


def _against(
    attempt: Attempt, card: Card | None, spending: Spending | None, version: PolicyVersion, now: datetime
) -> Any:
    return knock_out(
        attempt,
        card=card,
        spending=spending,
        sanctioned=version.policy.sanctioned_countries,
        day=now.date(),
    )


def _came(asked: Asked | None) -> Any:
    return NoScore("not_asked") if asked is None else asked.came


def _decision(draft: Draft, verdict: Verdict) -> Mapping[str, Any]:
    """Return what the payment's decision was based on."""
    asked = draft.asked
    score = None if asked is None or isinstance(asked.came, NoScore) else asked.came
    return {
        "reasons": [asdict(reason) for reason in verdict.reasons],
        "message": verdict.message,
        "degraded": list(verdict.missing),
        "policy": {"version": draft.version.version, "cell": verdict.cell},
        "scored": None
        if score is None
        else {
            "decision_id": score.decision_id,
            "action": score.action.value,
            "score": score.score,
            "ruleset": score.ruleset,
            "model": score.model,
            "features": score.features,
        },
    }


def _degraded(draft: Draft, payment: NewPayment) -> Degraded:
    attempt, verdict, asked = draft.attempt, draft.verdict, draft.asked
    if asked is None or verdict.cell is None:
        raise ValueError("a decision without a cell is not degraded")
    return Degraded(
        payment_id=draft.payment_id,
        at=payment.decided_at,
        states=[state.value for state in verdict.states],
        missing=list(verdict.missing),
        why=asked.came.why if isinstance(asked.came, NoScore) else None,
        waited_us=asked.waited_us,
        policy_version=draft.version.version,
        cell=verdict.cell,
        action=verdict.action.value,
        outcome=payment.status.value,
        is_flagged=payment.is_flagged,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        merchant_category=attempt.merchant_category,
        channel=attempt.channel.value,
    )
