"""Reviews when something dies or races: all of an act or nothing of it, and one decision a version."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from faregate.credit.handlers.following import adopt_strays
from faregate.credit.handlers.review import ReviewDesk, ReviewPolicy
from faregate.entrypoints.bootstrap.site import tools
from faregate.infra.clock import SystemClock
from tests.credit_desk import desk_of_module, servers_of_module  # noqa: F401
from tests.credit_world import new_key
from tests.review_room import APPROVE, DENY, NOTE, Room, quiet_room, room_of_module  # noqa: F401
from tests.sandbox import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C33")]

WAITING = """
select pid from pg_stat_activity
where wait_event_type = 'Lock' and datname = current_database() and query like '%for update of a%'
"""


async def test_a_decision_whose_connection_dies_is_not_there_and_is_made_by_its_repetition(
    room: Room,
) -> None:
    review, key = await room.in_review(), new_key()
    body = {**await room.claim(review), **APPROVE}
    application = (await room.row(review))["application_id"]
    async with room.desk.database.transaction() as holder:
        await holder.execute("select from credit.application where id = %s for update", (application,))
        sent = asyncio.create_task(room.post(f"/{review}/decision", body, key=key))
        [waiting, *_] = await until(lambda: room.world.sql(WAITING), bool)
        await room.world.sql("select pg_terminate_backend(%(pid)s)", pid=waiting["pid"])
        assert (await sent).status == 503
    row = await room.row(review)
    assert (row["state"], row["claimed_by"], row["decision_version"]) == ("open", "ada", 1)
    again = await room.post(f"/{review}/decision", body, key=key)
    assert (again.status, again.json["decision_version"]) == (200, 2)


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C20")
async def test_a_reviewer_and_rules_that_decide_at_once_make_one_version(room: Room) -> None:
    for verdict in (APPROVE, DENY) * 3:
        review = await room.in_review()
        body = {**await room.claim(review), **verdict}
        application = (await room.row(review))["application_id"]
        reply, ruled = await asyncio.gather(
            room.post(f"/{review}/decision", body),
            room.desk.reevaluate(application, version=1),
            return_exceptions=True,
        )
        rows = await room.world.sql(
            "select version from credit.decision where application_id = %(id)s", id=application
        )
        assert len(rows) == 2
        assert not isinstance(reply, BaseException)
        assert (reply.status == 200) == isinstance(ruled, BaseException)
        if reply.status != 200:
            assert reply.problem == (409, "review-changed")
            await room.post(f"/{review}/release", {"fence": body["fence"]})


class _AheadClock(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


async def test_a_process_whose_clock_is_a_day_ahead_takes_over_no_live_claim(room: Room) -> None:
    review = await room.in_review()
    await room.claim(review)
    policy = ReviewPolicy(
        lease=timedelta(minutes=1), claims_max=1, amount_max=1, amount_if_absent=0, note_chars_min=1
    )
    service = room.desk.service
    ahead = ReviewDesk(
        tools=replace(tools(), clock=_AheadClock()),
        rulesets=service.rulesets,
        scorecard=service.scorecard,
        policy=policy,
    )
    async with room.desk.database.transaction() as conn:
        with pytest.raises(Exception, match="somebody else's"):
            await ahead.claim(conn, review, reviewer="bob")


async def test_an_application_that_older_code_sent_to_review_is_queued_by_the_sweep(room: Room) -> None:
    review = await room.in_review(fraud={"fraud_level": "medium"})
    application = (await room.row(review))["application_id"]
    await room.world.sql("delete from credit.review where id = %(id)s", id=review)
    while await adopt_strays(room.desk.database, tools=tools()):
        pass
    adopted = await room.row(await room.review_of(application))
    assert (adopted["cause"], adopted["priority"], adopted["decision_version"]) == ("concern", 2, 1)
    assert (await room.actions(adopted["id"]))[-1] == ("review-sweep", "review.opened")
    assert (await room.decide(adopted["id"], {**DENY, "note": NOTE})).json["status"] == "denied"
