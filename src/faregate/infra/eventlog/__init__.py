"""The event log: append in your own transaction, consume at least once in and exactly once in effect.

    append ──> eventlog.outbox ──> Sequencer ──> eventlog.event ──> EventSource.subscribe(...)

Appending always belongs to the database, since it shares the transaction of the fact. Consuming is a port
(`EventSource`): `PostgresEventSource` reads the log itself, another bus fills the same port. Old events move in
segments from PostgreSQL to cold storage (`archive`, imported by itself: it loads Parquet); `history` reads both. What
an event means does not belong here: `faregate.events` says that.
"""

from faregate.infra.eventlog.admin import (
    GroupLag,
    ReplayPlaceUnknown,
    forget_group,
    lag,
    newest,
    prune_inbox,
    replay,
    require_group,
    skip,
    unsequenced,
)
from faregate.infra.eventlog.append import append
from faregate.infra.eventlog.caught_up import CaughtUp, ConsumersBehind
from faregate.infra.eventlog.consumer import Consumer, LeaseLost
from faregate.infra.eventlog.envelope import cloudevent
from faregate.infra.eventlog.history import history, place_before
from faregate.infra.eventlog.limits import EVENT_BYTES_MAX, EventNameInvalid, EventTooLarge
from faregate.infra.eventlog.listener import Listener
from faregate.infra.eventlog.port import PARTITIONS, ConsumerGroup, EventSource, Handler, Subscription
from faregate.infra.eventlog.segments import Hot, Segment, hot, open_segment_ahead
from faregate.infra.eventlog.sequencer import Sequencer
from faregate.infra.eventlog.source import PostgresEventSource

__all__ = [
    "EVENT_BYTES_MAX",
    "PARTITIONS",
    "CaughtUp",
    "Consumer",
    "ConsumerGroup",
    "ConsumersBehind",
    "EventNameInvalid",
    "EventSource",
    "EventTooLarge",
    "GroupLag",
    "Handler",
    "Hot",
    "LeaseLost",
    "Listener",
    "PostgresEventSource",
    "ReplayPlaceUnknown",
    "Segment",
    "Sequencer",
    "Subscription",
    "append",
    "cloudevent",
    "forget_group",
    "history",
    "hot",
    "lag",
    "newest",
    "open_segment_ahead",
    "place_before",
    "prune_inbox",
    "replay",
    "require_group",
    "skip",
    "unsequenced",
]
