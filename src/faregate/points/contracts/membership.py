"""What points hear of members."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Standing(StrEnum):
    """How a member stands: who left was closed or erased, and does not come back."""

    ACTIVE = "active"
    FROZEN = "frozen"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """A member who stands otherwise since an instant. `event_id` makes what follows from it happen once."""

    member_id: str
    standing: Standing
    event_id: str
    at: datetime
