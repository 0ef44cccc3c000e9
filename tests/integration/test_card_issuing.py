"""Cards of approved applications through the real event log: one each, once its applicant is a member."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from faregate.entrypoints.bootstrap.members import enroller_on
from faregate.entrypoints.bootstrap.payments import issuer
from faregate.entrypoints.bootstrap.process import Process
from faregate.infra.database import Database
from faregate.infra.eventlog import Handler, Listener, PostgresEventSource, Sequencer, append, replay
from faregate.members.api import Enroller
from faregate.payments.api import Issuer
from faregate.payments.consumers import consumer_groups
from tests.conftest import OpenDatabase
from tests.credit_world import CreditWorld, new_form, world  # noqa: F401
from tests.eventlog import LEASE_S, eventually, running
from tests.integration.test_member_enrolment import NOON, TRACE, decided

pytestmark = [pytest.mark.requirement("F16")]
GROUP = "payments.cards"


@dataclass(kw_only=True)
class Embosser:
    """Credit with real applications, what enrols, and what issues."""

    credit: CreditWorld
    enroller: Enroller
    issuer: Issuer
    members: Database
    payments: Database
    log: Database
    told: int = 0

    async def application(self, *, status: str = "approved", **form: Any) -> str:
        """Submit an application and let it stand so."""
        application_id = await self.credit.submitted(new_form(**form))
        await self.credit.sql(
            "update credit.application set status = %(status)s where id = %(id)s",
            status=status,
            id=application_id,
        )
        return application_id

    async def enrol(self, *applications: str) -> None:
        async with self.members.transaction() as conn:
            await self.enroller.enrol(conn, dict.fromkeys(applications))

    async def tell(self, *applications: str, outcome: str = "approved") -> None:
        """Say that applications were decided, and let the group handle it."""
        events = [
            decided(application, outcome=outcome).to_event(id=uuid4(), time=NOON, traceparent=TRACE)
            for application in applications
        ]
        async with self.payments.transaction() as conn:
            await append(conn, events)
        self.told += len(events)
        await self.consume()

    async def consume(self) -> None:
        [group] = consumer_groups(issuer=self.issuer)
        sequencer = Sequencer(database=self.log, holder=uuid4().hex, lease_s=LEASE_S)

        async def all_handled() -> bool:
            [row] = await self.credit.sql(
                "select count(*) as n from eventlog.inbox where consumer_group = %(group)s", group=GROUP
            )
            return bool(row["n"] >= self.told)

        async with Listener(self.payments) as listener:
            source = PostgresEventSource(listener=listener, lease_s=LEASE_S, retry_max_s=0.2)
            handler: Handler = group.handler
            member = source.subscribe(database=self.payments, group=GROUP, types=group.types, handler=handler)
            async with running(sequencer.run, member.run):
                await eventually(all_handled, what=f"{self.told} events handled")

    async def cards(self) -> list[dict[str, Any]]:
        return await self.credit.sql("select * from payments.card order by token")

    async def announced(self) -> list[dict[str, Any]]:
        return await self.credit.sql(
            "select payload, traceparent from eventlog.outbox where type = 'payments.card.issued' "
            "union all select payload, traceparent from eventlog.event where type = 'payments.card.issued'"
        )


@pytest.fixture
async def embosser(world: CreditWorld, open_database: OpenDatabase) -> Any:  # noqa: F811
    async with AsyncExitStack() as stack:
        process = Process(stack, world.site, connections_max=4)
        yield Embosser(
            credit=world,
            enroller=enroller_on(world.settings, applications=await open_database("credit")),
            issuer=await issuer(process),
            members=await open_database("members"),
            payments=await process.database("payments"),
            log=await open_database("eventlog"),
        )


async def test_an_approved_application_leads_to_one_card_of_its_member_and_product(
    embosser: Embosser,
) -> None:
    approved = await embosser.application(product_type="travel_card")
    denied = await embosser.application(status="denied")
    await embosser.enrol(approved)
    await embosser.tell(approved)
    await embosser.tell(denied, outcome="denied")
    [card] = await embosser.cards()
    [member] = await embosser.credit.sql("select id from members.member")
    assert (card["member_id"], card["application_id"], card["product"]) == (
        member["id"],
        approved,
        "travel_card",
    )
    [limit] = await embosser.credit.sql("select * from payments.card_limit where currency = 'USD'")
    assert limit["transaction_minor_max"] == 3_000_000
    [event] = await embosser.announced()
    assert event["payload"]["card_token"] == card["token"]
    assert event["traceparent"] == TRACE


async def test_a_card_waits_until_its_member_is_there_and_is_issued_once(embosser: Embosser) -> None:
    application = await embosser.application()
    await embosser.tell(application)
    assert await embosser.cards() == []
    assert await embosser.issuer.sweep(embosser.payments) == 0
    await embosser.enrol(application)
    await embosser.credit.sql("update payments.issuance set next_at = approved_at")
    assert await embosser.issuer.sweep(embosser.payments) == 1
    assert await embosser.issuer.sweep(embosser.payments) == 0
    assert len(await embosser.cards()) == len(await embosser.announced()) == 1


async def test_what_comes_twice_issues_nothing_twice(embosser: Embosser) -> None:
    application = await embosser.application()
    await embosser.enrol(application)
    await embosser.tell(application)
    await embosser.tell(application, application)
    async with embosser.log.transaction() as conn:
        await replay(conn, group=GROUP, from_seq=1, effects_again=True)
    await embosser.consume()
    assert len(await embosser.cards()) == len(await embosser.announced()) == 1


async def test_an_application_that_is_not_approved_any_more_waits_for_no_card(embosser: Embosser) -> None:
    application = await embosser.application(status="denied")
    await embosser.tell(application)
    await embosser.enrol(application)
    assert await embosser.issuer.sweep(embosser.payments) == 0
    assert await embosser.credit.sql("select * from payments.issuance") == []


async def test_a_person_with_two_applications_has_two_cards(embosser: Embosser) -> None:
    form = new_form()["applicant"]
    applications = [
        await embosser.application(product_type=product, applicant=form) for product in ("gold", "silver")
    ]
    await embosser.tell(*applications)
    await embosser.enrol(*applications)
    await embosser.credit.sql("update payments.issuance set next_at = approved_at")
    assert await embosser.issuer.sweep(embosser.payments) == 2
    assert len({card["member_id"] for card in await embosser.cards()}) == 1


async def test_who_waits_for_nothing_that_comes_holds_up_nobody(embosser: Embosser) -> None:
    """Applications whose applicants never become members stand before one whose applicant is one."""
    await embosser.tell(*[await embosser.application() for _ in range(3)])
    application = await embosser.application()
    await embosser.tell(application)
    await embosser.enrol(application)
    await embosser.credit.sql(
        "update payments.issuance set next_at = '2020-01-01' where application_id <> %(last)s",
        last=application,
    )
    await embosser.credit.sql(
        "update payments.issuance set approved_at = '2026-01-01', next_at = least(next_at, '2020-01-02')"
    )
    brief = replace(embosser.issuer, batch_max=2)
    assert [await brief.sweep(embosser.payments) for _ in range(3)] == [0, 1, 0]
