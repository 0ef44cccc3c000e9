"""The rows of decisions: runs `queries.sql`, and tells a store that is gone from a decision that it cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson
import psycopg

from faregate.fraud.contracts.scoring import DecisionFilter, ListedDecision, StoredDecision
from faregate.infra.database import Connection, Database
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError, UnavailableError

_Q = load_queries("faregate.fraud.store")
Result = TypeVar("Result")

_GONE: Final = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,
)


class DecisionStoreGone(UnavailableError):
    """PostgreSQL takes no decisions at the moment."""


class DecisionUnwritable(ConflictError):
    """PostgreSQL refuses this one decision."""


class _MonthMissing(DecisionUnwritable):
    """There is no table for the month of a decision yet."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What counts for a payment: the digest of its content, the decision, and the answer that was given."""

    digest: bytes
    id: str
    answer: bytes


@asynccontextmanager
async def _writing(database: Database) -> AsyncIterator[Connection]:
    try:
        async with database.transaction() as conn:
            yield conn
    except _GONE as error:
        raise DecisionStoreGone(f"PostgreSQL: {error.sqlstate or type(error).__name__}") from error
    except psycopg.errors.CheckViolation as error:
        raise _MonthMissing(f"PostgreSQL refused it: {error.sqlstate}") from error
    except psycopg.Error as error:
        raise DecisionUnwritable(f"PostgreSQL refused it: {error.sqlstate}") from error


async def write(database: Database, decisions: Sequence[StoredDecision]) -> list[Decided | None]:
    """Write decisions; for each return None, or what counts for its payment if another one does.

    Raises DecisionStoreGone, DecisionUnwritable and DatabaseUnavailable.
    """

    async def act() -> list[Decided | None]:
        async with _writing(database) as conn:
            rows = await _inserted(conn, [row_of(one) for one in decisions], were_answered=False)
            written = {row["id"] for row in rows}
            others = [one.payment.payment_id for one in decisions if one.id not in written]
            found = await decided(conn, others) if others else {}
        return [None if one.id in written else found[one.payment.payment_id] for one in decisions]

    return await _with_months(database, act, [one.decided_at for one in decisions])


async def ship(database: Database, decisions: Sequence[Mapping[str, Any]]) -> int:
    """Write what was answered before, each once; return how many were not there yet. Raises as `write`."""

    async def act() -> int:
        async with _writing(database) as conn:
            return len(await _inserted(conn, decisions, were_answered=True))

    return await _with_months(database, act, [datetime.fromisoformat(row["decided_at"]) for row in decisions])


def row_of(decision: StoredDecision) -> dict[str, Any]:
    """Return the row of a decision, which JSON can hold."""
    payment = decision.payment
    return {
        "id": decision.id,
        "decided_at": decision.decided_at.isoformat(),
        "payment_id": payment.payment_id,
        "hex": decision.digest.hex(),
        "action": decision.action,
        "score": decision.score,
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "card_token": payment.card_token,
        "degraded": ",".join(decision.degraded),
        "record": decision.record.decode(),
    }


async def decided(conn: Connection, payment_ids: Sequence[str]) -> dict[str, Decided]:
    """Return what counts for payments, by payment."""
    cursor = await conn.execute(_Q["decided"], {"payment_ids": list(payment_ids)})
    return {
        row["payment_id"]: Decided(row["digest"], row["id"], row["answer"].encode())
        for row in await cursor.fetchall()
    }


async def make_months(database: Database, *, since: datetime, until: datetime) -> None:
    """Make the tables of the months between two instants."""
    async with database.transaction() as conn:
        await conn.execute(_Q["make_months"], {"from": since, "until": until})


async def record_of(conn: Connection, *, decision_id: str) -> Mapping[str, Any] | None:
    """Return a decision by its id, None if there is none."""
    return await (await conn.execute(_Q["decision"], {"id": decision_id})).fetchone()


async def record_of_payment(conn: Connection, *, payment_id: str) -> Mapping[str, Any] | None:
    """Return the decision that counts for a payment, None if there is none."""
    cursor = await conn.execute(_Q["decision_of_payment"], {"payment_id": payment_id})
    return await cursor.fetchone()


async def page(conn: Connection, wanted: DecisionFilter) -> list[ListedDecision]:
    """Return a page of decisions, the newest first."""
    rows = await (await conn.execute(_Q["decisions"], asdict(wanted))).fetchall()
    return [ListedDecision(**{**row, "degraded": tuple(row["degraded"])}) for row in rows]


async def newest(conn: Connection, *, limit: int) -> list[str]:
    """Return the ids of the newest decisions, oldest first."""
    rows = await (await conn.execute(_Q["newest_decisions"], {"limit": limit})).fetchall()
    return [row["id"] for row in reversed(rows)]


async def records(conn: Connection, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return id and record of decisions."""
    rows = await (await conn.execute(_Q["records_of"], {"ids": list(ids)})).fetchall()
    return [(row["id"], row["record"]) for row in rows]


async def tally(conn: Connection) -> dict[str, Any]:
    """Count all decisions: how many, how many with a score, by action, and by what they went without."""
    rows = await (await conn.execute(_Q["tally"])).fetchall()
    by_action: Counter[str] = Counter()
    degraded: Counter[str] = Counter()
    for row in rows:
        by_action[row["action"]] += row["decisions"]
        for name in row["degraded"]:
            degraded[name] += row["decisions"]
    return {
        "decisions": by_action.total(),
        "scored": sum(row["scored"] for row in rows),
        "by_action": dict(by_action),
        "degraded": dict(degraded),
    }


async def _with_months(
    database: Database, act: Callable[[], Awaitable[Result]], instants: Sequence[datetime]
) -> Result:
    """Do it, and once more with the tables of these months if one was missing."""
    try:
        return await act()
    except _MonthMissing:
        await make_months(database, since=min(instants), until=max(instants))
        return await act()


async def _inserted(
    conn: Connection, rows: Sequence[Mapping[str, Any]], *, were_answered: bool
) -> Sequence[Mapping[str, Any]]:
    # One document and not an array a column: quoting records for an array took a quarter of the service's time.
    document = orjson.dumps([{**row, "record": orjson.Fragment(row["record"])} for row in rows])
    given = {"rows": document.decode(), "were_answered": were_answered}
    return await (await conn.execute(_Q["write_decisions"], given)).fetchall()
