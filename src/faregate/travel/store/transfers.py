"""Transfers of points to partners, and the files that tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import NotFoundError
from faregate.travel.contracts.transfers import TransferStatus, TransferView

_Q = load_queries("faregate.travel.store")


class TransferNotFound(NotFoundError):
    """There is no transfer of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTransfer:
    """A transfer with the account at the partner still encrypted."""

    view: TransferView
    account_encrypted: bytes
    operation: int | None


async def insert(
    conn: Connection,
    *,
    id: str,  # noqa: A002 - the column's name
    member_id: str,
    partner: str,
    account_encrypted: bytes,
    points: int,
    now: datetime,
) -> None:
    """Store a transfer that is wanted."""
    given = {
        "id": id,
        "member_id": member_id,
        "partner": partner,
        "account_encrypted": account_encrypted,
        "points": points,
        "now": now,
    }
    await conn.execute(_Q["insert_transfer"], given)


async def read(conn: Connection, transfer_id: str) -> TransferView:
    """Return a transfer. Raises TransferNotFound."""
    row = await (await conn.execute(_Q["transfer"], {"id": transfer_id})).fetchone()
    if row is None:
        raise TransferNotFound("there is no transfer of this id")
    return _stored(row).view


async def to_move(conn: Connection, status: TransferStatus, *, limit: int) -> list[StoredTransfer]:
    """Lock transfers of a status that nobody else moves."""
    found = await conn.execute(_Q["transfers_to_move"], {"status": status.value, "limit": limit})
    return [_stored(row) for row in await found.fetchall()]


async def move(
    conn: Connection,
    transfer_id: str,
    *,
    had: TransferStatus,
    status: TransferStatus,
    now: datetime,
    points: int | None = None,
    units: int | None = None,
    operation: int | None = None,
    reason: str | None = None,
) -> bool:
    """Write what became of a transfer; False when it had another status by then."""
    given = {
        "id": transfer_id,
        "had": had.value,
        "status": status.value,
        "points": points,
        "units": units,
        "operation": operation,
        "reason": reason,
        "now": now,
    }
    return await (await conn.execute(_Q["move_transfer"], given)).fetchone() is not None


async def file(conn: Connection, ids: Sequence[str], *, name: str, now: datetime) -> None:
    """Put transfers into a file."""
    await conn.execute(_Q["file_transfers"], {"ids": list(ids), "file": name, "now": now})


async def next_file_no(conn: Connection) -> int:
    """Return the number of the next file."""
    row: Any = await (await conn.execute(_Q["transfer_file_no"])).fetchone()
    return int(row["no"])


async def files_without_answer(conn: Connection) -> dict[str, list[StoredTransfer]]:
    """Return the transfers of each file that has no answer yet."""
    files: dict[str, list[StoredTransfer]] = {}
    for row in await (await conn.execute(_Q["files_without_answer"])).fetchall():
        files.setdefault(row["file"], []).append(_stored(row))
    return files


async def of_file(conn: Connection, name: str) -> dict[str, StoredTransfer]:
    """Lock the transfers of a file that wait for an answer, by id."""
    rows = await (await conn.execute(_Q["transfers_of_file"], {"file": name})).fetchall()
    return {row["id"]: _stored(row) for row in rows}


async def sealed_accounts_after(conn: Connection, *, after_id: str, limit: int) -> list[tuple[str, bytes]]:
    """Return a page of encrypted accounts, by transfer."""
    given = {"after_id": after_id, "limit": limit}
    rows = await (await conn.execute(_Q["sealed_accounts_after"], given)).fetchall()
    return [(row["id"], bytes(row["account_encrypted"])) for row in rows]


async def reseal_account(conn: Connection, transfer_id: str, sealed: bytes) -> None:
    """Replace an encrypted account."""
    await conn.execute(_Q["reseal_account"], {"id": transfer_id, "sealed": sealed})


def _stored(row: Mapping[str, Any]) -> StoredTransfer:
    view = TransferView(
        id=row["id"],
        member_id=row["member_id"],
        partner=row["partner"],
        points=row["points"],
        units=row["units"],
        status=TransferStatus(row["status"]),
        file=row["file"],
        reason=row["reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    return StoredTransfer(
        view=view, account_encrypted=bytes(row["account_encrypted"]), operation=row["operation"]
    )
