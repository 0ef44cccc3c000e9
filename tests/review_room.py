"""People who review, over real HTTP: each has an API key of their own.

    from tests.review_room import desk_of_module, quiet_room, room_of_module, servers_of_module  # noqa: F401

`room` is the fixture. Nothing works behind it but what a test does (`Desk`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
import pytest_asyncio

from tests.credit_desk import GOOD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_worker import new_person
from tests.credit_world import CreditWorld, Reply, changed, new_key

REVIEWS = "/internal/reviews"
NOTE = "Read the file, spoke to the employer, all of it fits."
SCOPES = ["review:read", "review:work", "review:repull", "review:identity"]
PEOPLE = ("ada", "bob", "eve")
APPROVE = {"outcome": "approved", "reason_codes": ["INCOME_VERIFIED"]}
DENY = {"outcome": "denied", "reason_codes": ["LENGTH_OF_EMPLOYMENT", "SCORE_BORDERLINE"]}


@dataclass(frozen=True, kw_only=True)
class Reviewers:
    """People with a key each, and what they send."""

    world: CreditWorld

    @classmethod
    async def hired(cls, world: CreditWorld, **more: Any) -> Self:
        for name in PEOPLE:
            await world.add_key(name, client=name, scopes=SCOPES)
        return cls(world=world, **more)

    async def get(self, path: str = "", *, who: str = "ada", **query: Any) -> Reply:
        """Read something below `/internal/reviews`."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return await self.world.request(
            "GET", f"{REVIEWS}{path}" + (f"?{asked}" if asked else ""), client=who
        )

    async def post(self, path: str, body: Any = None, *, who: str = "ada", key: str | None = None) -> Reply:
        """Do something below `/internal/reviews`, under a new key unless one is given."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        return await self.world.request(
            "POST", f"{REVIEWS}{path}", client=who, headers=headers, data=orjson.dumps(body or {})
        )

    async def claim(self, review: str, *, who: str = "ada") -> dict[str, Any]:
        """Claim a review, and return what an act of its holder names."""
        reply = await self.post(f"/{review}/claim", who=who)
        assert reply.status == 200, reply.body
        return {"fence": reply.json["fence"], "revision": reply.json["revision"], "note": NOTE}

    async def decide(self, review: str, verdict: Mapping[str, Any], *, who: str = "ada") -> Reply:
        """Claim and decide."""
        held = await self.claim(review, who=who)
        return await self.post(f"/{review}/decision", {**held, **verdict}, who=who)

    async def ask_for_repull(self, review: str, *checks: str, who: str = "ada") -> Reply:
        """Ask for a new pull of checks."""
        return await self.post(f"/{review}/repulls", {"checks": checks, "reason": NOTE}, who=who)

    async def authorise(self, asked: Reply, *, who: str = "bob") -> Reply:
        """Authorise a new pull that was asked for."""
        repull = asked.json
        path = f"/{repull['review_id']}/repulls/{repull['repull_id']}/authorisation"
        return await self.post(path, {"note": NOTE}, who=who)

    async def review_of(self, application: str) -> str:
        """Return the review of an application that is not closed."""
        query = "select id from credit.review where application_id = %(id)s and state <> 'closed'"
        [row] = await self.world.sql(query, id=application)
        return str(row["id"])

    async def row(self, review: str) -> dict[str, Any]:
        [row] = await self.world.sql("select * from credit.review where id = %(id)s", id=review)
        return row

    async def actions(self, review: str) -> list[tuple[str, str]]:
        """Return who did what to the application of a review, oldest first."""
        query = "select actor, action from credit.audit_entry where application_id = %(id)s order by id"
        rows = await self.world.sql(query, id=(await self.row(review))["application_id"])
        return [(row["actor"], row["action"]) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Room(Reviewers):
    """The reviewers and a decision service behind which nothing works by itself."""

    desk: Desk

    async def in_review(self, *, amount: int = 2500, **answers: Mapping[str, Any] | str) -> str:
        """Return the review of somebody new whose fraud check gave no answer, or whose checks gave these."""
        form = changed(new_person(), amount=amount)
        application = await self.desk.checked(GOOD_ROW, form=form, **(answers or {"fraud": "unknown"}))
        assert await self.desk.decide(application) == "manual_review"
        return await self.review_of(application)

    async def expire(self, review: str) -> None:
        """Let the lease of a claim end."""
        await self.world.sql(
            "update credit.review set claimed_until = now() - interval '1 second' where id = %(id)s",
            id=review,
        )

    async def announced(self, review: str) -> list[dict[str, Any]]:
        """Return the events about a review that wait for the log, oldest first."""
        application = (await self.row(review))["application_id"]
        return await self.world.sql(
            "select type, payload from eventlog.outbox where aggregateid = %(id)s and type like 'credit.review.%%'"
            " order by ord",
            id=application,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room_of_module(desk: Desk) -> Room:
    return await Room.hired(desk.world, desk=desk)


@pytest_asyncio.fixture(loop_scope="module", name="room")
async def quiet_room(room_of_module: Room) -> Room:
    """The room with an empty queue: nobody holds what another test claimed."""
    await room_of_module.desk.sql(
        "update credit.review set state = 'closed', closed_at = now(), claimed_by = null, claimed_until = null"
        " where state <> 'closed'"
    )
    return room_of_module
