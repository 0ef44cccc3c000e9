"""Identifiers that sort by time of creation: a prefix and a ULID. Time and randomness are arguments."""

from __future__ import annotations

from base64 import b32encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")
RANDOM_BYTES = 10
_LENGTH = 26
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def ulid(*, now: datetime, random: bytes) -> str:
    """Return the 26-character ULID (github.com/ulid/spec) of an instant and 10 random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a ULID takes {RANDOM_BYTES} random bytes, got {len(random)}")
    number = (_milliseconds(now) << 80) | int.from_bytes(random)
    # Six zero bits at the end make 17 bytes whose base 32 begins with the 130 bits of a ULID.
    return b32encode((number << 6).to_bytes(17))[:_LENGTH].translate(_CROCKFORD).decode()


def prefixed_id(prefix: str, *, now: datetime, random: bytes) -> str:
    """Return an id that names its kind, such as `app_01J3R2J7F1TQ0K6W6N8A4X9V7R`."""
    return f"{prefix}_{ulid(now=now, random=random)}"


def uuid7(*, now: datetime, random: bytes) -> UUID:
    """Return an RFC 9562 version 7 UUID of an instant and 10 random bytes."""
    number = (_milliseconds(now) << 80) | int.from_bytes(random)
    number = (number & ~(0xF << 76)) | (7 << 76)
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=number)


def _milliseconds(now: datetime) -> int:
    """Whole milliseconds since 1970, counted exactly: a float of seconds would merge neighbours."""
    return (now - _EPOCH) // _MILLISECOND
