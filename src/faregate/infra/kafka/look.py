"""Looks into topics as no group: reads one to its present end. Who consumes does not use this."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, kafka_errors, unavailable
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX

_TIMEOUT_S = 15.0
_BACK = 64


def read_all(
    address: KafkaAddress, topic: str, *, start: Callable[[int], int] = lambda _: OFFSET_BEGINNING
) -> Iterator[Message]:
    """Read a topic up to its present end, as no group; `start` gives the first offset of each partition."""
    reader = Consumer(
        address.config(
            group_id=f"faregate.look.{uuid4().hex}",
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_message_max_bytes=MESSAGE_BYTES_MAX,
        )
    )
    try:
        with kafka_errors():
            found = reader.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
            if found.error is not None:
                raise unavailable(KafkaException(found.error))
            left = set(found.partitions)
            reader.assign([TopicPartition(topic, number, start(number)) for number in left])
            while left:
                message = reader.poll(_TIMEOUT_S)
                if message is None:
                    raise KafkaUnavailable(f"{topic} could not be read in time", retry_after_s=1.0)
                error = message.error()
                if error is None:
                    yield message
                elif error.name() == "_PARTITION_EOF":
                    left.discard(message.partition())
                else:
                    raise unavailable(KafkaException(error))
    finally:
        reader.close()


def last_record(address: KafkaAddress, topic: str, *, is_wanted: Callable[[Message], bool]) -> bytes | None:
    """Return the last committed record that is wanted of a topic with one partition; None if it has none. Blocks.

    Raises KafkaUnavailable.
    """
    reader = Consumer(address.config(group_id=f"faregate.look.{uuid4().hex}", enable_auto_commit=False))
    try:
        with kafka_errors():
            low, high = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=_TIMEOUT_S)
    finally:
        reader.close()
    start, back = high, _BACK
    while start > low:  # marks of transactions stand between records: look farther back until there is one
        start = max(low, high - back)
        newest = deque(filter(is_wanted, read_all(address, topic, start=partial(_from, start))), maxlen=1)
        if newest:
            return newest[0].value() or b""
        back *= 8
    return None


def _from(offset: int, _: int) -> int:
    """Return where to begin in a partition, the same in each."""
    return offset
