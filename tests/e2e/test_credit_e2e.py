"""Credit as it is run: API, worker and sandbox as processes of their own, at log level debug, with traces in a file."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
import pytest_asyncio
from glide import GlideClient
from psycopg.rows import dict_row

from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.site import Site
from faregate.infra.cache import Cache, configuration_of
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.security.encryption import key_id_of
from faregate.infra.settings import Settings
from faregate.sandbox.personas import PERSONAS
from tests.credit_worker import STRAIGHT, CreditSystem, new_person, servers_of_module  # noqa: F401
from tests.credit_world import ACME, CreditWorld, changed, new_key
from tests.sandbox import Sandbox, until

module_loop = pytest.mark.asyncio(loop_scope="module")

ENVIRONMENT = {
    "FAREGATE_LOG_LEVEL": "debug",
    "FAREGATE_TRACE_EXPORTER": "file",
    "FAREGATE_APPLICATION_DEADLINE_S": "30",
    "FAREGATE_STATUS_CACHE_TTL_S": "600",
}
ROUGH = {
    "default": {
        "hold_s": 4.0,
        "retry_after_s": 0,
        "callback_late_s": 0.3,
        "rates": {
            "unavailable": 0.05,
            "unauthorised": 0.05,
            "error_after": 0.05,
            "malformed": 0.1,
            "wrong_schema": 0.1,
            "look_up_malformed": 0.1,
            "callback_duplicate": 0.2,
            "callback_wrong_signature": 0.2,
            "callback_malformed": 0.2,
        },
    }
}


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The running processes, and the ways into them."""

    local: LocalSystem
    system: CreditSystem
    home: Path

    async def faregate(self, *arguments: str) -> tuple[int, str]:
        """Run the command line as an operator of this system would; return exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faregate",
            *arguments,
            env={**os.environ, **self.local.environment},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def logs(self) -> dict[str, str]:
        """Return everything that each process logged."""
        return {file.name: file.read_text() for file in sorted((self.home / "logs").glob("*.log"))}

    def spans(self) -> list[dict[str, Any]]:
        lines = (self.home / "traces.jsonl").read_text().splitlines()
        return [orjson.loads(line) for line in lines]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(
    servers_of_module: Settings,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Processes]:
    assert servers_of_module.database_url is not None
    assert servers_of_module.valkey_url is not None
    database_url = servers_of_module.database_url.get_secret_value()
    valkey_url = servers_of_module.valkey_url.get_secret_value()
    home = tmp_path_factory.mktemp("processes")
    plan = Plan(home=home, database_url=database_url, valkey_url=valkey_url, environment=ENVIRONMENT)
    async with AsyncExitStack() as stack:
        cache = await Cache.open(valkey_url)
        stack.push_async_callback(cache.close)
        await cache.clear()
        local = await stack.enter_async_context(local_system(plan))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        connection = await psycopg.AsyncConnection.connect(
            database_url, autocommit=True, row_factory=dict_row
        )
        stack.push_async_callback(connection.close)
        site = Site(
            settings=servers_of_module.model_copy(update={"home": home}),
            database_url=database_url,
            valkey_url=valkey_url,
        )
        world = CreditWorld(
            url=local.api_url, site=site, session=session, cache=cache, connection=connection, tokens={}
        )
        await world.add_key(ACME, client=ACME, scopes=["credit:submit", "credit:read"])
        system = CreditSystem(
            world=world,
            hurried=world,
            sandbox=Sandbox(local.sandbox_url, session),
            credit=await site.database(stack, "credit"),
            log=await site.database(stack, "eventlog", connections_max=1),
            _worker=AsyncExitStack(),
        )
        yield Processes(local=local, system=system, home=home)


# Traces


@pytest.mark.requirement("P4")
@module_loop
async def test_one_trace_follows_an_application_from_the_request_to_the_decision(
    processes: Processes,
) -> None:
    system, trace_id = processes.system, os.urandom(16).hex()
    reply = await system.world.submit(new_person(), traceparent=f"00-{trace_id}-{os.urandom(8).hex()}-01")
    application_id = str(reply.json["application_id"])
    await system.until_event(application_id, "credit.decision.finalized")

    events = await system.events(application_id)
    assert {event["traceparent"].split("-")[1] for event in events} == {trace_id}
    executed = await system.sandbox.executions(application=application_id)
    assert {execution["traceparent"].split("-")[1] for execution in executed} == {trace_id}

    async def spans() -> list[dict[str, Any]]:
        return [span for span in processes.spans() if span["trace_id"] == trace_id]

    # Each process writes its spans every half second, so that theirs may come in any order.
    ends = {("faregate-api", "POST /api/credit-applications"), ("faregate-worker", "decide application")}
    found = await until(spans, lambda s: ends <= {(span["service"], span["name"]) for span in s})
    names = {(span["service"], span["name"]) for span in found}
    assert ("faregate-worker", "dispatch checks") in names
    assert {("faregate-worker", f"gateway send {p}") for p in ("bureau", "kyc", "fraud", "income")} <= names
    sent = {span["span_id"] for span in found if span["name"].startswith("gateway send")}
    assert {execution["traceparent"].split("-")[2] for execution in executed} <= sent


# Personal data


@dataclass(frozen=True)
class Applicant:
    """Somebody who applied. `traces_in` finds what would give him away in a text."""

    legal_name: str
    dob: str
    ssn_last4: str

    def traces_in(self, text: str) -> Iterator[str]:
        """Yield whatever of this person stands in a text: name, birth date, SSN digits as a value of their own."""
        for value in (self.legal_name, self.legal_name.replace(" ", "%20"), self.dob):
            if value.lower() in text.lower():
                yield value
        quoted = re.compile(rf"""\\?["'>=:]\s*{self.ssn_last4}\\?["'<&]""")
        yield from quoted.findall(text)


def test_the_search_for_personal_data_finds_what_it_should() -> None:
    person = Applicant("Jane Doe", "1980-01-02", "1234")
    for leak in (
        "JANE DOE", "?n=Jane%20Doe", "born 1980-01-02", '{"ssn_last4":"1234"}', "{'a': '1234'}",
        '"{\\"a\\": \\"1234\\"}"', "<ssn>1234</ssn>", "?ssn=1234&x",
    ):  # fmt: skip
        assert list(person.traces_in(leak)), leak
    for harmless in ('{"duration_ms":1234,"x":1}', '"app_1234"', "2026-11-21T12:34:12.341234Z", "port 1234"):
        assert not list(person.traces_in(harmless)), harmless


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(processes: Processes) -> list[Applicant]:
    """Twenty people who applied while providers, callbacks and clients misbehaved, all decided."""
    system = processes.system
    names = [p.legal_name for p in PERSONAS.values() if p.legal_name not in ("Uma Unknown", "Silas Silent")]
    forms = [new_person(name) for name in names]  # those two would wait for their deadline
    forms += [new_person() for _ in range(20 - len(forms))]
    await system.sandbox.set_faults(ROUGH)
    replies = await asyncio.gather(*(system.world.submit(form) for form in forms))
    assert {reply.status for reply in replies} == {202}
    await asyncio.gather(*(misuse(system, form) for form in forms))
    query = "select id from credit.application where status = 'processing'"
    await system.until_sql(query, lambda rows: not rows)
    await system.sandbox.set_faults({})
    return [Applicant(*(form["applicant"][f] for f in ("legal_name", "dob", "ssn_last4"))) for form in forms]


async def misuse(system: CreditSystem, form: dict[str, Any]) -> None:
    """Send what clients send by mistake, with a person in it; none of it may be accepted."""
    person = form["applicant"]
    broken = orjson.dumps(form)[:-3]
    wrong = changed(form, annual_income=person["legal_name"], dob=person["dob"] + "x")
    extra = form | {"contact": person}
    for body in (broken, wrong, extra, [person["legal_name"], person["dob"], person["ssn_last4"]]):
        assert (await system.world.submit(body)).status in (400, 422)
    assert (await system.world.submit(form, client=None)).status == 401
    assert (await system.world.submit(form, key=new_key())).status == 409
    query = f"?legal_name={person['legal_name']}&ssn={person['ssn_last4']}&dob={person['dob']}"
    await system.world.status(f"app_unknown{query}")
    for name in (person["legal_name"], person["dob"]):
        await system.world.status(name)
        await system.world.request("GET", f"/problems/{name}", client=None)


@pytest.mark.requirement("P3")
@module_loop
async def test_no_process_logs_or_traces_anything_that_tells_who_applied(
    processes: Processes, people: list[Applicant]
) -> None:
    texts = processes.logs() | {"traces.jsonl": (processes.home / "traces.jsonl").read_text()}
    assert {"api-1.log", "worker-1.log", "sandbox.log"} <= texts.keys()
    assert texts["api-1.log"].count('"event":"request"') > len(people)
    found = {
        (name, leak) for name, text in texts.items() for person in people for leak in person.traces_in(text)
    }
    assert found == set()


@pytest.mark.requirement("C10")
@pytest.mark.requirement("P3")
@module_loop
async def test_no_event_and_no_cached_value_tells_who_applied(
    processes: Processes, people: list[Applicant]
) -> None:
    events = await processes.system.sql("select payload::text as text from eventlog.event")
    assert len(events) > 10 * len(people)
    cached = await everything_in_valkey(processes.local.valkey_url)
    assert len(cached) >= len(people)
    text = "\n".join([*(row["text"] for row in events), *cached])
    assert [leak for person in people for leak in person.traces_in(text)] == []


async def everything_in_valkey(url: str) -> list[str]:
    client = await GlideClient.create(configuration_of(url))
    keys = await client.custom_command(["KEYS", "*"])
    assert isinstance(keys, list)
    values = [await client.custom_command(["DUMP", key]) for key in keys]
    await client.close()
    return [f"{key!r} {value!r}" for key, value in zip(keys, values, strict=True)]


@pytest.mark.requirement("P3")
@module_loop
async def test_no_table_of_the_database_holds_a_person_in_clear(
    processes: Processes, people: list[Applicant]
) -> None:
    sql = processes.system.sql
    tables = await sql(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables"
        " where schemaname not in ('pg_catalog', 'information_schema')"
    )
    found = []
    for table in tables:
        rows = await sql(f"select row_to_json(t)::text as text from {table['name']} t")
        text = "\n".join(row["text"] for row in rows)
        leaks = [leak for person in people for leak in person.traces_in(text)]
        # A bytea is shown in hex, so that unencrypted text in one would not be seen as such.
        leaks += [p.legal_name for p in people if p.legal_name.encode().hex() in text]
        found += [(table["name"], leak) for leak in leaks]
    assert len(tables) > 20
    assert found == []


# Keys


@pytest.mark.requirement("P3")
@module_loop
async def test_the_encryption_key_rotates_under_running_processes_and_applications_on_their_way(
    processes: Processes,
) -> None:
    system, worker = processes.system, processes.local.supervisor.pid("worker-1")
    await system.decided(await system.submit())
    os.kill(
        worker, signal.SIGSTOP
    )  # so that the next one still has every call before it when the key changes
    on_its_way = await system.submit()
    status, output = await processes.faregate("pii", "rotate")
    os.kill(worker, signal.SIGCONT)
    assert (status, "new key k2" in output) == (0, True)
    sealed = await system.sql(
        "select identity_encrypted as value from credit.application"
        " union all select response from gateway.intent where length(response) > 0"
        " union all select response from gateway.callback where length(response) > 0"
    )
    assert keys_in(sealed) == {"k2"}
    assert (await system.decided(on_its_way))["reason_codes"] != ["BUREAU_CHECK_FAILED"]
    assert await system.executed(on_its_way) == STRAIGHT
    assert await keys_of_new_applications(system) == ({"k2"}, {"k2"})


async def keys_of_new_applications(system: CreditSystem) -> tuple[set[str], set[str]]:
    """Return the keys that API and worker encrypt under once both had to notice the rotation."""

    async def keys_of_one() -> tuple[set[str], set[str]]:
        application_id = await decided(system)
        assert await system.executed(application_id) == STRAIGHT
        identities = await system.sql(
            "select identity_encrypted as value from credit.application where id = %(id)s", id=application_id
        )
        answers = await system.sql(
            "select response as value from gateway.intent"
            " where length(response) > 0 and starts_with(provider_request_id, %(id)s || ':')",
            id=application_id,
        )
        return keys_in(identities), keys_in(answers)

    return await until(keys_of_one, lambda keys: keys == ({"k2"}, {"k2"}))


def keys_in(rows: list[dict[str, Any]]) -> set[str]:
    return {key_id_of(bytes(row["value"])) for row in rows}


async def decided(system: CreditSystem) -> str:
    application_id = await system.submit()
    await system.decided(application_id)
    return application_id


# The operator


@pytest.mark.requirement("C4")
@module_loop
async def test_a_support_agent_sees_the_whole_of_an_application_but_not_who_applied(
    processes: Processes,
) -> None:
    application_id = await processes.system.submit("Boris Badluck")
    await processes.system.decided(application_id)
    await processes.system.final_status(application_id)
    async with AsyncExitStack() as stack:
        credit = await credit_api(stack, processes.system.world.site)
        status = await credit.status(application_id=application_id, client_id=None)
        decision = await credit.decision(application_id=application_id, client_id=None)
        signals = await credit.signals(application_id=application_id)
        trail = await credit.audit_trail(application_id=application_id)
    assert (status.status, status.latest_step, decision.outcome) == ("denied", "decision_finalized", "denied")
    assert {signal.check: signal.status for signal in signals} == dict.fromkeys(PROVIDERS_OF_CHECK, "done")
    assert [entry["action"] for entry in trail] == ["application.submitted", "decision.finalized"]
    assert "badluck" not in f"{status}{decision}{signals}{trail}".lower()


@pytest.mark.requirement("C32")
@module_loop
async def test_all_decisions_of_the_processes_are_replayed_to_the_identical_decisions(
    processes: Processes, people: list[Applicant]
) -> None:
    async with AsyncExitStack() as stack:
        report = await (await credit_api(stack, processes.system.world.site)).replay()
    assert report.replayed >= len(people)
    assert report.different == ()
