"""The life of a payment and of a card: whatever is tried in whatever order, no more leaves than came in."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.kernel.errors import ConflictError
from faregate.payments.contracts.cards import CardAct, CardStatus
from faregate.payments.contracts.payments import PaymentStatus
from faregate.payments.domain import lifecycle
from faregate.payments.domain.cards import (
    CardActRefused,
    CardNumberInvalid,
    checked_number,
    luhn_digit,
    made_number,
    status_after,
)
from faregate.payments.domain.lifecycle import Standing

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ACTS = st.lists(
    st.tuples(st.sampled_from(["capture", "capture_all", "reverse", "refund"]), st.integers(0, 120)),
    max_size=12,
)


def authorised(amount: int = 100) -> Standing:
    return Standing(status=PaymentStatus.AUTHORISED, amount_minor=amount, expires_at=NOW + timedelta(days=7))


@pytest.mark.requirement("F16")
@given(ACTS)
def test_never_more_is_refunded_than_captured_nor_captured_than_authorised(
    acts: list[tuple[str, int]],
) -> None:
    standing, captures, refunds = authorised(), 0, 0
    for act, amount in acts:
        with suppress(ConflictError):
            match act:
                case "capture":
                    standing = lifecycle.captured(standing, amount_minor=amount, now=NOW)
                    captures += 1
                case "capture_all":
                    standing = lifecycle.captured(standing, amount_minor=None, now=NOW)
                    captures += 1
                case "reverse":
                    standing = lifecycle.reversed_(standing)
                case _:
                    standing = lifecycle.refunded(standing, amount_minor=amount)
                    refunds += amount
    assert captures == (standing.status is PaymentStatus.CAPTURED)
    assert refunds == standing.refunded_minor <= standing.captured_minor <= standing.amount_minor
    if standing.status is PaymentStatus.REVERSED:
        assert standing.captured_minor == 0


def test_what_expired_is_captured_no_more_and_can_be_reversed() -> None:
    late = authorised().expires_at
    with pytest.raises(lifecycle.AuthorisationExpired):
        lifecycle.captured(authorised(), amount_minor=None, now=late)
    assert lifecycle.reversed_(authorised()).status is PaymentStatus.REVERSED


@given(st.lists(st.sampled_from(list(CardAct)), max_size=8))
def test_a_closed_card_stays_closed(acts: list[CardAct]) -> None:
    status, was_closed = CardStatus.ACTIVE, False
    for act in acts:
        with suppress(CardActRefused):
            status = status_after(status, act)
        was_closed = was_closed or act is CardAct.CLOSE
    assert (status is CardStatus.CLOSED) == was_closed


@given(st.binary(min_size=8, max_size=8))
def test_made_numbers_are_of_the_test_range_and_pass_the_check(random: bytes) -> None:
    digits = made_number(random).digits
    assert digits.startswith("999999")
    assert len(digits) == 16
    assert checked_number(digits).digits == digits


@pytest.mark.parametrize(
    "number", ["4111111111111111", "378282246310005", "5555555555554444", "6011000990139424"]
)
def test_public_test_numbers_pass_and_none_of_their_neighbours_does(number: str) -> None:
    assert luhn_digit(number[:-1]) == number[-1]
    for digit in set("0123456789") - {number[-1]}:
        with pytest.raises(CardNumberInvalid):
            checked_number(number[:-1] + digit)


@pytest.mark.requirement("F14")
@pytest.mark.parametrize("number", ["", "4111 1111 1111 1111", "411111111111111", "4" * 20, "\u0664" * 16])
def test_what_is_no_number_is_refused_without_being_repeated(number: str) -> None:
    with pytest.raises(CardNumberInvalid) as refused:
        checked_number(number)
    assert number == "" or number not in str(refused.value)
    assert "4111111111111111" not in repr(checked_number("4111111111111111"))
