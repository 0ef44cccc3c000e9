"""How much waits in the journal, for whoever decides how many workers there are. What is done with it: `pool`."""

from __future__ import annotations

from collections.abc import Collection

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)


async def due_intents(conn: Connection, *, held_back: Collection[str] = ()) -> int:
    """Count the intents of all owners that are due and held by nobody. Needs a connection as `faregate_gateway`.

    What is to be sent to providers that are `held_back` waits for them, and no worker more would help.
    """
    row = await (await conn.execute(_QUERIES["due"], {"held_back": list(held_back)})).fetchone()
    return int(row["intents"]) if row else 0
