"""What each undecided application of a fault run waits for: what one wants to know first when a run fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faregate.infra.database import Database
from faregate.infra.embedded.postgres import SUPERUSER
from faregate.infra.queries import load_queries

_QUERIES = load_queries("faregate.bench")


async def undecided(database_url: str) -> Sequence[Mapping[str, Any]]:
    """Return every undecided application with its age, its run and those of its calls that brought nothing yet."""
    superuser = await Database.open(database_url, role=SUPERUSER, connections_max=1)
    try:
        async with superuser.connection() as conn:
            return await (await conn.execute(_QUERIES["stranded"])).fetchall()
    finally:
        await superuser.close()
