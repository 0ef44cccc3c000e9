"""Enrolment through the real event log: whose card was approved becomes a member, once, whatever comes twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from faregate.entrypoints.bootstrap.members import enroller_on, members_on
from faregate.entrypoints.bootstrap.worker import worker
from faregate.events.base import PublishedEvent
from faregate.events.credit import DecisionFinalized
from faregate.events.points import TierChanged
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import Handler, Listener, PostgresEventSource, Sequencer, append, replay
from faregate.kernel.event import Event
from faregate.members.api import Enroller, MembersApi
from faregate.members.consumers import consumer_groups
from faregate.members.contracts import Profile
from tests.conftest import OpenDatabase
from tests.credit_world import CreditWorld, new_form, world
from tests.eventlog import LEASE_S, eventually, running

__all__ = ["world"]

pytestmark = [pytest.mark.requirement("L1"), pytest.mark.requirement("L6")]

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(kw_only=True)
class Office:
    """Credit's API with real applications, the members context beside it, and what enrols."""

    credit: CreditWorld
    members: MembersApi
    enroller: Enroller
    log: Database
    told: Counter[str] = field(default_factory=Counter)

    async def application(self, *, form: Any = None, status: str = "approved") -> str:
        """Submit an application and let it stand so."""
        application_id = await self.credit.submitted(form)
        await self.set_status(application_id, status)
        return application_id

    async def set_status(self, application_id: str, status: str) -> None:
        await self.credit.sql(
            "update credit.application set status = %(status)s where id = %(id)s",
            status=status,
            id=application_id,
        )

    async def tell(self, *published: PublishedEvent) -> None:
        """Append events as the parts that publish them do."""
        stamped = [event.to_event(id=uuid4(), time=NOON, traceparent=TRACE) for event in published]
        async with self.members.database.transaction() as conn:
            await append(conn, stamped)
        self.told.update(event.type for event in stamped)

    def group(self, name: str) -> tuple[tuple[str, ...], Handler]:
        found = {g.name: g for g in consumer_groups(members=self.members, enroller=self.enroller)}[name]
        return found.types, found.handler

    async def until_handled(self, group: str, count: int) -> None:
        """Wait until a group has handled so many events."""

        async def enough() -> bool:
            rows = await self.credit.sql(
                "select count(*) as n from eventlog.inbox where consumer_group = %(group)s", group=group
            )
            return bool(rows[0]["n"] >= count)

        await eventually(enough, what=f"{count} events handled by {group}")

    async def announced(self) -> list[dict[str, Any]]:
        """Return the registrations that were announced, whether in the log already or not."""
        return await self.credit.sql(
            "select payload, traceparent from eventlog.outbox where type = 'members.member.registered' "
            "union all select payload, traceparent from eventlog.event where type = 'members.member.registered'"
        )

    async def rows(self) -> list[dict[str, Any]]:
        return await self.credit.sql(
            "select id, applicant_id, name_encrypted from members.member order by id"
        )


@pytest.fixture
async def office(world: CreditWorld, open_database: OpenDatabase) -> Office:
    settings = world.settings
    database = await open_database("members")
    return Office(
        credit=world,
        members=members_on(database, settings),
        enroller=enroller_on(settings, applications=await open_database("credit")),
        log=await open_database("eventlog"),
    )


def decided(application_id: str, *, outcome: str = "approved", version: int = 1) -> DecisionFinalized:
    return DecisionFinalized.model_validate(
        {
            "application_id": application_id,
            "outcome": outcome,
            "risk_score": 0.1,
            "reason_codes": [],
            "ruleset_version": "7",
            "decision_version": version,
        }
    )


async def consume(office: Office, name: str = "members.enrolment", *, handler: Handler | None = None) -> None:
    """Let a member of a group handle everything that was told until now."""
    types, own = office.group(name)
    database = office.members.database
    sequencer = Sequencer(database=office.log, holder=uuid4().hex, lease_s=LEASE_S)
    async with Listener(database) as listener:
        source = PostgresEventSource(listener=listener, lease_s=LEASE_S, retry_max_s=0.2)
        member = source.subscribe(database=database, group=name, types=types, handler=handler or own)
        async with running(sequencer.run, member.run):
            await office.until_handled(name, sum(office.told[kind] for kind in types))


async def test_whose_card_was_approved_is_a_member_with_the_name_of_the_application(office: Office) -> None:
    form = new_form(legal_name="Zyx Quillfeather", dob="1961-02-03")
    approved = await office.application(form=form)
    denied = await office.application(status="denied")
    await office.tell(decided(approved), decided(denied, outcome="denied"))
    await consume(office)
    [row] = await office.rows()
    member = await office.members.get(row["id"])
    assert member.profile == Profile(name="Zyx Quillfeather", date_of_birth=date(1961, 2, 3))
    assert (member.status, member.consents) == ("active", {})
    [event] = await office.announced()
    assert (event["payload"]["member_id"], event["payload"]["source"]) == (member.id, "enrolment")
    assert event["traceparent"] == TRACE


async def test_no_name_travels_in_an_event(office: Office) -> None:
    await office.tell(decided(await office.application(form=new_form(legal_name="Zyx Quillfeather"))))
    await consume(office)
    [event] = await office.announced()
    assert "quillfeather" not in str(event).casefold()


async def test_an_event_that_comes_again_makes_nobody_a_member_twice(office: Office) -> None:
    application_id = await office.application()
    await office.tell(decided(application_id))
    await consume(office)
    before = await office.rows()
    await office.tell(decided(application_id), decided(application_id, version=2))
    await consume(office)
    async with office.log.transaction() as conn:
        await replay(conn, group="members.enrolment", from_seq=1, effects_again=True)
    await consume(office)
    assert await office.rows() == before
    assert len(await office.announced()) == 1


async def test_a_person_with_several_cards_is_one_member(office: Office) -> None:
    form = new_form()
    applications = [
        await office.application(form={**form, "product_type": product}) for product in ("gold", "silver")
    ]
    await office.tell(*(decided(application_id) for application_id in applications))
    await consume(office)
    assert len(await office.rows()) == len(await office.announced()) == 1
    dealt_with = await office.credit.sql("select distinct member_id from members.enrolment")
    assert len(dealt_with) == 1


async def test_a_handler_that_dies_after_its_work_leaves_nothing_and_is_called_again(office: Office) -> None:
    await office.tell(decided(await office.application()))
    _, enrol = office.group("members.enrolment")
    calls: list[int] = []

    async def die_at_first(conn: Connection, events: Sequence[Event]) -> None:
        await enrol(conn, events)
        calls.append(len(events))
        if len(calls) == 1:
            raise ConnectionAbortedError("the process is gone")

    await consume(office, handler=die_at_first)
    assert len(calls) > 1
    assert len(await office.rows()) == len(await office.announced()) == 1


async def test_many_who_consume_at_once_make_one_member_of_a_person(office: Office) -> None:
    form = new_form()
    applications = [await office.application(form={**form, "product_type": f"card_{n}"}) for n in range(6)]

    async def enrol(application_id: str) -> Sequence[str]:
        async with office.members.database.transaction() as conn:
            return await office.enroller.enrol(conn, {application_id: None})

    found = await asyncio.gather(*(enrol(application_id) for application_id in applications * 2))
    assert len([member_id for new in found for member_id in new]) == 1
    assert len(await office.rows()) == 1


async def test_an_approval_that_was_taken_back_leads_to_nobody_until_it_is_given_again(
    office: Office,
) -> None:
    application_id = await office.application(status="denied")
    await office.tell(decided(application_id))
    await consume(office)
    assert await office.rows() == []
    await office.set_status(application_id, "approved")
    await office.tell(decided(application_id, version=3))
    await consume(office)
    assert len(await office.rows()) == 1


async def test_who_was_erased_does_not_come_back_by_an_old_event_but_by_a_new_card(office: Office) -> None:
    form = new_form()
    first = await office.application(form=form)
    await office.tell(decided(first))
    await consume(office)
    [row] = await office.rows()
    async with office.members.database.transaction() as conn:
        await office.members.erase(conn, row["id"], reason="member_request", by="operator")
    await office.tell(decided(first, version=2))
    await consume(office)
    assert await office.rows() == [{"id": row["id"], "applicant_id": None, "name_encrypted": None}]
    await office.tell(decided(await office.application(form={**form, "product_type": "gold"})))
    await consume(office)
    assert len(await office.rows()) == 2


async def test_the_group_can_be_a_process_of_its_own(office: Office) -> None:
    async with AsyncExitStack() as stack:
        opened = await worker(stack, office.credit.site, ["consumers.members.enrolment"])
        assert list(opened.loops) == ["members.enrolment"]
        assert sorted(opened.databases) == ["credit", "members"]


async def test_members_may_not_look_into_the_tables_of_credit(office: Office) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with office.members.database.connection() as conn:
            await conn.execute("select from credit.application")


async def test_a_tier_that_is_told_is_kept(office: Office) -> None:
    async with office.members.database.transaction() as conn:
        made = await office.members.register(conn, Profile(name="Ada", email="ada@example.com"), by="x")
    later = NOON + timedelta(days=1)
    await office.tell(
        TierChanged(member_id=made.id, tier="gold", changed_at=later),
        TierChanged(member_id=made.id, tier="silver", changed_at=NOON),
    )
    await consume(office, "members.tiers")
    assert await office.members.tier_of(made.id) == "gold"
