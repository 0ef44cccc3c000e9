"""Lists of who is let pass and who is not: what can stand on them, and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ListName(StrEnum):
    """Which lists there are. What they do to a payment is the ruleset's business."""

    ALLOW = "allow"
    BLOCK = "block"


class ListKind(StrEnum):
    """What of a payment an entry is about."""

    CARD = "card"
    MEMBER = "member"
    MERCHANT = "merchant"
    IP_TOKEN = "ip_token"  # noqa: S105 - it stands for an address and opens nothing
    DEVICE = "device"
    COUNTRY = "country"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is put on a list. From `expires_at` on it does not stand there any more; None: until it is taken off."""

    kind: ListKind
    value: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListEntry(NewEntry):
    """What stands on a list, by whom and why."""

    list: ListName
    added_at: datetime
    added_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListChange:
    """One act: `added` or `removed`. The numbers of acts are in the order in which they were committed."""

    version: int
    act: str
    list: ListName
    kind: ListKind
    value: str
    expires_at: datetime | None
    at: datetime
    by: str
    reason: str
