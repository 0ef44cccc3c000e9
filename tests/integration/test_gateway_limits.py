"""Pools of several processes before one provider: what they share in Valkey, and what they do without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from faregate.events.base import PublishedEvent
from faregate.gateway import api
from faregate.gateway.book import PolicyBook
from faregate.gateway.contracts import ProviderRequest
from faregate.gateway.control import Control
from faregate.gateway.declarations import Declarations, PolicyInvalid
from faregate.gateway.desk import GatewayDesk, OperationNotGuarded, ProviderNotDeclared
from faregate.gateway.gate import Gate
from faregate.gateway.policies.breaker import CircuitBreaker, State
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.shared import Shared
from faregate.gateway.store.changes import ChangeOvertaken
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.shared_breakers import SharedBreakers
from faregate.infra.token_bucket import TokenBuckets
from faregate.kernel.event import NewEvent
from faregate.kernel.outcome import Done, NotDone, Outcome, Unknown
from tests.conftest import OpenDatabase
from tests.eventlog import eventually
from tests.integration.gateway_world import ONE_SHOT, ScriptedProvider, World, new_intent, until
from tests.servers import own_servers

ALT = replace(ONE_SHOT, provider="bureau_alt")
BOTH = ("bureau", "bureau_alt")
PATIENT = """
[defaults.retry]
sends_max = 50
backoff_s = 0.01
look_up_s = 0.02
look_up_s_max = 0.1
[defaults.retry_budget]
floor_per_s = 1000
"""
TOUCHY = (
    PATIENT
    + """
[providers.bureau.send.breaker]
window_calls = 10
calls_min = 5
open_s = {open_s}
probes = 3
successes = 2
"""
)


@dataclass
class Partner(ScriptedProvider):
    """A provider that can be down, and that remembers when it was asked."""

    is_down: bool = False
    sent_at: list[float] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        self.sent_at.append(time.monotonic())
        if self.hold:
            self.sent.append(request.provider_request_id)
            await self.hold.wait()
            return self.execute(request.provider_request_id)
        if self.is_down:
            self.sent.append(request.provider_request_id)
            return NotDone("unavailable", retryable=True)
        return await super().submit(request, timeout_s=timeout_s)


def stamp(event: PublishedEvent) -> NewEvent:
    return event.to_event(id=uuid4(), time=datetime.now(UTC))


@dataclass
class Process:
    """A worker of its own as far as Valkey and the policies go; the journal and the provider are the world's."""

    control: Control
    world: World

    def breaker(self, provider: str = "bureau", operation: Operation = Operation.SEND) -> CircuitBreaker:
        return self.control.gate(provider).guard.lanes[operation].breaker


@asynccontextmanager
async def process(
    database: Database, valkey: Path, providers: list[ScriptedProvider], *, declared: str, name: str = "one"
) -> AsyncIterator[Process]:
    """Open a process that serves the providers while the block runs; its two loops are the test's to turn."""
    # A busy machine must not look like a Valkey that is down.
    cache = await Cache.open(f"unix://{valkey}", request_timeout_ms=5_000, retry_after_s=0.05)
    shared = Shared(
        breakers=SharedBreakers(cache=cache, name="test"), buckets=TokenBuckets(cache=cache, name="test")
    )
    book = PolicyBook(Declarations(declared, source="test"), providers=BOTH)
    control = Control(database=database, book=book, shared=shared, stamp=stamp, process=name)
    world = World(database, providers, control=control)
    async with world.serving():
        await control.meet()
        yield Process(control, world)
    await cache.close()


def desk(database: Database, cache: Cache, declared: str) -> GatewayDesk:
    return GatewayDesk(
        database=database,
        declarations=dict.fromkeys(BOTH, Declarations(declared, source="test")),
        breakers=SharedBreakers(cache=cache, name="test"),
        stamp=stamp,
    )


@pytest.fixture
async def credit(open_database: OpenDatabase) -> Database:
    return await open_database("credit")


@pytest.fixture
async def operators(open_database: OpenDatabase) -> Database:
    return await open_database("gateway")


async def declare(database: Database, number: int, *, first: int = 0, budget_s: float = 60.0) -> None:
    async with database.transaction() as conn:
        intents = [new_intent(f"app_{first + n}", budget_s=budget_s) for n in range(number)]
        await api.declare(conn, intents)


def logged(database_url: str) -> list[tuple[str, dict[str, object]]]:
    """What the gateway appended to the event log, in its order."""
    with psycopg.connect(database_url) as superuser:
        query = "select type, payload from eventlog.outbox where type like 'gateway.%' order by ord"
        return superuser.execute(query).fetchall()


def count_polls(*processes: Process) -> list[int]:
    """Count from now on how often each process asks its gate for room to send."""
    polls = [0] * len(processes)

    def count(number: int, gate: Gate) -> None:
        room = gate.room

        async def counted(operation: Operation) -> int:
            polls[number] += operation is Operation.SEND
            return await room(operation)

        gate.room = counted  # type: ignore[method-assign]

    for number, one in enumerate(processes):
        count(number, one.control.gate("bureau"))
    return polls


@pytest.mark.requirement("C26")
async def test_processes_share_one_bucket_and_what_it_refuses_was_not_sent(
    credit: Database, cache: Cache, valkey_socket: Path
) -> None:
    limited = PATIENT + "[providers.bureau.rate]\nper_s = 40\nburst = 10\nkept_for_reads = 0\n"
    partner = Partner()
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        for name in ("one", "two"):
            await stack.enter_async_context(
                process(credit, valkey_socket, [partner], declared=limited, name=name)
            )
        await declare(credit, 60)
        await until(lambda: len(partner.executed) == 60)
    for number, sent_at in enumerate(partner.sent_at, start=1):
        assert number <= 10 + 40 * (sent_at - began) + 1
    async with credit.connection() as conn:
        [row] = await api.summary(conn)
    assert (row["intents"], row["sends"]) == (60, 60), "what the bucket refused counts as no send"


@pytest.mark.requirement("C15")
@pytest.mark.requirement("C29")
async def test_a_failing_provider_is_left_alone_and_then_asked_by_exactly_k_probes_of_all_processes(
    credit: Database, cache: Cache, valkey_socket: Path, database_url: str
) -> None:
    partner, declared = Partner(is_down=True), TOUCHY.format(open_s=2.0)
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                process(credit, valkey_socket, [partner], declared=declared, name=name)
            )
            for name in ("one", "two")
        ]
        await declare(credit, 1_000)
        await until(lambda: State.OPEN in (one.breaker().state, two.breaker().state))
        # The opening is told by a task of its own, maybe after the other has met.
        while (one.breaker().state, two.breaker().state) != (State.OPEN, State.OPEN):
            await one.control.meet()
            await two.control.meet()
        partner.hold, before = asyncio.Event(), len(partner.sent)
        await until(lambda: len(partner.sent) == before + 3)
        polls = count_polls(one, two)
        await until(lambda: min(polls) > 10)
        assert len(partner.sent) == before + 3, "a thousand wait, and three were sent"
        partner.hold.set()
        await until(lambda: len(partner.executed) == 1_000)
        await one.control.follow()
        await two.control.follow()
    kinds = [(kind, payload["scope"]) for kind, payload in logged(database_url)]
    assert sorted(kinds) == [
        ("gateway.breaker.closed", "all"),
        ("gateway.breaker.half_opened", "all"),
        ("gateway.breaker.opened", "all"),
    ]


@pytest.mark.requirement("C29")
async def test_an_open_breaker_sends_zero_and_lets_budgets_end_and_look_ups_go_on(
    credit: Database, cache: Cache, valkey_socket: Path
) -> None:
    partner = Partner(script=[Unknown("timeout")], found=[Unknown("down")] * 3)
    async with process(credit, valkey_socket, [partner], declared=TOUCHY.format(open_s=60)) as one:
        await declare(credit, 1, first=1)
        await until(lambda: partner.asked != [])
        one.breaker().open(now=time.clock_gettime(time.CLOCK_BOOTTIME), for_s=60.0)
        partner.execute("app_1:bureau:1")
        await declare(credit, 3, first=2, budget_s=0.2)
        await until(lambda: len(one.world.owner.told) == 4)
        assert one.world.owner.statuses("app_1") == ["done"]
        assert one.world.owner.statuses("app_2") == ["not_done"]
    assert partner.sent == ["app_1:bureau:1"]


@pytest.mark.requirement("C15")
@pytest.mark.requirement("C29")
async def test_an_operator_opens_a_breaker_and_the_fallback_takes_over_until_it_is_let_go(
    credit: Database, operators: Database, cache: Cache, valkey_socket: Path, database_url: str
) -> None:
    partner, alternative = Partner(), ScriptedProvider(capabilities=ALT)
    operator = desk(operators, cache, PATIENT)
    async with process(credit, valkey_socket, [partner, alternative], declared=PATIENT) as one:
        await operator.hold(
            "bureau", Override.FORCED_OPEN, operations=[Operation.SEND], reason="their request", by="ops"
        )
        await one.control.follow()
        await declare(credit, 120)
        await until(lambda: len(alternative.executed) == 120)
        assert partner.sent == []
        [bureau, _] = await operator.status()
        assert bureau.operations[0].override is Override.FORCED_OPEN
        held = await operator.hold(
            "bureau", Override.AUTOMATIC, operations=[Operation.SEND], reason="over", by="ops"
        )
        assert held == {}
        await one.control.follow()
        await declare(credit, 1, first=500)
        await until(lambda: partner.executed == ["app_500:bureau:1"])
    history = await operator.history("bureau")
    assert [(change.reason, change.changed_by) for change in history] == [
        ("over", "ops"),
        ("their request", "ops"),
    ]
    assert [kind for kind, _ in logged(database_url)] == ["gateway.policy.changed"] * 2


async def test_a_policy_changes_while_the_pool_runs(
    credit: Database, operators: Database, cache: Cache, valkey_socket: Path
) -> None:
    partner, operator = Partner(hold=asyncio.Event()), desk(operators, cache, PATIENT)
    async with process(credit, valkey_socket, [partner], declared=PATIENT) as one:
        overrides = {"send.bulkhead.in_flight_max": 3}
        changed = await operator.change_policy(
            "bureau", overrides, seen_version=0, reason="slow today", by="ops"
        )
        assert (changed.overrides, changed.fields["send.bulkhead.in_flight_max"]) == (overrides, 3)
        await one.control.follow()
        await declare(credit, 20)
        await until(lambda: len(partner.sent) == 3)
        await operator.change_policy("bureau", {}, seen_version=changed.version, reason="well", by="ops")
        await one.control.follow()
        await until(lambda: len(partner.sent) == 20)
        assert partner.hold is not None
        partner.hold.set()


async def test_an_operators_mistakes_are_refused(operators: Database, cache: Cache) -> None:
    operator = desk(operators, cache, PATIENT)
    with pytest.raises(PolicyInvalid, match=r"send\.bulkhead\.in_flight_max"):
        await operator.change_policy(
            "bureau", {"send.bulkhead.in_flight_max": 0}, seen_version=0, reason="r", by="ops"
        )
    await operator.change_policy("bureau", {"timeout_s": 2.0}, seen_version=0, reason="r", by="ops")
    with pytest.raises(ChangeOvertaken):
        await operator.change_policy("bureau", {"timeout_s": 3.0}, seen_version=0, reason="r", by="ops")
    with pytest.raises(ProviderNotDeclared, match="there are bureau, bureau_alt"):
        await operator.policy("burro")
    with pytest.raises(OperationNotGuarded):
        await operator.hold("bureau", Override.FORCED_OPEN, operations=[Operation.WRITE], reason="r", by="o")


async def test_what_operators_changed_is_never_altered(operators: Database, cache: Cache) -> None:
    await desk(operators, cache, PATIENT).change_policy("bureau", {}, seen_version=0, reason="r", by="ops")
    for statement in (
        "delete from gateway.provider_change",
        "update gateway.provider_change set reason = 'x'",
    ):
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
            async with operators.transaction() as conn:
                await conn.execute(statement)


@pytest.mark.requirement("C27")
async def test_without_a_retry_budget_nothing_is_sent_twice_and_the_fallback_takes_over(
    credit: Database, cache: Cache, valkey_socket: Path
) -> None:
    none_left = PATIENT.replace("floor_per_s = 1000", "floor_per_s = 0\nratio = 0")
    partner, alternative = Partner(is_down=True), ScriptedProvider(capabilities=ALT)
    async with process(credit, valkey_socket, [partner, alternative], declared=none_left) as one:
        await declare(credit, 15)
        await until(lambda: len(one.world.owner.told) == 15)
    assert (len(partner.sent), len(alternative.executed)) == (15, 15)


async def test_a_late_look_up_is_asked_a_second_time_and_the_first_answer_counts(
    credit: Database, cache: Cache, valkey_socket: Path
) -> None:
    async def never() -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    hedged = PATIENT + "[defaults.hedge]\nshare_max = 1.0\ndelay_s = 0.05\n"
    partner = Partner(script=[Unknown("timeout")] * 2, found=[Done({"n": 1}), never, Done({"n": 2})])
    async with process(credit, valkey_socket, [partner], declared=hedged) as one:
        await declare(credit, 1, first=1)
        await until(lambda: len(one.world.owner.told) == 1)
        await declare(credit, 1, first=2)
        await until(lambda: len(one.world.owner.told) == 2)
    assert partner.asked == ["app_1:bureau:1", "app_2:bureau:1", "app_2:bureau:1"]
    assert one.world.owner.told[-1].facts == {"n": 2}


@pytest.mark.requirement("C28")
@pytest.mark.requirement("C26")
async def test_without_valkey_each_process_goes_on_with_its_share_and_joins_the_others_again(
    tmp_path: Path,
) -> None:
    limited = TOUCHY.format(open_s=60) + "[providers.bureau.rate]\nper_s = 400\nburst = 40\n"
    partner = Partner()
    with own_servers(tmp_path / "home") as servers:
        credit = await Database.open(servers.database_url, role="faregate_credit", connections_max=4)
        async with process(credit, servers.valkey_socket, [partner], declared=limited) as one:
            await declare(credit, 5)
            await until(lambda: len(partner.executed) == 5)
            servers.valkey.kill9()
            await one.control.meet()
            assert not one.breaker().is_led
            await declare(credit, 30, first=100)
            await until(lambda: len(partner.executed) == 35)
            one.breaker().open(now=time.clock_gettime(time.CLOCK_BOOTTIME), for_s=60.0)
            servers.valkey.start()
            await eventually(lambda: joined(one), what="the process is led by the shared breaker again")
            await eventually(lambda: is_open_for_all(one), what="what it opened alone is open for all")
        await credit.close()


async def joined(one: Process) -> bool:
    await one.control.meet()
    return one.breaker().is_led


async def is_open_for_all(one: Process) -> bool:
    return (await one.control.shared.breakers.census(keys=["bureau/send"])).views[0].state == "open"


async def test_the_desk_shows_what_the_processes_do_and_what_is_left_without_valkey(
    credit: Database, operators: Database, cache: Cache, valkey_socket: Path, tmp_path: Path
) -> None:
    async with process(credit, valkey_socket, [Partner()], declared=PATIENT) as one:
        await declare(credit, 7)
        await until(lambda: len(one.world.owner.told) == 7)
        await one.control.meet()
        [bureau, _] = await desk(operators, cache, PATIENT).status()
    send = bureau.operations[0]
    assert (bureau.processes, send.shared_state, send.states) == (1, "closed", {"closed": 1})
    assert (send.calls, send.failed, send.limit) == (7, 0, 64)
    nowhere = await Cache.open(f"unix://{tmp_path}/none.sock")
    [alone, _] = await desk(operators, nowhere, PATIENT).status()
    assert (alone.processes, alone.operations[0].shared_state) == (0, None)
    await nowhere.close()
