"""What consuming events is to the rest of the system, whichever bus carries them. No bus and no SQL here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from faregate.infra.database import Connection, Database
from faregate.kernel.event import Event

PARTITIONS = 16
"""Into so many the log is divided by key: more members of a group than that would have nothing to do."""

Handler = Callable[[Connection, Sequence[Event]], Awaitable[None]]
"""Handles a batch of events inside one transaction: its effect and the group's inbox commit together.

It must not commit, and must not act outside the connection. When it raises, everything rolls back and the
events come again. An event appended on behalf of one that is handled passes that one's `traceparent` on.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """A group's name, which begins with its context, the event types that it handles, and its handler.

    An urgent one tells of decisions: it must not wait behind those that come for every step of every application.
    """

    name: str
    types: tuple[str, ...]
    handler: Handler
    is_urgent: bool = False


class Subscription(Protocol):
    """One member of a consumer group. Any number may run, in any number of processes."""

    async def run(self, stop: asyncio.Event) -> None:
        """Hand events to the handler until `stop` is set; then finish the batch at hand and leave the group.

        Errors of the handler are logged with the event's id and tried again, for ever, with a growing pause;
        only the partition of that event waits. An outage of the database or the bus is waited out.
        """
        ...


class EventSource(Protocol):
    """Where events come from. `tests/contract/test_eventlog_contract.py` says what each must do."""

    def subscribe(
        self,
        *,
        database: Database,
        group: str,
        types: Collection[str] | None,
        handler: Handler,
        batch_max: int = 500,
    ) -> Subscription:
        """Make a member of a group, that begins at the start of the log and handles each event once only.

        `types` are the event types that the group handles (None: all). Events of one `aggregate_id` reach the
        handler in the order in which they were appended, also while members come and go. The handler's
        transaction is one of `database`. A group that takes up another type gets it from where it stands;
        a replay brings the earlier ones, and those that members of an older version passed over.
        """
        ...
