"""`faregate events` on both buses: what it finds by itself, what it shows, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.database import Connection
from faregate.infra.failures import line_of
from faregate.infra.kafka import KafkaAddress, client
from faregate.infra.settings import Settings
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import event, eventually, recorder, running, running_log, running_log_on_kafka
from tests.servers import own_kafka
from tests.unit.test_cli import faregate

Environment = dict[str, str]


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Variables that point commands at this test's PostgreSQL and Valkey; nothing names a Kafka."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    settings.home.mkdir(mode=0o700)
    return {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }


async def run(environment: Environment, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner(env=environment).invoke, app, ["events", *arguments])


async def printed(environment: Environment, *arguments: str) -> Any:
    ended = await run(environment, *arguments, "--json")
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return json.loads(ended.stdout)


def refusal(ended: Result) -> str:
    assert isinstance(ended.exception, Exception), ended.output
    line = line_of(ended.exception)
    assert line is not None
    assert "\n" not in line
    return line


async def test_tail_shows_the_newest_events_of_the_log_oldest_first(
    open_database: OpenDatabase, environment: Environment
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log(credit=credit, admin=admin) as log:
        await log.append(*(event(n=n, kind=f"credit.{'odd' if n % 2 else 'even'}") for n in range(4)))
        await log.until_sequenced(4)
        shown = (await run(environment, "tail", "--json", "-n", "2")).stdout
        assert [json.loads(line)["data"]["n"] for line in shown.splitlines()] == [2, 3]
        shown = (await run(environment, "tail", "--json", "--type", "credit.odd")).stdout
        assert [json.loads(line)["data"]["n"] for line in shown.splitlines()] == [1, 3]
        assert (await run(environment, "tail", "-n", "0")).stdout == ""


async def test_tail_of_no_old_event_follows_with_the_new_ones_only(
    open_database: OpenDatabase, environment: Environment
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    command = ["events", "tail", "-n", "0", "--follow", "--json"]
    async with running_log(credit=credit, admin=admin) as log:
        await log.append(*(event(n=n) for n in range(3)))
        await log.until_sequenced(3)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faregate", *command),
            env=environment | {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        first = asyncio.create_task(process.stdout.readline())
        n = 3

        async def it_shows_one() -> (
            bool
        ):  # whatever was there when it began is not shown: go on until it has begun
            nonlocal n
            await log.append(event(n=n))
            n += 1
            await log.until_sequenced(n)
            return first.done()

        try:
            await eventually(it_shows_one, what="a line of a new event")
            seen = json.loads(await first)["data"]["n"]
            assert seen >= 3
            assert json.loads(await process.stdout.readline())["data"]["n"] == seen + 1
        finally:
            process.terminate()
            await process.wait()


async def test_a_group_is_set_back_and_forgotten_with_an_answer_for_programs(
    open_database: OpenDatabase, environment: Environment, tmp_path: Path
) -> None:
    async def answer(*arguments: str) -> Any:
        command = ("events", *arguments, "--json")
        return json.loads((await asyncio.to_thread(faregate, *command, home=tmp_path, **environment)).stdout)

    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log(credit=credit, admin=admin) as log:
        async with running(log.member()):
            await log.append(event(n=1))
            await log.until_effects(1)
        again = await answer("replay", "readers", "--from-seq", "1", "--again")
        assert again == {"group": "readers", "from_seq": 1, "again": True}
        [first] = await log.rows("select id from eventlog.event")
        skipped = await answer("skip", "readers", str(first["id"]))
        assert skipped == {"group": "readers", "event_id": str(first["id"])}
        assert await answer("forget", "readers") == {"group": "readers"}
        assert "readers" not in [row["group"] for row in await answer("lag")]
        assert "no consumer group 'readers'" in refusal(await run(environment, "forget", "readers"))


async def test_the_homes_own_broker_is_found_and_its_topics_are_made(
    environment: Environment, settings: Settings
) -> None:
    with own_kafka(settings.home):
        missing = await printed(environment, "topics")
        assert {row["partitions"] for row in missing} == {None}
        made = await printed(environment, "topics", "--apply")
        assert {row["topic"] for row in made} == {row["topic"] for row in missing}
        there = {row["topic"]: row["partitions"] for row in await printed(environment, "topics")}
        assert there["outbox.event.credit.application"] == 16
        assert await printed(environment, "topics", "--apply") == []
    assert "no Kafka is named" in refusal(await run(environment, "topics"))


async def test_dead_letters_are_listed_and_given_back_to_groups_that_there_are(
    open_database: OpenDatabase, environment: Environment, kafka_address: KafkaAddress
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    poison = {1}

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        if poison & {e.data["n"] for e in events}:
            raise ValueError("this one cannot be handled")
        await recorder("readers")(conn, events)

    opened = running_log_on_kafka(credit=credit, admin=admin, address=kafka_address, attempts_max=2)
    async with opened as log, running(log.member(handler=handle)):
        variables = environment | {
            "FAREGATE_KAFKA_BOOTSTRAP": log.bus[0],
            "FAREGATE_KAFKA_TOPIC_PREFIX": log.bus[1],
        }
        sent = [event(n=n) for n in range(3)]
        await log.append(*sent)
        await log.until_effects(2)
        [letter] = await printed(variables, "dead-letters", "list", "--group", "readers")
        assert (letter["event_id"], letter["attempts"]) == (str(sent[1].id), 2)

        replay = ("dead-letters", "replay")
        assert "no consumer group 'nobody'" in refusal(await run(variables, *replay, "nobody"))
        unknown = await run(variables, *replay, "readers", "--event", str(uuid4()))
        assert "'readers' has no dead letter of event" in refusal(unknown)
        poison.clear()
        assert await printed(variables, *replay, "readers") == {"group": "readers", "given_back": 1}
        assert [row["n"] for row in await log.until_effects(3)] == [0, 2, 1]


NO_BROKER = {"FAREGATE_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
OPTIONS = [
    (
        "s3cret",
        "FAREGATE_KAFKA_OPTIONS is no JSON. Correct it in the environment or in .env: Further settings",
    ),
    ('["s3cret"]', "FAREGATE_KAFKA_OPTIONS: input should be a valid dictionary"),
    ('{"no.such": "s3cret"}', 'FAREGATE_KAFKA_OPTIONS: No such configuration property: "no.such"'),
    ('{"security.protocol": "s3cret"}', 'Invalid value for configuration property "security.protocol"'),
    ('{"error_cb": "s3cret"}', "FAREGATE_KAFKA_OPTIONS: expected error_cb property"),
]


@pytest.mark.parametrize("command", [["topics"], ["replay", "readers", "--from-seq", "1"]], ids=" ".join)
@pytest.mark.parametrize(("options", "says"), OPTIONS)
async def test_bad_options_of_the_client_are_one_line_without_their_value(
    environment: Environment, command: list[str], options: str, says: str
) -> None:
    variables = environment | NO_BROKER | {"FAREGATE_KAFKA_OPTIONS": options}
    line = refusal(await run(variables, *command))
    assert says in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "command",
    [["topics"], ["topics", "--apply"], ["dead-letters", "list"], ["replay", "readers", "--from-seq", "1"]],
    ids=" ".join,
)
async def test_a_broker_that_does_not_answer_is_named_with_what_to_do(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    line = refusal(await run(environment | NO_BROKER, *command))
    assert line.startswith("Kafka at 127.0.0.1:1 does not answer (")
    assert "check FAREGATE_KAFKA_BOOTSTRAP" in line


def test_nobody_waits_long_for_a_broker_that_may_be_down() -> None:
    assert client.ANSWER_S <= 10


def test_an_address_file_of_a_broker_that_is_gone_names_no_kafka(
    environment: Environment, settings: Settings
) -> None:
    (settings.home / "kafka.address").write_text("127.0.0.1:1\n")
    ended = CliRunner(env=environment).invoke(app, ["events", "topics"])
    assert "no Kafka is named" in refusal(ended)
