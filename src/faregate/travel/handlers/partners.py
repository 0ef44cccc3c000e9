"""What the gateway's pools ask of travel: what to send for a step, and what to do with what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from faregate.gateway.contracts import ProviderRequest
from faregate.gateway.intent import Intent, Settled
from faregate.gateway.intent import Status as Settlement
from faregate.infra.database import Connection
from faregate.travel.domain.references import MAKES_A_BOOKING, read_request_id, redemption_of, step_of
from faregate.travel.domain.saga import OPEN, Action, StepState
from faregate.travel.handlers.saga import SagaDesk
from faregate.travel.store import redemptions as store
from faregate.travel.store.redemptions import Row

_STATES = {
    Settlement.DONE: StepState.DONE,
    Settlement.NOT_DONE: StepState.NOT_DONE,
    Settlement.UNKNOWN: StepState.UNKNOWN,
}


@dataclass(frozen=True, kw_only=True)
class PartnerHooks:
    """The owner of the requests to partners."""

    desk: SagaDesk

    async def requested(self, conn: Connection, intents: Sequence[Intent]) -> None:
        """Nothing is announced of further attempts: they are in the journal."""

    async def lock(self, conn: Connection, subject_ids: Collection[str]) -> None:
        """Lock redemptions in the order in which everybody does."""
        await store.lock(conn, [redemption_of(subject) for subject in subject_ids])

    async def settled(self, conn: Connection, results: Sequence[Settled]) -> None:
        """Take what became of steps, and wake their runs."""
        now = self.desk.tools.clock.now()
        rows = await store.lock(conn, [redemption_of(result.subject_id) for result in results])
        for result in results:
            row = rows[redemption_of(result.subject_id)]
            if _take(row, result, now=now):
                await self.desk.wake(conn, row)
        for row in rows.values():
            await store.save_last(conn, row, now=now)

    async def load_requests(
        self, conn: Connection, intents: Sequence[Intent]
    ) -> Mapping[str, ProviderRequest]:
        """Return what to send for each step. Travellers are decrypted here and kept nowhere."""
        rows = await store.read_many(conn, [redemption_of(intent.subject_id) for intent in intents])
        return {
            intent.provider_request_id: self._request(rows[redemption_of(intent.subject_id)], intent)
            for intent in intents
        }

    def seal(self, provider_request_id: str, raw: bytes) -> bytes:
        """Encrypt a partner's raw answer, bound to its request."""
        return self.desk.tools.seal_answer(provider_request_id, raw)

    def _request(self, row: Row, intent: Intent) -> ProviderRequest:
        leg, act, number = step_of(intent.subject_id)
        step = next(one for one in row.saga.of(Action(act.value), leg) if one.number == number)
        traveller = self.desk.tools.open(row.saga.id, row.traveller_encrypted)
        booking = row.saga.booking(leg) or {}
        return ProviderRequest(
            provider_request_id=intent.provider_request_id,
            subject={
                "act": act.value,
                "reference": read_request_id(intent.provider_request_id).booking,
                "offer_id": row.saga.leg(leg).offer_id,
                "booking_id": booking.get("booking_id"),
                "price_minor": step.asked["amount"],
                "penalty_minor": step.asked["amount"],
                "currency": row.currency,
                "traveller": {
                    "name": traveller.name,
                    "date_of_birth": traveller.date_of_birth and traveller.date_of_birth.isoformat(),
                },
            },
        )


def _take(row: Row, result: Settled, *, now: datetime) -> bool:
    """Write what became of a step into its saga; False when that was known. What is done stays done."""
    leg, act, number = step_of(result.subject_id)
    step = next(one for one in row.saga.of(Action(act.value), leg) if one.number == number)
    state = _STATES[result.status]
    if step.state not in OPEN or step.state is state:
        return False
    facts = dict(result.facts)
    if state is StepState.DONE and act in MAKES_A_BOOKING:
        facts["reference"] = read_request_id(result.provider_request_id).booking
    row.saga = row.saga.ended(step, state, at=now, facts=facts, reason=result.reason)
    return True
