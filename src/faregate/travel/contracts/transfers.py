"""What travel is asked and what it answers about points that become a partner's currency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TransferStatus(StrEnum):
    """How far a transfer is. `refused` by the ledger, `rejected` by the partner; then the points are `returned`."""

    REQUESTED = "requested"
    REFUSED = "refused"
    CONVERTED = "converted"
    FILED = "filed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTransfer:
    """Points that a member wants to turn into a partner's units, on an account there."""

    member_id: str
    partner: str
    account: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferView:
    """A transfer as it stands. `points` are those that were taken, in whole blocks, once it is converted."""

    id: str
    member_id: str
    partner: str
    points: int
    units: int
    status: TransferStatus
    file: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime
