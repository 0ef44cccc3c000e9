"""What the ledger keeps for ever is an id or one word: free text could tell who somebody is after an erasure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.points.contracts.ledger import (
    AccountStatus,
    Adjust,
    Burn,
    Earn,
    Hold,
    Request,
    Reverse,
    SetFloor,
    SetStatus,
    WordsRefused,
)

pytestmark = [pytest.mark.requirement("L1"), pytest.mark.requirement("L13")]
WITH_REFERENCE: list[Callable[[str], Request]] = [
    lambda words: Earn(key="k", member_id="m", amount=1, reference=words),
    lambda words: Burn(key="k", member_id="m", amount=1, reference=words),
    lambda words: Hold(key="k", member_id="m", amount=1, reference=words),
]
WITH_REASON: list[Callable[[str], Request]] = [
    lambda words: Adjust(key="k", member_id="m", amount=1, reason=words),
    lambda words: Reverse(key="k", subject=1, reason=words),
    lambda words: SetFloor(key="k", member_id="m", floor=1, reason=words),
    lambda words: SetStatus(key="k", member_id="m", status=AccountStatus.FROZEN, reason=words),
]
PERSONAL = ["Ada Lindqvist", "ada@example.com", "+46 70 123 45 67", "born 1961", "Åsa", "a\n", "pay_1\n"]


@pytest.mark.parametrize("make", WITH_REFERENCE)
@pytest.mark.parametrize("words", [*PERSONAL, "x" * 201])
def test_a_reference_is_an_id(make: Callable[[str], Request], words: str) -> None:
    make("pay_01J3R2J7F1TQ0K6W6N8A4X9V7R")
    make("trip-1/leg:2.a")
    with pytest.raises(WordsRefused):
        make(words)


@pytest.mark.parametrize("make", WITH_REASON)
@pytest.mark.parametrize("words", [*PERSONAL, "Ada", "x" * 65])
def test_a_reason_is_one_word(make: Callable[[str], Request], words: str) -> None:
    make("entered_twice")
    with pytest.raises(WordsRefused):
        make(words)


@given(st.text(max_size=40))
def test_no_words_with_a_space_or_an_address_get_in(words: str) -> None:
    for make in (WITH_REFERENCE[0], WITH_REASON[0]):
        try:
            make(words)
        except WordsRefused:
            continue
        assert words.isascii()
        assert not set(words) & set(" @+\t\n")
