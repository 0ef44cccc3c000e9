"""Where Kafka is, and what of its errors means that it is not there. Topics and records do not belong here."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from faregate.kernel.errors import InvalidError, UnavailableError

_log = logging.getLogger("faregate.kafka")
_log.setLevel(
    logging.CRITICAL
)  # the client says each lost connection to itself; we say it once, where it matters

ANSWER_S = 8.0
"""How long somebody who waits for a command is made to wait for a broker that may be down."""


class KafkaOptionsInvalid(InvalidError):
    """The client refuses a further setting: it knows none of that name, or not such a value."""


class KafkaUnavailable(UnavailableError):
    """Kafka did not answer: it is down, restarting, or not reachable from here."""


class RecordsGone(KafkaUnavailable):
    """Kafka has deleted, by its retention, records that a consumer group has not handled.

    Let the group catch up on the log: run its consumers without FAREGATE_KAFKA_BOOTSTRAP until `faregate events lag`
    says that nothing is left, then on Kafka again. The log knows what was handled, and nothing is handled twice.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """`bootstrap` is `host:port,…`; `options` are further settings of librdkafka, such as those of TLS and SASL."""

    bootstrap: str
    options: Mapping[str, str] = field(default_factory=dict)

    def config(self, **settings: Any) -> dict[str, Any]:
        """Return the configuration of a client: `a_b=1` stands for `a.b`."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        return {"bootstrap.servers": self.bootstrap, "logger": _log, **named, **self.options}


def require_usable(address: KafkaAddress) -> KafkaAddress:
    """Return an address whose options the client takes. Raises KafkaOptionsInvalid, without any value of them."""
    try:
        AdminClient(address.config())
    except (KafkaException, TypeError, ValueError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        said = re.sub(r'(Invalid value) ".*" (for configuration)', r"\1 \2", said, flags=re.DOTALL)
        raise KafkaOptionsInvalid(
            f"FAREGATE_KAFKA_OPTIONS: {said}. They are settings of librdkafka, see its CONFIGURATION.md"
        ) from None
    return address


def require_answer(address: KafkaAddress) -> KafkaAddress:
    """Return an address at which a broker answers. Blocks. Raises KafkaUnavailable."""
    try:
        AdminClient(address.config()).list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise KafkaUnavailable(
            f"Kafka at {address.bootstrap} does not answer ({error.args[0].str()}): "
            "check FAREGATE_KAFKA_BOOTSTRAP and that the broker runs",
            retry_after_s=1.0,
        ) from error
    return address


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Raise KafkaUnavailable for what may pass."""
    try:
        yield
    except KafkaException as error:
        raise unavailable(error) from error


def unavailable(error: KafkaException) -> KafkaUnavailable:
    """Return the error as an outage, with what the client says of it."""
    return KafkaUnavailable(f"Kafka: {error.args[0].str()}", retry_after_s=1.0)
