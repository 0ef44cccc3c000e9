"""The ledger over real HTTP: races end as if one came after the other, and a key means one thing for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.credit_world import Reply, world  # noqa: F401
from tests.points_world import PointsWorld, points_of_test  # noqa: F401

pytestmark = [pytest.mark.requirement("L2")]


def outcome(reply: Reply) -> str:
    """Return `done`, or why not."""
    return "done" if reply.status == 201 else str(reply.json.get("refusal", reply.problem[1]))


async def test_of_six_holds_of_a_thousand_on_five_thousand_exactly_five_are_done(points: PointsWorld) -> None:
    member = await points.member(5_000)
    replies = await asyncio.gather(*(points.ask("hold", member_id=member, amount=1_000) for _ in range(6)))
    assert Counter(map(outcome, replies)) == {"done": 5, "insufficient_points": 1}
    assert await points.available(member) == 0


async def test_a_storm_of_holds_never_commits_more_than_there_is(points: PointsWorld) -> None:
    member = await points.member(1_000)
    replies = await asyncio.gather(*(points.ask("hold", member_id=member, amount=7) for _ in range(300)))
    assert Counter(map(outcome, replies)) == {"done": 142, "insufficient_points": 158}
    account = await points.account(member)
    assert account["balance"]["held"] == sum(hold["amount"] for hold in account["holds"]) == 142 * 7


async def test_of_a_hundred_posts_of_one_hold_one_is_done(points: PointsWorld) -> None:
    member = await points.member(500)
    hold = await points.done("hold", member_id=member, amount=300)
    replies = await asyncio.gather(*(points.ask("post", subject=hold) for _ in range(100)))
    assert Counter(map(outcome, replies)) == {"done": 1, "already_posted": 99}
    assert await points.available(member) == 200


async def test_of_partial_posts_of_one_hold_one_is_done_and_the_rest_is_available_again(
    points: PointsWorld,
) -> None:
    member = await points.member(500)
    hold = await points.done("hold", member_id=member, amount=300)
    replies = await asyncio.gather(*(points.ask("post", subject=hold, amount=100) for _ in range(40)))
    assert Counter(map(outcome, replies)) == {"done": 1, "already_posted": 39}
    assert await points.available(member) == 400


async def test_of_twice_as_many_reversals_as_operations_each_operation_is_reversed_once(
    points: PointsWorld,
) -> None:
    member = await points.member(10_000)
    burns = [await points.done("burn", member_id=member, amount=100) for _ in range(25)]
    replies = await asyncio.gather(*(points.ask("reverse", subject=burn) for burn in burns * 2))
    assert Counter(map(outcome, replies)) == {"done": 25, "already_reversed": 25}
    assert await points.available(member) == 10_000


@pytest.mark.requirement("L2")
async def test_transfers_back_and_forth_and_their_reversals_at_once_leave_everybody_what_they_had(
    points: PointsWorld,
) -> None:
    pair = [await points.member(1_000), await points.member(1_000)]
    ways = [(pair[n % 2], pair[(n + 1) % 2]) for n in range(20)]
    made = [
        await points.done("transfer", member_id=a, to_member_id=b, amount=10 + n)
        for n, (a, b) in enumerate(ways)
    ]
    replies = await asyncio.gather(*(points.ask("reverse", subject=one) for one in made * 2))
    assert Counter(map(outcome, replies)) == {"done": 20, "already_reversed": 20}
    assert [await points.available(member) for member in pair] == [1_000, 1_000]


async def test_fifty_requests_with_one_key_are_one_operation(points: PointsWorld) -> None:
    member = await points.member(1_000)
    replies = await asyncio.gather(
        *(points.ask("burn", member_id=member, amount=10, key="trip-1") for _ in range(50))
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.json["operation"] for reply in replies}) == 1
    assert sum("Idempotent-Replayed" in reply.headers for reply in replies) == 49
    assert await points.available(member) == 990


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"amount": 11}, "amount"), ({"kind": "hold"}, "kind"), ({"reference": "other"}, "reference")],
)
async def test_a_key_that_was_used_for_something_else_is_refused_and_the_field_is_named(
    points: PointsWorld, changed: dict[str, Any], field: str
) -> None:
    first: dict[str, Any] = {"kind": "burn", "member_id": await points.member(1_000), "amount": 10}
    await points.done(**first, key="trip-1")
    async with points.world.unchanged():
        reply = await points.ask(**{**first, **changed}, key="trip-1")
    assert reply.problem == (422, "idempotency-key-reused")
    assert reply.json["field"] == field


async def test_a_refusal_stands_under_its_key_although_it_would_succeed_now(points: PointsWorld) -> None:
    member = await points.member(5)
    refused = await points.ask("burn", member_id=member, amount=10, key="trip-1")
    await points.done("earn", member_id=member, amount=100)
    again = await points.ask("burn", member_id=member, amount=10, key="trip-1")
    assert outcome(refused) == outcome(again) == "insufficient_points"
    assert refused.json["operation"] == again.json["operation"]
    assert await points.available(member) == 105


async def test_a_key_belongs_to_its_client(points: PointsWorld) -> None:
    member = await points.member(100)
    await points.done("burn", member_id=member, amount=10, key="trip-1")
    await points.done("burn", member_id=member, amount=20, key="trip-1", client="manager")
    assert await points.available(member) == 70


async def test_a_batch_is_done_in_order_and_a_key_that_comes_twice_in_it_counts_once(
    points: PointsWorld,
) -> None:
    member = await points.member()
    earn = {"kind": "earn", "member_id": member, "amount": 100}
    burn = {"kind": "burn", "member_id": member, "amount": 60}
    asked = [("a", burn), ("b", earn), ("c", burn), ("b", earn), ("c", {**burn, "amount": 1}), ("d", burn)]
    reply = await points.post(
        "/operations/batch", {"operations": [{"key": key, "operation": one} for key, one in asked]}
    )
    results = reply.json["results"]
    assert [one["key_reused"] or one["operation"]["refusal"] for one in results] == [
        "insufficient_points", None, None, None, "amount", "insufficient_points",
    ]  # fmt: skip
    assert results[1]["operation"]["operation"] == results[3]["operation"]["operation"]
    assert await points.available(member) == 40


async def test_a_large_correction_is_done_once_a_second_person_approves_it(points: PointsWorld) -> None:
    member = await points.member(100)
    asked = await points.ask("adjust", member_id=member, amount=50_000, reason="goodwill")
    assert outcome(asked) == "second_person_needed"
    path = f"/operations/{asked.json['operation']}/approval"
    assert (await points.post(path, {}, client="clerk")).problem == (403, "same-person-approves")
    approvals = [await points.post(path, {}, client="manager") for _ in range(2)]
    assert [reply.status for reply in approvals] == [201, 201]
    assert await points.available(member) == 50_100
    nothing = await points.post(
        f"/operations/{approvals[0].json['operation']}/approval", {}, client="manager"
    )
    assert nothing.problem == (409, "nothing-to-approve")


async def test_points_become_a_partners_units_in_whole_blocks(points: PointsWorld) -> None:
    member = await points.member(5_000)
    reply = await points.ask("convert", member_id=member, amount=3_700, partner="skymiles")
    assert (reply.status, reply.json["amount"]) == (201, 3_000)
    assert await points.available(member) == 2_000
    refused = [
        await points.ask("convert", member_id=member, amount=amount, partner=partner)
        for amount, partner in ((1_499, "skymiles"), (3_000, "nobody"))
    ]
    assert [one.problem for one in refused] == [(400, "less-than-one-block"), (400, "partner-unknown")]


async def test_an_account_shows_what_adds_up_and_when_it_expires(points: PointsWorld) -> None:
    today = datetime.now(UTC).date()
    member = await points.member(100, expires_on=str(today + timedelta(days=30)))
    await points.done("earn", member_id=member, amount=50, expires_on=str(today + timedelta(days=5)))
    await points.done("earn", member_id=member, amount=25)
    await points.done("earn_pending", member_id=member, amount=9)
    await points.done("hold", member_id=member, amount=60)
    account = await points.account(member)
    assert account["balance"] == {"posted": 175, "pending": 9, "held": 60, "owed": 0, "available": 115}
    assert [(one["expires_on"], one["amount"]) for one in account["expiries"]] == [
        (str(today + timedelta(days=30)), 90), (None, 25),
    ]  # fmt: skip
    assert [one["amount"] for one in account["holds"] + account["pending"]] == [60, 9]


async def test_the_balances_of_any_instant_can_be_asked_for(points: PointsWorld) -> None:
    member = await points.member()
    before = datetime.now(UTC)
    done = [await points.ask("earn", member_id=member, amount=amount) for amount in (1, 2, 4)]
    wanted = [before.isoformat(), *(reply.json["at"] for reply in done)]
    found = [
        (await points.get(f"/accounts/{member}/balance?at={at.replace('+', '%2B')}")).json for at in wanted
    ]
    assert [one["balance"]["posted"] for one in found] == [0, 1, 3, 7]


async def test_operations_are_listed_page_by_page_the_newest_first(points: PointsWorld) -> None:
    member = await points.member()
    numbers = [await points.done("earn", member_id=member, amount=n) for n in range(1, 8)]
    seen, before = [], None
    while True:
        page = (
            await points.get(
                f"/accounts/{member}/operations?limit=3" + (f"&before={before}" if before else "")
            )
        ).json
        seen += [one["operation"] for one in page["operations"]]
        before = page["before"]
        if before is None:
            break
    assert seen == numbers[::-1]


async def test_a_page_before_what_is_no_operation_of_the_account_is_refused(points: PointsWorld) -> None:
    member, other = await points.member(100), await points.member(100)
    foreign = (await points.get(f"/accounts/{other}/operations")).json["operations"][0]["operation"]
    for before in (foreign, 999_999_999, 2**53 - 1):
        reply = await points.get(f"/accounts/{member}/operations?before={before}")
        assert reply.problem == (400, "page-unknown")
    refused = await points.ask("burn", member_id=member, amount=101)
    page = await points.get(f"/accounts/{member}/operations?before={refused.json['operation']}")
    assert [one["kind"] for one in page.json["operations"]] == ["earn"]  # a refusal is a place, too


async def test_who_may_not_correct_gets_no_correction(points: PointsWorld) -> None:
    await points.world.add_key("shop", client="shop", scopes=["points:write"])
    member = await points.member(100)
    async with points.world.unchanged():
        reply = await points.ask("adjust", member_id=member, amount=5, reason="gift", client="shop")
    assert reply.problem == (403, "scope-missing")


def _day(days: int) -> str:
    return str(datetime.now(UTC).date() + timedelta(days=days))


async def _ready(points: PointsWorld, case: str) -> dict[str, Any]:
    """Bring about what a case needs, and return the request that is refused in it."""
    member = await points.member(100)
    hold = await points.done("hold", member_id=member, amount=40)
    burn = await points.done("burn", member_id=member, amount=10)
    earn: dict[str, Any] = {"kind": "earn", "member_id": member, "amount": 5}
    spend: dict[str, Any] = {"kind": "burn", "member_id": member, "amount": 5}
    if case in ("already_posted", "already_voided"):
        await points.done("post" if case == "already_posted" else "void", subject=hold)
    if case == "already_reversed":
        await points.done("reverse", subject=burn)
    if case in ("account_frozen", "account_closed"):
        if case == "account_closed":
            member = await points.member()
        status = case.removeprefix("account_")
        await points.done("set_status", member_id=member, status=status, reason="test")
        spend["member_id"] = member
    now = datetime.now(UTC)
    return {
        "insufficient_points": {**spend, "amount": 51},
        "member_unknown": {**spend, "member_id": "mbr_nobody"},
        "receiver_unknown": {"kind": "transfer", "member_id": member, "to_member_id": "mbr_nobody", "amount": 1},
        "accounts_equal": {"kind": "transfer", "member_id": member, "to_member_id": member, "amount": 1},
        "account_frozen": spend,
        "account_closed": {**earn, "member_id": spend["member_id"]},
        "account_not_empty": {"kind": "set_status", "member_id": member, "status": "closed", "reason": "test"},
        "in_the_future": {**earn, "occurred_at": (now + timedelta(hours=1)).isoformat()},
        "too_long_ago": {**earn, "occurred_at": (now - timedelta(days=500)).isoformat()},
        "already_expired": {**earn, "expires_on": _day(-2)},
        "second_person_needed": {"kind": "adjust", "member_id": member, "amount": 10_001, "reason": "test"},
        "subject_not_found": {"kind": "post", "subject": 999_999},
        "subject_of_another_kind": {"kind": "post", "subject": burn},
        "already_posted": {"kind": "void", "subject": hold},
        "already_voided": {"kind": "post", "subject": hold},
        "already_reversed": {"kind": "reverse", "subject": burn},
        "more_than_reserved": {"kind": "post", "subject": hold, "amount": 41},
        "more_than_left": {"kind": "reverse", "subject": burn, "amount": 11},
        "balance_too_large": {**earn, "amount": 10**15},
    }[case]  # fmt: skip


@pytest.mark.requirement("L13")
@pytest.mark.parametrize(
    "refusal",
    [
        "insufficient_points", "member_unknown", "receiver_unknown", "accounts_equal", "account_frozen",
        "account_closed", "account_not_empty", "in_the_future", "too_long_ago", "already_expired",
        "second_person_needed", "subject_not_found", "subject_of_another_kind", "already_posted", "already_voided",
        "already_reversed", "more_than_reserved", "more_than_left", "balance_too_large",
    ],
)  # fmt: skip
async def test_a_refusal_has_a_name_and_changes_nothing(points: PointsWorld, refusal: str) -> None:
    request = await _ready(points, refusal)
    async with points.nothing_but_the_refusal():
        reply = await points.ask(**request)
    assert reply.problem == (409, "operation-refused")
    assert reply.json["refusal"] == refusal


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1, 1.5, "5", None])
async def test_an_amount_that_no_ledger_takes_is_refused_before_the_ledger(
    points: PointsWorld, amount: Any
) -> None:
    member = await points.member(100)
    async with points.world.unchanged():
        reply = await points.ask("burn", member_id=member, amount=amount)
    assert reply.status == 422
    async with points.world.unchanged():
        assert (await points.ask("adjust", member_id=member, amount=0, reason="test")).status == 400
