"""What a workflow engine promises when workers are killed, stand still, are replaced, or lose their database."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from faregate.infra.embedded import servers_of
from faregate.infra.embedded.folders import private_folder
from faregate.infra.embedded.postgres import PostgresServer
from faregate.infra.migrations import migrate
from tests.contract.workflow.conftest import make_ready
from tests.contract.workflow.worker import ENGINES
from tests.contract.workflow.world import World, eventually

PLACES = ("start", "inside first", "after first", "after wait", "inside second", "end")
DONE = ["first", "second"]


@pytest.mark.parametrize("place", PLACES)
async def test_a_worker_killed_anywhere_leaves_each_step_done_once(world: World, place: str) -> None:
    await world.send("a")
    await world.start("a", die_at=place)
    worker = world.work()
    worker.join()
    world.work()
    await world.ended()
    assert worker.exitcode == -signal.SIGKILL
    assert (await world.steps("a"), await world.failed()) == (DONE, {})


async def test_a_body_executed_again_sees_what_its_steps_and_waits_returned_before(world: World) -> None:
    await world.send("a", payload="told")
    await world.start("a", workflow="replayed", die_at="after wait")
    world.work().join()
    world.work()
    await world.ended()
    assert (await world.detail("a", "second"), await world.steps("a")) == ("[1, 2] told", DONE)


async def test_one_living_worker_of_several_takes_over_each_waiting_run_of_a_killed_one(world: World) -> None:
    ids = [f"run-{number}" for number in range(60)]
    first = await world.working()
    await world.start(*ids)
    await world.reached("first", 60)
    world.work()
    world.work()
    first.kill()
    await world.send(*ids)
    await world.ended()
    assert (await world.count("first"), await world.count("second")) == (60, 60)
    assert await world.failed() == {}


async def test_a_timer_survives_the_death_of_its_worker(world: World) -> None:
    until = datetime.now(UTC) + timedelta(seconds=3)
    await world.start("a", workflow="sleeper", until=until.isoformat())
    worker = world.work()
    await world.reached("first", 1)
    worker.kill()
    world.work()
    await world.ended()
    [second] = await world.rows("select began_at from credit.effect where step = 'second'")
    assert second["began_at"] >= until
    assert await world.steps("a") == DONE


async def test_a_worker_that_stood_still_in_a_step_and_was_taken_over_can_write_nothing(world: World) -> None:
    await world.start("a", halt_at="inside first")
    await world.send("a")
    zombie = world.work()
    await world.halted("a")
    os.kill(_pid(zombie), signal.SIGSTOP)
    world.work()
    await world.ended()
    world.go_on("a")
    os.kill(_pid(zombie), signal.SIGCONT)
    await eventually(lambda: world.has_lease(zombie))
    assert await world.steps("a") == DONE
    writers = await world.rows("select distinct pid from credit.effect")
    assert _pid(zombie) not in [row["pid"] for row in writers]


async def test_a_worker_that_was_taken_over_works_on_under_a_new_lease(world: World) -> None:
    zombie = await world.working()
    await world.start("a")
    await world.reached("first", 1)
    os.kill(_pid(zombie), signal.SIGSTOP)
    other = world.work()
    await world.lost_lease(zombie)
    other.terminate()
    other.join()
    os.kill(_pid(zombie), signal.SIGCONT)
    await world.send("a")
    await world.ended()
    assert await world.steps("a") == DONE


async def test_a_run_that_kills_every_worker_ends_as_failed(world: World) -> None:
    await world.start("a", always_die_at="inside first")
    for _ in range(2):
        world.work(options={"recoveries_max": 1}, lease_s=0.4).join()
    world.work(options={"recoveries_max": 1}, lease_s=0.4)
    await world.ended()
    assert (list(await world.failed()), await world.steps("a")) == (["a"], [])


async def test_a_worker_told_to_end_finishes_its_step_and_gives_its_runs_back_at_once(world: World) -> None:
    old = await world.working(lease_s=600)
    await world.start("waits")
    await world.reached("first", 1)
    await world.start("works", halt_at="inside first")
    await world.halted("works")
    old.terminate()
    world.go_on("works")
    world.work(lease_s=600)
    await world.send("waits", "works")
    await world.ended()
    old.join()
    assert old.exitcode == 0
    assert [await world.steps(run) for run in ("waits", "works")] == [DONE, DONE]
    [row] = await world.rows("select pid from credit.effect where run = 'works' and step = 'first'")
    assert row["pid"] == old.pid


async def test_runs_go_on_while_workers_are_replaced_one_after_the_other(world: World) -> None:
    old = await world.working()
    for part in range(3):
        ids = [f"run-{part}-{number}" for number in range(40)]
        await world.start(*ids)
        await world.send(*ids)
        new = await world.working()
        old.terminate()
        old.join()
        assert old.exitcode == 0
        old = new
    await world.ended()
    assert (await world.count("first"), await world.count("second")) == (120, 120)


def _pid(worker: ForkServerProcess) -> int:
    assert worker.pid is not None
    return worker.pid


# -- the database goes away ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """A server whose commits are durable, because it is going to be killed."""
    server, _ = servers_of(private_folder(tmp_path_factory.mktemp("workflow") / "home"))
    server.ensure_running()
    migrate(server.url("faregate"))
    make_ready(server.url("faregate"))
    return server


@pytest.fixture(params=sorted(ENGINES))
async def mortal(
    request: pytest.FixtureRequest, own_server: PostgresServer, tmp_path: Path
) -> AsyncIterator[World]:
    """A world on a database that the test may kill."""
    async with World.on(own_server.url("faregate"), engine=request.param, folder=tmp_path) as opened:
        yield opened
    own_server.stop()


async def restart(server: PostgresServer) -> None:
    """`pg_ctl restart -m immediate`: every session dies, and the server recovers from its log."""
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)

    async def is_gone() -> bool:
        return server.pid() is None

    await eventually(is_gone)
    server.ensure_running()


async def test_runs_survive_a_database_that_restarts_while_they_work_wait_and_are_taken_over(
    mortal: World, own_server: PostgresServer
) -> None:
    ids = [f"run-{number}" for number in range(60)]
    first = mortal.work()
    await mortal.start(*ids)
    await mortal.reached("first", 20)
    await restart(own_server)
    await mortal.reached("first", 60)
    mortal.work()
    first.kill()
    await restart(own_server)
    await eventually(lambda: _sent(mortal, ids))
    await mortal.reached("second", 5)
    await restart(own_server)
    await mortal.ended()
    assert (await mortal.count("first"), await mortal.count("second")) == (60, 60)
    assert await mortal.failed() == {}


async def _sent(world: World, ids: list[str]) -> bool:
    await world.send(*ids)
    return True
