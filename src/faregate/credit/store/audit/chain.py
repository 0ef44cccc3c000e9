"""The audit chain's rows, and what was verified of it."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from faregate.credit.contracts.record import Verification
from faregate.infra.chain.store import ChainStore
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries(__package__)
ANCHOR_FILE = "audit-anchors.jsonl"
CHAIN = ChainStore(name="audit.sealer", queries=_Q, links_table="audit_link", sealer_table="audit_sealer")


async def insert_verification(conn: Connection, verification: Verification) -> None:
    """Remember what a verification found."""
    broken = None if verification.broken is None else Jsonb(dict(verification.broken))
    given = {"at": verification.at, "links": verification.links, "broken": broken}
    await conn.execute(_Q["insert_verification"], given)


async def last_verification(conn: Connection) -> Verification | None:
    """Return the newest verification, None if there was none."""
    row = await (await conn.execute(_Q["last_verification"])).fetchone()
    return Verification(**row) if row else None
