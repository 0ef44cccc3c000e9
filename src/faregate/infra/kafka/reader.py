"""One member of a group at Kafka: what it is given, and what it reads next. Every call blocks. Handles nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable, RecordsGone, kafka_errors, unavailable
from faregate.infra.kafka.offsets import Place, offsets_of
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX, Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The next offset that a group handles in a partition, None: the first there is; and the place in the log up to
    which it needs nothing more, because it handled that while it read the log itself.
    """

    position: int | None
    passed_seq: int = 0


Join = Callable[[Sequence[Place]], Mapping[Place, Standing]]
"""Registers partitions that were given and returns where the group stands in each."""

COMMIT_EVERY_S = 1.0
_TIMEOUT_S = 10.0
_FETCHED_BYTES_MAX = 16 * 1024


@dataclass(slots=True)
class Share:
    """A partition in this member's hands; the first two are those of `Standing`."""

    position: int | None
    passed_seq: int = 0
    failures: int = 0
    retry_at: float = 0.0
    is_paused: bool = False


class Reader:
    """Reads the partitions that the group gives to this member. `shares` holds those, by place."""

    def __init__(
        self,
        *,
        address: KafkaAddress,
        topics: Topics,
        names: Sequence[str],
        group: str,
        session_s: float,
        join: Join,
    ) -> None:
        self.shares: dict[Place, Share] = {}
        self._join = join
        self._address = address
        self._commit_at = time.monotonic() + COMMIT_EVERY_S
        self._committed: dict[Place, int] = {}
        self._consumer = Consumer(
            address.config(
                group_id=f"{topics.prefix}{group}",
                enable_auto_commit=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=int(session_s * 1000),
                heartbeat_interval_ms=int(session_s * 1000 / 4),
                fetch_wait_max_ms=50,
                fetch_error_backoff_ms=50,
                message_max_bytes=MESSAGE_BYTES_MAX,
                fetch_message_max_bytes=MESSAGE_BYTES_MAX,
                queued_max_messages_kbytes=_FETCHED_BYTES_MAX,
                reconnect_backoff_max_ms=1000,
                topic_metadata_refresh_interval_ms=10_000,
            )
        )
        self._consumer.subscribe(
            list(names), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def read(self, *, records_max: int, wait_s: float) -> dict[Place, list[Message]]:
        """Return the next records of each partition, in order; nothing if none comes in time.

        Raises KafkaUnavailable.
        """
        self._resume_rested()
        self._commit_handled()
        with kafka_errors():
            first = self._consumer.poll(wait_s)
            found = [first] if first is not None else []
            if found:
                found += self._consumer.consume(records_max - 1, timeout=0) if records_max > 1 else []
        return self._by_place(found)

    def handled(self, place: Place, *, upto: int) -> None:
        """Take note that everything before an offset was handled."""
        share = self.shares[place]
        share.position, share.failures = upto, 0

    def rest(self, place: Place, *, offset: int, pause_s: float) -> None:
        """Let a partition rest, and read on in it from the offset after that."""
        share = self.shares[place]
        share.failures += 1
        share.retry_at = time.monotonic() + pause_s
        share.is_paused = True
        with kafka_errors():
            self._consumer.seek(TopicPartition(*place, offset))
            self._consumer.pause([TopicPartition(*place)])

    def go_to(self, places: Iterable[Place]) -> None:
        """Read on in partitions from where the group stands now: somebody set it back, or handled more."""
        held = [place for place in places if place in self.shares]
        positions = self._join(held)
        with kafka_errors():
            starts = self._starts({place: positions[place] for place in held})
            for place in held:
                share, standing = self.shares[place], positions[place]
                share.position, share.passed_seq = standing.position, standing.passed_seq
                self._consumer.seek(TopicPartition(*place, starts[place]))

    def close(self) -> None:
        """Leave the group, so that others get its partitions at once."""
        try:
            self._commit_handled(at_once=True)
        finally:
            self._consumer.close()

    def _on_assign(self, _: Consumer, given: list[TopicPartition]) -> None:
        places = [(found.topic, found.partition) for found in given]
        positions = self._join(places) if places else {}
        for place in places:
            standing = positions[place]
            self.shares[place] = Share(position=standing.position, passed_seq=standing.passed_seq)
        starts = self._starts({place: positions[place] for place in places})
        self._consumer.incremental_assign([TopicPartition(*place, starts[place]) for place in places])

    def _starts(self, standings: Mapping[Place, Standing]) -> dict[Place, int]:
        """Return where to begin to read: what a group needs no more is not read where it comes from the log."""
        seqs = {
            place: standing.passed_seq + 1
            for place, standing in standings.items()
            if standing.position is None and standing.passed_seq
        }
        found = offsets_of(self._address, seqs) if seqs else {}
        return {
            place: found.get(place, OFFSET_BEGINNING) if standing.position is None else standing.position
            for place, standing in standings.items()
        }

    def _on_revoke(self, _: Consumer, taken: list[TopicPartition]) -> None:
        """Nothing of it is being handled: this runs while the member reads."""
        for found in taken:
            self.shares.pop((found.topic, found.partition), None)
            self._committed.pop((found.topic, found.partition), None)
        self._consumer.incremental_unassign(taken)

    def _by_place(self, found: Sequence[Message]) -> dict[Place, list[Message]]:
        read: dict[Place, list[Message]] = {}
        for message in found:
            if (error := message.error()) is not None:
                raise _named(error, message)
            place = (message.topic(), message.partition())
            if place in self.shares:
                read.setdefault(place, []).append(message)
        return read

    def _resume_rested(self) -> None:
        now = time.monotonic()
        rested = [place for place, share in self.shares.items() if share.is_paused and share.retry_at <= now]
        if rested:
            with kafka_errors():
                self._consumer.resume([TopicPartition(*place) for place in rested])
        for place in rested:
            self.shares[place].is_paused = False

    def _commit_handled(self, *, at_once: bool = False) -> None:
        """Tell Kafka how far we came, for those who watch it. What counts stands in the database."""
        if not at_once and time.monotonic() < self._commit_at:
            return
        self._commit_at = time.monotonic() + COMMIT_EVERY_S
        moved: dict[Place, int] = {
            place: share.position
            for place, share in self.shares.items()
            if share.position is not None and self._committed.get(place) != share.position
        }
        if moved:
            offsets = [TopicPartition(*place, position) for place, position in moved.items()]
            with kafka_errors():
                self._consumer.commit(offsets=offsets, asynchronous=True)
            self._committed |= moved


def _named(error: KafkaError, message: Message) -> KafkaUnavailable:
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        place = f"{message.topic()}/{message.partition()}"
        return RecordsGone(f"Kafka has deleted records of {place} that were not handled", retry_after_s=5.0)
    return unavailable(KafkaException(error))


def open_reader(**given: Any) -> Reader:
    """Make a reader. Raises KafkaUnavailable."""
    try:
        return Reader(**given)
    except KafkaException as error:
        raise KafkaUnavailable(f"Kafka: {error}") from error
