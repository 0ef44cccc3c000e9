"""Events of behaviour over real HTTP: each has its effect once, or is refused alone with the reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.credit_world import ACME, GLOBEX, CreditWorld, Reply, shared_world

__all__ = ["shared_world"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F2")]

ROUTE = "/api/fraud/events"
ADDRESS = "198.51.100.77"


def event(kind: str = "click", **changes: Any) -> dict[str, Any]:
    """Something that happened a moment ago, under an id that nobody used."""
    more: dict[str, dict[str, Any]] = {
        "session": {"duration_s": 90},
        "login": {"succeeded": False, "ip": ADDRESS},
        "device": {"device_id": "dev_1"},
    }
    base = {"id": uuid4().hex, "kind": kind, "occurred_at": ago(), "member_id": "mbr_1"}
    return {**base, **more.get(kind, {}), **changes}


def ago(**units: float) -> str:
    return (datetime.now(UTC) - timedelta(**units)).isoformat()


async def send(world: CreditWorld, events: Any, *, client: str = ACME) -> Reply:
    name = f"{client}.events"
    if name not in world.tokens:
        await world.add_key(name, client=client, scopes=["fraud:events"])
    body = orjson.dumps({"events": events})
    headers = {"Content-Type": "application/json"}
    return await world.request("POST", ROUTE, client=name, headers=headers, data=body)


async def outcomes(world: CreditWorld, events: Sequence[Any], **how: str) -> list[tuple[str, str | None]]:
    reply = await send(world, events, **how)
    assert reply.status == 200, reply.body
    return [(one["outcome"], one["reason"]) for one in reply.json["events"]]


async def logged(world: CreditWorld, kind: str, member: str) -> list[dict[str, Any]]:
    query = " union all ".join(
        f"select payload from eventlog.{table} where type = %(kind)s and aggregateid = %(member)s"
        for table in ("outbox", "event")
    )
    rows = await world.sql(query, kind=kind, member=member)
    return [row["payload"] for row in rows]


async def test_events_of_every_kind_are_published(shared_world: CreditWorld) -> None:
    member = f"mbr_{uuid4().hex}"
    kinds = {
        "click": "fraud.page.clicked",
        "session": "fraud.session.ended",
        "login": "fraud.login.attempted",
        "password_change": "fraud.password.changed",
        "device": "fraud.device.seen",
    }
    told = await outcomes(shared_world, [event(kind, member_id=member) for kind in kinds])
    assert told == [("accepted", None)] * len(kinds)
    for published in kinds.values():
        assert len(await logged(shared_world, published, member)) == 1


@pytest.mark.requirement("F14")
async def test_an_address_goes_on_as_a_pseudonym_only(shared_world: CreditWorld) -> None:
    member = f"mbr_{uuid4().hex}"
    await outcomes(shared_world, [event("login", member_id=member), event("login", member_id=member)])
    first, second = await logged(shared_world, "fraud.login.attempted", member)
    assert first["ip_token"] == second["ip_token"] != ADDRESS
    assert ADDRESS not in orjson.dumps([first, second]).decode()


async def test_an_event_that_comes_again_is_repeated_and_published_once(shared_world: CreditWorld) -> None:
    member = f"mbr_{uuid4().hex}"
    one = event(member_id=member)
    assert await outcomes(shared_world, [one, one]) == [("accepted", None), ("repeated", None)]
    assert await outcomes(shared_world, [one]) == [("repeated", None)]
    assert len(await logged(shared_world, "fraud.page.clicked", member)) == 1


async def test_another_event_under_the_same_id_is_refused_and_nothing_changes(
    shared_world: CreditWorld,
) -> None:
    member = f"mbr_{uuid4().hex}"
    one = event(member_id=member)
    other = {**one, "page": "checkout"}
    assert await outcomes(shared_world, [one, other]) == [("accepted", None), ("refused", "id_reused")]
    assert await outcomes(shared_world, [other]) == [("refused", "id_reused")]
    assert [e["page"] for e in await logged(shared_world, "fraud.page.clicked", member)] == [None]


async def test_ids_of_two_clients_are_their_own(shared_world: CreditWorld) -> None:
    one = event()
    assert await outcomes(shared_world, [one], client=ACME) == [("accepted", None)]
    assert await outcomes(shared_world, [one], client=GLOBEX) == [("accepted", None)]


async def test_the_same_events_from_many_requests_at_once_are_taken_once_each(
    shared_world: CreditWorld,
) -> None:
    member = f"mbr_{uuid4().hex}"
    events = [event(member_id=member) for _ in range(40)]
    await outcomes(shared_world, [event()])
    told = await asyncio.gather(
        *(outcomes(shared_world, events if turn % 2 else events[::-1]) for turn in range(8))
    )
    counted = Counter(outcome for answers in told for outcome, _ in answers)
    assert counted == {"accepted": 40, "repeated": 7 * 40}
    assert len(await logged(shared_world, "fraud.page.clicked", member)) == 40


def refused_events() -> dict[str, dict[str, Any]]:
    """An event for each reason, made when it is needed: time is a part of it."""
    return {
        "from_the_future": event(occurred_at=ago(seconds=-90)),
        "too_old": event(occurred_at=ago(hours=25)),
        "address_invalid": event("login", ip="192.0.2.256"),
        "nobody": {k: v for k, v in event("login").items() if k not in ("member_id", "ip")},
        "invalid": event("session", duration_s=-1),
    }


@pytest.mark.parametrize("reason", refused_events())
async def test_an_event_that_cannot_be_taken_is_refused_by_name_and_keeps_none_out(
    shared_world: CreditWorld, reason: str
) -> None:
    bad = refused_events()[reason]
    reply = await send(shared_world, [event(), bad, event()])
    assert (reply.status, reply.json["accepted"], reply.json["refused"]) == (200, 2, 1)
    refused = reply.json["events"][1]
    assert (refused["reason"], refused["id"]) == (reason, bad["id"])
    assert refused["detail"]


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"id": "x" * 10_000},
        event("dance"),
        event(name="Zyx Quillfeather"),
        event(member_id="x" * 10_000),
        event(occurred_at=1_700_000_000),
        event(occurred_at="2026-11-27T12:00:00"),
        event("login", succeeded="no"),
        event("device", device_id=None),
        event(page="/account?name=Zyx"),
        event("login", ip="1" * 10_000),
        event("session", duration_s=10**18),
        event("session", duration_s=1.5),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_fields(shared_world: CreditWorld, strange: Any) -> None:
    reply = await send(shared_world, [strange])
    assert (reply.status, reply.json["refused"]) == (200, 1)
    assert reply.json["events"][0]["errors"]
    assert "Quillfeather" not in reply.body.decode()


@pytest.mark.parametrize("ip", ["::1", "2001:db8::1", "::ffff:192.0.2.1"])
async def test_an_ipv6_address_is_an_address(shared_world: CreditWorld, ip: str) -> None:
    assert await outcomes(shared_world, [event("login", ip=ip)]) == [("accepted", None)]


@pytest.mark.parametrize("events", [[], [{}] * 501, "none", [1], None])
async def test_a_request_of_no_events_or_too_many_changes_nothing(
    shared_world: CreditWorld, events: Any
) -> None:
    assert (await send(shared_world, events)).problem == (422, "validation-failed")


async def test_five_hundred_events_may_come_in_one_request(shared_world: CreditWorld) -> None:
    made = [{**event(), "id": f"{uuid4().hex[:12]}"} for _ in range(500)]
    assert await outcomes(shared_world, made) == [("accepted", None)] * 500


async def test_only_a_key_with_the_scope_may_report(shared_world: CreditWorld) -> None:
    await shared_world.add_key("reader", client=ACME, scopes=["credit:read"])
    headers = {"Content-Type": "application/json"}
    body = orjson.dumps({"events": [event()]})
    reply = await shared_world.request("POST", ROUTE, client="reader", headers=headers, data=body)
    assert reply.problem == (403, "scope-missing")


async def test_ids_are_forgotten_when_their_events_would_be_too_old(shared_world: CreditWorld) -> None:
    old = event()
    await outcomes(shared_world, [old])
    await shared_world.sql(
        "update fraud.ingested set received_at = received_at - interval '26 hours' where id = %(id)s",
        id=old["id"],
    )
    await outcomes(shared_world, [event()])
    rows = await shared_world.sql("select from fraud.ingested where id = %(id)s", id=old["id"])
    assert not rows
