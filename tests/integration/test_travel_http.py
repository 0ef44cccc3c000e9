"""Travel over HTTP: members book at the sandbox's partners, which speak four protocols and fail in their own ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from faregate.sandbox.faults import Fault
from tests.agency import FLIGHT, HOTEL, WELCOME, Agency, agency_of_module  # noqa: F401
from tests.credit_world import new_key
from tests.sandbox import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.requirement("L4")
@pytest.mark.requirement("L7")
@pytest.mark.parametrize(
    ("partner", "holdable"),
    [("airline_a", True), ("airline_a", False), ("airline_b", True), ("hotel_c", True), ("hotel_d", False)],
)
async def test_a_member_books_with_points_and_cancels(agency: Agency, partner: str, holdable: bool) -> None:
    member = await agency.member()
    offer = await agency.offer(member, partner, holdable=holdable)
    redemption = await agency.begun(member, offer)
    booked = await agency.until(redemption)
    assert (booked["status"], booked["reason"]) == ("booked", None)
    order = (
        ["place", "hold_points", "confirm", "post_points"]
        if holdable
        else ["hold_points", "book", "post_points"]
    )
    assert [step["action"] for step in booked["steps"]] == order
    assert await agency.balance(member) == (WELCOME - offer["points"], 0)
    assert await agency.live(redemption) == [partner]
    assert (await agency.post(f"/api/travel/redemptions/{redemption}/cancel")).status == 202
    await agency.until(redemption, "cancelled")
    assert await agency.live(redemption) == []
    assert await agency.balance(member) == (WELCOME - offer["penalty_minor"], 0)


@pytest.mark.requirement("L7")
async def test_a_part_of_a_trip_is_paid_in_cash_and_comes_back_with_it(agency: Agency) -> None:
    member = await agency.member()
    offer = await agency.offer(member, "airline_a", holdable=True)
    half = offer["price_minor"] // 2
    redemption = (await agency.redeem(member, offer, cash_minor=half)).json["redemption_id"]
    booked = await agency.until(redemption)
    assert [step["action"] for step in booked["steps"]] == [
        "place", "hold_points", "authorise_cash", "confirm", "post_points", "capture_cash",
    ]  # fmt: skip
    assert await agency.charges(member) == [("captured", half, 0)]
    assert await agency.balance(member) == (WELCOME - (offer["price_minor"] - half), 0)
    await agency.post(f"/api/travel/redemptions/{redemption}/cancel")
    await agency.until(redemption, "cancelled")
    [(state, amount, refunded)] = await agency.charges(member)
    assert (state, amount) == ("captured", half)
    points_back = (await agency.balance(member))[0] - (WELCOME - (offer["price_minor"] - half))
    assert abs(points_back + refunded - (offer["price_minor"] - offer["penalty_minor"])) <= 2


async def test_cash_that_fails_with_the_rest_is_released(agency: Agency) -> None:
    member = await agency.member(points=10)
    offer = await agency.offer(member, "airline_b", holdable=True)
    in_cash = offer["price_minor"] - 10
    await agency.sandbox.script("airline_b", Fault.PARTNER_HOLD_ENDS_EARLY)
    redemption = (await agency.redeem(member, offer, cash_minor=in_cash)).json["redemption_id"]
    ended = await agency.until(redemption)
    assert ended["status"] == "failed"
    assert await agency.balance(member) == (10, 0)
    assert {state for state, _, _ in await agency.charges(member)} <= {"reversed"}


@pytest.mark.requirement("L7")
async def test_a_trip_of_two_partners_is_booked_whole_or_not_at_all(agency: Agency) -> None:
    member = await agency.member()
    offers = [await agency.offer(member, "airline_b", holdable=True), await agency.offer(member, "hotel_d")]
    both = await agency.begun(member, *offers)
    assert (await agency.until(both))["status"] == "booked"
    assert await agency.live(both) == ["airline_b", "hotel_d"]
    before = await agency.balance(member)
    await agency.sandbox.script("hotel_d", Fault.PARTNER_OFFER_GONE, times=1, reference=offers[1]["offer_id"])
    refused = await agency.redeem(member, *offers)
    assert refused.problem == (409, "offer-gone")
    neither = await agency.begun(member, *offers)
    await agency.until(neither)
    assert await agency.balance(member) != before


async def test_the_same_request_is_answered_with_the_same_redemption(agency: Agency) -> None:
    member, key = await agency.member(), new_key()
    offer = await agency.offer(member, "airline_a", holdable=True)
    first = await agency.redeem(member, offer, key=key)
    await agency.sandbox.script("airline_a", Fault.PARTNER_OFFER_GONE)
    again = await agency.redeem(member, offer, key=key)
    assert (first.json, again.status) == (again.json, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    await agency.until(first.json["redemption_id"])
    listed = await agency.get(f"/api/travel/members/{member}/redemptions")
    assert [one["redemption_id"] for one in listed["redemptions"]] == [first.json["redemption_id"]]
    await agency.sandbox.set_faults({})


@pytest.mark.requirement("L9")
async def test_a_partner_that_cannot_be_asked_is_named_and_the_others_are_found(agency: Agency) -> None:
    member = await agency.member()
    await agency.sandbox.script("airline_a", Fault.LOOK_UP_ERROR)
    found = await agency.offers(member, FLIGHT)
    assert {offer["partner"] for offer in found["offers"]} == {"airline_b"}
    assert found["missing"] == {"airline_a": "Airline A is currently unavailable, please try again later"}
    await agency.sandbox.script("airline_a", Fault.LOOK_UP_ERROR)
    quote = {"partner": "airline_a", "offer_id": "0~JFK~ZRH~2027-03-01~-~9000~h"}
    refused = await agency.post("/api/travel/quotes", quote)
    assert refused.problem == (503, "partner-unavailable")
    assert refused.json["detail"] == "Airline A is currently unavailable, please try again later"
    assert refused.headers["Retry-After"] == "30"


async def test_a_search_answers_by_its_deadline_with_what_it_has(agency: Agency) -> None:
    member = await agency.member()
    await agency.sandbox.set_faults({"providers": {"airline_b": {"hold_s": 5.0}}})
    await agency.sandbox.script("airline_b", Fault.LOOK_UP_HANG)
    found = await agency.offers(member, FLIGHT)
    assert {offer["partner"] for offer in found["offers"]} == {"airline_a"}
    assert found["missing"] == {"airline_b": "did not answer in time"}
    await agency.sandbox.set_faults({})


@pytest.mark.requirement("L10")
async def test_a_hotel_that_hangs_holds_up_no_airline(agency: Agency) -> None:
    """The hotel's answers take five seconds; airlines are booked meanwhile, one after the other."""
    hung, flies = await agency.member(), await agency.member()
    hotel = await agency.offer(hung, "hotel_d")
    slow = {"latency": {"kind": "fixed", "median_ms": 5_000}}
    await agency.sandbox.set_faults({"providers": {"hotel_d": slow}})
    await agency.sandbox.script("hotel_d", Fault.HANG_AFTER)
    stays = await agency.begun(hung, hotel)
    flight = await agency.offer(flies, "airline_a", holdable=True)
    for _ in range(3):
        booked = await agency.until(await agency.begun(flies, flight))
        assert booked["status"] == "booked"
        assert (await agency.get(f"/api/travel/redemptions/{stays}"))["status"] == "started"
    await agency.sandbox.set_faults({})


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a partner does to a booking, whether the member agrees to a new price, and how it must end.

    `faults` strike on the way to the booking, `later` when the member cancels what was booked, which is then `undone`.
    """

    name: str
    partner: str
    holdable: bool = True
    faults: Sequence[Fault] = ()
    agrees: bool = True
    ends: str = "booked"
    later: Sequence[Fault] = ()
    undone: str | None = None
    asks: int = 0


SCENARIOS = [
    *(
        Scenario(name=f"{partner} books and does not say so: {fault}", partner=partner, faults=[fault])
        for partner in ("airline_a", "airline_b", "hotel_c")
        for fault in (Fault.ERROR_AFTER, Fault.DROP_AFTER, Fault.PARTNER_ACCEPTED_ONLY, Fault.WRONG_SCHEMA)
    ),
    *(
        Scenario(
            name=f"{partner} wants more, and gets it",
            partner=partner,
            faults=[Fault.PARTNER_PRICE_CHANGED],
            asks=1,
        )
        for partner in ("airline_a", "airline_b", "hotel_c")
    ),
    Scenario(
        name="a member who does not agree to a new price",
        partner="airline_b",
        faults=[Fault.PARTNER_PRICE_CHANGED],
        agrees=False,
        ends="failed",
        asks=1,
    ),
    *(
        Scenario(
            name=f"the hold of {partner} ends early",
            partner=partner,
            faults=[Fault.PARTNER_HOLD_ENDS_EARLY],
            ends="failed",
        )
        for partner in ("airline_a", "airline_b", "hotel_c")
    ),
    *(
        Scenario(
            name=f"{partner} refuses to cancel",
            partner=partner,
            holdable=partner != "hotel_d",
            later=[Fault.PARTNER_CANCEL_REFUSED],
            undone="booked",
        )
        for partner in ("airline_a", "hotel_d")
    ),
    *(
        Scenario(
            name=f"{partner} is down when it is to cancel",
            partner=partner,
            later=[Fault.UNAVAILABLE, Fault.ERROR_BEFORE, Fault.DROP_AFTER],
            undone="cancelled",
        )
        for partner in ("airline_b", "hotel_c")
    ),
]


@pytest.mark.requirement("L8")
@pytest.mark.requirement("L14")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_whatever_a_partner_does_points_are_gone_if_and_only_if_its_booking_stands(
    agency: Agency, scenario: Scenario
) -> None:
    member = await agency.member()
    offer = await agency.offer(member, scenario.partner, holdable=scenario.holdable)
    for fault in scenario.faults:
        await agency.sandbox.script(scenario.partner, fault)
    redemption = await agency.begun(member, offer)
    view = await agency.until_agreed(redemption, says=scenario.agrees)
    assert view["status"] == scenario.ends, view
    assert sum(step["action"] == "ask_consent" for step in view["steps"]) == scenario.asks
    await agency.assert_settled(member, view, welcome=WELCOME)
    if scenario.undone is not None:
        for fault in scenario.later:
            await agency.sandbox.script(scenario.partner, fault)
        await agency.post(f"/api/travel/redemptions/{redemption}/cancel")
        view = await agency.until(redemption, scenario.undone)
        if scenario.undone == "booked":
            await until_cancelled_in_vain(agency, redemption)
            await agency.assert_settled(member, view, welcome=WELCOME)
            await agency.post(f"/api/travel/redemptions/{redemption}/cancel")
            await agency.until(redemption, "cancelled")
        assert await agency.live(redemption) == []
        assert await agency.balance(member) == (WELCOME - offer["penalty_minor"], 0)
    assert len(await agency.bookings(redemption)) == 1


async def until_cancelled_in_vain(agency: Agency, redemption: str) -> None:
    """Wait until a cancellation was asked for and refused."""

    async def steps() -> list[tuple[str, str]]:
        view = await agency.get(f"/api/travel/redemptions/{redemption}")
        return [(step["action"], step["state"]) for step in view["steps"] if view["status"] == "booked"]

    await until(steps, lambda found: ("cancel", "not_done") in found)


@pytest.mark.soak  # the kill tests and the seeds meet the same faults each time
@pytest.mark.requirement("L14")
async def test_redemptions_at_partners_that_fail_all_the_time_end_without_a_mismatch(agency: Agency) -> None:
    """Faults of every kind before and after the work: bookings stand if and only if points are gone."""
    rates = {
        "unavailable": 0.1,
        "error_before": 0.05,
        "drop_before": 0.05,
        "error_after": 0.05,
        "drop_after": 0.1,
        "malformed": 0.05,
        "look_up_error": 0.1,
        "partner_price_changed": 0.05,
        "partner_accepted_only": 0.05,
    }
    members = [await agency.member() for _ in range(24)]
    kinds = [("airline_a", True), ("airline_b", True), ("hotel_c", True), ("hotel_d", None)] * 6
    offers = [
        await agency.offer(member, partner, holdable=holdable)
        for member, (partner, holdable) in zip(members, kinds, strict=True)
    ]
    await agency.sandbox.set_faults(
        {"seed": 5, "default": {"rates": rates, "hold_s": 1.0, "retry_after_s": 0}}
    )
    begun = [await agency.redeem(member, offer) for member, offer in zip(members, offers, strict=True)]
    redemptions = {
        member: reply.json["redemption_id"]
        for member, reply in zip(members, begun, strict=True)
        if reply.status == 202
    }
    assert len(redemptions) > 10
    for redemption in redemptions.values():
        await agency.until_agreed(redemption)
    await agency.sandbox.set_faults({})
    for member, redemption in redemptions.items():
        ended = await agency.until_agreed(redemption)
        assert ended["status"] in ("booked", "failed"), ended
        posted, held = await agency.balance(member)
        assert held == 0
        is_booked = ended["status"] == "booked"
        assert bool(await agency.live(redemption)) is is_booked
        assert (posted < WELCOME) is is_booked
    assert (await agency.sandbox.get("/admin/bookings"))["live_duplicates"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/travel/flight-searches", {**FLIGHT, "origin": None}),
        ("/api/travel/hotel-searches", {**HOTEL, "until": "tomorrow"}),
        ("/api/travel/flight-searches", {**FLIGHT, "travellers": 0}),
        ("/api/travel/redemptions", {"legs": []}),
        ("/api/travel/redemptions", {"legs": [{"partner": "airline_a", "offer_id": "ü", "price_minor": 1}]}),
        ("/api/travel/redemptions", {"legs": [{"partner": "a", "offer_id": "o", "price_minor": -1}]}),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused(
    agency: Agency, path: str, body: dict[str, Any]
) -> None:
    member = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"
    assert (await agency.post(path, {"member_id": member, **body})).problem == (422, "validation-failed")


async def test_a_stay_that_ends_before_it_begins_is_a_named_refusal(agency: Agency) -> None:
    body = {"member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R", **HOTEL, "until": HOTEL["on"]}
    assert (await agency.post("/api/travel/hotel-searches", body)).problem[1] == "stay-ends-before-it-begins"


async def test_a_redemption_that_is_not_there_is_a_named_refusal(agency: Agency) -> None:
    for path in ("rdm_01J3R2J7F1TQ0K6W6N8A4X9V7R", "x"):
        reply = await agency.request("GET", f"/api/travel/redemptions/{path}")
        assert reply.problem == (404, "redemption-not-found")


async def test_partners_are_shown_with_what_they_can_do(agency: Agency) -> None:
    found = {one["partner"]: one for one in (await agency.get("/api/travel/partners"))["partners"]}
    assert set(found) == {"airline_a", "airline_b", "hotel_c", "hotel_d"}
    assert found["hotel_d"]["is_holdable"] is False
    assert found["airline_b"]["deadline_zone"] == "airport"
