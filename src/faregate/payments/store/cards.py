"""Cards, their limits and record, and the applications that wait for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import orjson
import psycopg

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.infra.security.blind_index import BlindDigest
from faregate.payments.contracts.cards import Card, CardRecordEntry, CardStatus, Limit, Spending
from faregate.payments.domain.cards import CardNotFound, CardNumberTaken

_Q = load_queries("faregate.payments.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a decision begins with."""

    policy_version: int
    card: Card | None
    spending: Spending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCard:
    """A card that is added."""

    token: str
    member_id: str
    application_id: str | None
    product: str
    limits: Sequence[Limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEntry:
    """An entry for a card's record."""

    card_token: str
    by: str
    act: str
    details: Mapping[str, Any] = field(default_factory=dict)


async def look(conn: Connection, wanted: Sequence[tuple[str | None, str]]) -> Sequence[Look]:
    """Return for each card and currency the card, what it spent, and which version of the policy counts now."""
    given = {"tokens": [token for token, _ in wanted], "currencies": [currency for _, currency in wanted]}
    cursor = await conn.execute(_Q["look"], given)
    return [
        Look(
            policy_version=row["policy_version"],
            card=None if row["token"] is None else _card(row),
            spending=_spending(row),
        )
        for row in await cursor.fetchall()
    ]


async def find(conn: Connection, candidates: Sequence[BlindDigest]) -> tuple[str, str] | None:
    """Return the token of the card whose number has one of these keyed hashes, and the key of that hash."""
    given = {"key_ids": [c.key_id for c in candidates], "digests": [c.digest for c in candidates]}
    row: Any = await (await conn.execute(_Q["find_card"], given)).fetchone()
    return None if row is None else (row["token"], row["number_key_id"])


async def rehash(conn: Connection, token: str, *, old_key_id: str, new: BlindDigest) -> None:
    """Keep a card's number under a newer key."""
    given = {"token": token, "old_key_id": old_key_id, "key_id": new.key_id, "digest": new.digest}
    await conn.execute(_Q["rehash_card"], given)


async def lock_limits(
    conn: Connection, wanted: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], tuple[Card, Spending | None]]:
    """Lock the limits of cards in currencies; return each with its card as it is now."""
    given = {"tokens": [token for token, _ in wanted], "currencies": [currency for _, currency in wanted]}
    await conn.execute(_Q["lock_limits"], given)
    cursor = await conn.execute(_Q["locked_limits"], given)
    return {
        (row["token"], row["wanted_currency"]): (_card(row), _spending(row))
        for row in await cursor.fetchall()
    }


async def save_spending(conn: Connection, spent: Mapping[tuple[str, str], tuple[date, int]]) -> None:
    """Keep what locked cards spent."""
    if spent:
        given = {
            "tokens": [token for token, _ in spent],
            "currencies": [currency for _, currency in spent],
            "days": [day for day, _ in spent.values()],
            "amounts": [amount for _, amount in spent.values()],
        }
        await conn.execute(_Q["save_spending"], given)


async def give_back(conn: Connection, token: str, currency: str, *, amount_minor: int, day: date) -> None:
    """Give a day's limit back what was not paid after all."""
    given = {"token": token, "currency": currency, "amount_minor": amount_minor, "day": day}
    await conn.execute(_Q["give_back_spending"], given)


async def card(conn: Connection, token: str, *, is_locked: bool = False) -> Card:
    """Return a card with its limits. Raises CardNotFound."""
    query = _Q["lock_card"] if is_locked else _Q["card"]
    row: Any = await (await conn.execute(query, {"token": token})).fetchone()
    if row is None:
        raise CardNotFound("there is no card of this token")
    [found] = await _with_limits(conn, [_card(row)])
    return found


async def cards_of(conn: Connection, member_id: str | None, *, limit: int) -> Sequence[Card]:
    """Return the cards of a member, of everybody if none is named."""
    cursor = await conn.execute(_Q["cards_of"], {"member_id": member_id, "limit": limit})
    return await _with_limits(conn, [_card(row) for row in await cursor.fetchall()])


async def paying_card(conn: Connection, member_id: str, currency: str) -> str | None:
    """Return the card with which a member pays in a currency, None if there is none."""
    given = {"member_id": member_id, "currency": currency}
    row: Any = await (await conn.execute(_Q["paying_card"], given)).fetchone()
    return None if row is None else str(row["token"])


async def insert_cards(conn: Connection, new: Sequence[IssuedCard], *, now: datetime) -> frozenset[str]:
    """Add cards with their limits; return the tokens of those that were added."""
    rows = [
        {
            "token": one.token,
            "member_id": one.member_id,
            "application_id": one.application_id,
            "product": one.product,
        }
        for one in new
    ]
    cursor = await conn.execute(_Q["insert_cards"], {"cards": orjson.dumps(rows).decode(), "now": now})
    added = frozenset(row["token"] for row in await cursor.fetchall())
    await _insert_limits(
        conn, [(one.token, limit) for one in new if one.token in added for limit in one.limits]
    )
    return added


async def set_limits(conn: Connection, token: str, limits: Sequence[Limit]) -> None:
    """Replace the limits of a locked card. What was spent today stays counted."""
    currencies = [limit.currency for limit in limits]
    await conn.execute(_Q["delete_other_limits"], {"token": token, "currencies": currencies})
    await _insert_limits(conn, [(token, limit) for limit in limits])


async def save_status(conn: Connection, token: str, status: CardStatus, *, now: datetime) -> None:
    """Keep a locked card's status."""
    await conn.execute(_Q["save_card_status"], {"token": token, "status": status.value, "now": now})


async def save_number(
    conn: Connection, token: str, digest: BlindDigest, *, last4: str, now: datetime
) -> None:
    """Keep a locked card's number as its keyed hash. Raises CardNumberTaken."""
    given = {"token": token, "key_id": digest.key_id, "digest": digest.digest, "last4": last4, "now": now}
    try:
        await conn.execute(_Q["save_card_number"], given)
    except psycopg.errors.UniqueViolation as error:
        raise CardNumberTaken("another card has this number") from error


async def insert_records(conn: Connection, entries: Sequence[CardEntry], *, now: datetime) -> None:
    """Note what was done to cards."""
    rows = [
        {"card_token": one.card_token, "by": one.by, "act": one.act, "details": one.details}
        for one in entries
    ]
    await conn.execute(_Q["insert_card_records"], {"entries": orjson.dumps(rows).decode(), "now": now})


async def record_of(conn: Connection, token: str) -> Sequence[CardRecordEntry]:
    """Return what was done to a card, oldest first."""
    cursor = await conn.execute(_Q["card_record"], {"token": token})
    return [CardRecordEntry(**row) for row in await cursor.fetchall()]


async def insert_issuances(
    conn: Connection, traceparents: Mapping[str, str | None], *, now: datetime
) -> None:
    """Note approved applications, which wait for their card."""
    given = {"application_ids": list(traceparents), "traceparents": list(traceparents.values()), "now": now}
    await conn.execute(_Q["insert_issuances"], given)


async def waiting_issuances(conn: Connection, *, now: datetime, limit: int) -> Mapping[str, str | None]:
    """Return applications that wait for their card and are due, locked, with the trace of each."""
    cursor = await conn.execute(_Q["waiting_issuances"], {"now": now, "limit": limit})
    return {row["application_id"]: row["traceparent"] for row in await cursor.fetchall()}


async def postpone_issuances(conn: Connection, application_ids: Sequence[str], *, now: datetime) -> None:
    """Let applications wait on, the longer the longer they did."""
    await conn.execute(_Q["postpone_issuances"], {"application_ids": list(application_ids), "now": now})


async def drop_issuances(conn: Connection, application_ids: Sequence[str]) -> None:
    """Forget applications that are not approved any more."""
    await conn.execute(_Q["drop_issuances"], {"application_ids": list(application_ids)})


async def save_issuances(conn: Connection, application_ids: Sequence[str]) -> None:
    """Note that applications have their card."""
    await conn.execute(_Q["save_issuances"], {"application_ids": list(application_ids)})


async def _insert_limits(conn: Connection, limits: Sequence[tuple[str, Limit]]) -> None:
    rows = [
        {
            "card_token": token,
            "currency": limit.currency,
            "transaction_minor_max": limit.transaction_minor_max,
            "day_minor_max": limit.day_minor_max,
        }
        for token, limit in limits
    ]
    await conn.execute(_Q["insert_limits"], {"limits": orjson.dumps(rows).decode()})


async def _with_limits(conn: Connection, cards: Sequence[Card]) -> list[Card]:
    cursor = await conn.execute(_Q["limits_of"], {"tokens": [card.token for card in cards]})
    limits: dict[str, list[Limit]] = {}
    for row in await cursor.fetchall():
        limits.setdefault(row["card_token"], []).append(_limit(row, row["currency"]))
    return [replace(card, limits=tuple(limits.get(card.token, ()))) for card in cards]


def _card(row: Any) -> Card:
    return Card(
        token=row["token"],
        member_id=row["member_id"],
        application_id=row["application_id"],
        product=row["product"],
        status=CardStatus(row["status"]),
        last4=row["last4"],
        issued_at=row["issued_at"],
        updated_at=row["updated_at"],
    )


def _spending(row: Any) -> Spending | None:
    if row["limit_currency"] is None:
        return None
    return Spending(
        limit=_limit(row, row["limit_currency"]), spent_on=row["spent_on"], spent_minor=row["spent_minor"]
    )


def _limit(row: Any, currency: str) -> Limit:
    return Limit(
        currency=currency,
        transaction_minor_max=row["transaction_minor_max"],
        day_minor_max=row["day_minor_max"],
    )
