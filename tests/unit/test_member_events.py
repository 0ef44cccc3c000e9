"""The published events of members: their names and fields are a promise, and nobody is named in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from faregate.events import EVENT_TYPES, PublishedEvent
from faregate.events.base import DIRECT_IDENTIFIERS

pytestmark = pytest.mark.requirement("L6")

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
AT = "2026-11-21T12:00:00Z"
MEMBER = {"member_id": "mbr_1"}
PROMISED: dict[str, dict[str, Any]] = {
    "members.member.registered": {**MEMBER, "source": "enrolment", "registered_at": AT},
    "members.profile.updated": {**MEMBER, "fields": ["email"], "version": 2, "updated_at": AT},
    "members.consent.changed": {
        **MEMBER,
        "purpose": "marketing",
        "given": True,
        "text_version": "2026-10",
        "changed_at": AT,
    },
    "members.member.status_changed": {
        **MEMBER,
        "status": "frozen",
        "previous": "active",
        "reason": "account_taken_over",
        "changed_at": AT,
    },
    "members.member.erased": {**MEMBER, "reason": "member_request", "erased_at": AT},
    "members.household.changed": {
        "household_id": "hsh_1",
        "change": "joined",
        "subject_id": "mbr_2",
        "head_id": "mbr_1",
        "member_ids": ["mbr_1", "mbr_2"],
        "changed_at": AT,
    },
}


def read(kind: str, **changes: Any) -> PublishedEvent:
    return EVENT_TYPES[kind].model_validate({**PROMISED[kind], **changes})


def test_there_are_exactly_the_promised_types() -> None:
    assert {kind for kind in EVENT_TYPES if kind.startswith("members.")} == PROMISED.keys()


@pytest.mark.parametrize("kind", PROMISED)
def test_the_required_fields_are_exactly_the_promised_ones_and_none_identifies_a_person(kind: str) -> None:
    fields = EVENT_TYPES[kind].model_fields
    assert {name for name, field in fields.items() if field.is_required()} == PROMISED[kind].keys()
    assert not fields.keys() & DIRECT_IDENTIFIERS


@pytest.mark.parametrize("kind", PROMISED)
def test_an_event_is_keyed_by_its_member_or_household_and_survives_the_round(kind: str) -> None:
    appended = read(kind).to_event(id=UUID(int=1), time=NOON)
    assert re.fullmatch("(mbr|hsh)_1", appended.aggregate_id)
    assert dict(appended.data) == PROMISED[kind]
    assert EVENT_TYPES[kind].from_event(appended) == read(kind)


@pytest.mark.parametrize("kind", PROMISED)
def test_a_reader_ignores_fields_that_were_added_later(kind: str) -> None:
    assert read(kind, added_later="x") == read(kind)


def test_a_status_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError):
        read("members.member.status_changed", status="erased")
