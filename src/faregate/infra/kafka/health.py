"""Whether the relay can pass the log on, and its metrics. How it does so does not belong here."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import Counter, Gauge

from faregate.infra.kafka.blocking import beside
from faregate.infra.kafka.client import KafkaAddress
from faregate.infra.readiness import NotReady

PUBLISHED = Counter("faregate_relay_published_events", "Events that this process passed on to Kafka.")
FAILURES = Counter("faregate_relay_failures", "Times that passing events on ended in an outage.", ["reason"])
LEADING = Gauge("faregate_relay_leading", "1 while this process is the one that passes events on.")

ANSWER_S_MAX = 1.5
"""Less than a readiness check may take."""


class KafkaUnreachable(NotReady):
    """Kafka does not answer: no event is passed on, and all wait in the log."""


class RelayFailed(NotReady):
    """The relay failed and has not passed anything on since."""


class RelayHealth:
    """How one relay is doing, as it tells it."""

    def __init__(self, *, address: KafkaAddress) -> None:
        self._address = address
        self._admin: AdminClient | None = None
        self._failure: str | None = None

    def leads(self) -> None:
        """This relay leads from now on."""
        LEADING.set(1)

    def leads_no_more(self) -> None:
        """Somebody else may lead."""
        LEADING.set(0)

    def is_well(self) -> None:
        """Events are passed on, or there are none, or another relay leads."""
        self._failure = None

    def failed(self, error: Exception) -> None:
        """It was ended by an outage."""
        self._failure = type(error).__name__
        FAILURES.labels(self._failure).inc()

    async def check(self) -> None:
        """Raise KafkaUnreachable if Kafka does not answer now, RelayFailed until the relay goes on after a failure."""
        await beside(self._ask)
        if self._failure is not None:
            raise RelayFailed(f"{self._failure}; it is tried again")

    def _ask(self) -> None:
        try:
            if self._admin is None:
                self._admin = AdminClient(self._address.config())
            self._admin.describe_cluster(request_timeout=ANSWER_S_MAX).result(ANSWER_S_MAX)
        except TimeoutError:
            raise KafkaUnreachable("no answer in time") from None
        except KafkaException as error:
            raise KafkaUnreachable(error.args[0].name()) from error  # its text would tell the address
