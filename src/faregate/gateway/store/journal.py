"""Runs the journal's SQL and turns rows into frozen data. What to write is decided elsewhere (`settlement`).

Every function works inside the caller's transaction and sees only what the connection's role declared.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from faregate.gateway.intent import Intent, NewIntent, State, Status
from faregate.gateway.settlement import Change
from faregate.gateway.store.outcomes import outcome_from_json, outcome_to_json
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import NotFoundError
from faregate.kernel.outcome import Outcome

_QUERIES = load_queries(__package__)


class ProviderRequestNotFound(NotFoundError):
    """No request with this id was ever declared at this provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much may be claimed: to be sent, to be answered otherwise than by sending, and to be asked about."""

    sends: int
    diverts: int = 0
    looks: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """Intents that this process holds until the lease ends; `read_at` is the database's time of the claim."""

    intents: tuple[Intent, ...]
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One change to record. `token`: the claim under which it was made, None for a holder of the row lock."""

    change: Change
    token: UUID | None
    received_at: datetime
    response: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedCallback:
    """A callback and its intent, both locked until the transaction ends. `response` is sealed already."""

    ord: int
    outcome: Outcome
    response: bytes
    received_at: datetime
    read_at: datetime
    intent: Intent


async def declare(conn: Connection, intents: Sequence[NewIntent]) -> list[Intent]:
    """Declare intents in the caller's transaction and return the new ones.

    Left out: what was declared before, and a check of a subject that has a request which may be executed.
    """
    if not intents:
        return []
    cursor = await conn.execute(_QUERIES["declare"], {"intents": _jsonb([_declaration(i) for i in intents])})
    return [_intent(row) for row in await cursor.fetchall()]


async def declare_anew(conn: Connection, intents: Sequence[NewIntent]) -> list[Intent]:
    """Begin a new epoch of checks that were asked before, each with the next attempt, and return what was declared.

    Left out: a check of which an earlier request may still be executed, and one that was never asked. The caller
    has authorised the further pull and holds a lock of the subject.
    """
    cursor = await conn.execute(
        _QUERIES["declare_anew"], {"intents": _jsonb([_declaration(i) for i in intents])}
    )
    return [_intent(row) for row in await cursor.fetchall()]


async def claim(
    conn: Connection, *, provider: str, holder: str, token: UUID, lease_s: float, room: Room
) -> Claimed | None:
    """Claim due intents; None when nothing is due. Commit before anything is sent.

    Those to send are in state SENDING, those to divert and those whose budget is over still DECLARED.
    """
    given = {"provider": provider, "holder": holder, "token": token, "lease_s": lease_s}
    wanted = {"sends": room.sends, "diverts": room.diverts, "looks": room.looks}
    cursor = await conn.execute(_QUERIES["claim"], given | wanted)
    rows = await cursor.fetchall()
    if not rows:
        return None
    return Claimed(intents=tuple(_intent(row) for row in rows), read_at=rows[0]["read_at"])


async def due_providers(conn: Connection, wanted: Sequence[str]) -> list[str]:
    """Return which of these providers have an intent that is due, whoever has room for it."""
    cursor = await conn.execute(_QUERIES["due_providers"], {"wanted": list(wanted)})
    return [row["provider"] for row in await cursor.fetchall()]


async def look_again(conn: Connection, subject_ids: Sequence[str]) -> int:
    """Let requests be looked up once more whose outcome was not learnt in time; return how many there are."""
    row: Any = await (await conn.execute(_QUERIES["look_again"], {"subjects": list(subject_ids)})).fetchone()
    return int(row["reopened"])


async def record(conn: Connection, writes: Sequence[Write]) -> set[str]:
    """Write changes and return the ids of those that were still ours to write."""
    changes = _jsonb([_written(write) for write in writes])
    cursor = await conn.execute(_QUERIES["record"], {"changes": changes})
    return {row["provider_request_id"] for row in await cursor.fetchall()}


async def keep_callback(
    conn: Connection,
    *,
    provider: str,
    provider_request_id: str,
    dedupe_key: str,
    outcome: Outcome,
    response: bytes,
) -> bool:
    """Keep a callback; False for a repeat. ProviderRequestNotFound when no such request was declared."""
    cursor = await conn.execute(
        _QUERIES["accept_callback"],
        {
            "provider": provider,
            "provider_request_id": provider_request_id,
            "dedupe_key": dedupe_key,
            "outcome": _jsonb(outcome_to_json(outcome)),
            "response": response or None,
        },
    )
    row = await cursor.fetchone()
    if row is None or not row["known"]:
        raise ProviderRequestNotFound(f"there is no request {provider_request_id!r} at {provider!r}")
    return bool(row["fresh"])


async def claim_callbacks(conn: Connection, *, most: int) -> list[ClaimedCallback]:
    """Lock the oldest unprocessed callbacks with their intents until the end of the transaction."""
    cursor = await conn.execute(_QUERIES["claim_callbacks"], {"most": most})
    return [
        ClaimedCallback(
            ord=row["ord"],
            outcome=outcome_from_json(row["outcome"]),
            response=bytes(row["response"] or b""),
            received_at=row["received_at"],
            read_at=row["read_at"],
            intent=_intent(row),
        )
        for row in await cursor.fetchall()
    ]


async def close_callbacks(
    conn: Connection, *, results: Mapping[int, str], retry_s: float | None = None
) -> None:
    """Mark callbacks with what became of them; with `retry_s` they come up again after that time."""
    closed = [{"ord": ord_, "result": result, "retry_s": retry_s} for ord_, result in results.items()]
    await conn.execute(_QUERIES["close_callbacks"], {"closed": _jsonb(closed)})


async def history(conn: Connection, *, subject_id: str) -> list[dict[str, Any]]:
    """Return everything that was asked about one subject, oldest first, for people and audits."""
    cursor = await conn.execute(_QUERIES["history"], {"subject_id": subject_id})
    return await cursor.fetchall()


async def summary(conn: Connection) -> list[dict[str, Any]]:
    """Return a row for each provider and state: intents, sends, was_unknown, unsettled."""
    cursor = await conn.execute(_QUERIES["summary"])
    return await cursor.fetchall()


def _intent(row: Mapping[str, Any]) -> Intent:
    return Intent(
        provider_request_id=row["provider_request_id"],
        subject_id=row["subject_id"],
        check=row["check_name"],
        provider=row["provider"],
        attempt=row["attempt"],
        state=State(row["state"]),
        deadline=row["deadline"],
        next_at=row["next_at"],
        sends=row["sends"],
        looks=row["looks"],
        sent_end=row["sent_end"],
        doubtful=row["doubtful"],
        reason=row["reason"],
        settled=Status(row["settled"]) if row["settled"] else None,
        traceparent=row["traceparent"],
    )


def _declaration(intent: NewIntent) -> dict[str, Any]:
    return {
        "subject_id": intent.subject_id,
        "check_name": intent.check,
        "provider": intent.provider,
        "attempt": intent.attempt,
        "deadline": intent.deadline,
        "delay_s": intent.delay_s,
        "sends": intent.sends,
        "traceparent": intent.traceparent,
    }


def _written(write: Write) -> dict[str, Any]:
    intent = write.change.intent
    return {
        "provider_request_id": intent.provider_request_id,
        "token": write.token,
        "state": intent.state,
        "reason": intent.reason,
        "next_at": intent.next_at,
        "sends": intent.sends,
        "looks": intent.looks,
        "sent_end": intent.sent_end,
        "doubtful": intent.doubtful,
        "settled": intent.settled,
        "facts": dict(write.change.facts) or None,
        "response": base64.b64encode(write.response).decode() if write.response else None,
    }


def _jsonb(value: object) -> Jsonb:
    return Jsonb(value, dumps=orjson.dumps)
