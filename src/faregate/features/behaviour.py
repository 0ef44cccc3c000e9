"""What members do besides paying, as features see it: clicks, sessions, logins, changes, devices; and how it began.

The events are published by whoever takes them in; each becomes one fact under an id of its own. What is made of them
stands in `payments.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from faregate.events.behaviour import (
    DeviceSeen,
    LoginAttempted,
    PageClicked,
    PasswordChanged,
    SessionEnded,
)
from faregate.events.members import ProfileUpdated, UserRegistered
from faregate.events.payments import CardIssued
from faregate.features.declarations import Entity, Source, days, pair
from faregate.features.facts import FeatureEvent, milliseconds
from faregate.kernel.event import Event

_LATENESS_S: Final = days(1)
"""A telephone without a network tells what happened when it has one again."""

_of_behaviour = partial(Source, lateness_s=_LATENESS_S, is_final=True)

CLICK: Final = _of_behaviour(name="click", entities=(Entity.MEMBER,))
SESSION: Final = _of_behaviour(name="session", entities=(Entity.MEMBER,), numbers=("duration_s",))
LOGIN: Final = _of_behaviour(name="login", entities=(Entity.MEMBER, Entity.IP))
LOGIN_FAILED: Final = _of_behaviour(
    name="login_failed", entities=(Entity.MEMBER, Entity.IP), texts=("account",)
)
PROFILE_CHANGE: Final = _of_behaviour(name="profile_change", entities=(Entity.MEMBER,))
PASSWORD_CHANGE: Final = _of_behaviour(name="password_change", entities=(Entity.MEMBER,))
DEVICE_SEEN: Final = _of_behaviour(name="device_seen", entities=(Entity.MEMBER_DEVICE,))
REGISTRATION: Final = _of_behaviour(name="registration", entities=(Entity.MEMBER,))
CARD_ISSUED: Final = _of_behaviour(name="card_issued", entities=(Entity.CARD,))


def behaviour_fact(event: Event) -> FeatureEvent | None:
    """Return what an event of the log is to features; None for one of another type. Raises KeyError, ValueError."""
    read = _READ.get(event.type)
    return None if read is None else read(event, event.data)


def _click(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(event, CLICK, at=data["clicked_at"], member=data["member_id"])


def _session(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(
        event,
        SESSION,
        at=data["ended_at"],
        member=data["member_id"],
        values={"duration_s": data["duration_s"]},
    )


def _login(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    member, ip = data["member_id"], data["ip_token"]
    if data["succeeded"]:
        return _fact(event, LOGIN, at=data["attempted_at"], member=member, ip=ip)
    values = {} if member is None else {"account": member}
    return _fact(event, LOGIN_FAILED, at=data["attempted_at"], member=member, ip=ip, values=values)


def _profile(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(event, PROFILE_CHANGE, at=data["updated_at"], member=data["member_id"])


def _password(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(event, PASSWORD_CHANGE, at=data["changed_at"], member=data["member_id"])


def _device(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    held = pair(data["member_id"], data["device_id"])
    return _fact(event, DEVICE_SEEN, at=data["seen_at"], entities={Entity.MEMBER_DEVICE: held})


def _registration(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(event, REGISTRATION, at=data["registered_at"], member=data["member_id"])


def _card(event: Event, data: Mapping[str, Any]) -> FeatureEvent:
    return _fact(event, CARD_ISSUED, at=data["issued_at"], entities={Entity.CARD: data["card_token"]})


_READ: Final[Mapping[str, Callable[[Event, Mapping[str, Any]], FeatureEvent]]] = {
    PageClicked.type: _click,
    SessionEnded.type: _session,
    LoginAttempted.type: _login,
    PasswordChanged.type: _password,
    DeviceSeen.type: _device,
    ProfileUpdated.type: _profile,
    UserRegistered.type: _registration,
    CardIssued.type: _card,
}

TYPES: Final = tuple(_READ)
"""The types of events that are something to features, payments aside."""


def _fact(
    event: Event,
    source: Source,
    *,
    at: str,
    member: str | None = None,
    ip: str | None = None,
    entities: Mapping[Entity, str] | None = None,
    values: Mapping[str, int | str] | None = None,
) -> FeatureEvent:
    named = {Entity.MEMBER: member, Entity.IP: ip, **(entities or {})}
    return FeatureEvent(
        id=str(event.id),
        source=source.name,
        at_ms=milliseconds(datetime.fromisoformat(at)),
        observed_ms=milliseconds(event.time),
        entities={entity: name for entity, name in named.items() if name is not None},
        values=values or {},
    )
