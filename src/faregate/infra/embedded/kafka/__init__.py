"""A Kafka broker of one node for development and tests, on the machine's Java, out of jars that Maven fetched once.

It is used like the other embedded servers: whoever needs it holds `embedded_kafka` open, and the last user stops it.
Its guard is its own, for it takes seconds to start, and PostgreSQL must not wait for it. Nothing outside this
package knows whether the broker is embedded: it gets an address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.folders import private_folder
from faregate.infra.embedded.kafka.artifacts import Say, jars_are_here
from faregate.infra.embedded.kafka.installation import ensure_installed
from faregate.infra.embedded.kafka.programs import java_program, maven_program
from faregate.infra.embedded.kafka.server import KafkaServer
from faregate.infra.embedded.locks import exclusive, hold_share

__all__ = [
    "START_LOCK",
    "USERS_LOCK",
    "KafkaServer",
    "embedded_kafka",
    "ensure_installed",
    "kafka_of",
    "start_kafka_again",
    "why_no_kafka",
]

START_LOCK: Final = "kafka-start.lock"
USERS_LOCK: Final = "kafka-users.lock"


@contextmanager
def embedded_kafka(
    home: Path,
    *,
    settings: Mapping[str, str] | None = None,
    end_with_us: bool = False,
    say: Say = lambda _: None,
) -> Iterator[str]:
    """Start the broker of `home`, or join the one that runs, and give its address; the last user stops it.

    Blocks for 2 to 5 s, the first time on a machine for a minute, of which `say` is told. `settings` are broker
    settings used by whoever starts it. `end_with_us` is for a home that nobody else uses: the broker ends with this
    process even if it is killed (on Linux). A broker that cannot be started is an `EmbeddedServerError`.
    """
    installed = ensure_installed(say=say)
    home = private_folder(home)
    server = KafkaServer(
        folder=home / "kafka", installed=lambda: installed, settings=settings, end_with_us=end_with_us
    )
    with exclusive(home / START_LOCK):
        server.ensure_running()
        share = hold_share(home / USERS_LOCK)
    try:
        yield server.bootstrap()
    finally:
        with exclusive(home / START_LOCK):
            if share.release_and_tell_whether_last():
                server.stop()


def start_kafka_again(home: Path, *, end_with_us: bool = False) -> bool:
    """Start the broker of a home again if it died, and tell whether it had; for one of its users. Blocks."""
    server = kafka_of(home, end_with_us=end_with_us)
    if server.pid() is not None:  # seen without the lock, for this is asked all the time
        return False
    with exclusive(home / START_LOCK):
        if server.pid() is not None:
            return False
        server.ensure_running()
    return True


def kafka_of(home: Path, *, end_with_us: bool = False) -> KafkaServer:
    """The broker of a home without starting it: to look at, or to break in a fault test."""
    return KafkaServer(folder=home / "kafka", installed=ensure_installed, end_with_us=end_with_us)


def why_no_kafka() -> str | None:
    """What is missing on this machine for an embedded broker, in one line; None if nothing is."""
    try:
        java_program()
        if not jars_are_here():
            maven_program()
    except EmbeddedServerError as missing:
        return missing.detail
    return None
