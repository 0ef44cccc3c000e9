"""References: what is asked can be read from a request's id, and leads to the booking that it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.gateway.intent import provider_request_id
from faregate.travel.contracts.partners import Act
from faregate.travel.domain.references import (
    Asked,
    NotOurReference,
    read_request_id,
    redemption_of,
    subject_of,
)

small = st.integers(1, 99)


@given(leg=small, number=small, attempt=small, act=st.sampled_from([Act.PLACE, Act.BOOK]))
def test_each_attempt_to_book_has_a_reference_of_its_own(
    leg: int, number: int, attempt: int, act: Act
) -> None:
    subject = subject_of(redemption="rdm_x", leg=leg, act=act, number=number)
    asked = read_request_id(provider_request_id(subject_id=subject, provider="p", attempt=attempt))
    assert asked == Asked(act=act, booking=f"rdm_x.{leg}.{number}.{attempt}")
    assert redemption_of(subject) == redemption_of(asked.booking) == "rdm_x"


@given(
    leg=small,
    number=small,
    attempt=small,
    made=st.tuples(small, small),
    act=st.sampled_from([Act.CONFIRM, Act.RELEASE, Act.CANCEL]),
)
def test_what_is_asked_about_a_booking_leads_to_it_whatever_the_attempt(
    leg: int, number: int, attempt: int, made: tuple[int, int], act: Act
) -> None:
    booking = f"rdm_x.{leg}.{made[0]}.{made[1]}"
    subject = subject_of(redemption="rdm_x", leg=leg, act=act, number=number, booking=booking)
    asked = read_request_id(provider_request_id(subject_id=subject, provider="p", attempt=attempt))
    assert asked == Asked(act=act, booking=booking)


@pytest.mark.parametrize(
    "text", ["", "rdm_x", "rdm_x.1.fly.1:p:1", "rdm_x.1.confirm.1:p:1", "app_1:bureau:1"]
)
def test_an_id_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(NotOurReference):
        read_request_id(text)
