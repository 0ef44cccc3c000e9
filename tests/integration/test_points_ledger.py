"""The ledger on PostgreSQL does what the plain model does, and everything adds up after every operation."""

from __future__ import annotations

import asyncio

import pytest

from faregate.infra.database import Database
from faregate.points.contracts.ledger import Earn, Operation
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from tests.conftest import OpenDatabase
from tests.points_ledger import START, day_of, run_seed


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("points")


@pytest.mark.requirement("L2")
@pytest.mark.requirement("L13")
async def test_random_operations_end_as_in_the_model_and_add_up_after_each(database: Database) -> None:
    for seed in range(10):
        await run_seed(database, seed, operations=60, checked_each=True)


@pytest.mark.requirement("L2")
async def test_a_few_hundred_seeds_end_as_in_the_model(database: Database) -> None:
    for seed in range(1_000, 1_200):
        await run_seed(database, seed, operations=40, checked_each=False)


@pytest.mark.requirement("L12")
async def test_of_one_key_that_two_processes_use_for_two_members_one_is_done_and_one_is_told(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("points")
    async with database.transaction() as conn:
        await open_accounts(conn, ["ada", "bob"], at=START)
    writers = [LedgerWriter(database=await open_database("points"), day_of=day_of) for _ in range(2)]
    for number in range(40):
        earns = [Earn(key=f"key-{number}", member_id=member, amount=1) for member in ("ada", "bob")]
        others = [
            Earn(key=f"other-{number}-{member}", member_id=member, amount=1) for member in ("ada", "bob")
        ]
        answers = await asyncio.gather(
            *(writer.write([earn, other]) for writer, earn, other in zip(writers, earns, others, strict=True))
        )
        kinds = sorted(type(first).__name__ for first, _ in answers)
        assert kinds == ["KeyReused", "Operation"]
        assert all(isinstance(second, Operation) and not second.is_replay for _, second in answers)
    found = await reconcile(database)
    assert (found.is_clean, found.operations) == (True, 40 + 80)
