"""An application whose run failed is decided all the same, long after its deadline, and only once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from faregate.credit.domain.checks import CHECKS
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.worker import worker
from faregate.infra.workflow.prepare import prepare
from tests.credit_worker import working
from tests.credit_world import CreditWorld, world  # noqa: F401
from tests.sandbox import until


def _site(world: CreditWorld) -> Site:  # noqa: F811
    return world.site


async def _sweep_until_reviewed(world: CreditWorld, application_id: str) -> dict[str, object]:  # noqa: F811
    """Run only the sweeper of a worker: neither the event log nor the workflow engine moves."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        opened = await worker(stack, _site(world), ["housekeeping"])
        sweeping = asyncio.create_task(opened.loops["overdue"](stop))
        rows = await until(
            lambda: world.sql(
                "select * from credit.decision where application_id = %(id)s", id=application_id
            ),
            lambda found: bool(found),
        )
        stop.set()
        await sweeping
    return dict(rows[0]) | {"decisions": len(rows)}


FAIL_EVERY_DISPATCH = """
create function credit.fail() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
create trigger refuse before insert on credit.workflow_execution execute function credit.fail();
"""


@pytest.mark.requirement("C18")
@pytest.mark.requirement("C29")
async def test_an_application_whose_checks_could_never_be_dispatched_goes_to_review(
    world: CreditWorld,  # noqa: F811
) -> None:
    prepare(world.site.database_url)
    await world.sql(FAIL_EVERY_DISPATCH)
    refused = await world.submitted()
    async with working(world.site):
        await until(
            lambda: world.sql("select id from workflow.runs(array['failed'], 10)"),
            lambda found: [row["id"] for row in found] == [refused],
        )
    await world.sql("drop trigger refuse on credit.workflow_execution")
    waiting = await world.submitted()
    await world.sql("update credit.application set deadline_at = now() - interval '1 hour'")
    decision = await _sweep_until_reviewed(world, refused)
    assert (decision["outcome"], decision["decisions"]) == ("manual_review", 1)
    # This one only waits for a worker: it must keep its chance.
    assert (await world.status(waiting)).json["status"] == "processing"


@pytest.mark.requirement("C18")
@pytest.mark.requirement("C29")
async def test_an_application_whose_run_failed_goes_to_review_after_its_deadline(
    world: CreditWorld,  # noqa: F811
) -> None:
    application_id = await world.submitted()
    await world.sql(
        "update credit.application set deadline_at = now() - interval '1 hour' where id = %(id)s",
        id=application_id,
    )
    await world.sql(
        "insert into credit.workflow_execution (application_id, run_id, status, started_at,"
        " check_plan_version, asked_checks, mandatory_checks)"
        " values (%(id)s, %(id)s, 'waiting', now(), 'checks-1', %(checks)s, %(checks)s)",
        id=application_id,
        checks=list(CHECKS),
    )
    decision = await _sweep_until_reviewed(world, application_id)
    assert decision["outcome"] == "manual_review"
    assert decision["decisions"] == 1
    status = (await world.status(application_id)).json
    assert status["status"] == "manual_review"
    assert status["latest_step"] == "bureau_check_timeout"
