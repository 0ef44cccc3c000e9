"""Databases with the engine's own tables, worlds on them, and a clock that tests move."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from faregate.infra.database import url_with_role
from faregate.infra.workflow.dbos_engine import prepare
from tests.contract.workflow.bodies import EFFECTS
from tests.contract.workflow.worker import ENGINES, engine_for, workflows
from tests.contract.workflow.world import World

_numbers = itertools.count(1)


class MovableClock:
    """The machine's clock, and how far a test has set it forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def make_ready(url: str) -> None:
    """Give a migrated database the engine's tables and the table that the steps of the tests write to."""
    prepare(url)
    with psycopg.connect(url_with_role(url, role="faregate_credit"), autocommit=True) as conn:
        conn.execute(EFFECTS)


@pytest.fixture(scope="session")
def workflow_template(postgres_url: str) -> str:
    with psycopg.connect(postgres_url.replace("/faregate?", "/postgres?"), autocommit=True) as server:
        server.execute("create database workflow_template template faregate strategy file_copy")
    url = postgres_url.replace("/faregate?", "/workflow_template?")
    make_ready(url)
    return url


@pytest.fixture
def ready_url(workflow_template: str) -> Iterator[str]:
    name = f"workflow_{next(_numbers)}"
    admin = workflow_template.replace("/workflow_template?", "/postgres?")
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(f"create database {name} template workflow_template strategy file_copy")
        yield workflow_template.replace("/workflow_template?", f"/{name}?")
        server.execute(f"drop database {name} with (force)")


@pytest.fixture(params=sorted(ENGINES))
async def world(request: pytest.FixtureRequest, ready_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A database without any worker yet."""
    async with World.on(ready_url, engine=request.param, folder=tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def here(world: World, clock: MovableClock) -> AsyncIterator[World]:
    """A world with a worker in this very process."""
    engine = engine_for(world.plan, clock=clock)
    for workflow in workflows(world.database, working_max=8):
        engine.register(workflow)
    await engine.open()
    yield world
    await engine.close()
