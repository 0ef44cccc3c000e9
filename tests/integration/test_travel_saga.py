"""Redemptions end to end: the real run, ledger and gateway, with partners that fail in every way that sagas know.

After each story the invariants are checked against what the partners really booked and what the ledger really holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from faregate.entrypoints.bootstrap.site import key_rings
from faregate.gateway.store.changes import Kind, append_change
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.security.keys import KeyRing, KeySet
from faregate.travel.api import Tools, rotate_keys
from faregate.travel.contracts.partners import Act, OfferGone
from faregate.travel.contracts.redemptions import NewRedemption, Wish
from faregate.travel.handlers.redeem import (
    CannotBeCancelled,
    MemberMayNotTravel,
    NothingIsStuck,
    NothingToAnswer,
    PartnerNotFound,
    PriceRose,
    TripInvalid,
)
from faregate.travel.partners.fake import Mishap
from faregate.travel.store.redemptions import sealed_after
from tests.travel_world import HAS, Travel, travel

__all__ = ["travel"]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("L7")]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happens at the partners of a trip, and how it must end. Mishaps: (partner, act, what)."""

    name: str
    partners: Sequence[str]
    mishaps: Sequence[tuple[str, Act, Mishap]] = ()
    ends: str
    reason: str | None = None
    steps: Sequence[str] = field(default=())
    points: int = HAS


STORIES = [
    Story(
        name="what can be held is held first",
        partners=["airline"],
        ends="booked",
        steps=["place", "hold_points", "confirm", "post_points"],
    ),
    Story(
        name="what can only be booked at once is booked when the points are held",
        partners=["instant_hotel"],
        ends="booked",
        steps=["hold_points", "book", "post_points"],
    ),
    Story(
        name="a trip with two partners is booked whole",
        partners=["airline", "instant_hotel"],
        ends="booked",
        steps=["place", "hold_points", "book", "confirm", "post_points"],
    ),
    Story(
        name="points that are not there cancel the tentative booking",
        partners=["airline"],
        points=5,
        ends="failed",
        reason="hold_points: insufficient_points",
        steps=["place", "hold_points", "release"],
    ),
    Story(
        name="a partner that refuses at first costs nothing",
        partners=["airline"],
        mishaps=[("airline", Act.PLACE, Mishap.REFUSED)],
        ends="failed",
        reason="place: refused",
        steps=["place"],
    ),
    Story(
        name="a confirmation that is refused gives points and booking back",
        partners=["airline"],
        mishaps=[("airline", Act.CONFIRM, Mishap.REFUSED)],
        ends="failed",
        reason="confirm: refused",
        steps=["place", "hold_points", "confirm", "void_points", "release"],
    ),
    Story(
        name="a second partner that refuses takes the first with it, in reverse",
        partners=["airline", "hotel"],
        mishaps=[("hotel", Act.CONFIRM, Mishap.REFUSED)],
        ends="failed",
        reason="confirm: refused",
        steps=[
            "place", "place", "hold_points", "confirm", "confirm", "cancel", "void_points", "release",
        ],
    ),
    Story(
        name="an instant partner that refuses releases what others hold",
        partners=["airline", "instant_hotel"],
        mishaps=[("instant_hotel", Act.BOOK, Mishap.REFUSED)],
        ends="failed",
        reason="book: refused",
        steps=["place", "hold_points", "book", "void_points", "release"],
    ),
    Story(
        name="an answer that is lost after the booking is found by our reference",
        partners=["airline"],
        mishaps=[("airline", Act.PLACE, Mishap.LOST_AFTER), ("airline", Act.CONFIRM, Mishap.LOST_AFTER)],
        ends="booked",
        steps=["place", "hold_points", "confirm", "post_points"],
    ),
    Story(
        name="a request that is lost before the booking is sent again once that is known",
        partners=["instant_hotel"],
        mishaps=[("instant_hotel", Act.BOOK, Mishap.LOST_BEFORE)],
        ends="booked",
        steps=["hold_points", "book", "post_points"],
    ),
    Story(
        name="a partner that is unavailable for a moment is asked again",
        partners=["airline"],
        mishaps=[("airline", Act.PLACE, Mishap.UNAVAILABLE), ("airline", Act.CONFIRM, Mishap.UNAVAILABLE)],
        ends="booked",
        steps=["place", "hold_points", "confirm", "post_points"],
    ),
    Story(
        name="a release whose answer is lost is done once",
        partners=["airline"],
        mishaps=[("airline", Act.CONFIRM, Mishap.REFUSED), ("airline", Act.RELEASE, Mishap.LOST_AFTER)],
        ends="failed",
        reason="confirm: refused",
        steps=["place", "hold_points", "confirm", "void_points", "release"],
    ),
    Story(
        name="a partner that is down during the way back is asked again",
        partners=["airline"],
        mishaps=[("airline", Act.CONFIRM, Mishap.REFUSED), ("airline", Act.RELEASE, Mishap.UNAVAILABLE)],
        ends="failed",
        reason="confirm: refused",
        steps=["place", "hold_points", "confirm", "void_points", "release"],
    ),
]  # fmt: skip


@pytest.mark.requirement("L4")
@pytest.mark.requirement("L14")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_a_redemption_ends_as_it_must(travel: Travel, story: Story) -> None:
    member = await travel.member(points=story.points)
    for partner, act, mishap in story.mishaps:
        travel.partners[partner].mishaps[act].append(mishap)
    redemption = await travel.redeem(member, *story.partners)
    view = await travel.until(redemption)
    assert (view.status, view.reason) == (story.ends, story.reason)
    assert [step.action for step in view.steps] == list(story.steps)
    await travel.check(redemption, member=member, has=story.points)


async def test_a_dearer_confirmation_asks_the_member_and_takes_what_is_agreed(travel: Travel) -> None:
    member = await travel.member()
    travel.partners["airline"].mishaps[Act.CONFIRM].append(Mishap.DEARER)
    redemption = await travel.redeem(member, "airline")
    asked = await travel.until(redemption, "awaiting_consent")
    assert asked.question is not None
    assert (asked.question.leg, asked.question.price_minor, asked.question.points_more) == (1, 24_000, 4_000)
    async with travel.api.database.transaction() as conn:
        with pytest.raises(NothingToAnswer):
            await travel.api.answer(conn, redemption, leg=1, price_minor=23_000, is_yes=True)
    async with travel.api.database.transaction() as conn:
        await travel.api.answer(conn, redemption, leg=1, price_minor=24_000, is_yes=True)
    view = await travel.until(redemption)
    assert view.status == "booked"
    assert await travel.balance(member) == (HAS - 24_000, 0)
    await travel.check(redemption, member=member)


async def test_a_dearer_confirmation_that_the_member_refuses_ends_it(travel: Travel) -> None:
    member = await travel.member()
    travel.partners["instant_hotel"].mishaps[Act.BOOK].append(Mishap.DEARER)
    redemption = await travel.redeem(member, "instant_hotel")
    await travel.until(redemption, "awaiting_consent")
    async with travel.api.database.transaction() as conn:
        await travel.api.answer(conn, redemption, leg=1, price_minor=24_000, is_yes=False)
    view = await travel.until(redemption)
    assert (view.status, view.reason) == ("failed", "price_refused")
    await travel.check(redemption, member=member)


@pytest.mark.requirement("L14")
async def test_an_outcome_that_nobody_knows_keeps_the_points_and_a_late_success_is_adopted(
    travel: Travel,
) -> None:
    member, partner = await travel.member(), travel.partners["instant_hotel"]
    partner.mishaps[Act.BOOK].append(Mishap.LOST_AFTER)
    partner.is_blind = True
    redemption = await travel.redeem(member, "instant_hotel")
    unknown = await travel.when(redemption, lambda view: any(s.state == "unknown" for s in view.steps))
    assert unknown.status == "started"
    assert await travel.balance(member) == (HAS, 20_000)
    partner.is_blind = False
    assert (await travel.until(redemption)).status == "booked"
    assert len(travel.live(redemption)) == 1
    await travel.check(redemption, member=member)


@pytest.mark.requirement("L14")
async def test_an_outcome_that_is_known_to_be_nothing_late_gives_the_points_back(travel: Travel) -> None:
    member, partner = await travel.member(), travel.partners["airline"]
    partner.mishaps[Act.CONFIRM].append(Mishap.LOST_BEFORE)
    partner.before = lambda act: setattr(partner, "is_blind", act is Act.CONFIRM or partner.is_blind)
    redemption = await travel.redeem(member, "airline")
    await travel.when(redemption, lambda view: any(s.state == "unknown" for s in view.steps))
    partner.before = lambda _: None
    partner.lapse()
    partner.is_blind = False
    view = await travel.until(redemption)
    assert view.status == "failed"
    await travel.check(redemption, member=member)


@pytest.mark.requirement("L14")
async def test_an_outcome_that_nobody_asks_about_any_longer_is_asked_about_again_when_a_person_wants_it(
    travel: Travel,
) -> None:
    member, partner = await travel.member(), travel.partners["instant_hotel"]
    gateway = await travel.process.database("gateway", connections_max=1)
    async with gateway.transaction() as conn:
        await append_change(
            conn,
            provider="instant_hotel",
            kind=Kind.POLICY,
            seen_version=0,
            content={"retry.reconcile_s": 0.1},
            reason="a test",
            changed_by="test",
        )
    partner.mishaps[Act.BOOK].append(Mishap.LOST_AFTER)
    partner.is_blind = True
    redemption = await travel.redeem(member, "instant_hotel")
    stuck = await travel.until(redemption, "needs_attention")
    assert stuck.needs == "book 1: nobody learns what became of it"
    asked = "select from gateway.intent where subject_id like %s and next_at is not null"
    assert await (await travel.connection.execute(asked, (f"{redemption}.%",))).fetchone() is None
    partner.is_blind = False
    async with travel.api.database.transaction() as conn:
        await travel.api.try_again(conn, redemption)
    assert (await travel.until(redemption)).status == "booked"
    await travel.check(redemption, member=member)


async def test_a_hold_that_would_end_too_early_is_not_confirmed(travel: Travel) -> None:
    """The partner holds for 29 s, and 30 are wanted when it is confirmed."""
    member = await travel.member()
    redemption = await travel.redeem(member, "brief_airline")
    view = await travel.until(redemption)
    assert (view.status, view.reason) == ("failed", "too_late")
    assert [step.action for step in view.steps] == ["place", "release"]
    await travel.check(redemption, member=member)


async def test_what_cannot_be_undone_waits_for_a_person_and_can_be_tried_again(travel: Travel) -> None:
    member, hotel = await travel.member(), travel.partners["instant_hotel"]
    travel.partners["airline"].mishaps[Act.CONFIRM].append(Mishap.REFUSED)
    hotel.mishaps[Act.CANCEL].append(Mishap.REFUSED)
    redemption = await travel.redeem(member, "airline", "instant_hotel")
    stuck = await travel.until(redemption, "needs_attention")
    assert stuck.needs == "cancel 2: refused"
    assert redemption in [view.id for view in await travel.api.needing_attention()]
    assert (await travel.balance(member))[1] == 40_000
    async with travel.api.database.transaction() as conn:
        await travel.api.try_again(conn, redemption)
    view = await travel.until(redemption)
    assert view.status == "failed"
    assert [step.action for step in view.steps][-4:] == ["cancel", "cancel", "void_points", "release"]
    await travel.check(redemption, member=member)
    async with travel.api.database.transaction() as conn:
        with pytest.raises(NothingIsStuck):
            await travel.api.try_again(conn, redemption)


async def test_a_member_cancels_what_is_booked_and_gets_all_but_the_penalty(travel: Travel) -> None:
    member = await travel.member()
    redemption = await travel.redeem(member, "airline", "instant_hotel")
    await travel.until(redemption, "booked")
    async with travel.api.database.transaction() as conn:
        await travel.api.cancel(conn, redemption)
    view = await travel.until(redemption, "cancelled")
    assert travel.live(redemption) == []
    assert await travel.balance(member) == (HAS - 2_000, 0)
    assert [step.action for step in view.steps][-3:] == ["cancel", "cancel", "refund_points"]
    async with travel.api.database.transaction() as conn:
        with pytest.raises(CannotBeCancelled):
            await travel.api.cancel(conn, redemption)


async def test_a_cancellation_that_the_partner_refuses_leaves_it_booked_and_may_come_again(
    travel: Travel,
) -> None:
    member = await travel.member()
    redemption = await travel.redeem(member, "airline")
    await travel.until(redemption, "booked")
    travel.partners["airline"].mishaps[Act.CANCEL].append(Mishap.REFUSED)
    async with travel.api.database.transaction() as conn:
        await travel.api.cancel(conn, redemption)
    view = await travel.when(redemption, lambda view: view.status == "booked")
    assert await travel.balance(member) == (HAS - 20_000, 0)
    assert view.legs[0].state == "confirmed"
    async with travel.api.database.transaction() as conn:
        await travel.api.cancel(conn, redemption)
    await travel.until(redemption, "cancelled")
    assert await travel.balance(member) == (HAS - 1_000, 0)


async def test_a_member_who_cancels_early_gets_everything_back(travel: Travel) -> None:
    member = await travel.member()
    travel.partners["airline"].mishaps[Act.CONFIRM].append(Mishap.DEARER)
    redemption = await travel.redeem(member, "airline")
    await travel.until(redemption, "awaiting_consent")
    async with travel.api.database.transaction() as conn:
        await travel.api.cancel(conn, redemption)
        await travel.api.answer(conn, redemption, leg=1, price_minor=24_000, is_yes=True)
    view = await travel.until(redemption)
    assert (view.status, view.reason) == ("cancelled", "cancelled_by_member")
    assert await travel.balance(member) == (HAS, 0)
    await travel.check(redemption, member=member)


async def test_what_nobody_can_book_is_refused_before_anything_is_asked(travel: Travel) -> None:
    member = await travel.member()
    wish = Wish(partner="airline", offer_id="o-20000", price_minor=20_000)
    for wanted, refusal in (
        (NewRedemption(member_id="mbr_nobody", wishes=[wish]), MemberMayNotTravel),
        (NewRedemption(member_id=member, wishes=[]), TripInvalid),
        (NewRedemption(member_id=member, wishes=[wish], cash_minor=30_000), TripInvalid),
        (
            NewRedemption(member_id=member, wishes=[Wish(partner="x", offer_id="o-1", price_minor=1)]),
            PartnerNotFound,
        ),
        (
            NewRedemption(member_id=member, wishes=[Wish(partner="airline", offer_id="?", price_minor=1)]),
            OfferGone,
        ),
        (
            NewRedemption(member_id=member, wishes=[Wish(partner="airline", offer_id="o-9", price_minor=8)]),
            PriceRose,
        ),
    ):
        with pytest.raises(refusal):
            await travel.begin(wanted)
    assert await travel.api.of_member(member) == []


async def test_travellers_and_answers_can_be_read_under_the_new_key_after_a_rotation(travel: Travel) -> None:
    redemption = await travel.redeem(await travel.member(), "airline")
    await travel.until(redemption, "booked")
    database, tools = travel.api.database, travel.api.redeeming.desk.tools
    keys = key_rings(travel.process.site.settings)["encryption"].newest()
    every = {**keys.keys, "later": b"n" * 32}

    def under(current: str, **known: bytes) -> Tools:
        ring = KeyRing.fixed(KeySet(current=current, keys=known))
        return replace(tools, cipher=FieldCipher(ring=ring))

    assert await rotate_keys(database, tools=under("later", **every), on_progress=lambda _: None) > 0
    assert await rotate_keys(database, tools=under("later", **every), on_progress=lambda _: None) == 0
    async with database.connection() as conn:
        sealed = dict(await sealed_after(conn, after_id="", limit=999))
    traveller = under("later", later=every["later"]).open(redemption, sealed[redemption])
    assert traveller.name == "Ada Byron"
    await rotate_keys(database, tools=under(keys.current, **every), on_progress=lambda _: None)
