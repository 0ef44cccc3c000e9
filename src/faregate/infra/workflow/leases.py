"""A worker's right to work: a lease in our table, renewed while the event loop makes progress, and its fence.

What happens to the runs of a worker that lost its lease does not belong here.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta

from faregate.infra.database import Database
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)


class Lease:
    """One stay in the table of living workers. Its `number` is never given out again."""

    def __init__(self, *, database: Database, number: int, length_s: float) -> None:
        self.number = number
        self._database = database
        self._length_s = length_s

    @classmethod
    async def enter(cls, database: Database, *, length_s: float) -> Lease:
        """Join the living workers for `length_s` seconds from now, by the database's clock."""
        parameters = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "lease": timedelta(seconds=length_s),
        }
        async with database.connection() as conn:
            [row] = await (await conn.execute(_QUERIES["enter"], parameters)).fetchall()
        return cls(database=database, number=row["id"], length_s=length_s)

    async def renew(self) -> bool:
        """Renew, and declare dead whoever did not. False: this worker was itself declared dead, for good."""
        parameters = {"worker": self.number, "lease": timedelta(seconds=self._length_s)}
        async with self._database.connection() as conn:
            row = await (await conn.execute(_QUERIES["beat"], parameters)).fetchone()
        return row is not None and bool(row["alive"])

    async def leave(self) -> None:
        """End the stay and give this worker's runs back at once."""
        async with self._database.connection() as conn:
            await conn.execute(_QUERIES["leave"], {"worker": self.number})
