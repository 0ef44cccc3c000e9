"""How much waits in the journal, for whoever decides how many workers there are. What is done with it: `pool`."""

from __future__ import annotations

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)


async def due_intents(conn: Connection) -> int:
    """Count the intents of all owners that are due and held by nobody. Needs a connection as `faregate_gateway`."""
    row = await (await conn.execute(_QUERIES["due"])).fetchone()
    return int(row["intents"]) if row else 0
