"""The routes of members and households over real HTTP: keys, versions, refusals, and what is kept of a request."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from faregate.members.routes.forms import PREFERENCES_EXAMPLE
from tests.credit_world import ACME, CreditWorld, Reply, new_key, shared_world

__all__ = ["shared_world"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("L1")]

ROUTE = "/api/members"
NOBODY = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"
PERSON = {"name": "Zyx Quillfeather", "phone": "+41791234567", "date_of_birth": "1961-02-03"}
PLAIN = ("zyx", "quillfeather", "41791234567", "1961-02-03")
SCOPES = ["members:read", "members:write"]
_numbers = itertools.count(1)


async def send(
    world: CreditWorld,
    method: str,
    path: str = "",
    body: Any = None,
    *,
    key: str | None = None,
    version: int | str | None = None,
    scopes: list[str] = SCOPES,
) -> Reply:
    """Send a request as a client whose key has these scopes."""
    name = await key_for(world, scopes)
    headers = {"Idempotency-Key": key or new_key()} if method == "POST" else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if version is not None:
        headers["If-Match"] = f'"{version}"'
    data = None if body is None else orjson.dumps(body)
    return await world.request(method, ROUTE + path, client=name, headers=headers, data=data)


async def key_for(world: CreditWorld, scopes: list[str]) -> str:
    name = f"{ACME}.{'.'.join(scopes)}"
    if name not in world.tokens:
        await world.add_key(name, client=ACME, scopes=scopes)
    return name


def somebody() -> dict[str, Any]:
    return {**PERSON, "email": f"zyx{next(_numbers)}@example.com"}


async def registered(world: CreditWorld) -> str:
    reply = await send(world, "POST", body=somebody())
    assert reply.status == 201, reply.body
    return str(reply.json["member_id"])


async def read(world: CreditWorld, member_id: str) -> dict[str, Any]:
    return dict((await send(world, "GET", f"/{member_id}")).json)


# Registering, finding, reading


async def test_a_registration_is_answered_once_a_key(shared_world: CreditWorld) -> None:
    form, key = somebody(), new_key()
    first = await send(shared_world, "POST", body=form, key=key)
    again = await send(shared_world, "POST", body=form, key=key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await send(shared_world, "POST", body=somebody(), key=key)
    assert other.problem == (422, "idempotency-key-reused")


async def test_a_refusal_is_a_finished_answer_too(shared_world: CreditWorld) -> None:
    form, key = somebody(), new_key()
    await send(shared_world, "POST", body=form)
    async with shared_world.unchanged():
        twice = [await send(shared_world, "GET", f"/{NOBODY}") for _ in range(2)]
    assert [reply.problem for reply in twice] == [(404, "member-not-found")] * 2
    refused = await send(shared_world, "POST", body=form, key=key)
    again = await send(shared_world, "POST", body=form, key=key)
    assert refused.problem == again.problem == (409, "email-taken")
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_nothing_personal_is_kept_under_a_key_or_told_in_a_refusal(shared_world: CreditWorld) -> None:
    form = somebody()
    replies = [
        await send(shared_world, "POST", body=form),
        await send(shared_world, "POST", body=form),
        await send(shared_world, "POST", body={**form, "email": "Zyx Quillfeather"}),
        await send(shared_world, "POST", body={**form, "date_of_birth": "2999-02-03"}),
    ]
    assert [reply.status for reply in replies] == [201, 409, 422, 400]
    kept = await shared_world.sql("select body from access.idempotency_key")
    told = f"{[row['body'] for row in kept]} {[reply.body for reply in replies]}".casefold()
    assert not [plain for plain in (*PLAIN, form["email"]) if plain in told]


async def test_a_member_is_found_by_an_address_in_the_body(shared_world: CreditWorld) -> None:
    form = somebody()
    made = await send(shared_world, "POST", body=form)
    found = await send(shared_world, "POST", "/find", {"email": form["email"].upper()})
    assert found.json == {"member_id": made.json["member_id"]}
    unknown = await send(shared_world, "POST", "/find", {"email": "nobody@example.com"})
    assert unknown.json == {"member_id": None}


async def test_a_member_is_read_under_a_tag_that_its_changes_move(shared_world: CreditWorld) -> None:
    member_id = await registered(shared_world)
    shown = await send(shared_world, "GET", f"/{member_id}")
    assert (shown.headers["ETag"], shown.json["profile"]["name"]) == ('"1"', PERSON["name"])
    assert shown.headers["Cache-Control"] == "private, no-cache"
    changed = await send(shared_world, "PATCH", f"/{member_id}/profile", {"name": "Z. Q."}, version=1)
    assert (changed.status, changed.headers["ETag"], changed.json["version"]) == (200, '"2"', 2)


# Changing


@pytest.mark.parametrize(
    ("method", "path", "body", "shown"),
    [
        ("PATCH", "profile", {"phone": None}, lambda member: member["profile"]["phone"] is None),
        (
            "PUT",
            "preferences",
            PREFERENCES_EXAMPLE,
            lambda member: member["preferences"] == PREFERENCES_EXAMPLE,
        ),
        (
            "PUT",
            "home-airports",
            {"airports": ["ZRH", "BSL"]},
            lambda member: member["home_airports"] == ["ZRH", "BSL"],
        ),
    ],
)
async def test_a_change_needs_the_version_that_was_read(
    shared_world: CreditWorld, method: str, path: str, body: Any, shown: Any
) -> None:
    member_id = await registered(shared_world)
    url = f"/{member_id}/{path}"
    async with shared_world.unchanged():
        missing = await send(shared_world, method, url, body)
        outdated = await send(shared_world, method, url, body, version=7)
        foreign = await send(shared_world, method, url, body, version="x")
    assert missing.problem == (428, "precondition-missing")
    assert outdated.problem == foreign.problem == (412, "precondition-failed")
    assert outdated.json["version"] == 1
    changed = await send(shared_world, method, url, body, version=1)
    assert (changed.status, shown(changed.json)) == (200, True)
    assert await read(shared_world, member_id) == changed.json


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("PATCH", "profile", {}, (422, "validation-failed")),
        ("PATCH", "profile", {"name": None}, (400, "profile-invalid")),
        ("PATCH", "profile", {"points": 7}, (422, "validation-failed")),
        ("PUT", "preferences", {"seat": "cockpit"}, (422, "validation-failed")),
        ("PUT", "preferences", {"channels": ["sms", "sms"]}, (400, "preferences-invalid")),
        ("PUT", "home-airports", {"airports": ["ZRH", "ZRH"]}, (400, "home-airports-invalid")),
        ("PUT", "home-airports", {"airports": ["AAA"] * 6}, (422, "validation-failed")),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    shared_world: CreditWorld, method: str, path: str, body: Any, problem: tuple[int, str]
) -> None:
    member_id = await registered(shared_world)
    reply = await send(shared_world, method, f"/{member_id}/{path}", body, version=1)
    assert reply.problem == problem


async def test_a_consent_is_given_and_withdrawn_and_both_are_shown(shared_world: CreditWorld) -> None:
    path = f"/{await registered(shared_world)}/consents"
    for given in (True, False):
        said = {"purpose": "marketing", "given": given, "text_version": "2026-10"}
        assert (await send(shared_world, "POST", path, said)).status == 200
    history = (await send(shared_world, "GET", path)).json["consents"]
    assert [said["given"] for said in history] == [True, False]
    [now] = (await read(shared_world, path.split("/")[1]))["consents"]
    assert now == history[-1]


async def test_a_status_is_changed_once_a_key(shared_world: CreditWorld) -> None:
    path, key = f"/{await registered(shared_world)}/status", new_key()
    freeze = {"act": "freeze", "reason": "account_taken_over"}
    first = await send(shared_world, "POST", path, freeze, key=key)
    again = await send(shared_world, "POST", path, freeze, key=key)
    assert first.json["status"] == again.json["status"] == "frozen"
    refused = await send(shared_world, "POST", path, freeze)
    assert refused.problem == (409, "status-act-refused")
    assert refused.json["status"] == 409
    told = await send(shared_world, "POST", path, {"act": "close", "reason": "Zyx asked me"})
    assert told.problem == (422, "validation-failed")


async def test_an_erased_member_is_an_id_with_a_record(shared_world: CreditWorld) -> None:
    member_id = await registered(shared_world)
    erased = await send(shared_world, "POST", f"/{member_id}/erase", {"reason": "member_request"})
    assert (erased.status, erased.json["status"]) == (200, "closed")
    shown = await read(shared_world, member_id)
    assert set(shown["profile"].values()) == {None}
    record = (await send(shared_world, "GET", f"/{member_id}/record")).json["entries"]
    assert [(entry["act"], entry["by"]) for entry in record] == [
        ("registered", "client:acme"),
        ("status_changed", "client:acme"),
        ("erased", "client:acme"),
    ]
    late = await send(shared_world, "PATCH", f"/{member_id}/profile", {"name": "Z"}, version=2)
    assert late.problem == (409, "member-erased")


# Households


async def test_a_household_is_made_joined_handed_over_and_left(shared_world: CreditWorld) -> None:
    ada, bob = await registered(shared_world), await registered(shared_world)
    key = new_key()
    made = await send(shared_world, "POST", f"/{ada}/household", key=key)
    assert (made.status, made.json["member_ids"]) == (201, [ada])
    assert (await send(shared_world, "POST", f"/{ada}/household", key=key)).body == made.body
    household_id = {"household_id": made.json["household_id"]}
    uninvited = await send(shared_world, "POST", f"/{bob}/household/join", household_id)
    assert uninvited.problem == (403, "not-invited")
    invited = await send(shared_world, "POST", f"/{ada}/household/invite", {"member_id": bob})
    assert [invitation["member_id"] for invitation in invited.json["invitations"]] == [bob]
    joined = await send(shared_world, "POST", f"/{bob}/household/join", household_id)
    assert joined.json["member_ids"] == [ada, bob]
    handed = await send(shared_world, "POST", f"/{ada}/household/hand-over", {"member_id": bob})
    assert handed.json["head_id"] == bob
    assert (await send(shared_world, "GET", f"/{ada}/household")).json == handed.json
    left = await send(shared_world, "POST", f"/{bob}/household/leave")
    assert left.json["household"]["head_id"] == ada
    ended = await send(shared_world, "POST", f"/{ada}/household/leave")
    assert ended.json == {"household": None}
    gone = await send(shared_world, "GET", f"/{ada}/household")
    assert gone.problem == (404, "household-not-found")


# Who may, and who is not there

ROUTES = [
    ("GET", "", None),
    ("PATCH", "/profile", {"name": "Z"}),
    ("PUT", "/preferences", {}),
    ("PUT", "/home-airports", {"airports": []}),
    ("POST", "/consents", {"purpose": "marketing", "given": True, "text_version": "1"}),
    ("GET", "/consents", None),
    ("POST", "/status", {"act": "freeze", "reason": "asked"}),
    ("POST", "/erase", {"reason": "asked"}),
    ("GET", "/record", None),
    ("GET", "/household", None),
    ("POST", "/household", None),
    ("POST", "/household/invite", {"member_id": NOBODY}),
    ("POST", "/household/leave", None),
]


@pytest.mark.requirement("P3")
@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_every_route_wants_its_scope_and_a_member_that_there_is(
    shared_world: CreditWorld, method: str, path: str, body: Any
) -> None:
    other = ["members:write"] if method == "GET" else ["members:read"]
    for scopes in (other, SCOPES):
        await key_for(shared_world, scopes)
    async with shared_world.unchanged():
        forbidden = await send(shared_world, method, f"/{NOBODY}{path}", body, version=1, scopes=other)
        replies = [
            await send(shared_world, method, f"/{member_id}{path}", body, version=1)
            for member_id in (NOBODY, "mbr_1", "mbr_%00")
        ]
    assert forbidden.problem == (403, "scope-missing")
    assert {reply.status for reply in replies} == {404}
