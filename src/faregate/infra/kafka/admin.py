"""Looks after groups that read Kafka: lets them read again from a place of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

import structlog
from confluent_kafka import Consumer, TopicPartition

from faregate.infra.database import Database
from faregate.infra.eventlog.admin import ConsumerGroupUnknown, forget_handled
from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, kafka_errors
from faregate.infra.kafka.reader import Place
from faregate.infra.kafka.records import headers_of, seq_of
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
        offsets = await asyncio.to_thread(offsets_of, address, places, from_seq)
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


def offsets_of(address: KafkaAddress, places: Sequence[Place], seq: int) -> Mapping[Place, int]:
    """Return the first offset of each partition whose event stands at a place of the log or after it. Blocks.

    The place grows along each partition, so it is searched for by halving, in all of them at once.
    """
    reader = Consumer(
        address.config(
            group_id=f"faregate.look.{uuid4().hex}",
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_wait_max_ms=10,
        )
    )
    try:
        with kafka_errors():
            bounds = {
                place: reader.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_S)
                for place in places
            }
            while open_ := {place: b for place, b in bounds.items() if b[0] < b[1]}:
                middles = {place: (low + high) // 2 for place, (low, high) in open_.items()}
                for place, found in _next_of(reader, middles).items():
                    low, high = bounds[place]
                    is_left = found is None or found[1] >= seq
                    bounds[place] = (
                        (low, middles[place]) if is_left or found is None else (found[0] + 1, high)
                    )
            return {place: low for place, (low, _) in bounds.items()}
    finally:
        reader.close()


def _next_of(reader: Consumer, offsets: Mapping[Place, int]) -> dict[Place, tuple[int, int] | None]:
    """Return offset and place in the log of the first event of each partition from an offset on; None at the end."""
    reader.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
    found: dict[Place, tuple[int, int] | None] = {}
    while found.keys() != offsets.keys():
        message = reader.poll(_TIMEOUT_S)
        if message is None:
            raise KafkaUnavailable("topics could not be read in time", retry_after_s=1.0)
        place = (message.topic() or "", message.partition() or 0)
        if place in found:
            continue
        if message.error() is not None:
            found[place] = None
        elif (
            seq := seq_of(headers_of(message.headers()))
        ) is not None:  # else somebody else's: look at the next
            found[place] = (message.offset() or 0, seq)
    return found
