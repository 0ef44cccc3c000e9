"""What members may hold and do, as tables, and households under any order of acts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from faregate.kernel.errors import FaregateError
from faregate.members.contracts import (
    Channel,
    ConsentChange,
    ConsentPurpose,
    Household,
    MemberStatus,
    Preferences,
    Profile,
    ProfileChanges,
    ProfileField,
    StatusAct,
)
from faregate.members.domain import household as households
from faregate.members.domain.household import (
    HOUSEHOLD_MAX,
    INVITED_FOR,
    AlreadyInHousehold,
    HouseholdFull,
    NotHeadOfHousehold,
    NotInHousehold,
    NotInvited,
)
from faregate.members.domain.profile import (
    ConsentInvalid,
    HomeAirportsInvalid,
    MemberChanged,
    PreferencesInvalid,
    ProfileInvalid,
    changed_profile,
    checked_airports,
    checked_consent,
    checked_preferences,
    checked_profile,
    require_version,
)
from faregate.members.domain.status import (
    MemberClosed,
    MemberErased,
    MemberFrozen,
    ReasonMalformed,
    StatusActRefused,
    after,
    require_active,
    require_open,
    require_reason,
)

pytestmark = pytest.mark.requirement("L1")

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TODAY = NOON.date()
ADA = Profile(name="Ada Lindqvist", email="ada@example.com", date_of_birth=date(1984, 5, 6))
ACTIVE, FROZEN, CLOSED = MemberStatus.ACTIVE, MemberStatus.FROZEN, MemberStatus.CLOSED
FREEZE, UNFREEZE, CLOSE = StatusAct.FREEZE, StatusAct.UNFREEZE, StatusAct.CLOSE


# Status


@pytest.mark.parametrize(
    ("status", "act", "following"),
    [
        (ACTIVE, FREEZE, FROZEN),
        (ACTIVE, UNFREEZE, None),
        (ACTIVE, CLOSE, CLOSED),
        (FROZEN, FREEZE, None),
        (FROZEN, UNFREEZE, ACTIVE),
        (FROZEN, CLOSE, CLOSED),
        (CLOSED, FREEZE, None),
        (CLOSED, UNFREEZE, None),
        (CLOSED, CLOSE, None),
    ],
)
def test_an_act_leads_from_a_status_to_another_or_is_refused(
    status: MemberStatus, act: StatusAct, following: MemberStatus | None
) -> None:
    if following is None:
        with pytest.raises(StatusActRefused) as refused:
            after(status, act)
        assert refused.value.facts == {"status": status.value}
    else:
        assert after(status, act) is following


@given(st.lists(st.sampled_from(StatusAct)))
def test_whatever_is_done_a_closed_member_stays_closed(acts: list[StatusAct]) -> None:
    status, was_closed = ACTIVE, False
    for act in acts:
        try:
            status = after(status, act)
        except StatusActRefused:
            continue
        assert not was_closed
        was_closed = status is CLOSED


@pytest.mark.parametrize(
    ("status", "is_erased", "open_error", "active_error"),
    [
        (ACTIVE, False, None, None),
        (FROZEN, False, None, MemberFrozen),
        (CLOSED, False, MemberClosed, MemberClosed),
        (CLOSED, True, MemberErased, MemberErased),
    ],
)
def test_a_status_says_what_it_does_not_allow(
    status: MemberStatus,
    is_erased: bool,
    open_error: type[FaregateError] | None,
    active_error: type[FaregateError] | None,
) -> None:
    for require, error in ((require_open, open_error), (require_active, active_error)):
        if error is None:
            require("mbr_1", status=status, is_erased=is_erased)
        else:
            with pytest.raises(error):
                require("mbr_1", status=status, is_erased=is_erased)


@pytest.mark.parametrize("reason", ["", "Ada asked", "ada@example.com", "x" * 65, "member_request\n"])
def test_a_reason_has_no_room_for_a_person(reason: str) -> None:
    require_reason("member_request")
    with pytest.raises(ReasonMalformed):
        require_reason(reason)


# Profile


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " Ada"}, "name"),
        ({"name": "A\x00da"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": None}, "name"),
        ({"email": "ada"}, "email"),
        ({"email": "ada@localhost"}, "email"),
        ({"email": "ada @example.com"}, "email"),
        ({"email": "ada@example.com\n"}, "email"),
        ({"email": f"{'x' * 250}@example.com"}, "email"),
        ({"phone": "0791234567"}, "phone"),
        ({"phone": "+41 79 123"}, "phone"),
        ({"date_of_birth": TODAY}, "date_of_birth"),
        ({"date_of_birth": date(1899, 12, 31)}, "date_of_birth"),
    ],
)
def test_an_impossible_field_is_named_and_its_value_is_not_repeated(
    changes: dict[str, Any], field: str
) -> None:
    values = {"name": ADA.name, "email": ADA.email, **changes}
    with pytest.raises(ProfileInvalid) as refused:
        checked_profile(Profile(**values), today=TODAY)
    assert refused.value.facts == {"field": field}
    assert not [value for value in changes.values() if value and str(value) in refused.value.detail]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (ProfileChanges(), ()),
        (ProfileChanges(name=ADA.name), ()),
        (ProfileChanges(name="Ada L."), ("name",)),
        (ProfileChanges(phone="+41791234567"), ("phone",)),
        (ProfileChanges(removed=frozenset({ProfileField.PHONE})), ()),
        (ProfileChanges(removed=frozenset({ProfileField.EMAIL})), ("email",)),
        (
            ProfileChanges(email="a@example.org", date_of_birth=date(1984, 5, 7)),
            ("email", "date_of_birth"),
        ),
    ],
)
def test_only_what_becomes_another_value_is_called_changed(
    changes: ProfileChanges, fields: tuple[str, ...]
) -> None:
    changed, names = changed_profile(ADA, changes, today=TODAY)
    assert names == fields
    assert (changed == ADA) == (not fields)


def test_a_name_cannot_be_removed() -> None:
    with pytest.raises(ProfileInvalid):
        changed_profile(ADA, ProfileChanges(removed=frozenset({ProfileField.NAME})), today=TODAY)


def test_a_profile_shows_nothing_of_a_person_where_it_is_printed() -> None:
    assert "Ada" not in repr((ADA, ProfileChanges(name="Ada", email="ada@example.com")))


@pytest.mark.parametrize(
    ("preferences", "field"),
    [
        (Preferences(language="German"), "language"),
        (Preferences(hotel_chains=("HI", "HI")), "hotel_chains"),
        (Preferences(hotel_chains=("hilton",)), "hotel_chains"),
        (Preferences(hotel_chains=tuple(f"{n:02}" for n in range(11))), "hotel_chains"),
        (Preferences(channels=(Channel.SMS, Channel.SMS)), "channels"),
    ],
)
def test_an_impossible_preference_is_named(preferences: Preferences, field: str) -> None:
    with pytest.raises(PreferencesInvalid) as refused:
        checked_preferences(preferences)
    assert refused.value.facts == {"field": field}


@pytest.mark.parametrize(
    "codes", [["zrh"], ["ZRHX"], ["ZRH", "ZRH"], ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF"], [""]]
)
def test_home_airports_are_five_different_codes_at_most(codes: list[str]) -> None:
    assert checked_airports(["ZRH", "BSL", "GVA", "MXP", "LYS"]) == ("ZRH", "BSL", "GVA", "MXP", "LYS")
    with pytest.raises(HomeAirportsInvalid):
        checked_airports(codes)


def test_a_consent_names_the_version_of_its_text() -> None:
    with pytest.raises(ConsentInvalid):
        checked_consent(ConsentChange(purpose=ConsentPurpose.MARKETING, given=True, text_version=""))


def test_a_change_to_another_version_than_the_present_one_is_refused() -> None:
    require_version("mbr_1", version=3, expected=3)
    with pytest.raises(MemberChanged) as refused:
        require_version("mbr_1", version=4, expected=3)
    assert refused.value.facts == {"version": 4}


# Households

ONE = households.created(id="hsh_1", member_id="a", now=NOON)
TWO = households.joined(households.invited(ONE, by="a", member_id="b", now=NOON), member_id="b", now=NOON)
FULL = Household(
    id="hsh_2",
    head_id="m0",
    members=tuple(f"m{n}" for n in range(HOUSEHOLD_MAX)),
    invitations={"c": NOON + INVITED_FOR},
    created_at=NOON,
)
LATER = NOON + INVITED_FOR


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda: households.invited(TWO, by="b", member_id="c", now=NOON), NotHeadOfHousehold),
        (lambda: households.invited(TWO, by="a", member_id="b", now=NOON), AlreadyInHousehold),
        (lambda: households.invited(FULL, by="m0", member_id="d", now=NOON), HouseholdFull),
        (lambda: households.joined(TWO, member_id="b", now=NOON), AlreadyInHousehold),
        (lambda: households.joined(TWO, member_id="c", now=NOON), NotInvited),
        (lambda: households.joined(FULL, member_id="c", now=NOON), HouseholdFull),
        (lambda: households.joined(FULL, member_id="c", now=LATER), NotInvited),
        (lambda: households.left(TWO, member_id="c"), NotInHousehold),
        (lambda: households.handed_over(TWO, by="b", to="a"), NotHeadOfHousehold),
        (lambda: households.handed_over(TWO, by="a", to="c"), NotInHousehold),
    ],
)
def test_what_a_household_does_not_allow_has_a_name(act: Any, error: type[FaregateError]) -> None:
    with pytest.raises(error):
        act()


def test_the_longest_standing_member_follows_a_head_who_leaves_and_the_last_one_ends_it() -> None:
    left = households.left(TWO, member_id="a")
    assert left is not None
    assert (left.head_id, left.members) == ("b", ("b",))
    assert households.left(left, member_id="b") is None


def test_an_invitation_holds_until_its_end_and_can_be_renewed() -> None:
    invited = households.invited(ONE, by="a", member_id="b", now=NOON)
    just_before = NOON + INVITED_FOR - timedelta(microseconds=1)
    assert households.joined(invited, member_id="b", now=just_before).members == ("a", "b")
    renewed = households.invited(invited, by="a", member_id="b", now=just_before)
    assert households.joined(renewed, member_id="b", now=LATER).members == ("a", "b")


MEMBERS = [f"m{n}" for n in range(HOUSEHOLD_MAX + 2)]
SOMEBODY = st.sampled_from(MEMBERS)


class HouseholdLife(RuleBasedStateMachine):
    """Anybody tries anything at any time; a household stays one, or ends."""

    @initialize(member=SOMEBODY)
    def begin(self, member: str) -> None:
        self.now = NOON
        self.household: Household | None = households.created(id="hsh_1", member_id=member, now=NOON)
        self.joined_in_order = [member]

    @rule(by=SOMEBODY, member=SOMEBODY)
    def invite(self, by: str, member: str) -> None:
        self.attempt(lambda now: households.invited(now, by=by, member_id=member, now=self.now))

    @rule(member=SOMEBODY)
    def join(self, member: str) -> None:
        before = self.household
        if before and self.attempt(lambda now: households.joined(now, member_id=member, now=self.now)):
            assert self.now < before.invitations[member]
            self.joined_in_order.append(member)

    @rule(member=SOMEBODY)
    def leave(self, member: str) -> None:
        if self.attempt(lambda now: households.left(now, member_id=member)):
            self.joined_in_order.remove(member)

    @rule(by=SOMEBODY, to=SOMEBODY)
    def hand_over(self, by: str, to: str) -> None:
        before = self.household
        if self.attempt(lambda now: households.handed_over(now, by=by, to=to)):
            assert before is not None
            assert before.head_id == by

    @rule(days=st.integers(1, 20))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    def attempt(self, act: Any) -> bool:
        if self.household is None:
            return False
        try:
            self.household = act(self.household)
        except FaregateError:
            return False
        return True

    @invariant()
    def it_has_members_in_the_order_in_which_they_joined_or_is_over(self) -> None:
        members = [] if self.household is None else list(self.household.members)
        assert members == self.joined_in_order
        assert (self.household is None) == (not members)
        assert len(members) <= HOUSEHOLD_MAX

    @invariant()
    def its_head_is_one_of_them_and_nobody_inside_is_invited(self) -> None:
        if self.household is not None:
            assert self.household.head_id in self.household.members
            assert not set(self.household.members) & self.household.invitations.keys()


TestHouseholdLife = HouseholdLife.TestCase
TestHouseholdLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
