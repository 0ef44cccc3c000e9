"""The event source that reads topics of Kafka. What it promises is said by `EventSource`; the order of a key holds
within a topic: a group whose types are urgent and not urgent gets each in their order."""

from __future__ import annotations

from collections.abc import Collection

from faregate.infra.database import Database
from faregate.infra.eventlog.consumer import RETRY_MAX_S
from faregate.infra.eventlog.port import Handler
from faregate.infra.kafka.client import KafkaAddress
from faregate.infra.kafka.consumer import KafkaConsumer
from faregate.infra.kafka.dead_letters import DeadLetters
from faregate.infra.kafka.topics import Topics

ATTEMPTS_MAX = 20
"""With growing pauses: minutes. What is not there, a database say, is waited for without being an attempt."""


class KafkaEventSource:
    """Makes consumers of one cluster.

    `session_s`: how long a silent member keeps its partitions. `retry_max_s`: longest pause before a failed event is
    tried again. After `attempts_max` it goes to the dead letters and its partition goes on; None: it is tried for ever.
    """

    def __init__(
        self,
        *,
        address: KafkaAddress,
        topics: Topics,
        session_s: float = 10.0,
        retry_max_s: float = RETRY_MAX_S,
        attempts_max: int | None = ATTEMPTS_MAX,
    ) -> None:
        self._address = address
        self._topics = topics
        self._session_s = session_s
        self._retry_max_s = retry_max_s
        self._attempts_max = attempts_max
        self._dead_letters = DeadLetters(address=address, topics=topics)

    def subscribe(
        self,
        *,
        database: Database,
        group: str,
        types: Collection[str] | None,
        handler: Handler,
        batch_max: int = 500,
    ) -> KafkaConsumer:
        """Make a member of a group; several may run in one process."""
        return KafkaConsumer(
            database=database,
            address=self._address,
            topics=self._topics,
            group=group,
            types=types,
            handler=handler,
            batch_max=batch_max,
            session_s=self._session_s,
            retry_max_s=self._retry_max_s,
            attempts_max=self._attempts_max,
            dead_letters=self._dead_letters,
        )
