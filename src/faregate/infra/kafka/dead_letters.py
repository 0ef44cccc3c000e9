"""What a group could not handle, kept in a topic: events, after so many attempts, that are given back to their group on
demand, and records of somebody else, which stay there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, kafka_errors, unavailable
from faregate.infra.kafka.look import read_all
from faregate.infra.kafka.records import ForeignRecord, event_of, headers_of
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX, Topics
from faregate.kernel.event import Event

_TIMEOUT_S = 15.0
_OURS_BYTES_MAX = 16 * 1024
_KEY_BYTES_MAX = _HEADERS_BYTES_MAX = 64 * 1024
_VALUE_BYTES_MAX = MESSAGE_BYTES_MAX - _KEY_BYTES_MAX - _HEADERS_BYTES_MAX - _OURS_BYTES_MAX
"""Only a record that is none of ours is longer; its beginning is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event, the group that could not handle it, and why. No event: the record was somebody else's.

    `origin` is topic, partition and offset of the record.
    """

    event: Event | None
    group: str
    error: str
    attempts: int
    at: datetime
    origin: str
    message: Message


class DeadLetters:
    """The dead letters of an installation. All calls block and raise KafkaUnavailable."""

    def __init__(self, *, address: KafkaAddress, topics: Topics) -> None:
        self._address = address
        self._topics = topics
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def put(self, message: Message, *, group: str, error: Exception, attempts: int) -> None:
        """Keep a record that a group gave up; return when Kafka has it."""
        headers = {
            **_headers_that_fit(message),
            "group": group.encode(),
            "error": f"{type(error).__name__}: {error}"[:500].encode(),
            "attempts": str(attempts).encode(),
            "origin": f"{message.topic()}/{message.partition()}/{message.offset()}".encode(),
        }
        self._send(self._topics.dead_letters, message, headers)

    def all(self, *, group: str | None = None) -> Iterator[DeadLetter]:
        """Return what is kept, oldest first, of one group if one is given."""
        for message in read_all(self._address, self._topics.dead_letters):
            headers = headers_of(message.headers())
            if group is None or headers.get("group") == group:
                attempts = headers.get("attempts", "")
                yield DeadLetter(
                    event=_event_in(message),
                    group=headers.get("group", ""),
                    error=headers.get("error", ""),
                    attempts=int(attempts) if attempts.isdecimal() else 0,
                    at=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
                    origin=headers.get("origin", ""),
                    message=message,
                )

    def give_back(self, letters: Iterator[DeadLetter]) -> int:
        """Send events to their groups again, each once; return how many. A group that has handled one ignores it."""
        seen = set()
        for letter in letters:
            if letter.event is not None and (letter.group, letter.event.id) not in seen:
                seen.add((letter.group, letter.event.id))
                self._send(self._topics.retries, letter.message, _bytes_of(letter.message.headers()))
        return len(seen)

    def _send(self, topic: str, message: Message, headers: Mapping[str, bytes]) -> None:
        failed: list[Any] = []
        with self._lock, kafka_errors():
            if self._producer is None:
                self._producer = Producer(
                    self._address.config(
                        enable_idempotence=True,
                        message_max_bytes=MESSAGE_BYTES_MAX,
                        message_timeout_ms=int(_TIMEOUT_S * 1000),
                    )
                )
            self._producer.produce(
                topic,
                key=_beginning(message.key(), _KEY_BYTES_MAX),
                value=_beginning(message.value(), _VALUE_BYTES_MAX),
                headers=dict(headers),
                partition=0,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            left = self._producer.flush(_TIMEOUT_S)
        if failed:
            raise unavailable(KafkaException(failed[0]))
        if left:
            raise KafkaUnavailable("Kafka did not take a dead letter in time", retry_after_s=1.0)


def _event_in(message: Message) -> Event | None:
    try:
        return event_of(message.value())
    except ForeignRecord:
        return None


def _headers_that_fit(message: Message) -> Mapping[str, bytes]:
    headers = _bytes_of(message.headers())
    size = sum(len(name.encode()) + len(value) for name, value in headers.items())
    return headers if size <= _HEADERS_BYTES_MAX else {}


def _bytes_of(headers: Any) -> Mapping[str, bytes]:
    return {name: value or b"" for name, value in headers or ()}


def _beginning(found: Any, bytes_max: int) -> bytes | None:
    return None if found is None else found[:bytes_max]
