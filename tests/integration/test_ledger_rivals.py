"""The rivals of the benchmark are right, as is ours: otherwise their speed would say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from faregate.bench.ledger.ours import OurLedger
from faregate.bench.ledger.port import LedgerUnderTest
from faregate.bench.ledger.rivals import AtomicUpdate, ForUpdate
from faregate.bench.ledger.run import LedgerPlan, measure
from faregate.bench.ledger.workload import Skew
from faregate.infra.database import Database
from faregate.points.api import PointsApi
from faregate.points.handlers.writer import LedgerWriter
from tests.points_ledger import day_of

Make = Callable[[Database], LedgerUnderTest]


def ours(database: Database) -> LedgerUnderTest:
    writer = LedgerWriter(database=database, day_of=day_of)
    return OurLedger(PointsApi(database=database, writer=writer, day_of=day_of, anchor_file=Path("none")))


@pytest.fixture
async def open_as(database_url: str) -> AsyncIterator[Callable[[str], Database]]:
    opened: dict[str, Database] = {}
    for role in ("postgres", "faregate_points"):
        opened[role] = await Database.open(database_url, role=role, connections_max=8)
    yield opened.__getitem__
    for database in opened.values():
        await database.close()


async def no_deadlocks() -> int:
    return 0


@pytest.mark.requirement("L2")
@pytest.mark.parametrize(
    ("make", "role"), [(ForUpdate, "postgres"), (AtomicUpdate, "postgres"), (ours, "faregate_points")]
)
async def test_a_ledger_that_is_measured_answers_only_what_can_be_true(
    open_as: Callable[[str], Database], make: Make, role: str
) -> None:
    plan = LedgerPlan(accounts=20, clients=16, seconds=0.4, skews=[Skew.ZIPF_2, Skew.HOT])
    measured = await measure({"one": make(open_as(role))}, plan, deadlocks=no_deadlocks, say=lambda _: None)
    assert [(one.violations, one.failed) for one in measured.figures] == [([], 0), ([], 0)]
    assert min(one.per_s for one in measured.figures) > 0
