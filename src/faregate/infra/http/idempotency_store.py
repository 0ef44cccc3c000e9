"""What was answered under which idempotency key: checked and saved in batches, in the caller's transaction.

Any role of the application may use it. Answers are kept as they are, so they must hold no personal data. The
transaction must be READ COMMITTED (the default). The keys' meaning in HTTP stands in `idempotency`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

from faregate.infra.database import Connection
from faregate.infra.http.idempotency import RETENTION_DAYS
from faregate.infra.queries import load_queries
from faregate.kernel.errors import InvalidError

_queries = load_queries("faregate.infra.http")
_NEVER_STORED = frozenset({401, 403, 413, 415, 429})


class AnswerNotStorable(InvalidError):
    """An answer that does not end the request (401, 403, 413, 415, 429, 5xx) cannot be kept under its key."""


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What a key is unique in: the client, the method and the route template."""

    client_id: str
    method: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request under a key. `fingerprint` is 32 bytes."""

    scope: KeyScope
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer byte for byte, as it was first sent. The body is UTF-8."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.status in _NEVER_STORED or not 200 <= self.status < 500:
            raise AnswerNotStorable(f"an answer with status {self.status} is not kept")


@dataclass(frozen=True, slots=True)
class Fresh:
    """The key is new, and its scope locked until the transaction ends. Do the work and save the answer."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another transaction, or an earlier attempt of the same batch, works under this key now."""


@dataclass(frozen=True, slots=True)
class Reused:
    """The key is known with another fingerprint. Its answer is not given out."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The key is known with this fingerprint. This was the answer."""

    response: StoredResponse


KeyState = Fresh | InFlight | Reused | Replay
_WITHOUT_ANSWER: dict[str, KeyState] = {"fresh": Fresh(), "in_flight": InFlight(), "reused": Reused()}


async def check_attempts(connection: Connection, attempts: Sequence[Attempt]) -> list[KeyState]:
    """Say of each attempt, in order, whether it is new. Never waits for another transaction.

    Call it inside a transaction and save the answers of the fresh ones in the same one.
    """
    rows = [{**_scope_of(a), "fingerprint": a.fingerprint.hex()} for a in attempts]
    cursor = await connection.execute(_queries["check"], {"attempts": orjson.dumps(rows).decode()})
    return [
        _WITHOUT_ANSWER.get(row["outcome"])
        or Replay(
            StoredResponse(row["status"], row["body"].encode(), tuple((n, v) for n, v in row["headers"]))
        )
        for row in await cursor.fetchall()
    ]


async def save_responses(
    connection: Connection, finished: Sequence[tuple[Attempt, StoredResponse]], *, now: datetime
) -> None:
    """Keep the answers of attempts that were fresh in this transaction."""
    rows = [
        {
            **_scope_of(attempt),
            "fingerprint": attempt.fingerprint.hex(),
            "status": response.status,
            "headers": response.headers,
            "body": response.body.decode(),
        }
        for attempt, response in finished
    ]
    await connection.execute(_queries["save"], {"finished": orjson.dumps(rows).decode(), "now": now})


async def prune_keys(connection: Connection, *, now: datetime) -> int:
    """Forget the keys that are older than the published retention of 30 days; return how many."""
    older_than = now - timedelta(days=RETENTION_DAYS)
    cursor = await connection.execute(_queries["prune"], {"older_than": older_than})
    row = await cursor.fetchone()
    return int(row["pruned"]) if row else 0


def _scope_of(attempt: Attempt) -> dict[str, str]:
    scope = attempt.scope
    return {"client_id": scope.client_id, "method": scope.method, "route": scope.route, "key": scope.key}
