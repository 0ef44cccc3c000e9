"""The how-to for servers of one's own, run word for word on servers that are somebody else's; and compose.yaml."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import yaml

from faregate.entrypoints.processes import CONTEXTS, RELAY, roles_of
from faregate.infra.kafka import KafkaAddress
from faregate.infra.kafka.look import read_all
from faregate.infra.kafka.records import event_of
from tests.servers import OwnServers, free_ports, own_servers

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/howto/bring-your-own-servers.md").read_text()
COMPOSE = ROOT / "compose.yaml"
PORTS = 21
"""How many ports the how-to takes, one after the other."""
KAFKA = "Events over Kafka"
CONTEXTS_OF_TEXT, ROLES_OF_TEXT = (
    re.findall(rf'^{name}="([a-z ]+)"$', TEXT, re.MULTILINE)[0].split() for name in ("CONTEXTS", "ROLES")
)


def sections() -> dict[str, str]:
    """Return the shell blocks of each section of the how-to by its title, in order."""
    parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)[1:]
    blocks = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return {
        title: "\n".join(blocks.findall(text)) for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def commands(*, kafka: bool) -> str:
    """Return what the how-to says to type, in order, as one script; what is about Kafka where it says to do it."""
    said = sections()
    about_kafka = said.pop(KAFKA)
    steps = [text for title, text in said.items() if title[0].isdigit()]
    assert "Do this between steps 3 and 4" in TEXT
    assert "".join(steps) == "".join(said.values())
    return "\n".join([*steps[:3], *([about_kafka] if kafka else []), *steps[3:]])


async def ran(script: str, *, folder: Path, environment: dict[str, str]) -> int | None:
    """Run a script, which says what it does in `said.txt` and `done.txt`; nothing that it started outlives it.

    Return its status, or None if it did not come to its end.
    """
    with (folder / "said.txt").open("wb") as said, (folder / "done.txt").open("wb") as done:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euxc", script),
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=done,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(390):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask_for_passwords(servers: OwnServers) -> None:
    """Let the server believe its superuser only, and give it an administrator with a password and a database."""
    rules = servers.home / "postgres" / "pg_hba.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    with psycopg.connect(servers.database_url, autocommit=True) as server:
        server.execute("select pg_reload_conf()")
        server.execute("create role administrator login createrole password 'admin-s3cret'")
        server.execute("create database theirs owner administrator")


def test_the_howto_names_every_context_and_every_role() -> None:
    assert list(CONTEXTS) == CONTEXTS_OF_TEXT
    assert list(roles_of(kafka=False)) == ROLES_OF_TEXT
    assert f'ROLES="$ROLES {RELAY}"' in sections()[KAFKA]


@pytest.mark.soak
@pytest.mark.timeout(420)
@pytest.mark.requirement("P2")
async def test_the_howto_decides_an_application_with_one_process_a_part_each_under_its_own_login(
    tmp_path: Path,
) -> None:
    await decides_an_application(tmp_path, processes=[*CONTEXTS, *roles_of(kafka=False)])


@pytest.mark.soak
@pytest.mark.timeout(420)
@pytest.mark.requirement("P2")
async def test_the_howto_decides_an_application_over_a_kafka_that_is_somebody_elses(
    tmp_path: Path, kafka_address: KafkaAddress
) -> None:
    prefix = "theirs."
    variables = {
        "FAREGATE_KAFKA_BOOTSTRAP": kafka_address.bootstrap,
        "FAREGATE_KAFKA_TOPIC_PREFIX": prefix,
    }
    await decides_an_application(tmp_path, processes=[*CONTEXTS, *roles_of(kafka=True)], kafka=variables)
    topic = f"{prefix}outbox.event.credit.application.urgent"
    told = [event_of(message.value() or b"").type for message in read_all(kafka_address, topic)]
    assert "credit.decision.finalized" in told


async def decides_an_application(
    tmp_path: Path, *, processes: Sequence[str], kafka: Mapping[str, str] | None = None
) -> None:
    """Do what the how-to says; each of these is ready and the applicant approved when it has come to its end."""
    with own_servers(tmp_path / "theirs", migrated=False) as servers:
        ask_for_passwords(servers)
        sockets = servers.valkey_socket.parent
        (tmp_path / "bin").mkdir()
        (command := tmp_path / "bin" / "faregate").write_text(
            f'#!/bin/sh\nexec {sys.executable} -m faregate "$@"\n'
        )
        command.chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
        environment |= {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "DATABASE": f"/theirs?host={sockets}",
            "ADMIN_URL": f"postgresql://administrator:admin-s3cret@/theirs?host={sockets}",
            "FAREGATE_VALKEY_URL": f"unix://{servers.valkey_socket}",
            "PORT": str(free_ports(PORTS)),
            **(kafka or {}),
        }
        (run_in := tmp_path / "run").mkdir()
        status = await ran(commands(kafka=bool(kafka)), folder=run_in, environment=environment)
    logs = {file.name: file.read_text() for file in sorted(run_in.glob("*.log"))}
    output = (run_in / "said.txt").read_text()
    assert status == 0, (output, (run_in / "done.txt").read_text(), logs)
    ready = [orjson.loads(found) for found in re.findall(r'^\{"ready".*$', output, re.MULTILINE)]
    assert [answer["ready"] for answer in ready] == [True] * len(processes)
    assert '"outcome":"approved"' in output
    assert not (run_in / ".faregate" / "postgres").exists()
    assert len(logs) == len(processes) + 1  # the sandbox's


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


@pytest.mark.requirement("P2")
def test_compose_offers_on_this_machine_only_what_the_howto_takes_for_granted() -> None:
    published = {name: service["ports"] for name, service in services().items()}
    bound = {
        name: re.fullmatch(r"127\.0\.0\.1:\$\{FAREGATE_(\w+)_PORT:-(\d+)\}:(\d+)", *ports)
        for name, ports in published.items()
    }
    assert {name: found and found.groups() for name, found in bound.items()} == {
        "postgres": ("POSTGRES", "5432", "5432"),
        "valkey": ("VALKEY", "6379", "6379"),
        "kafka": ("KAFKA", "9092", "9092"),
    }
    postgres = services()["postgres"]["environment"]
    default = {name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for name, value in postgres.items()}
    user, password, database = (default[f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB"))
    assert f"${{DATABASE:-127.0.0.1:5432/{database}}}" in TEXT
    assert f"${{ADMIN_URL:-postgresql://{user}:{password}@$DATABASE}}" in TEXT
    assert "${FAREGATE_VALKEY_URL:-redis://127.0.0.1:6379}" in TEXT


def test_compose_keeps_data_in_named_volumes_and_waits_for_health() -> None:
    volumes = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    for name, service in services().items():
        assert service["volumes"][0].partition(":")[0] in volumes, name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["image"].partition(":")[2][:1].isdigit(), name


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="there is no docker compose here",
)
def test_docker_compose_understands_the_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "--file", str(COMPOSE), "config", "--quiet"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
