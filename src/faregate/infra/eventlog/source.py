"""The event source that reads the log in PostgreSQL directly. Another bus gets a module like this one."""

from __future__ import annotations

from collections.abc import Collection
from uuid import uuid4

from faregate.infra.database import Database
from faregate.infra.eventlog.consumer import RETRY_MAX_S, Consumer
from faregate.infra.eventlog.listener import Listener
from faregate.infra.eventlog.port import Handler


class PostgresEventSource:
    """Makes consumers that share one listener. See `EventSource` for what they promise.

    `lease_s`: how long a silent member keeps its partitions. `retry_max_s`: longest pause before a failed
    event is tried again.
    """

    def __init__(self, *, listener: Listener, lease_s: float = 5.0, retry_max_s: float = RETRY_MAX_S) -> None:
        self._listener = listener
        self._lease_s = lease_s
        self._retry_max_s = retry_max_s

    def subscribe(
        self,
        *,
        database: Database,
        group: str,
        types: Collection[str] | None,
        handler: Handler,
        batch_max: int = 500,
    ) -> Consumer:
        """Make a member of a group; several may run in one process."""
        return Consumer(
            database=database,
            listener=self._listener,
            group=group,
            member=uuid4().hex,
            types=types,
            handler=handler,
            batch_max=batch_max,
            lease_s=self._lease_s,
            retry_max_s=self._retry_max_s,
        )
