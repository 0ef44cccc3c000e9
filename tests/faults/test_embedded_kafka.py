"""The embedded broker under kills, damage and what a machine may lack. A real broker, real signals."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from faregate.infra.embedded import processes
from faregate.infra.embedded.kafka import artifacts, embedded_kafka, kafka_of
from faregate.infra.embedded.kafka.artifacts import VERSION, cache_folder, ensure_jars, locked_hashes
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.settings import Settings
from tests import servers
from tests.servers import Breakable, OwnKafka, own_kafka, require_kafka
from tests.unit.test_cli import faregate

TOPIC = "numbers"
QUIET = {"log_level": 0, "socket.timeout.ms": 10_000}
OWNER = """
import sys
from pathlib import Path
from faregate.infra.embedded.kafka import embedded_kafka, kafka_of
home = Path(sys.argv[1])
with embedded_kafka(home, end_with_us=True) as address:
    print(kafka_of(home).pid(), address, flush=True)
    sys.stdin.read()
"""
FETCH = "from faregate.infra.embedded.kafka.artifacts import ensure_jars; print(len(ensure_jars(say=print)))"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnKafka]:
    with own_kafka(tmp_path_factory.mktemp("kafka") / "home") as running:
        yield running


def make_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)


class Sender:
    """Sends numbers from a thread until it is told to stop, and notes those that were acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                **QUIET,
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.acknowledged: list[int] = []

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def until_acknowledged(self, count: int) -> None:
        assert processes.wait_for(lambda: len(self.acknowledged) >= count, timeout_s=60)

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(0.001):
            self._producer.produce(TOPIC, str(number).encode(), on_delivery=self._note)
            self._producer.poll(0)
            number += 1
        assert self._producer.flush(60) == 0

    def _note(self, error: object, message: Message) -> None:
        if error is None:
            self.acknowledged.append(int(message.value() or b""))


def stored(bootstrap: str) -> list[int]:
    """Every number in the topic, in its order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", **QUIET})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30)
    found: list[int] = []
    while len(found) < end:
        found += [int(message.value() or b"") for message in consumer.consume(end, timeout=1)]
    consumer.close()
    return found


@pytest.fixture
async def system(settings: Settings, tmp_path: Path) -> AsyncIterator[LocalSystem]:
    """A system of a broker and no parts."""
    require_kafka()
    assert settings.database_url
    assert settings.valkey_url
    plan = Plan(
        home=tmp_path,
        temporary=True,
        workers=0,
        apis=0,
        sandbox=False,
        kafka=True,
        database_url=settings.database_url.get_secret_value(),
        valkey_url=settings.valkey_url.get_secret_value(),
    )
    async with local_system(plan) as running:
        yield running
    assert kafka_of(tmp_path).pid() is None


async def test_a_killed_broker_is_started_again_and_has_every_acknowledged_record_once(
    system: LocalSystem,
) -> None:
    address, killed = system.environment["FAREGATE_KAFKA_BOOTSTRAP"], system.pids()["kafka"]
    make_topic(address)
    with Sender(address) as sender:
        await asyncio.to_thread(sender.until_acknowledged, 300)
        Breakable(kafka_of(system.plan.home)).kill9()
        before = len(sender.acknowledged)
        await asyncio.to_thread(sender.until_acknowledged, before + 300)
    assert system.pids()["kafka"] != killed
    times = Counter(stored(address))
    assert {number: times[number] for number in sender.acknowledged} == dict.fromkeys(sender.acknowledged, 1)
    assert max(times.values()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_two_homes_have_a_broker_each_and_a_private_one_ends_with_its_killed_owner(
    broker: OwnKafka, tmp_path: Path
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "other")], **pipes) as owner:
        pid, address = owner.stdout.readline().split()
        assert address != broker.bootstrap
        make_topic(address)
        make_topic(broker.bootstrap)
        owner.kill()
    assert processes.wait_for(lambda: not processes.is_alive(int(pid)), timeout_s=30)
    assert broker.kafka.is_running()


def test_the_last_user_stops_it_in_order(broker: OwnKafka) -> None:
    data = broker.home / "kafka" / "data"
    with embedded_kafka(broker.home) as joined:
        assert joined == broker.bootstrap
    assert broker.kafka.is_running()
    assert not (data / ".kafka_cleanshutdown").exists()
    broker.kafka.server.stop()
    assert (data / ".kafka_cleanshutdown").exists()
    assert kafka_of(broker.home).pid() is None


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose jars are links to those of the real one."""
    require_kafka()
    jars = ensure_jars(say=print)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache_folder() / "jars"
    folder.mkdir(parents=True)
    for jar in jars:
        (folder / jar.name).symlink_to(jar)
    return folder


WRONG = {
    "damaged": r"snakeyaml-2\.4\.jar is not what was locked",
    "missing": r"snakeyaml-2\.4\.jar is missing",
    "surplus": r"intruder\.jar does not belong there",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_jar_that_is_not_what_was_locked_is_refused_by_name(
    wrong: str, other_cache: Path, tmp_path: Path
) -> None:
    jar = other_cache / "snakeyaml-2.4.jar"
    content = bytearray(jar.read_bytes())
    if wrong == "surplus":
        (other_cache / "intruder.jar").write_bytes(content)
    else:
        jar.unlink()
    if wrong == "damaged":
        content[1000] ^= 1
        jar.write_bytes(content)
    with pytest.raises(Exception, match=WRONG[wrong]), embedded_kafka(tmp_path / "home"):
        pass
    assert not (tmp_path / "home").exists()


def programs(folder: Path, **scripts: str) -> str:
    """A folder for PATH with nothing in it but these programs."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


JAVA_17 = """echo 'openjdk version "17.0.9" 2023-10-17' >&2"""
JAVA_8 = """echo 'java version "1.8.0_392"' >&2"""
LACKS = [
    ({}, "Kafka needs Java 17 or newer: install it, or name a Kafka that runs: FAREGATE_KAFKA_BOOTSTRAP"),
    ({"java": JAVA_8}, "and {path}/java is Java 8: install one, or"),
    ({"java": "exit 1"}, "and {path}/java does not run: install one, or"),
    ({"java": JAVA_17}, "Maven (mvn) fetches Kafka once, and it is missing: install it, or"),
    (
        {"java": JAVA_17, "mvn": "echo '[INFO] so far'; echo '[ERROR] no way out'; exit 1"},
        "Maven could not fetch Kafka 4.1.1: no way out",
    ),
]


@pytest.mark.parametrize(("has", "line"), LACKS)
def test_what_the_machine_lacks_is_one_clear_line(has: dict[str, str], line: str, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", **has)
    environment = {"PATH": path, "JAVA_HOME": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = faregate("kafka", "install", home=tmp_path, **environment)
    assert ended.returncode == 1
    assert line.format(path=path) in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.glob("cache/faregate/*/jars"))


def test_an_installation_that_is_only_wanted_if_possible_ends_well(tmp_path: Path) -> None:
    environment = {"PATH": programs(tmp_path / "bin"), "JAVA_HOME": "", "XDG_CACHE_HOME": str(tmp_path)}
    ended = faregate("kafka", "install", "--if-possible", home=tmp_path, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("no embedded Kafka: Kafka needs Java 17")


def test_processes_that_need_the_jars_at_once_fetch_them_once(other_cache: Path, tmp_path: Path) -> None:
    copying = f'for last; do :; done; ln -s {other_cache}/*.jar "${{last#*=}}"; echo >>{tmp_path}/fetched'
    environment = {
        **os.environ,
        "PATH": f"{programs(tmp_path / 'bin', mvn=copying)}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "new"),
    }
    asked = [subprocess.Popen([sys.executable, "-c", FETCH], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in asked] == [0, 0, 0]
    assert (tmp_path / "fetched").read_text() == "\n"
    [cache] = (tmp_path / "new" / "faregate").iterdir()
    assert sorted(path.name for path in cache.iterdir()) == ["fetch.lock", "jars"]
    assert {path.name for path in (cache / "jars").iterdir()} == locked_hashes().keys()


def test_the_lock_file_and_the_pom_are_of_the_version_that_is_named() -> None:
    assert f"kafka_2.13-{VERSION}.jar" in locked_hashes()
    assert f"<version>{VERSION}</version>" in Path(artifacts.__file__).with_name("pom.xml").read_text()


@pytest.mark.parametrize("demanded", [False, True])
def test_without_java_a_test_skips_with_the_reason_and_fails_where_kafka_is_demanded(
    demanded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "why_no_kafka", lambda: "no Java")
    monkeypatch.setattr(servers, "KAFKA_IS_DEMANDED", demanded)
    with pytest.raises(pytest.fail.Exception if demanded else pytest.skip.Exception, match="no Java"):
        require_kafka()
