"""Copies of decided applications: everything that is kept of one, under constraints, and nothing left to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from faregate.bench.seeding import NothingToCopy, fill
from faregate.infra.database import Database
from faregate.infra.embedded.postgres import SUPERUSER
from tests.credit_worker import CreditSystem, quiet_system, servers_of_module, system_of_module  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")
COPIED = (
    "credit.applicant",
    "credit.application",
    "credit.risk_signal",
    "credit.workflow_execution",
    "credit.decision",
    "credit.audit_entry",
    "gateway.intent",
    "gateway.callback",
    "eventlog.event",
    "eventlog.inbox",
    "workflow.run",
    "workflow.step",
    "workflow.signal",
    "dbos.workflow_status",
    "access.idempotency_key",
)


OF_CREDIT = {
    "eventlog.event": "where aggregatetype not like 'members.%'",
    "eventlog.inbox": "where consumer_group like 'credit.%'",
}
"""What follows an application in other contexts is not copied with it."""


@pytest_asyncio.fixture(loop_scope="module")
async def superuser(system: CreditSystem) -> AsyncIterator[Database]:
    database = await Database.open(system.world.site.database_url, role=SUPERUSER, connections_max=1)
    yield database
    await database.close()


async def counts(database: Database) -> dict[str, int]:
    async with database.connection() as conn:
        found = [
            await (await conn.execute(f"select count(*) as n from {t} {OF_CREDIT.get(t, '')}")).fetchone()
            for t in COPIED
        ]
    return {table: row["n"] for table, row in zip(COPIED, found, strict=True) if row}


async def test_a_store_is_filled_with_copies_of_everything_and_goes_on_working(
    system: CreditSystem, superuser: Database
) -> None:
    originals = [await system.submit() for _ in range(4)]
    for application_id in originals:
        await system.decided(application_id)
    await system.until_quiet()
    reported: list[int] = []
    async with system.no_worker():
        before = await counts(superuser)
        stored = await fill(superuser, originals=originals, size=20, on_progress=reported.append)
        after = await counts(superuser)
    assert (stored, reported) == (20, [20])
    assert {table: n / before[table] for table, n in after.items()} == dict.fromkeys(COPIED, 5.0)
    assert (await system.decided(await system.submit()))["outcome"] in {"approved", "denied", "manual_review"}


async def test_a_copy_is_consistent_in_itself_and_reads_like_its_original(
    system: CreditSystem, superuser: Database
) -> None:
    original = await system.submit()
    decision = await system.decided(original)
    await system.until_quiet()
    async with system.no_worker():
        [stored] = await system.sql("select count(*) as n from credit.application")
        await fill(superuser, originals=[original], size=stored["n"] + 1, on_progress=lambda _: None)
    query = "select id from credit.application where id like left(%(id)s, 14) || '%%' and id <> %(id)s"
    [copy] = await system.sql(query, id=original)
    read = (await system.world.decision(copy["id"])).json
    assert read == decision | {"application_id": copy["id"]}


async def test_the_log_gets_the_segments_that_the_copies_of_events_need(
    system: CreditSystem, superuser: Database
) -> None:
    originals = [await system.submit() for _ in range(4)]
    for application_id in originals:
        await system.decided(application_id)
    await system.until_quiet()
    async with system.no_worker():
        await fill(superuser, originals=originals, size=1_600, on_progress=lambda _: None)
    owners = await system.sql(
        "select distinct pg_get_userbyid(c.relowner) as owner, count(*) over () as segments "
        "from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = 'eventlog.event'::regclass"
    )
    assert [row["owner"] for row in owners] == ["faregate_eventlog"]
    assert owners[0]["segments"] > 1
    assert (await system.decided(await system.submit()))["outcome"]


async def test_nothing_can_be_made_of_nothing(superuser: Database) -> None:
    with pytest.raises(NothingToCopy):
        await fill(superuser, originals=[], size=10, on_progress=lambda _: None)
