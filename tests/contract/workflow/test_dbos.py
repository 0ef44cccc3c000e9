"""What our adapter adds where DBOS alone would leave a run behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from dbos import DBOS

from faregate.infra.clock import SystemClock
from faregate.infra.database import url_with_role
from faregate.infra.workflow.dbos_engine import DbosEngine
from tests.contract.workflow.worker import LEASE_S, workflows
from tests.contract.workflow.world import World, eventually

_CLAIM_THAT_NEVER_ARRIVED = """
update dbos.workflow_status
set status = 'PENDING', executor_id = (select max(id)::text from workflow.worker), started_at_epoch_ms = 0
where workflow_uuid = 'a'
"""


async def test_a_run_that_was_claimed_but_never_executed_is_given_back_by_its_own_worker(
    world: World,
) -> None:
    await world.send("a")
    await world.start("a")
    async with await psycopg.AsyncConnection.connect(
        url_with_role(world.plan.url, role="faregate_workflow"), autocommit=True
    ) as conn:
        await conn.execute("insert into workflow.worker (host, pid, expires_at) values ('', 0, 'infinity')")
        await conn.execute(_CLAIM_THAT_NEVER_ARRIVED)
        await world.working(lease_s=0.2)
        await conn.execute(_CLAIM_THAT_NEVER_ARRIVED)
    await world.ended()
    assert await world.steps("a") == ["first", "second"]


_CLAIMED = """
update dbos.workflow_status
set status = 'PENDING', executor_id = '7',
    started_at_epoch_ms = extract(epoch from now() - %s * interval '1 second') * 1000
where workflow_uuid = %s
"""


@pytest.mark.parametrize(
    ("executed_s_ago", "is_quiet", "lost"),
    [(60, False, 0), (31, False, 0), (29, False, 1), (60, True, 1)],
    ids=["claimed together", "claimed a little later", "claimed much later", "nothing begins"],
)
async def test_a_run_is_lost_when_one_that_was_claimed_much_later_is_executed_or_nothing_begins(
    world: World, executed_s_ago: int, is_quiet: bool, lost: int
) -> None:
    await world.send("waiting", "executed")
    await world.start("waiting", "executed")
    async with await psycopg.AsyncConnection.connect(
        url_with_role(world.plan.url, role="faregate_workflow")
    ) as conn:
        await conn.execute(_CLAIMED, (60, "waiting"))
        await conn.execute(_CLAIMED, (executed_s_ago, "executed"))
        given_back = "select workflow.requeue_lost(7, '{executed}', interval '30 seconds', %s)"
        assert await (await conn.execute(given_back, (is_quiet,))).fetchone() == (lost,)


async def test_an_engine_that_could_not_launch_again_tries_until_it_can_and_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DbosEngine(database_url=world.plan.url, clock=SystemClock(), lease_s=LEASE_S)
    for workflow in workflows(world.database, working_max=8):
        engine.register(workflow)
    await engine.open()
    attempts = failing_twice(monkeypatch)
    await declare_everybody_dead(world.plan.url)
    await world.send("a")
    await world.start("a")
    await world.ended()
    assert engine.is_launched
    assert next(attempts) == 3
    await only_one_worker(world)
    await engine.close()
    assert not engine.is_launched


async def only_one_worker(world: World) -> None:
    async def holds() -> bool:
        return len(await world.rows("select id from workflow.workers()")) == 1

    await eventually(holds)


def failing_twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let the next two launches fail as in an outage; what counts the launches."""
    launch, attempts = DBOS.launch, itertools.count()

    def fail_or_launch() -> None:
        if next(attempts) < 2:
            raise psycopg.OperationalError("the server closed the connection")
        launch()

    monkeypatch.setattr(DBOS, "launch", fail_or_launch)
    return attempts


async def declare_everybody_dead(url: str) -> None:
    role_url = url_with_role(url, role="faregate_workflow")
    async with await psycopg.AsyncConnection.connect(role_url, autocommit=True) as conn:
        await conn.execute("delete from workflow.worker")
