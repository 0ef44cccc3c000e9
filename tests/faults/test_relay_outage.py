"""A relay whose Kafka is away: it says so, counts it, and ends when it is told to."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import REGISTRY

from faregate.infra.eventlog import Listener
from faregate.infra.kafka import KafkaAddress, KafkaUnavailable, Relay
from faregate.infra.kafka.health import RelayFailed, RelayHealth
from faregate.infra.readiness import NotReady
from faregate.infra.supervisor import STOP_GRACE_S
from tests.conftest import OpenDatabase
from tests.eventlog import LEASE_S, event, eventually, running, running_log, topics_of_test
from tests.processes import process
from tests.servers import free_ports, own_kafka


@contextmanager
def silent_server() -> Iterator[int]:
    """A port at which connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", free_ports(1)), backlog=100) as server:
        yield int(server.getsockname()[1])


@contextmanager
def no_server() -> Iterator[int]:
    yield free_ports(1)


@pytest.mark.parametrize("broker", [silent_server, no_server])
async def test_a_relay_without_kafka_is_not_ready_and_ends_before_it_would_be_killed(
    tmp_path: Path,
    database_url: str,
    valkey_socket: Path,
    broker: Callable[[], AbstractContextManager[int]],
) -> None:
    log = tmp_path / "relay.log"
    with broker() as kafka_port:
        port = free_ports(1)
        async with process(
            "relay",
            log=log,
            FAREGATE_HOME=str(tmp_path / "home"),
            FAREGATE_DATABASE_URL=database_url,
            FAREGATE_VALKEY_URL=f"unix://{valkey_socket}",
            FAREGATE_KAFKA_BOOTSTRAP=f"127.0.0.1:{kafka_port}",
            FAREGATE_WORKER_PORT=str(port),
        ) as relay:
            said = await readiness(port)
            assert said["relay"].startswith("KafkaUnreachable: ")
            assert str(kafka_port) not in said["relay"]
            assert {name for name, answer in said.items() if answer != "ok"} == {"relay"}
            relay.send_signal(signal.SIGTERM)
            await asyncio.wait_for(relay.wait(), STOP_GRACE_S)
    assert relay.returncode == 0
    assert "loop_cut_off" not in log.read_text()


async def readiness(port: int) -> dict[str, str]:
    """What the process says of its checks, as soon as it serves and its relay has begun to lead."""
    found: dict[str, str] = {}

    async def answers() -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/metrics") as metrics,
                session.get(f"http://127.0.0.1:{port}/readyz") as answer,
            ):
                found.update((await answer.json())["checks"])
                return "faregate_relay_leading 1.0" in await metrics.text()
        except aiohttp.ClientError:
            return False

    await eventually(answers, what="the relay serves and leads")
    return found


async def test_a_relay_is_ready_again_once_it_passes_events_on_again_and_counts_what_it_did(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    published = counted("published_events")
    with own_kafka(tmp_path / "home") as broker:
        async with running_log(credit=credit, admin=admin) as log, Listener(admin) as listener:
            relay = Relay(
                database=admin,
                listener=listener,
                holder="me",
                address=KafkaAddress(bootstrap=broker.bootstrap),
                topics=topics_of_test(prefix="t."),
                schema_id=lambda _: None,
                lease_s=LEASE_S,
            )
            async with running(relay.run):
                await log.append(event(n=0))
                await eventually(lambda: says(relay, None, published + 1), what="one was passed on")
                await asyncio.to_thread(broker.kafka.kill9)
                await log.append(event(n=1))
                await eventually(lambda: says(relay, "KafkaUnreachable", published + 1), what="unready")
                await asyncio.to_thread(broker.kafka.start)
                await eventually_twice(relay, published + 2)


async def test_a_relay_that_failed_is_not_ready_until_it_goes_on_though_kafka_answers(
    kafka_address: KafkaAddress,
) -> None:
    health = RelayHealth(address=kafka_address)
    failures = counted("failures", reason="KafkaUnavailable")
    health.failed(KafkaUnavailable("localhost:9092 does not answer"))
    with pytest.raises(RelayFailed) as refused:
        await health.check()
    assert refused.value.detail == "KafkaUnavailable; it is tried again"
    assert counted("failures", reason="KafkaUnavailable") == failures + 1
    health.is_well()
    await health.check()


async def eventually_twice(relay: Relay, published: float) -> None:
    """A broker that restarts takes its time."""
    try:
        await eventually(lambda: says(relay, None, published), what="both were passed on")
    except AssertionError:
        await eventually(lambda: says(relay, None, published), what="both were passed on")


async def says(relay: Relay, reason: str | None, published: float) -> bool:
    try:
        await relay.check()
        said = None
    except NotReady as not_ready:
        said = type(not_ready).__name__
    return (said, counted("published_events")) == (reason, published)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"faregate_relay_{name}_total", labels) or 0.0
