"""How the one node is set up: its properties and those of its Java. Running it does not belong here."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from faregate.infra.embedded.kafka.ports import HOST

PROPERTIES: Final = "server.properties"
PROGRAM: Final = ("kafka.Kafka", PROPERTIES)
DATA: Final = "data"
SCRATCH: Final = "scratch"

SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "BROKER",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": DATA,  # from the working folder: a path of the user's would have to be escaped
    "auto.create.topics.enable": "false",
    # One node keeps the only copy.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    # Groups settle at once, and may be told to notice a dead member within half a second.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    # After a kill the controller first waits until the session of the killed broker is over: 9 s, by default. A shorter
    # one would end while a disk stalls, and a broker without a session has groups that are dealt out anew.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # For a laptop.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
}
"""Nothing is flushed for each message: what was acknowledged survives a kill of the broker, not a loss of power."""

# The second compiler takes more of the processor than it gives back: 604,000 messages of 300 bytes in and out cost
# 4.6 s of it without and 7.8 s with it, and a start 2.2 and 3.0 s.
_JAVA_OPTIONS: Final = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    f"-Djava.io.tmpdir={SCRATCH}",
)


def properties(settings: Mapping[str, str], *, port: int, controller_port: int) -> str:
    """The text of `server.properties`. The controller's port may be another one each time: only the node uses it."""
    addresses = {
        "listeners": f"BROKER://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"BROKER://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
    }
    return "".join(f"{name}={value}\n" for name, value in {**SETTINGS, **settings, **addresses}.items())


def java_options() -> tuple[str, ...]:
    """What every Java gets that runs something of Kafka's."""
    log4j = Path(__file__).with_name("log4j2.properties")
    return (*_JAVA_OPTIONS, f"-Dlog4j2.configurationFile={log4j.as_uri()}")


def identity(*, cluster: str, directory: str) -> str:
    """The text of `meta.properties`, which tells whose a storage is."""
    return f"version=1\nnode.id=1\ncluster.id={cluster}\ndirectory.id={directory}\n"


def new_id() -> str:
    """A random id as Kafka writes them."""
    return base64.urlsafe_b64encode(b"\x40" + os.urandom(15)).rstrip(b"=").decode()
