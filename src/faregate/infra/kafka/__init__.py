"""Kafka as the second bus: the log in PostgreSQL is relayed to topics, and consumers read those instead.

    eventlog.event ──> Relay ──> topics ──> KafkaEventSource.subscribe(...)

Appending stays what it was (`infra.eventlog.append`): Kafka carries the log, PostgreSQL is its record. The relay
publishes each event once, in the order of the log; a consumer's position commits together with its effect. Which bus a
process reads is a setting; nothing else in the system knows.
"""

from faregate.infra.kafka.admin import replay_from_kafka
from faregate.infra.kafka.client import (
    KafkaAddress,
    KafkaUnavailable,
    RecordsGone,
    require_answer,
    require_usable,
)
from faregate.infra.kafka.dead_letters import DeadLetters
from faregate.infra.kafka.relay import RELAY_GROUP, Relay
from faregate.infra.kafka.source import KafkaEventSource
from faregate.infra.kafka.topics import Topics, ensure_topics, topics_found

__all__ = [
    "RELAY_GROUP",
    "DeadLetters",
    "KafkaAddress",
    "KafkaEventSource",
    "KafkaUnavailable",
    "RecordsGone",
    "Relay",
    "Topics",
    "ensure_topics",
    "replay_from_kafka",
    "require_answer",
    "require_usable",
    "topics_found",
]
