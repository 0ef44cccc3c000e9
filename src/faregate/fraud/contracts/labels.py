"""What is known of payments afterwards: whether they were frauds, who says so, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a source (`chargeback`, `review`, `cardholder`) said of a payment. The newest of a payment counts."""

    payment_id: str
    is_fraud: bool
    source: str
    known_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsTaken:
    """How many labels were new, and how many were there already."""

    new: int
    known: int
