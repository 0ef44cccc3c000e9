"""Looks after groups that read Kafka: lets them read again from a place of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import structlog
from confluent_kafka import Consumer, TopicPartition

from faregate.infra.database import Database
from faregate.infra.eventlog.admin import ConsumerGroupUnknown, forget_handled
from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, kafka_errors
from faregate.infra.kafka.reader import Place
from faregate.infra.kafka.records import headers_of
from faregate.infra.kafka.topics import Topics
from faregate.infra.queries import load_queries

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)
_TIMEOUT_S = 15.0


async def replay_from_kafka(
    database: Database,
    *,
    address: KafkaAddress,
    topics: Topics,
    group: str,
    from_seq: int,
    effects_again: bool = False,
) -> None:
    """Make a group read again from an event on; see `infra.eventlog.replay`, whose words on the inbox hold.

    Members notice with the next batch of each partition: at once where events come, else when they are started anew.
    Raises ConsumerGroupUnknown, KafkaUnavailable.
    """
    async with database.transaction() as conn:
        # Positions first: that waits for a batch that is about to commit, and its inbox rows are seen below.
        rows = await (await conn.execute(_QUERIES["bus_places"], {"group": group})).fetchall()
        if not rows:
            raise ConsumerGroupUnknown(f"there is no consumer group {group!r}", group=group)
        places = [(row["topic"], row["partition"]) for row in rows if row["topic"] != topics.retries]
        finder = _Finder(address)
        offsets = await asyncio.to_thread(finder.offsets_of, places, from_seq)
        given = {
            "group": group,
            "from_seq": from_seq,
            "topics": [topic for topic, _ in places],
            "partitions": [number for _, number in places],
            "positions": [offsets[place] for place in places],
        }
        await conn.execute(_QUERIES["bus_set_back"], given)
        if effects_again:
            await forget_handled(conn, group=group, from_seq=from_seq)
    _log.info("kafka.replay", group=group, from_seq=from_seq, effects_again=effects_again)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds places of the log in topics. `seq` grows along each partition, so it is searched for by halving."""

    address: KafkaAddress

    def offsets_of(self, places: Sequence[Place], seq: int) -> Mapping[Place, int]:
        """Return the first offset of each partition whose event stands at `seq` or after it."""
        reader = Consumer(
            self.address.config(
                group_id=f"faregate.look.{uuid4().hex}",
                enable_auto_commit=False,
                isolation_level="read_committed",
                enable_partition_eof=True,
            )
        )
        try:
            with kafka_errors():
                return {place: _first_at(reader, place, seq) for place in places}
        finally:
            reader.close()


def _first_at(reader: Consumer, place: Place, seq: int) -> int:
    low, high = reader.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_S)
    while low < high:
        middle = (low + high) // 2
        found = _next_after(reader, place, middle)
        if found is None or found[1] >= seq:
            high = middle
        else:
            low = found[0] + 1
    return int(low)


def _next_after(reader: Consumer, place: Place, offset: int) -> tuple[int, int] | None:
    """Return offset and place in the log of the first event from an offset on; None if there is none."""
    reader.assign([TopicPartition(*place, offset)])
    message = reader.poll(_TIMEOUT_S)
    if message is None:
        raise KafkaUnavailable(f"{place[0]} could not be read in time", retry_after_s=1.0)
    if message.error() is not None:
        return None  # the end of the partition
    found = message.offset()
    return (int(found or 0), int(headers_of(message.headers())["seq"]))
