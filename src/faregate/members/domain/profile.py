"""What a profile, preferences, home airports and a consent may hold, and what a change of a profile makes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from faregate.kernel.errors import ConflictError, InvalidError
from faregate.members.contracts import ConsentChange, Preferences, Profile, ProfileChanges, ProfileField

NAME_LENGTH_MAX: Final = 200
NAME_PATTERN: Final = (
    r"^[^\s\x00-\x1f\x7f-\x9f\ufffe\uffff]"
    r"([^\x00-\x1f\x7f-\x9f\ufffe\uffff]*[^\s\x00-\x1f\x7f-\x9f\ufffe\uffff])?$"
)
EMAIL_LENGTH_MAX: Final = 254
EMAIL_PATTERN: Final = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$"
)
PHONE_PATTERN: Final = r"^\+[1-9][0-9]{6,14}$"
LANGUAGE_PATTERN: Final = r"^[a-z]{2,3}(-[A-Z]{2})?$"
CHAIN_PATTERN: Final = r"^[A-Z0-9]{2}$"
AIRPORT_PATTERN: Final = r"^[A-Z]{3}$"
TEXT_VERSION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
AIRPORTS_MAX: Final = 5
CHAINS_MAX: Final = 10
BORN_FIRST: Final = date(1900, 1, 1)


class ProfileInvalid(InvalidError):
    """A personal field has a value that it cannot have: `field` says which."""


class PreferencesInvalid(InvalidError):
    """A preference has a value that it cannot have: `field` says which."""


class HomeAirportsInvalid(InvalidError):
    """Home airports are at most five different IATA codes such as `ZRH`, the nearest first."""


class ConsentInvalid(InvalidError):
    """The version of a consent's text is up to 64 letters, digits, `.`, `_` or `-`."""


class EmailTaken(ConflictError):
    """Another member has this e-mail address."""


class MemberChanged(ConflictError):
    """The member was changed since you read it: `version` says which version it has now."""


def checked_profile(profile: Profile, *, today: date) -> Profile:
    """Return a profile that holds nothing impossible. Raises ProfileInvalid, which never repeats a value."""
    born = profile.date_of_birth
    wrong = {
        ProfileField.NAME: not _fits(profile.name, NAME_PATTERN, length_max=NAME_LENGTH_MAX),
        ProfileField.EMAIL: profile.email is not None
        and not _fits(profile.email, EMAIL_PATTERN, length_max=EMAIL_LENGTH_MAX),
        ProfileField.PHONE: profile.phone is not None and not _fits(profile.phone, PHONE_PATTERN),
        ProfileField.DATE_OF_BIRTH: born is not None and not BORN_FIRST <= born < today,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ProfileInvalid(f"this is no {name.replace('_', ' ')} that a member can have", field=name)
    return profile


def changed_profile(
    profile: Profile, changes: ProfileChanges, *, today: date
) -> tuple[Profile, tuple[ProfileField, ...]]:
    """Return the profile after the changes, and which fields are others than before. Raises ProfileInvalid."""
    wanted: dict[str, Any] = dict.fromkeys(changes.removed)
    wanted |= {name: value for name in ProfileField if (value := getattr(changes, name)) is not None}
    after = checked_profile(replace(profile, **wanted), today=today)
    return after, tuple(name for name in ProfileField if getattr(after, name) != getattr(profile, name))


def checked_preferences(preferences: Preferences) -> Preferences:
    """Return preferences that hold nothing impossible. Raises PreferencesInvalid."""
    chains, channels = preferences.hotel_chains, preferences.channels
    wrong = {
        "language": preferences.language is not None and not _fits(preferences.language, LANGUAGE_PATTERN),
        "hotel_chains": _repeats(chains)
        or len(chains) > CHAINS_MAX
        or not all(_fits(chain, CHAIN_PATTERN) for chain in chains),
        "channels": _repeats(channels),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise PreferencesInvalid(f"this is not what {name} can be", field=name)
    return preferences


def checked_airports(codes: Sequence[str]) -> tuple[str, ...]:
    """Return home airports in their order. Raises HomeAirportsInvalid."""
    if (
        len(codes) > AIRPORTS_MAX
        or _repeats(codes)
        or not all(_fits(code, AIRPORT_PATTERN) for code in codes)
    ):
        raise HomeAirportsInvalid(f"home airports are at most {AIRPORTS_MAX} different IATA codes")
    return tuple(codes)


def checked_consent(change: ConsentChange) -> ConsentChange:
    """Return a consent whose text has a version. Raises ConsentInvalid."""
    if not _fits(change.text_version, TEXT_VERSION_PATTERN):
        raise ConsentInvalid("this is no version of a text")
    return change


def require_version(member_id: str, *, version: int, expected: int) -> None:
    """Raise MemberChanged unless the member still has the version that was read."""
    if version != expected:
        raise MemberChanged(f"member {member_id} has version {version} now", version=version)


def _fits(value: str | None, pattern: str, *, length_max: int | None = None) -> bool:
    if value is None or (length_max is not None and len(value) > length_max):
        return False
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value) is not None


def _repeats(values: Sequence[str]) -> bool:
    return len(set(values)) != len(values)
