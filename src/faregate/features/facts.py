"""What happened, as features see it, and which of two events came first.

Events of one entity stand in the order of their time, to the millisecond, and of their id; when they arrived plays no
part. An id that is a number below 2²² orders by that number, any other by 22 bits of its digest. Two events of one
entity that have the millisecond and those bits in common are taken for one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from faregate.features.declarations import Entity, Source
from faregate.features.feature_set import FeatureSet
from faregate.kernel.errors import InvalidError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TIE_BITS: Final = 22
NUMBER_MAX: Final = 10**12
"""Largest number of a field: nine thousand of them fit into a sum that is exact everywhere."""
SECOND_MAX: Final = 2**32 - 2**25
NAME_MAX: Final = 256
"""Longest id of an event or an entity: it is a part of keys."""


class FeatureEventInvalid(InvalidError):
    """An event lacks a number of its source, or has a value that no engine could hold exactly."""


class Status(IntEnum):
    """What came of an event or a reversal."""

    APPLIED = 0
    DUPLICATE = 1
    REVERSED = 2
    """The event was reversed before: it has no effect any more."""
    CONFLICT = 3
    """Another event was given under this id a moment ago."""
    LATE = 4
    AHEAD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEvent:
    """Something that happened at `at_ms` and was known at `observed_ms`, both in milliseconds since 1970, UTC."""

    id: str
    source: str
    at_ms: int
    observed_ms: int
    entities: Mapping[Entity, str]
    values: Mapping[str, int | str]

    @property
    def second(self) -> int:
        """The whole second in which it happened."""
        return self.at_ms // 1_000

    @property
    def within_second(self) -> int:
        """Its place among the events of that second."""
        return (self.at_ms % 1_000) << TIE_BITS | tie_of(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """From `observed_ms` on the event counts as if it had never happened; what was answered before stays."""

    event: FeatureEvent
    observed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalById:
    """The same for an event that is known by its id only."""

    source: str
    id: str
    observed_ms: int


Fact = FeatureEvent | Reversal | ReversalById


def tie_of(event_id: str) -> int:
    """Return what orders events of one millisecond."""
    if event_id.isascii() and event_id.isdigit() and len(event_id) <= 7 and int(event_id) < 2**TIE_BITS:
        return int(event_id)
    digest = hashlib.blake2s(event_id.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - TIE_BITS)


def milliseconds(instant: datetime) -> int:
    """Return an instant as facts have it; what is finer than a millisecond is cut off."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def code_of(value: int | str) -> bytes:
    """Return eight bytes by which a value is told apart from others."""
    if isinstance(value, int):
        return struct.pack(">q", value)
    return hashlib.blake2b(value.encode(), digest_size=8).digest()


def timeliness(event: FeatureEvent, source: Source) -> Status:
    """Return LATE or AHEAD for an event that was observed too long after it happened, or before; else APPLIED."""
    if event.observed_ms - event.at_ms > source.lateness_s * 1_000:
        return Status.LATE
    if event.at_ms - event.observed_ms > source.ahead_s * 1_000:
        return Status.AHEAD
    return Status.APPLIED


def source_of(event: FeatureEvent, declared: FeatureSet) -> Source:
    """Return the source of an event that has all that it must have. Raises FeatureEventInvalid."""
    source = declared.source_named.get(event.source)
    if source is None:
        raise FeatureEventInvalid(f"event {event.id}: there is no source {event.source!r}")
    if not is_name(event.id) or not 0 <= event.second <= SECOND_MAX:
        raise FeatureEventInvalid(f"event {event.id[:40]!r}: it needs an id and a time between 1970 and 2105")
    for entity, name in event.entities.items():
        if entity not in source.entities or not is_name(name):
            raise FeatureEventInvalid(f"event {event.id}: {name[:40]!r} names no {entity} of {source.name}")
    for name in source.numbers:
        number = event.values.get(name)
        if not isinstance(number, int) or isinstance(number, bool) or abs(number) > NUMBER_MAX:
            raise FeatureEventInvalid(f"event {event.id}: {name} is no integer up to {NUMBER_MAX}")
    for name, value in event.values.items():
        if name in source.texts and not (isinstance(value, str) and _is_utf8(value)):
            raise FeatureEventInvalid(f"event {event.id}: {name} is no text")
        if name not in source.texts and name not in source.numbers:
            raise FeatureEventInvalid(f"event {event.id}: {source.name} has no {name[:40]!r}")
    return source


def is_name(text: str) -> bool:
    """Return whether something can be the id of an event or an entity."""
    return 0 < len(text) <= NAME_MAX and _is_utf8(text)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
