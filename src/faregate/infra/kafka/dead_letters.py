"""Events that a group could not handle, after so many attempts: kept in a topic, and given back to their group."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, kafka_errors, unavailable
from faregate.infra.kafka.look import read_all
from faregate.infra.kafka.records import event_of, headers_of
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX, Topics
from faregate.kernel.event import Event

_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event, the group that could not handle it, and why."""

    event: Event
    group: str
    error: str
    attempts: int
    at: datetime
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
            **headers_of(message.headers()),
            "group": group,
            "error": f"{type(error).__name__}: {error}"[:500],
            "attempts": str(attempts),
        }
        self._send(self._topics.dead_letters, message, headers)

    def all(self, *, group: str | None = None) -> Iterator[DeadLetter]:
        """Return what is kept, oldest first, of one group if one is given."""
        for message in read_all(self._address, self._topics.dead_letters):
            headers = headers_of(message.headers())
            if group is None or headers["group"] == group:
                yield DeadLetter(
                    event=event_of(message.value() or b""),
                    group=headers["group"],
                    error=headers["error"],
                    attempts=int(headers["attempts"]),
                    at=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
                    message=message,
                )

    def give_back(self, letters: Iterator[DeadLetter]) -> int:
        """Send events to their groups again, each once; return how many. A group that has handled one ignores it."""
        seen = set()
        for letter in letters:
            if (letter.group, letter.event.id) not in seen:
                seen.add((letter.group, letter.event.id))
                self._send(self._topics.retries, letter.message, headers_of(letter.message.headers()))
        return len(seen)

    def _send(self, topic: str, message: Message, headers: Mapping[str, str]) -> None:
        failed: list[Any] = []
        key = message.key()
        text = key.decode() if isinstance(key, bytes) else ""
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
                key=text,
                value=message.value(),
                headers=dict(headers),
                partition=0,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            left = self._producer.flush(_TIMEOUT_S)
        if failed:
            raise unavailable(KafkaException(failed[0]))
        if left:
            raise KafkaUnavailable("Kafka did not take a dead letter in time", retry_after_s=1.0)
