"""Which topic carries which event, and the topics themselves: made and adapted by `ensure_topics`. No events here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from faregate.infra.kafka.client import KafkaAddress, kafka_errors
from faregate.kernel.errors import InvalidError

PARTITIONS_MIN, PARTITIONS_MAX = 16, 256
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
_TIMEOUT_S = 30.0


class PartitionsInvalid(InvalidError):
    """Topics have 16, 32, 64, 128 or 256 partitions: each is a part of one of the log's 16. There may only be more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one installation. `prefix` tells several on one cluster apart.

    Each kind of aggregate has a topic for what is urgent and one for the rest, so that a decision does not wait behind
    the steps of other applications. The order of a key holds within a topic. `aggregate_of` names the kind that each
    known event type belongs to.
    """

    aggregate_of: Mapping[str, str]
    urgent: Collection[str] = field(default_factory=frozenset)
    prefix: str = ""
    partitions: int = PARTITIONS_MIN
    replicas: int = 1
    retention: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if not PARTITIONS_MIN <= self.partitions <= PARTITIONS_MAX or self.partitions & (self.partitions - 1):
            raise PartitionsInvalid(f"{self.partitions} partitions: there are 16, 32, 64, 128 or 256")

    def topic_of(self, *, type: str, aggregate_type: str) -> str:  # noqa: A002 - the name of the event's attribute
        """Return the topic of an event."""
        return f"{self.prefix}outbox.event.{aggregate_type}{'.urgent' if type in self.urgent else ''}"

    def partition_of(self, key: str) -> int:
        """Return the partition of a key: a part of the one that it has in the log."""
        return hashlib.sha256(key.encode()).digest()[0] % self.partitions

    @property
    def by_type(self) -> Mapping[str, str]:
        """The topic of each known event type."""
        return {
            type_: self.topic_of(type=type_, aggregate_type=kind) for type_, kind in self.aggregate_of.items()
        }

    @property
    def of_events(self) -> Sequence[str]:
        """Every topic that carries events."""
        return sorted(set(self.by_type.values()))

    @property
    def dead_letters(self) -> str:
        """Where events stand that a group could not handle."""
        return f"{self.prefix}outbox.dead-letter"

    @property
    def retries(self) -> str:
        """Where dead letters go that a group is to handle after all: each names its group."""
        return f"{self.prefix}outbox.retry"

    @property
    def relay_progress(self) -> str:
        """How far the relay came: a record in each of its transactions. Only the last one is kept."""
        return f"{self.prefix}outbox.relay"

    @property
    def all(self) -> Sequence[str]:
        """Every topic that there must be."""
        return [*self.of_events, self.dead_letters, self.retries, self.relay_progress]

    @property
    def description(self) -> Mapping[str, object]:
        """How events are found in the topics, for whoever counts what a group has still to handle."""
        return {
            "topics": dict(self.by_type),
            "other": f"{self.prefix}outbox.event.",
            "partitions": self.partitions,
        }

    def carrying(self, types: Collection[str] | None) -> Sequence[str]:
        """Return the topics to read for some event types, all of them for None or for a type that is not known."""
        if types is None or not set(types) <= self.aggregate_of.keys():
            return self.of_events
        return sorted({self.by_type[type_] for type_ in types})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicChange:
    """What was done to a topic."""

    topic: str
    change: str


def ensure_topics(
    address: KafkaAddress, topics: Topics, *, names: Collection[str] | None = None
) -> Sequence[TopicChange]:
    """Make the topics that are missing and adapt partitions and retention of the others; return what was done. Blocks.

    Raises PartitionsInvalid where a topic has more partitions than wanted, KafkaUnavailable.
    """
    admin = AdminClient(address.config())
    wanted = sorted(topics.all if names is None else names)
    with kafka_errors():
        found = admin.list_topics(timeout=_TIMEOUT_S).topics
        missing = [name for name in wanted if name not in found]
        made = _made(admin, topics, missing)
        grown = _grown(admin, topics, {name: len(found[name].partitions) for name in wanted if name in found})
        kept = _kept(admin, topics, [name for name in wanted if name in found])
    return [*made, *grown, *kept]


def topics_found(address: KafkaAddress, topics: Topics) -> list[dict[str, object]]:
    """Return each wanted topic as it is at Kafka. Blocks. Raises KafkaUnavailable."""
    admin = AdminClient(address.config())
    with kafka_errors():
        found = admin.list_topics(timeout=_TIMEOUT_S).topics
        there = [name for name in topics.all if name in found]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in there]
        configs = {
            resource.name: future.result(_TIMEOUT_S)
            for resource, future in (admin.describe_configs(resources).items() if resources else ())
        }
    return [
        {
            "topic": name,
            "partitions": len(found[name].partitions) if name in found else None,
            "replicas": len(found[name].partitions[0].replicas) if name in found else None,
            "retention_days": _days(configs[name]["retention.ms"].value) if name in found else None,
        }
        for name in topics.all
    ]


def _days(retention_ms: str) -> float | None:
    return None if retention_ms == "-1" else round(int(retention_ms) / 86_400_000, 2)


def _partitions(topics: Topics, name: str) -> int:
    # Rarely used, and shared out together with those of events: as many partitions would unbalance the members.
    is_of_events = name not in (topics.dead_letters, topics.retries, topics.relay_progress)
    return topics.partitions if is_of_events else 1


def _config(topics: Topics, name: str) -> dict[str, str]:
    keeps = name in (topics.dead_letters, topics.relay_progress)
    retention_ms = -1 if keeps else int(topics.retention.total_seconds() * 1000)
    policy = "compact" if name == topics.relay_progress else "delete"
    return {
        "cleanup.policy": policy,
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(MESSAGE_BYTES_MAX),
        # The broker's: what a producer's clock dates too far ahead it would refuse, and everything behind would wait.
        "message.timestamp.type": "LogAppendTime",
    }


def _made(admin: AdminClient, topics: Topics, names: Collection[str]) -> list[TopicChange]:
    if not names:
        return []
    new = [
        NewTopic(
            name,
            num_partitions=_partitions(topics, name),
            replication_factor=topics.replicas,
            config=_config(topics, name),
        )
        for name in names
    ]
    changes = []
    for name, future in admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
        if _succeeded(future, unless=KafkaError.TOPIC_ALREADY_EXISTS):  # another process was faster
            changes.append(
                TopicChange(topic=name, change=f"made with {_partitions(topics, name)} partitions")
            )
    return changes


def _grown(admin: AdminClient, topics: Topics, partitions: Mapping[str, int]) -> list[TopicChange]:
    too_many = sorted(name for name, count in partitions.items() if count > _partitions(topics, name))
    if too_many:
        raise PartitionsInvalid(
            f"{', '.join(too_many)}: more partitions than {topics.partitions}; a topic cannot lose any"
        )
    fewer = {name: count for name, count in partitions.items() if count < _partitions(topics, name)}
    if not fewer:
        return []
    new = [NewPartitions(name, _partitions(topics, name)) for name in fewer]
    for future in admin.create_partitions(new, operation_timeout=_TIMEOUT_S).values():
        future.result(_TIMEOUT_S)
    return [
        TopicChange(topic=name, change=f"{count} → {_partitions(topics, name)} partitions")
        for name, count in fewer.items()
    ]


def _kept(admin: AdminClient, topics: Topics, names: Collection[str]) -> list[TopicChange]:
    """Adapt how long topics keep their records and how long one may be."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {
        resource.name: future.result(_TIMEOUT_S)
        for resource, future in (admin.describe_configs(resources).items() if resources else ())
    }
    alter, changes = [], []
    for name, present in found.items():
        differing = {k: v for k, v in _config(topics, name).items() if present[k].value != v}
        if differing:
            entries = [
                ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in differing.items()
            ]
            alter.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries))
            said = ", ".join(f"{k} {present[k].value} → {v}" for k, v in differing.items())
            changes.append(TopicChange(topic=name, change=said))
    for future in (admin.incremental_alter_configs(alter) if alter else {}).values():
        future.result(_TIMEOUT_S)
    return changes


def _succeeded(future: Future[Any], *, unless: int) -> bool:
    try:
        future.result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == unless:
            return False
        raise
    return True
