"""Whether a process that begins behind has caught up: until then others should do its work, and it is not ready."""

from __future__ import annotations

from faregate.infra.database import Database
from faregate.infra.eventlog.admin import lag
from faregate.infra.readiness import NotReady


class ConsumersBehind(NotReady):
    """A consumer group has not caught up since this process began."""


class CaughtUp:
    """Remembers that a group was at most `lag_s_max` seconds behind once; what it falls behind by later is load."""

    def __init__(self, *, database: Database, group: str, lag_s_max: float) -> None:
        self._database = database
        self._group = group
        self._lag_s_max = lag_s_max
        self._has_caught_up = False

    async def check(self) -> None:
        """Return if the group has caught up once. Raises ConsumersBehind."""
        if self._has_caught_up:
            return
        async with self._database.connection() as conn:
            found = await lag(conn, groups=[self._group])
        if not found:
            raise ConsumersBehind("no member has joined yet")
        if (seconds := found[0].seconds) > self._lag_s_max:
            raise ConsumersBehind(f"{seconds:,.0f} s behind, more than {self._lag_s_max:g}")
        self._has_caught_up = True
