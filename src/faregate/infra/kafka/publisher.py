"""Publishes batches of the log exactly once: the records and how far they reach commit in one Kafka transaction.

Whoever opens a publisher shuts out the one before it: the broker refuses what that one still sends. All calls block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from faregate.infra.eventlog.leadership import LeadershipLost
from faregate.infra.kafka.client import KafkaAddress, kafka_errors, unavailable
from faregate.infra.kafka.look import last_record
from faregate.infra.kafka.records import SchemaId, record_of
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX, Topics, ensure_topics

TRANSACTION_S = 10.0
_PROGRESS_KEY = b"relay"
_TIMEOUT_S = 15.0


def _is_ours(message: Message) -> bool:
    """Whether a record tells how far the relay came: somebody else may have written into its topic."""
    value = message.value()
    return message.key() == _PROGRESS_KEY and isinstance(value, bytes) and value.isdigit()


class Publisher:
    """One stay of the relay at Kafka."""

    def __init__(self, *, address: KafkaAddress, topics: Topics, schema_id: SchemaId) -> None:
        """Raises KafkaUnavailable."""
        self._address = address
        self._topics = topics
        self._schema_id = schema_id
        self._known = set(topics.of_events)
        ensure_topics(address, topics)
        self._producer = Producer(
            address.config(
                transactional_id=f"{topics.prefix}faregate.relay",
                transaction_timeout_ms=int(TRANSACTION_S * 1000),
                enable_idempotence=True,
                message_max_bytes=MESSAGE_BYTES_MAX,
                compression_type="lz4",
                linger_ms=1,
            )
        )
        with kafka_errors():
            self._producer.init_transactions(_TIMEOUT_S)

    def published_upto(self) -> int:
        """Return the place in the log up to which everything was published; 0 if Kafka does not know."""
        last = last_record(self._address, self._topics.relay_progress, is_wanted=_is_ours)
        return 0 if last is None else int(last)

    def publish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish rows of the log, in their order; all of them or none.

        Raises KafkaUnavailable: what became of them is told by `published_upto` of a new publisher. Raises
        LeadershipLost where another one took over.
        """
        self._make_unknown_topics(rows)
        try:
            self._producer.begin_transaction()
            for row in rows:
                self._send(row)
            self._producer.produce(
                self._topics.relay_progress, key=_PROGRESS_KEY, value=str(rows[-1]["seq"]), partition=0
            )
            self._producer.commit_transaction(_TIMEOUT_S)
        except KafkaException as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of the connections; an unfinished transaction is undone by whoever comes next."""
        self._producer.purge()

    def _send(self, row: Mapping[str, Any]) -> None:
        record = record_of(row, schema_id=self._schema_id)
        topic = self._topics.topic_of(type=row["type"], aggregate_type=row["aggregatetype"])
        while True:
            try:
                self._producer.produce(
                    topic,
                    key=record.key,
                    value=record.value,
                    headers=dict(record.headers),
                    partition=self._topics.partition_of(record.key),
                )
            except BufferError:  # full: let it send some
                self._producer.poll(0.1)
            else:
                return

    def _give_up(self, error: KafkaException) -> None:
        found = error.args[0]
        if found.fatal():
            raise LeadershipLost(f"shut out at Kafka: {found.str()}") from error
        if found.txn_requires_abort():
            with suppress(KafkaException):  # whoever opens the next publisher undoes it
                self._producer.abort_transaction(_TIMEOUT_S)
        raise unavailable(error) from error

    def _make_unknown_topics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A newer process may append what this one was not told of."""
        names = {self._topics.topic_of(type=r["type"], aggregate_type=r["aggregatetype"]) for r in rows}
        if names - self._known:
            ensure_topics(self._address, self._topics, names=names)
            self._known |= names
