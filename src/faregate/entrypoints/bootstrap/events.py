"""Which bus carries events to this process: the log in PostgreSQL itself, or Kafka where the settings name one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

from faregate.events import AGGREGATE_OF, URGENT_TYPES, schema_id
from faregate.infra.database import Database
from faregate.infra.eventlog import PARTITIONS, EventSource, Listener, PostgresEventSource
from faregate.infra.kafka import KafkaAddress, KafkaEventSource, Relay, Topics, require_usable
from faregate.infra.settings import Settings


async def event_source(stack: AsyncExitStack, settings: Settings, database: Database) -> EventSource:
    """Return where consumers of this process read; `database` listens for what is new."""
    address = kafka_address(settings)
    if address is None:
        return PostgresEventSource(listener=await stack.enter_async_context(Listener(database)))
    return KafkaEventSource(
        address=address, topics=kafka_topics(settings), attempts_max=settings.event_attempts_max or None
    )


def partitions(settings: Settings) -> int:
    """Return into how many the bus divides events by their key: more members of a group would have nothing to do."""
    return PARTITIONS if settings.kafka_bootstrap is None else settings.kafka_partitions


async def log_relay(stack: AsyncExitStack, settings: Settings, log: Database, *, holder: str) -> Relay | None:
    """Return what publishes the log to Kafka; None where the settings name no Kafka."""
    address = kafka_address(settings)
    if address is None:
        return None
    return Relay(
        database=log,
        listener=await stack.enter_async_context(Listener(log)),
        holder=holder,
        address=address,
        topics=kafka_topics(settings),
        schema_id=schema_id,
    )


def kafka_address(settings: Settings) -> KafkaAddress | None:
    """Return the Kafka that the settings name. Raises KafkaOptionsInvalid."""
    if settings.kafka_bootstrap is None:
        return None
    options = {name: value.get_secret_value() for name, value in settings.kafka_options.items()}
    return require_usable(KafkaAddress(bootstrap=settings.kafka_bootstrap, options=options))


def kafka_topics(settings: Settings) -> Topics:
    """Return the topics of this installation."""
    return Topics(
        aggregate_of=AGGREGATE_OF,
        urgent=URGENT_TYPES,
        prefix=settings.kafka_topic_prefix,
        partitions=settings.kafka_partitions,
        replicas=settings.kafka_replicas,
        retention=timedelta(days=settings.kafka_retention_days),
    )
