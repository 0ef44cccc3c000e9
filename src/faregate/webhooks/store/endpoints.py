"""Endpoints and their sealed secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError, NotFoundError
from faregate.webhooks.contracts import Endpoint, EndpointChanges, EndpointDraft

SIGNING_MAX = 3
"""Secrets that sign one message: rotating often must not grow its header past what receivers accept."""

_Q = load_queries("faregate.webhooks.store")

ENDPOINTS_MAX = 20


class EndpointNotFound(NotFoundError):
    """There is no such endpoint, or it is another client's."""


class TooManyEndpoints(ConflictError):
    """The client has as many webhook endpoints as it may have. Delete one first."""


async def insert_endpoint(
    conn: Connection, draft: EndpointDraft, *, endpoint_id: str, client_id: str, now: datetime
) -> Endpoint:
    """Add an endpoint; raise TooManyEndpoints when the client has ENDPOINTS_MAX."""
    await conn.execute(_Q["lock_client"], {"client_id": client_id})
    cursor = await conn.execute(_Q["count_endpoints"], {"client_id": client_id})
    [row] = await cursor.fetchall()
    if row["endpoints"] >= ENDPOINTS_MAX:
        raise TooManyEndpoints(f"a client has at most {ENDPOINTS_MAX} webhook endpoints")
    given = {
        "id": endpoint_id,
        "client_id": client_id,
        "url": draft.url,
        "event_types": sorted(set(draft.event_types)),
        "description": draft.description,
        "now": now,
    }
    [row] = await (await conn.execute(_Q["insert_endpoint"], given)).fetchall()
    return Endpoint(**row)


async def endpoints_of(conn: Connection, *, client_id: str | None) -> Sequence[Endpoint]:
    """Return the endpoints of a client (None: of all), oldest first."""
    rows = await (await conn.execute(_Q["endpoints"], {"client_id": client_id})).fetchall()
    return [Endpoint(**row) for row in rows]


async def endpoint_of(conn: Connection, endpoint_id: str, *, client_id: str | None) -> Endpoint:
    """Return an endpoint. Raises EndpointNotFound, also for another client's."""
    return await _one(conn, "endpoint", endpoint_id, client_id=client_id)


async def lock_endpoint(conn: Connection, endpoint_id: str, *, client_id: str | None) -> Endpoint:
    """Return an endpoint, locked until the transaction ends. Raises EndpointNotFound, also for another client's."""
    return await _one(conn, "lock_endpoint", endpoint_id, client_id=client_id)


async def _one(conn: Connection, query: str, endpoint_id: str, *, client_id: str | None) -> Endpoint:
    cursor = await conn.execute(_Q[query], {"id": endpoint_id, "client_id": client_id})
    if (row := await cursor.fetchone()) is None:
        raise EndpointNotFound(f"there is no webhook endpoint {endpoint_id}")
    return Endpoint(**row)


async def change_endpoint(
    conn: Connection, endpoint_id: str, changes: EndpointChanges, *, now: datetime
) -> Endpoint:
    """Apply the changes to a locked endpoint; what waits for it is given up when it is disabled."""
    types = changes.event_types
    given = {
        "id": endpoint_id,
        "url": changes.url,
        "event_types": None if types is None else sorted(set(types)),
        "description": changes.description,
        "enabled": changes.enabled,
        "now": now,
    }
    [row] = await (await conn.execute(_Q["change_endpoint"], given)).fetchall()
    if changes.enabled is False:
        await conn.execute(_Q["give_up_pending"], {"endpoint_ids": [endpoint_id], "now": now})
    return Endpoint(**row)


async def disable_endpoint(
    conn: Connection, endpoint_id: str, *, url: str, reason: str, now: datetime
) -> str | None:
    """Disable an endpoint that still stands at `url`, and give up what waits for it.

    Return its client, None if it was disabled already or has moved: what the old address did says nothing of the new.
    """
    given = {"id": endpoint_id, "url": url, "reason": reason, "now": now}
    cursor = await conn.execute(_Q["disable"], given)
    if (row := await cursor.fetchone()) is None:
        return None
    await conn.execute(_Q["give_up_pending"], {"endpoint_ids": [endpoint_id], "now": now})
    return str(row["client_id"])


async def delete_endpoint(conn: Connection, endpoint_id: str) -> None:
    """Remove an endpoint with its secrets and deliveries."""
    await conn.execute(_Q["delete_endpoint"], {"id": endpoint_id})


async def replace_secret(
    conn: Connection, *, endpoint_id: str, secret_id: str, sealed: bytes, ends_at: datetime, now: datetime
) -> None:
    """Let a new secret sign from now on; the others sign along until `ends_at`."""
    await conn.execute(_Q["end_secrets"], {"endpoint_id": endpoint_id, "ends_at": ends_at})
    given = {"id": secret_id, "endpoint_id": endpoint_id, "sealed": sealed, "now": now}
    await conn.execute(_Q["insert_secret"], given)


async def signing_secrets(
    conn: Connection, endpoint_ids: Sequence[str], *, now: datetime
) -> dict[str, list[tuple[str, bytes]]]:
    """Return the id and ciphertext of the secrets that sign for each endpoint, newest first, three at most."""
    given = {"endpoint_ids": list(endpoint_ids), "now": now}
    found: dict[str, list[tuple[str, bytes]]] = {endpoint_id: [] for endpoint_id in endpoint_ids}
    for row in await (await conn.execute(_Q["signing_secrets"], given)).fetchall():
        found[row["endpoint_id"]].append((row["id"], bytes(row["sealed"])))
    return {endpoint_id: secrets[:SIGNING_MAX] for endpoint_id, secrets in found.items()}


async def secrets_after(conn: Connection, after: str, *, limit: int) -> Sequence[tuple[str, bytes]]:
    """Return the next secrets in the order of their ids, sealed."""
    cursor = await conn.execute(_Q["secrets_after"], {"after": after, "limit": limit})
    return [(row["id"], bytes(row["sealed"])) for row in await cursor.fetchall()]


async def reseal_secret(conn: Connection, secret_id: str, *, was: bytes, sealed: bytes) -> None:
    """Replace a secret's ciphertext, unless another did meanwhile."""
    await conn.execute(_Q["reseal_secret"], {"id": secret_id, "was": was, "sealed": sealed})


async def prune_secrets(conn: Connection, *, before: datetime) -> None:
    """Forget the secrets that stopped signing before an instant."""
    await conn.execute(_Q["prune_secrets"], {"before": before})
