"""Redemptions and their steps: what is read becomes a saga, and of a saga only what changed is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from faregate.infra.database import Connection, Statement, execute_last
from faregate.infra.queries import load_queries
from faregate.kernel.errors import NotFoundError
from faregate.travel.contracts.partners import TravelKind
from faregate.travel.domain.saga import Action, Leg, Saga, Status, Step, StepState

_Q = load_queries("faregate.travel.store")


class RedemptionNotFound(NotFoundError):
    """There is no redemption of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedLeg:
    """What a leg is beside its part in the saga."""

    kind: TravelKind
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedemptionAccount:
    """What a redemption came to, for whoever compares it with partners and ledger."""

    id: str
    status: Status
    was_booked: bool
    legs: int
    points_held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A redemption that begins."""

    saga: Saga
    member_id: str
    legs: Sequence[BookedLeg]
    traveller_encrypted: bytes
    currency: str
    traceparent: str | None
    now: datetime


@dataclass(slots=True, kw_only=True)
class Row:
    """A redemption as it is stored. `saga` is replaced as it goes on; `stored` is what it was."""

    saga: Saga
    stored: Saga
    member_id: str
    status: Status
    legs: Sequence[BookedLeg]
    traveller_encrypted: bytes
    currency: str
    needs: str | None
    runs: int
    signals: int
    traceparent: str | None
    created_at: datetime
    updated_at: datetime
    times: Sequence[tuple[datetime, datetime | None]]


async def insert(conn: Connection, new: NewRow) -> None:
    """Store a redemption that begins."""
    legs = [
        {**asdict(leg), "kind": of.kind.value, "title": of.title}
        for leg, of in zip(new.saga.legs, new.legs, strict=True)
    ]
    await conn.execute(
        _Q["insert_redemption"],
        {
            "id": new.saga.id,
            "member_id": new.member_id,
            "legs": Jsonb(legs),
            "traveller_encrypted": new.traveller_encrypted,
            "cash_minor": new.saga.cash_minor,
            "currency": new.currency,
            "deadline": new.saga.deadline,
            "traceparent": new.traceparent,
            "now": new.now,
        },
    )


async def lock(conn: Connection, ids: Sequence[str]) -> dict[str, Row]:
    """Lock redemptions, and return those that there are."""
    rows = await (await conn.execute(_Q["lock"], {"ids": sorted(set(ids))})).fetchall()
    return {row["id"]: _row(row, row["steps"]) for row in rows}


async def lock_one(conn: Connection, redemption_id: str) -> Row:
    """Lock a redemption. Raises RedemptionNotFound."""
    found = await lock(conn, [redemption_id])
    if not found:
        raise RedemptionNotFound("there is no redemption of this id")
    return found[redemption_id]


async def read(conn: Connection, redemption_id: str) -> Row:
    """Return a redemption as it stands. Raises RedemptionNotFound."""
    found = await read_many(conn, [redemption_id])
    if not found:
        raise RedemptionNotFound("there is no redemption of this id")
    return found[redemption_id]


async def read_many(conn: Connection, ids: Collection[str]) -> dict[str, Row]:
    """Return redemptions as they stand, those that there are."""
    rows = await (await conn.execute(_Q["redemptions"], {"ids": sorted(set(ids))})).fetchall()
    return await _rows(conn, rows)


async def of_member(conn: Connection, member_id: str, *, before: str | None, limit: int) -> list[Row]:
    """Return a member's redemptions, the newest first."""
    given = {"member_id": member_id, "before": before, "limit": limit}
    rows = await (await conn.execute(_Q["of_member"], given)).fetchall()
    return list((await _rows(conn, rows)).values())


async def for_people(conn: Connection, *, limit: int) -> list[Row]:
    """Return the redemptions that wait for a person, those first that wait longest."""
    rows = await (await conn.execute(_Q["for_people"], {"limit": limit})).fetchall()
    return list((await _rows(conn, rows)).values())


async def under_way(conn: Connection) -> int:
    """Return how many redemptions have not ended."""
    row: Any = await (await conn.execute(_Q["under_way"])).fetchone()
    return int(row["redemptions"])


async def accounts(conn: Connection) -> dict[str, RedemptionAccount]:
    """Return what each redemption came to."""
    found = await (await conn.execute(_Q["accounts"])).fetchall()
    return {row["id"]: RedemptionAccount(**{**row, "status": Status(row["status"])}) for row in found}


async def sealed_after(conn: Connection, *, after_id: str, limit: int) -> list[tuple[str, bytes]]:
    """Return a page of encrypted travellers, by redemption."""
    found = await conn.execute(_Q["sealed_after"], {"after_id": after_id, "limit": limit})
    return [(row["id"], bytes(row["traveller_encrypted"])) for row in await found.fetchall()]


async def reseal(conn: Connection, redemption_id: str, sealed: bytes) -> None:
    """Replace an encrypted traveller."""
    await conn.execute(_Q["reseal"], {"id": redemption_id, "sealed": sealed})


async def save(conn: Connection, row: Row, *, now: datetime) -> None:
    """Write what changed of a locked redemption."""
    for query, given in _changes(row, now=now):
        await conn.execute(query, given)
    row.stored = row.saga


async def save_last(conn: Connection, row: Row, *, now: datetime) -> None:
    """Write it with the COMMIT: nobody may look at the redemption again in this transaction."""
    for query, given in _changes(row, now=now):
        await execute_last(conn, query, given)
    row.stored = row.saga


def _changes(row: Row, *, now: datetime) -> Sequence[Statement]:
    saga = row.saga
    known = row.stored.steps
    changed = [
        _step_document(place, step)
        for place, step in enumerate(saga.steps)
        if place >= len(known) or known[place] != step
    ]
    redemption = {
        "id": saga.id,
        "status": row.status.value,
        "failing": saga.failing,
        "needs": row.needs,
        "is_cancelled": saga.is_cancelled,
        "is_booked": saga.is_booked,
        "runs": row.runs,
        "signals": row.signals,
        "now": now,
    }
    if not changed:
        return [(_Q["save"], redemption)]
    steps = {"id": saga.id, "steps": orjson.dumps(changed).decode(), "now": now}
    return [(_Q["save_steps"], steps), (_Q["save"], redemption)]


async def _rows(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, Row]:
    ids = [row["id"] for row in rows]
    found = await (await conn.execute(_Q["steps"], {"ids": ids})).fetchall() if ids else []
    steps = {row["id"]: row["steps"] for row in found}
    return {row["id"]: _row(row, steps.get(row["id"], ())) for row in rows}


def _row(row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Row:
    legs = [dict(leg) for leg in row["legs"]]
    beside = [BookedLeg(kind=TravelKind(leg.pop("kind")), title=leg.pop("title")) for leg in legs]
    saga = Saga(
        id=row["id"],
        legs=[Leg(**leg) for leg in legs],
        cash_minor=row["cash_minor"],
        deadline=row["deadline"],
        steps=tuple(_step(step) for step in steps),
        failing=row["failing"],
        is_cancelled=row["is_cancelled"],
        is_booked=row["is_booked"],
    )
    return Row(
        saga=saga,
        stored=saga,
        member_id=row["member_id"],
        status=Status(row["status"]),
        legs=beside,
        traveller_encrypted=bytes(row["traveller_encrypted"]),
        currency=row["currency"],
        needs=row["needs"],
        runs=row["runs"],
        signals=row["signals"],
        traceparent=row["traceparent"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        times=[(datetime.fromisoformat(step["began_at"]), _instant(step["ended_at"])) for step in steps],
    )


def _step(row: Mapping[str, Any]) -> Step:
    return Step(
        action=Action(row["action"]),
        leg=row["leg"],
        number=row["number"],
        state=StepState(row["state"]),
        open_until=datetime.fromisoformat(row["open_until"]),
        asked=row["asked"],
        facts=row["facts"],
        reason=row["reason"],
        ended_at=_instant(row["ended_at"]),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _step_document(place: int, step: Step) -> dict[str, Any]:
    return {
        "place": place,
        "action": step.action.value,
        "leg": step.leg,
        "number": step.number,
        "state": step.state.value,
        "open_until": step.open_until,
        "asked": dict(step.asked),
        "facts": dict(step.facts),
        "reason": step.reason,
        "ended_at": step.ended_at,
    }
