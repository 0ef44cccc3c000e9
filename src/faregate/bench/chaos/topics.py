"""What Kafka's topics hold after a fault run, read from the topics themselves and compared with the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from faregate.infra.kafka import KafkaAddress, Topics
from faregate.infra.kafka.look import read_all
from faregate.infra.kafka.records import event_of

ReadTopics = Callable[[], "TopicsFound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsFound:
    """How many events the topics hold, and how they differ from the log."""

    events: int
    missing: int
    doubled: int
    out_of_order: int


def compare_topics(address: KafkaAddress, topics: Topics, *, logged: Iterable[UUID]) -> TopicsFound:
    """Read every topic of events to its end. Blocks. Raises KafkaUnavailable."""
    seen: set[UUID] = set()
    doubled = out_of_order = 0
    last: dict[tuple[str, int], int] = {}
    for topic in topics.of_events:
        for message in read_all(address, topic):
            event = event_of(message.value() or b"")
            place = (topic, message.partition() or 0)
            doubled += event.id in seen
            out_of_order += event.seq <= last.get(place, 0)
            last[place] = max(event.seq, last.get(place, 0))
            seen.add(event.id)
    return TopicsFound(
        events=len(seen),
        missing=len(set(logged) - seen),
        doubled=doubled,
        out_of_order=out_of_order,
    )
