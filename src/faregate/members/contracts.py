"""What callers of the members context pass and get. Frozen data, no behaviour, no rows, no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol


class MemberStatus(StrEnum):
    """What a member may do: a frozen one changes nothing that is worth something, a closed one has left for good."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


class StatusAct(StrEnum):
    """What is done to a status."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    CLOSE = "close"


class ProfileField(StrEnum):
    """The personal fields of a profile. Each is encrypted by itself."""

    NAME = "name"
    EMAIL = "email"
    PHONE = "phone"
    DATE_OF_BIRTH = "date_of_birth"


class ConsentPurpose(StrEnum):
    """What a member may agree to."""

    MARKETING = "marketing"
    PERSONALISATION = "personalisation"
    PARTNER_SHARING = "partner_sharing"


class Seat(StrEnum):
    """Where a member likes to sit."""

    WINDOW = "window"
    AISLE = "aisle"
    FRONT = "front"
    EXIT_ROW = "exit_row"


class Meal(StrEnum):
    """What a member eats on board."""

    STANDARD = "standard"
    VEGETARIAN = "vegetarian"
    VEGAN = "vegan"
    HALAL = "halal"
    KOSHER = "kosher"
    GLUTEN_FREE = "gluten_free"


class Cabin(StrEnum):
    """In which cabin a member likes to travel."""

    ECONOMY = "economy"
    PREMIUM_ECONOMY = "premium_economy"
    BUSINESS = "business"
    FIRST = "first"


class Channel(StrEnum):
    """How a member wants to hear of offers."""

    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    POST = "post"


class HouseholdAct(StrEnum):
    """What became of a household."""

    CREATED = "created"
    INVITED = "invited"
    JOINED = "joined"
    LEFT = "left"
    HEAD_CHANGED = "head_changed"
    DISSOLVED = "dissolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Who a member is. Only ever stored encrypted; all None after an erasure. Its repr shows nothing."""

    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    date_of_birth: date | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChanges:
    """What is to change: None leaves a field as it is, `removed` names those that are to go."""

    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    date_of_birth: date | None = field(default=None, repr=False)
    removed: frozenset[ProfileField] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What a member likes. `hotel_chains` are chain codes of two characters, the favourite first."""

    language: str | None = None
    seat: Seat | None = None
    meal: Meal | None = None
    cabin: Cabin | None = None
    hotel_chains: Sequence[str] = ()
    channels: Sequence[Channel] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentChange:
    """A consent that is given or withdrawn, and which version of its text the member saw."""

    purpose: ConsentPurpose
    given: bool
    text_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent(ConsentChange):
    """What a member said to a purpose, and when."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member as other contexts and operators see one. `version` counts every change; `tier` None: none was told."""

    id: str
    status: MemberStatus
    version: int
    tier: str | None
    profile: Profile
    preferences: Preferences
    home_airports: Sequence[str]
    consents: Mapping[ConsentPurpose, Consent]
    household_id: str | None
    registered_at: datetime
    updated_at: datetime
    erased_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a member stands, for those who need nothing personal."""

    member_id: str
    status: MemberStatus
    tier: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """Something that was done to a member: who, when, what. `details` hold nothing personal."""

    at: datetime
    by: str
    act: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    """Members who belong together, the longest-standing first, and who is invited until when."""

    id: str
    head_id: str
    members: Sequence[str]
    invitations: Mapping[str, datetime]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TierNews:
    """The tier that the programme gave a member at an instant."""

    member_id: str
    tier: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """For whom a card was approved. `applicant_id` is the same for every application of the person."""

    applicant_id: str
    name: str = field(repr=False)
    date_of_birth: date = field(repr=False)


class ApplicantProfiles(Protocol):
    """Where the people behind approved applications are known: no event tells who they are."""

    async def approved(self, application_ids: Sequence[str]) -> Mapping[str, Applicant]:
        """Return the applicant of each of these applications that is approved now, by application."""
        ...
