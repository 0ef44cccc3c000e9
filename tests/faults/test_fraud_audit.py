"""PostgreSQL is stopped, delayed and killed under the fraud service, and the service with it: no decision is lost.

Whatever was answered stands in PostgreSQL afterwards, once, with the answer that was given.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.fraud_world import PATIENT, FraudWorld, new_payment, open_fraud_world
from tests.servers import OwnServers, free_ports, own_servers

pytestmark = [pytest.mark.timeout(240), pytest.mark.requirement("F10")]

Answers = dict[str, dict[str, Any]]


@dataclass
class Asked:
    """The payments that were answered, and the answers."""

    answers: Answers = field(default_factory=dict)

    async def some(self, fraud: FraudWorld, count: int) -> list[dict[str, Any]]:
        payments = [new_payment() for _ in range(count)]
        told = await asyncio.gather(*(fraud.decided(payment) for payment in payments))
        self.answers |= {answer["decision_id"]: answer for answer in told}
        return told


@contextmanager
def servers_of(tmp_path: Path) -> Iterator[OwnServers]:
    with own_servers(tmp_path / "home") as servers:
        yield servers


@asynccontextmanager
async def service(
    servers: OwnServers, *, home: Path | None = None, **changed: Any
) -> AsyncIterator[FraudWorld]:
    """Serve fraud on these servers; it is patient with Valkey only."""
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=home or servers.home,
        database_url=SecretStr(servers.database_url),
        valkey_url=SecretStr(url := f"unix://{servers.valkey_socket}"),
        fraud_features_ms_max=PATIENT["fraud_features_ms_max"],
        **changed,
    )
    cache = await Cache.open(url)
    async with open_fraud_world(settings, cache=cache) as fraud:
        yield fraud
    await cache.close()


async def rows(servers: OwnServers) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(servers.database_url, row_factory=dict_row) as conn:
        return await (await conn.execute("select * from fraud.decision order by id")).fetchall()


async def assert_all_there(servers: OwnServers, answers: Answers) -> None:
    """Every answer stands in PostgreSQL, once; whether it waited in the spool is all that may be said more."""
    found = await rows(servers)
    recorded = {row["id"]: row["record"]["answer"] for row in found}
    assert len(recorded) == len(found)
    assert {row["payment_id"] for row in found if row["is_first"]} == {row["payment_id"] for row in found}
    for decision_id, answer in answers.items():
        without = [one for one in answer["degraded"] if one != "audit_spooled"]
        assert recorded[decision_id] == {**answer, "degraded": without}


async def until_direct(fraud: FraudWorld, asked: Asked, *, pause_s: float = 0.05) -> None:
    """Ask until an answer does not go to the spool any more, whose refusals do not count."""
    async with asyncio.timeout(30):
        while True:
            reply = await fraud.ask(new_payment())
            if reply.status == 200:
                asked.answers[reply.json["decision_id"]] = reply.json
                if "audit_spooled" not in reply.json["degraded"]:
                    return
            await asyncio.sleep(pause_s)


async def test_decisions_go_on_while_postgres_is_stopped_and_arrive_once_when_it_is_back(
    tmp_path: Path,
) -> None:
    asked = Asked()
    with servers_of(tmp_path) as servers:
        async with service(servers, fraud_audit_ms_max=2_000) as fraud:
            [before] = await asked.some(fraud, 1)
            assert "audit_spooled" not in before["degraded"]
            servers.postgres.kill9()
            payment = new_payment()
            spooled = await fraud.decided(payment)
            asked.answers[spooled["decision_id"]] = spooled
            for _ in range(3):
                assert all("audit_spooled" in one["degraded"] for one in await asked.some(fraud, 20))
            assert await fraud.decided(payment) == spooled
            assert (await fraud.ask({**payment, "amount_minor": 1})).problem == (409, "payment-id-reused")
            servers.postgres.start()
            await until_direct(fraud, asked)
            await assert_all_there(servers, asked.answers)
            assert (await fraud.decided(payment))["decision_id"] == spooled["decision_id"]
            assert len(await rows(servers)) == len(asked.answers)


async def test_a_slow_postgres_keeps_nobody_waiting_and_gets_each_decision_once(tmp_path: Path) -> None:
    asked = Asked()
    with servers_of(tmp_path) as servers:
        async with service(servers) as fraud:
            await asked.some(fraud, 1)
            async with await psycopg.AsyncConnection.connect(servers.database_url) as blocker:
                await blocker.execute("lock table fraud.scored_payment in access exclusive mode")
                for _ in range(5):
                    assert all("audit_spooled" in one["degraded"] for one in await asked.some(fraud, 20))
                await blocker.rollback()
            async with asyncio.timeout(
                60
            ):  # nobody pauses: under load there is always something in the spool
                await asyncio.gather(*(until_direct(fraud, asked, pause_s=0.0) for _ in range(8)))
        await assert_all_there(servers, asked.answers)
        assert len(await rows(servers)) == len(asked.answers)


async def test_of_two_machines_that_decided_one_payment_meanwhile_both_are_recorded_and_the_first_counts(
    tmp_path: Path,
) -> None:
    payment = new_payment(ip=None)  # the two have keys of their own, and so other pseudonyms for one address
    with servers_of(tmp_path) as servers:
        async with service(servers) as here, service(servers, home=tmp_path / "there") as there:
            for fraud in (here, there):
                await fraud.decided()  # the key is known from now on
            servers.postgres.kill9()
            told = [await fraud.decided(payment) for fraud in (here, there)]
            servers.postgres.start()
            for fraud in (here, there):
                await until_direct(fraud, Asked())
            kept = [row for row in await rows(servers) if row["payment_id"] == payment["payment_id"]]
            assert {row["id"] for row in kept} == {answer["decision_id"] for answer in told}
            [counts] = [row["id"] for row in kept if row["is_first"]]
            found = await here.get(f"/payments/{payment['payment_id']}/decision")
            assert found.json["answer"]["decision_id"] == counts


async def test_a_full_spool_refuses_instead_of_answering_what_nobody_would_know(tmp_path: Path) -> None:
    asked = Asked()
    with servers_of(tmp_path) as servers:
        async with service(servers, fraud_spool_bytes_max=20_000) as fraud:
            await asked.some(fraud, 1)
            servers.postgres.kill9()
            statuses = [(reply := await fraud.ask(new_payment())).status for _ in range(40)]
            assert set(statuses) == {200, 503}
            assert reply.problem == (503, "spool-full")
            servers.postgres.start()
            await until_direct(fraud, asked)
            await assert_all_there(servers, asked.answers)


class Process:
    """`faregate serve fraud` on a port of its own, until it is killed."""

    def __init__(self, servers: OwnServers, port: int, stack: ExitStack) -> None:
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "FAREGATE_HOME": str(servers.home),
            "FAREGATE_DATABASE_URL": servers.database_url,
            "FAREGATE_VALKEY_URL": f"unix://{servers.valkey_socket}",
            "FAREGATE_API_PORT": str(port),
            "FAREGATE_FRAUD_FEATURES_MS_MAX": "5000",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
        command = [sys.executable, "-m", "faregate", "serve", "fraud"]
        self.process = stack.enter_context(
            subprocess.Popen(command, env={**kept, **environment}, stdout=subprocess.DEVNULL)
        )
        stack.callback(self.process.kill)

    async def until_ready(self, session: aiohttp.ClientSession) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    async with session.get(self.url + "/readyz") as reply:
                        if reply.status == 200:
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()


async def test_what_a_killed_service_had_spooled_is_shipped_once_by_the_next_one(tmp_path: Path) -> None:
    answers: Answers = {}
    with servers_of(tmp_path) as servers, ExitStack() as stack:
        async with service(servers) as fraud, aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {fraud.world.tokens['payments']}"}

            async def ask(process: Process) -> None:
                async with session.post(
                    process.url + "/api/fraud/score", json=new_payment(), headers=headers
                ) as reply:
                    assert reply.status == 200, await reply.read()
                    answer = await reply.json()
                    answers[answer["decision_id"]] = answer

            for _ in range(2):
                process = Process(servers, free_ports(1), stack)
                await process.until_ready(session)
                await asyncio.gather(*(ask(process) for _ in range(10)))
                servers.postgres.kill9()
                for _ in range(4):
                    await asyncio.gather(*(ask(process) for _ in range(25)))
                servers.postgres.start()  # it is killed while it ships, or before
                process.kill9()
        assert sum("audit_spooled" in one["degraded"] for one in answers.values()) >= 200
        async with service(servers) as last:
            await until_direct(last, Asked())
        await assert_all_there(servers, answers)
        assert list((servers.home / "fraud-spool").iterdir()) == []
