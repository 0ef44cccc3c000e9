"""Payments, refunds, and the decisions that were made without a whole answer of the scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from faregate.infra.database import Connection, execute_last
from faregate.infra.queries import load_queries
from faregate.payments.contracts.payments import Attempt, Degraded, Payment, PaymentStatus
from faregate.payments.domain.lifecycle import PaymentNotFound, Standing

_Q = load_queries("faregate.payments.store")
_COLUMNS = tuple(Payment.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayment:
    """A payment that was decided."""

    id: str
    client_id: str
    attempt: Attempt
    status: PaymentStatus
    is_flagged: bool
    decision: Mapping[str, Any]
    decided_at: datetime
    expires_at: datetime

    def payment(self) -> Payment:
        """Return the payment as it stands when it is new."""
        attempt = self.attempt
        return Payment(
            id=self.id,
            client_id=self.client_id,
            card_token=attempt.card_token,
            member_id=attempt.member_id,
            amount_minor=attempt.amount_minor,
            currency=attempt.currency,
            merchant=attempt.merchant,
            merchant_category=attempt.merchant_category,
            channel=attempt.channel,
            country=attempt.country,
            occurred_at=attempt.occurred_at,
            status=self.status,
            captured_minor=0,
            refunded_minor=0,
            is_flagged=self.is_flagged,
            decision=self.decision,
            decided_at=self.decided_at,
            expires_at=self.expires_at,
            updated_at=self.decided_at,
        )


async def insert_payments(conn: Connection, new: Sequence[NewPayment]) -> None:
    """Add decided payments."""
    rows = [_row(one) for one in new]
    await conn.execute(_Q["insert_payments"], {"payments": orjson.dumps(rows).decode()})


async def known(conn: Connection, ids: Sequence[str]) -> frozenset[str]:
    """Return which of these payments there are."""
    cursor = await conn.execute(_Q["known_payments"], {"ids": list(ids)})
    return frozenset(row["id"] for row in await cursor.fetchall())


async def insert_degraded(conn: Connection, found: Sequence[Degraded]) -> None:
    """Keep decisions that were made without a whole answer of the scorer, at the end of the transaction."""
    if found:
        rows = [asdict(one) for one in found]
        await execute_last(conn, _Q["insert_degraded"], {"degraded": orjson.dumps(rows).decode()})


async def payment(
    conn: Connection, payment_id: str, *, client_id: str | None, is_locked: bool = False
) -> Payment:
    """Return a client's payment; any client's for None. Raises PaymentNotFound."""
    query = _Q["lock_payment"] if is_locked else _Q["payment"]
    row: Any = await (await conn.execute(query, {"id": payment_id, "client_id": client_id})).fetchone()
    if row is None:
        raise PaymentNotFound("there is no payment of this id")
    return _payment(row)


async def save_standing(conn: Connection, payment_id: str, standing: Standing, *, now: datetime) -> None:
    """Keep how a locked payment stands."""
    given = {
        "id": payment_id,
        "status": standing.status.value,
        "captured_minor": standing.captured_minor,
        "refunded_minor": standing.refunded_minor,
        "now": now,
    }
    await conn.execute(_Q["save_standing"], given)


async def insert_refund(
    conn: Connection, refund_id: str, payment_id: str, *, amount_minor: int, by: str, now: datetime
) -> None:
    """Keep what was given back."""
    given = {"id": refund_id, "payment_id": payment_id, "amount_minor": amount_minor, "by": by, "now": now}
    await conn.execute(_Q["insert_refund"], given)


async def expired(conn: Connection, *, now: datetime, limit: int) -> Sequence[Payment]:
    """Return authorisations whose time is over, locked."""
    cursor = await conn.execute(_Q["expired"], {"now": now, "limit": limit})
    return [_payment(row) for row in await cursor.fetchall()]


async def newest(
    conn: Connection, *, card_token: str | None, member_id: str | None, flagged: bool, limit: int
) -> Sequence[Payment]:
    """Return the newest payments, of one card or member, or only the flagged ones, if that is asked for."""
    given = {"card_token": card_token, "member_id": member_id, "flagged": flagged, "limit": limit}
    cursor = await conn.execute(_Q["newest_payments"], given)
    return [_payment(row) for row in await cursor.fetchall()]


async def degraded_since(conn: Connection, since: datetime, *, limit: int) -> Sequence[Degraded]:
    """Return decisions that were made without a whole answer of the scorer, oldest first."""
    cursor = await conn.execute(_Q["degraded_since"], {"since": since, "limit": limit})
    return [Degraded(**row) for row in await cursor.fetchall()]


async def degraded_counts(conn: Connection, since: datetime) -> Sequence[Mapping[str, Any]]:
    """Return how many of them there are by cell, action, outcome and how the call ended."""
    cursor = await conn.execute(_Q["degraded_counts"], {"since": since})
    return [{**row, "amount_minor": int(row["amount_minor"])} for row in await cursor.fetchall()]


def standing_of(found: Payment) -> Standing:
    """Return how a payment stands."""
    return Standing(
        status=found.status,
        amount_minor=found.amount_minor,
        captured_minor=found.captured_minor,
        refunded_minor=found.refunded_minor,
        expires_at=found.expires_at,
    )


def _row(new: NewPayment) -> Mapping[str, Any]:
    attempt = {name: value for name, value in asdict(new.attempt).items() if name != "ip"}
    return {
        **attempt,
        "id": new.id,
        "client_id": new.client_id,
        "status": new.status.value,
        "is_flagged": new.is_flagged,
        "decision": new.decision,
        "decided_at": new.decided_at,
        "expires_at": new.expires_at,
    }


def _payment(row: Any) -> Payment:
    known_columns = {name: row[name] for name in _COLUMNS}
    return Payment(**{**known_columns, "status": PaymentStatus(row["status"])})
