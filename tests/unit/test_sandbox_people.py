"""Who lives in the sandbox: the same for ever, unique, and known to every provider alike."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.domain.facts import Purpose
from faregate.sandbox.names import legal_name, number_of
from faregate.sandbox.people import Identity, application, person, record_of, rows
from faregate.sandbox.personas import PERSONAS, known_of, persona_of

NUMBERS = st.integers(min_value=0, max_value=10**9)
STRANGER = Identity(legal_name="Jane Doe", dob="1994-04-08", ssn_last4="1234", annual_income=180_000)


def test_the_first_thousand_people_are_the_rows_of_the_data_set_in_order() -> None:
    assert [person(number).row for number in range(1000)] == list(rows())


def test_ten_thousand_people_have_ten_thousand_names() -> None:
    assert len({legal_name(number) for number in range(10_000)}) == 10_000


@given(NUMBERS)
def test_a_name_leads_back_to_its_number(number: int) -> None:
    assert number_of(legal_name(number)) == number


@given(st.text(max_size=40))
def test_no_text_breaks_the_search_for_a_number(text: str) -> None:
    number = number_of(text)
    assert number is None or legal_name(number) == text


@given(NUMBERS)
def test_a_person_is_as_old_as_the_row_says(number: int) -> None:
    someone = person(number)
    born = date.fromisoformat(someone.dob)
    day = date(2026, 1, 1)
    age_years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    assert age_years == int(someone.row["age_in_years"])


@given(NUMBERS)
def test_the_world_knows_a_person_by_the_application_alone(number: int) -> None:
    identity = Identity(**application(number)["applicant"])
    assert record_of(identity).row == rows()[number % 1000]


@given(NUMBERS)
def test_an_application_says_what_the_form_asks_and_nothing_that_providers_know(number: int) -> None:
    body = application(number)
    assert set(body) == {"product_type", "applicant", "amount", "purpose"}
    assert set(body["applicant"]) == {"legal_name", "dob", "ssn_last4", "annual_income"}
    assert body["purpose"] in set(Purpose)
    assert len(body["applicant"]["ssn_last4"]) == 4


def test_a_stranger_typed_by_hand_is_always_led_to_the_same_row() -> None:
    assert record_of(STRANGER) == record_of(STRANGER)
    assert record_of(STRANGER).row in rows()


def test_another_birthday_makes_another_person_of_a_known_name() -> None:
    known = person(7)
    other = Identity(
        legal_name=known.legal_name, dob="1950-01-01", ssn_last4=known.ssn_last4, annual_income=1
    )
    assert record_of(other).row != known.row


@pytest.mark.parametrize("outcome", ["good", "bad"])
def test_what_no_row_tells_strikes_a_few_percent_whatever_the_creditability(outcome: str) -> None:
    people = [person(number) for number in range(10_000)]
    records = [record_of(someone) for someone in people if someone.row["creditability"] == outcome]
    assert 0.005 < sum(record.watchlist_match for record in records) / len(records) < 0.02
    assert 0.005 < sum(record.fraud_level == "high" for record in records) / len(records) < 0.02
    assert 0.02 < sum(record.fraud_level == "medium" for record in records) / len(records) < 0.06
    assert 0.005 < sum(not record.identity_verified for record in records) / len(records) < 0.03


def test_a_persona_is_found_by_the_name_in_any_case_and_spacing() -> None:
    wanda = Identity(legal_name="  wanda   WATCHLIST ", dob="1990-01-01", ssn_last4="0000", annual_income=1)
    assert known_of(wanda, persona_of(wanda)).watchlist_match


def test_no_numbered_person_bears_the_name_of_a_persona() -> None:
    assert [name for name in PERSONAS if number_of(name.title()) is not None] == []
