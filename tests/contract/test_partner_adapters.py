"""The kit for partners: what every adapter must do against its faulty twin, over real HTTP.

A new partner is added to `PARTNERS` and passes all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from faregate.gateway.last_check import CheckedRequest
from faregate.kernel.outcome import Done, NotDone, Unknown
from faregate.sandbox.faults import Fault, Stage
from faregate.travel.contracts.partners import Act, OfferGone, PartnerUnavailable
from tests.partners import Stand, passing_on
from tests.sandbox import Sandbox, sandbox, until

__all__ = ["sandbox"]
pytestmark = [pytest.mark.requirement("L3"), pytest.mark.requirement("L8")]

PARTNERS = ("airline_a", "airline_b", "hotel_c", "hotel_d")
HOLDS = ("airline_a", "airline_b", "hotel_c")
ACTS = [(name, act) for name in HOLDS for act in (Act.PLACE, Act.CONFIRM, Act.RELEASE, Act.CANCEL)] + [
    ("hotel_d", Act.BOOK),
    ("hotel_d", Act.CANCEL),
    ("hotel_c", Act.BOOK),
    ("airline_a", Act.BOOK),
]
NOT_DONE = {Fault.UNAUTHORISED, Fault.LIMITED, Fault.UNAVAILABLE}
FAULTS = [fault for fault in Fault if fault.stage is Stage.SUBMIT and fault is not Fault.REFUSED] + [
    Fault.PARTNER_ACCEPTED_ONLY
]
DONE_ANYWAY = {
    Fault.LATE_WORK, Fault.ERROR_AFTER, Fault.HANG_AFTER, Fault.DROP_AFTER, Fault.MALFORMED, Fault.WRONG_SCHEMA,
    Fault.PARTNER_ACCEPTED_ONLY,
}  # fmt: skip
AFTER = {
    Act.PLACE: "held",
    Act.CONFIRM: "confirmed",
    Act.BOOK: "confirmed",
    Act.RELEASE: "cancelled",
    Act.CANCEL: "cancelled",
}
BEFORE = {
    Act.PLACE: [],
    Act.BOOK: [],
    Act.CONFIRM: ["held"],
    Act.RELEASE: ["held"],
    Act.CANCEL: ["confirmed"],
}
PLAN = {"default": {"hold_s": 0.4, "late_work_s": 0.05, "retry_after_s": 1}}

every_partner = pytest.mark.parametrize("name", PARTNERS)
every_act = pytest.mark.parametrize(("name", "act"), ACTS)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(request_class=CheckedRequest) as opened:
        yield opened


@pytest.fixture
def stand(name: str, sandbox: Sandbox, session: aiohttp.ClientSession) -> Stand:
    return Stand.at(name, sandbox, session)


@every_partner
async def test_a_search_finds_offers_that_can_be_quoted(stand: Stand, name: str) -> None:
    found = await stand.offers()
    assert len(found) >= 3
    for offer in found:
        assert offer.partner == name
        assert offer.kind is stand.adapter.about.kind
        assert (offer.price_minor > 0, offer.expires_at > datetime.now(UTC)) == (True, True)
        quoted = await stand.adapter.quote(offer.offer_id, timeout_s=5)
        assert (quoted.price_minor, quoted.is_holdable) == (offer.price_minor, offer.is_holdable)


@every_partner
async def test_its_offers_can_be_held_as_its_capabilities_say(stand: Stand, name: str) -> None:
    assert any(offer.is_holdable for offer in await stand.offers()) is stand.adapter.about.is_holdable
    offer = await stand.offer(holdable=False)
    outcome, _ = await stand.do(Act.PLACE, offer=offer)
    assert isinstance(outcome, NotDone)
    assert await stand.states() == []


@every_act
async def test_an_act_is_done_and_found_again(stand: Stand, name: str, act: Act) -> None:
    offer = await stand.prepare(act)
    assert await stand.states() == BEFORE[act]
    outcome, request_id = await stand.do(act, offer=offer)
    assert isinstance(outcome, Done)
    assert outcome.payload["state"] == AFTER[act]
    assert await stand.states() == [AFTER[act]]
    again = await stand.look_up(request_id)
    assert isinstance(again, Done)
    assert again.payload["state"] == AFTER[act]


@every_act
async def test_an_act_that_never_came_is_known_not_to_have_been_done(
    stand: Stand, name: str, act: Act
) -> None:
    offer = await stand.prepare(act)
    request_id = stand.request(act, offer=offer).provider_request_id
    assert await stand.look_up(request_id) == NotDone("not_found", retryable=True)


@every_act
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_goes_wrong_the_outcome_is_never_a_guess(
    stand: Stand, name: str, act: Act, fault: Fault
) -> None:
    offer = await stand.prepare(act)
    await stand.sandbox.set_faults(PLAN)
    await stand.script(fault)
    outcome, request_id = await stand.do(act, offer=offer, timeout_s=0.3 * (2 if act is Act.BOOK else 3))
    is_done = await stand.states() == [AFTER[act]]
    assert is_done is (fault in DONE_ANYWAY)
    if isinstance(outcome, Done):
        assert is_done
    elif isinstance(outcome, NotDone):
        assert not is_done
    else:
        found = await stand.look_up(request_id)
        assert isinstance(found, Done) is is_done
        assert isinstance(found, NotDone) is not is_done
    if fault in NOT_DONE:
        assert isinstance(outcome, NotDone)


FOREIGN = (b'{"message": "no route"}', b"[]", b'{"error": 7}', b"<html>not found</html>", b"<Error/>", b"")


@every_act
@pytest.mark.parametrize("status", [401, 404, 422])
@pytest.mark.parametrize("said", FOREIGN)
async def test_a_refusal_in_words_that_are_not_the_partners_refuses_nothing(
    stand: Stand, session: aiohttp.ClientSession, name: str, act: Act, status: int, said: bytes
) -> None:
    offer = await stand.prepare(act)
    async with passing_on(stand.sandbox, lambda *_: (status, said)) as url:
        asked = Stand.at(name, stand.sandbox, session, by=url).adapter
        outcome = await asked.submit(stand.request(act, offer=offer), timeout_s=5)
        with pytest.raises(PartnerUnavailable):
            await asked.quote(offer.offer_id, timeout_s=5)
    is_done = await stand.states() == [AFTER[act]]
    assert isinstance(outcome, Unknown if is_done else NotDone)


@every_act
async def test_an_answer_about_another_booking_is_not_taken_for_ours(
    stand: Stand, session: aiohttp.ClientSession, name: str, act: Act
) -> None:
    offer = await stand.prepare(act)
    ours = stand.redemption.encode()
    async with passing_on(
        stand.sandbox, lambda status, body: (status, body.replace(ours, b"rdm_another"))
    ) as url:
        asked = Stand.at(name, stand.sandbox, session, by=url).adapter
        outcome = await asked.submit(stand.request(act, offer=offer), timeout_s=5)
    is_done = await stand.states() == [AFTER[act]]
    assert isinstance(outcome, Unknown if is_done else NotDone)


@every_act
async def test_a_look_up_that_fails_says_nothing(stand: Stand, name: str, act: Act) -> None:
    offer = await stand.prepare(act)
    _, request_id = await stand.do(act, offer=offer)
    await stand.sandbox.set_faults(PLAN)
    for fault in (Fault.LOOK_UP_ERROR, Fault.LOOK_UP_DROP, Fault.LOOK_UP_MALFORMED):
        await stand.script(fault)
        assert isinstance(await stand.look_up(request_id), Unknown)


@every_partner
async def test_what_is_sent_twice_is_booked_twice_unless_it_deduplicates_and_is_not_hidden(
    stand: Stand, name: str
) -> None:
    act = Act.PLACE if stand.adapter.about.is_holdable else Act.BOOK
    offer = await stand.prepare(act)
    for _ in range(2):
        _, request_id = await stand.do(act, offer=offer)
    assert len(await stand.booked()) == (1 if stand.adapter.about.deduplicates else 2)
    assert await stand.look_up(request_id) == Unknown("several_bookings")
    assert (await stand.sandbox.get("/admin/bookings"))["live_duplicates"] == 1


@pytest.mark.parametrize("name", HOLDS)
async def test_a_dearer_confirmation_names_its_price_and_is_done_at_it(stand: Stand, name: str) -> None:
    offer = await stand.prepare(Act.CONFIRM)
    await stand.script(Fault.PARTNER_PRICE_CHANGED)
    outcome, _ = await stand.do(Act.CONFIRM, offer=offer)
    assert isinstance(outcome, Done)
    dearer = offer.price_minor * 11 // 10
    assert (outcome.payload["state"], outcome.payload["price_minor"]) == ("price_changed", dearer)
    assert await stand.states() == ["held"]
    outcome, _ = await stand.do(Act.CONFIRM, offer=offer, number=2, price_minor=dearer)
    assert isinstance(outcome, Done)
    assert (outcome.payload["state"], outcome.payload["price_minor"]) == ("confirmed", dearer)


async def dearer_at_once(stand: Stand) -> None:
    offer = await stand.prepare(Act.BOOK)
    await stand.script(Fault.PARTNER_PRICE_CHANGED)
    outcome, _ = await stand.do(Act.BOOK, offer=offer)
    assert isinstance(outcome, Done)
    assert outcome.payload["state"] == "price_changed"
    assert outcome.payload["price_minor"] == offer.price_minor * 11 // 10
    assert await stand.states() == []


@pytest.mark.parametrize("name", ["hotel_d", "hotel_c"])
async def test_a_dearer_booking_is_not_made(stand: Stand, name: str) -> None:
    await dearer_at_once(stand)


@pytest.mark.parametrize("name", HOLDS)
async def test_a_hold_that_is_over_cannot_be_confirmed_and_needs_no_release(stand: Stand, name: str) -> None:
    offer = await stand.offer(holdable=True)
    await stand.script(Fault.PARTNER_HOLD_ENDS_EARLY)
    await stand.do(Act.PLACE, offer=offer)
    await until(stand.states, lambda states: states == ["expired"])
    outcome, request_id = await stand.do(Act.CONFIRM, offer=offer)
    assert outcome == NotDone("hold_expired")
    assert await stand.look_up(request_id) == NotDone("hold_expired")
    outcome, request_id = await stand.do(Act.RELEASE, offer=offer)
    for known in (outcome, await stand.look_up(request_id)):
        assert isinstance(known, Done)
        assert known.payload["state"] == "cancelled"


@every_partner
async def test_a_cancellation_that_is_refused_was_not_done(stand: Stand, name: str) -> None:
    offer = await stand.prepare(Act.CANCEL)
    await stand.script(Fault.PARTNER_CANCEL_REFUSED)
    outcome, _ = await stand.do(Act.CANCEL, offer=offer)
    assert outcome == NotDone("cancel_refused")
    assert await stand.states() == ["confirmed"]


@every_partner
async def test_a_cancellation_that_costs_more_than_agreed_is_not_made(stand: Stand, name: str) -> None:
    offer = await stand.prepare(Act.CANCEL)
    outcome, _ = await stand.do(Act.CANCEL, offer=offer, penalty_minor=1)
    assert outcome == NotDone("penalty_changed")
    assert await stand.states() == ["confirmed"]
    outcome, _ = await stand.do(Act.CANCEL, offer=offer, number=2)
    assert isinstance(outcome, Done)
    assert outcome.payload["penalty_minor"] == offer.penalty_minor


@every_partner
async def test_an_offer_that_is_gone_is_named(stand: Stand, name: str) -> None:
    offer = (await stand.offers())[0]
    await stand.script(Fault.PARTNER_OFFER_GONE)
    with pytest.raises(OfferGone):
        await stand.adapter.quote(offer.offer_id, timeout_s=5)


@pytest.mark.requirement("L9")
@every_partner
async def test_a_partner_that_cannot_be_asked_is_named_to_the_member(stand: Stand, name: str) -> None:
    await stand.sandbox.set_faults(PLAN)
    for fault in (Fault.LOOK_UP_ERROR, Fault.LOOK_UP_DROP, Fault.LOOK_UP_MALFORMED):
        await stand.script(fault)
        with pytest.raises(PartnerUnavailable) as unavailable:
            await stand.offers()
        title = stand.adapter.about.title
        assert unavailable.value.detail == f"{title} is currently unavailable, please try again later"


@pytest.mark.parametrize("name", HOLDS)
async def test_deadlines_are_instants_whatever_zone_the_partner_thinks_in(stand: Stand, name: str) -> None:
    offer = await stand.offer(holdable=True)
    before = datetime.now(UTC)
    outcome, _ = await stand.do(Act.PLACE, offer=offer)
    assert isinstance(outcome, Done)
    ends = datetime.fromisoformat(outcome.payload["hold_until"])
    assert ends.utcoffset() == timedelta()
    really = datetime.fromtimestamp((await stand.booked())[0]["hold_until"], UTC)
    assert before + timedelta(minutes=10) < ends <= really
