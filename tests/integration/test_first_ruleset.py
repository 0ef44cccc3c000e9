"""The ruleset of the package on a fresh database, where several workers start at the same moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from faregate.credit.handlers.decide import RULESET_NAME, publish_first_ruleset
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.rules.api import activate, activations, publish
from tests.conftest import OpenDatabase
from tests.sandbox import until

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


async def test_a_worker_that_comes_second_by_a_moment_starts_all_the_same(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("credit")
    locks = "select pid from pg_locks where not granted"

    async def waiting() -> bool:
        async with database.connection() as conn:
            return await (await conn.execute(locks)).fetchone() is not None

    async with database.transaction() as faster:
        document = load_ruleset_document(f"{RULESET_NAME}-1")
        await publish(faster, document=document, published_at=NOW, published_by="faster")
        later = NOW + timedelta(seconds=1)
        await activate(faster, name=RULESET_NAME, version=1, activated_at=later, activated_by="faster")
        slower = asyncio.create_task(publish_first_ruleset(database, now=NOW))
        await until(waiting, lambda is_waiting: is_waiting or slower.done())
    await slower
    async with database.connection() as conn:
        assert [(a.version, a.activated_by) for a in await activations(conn, name=RULESET_NAME)] == [
            (1, "faster")
        ]
