"""What a workflow engine promises while nothing dies: starts, signals, timers, failures and the cap."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from faregate.infra.workflow import NewRun, Signal, send_signals, start_runs
from faregate.infra.workflow.dbos_engine import prepare
from tests.contract.workflow.bodies import RETRY
from tests.contract.workflow.conftest import MovableClock
from tests.contract.workflow.world import World


@pytest.mark.requirement("C22")
async def test_a_run_starts_once_however_many_ask_for_it_at_once(here: World) -> None:
    await asyncio.gather(*(here.start("a", "b", "c") for _ in range(8)), here.send("a", "b", "c"))
    await here.ended()
    assert [await here.steps(run) for run in "abc"] == [["first", "second"]] * 3


@pytest.mark.requirement("C22")
async def test_a_run_that_ended_never_starts_again(here: World) -> None:
    await here.start("a")
    await here.send("a")
    await here.ended()
    await here.start("a", "b")
    await here.send("b")
    await here.ended()
    assert await here.steps("a") == ["first", "second"]


async def test_a_run_asked_for_in_a_transaction_that_rolls_back_leaves_nothing(world: World) -> None:
    async with world.database.transaction() as conn, conn.transaction(force_rollback=True):
        await start_runs(conn, workflow="two-steps", runs=[NewRun(id="a", input={})])
        await send_signals(conn, [Signal(run_id="a", name="go", signal_id="1", payload=1)])
    assert await world.open_runs() == []
    await world.start("a")
    assert await world.open_runs() == ["a"]


async def test_the_same_id_twice_in_one_batch_is_one_run(world: World) -> None:
    await world.start("a", "a", "b")
    assert sorted(await world.open_runs()) == ["a", "b"]


def test_several_processes_may_prepare_at_once_and_runs_queue_before_any_worker(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, [database_url] * 4))
    with psycopg.connect(database_url) as conn:
        conn.execute("set role faregate_credit")
        conn.execute("""select workflow.start_runs('two-steps', '[{"id": "a", "input": {}}]')""")
        row = conn.execute("select state from workflow.runs('{queued}', 9)").fetchone()
    assert row == ("queued",)


async def test_a_signal_sent_before_the_run_started_is_delivered(here: World) -> None:
    await here.send("a", payload="early")
    await here.start("a")
    await here.ended()
    assert await here.detail("a", "second") == "early"


async def test_a_signal_sent_again_or_after_the_end_does_no_harm(here: World) -> None:
    await here.start("a")
    await here.reached("first", 1)
    await asyncio.gather(*(here.send("a", payload="first") for _ in range(5)))
    await here.ended()
    await here.send("a", signal_id="2", payload="after the end")
    assert (await here.detail("a", "second"), await here.steps("a")) == ("first", ["first", "second"])


async def test_each_wait_for_a_name_gets_the_next_signal_and_each_use_of_a_step_is_a_step(
    here: World,
) -> None:
    await here.send("a", signal_id="1", payload="one")
    await here.send("a", signal_id="1", payload="one again")
    await here.start("a", workflow="many-waits")
    await here.send("a", signal_id="2", payload="two")
    await here.send("a", signal_id="3", payload="three")
    await here.ended()
    details = [row["detail"] for row in await here.rows("select detail from credit.effect order by began_at")]
    assert details == ["one", "two", "three"]


async def test_a_wait_whose_deadline_passes_returns_nothing(here: World) -> None:
    await here.start("a", deadline=datetime.now(UTC) + timedelta(milliseconds=100))
    await here.ended()
    assert (await here.detail("a", "second"), await here.steps("a")) == (None, ["first", "second"])


async def test_a_clock_set_forward_past_the_deadline_ends_the_wait(here: World, clock: MovableClock) -> None:
    await here.start("a", deadline=datetime.now(UTC) + timedelta(hours=1))
    await here.reached("first", 1)
    clock.ahead = timedelta(hours=2)
    await here.ended()
    assert await here.steps("a") == ["first", "second"]


async def test_signals_that_race_with_deadlines_give_each_run_one_answer(here: World) -> None:
    ids = [f"run-{number}" for number in range(100)]
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    await here.start(*ids, deadline=deadline)
    await here.reached("first", 100)
    await asyncio.sleep((deadline - datetime.now(UTC)).total_seconds() - 0.02)
    await asyncio.gather(*(here.send(run) for run in ids))
    await here.ended()
    assert (await here.count("first"), await here.count("second")) == (100, 100)


async def test_a_step_that_always_raises_is_tried_so_often_and_then_the_run_has_failed(here: World) -> None:
    await here.start("a", workflow="poisoned", url=here.plan.url)
    await here.ended()
    attempts = await here.rows("select pid from credit.attempt where run = 'a'")
    assert (len(attempts), await here.steps("a")) == (RETRY.attempts_max, [])
    [(run, error)] = (await here.failed()).items()
    assert run == "a"
    assert "ValueError" in str(error)
    assert "secret" not in str(error)


async def test_a_body_that_raises_outside_its_steps_has_failed(here: World) -> None:
    await here.start("a", workflow="broken")
    await here.ended()
    assert "KeyError" in str((await here.failed())["a"])


@pytest.mark.requirement("C25")
async def test_the_cap_on_working_steps_holds_over_processes_while_many_more_runs_wait(world: World) -> None:
    waiting = [f"waits-{number}" for number in range(300)]
    working = [f"works-{number}" for number in range(40)]
    world.work(working_max=3)
    world.work(working_max=3)
    await world.start(*waiting)
    await world.reached("first", 300)
    await world.send(*working)
    await world.start(*working, work_s=0.02)
    await world.reached("second", 40)
    [row] = await world.rows(_MOST_AT_ONCE)
    assert row["most"] == 3
    assert len(await world.open_runs()) >= 300


@pytest.mark.requirement("C25")
async def test_no_more_runs_than_the_cap_are_in_flight_over_processes_and_the_rest_stay_queued(
    world: World,
) -> None:
    runs = [f"works-{number}" for number in range(20)]
    await world.working(in_flight_max=4)
    await world.working(in_flight_max=4)
    await world.start(*runs)
    for done in range(0, len(runs), 4):
        await world.reached("first", done + 4)
        waiting = await world.rows(_IN_FLIGHT)
        assert len(waiting) == 4
        await world.send(*(row["run"] for row in waiting))
        await world.reached("second", done + 4)
    await world.ended()


@pytest.mark.requirement("C30")
async def test_a_run_that_can_end_does_not_wait_behind_a_backlog_of_runs_that_begin(world: World) -> None:
    backlog = [f"new-{number:02d}" for number in range(40)]
    await world.working(working_max=1)
    await world.start("ready")
    await world.reached("first", 1)
    await world.start(*backlog, work_s=0.03)
    await world.reached("first", 3)
    await world.send("ready", *backlog)
    await world.ended()
    order = [
        (row["run"], row["step"])
        for row in await world.rows("select run, step from credit.effect order by began_at")
    ]
    begun_before = [run for run, step in order[: order.index(("ready", "second"))] if step == "first"]
    assert len(begun_before) < len(backlog) / 2


_IN_FLIGHT = """
select run from credit.effect group by run having count(*) = 1 and bool_and(step = 'first') order by run
"""
_MOST_AT_ONCE = """
select max(at_once) as most from (
    select sum(change) over (order by at, change) as at_once from (
        select began_at as at, 1 as change from credit.effect where run like 'works%%'
        union all select ended_at, -1 from credit.effect where run like 'works%%'
    ) as changes
) as sums
"""
