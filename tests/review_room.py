"""People who review, over real HTTP: each has an API key of their own.

    from tests.review_room import desk_of_module, quiet_room, room_of_module, servers_of_module  # noqa: F401

`room` is the fixture. Nothing works behind it but what a test does (`Desk`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest_asyncio

from tests.credit_desk import GOOD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_worker import new_person
from tests.credit_world import Reply, changed, new_key

REVIEWS = "/internal/reviews"
NOTE = "Read the file, spoke to the employer, all of it fits."
SCOPES = ["review:read", "review:work", "review:repull", "review:identity"]
PEOPLE = ("ada", "bob", "eve")
APPROVE = {"outcome": "approved", "reason_codes": ["INCOME_VERIFIED"]}
DENY = {"outcome": "denied", "reason_codes": ["LENGTH_OF_EMPLOYMENT", "SCORE_BORDERLINE"]}


@dataclass(frozen=True, kw_only=True)
class Room:
    """The reviewers at their desk."""

    desk: Desk

    async def in_review(self, *, amount: int = 2500, **answers: Mapping[str, Any] | str) -> str:
        """Return the review of somebody new whose fraud check gave no answer, or whose checks gave these."""
        form = changed(new_person(), amount=amount)
        application = await self.desk.checked(GOOD_ROW, form=form, **(answers or {"fraud": "unknown"}))
        assert await self.desk.decide(application) == "manual_review"
        return await self.review_of(application)

    async def review_of(self, application: str) -> str:
        """Return the review of an application that is not closed."""
        query = "select id from credit.review where application_id = %(id)s and state <> 'closed'"
        [row] = await self.desk.sql(query, id=application)
        return str(row["id"])

    async def row(self, review: str) -> dict[str, Any]:
        [row] = await self.desk.sql("select * from credit.review where id = %(id)s", id=review)
        return row

    async def get(self, path: str = "", *, who: str = "ada", **query: Any) -> Reply:
        """Read something below `/internal/reviews`."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return await self.desk.world.request(
            "GET", f"{REVIEWS}{path}" + (f"?{asked}" if asked else ""), client=who
        )

    async def post(self, path: str, body: Any = None, *, who: str = "ada", key: str | None = None) -> Reply:
        """Do something below `/internal/reviews`, under a new key unless one is given."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        return await self.desk.world.request(
            "POST", f"{REVIEWS}{path}", client=who, headers=headers, data=orjson.dumps(body or {})
        )

    async def claim(self, review: str, *, who: str = "ada") -> dict[str, Any]:
        """Claim a review, and return what an act of its holder names."""
        reply = await self.post(f"/{review}/claim", who=who)
        assert reply.status == 200, reply.body
        return {"fence": reply.json["fence"], "revision": reply.json["revision"], "note": NOTE}

    async def expire(self, review: str) -> None:
        """Let the lease of a claim end."""
        await self.desk.sql(
            "update credit.review set claimed_until = now() - interval '1 second' where id = %(id)s",
            id=review,
        )

    async def decide(self, review: str, verdict: Mapping[str, Any], *, who: str = "ada") -> Reply:
        """Claim and decide."""
        held = await self.claim(review, who=who)
        return await self.post(f"/{review}/decision", {**held, **verdict}, who=who)

    async def actions(self, review: str) -> list[tuple[str, str]]:
        """Return who did what to the application of a review, oldest first."""
        application = (await self.row(review))["application_id"]
        trail = await self.desk.credit.audit_trail(application_id=application)
        return [(entry["actor"], entry["action"]) for entry in trail]

    async def announced(self, review: str) -> list[dict[str, Any]]:
        """Return the events about a review that wait for the log, oldest first."""
        application = (await self.row(review))["application_id"]
        return await self.desk.sql(
            "select type, payload from eventlog.outbox where aggregateid = %(id)s and type like 'credit.review.%%'"
            " order by ord",
            id=application,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room_of_module(desk: Desk) -> Room:
    for name in PEOPLE:
        await desk.world.add_key(name, client=name, scopes=SCOPES)
    return Room(desk=desk)


@pytest_asyncio.fixture(loop_scope="module", name="room")
async def quiet_room(room_of_module: Room) -> Room:
    """The room with an empty queue: nobody holds what another test claimed."""
    await room_of_module.desk.sql(
        "update credit.review set state = 'closed', closed_at = now(), claimed_by = null, claimed_until = null"
        " where state <> 'closed'"
    )
    return room_of_module
