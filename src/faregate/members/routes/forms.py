"""What goes over the wire: the bodies of requests and answers, with examples for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from faregate.infra.http.dates import Day
from faregate.members.contracts import (
    Cabin,
    Channel,
    Consent,
    ConsentChange,
    ConsentPurpose,
    Household,
    Meal,
    Member,
    MemberStatus,
    Preferences,
    Profile,
    ProfileChanges,
    ProfileField,
    RecordEntry,
    Seat,
    StatusAct,
)
from faregate.members.domain import profile as rules
from faregate.members.domain.status import REASON_PATTERN

_UNIQUE: dict[str, Any] = {"uniqueItems": True}
MEMBER_ID_PATTERN = r"^mbr_[0-9A-Z]{26}$"
HOUSEHOLD_ID_PATTERN = r"^hsh_[0-9A-Z]{26}$"

_Name = Annotated[
    str, StringConstraints(min_length=1, max_length=rules.NAME_LENGTH_MAX, pattern=rules.NAME_PATTERN)
]
_Email = Annotated[str, StringConstraints(max_length=rules.EMAIL_LENGTH_MAX, pattern=rules.EMAIL_PATTERN)]
_Phone = Annotated[str, StringConstraints(pattern=rules.PHONE_PATTERN)]
_Date = Annotated[Day, Field(ge=rules.BORN_FIRST)]
_Chain = Annotated[str, StringConstraints(pattern=rules.CHAIN_PATTERN)]
_Airport = Annotated[str, StringConstraints(pattern=rules.AIRPORT_PATTERN)]
_Channel = Annotated[Channel, Field(strict=False)]
_Reason = Annotated[str, StringConstraints(pattern=REASON_PATTERN)]

PROFILE_EXAMPLE = {
    "name": "Ada Lindqvist",
    "email": "ada@example.com",
    "phone": "+41791234567",
    "date_of_birth": "1984-05-06",
}
PREFERENCES_EXAMPLE = {
    "language": "de-CH",
    "seat": "aisle",
    "meal": "vegetarian",
    "cabin": "business",
    "hotel_chains": ["HI", "MC"],
    "channels": ["email", "push"],
}


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ProfileForm(_Form):
    """Who registers. The telephone number in the form of E.164, the date of birth in the past."""

    name: _Name
    email: _Email
    phone: _Phone | None = None
    date_of_birth: _Date | None = Field(default=None, description="YYYY-MM-DD.")

    def profile(self) -> Profile:
        """Return what the form says."""
        return Profile(**self.model_dump())


class ProfileChangesForm(BaseModel):
    """What is to change; what is left out stays as it is, null removes. A name can be changed, not removed."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1})

    name: _Name | None = None
    email: _Email | None = None
    phone: _Phone | None = None
    date_of_birth: _Date | None = Field(default=None, description="YYYY-MM-DD.")

    @model_validator(mode="after")
    def _something_changes(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("nothing is to change")
        return self

    def changes(self) -> ProfileChanges:
        """Return what is to change."""
        given = self.model_dump(exclude_unset=True)
        removed = frozenset(ProfileField(name) for name, value in given.items() if value is None)
        return ProfileChanges(**given, removed=removed)


class PreferencesForm(_Form):
    """All preferences: what is left out is open from now on."""

    language: str | None = Field(
        default=None, pattern=rules.LANGUAGE_PATTERN, description="Such as `de` or `de-CH`."
    )
    seat: Seat | None = Field(default=None, strict=False)
    meal: Meal | None = Field(default=None, strict=False)
    cabin: Cabin | None = Field(default=None, strict=False)
    hotel_chains: list[_Chain] = Field(
        default=[],
        max_length=rules.CHAINS_MAX,
        json_schema_extra=_UNIQUE,
        description="Chain codes of two characters, the favourite first.",
    )
    channels: list[_Channel] = Field(
        default=[], json_schema_extra=_UNIQUE, description="How to hear of offers."
    )

    def preferences(self) -> Preferences:
        """Return what the form says."""
        said = self.model_dump()
        return Preferences(
            **{**said, "hotel_chains": tuple(self.hotel_chains), "channels": tuple(self.channels)}
        )


class HomeAirportsForm(_Form):
    """All home airports, the nearest first."""

    airports: list[_Airport] = Field(
        max_length=rules.AIRPORTS_MAX, json_schema_extra=_UNIQUE, description="IATA codes."
    )


class ConsentForm(_Form):
    """A consent that is given or withdrawn."""

    purpose: ConsentPurpose = Field(strict=False)
    given: bool
    text_version: str = Field(
        pattern=rules.TEXT_VERSION_PATTERN, description="Which version of its text the member saw."
    )

    def change(self) -> ConsentChange:
        """Return what the form says."""
        return ConsentChange(purpose=self.purpose, given=self.given, text_version=self.text_version)


class StatusForm(_Form):
    """What is done to a status, and why in one word."""

    act: StatusAct = Field(strict=False)
    reason: _Reason


class ErasureForm(_Form):
    """Why a member is erased, in one word."""

    reason: _Reason


class EmailForm(_Form):
    """The address of somebody who is looked for. It stands in the body, so that it stands in no log of URLs."""

    email: _Email


class MemberIdForm(_Form):
    """A member whom it is about."""

    member_id: str = Field(pattern=MEMBER_ID_PATTERN)


class HouseholdIdForm(_Form):
    """The household that a member joins."""

    household_id: str = Field(pattern=HOUSEHOLD_ID_PATTERN)


class MemberReceiptAnswer(BaseModel):
    """What was done, without anything personal: this answer is kept under the request's key."""

    member_id: str
    status: MemberStatus
    version: int

    @classmethod
    def of(cls, member: Member) -> Self:
        """Return the answer after an act on a member."""
        return cls(member_id=member.id, status=member.status, version=member.version)


class ProfileAnswer(BaseModel):
    """Who a member is. All null after an erasure."""

    name: str | None
    email: str | None
    phone: str | None
    date_of_birth: date | None


class PreferencesAnswer(BaseModel):
    """What a member likes; null is open."""

    language: str | None
    seat: Seat | None
    meal: Meal | None
    cabin: Cabin | None
    hotel_chains: Sequence[str]
    channels: Sequence[Channel]


class ConsentAnswer(BaseModel):
    """What a member said to a purpose, and when."""

    purpose: ConsentPurpose
    given: bool
    text_version: str
    at: datetime

    @classmethod
    def of(cls, consent: Consent) -> Self:
        """Return the answer for a consent."""
        return cls.model_validate(consent, from_attributes=True)


class MemberAnswer(BaseModel):
    """A member. `tier` is null while the programme has told none; `consents` hold what was said last."""

    member_id: str
    status: MemberStatus
    version: int
    tier: str | None
    profile: ProfileAnswer
    preferences: PreferencesAnswer
    home_airports: Sequence[str]
    consents: Sequence[ConsentAnswer]
    registered_at: datetime
    updated_at: datetime
    erased_at: datetime | None

    @classmethod
    def of(cls, member: Member) -> Self:
        """Return the answer for a member."""
        return cls(
            member_id=member.id,
            status=member.status,
            version=member.version,
            tier=member.tier,
            profile=ProfileAnswer.model_validate(member.profile, from_attributes=True),
            preferences=PreferencesAnswer.model_validate(member.preferences, from_attributes=True),
            home_airports=member.home_airports,
            consents=[ConsentAnswer.of(member.consents[purpose]) for purpose in sorted(member.consents)],
            registered_at=member.registered_at,
            updated_at=member.updated_at,
            erased_at=member.erased_at,
        )


class ConsentsAnswer(BaseModel):
    """Everything that a member ever gave and withdrew, oldest first."""

    consents: Sequence[ConsentAnswer]


class RecordEntryAnswer(BaseModel):
    """Something that was done to a member."""

    at: datetime
    by: str
    act: str
    details: Mapping[str, Any]

    @classmethod
    def of(cls, entry: RecordEntry) -> Self:
        """Return the answer for an entry."""
        return cls.model_validate(entry, from_attributes=True)


class RecordAnswer(BaseModel):
    """What was done to a member, oldest first. Nothing personal is in it."""

    entries: Sequence[RecordEntryAnswer]


class FoundAnswer(BaseModel):
    """Who has an address; null: nobody."""

    member_id: str | None


class InvitationAnswer(BaseModel):
    """Who may join a household, and until when."""

    member_id: str
    ends_at: datetime


class HouseholdAnswer(BaseModel):
    """A household, the longest-standing member first."""

    household_id: str
    head_id: str
    member_ids: Sequence[str]
    invitations: Sequence[InvitationAnswer]

    @classmethod
    def of(cls, household: Household) -> Self:
        """Return the answer for a household."""
        return cls(
            household_id=household.id,
            head_id=household.head_id,
            member_ids=household.members,
            invitations=[
                InvitationAnswer(member_id=member_id, ends_at=ends_at)
                for member_id, ends_at in sorted(household.invitations.items())
            ],
        )


class LeftAnswer(BaseModel):
    """Which household a member left; null: it ended with that."""

    household: HouseholdAnswer | None

    @classmethod
    def of(cls, remaining: Household | None) -> Self:
        """Return the answer for what is left."""
        return cls(household=None if remaining is None else HouseholdAnswer.of(remaining))
