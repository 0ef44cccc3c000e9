"""The ledger on PostgreSQL does what the plain model does, and everything adds up after every operation."""

from __future__ import annotations

import pytest

from faregate.infra.database import Database
from tests.conftest import OpenDatabase
from tests.points_ledger import run_seed


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
