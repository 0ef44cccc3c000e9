"""The saga of a redemption: its order follows from what the partners can do, and its invariants hold in every story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faregate.travel.domain.course import (
    CANCELLED_BY_MEMBER,
    PRICE_REFUSED,
    TOO_LATE,
    Do,
    End,
    Fail,
    Lapse,
    Stuck,
    Terms,
    Wait,
    course,
    decide,
    refunded_cash,
    refunded_points,
)
from faregate.travel.domain.saga import WHOLE, Action, Leg, Saga, Status, Step, StepState
from tests.travel_simulation import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
TERMS = Terms()
HELD = {"state": "held", "price_minor": 1_000, "hold_until": (NOW + timedelta(minutes=20)).isoformat()}
POINTS = {"amount": 500, "expires_at": LATER.isoformat()}
CONFIRMED = {"state": "confirmed", "price_minor": 1_000}


def leg(no: int = 1, *, held: bool = True) -> Leg:
    return Leg(
        no=no,
        partner=f"p{no}",
        offer_id="o",
        price_minor=1_000,
        points=500,
        is_held_first=held,
        point_micro_minor=2_000_000,
    )


def saga(*legs: Leg, steps: Sequence[Step] = (), **changes: Any) -> Saga:
    return Saga(
        id="rdm_1",
        legs=legs or (leg(),),
        steps=steps,
        **{"cash_minor": 0, "deadline": NOW + timedelta(minutes=10), **changes},
    )


def step(
    action: Action,
    state: StepState = StepState.DONE,
    *,
    of: int = WHOLE,
    number: int = 1,
    facts: Mapping[str, Any] = {},
    **more: Any,
) -> Step:
    return Step(
        action=action,
        leg=of,
        number=number,
        state=state,
        facts=facts,
        **{"open_until": NOW + timedelta(minutes=5), **more},
    )


PLACED = step(Action.PLACE, of=1, facts=HELD)
HOLDING = step(Action.HOLD_POINTS, facts=POINTS)


@pytest.mark.requirement("L7")
@pytest.mark.parametrize(
    ("legs", "order"),
    [
        ([leg()], ["place 1", "hold_points 0", "confirm 1", "post_points 0"]),
        ([leg(held=False)], ["hold_points 0", "book 1", "post_points 0"]),
        (
            [leg(1, held=False), leg(2), leg(3)],
            [
                "place 2",
                "place 3",
                "hold_points 0",
                "book 1",
                "confirm 2",
                "confirm 3",
                "post_points 0",
            ],
        ),
    ],
)
def test_the_order_follows_from_what_the_partners_can_do(legs: list[Leg], order: list[str]) -> None:
    assert [f"{action.value} {no}" for action, no in course(saga(*legs))] == order


def test_cash_is_authorised_with_the_points_and_captured_at_the_end() -> None:
    actions = [action for action, _ in course(saga(cash_minor=5))]
    assert actions == [
        Action.PLACE,
        Action.HOLD_POINTS,
        Action.AUTHORISE_CASH,
        Action.CONFIRM,
        Action.POST_POINTS,
        Action.CAPTURE_CASH,
    ]


@pytest.mark.requirement("L14")
@pytest.mark.parametrize("state", [StepState.ASKED, StepState.UNKNOWN])
@pytest.mark.parametrize("changes", [{}, {"failing": "x"}, {"is_cancelled": True}])
def test_nothing_happens_while_nobody_knows_what_became_of_a_step(
    state: StepState, changes: dict[str, Any]
) -> None:
    open_step = step(Action.CONFIRM, state, of=1)
    assert isinstance(decide(saga(steps=[PLACED, HOLDING, open_step], **changes), now=NOW, terms=TERMS), Wait)


@pytest.mark.requirement("L14")
def test_the_points_are_held_longer_while_a_step_is_unknown() -> None:
    unknown = step(Action.CONFIRM, StepState.UNKNOWN, of=1, open_until=NOW + timedelta(days=1))
    of = saga(steps=[PLACED, HOLDING, unknown])
    soon = LATER - TERMS.points_again
    assert decide(of, now=soon - timedelta(seconds=1), terms=TERMS) == Wait(until=soon)
    extended = decide(of, now=soon, terms=TERMS)
    assert isinstance(extended, Do)
    assert (extended.action, extended.until) == (Action.EXTEND_POINTS, soon + TERMS.points_after)


@pytest.mark.requirement("L14")
def test_a_step_of_which_nobody_learns_what_became_of_it_goes_to_a_person() -> None:
    unknown = step(Action.CONFIRM, StepState.UNKNOWN, of=1, open_until=NOW)
    assert isinstance(decide(saga(steps=[PLACED, HOLDING, unknown]), now=NOW, terms=TERMS), Stuck)


def test_points_that_are_refused_cancel_the_tentative_booking() -> None:
    refused = step(Action.HOLD_POINTS, StepState.NOT_DONE, reason="insufficient_points")
    forward = saga(steps=[PLACED, refused])
    failing = decide(forward, now=NOW, terms=TERMS)
    assert failing == Fail(reason="hold_points: insufficient_points")
    back = replace(forward, failing=failing.reason)
    release = decide(back, now=NOW, terms=TERMS)
    assert isinstance(release, Do)
    assert (release.action, release.leg) == (Action.RELEASE, 1)
    released = back.with_step(step(Action.RELEASE, of=1, facts={"state": "cancelled"}))
    assert decide(released, now=NOW, terms=TERMS) == End(status=Status.FAILED)


def test_a_tentative_booking_that_cannot_be_released_is_tried_again_until_it_lapses() -> None:
    refused = step(Action.RELEASE, StepState.NOT_DONE, of=1, reason="cancel_refused", ended_at=NOW)
    back = saga(steps=[PLACED, refused], failing="x")
    lapses_at = datetime.fromisoformat(HELD["hold_until"])  # type: ignore[arg-type]
    assert decide(back, now=NOW, terms=TERMS) == Wait(until=NOW + TERMS.undo_again)
    again = decide(back, now=NOW + TERMS.undo_again, terms=TERMS)
    assert isinstance(again, Do)
    assert (again.action, again.number) == (Action.RELEASE, 2)
    assert decide(back, now=lapses_at, terms=TERMS) == End(status=Status.FAILED)


def test_a_booking_whose_cancellation_is_refused_goes_to_a_person_and_can_be_tried_again() -> None:
    booked = step(Action.BOOK, of=1, facts=CONFIRMED)
    refused = step(Action.CANCEL, StepState.NOT_DONE, of=1, reason="cancel_refused")
    stuck = saga(leg(held=False), steps=[HOLDING, booked, refused], failing="x")
    decision = decide(stuck, now=NOW, terms=TERMS)
    assert decision == Stuck(step=refused, reason="cancel_refused")
    again = stuck.ended(refused, StepState.SUPERSEDED, at=NOW)
    tried = decide(again, now=NOW, terms=TERMS)
    assert isinstance(tried, Do)
    assert (tried.action, tried.number) == (Action.CANCEL, 2)


def test_what_nobody_refused_is_tried_again_ever_later() -> None:
    away = step(Action.RELEASE, StepState.NOT_DONE, of=1, reason="not_connected", ended_at=NOW)
    back = saga(steps=[PLACED, away], failing="x")
    again_at = NOW + TERMS.undo_again
    assert decide(back, now=NOW, terms=TERMS) == Wait(until=again_at)
    again = decide(back, now=again_at, terms=TERMS)
    assert isinstance(again, Do)
    assert (again.action, again.number) == (Action.RELEASE, 2)
    later = back.with_step(replace(away, number=2, ended_at=again_at))
    assert decide(later, now=again_at, terms=TERMS) == Wait(until=again_at + 2 * TERMS.undo_again)


def test_it_is_decided_before_the_partners_hold_ends() -> None:
    lapses_at = datetime.fromisoformat(HELD["hold_until"])  # type: ignore[arg-type]
    of = saga(steps=[PLACED, HOLDING], deadline=LATER)
    in_time = lapses_at - TERMS.hold_margin - timedelta(seconds=1)
    assert isinstance(decide(of, now=in_time, terms=TERMS), Do)
    assert decide(of, now=in_time + timedelta(seconds=1), terms=TERMS) == Fail(reason=TOO_LATE)


def test_points_are_held_for_longer_than_the_partner_holds_the_booking() -> None:
    decision = decide(saga(steps=[PLACED]), now=NOW, terms=TERMS)
    assert isinstance(decision, Do)
    assert decision.until == datetime.fromisoformat(HELD["hold_until"]) + TERMS.points_after  # type: ignore[arg-type]


def changed(price: int, *, number: int = 1) -> Step:
    return step(Action.CONFIRM, of=1, number=number, facts={"state": "price_changed", "price_minor": price})


def test_a_price_within_tolerance_is_taken_without_asking_and_costs_the_member_nothing() -> None:
    decision = decide(saga(steps=[PLACED, HOLDING, changed(1_020)]), now=NOW, terms=TERMS)
    assert decision == Do(
        action=Action.CONFIRM, leg=1, number=2, amount=1_020, until=NOW + TERMS.resolve_within
    )


def test_another_price_asks_the_member_and_holds_what_is_missing() -> None:
    asks = saga(steps=[PLACED, HOLDING, changed(1_200)])
    decision = decide(asks, now=NOW, terms=TERMS)
    assert isinstance(decision, Do)
    assert (decision.action, decision.amount) == (Action.ASK_CONSENT, 1_200)
    yes = asks.with_step(step(Action.ASK_CONSENT, of=1, asked={"amount": 1_200}))
    more = decide(yes, now=NOW, terms=TERMS)
    assert isinstance(more, Do)
    assert (more.action, more.leg, more.amount) == (Action.HOLD_POINTS, 1, 100)
    held = yes.with_step(step(Action.HOLD_POINTS, of=1, facts={**POINTS, "amount": 100}))
    again = decide(held, now=NOW, terms=TERMS)
    assert isinstance(again, Do)
    assert (again.action, again.number, again.amount) == (Action.CONFIRM, 2, 1_200)


@pytest.mark.parametrize("state", [StepState.NOT_DONE])
def test_a_price_that_the_member_refuses_ends_it(state: StepState) -> None:
    asked = step(Action.ASK_CONSENT, state, of=1, asked={"amount": 1_200})
    assert decide(saga(steps=[PLACED, HOLDING, changed(1_200), asked]), now=NOW, terms=TERMS) == Fail(
        reason=PRICE_REFUSED
    )


def test_a_question_that_nobody_answers_lapses() -> None:
    asked = step(Action.ASK_CONSENT, StepState.ASKED, of=1, asked={"amount": 1_200}, open_until=NOW)
    of = saga(steps=[PLACED, HOLDING, changed(1_200), asked])
    assert decide(of, now=NOW, terms=TERMS) == Lapse(step=asked)


def test_a_cancellation_that_is_refused_in_the_middle_goes_to_a_person() -> None:
    first = step(Action.CANCEL, of=1, facts={"state": "cancelled"})
    refused = step(Action.CANCEL, StepState.NOT_DONE, of=2, reason="cancel_refused")
    of = saga(leg(1), leg(2), steps=[first, refused], is_booked=True, is_cancelled=True)
    assert decide(of, now=NOW, terms=TERMS) == Stuck(step=refused, reason="cancel_refused")


def test_a_member_who_cancels_early_gets_everything_back() -> None:
    of = saga(steps=[PLACED, HOLDING], is_cancelled=True)
    assert decide(of, now=NOW, terms=TERMS) == Fail(reason=CANCELLED_BY_MEMBER)
    undo = decide(replace(of, failing=CANCELLED_BY_MEMBER), now=NOW, terms=TERMS)
    assert isinstance(undo, Do)
    assert undo.action is Action.VOID_POINTS


BOOKED = (
    PLACED,
    HOLDING,
    step(Action.CONFIRM, of=1, facts=CONFIRMED),
    step(Action.POST_POINTS),
)


@pytest.mark.parametrize(("penalty", "points", "cash"), [(0, 500, 200), (100, 450, 180), (1_000, 0, 0)])
def test_a_cancellation_gives_back_what_the_penalty_leaves(penalty: int, points: int, cash: int) -> None:
    cancelled = step(Action.CANCEL, of=1, facts={"state": "cancelled", "penalty_minor": penalty})
    paid = replace(leg(), cash_minor=200)
    of = saga(paid, steps=[*BOOKED, cancelled], is_booked=True, is_cancelled=True, cash_minor=200)
    assert (refunded_points(of), refunded_cash(of)) == (points, cash)


def test_a_cancellation_gives_back_what_the_penalty_leaves_of_a_dearer_price_that_was_agreed() -> None:
    dearer = (
        step(Action.ASK_CONSENT, of=1, asked={"amount": 1_200}),
        step(Action.HOLD_POINTS, of=1, facts={**POINTS, "amount": 100}),
        step(Action.CANCEL, of=1, facts={"state": "cancelled", "penalty_minor": 120}),
    )
    of = saga(steps=[*BOOKED, *dearer], is_booked=True, is_cancelled=True)
    assert refunded_points(of) == 540


def test_a_dearer_price_of_what_is_paid_in_cash_is_held_in_points_and_posted_or_given_back() -> None:
    in_cash = replace(leg(), points=0, cash_minor=1_000)
    paid = (PLACED, step(Action.AUTHORISE_CASH, facts={"authorisation": "a"}), changed(1_200))
    yes = saga(
        in_cash, steps=[*paid, step(Action.ASK_CONSENT, of=1, asked={"amount": 1_200})], cash_minor=1_000
    )
    more = decide(yes, now=NOW, terms=TERMS)
    assert isinstance(more, Do)
    assert (more.action, more.leg, more.amount) == (Action.HOLD_POINTS, 1, 100)
    held = yes.with_step(step(Action.HOLD_POINTS, of=1, facts={**POINTS, "amount": 100}))
    assert (Action.POST_POINTS, WHOLE) in list(course(held))
    back = decide(replace(held, failing="refused"), now=NOW, terms=TERMS)
    assert isinstance(back, Do)
    assert (back.action, back.leg, back.amount) == (Action.VOID_POINTS, WHOLE, 100)


def test_a_cancellation_that_the_partner_refuses_leaves_it_booked() -> None:
    refused = step(Action.CANCEL, StepState.NOT_DONE, of=1, reason="cancel_refused")
    of = saga(steps=[*BOOKED, refused], is_booked=True, is_cancelled=True)
    assert decide(of, now=NOW, terms=TERMS) == End(status=Status.BOOKED)


@pytest.mark.requirement("L7", "L14")
@pytest.mark.parametrize("hundred", range(5))
def test_the_invariants_hold_in_every_story(hundred: int) -> None:
    """Whatever the partners, the member and time do. More stories: `python -m tools.saga_seeds`."""
    for seed in range(100 * hundred, 100 * (hundred + 1)):
        try:
            World(seed).run()
        except AssertionError as story:
            pytest.fail(f"seed {seed}: {story}")
