"""What readers of the record get: the audit chain, traces, notices of adverse action, the fairness report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.credit.contracts import SignalView


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A walk along the whole audit chain: how many links held, and the first broken row (table, key, columns, what)."""

    at: datetime
    links: int
    broken: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """The end of the audit chain, and what waits to be sealed, the oldest of it for `unsealed_s` seconds."""

    links: int
    sha256: str
    unsealed: int
    unsealed_s: float
    last_verification: Verification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a verification found. `anchors` is how many ends of the chain, noted outside, were compared with it."""

    verification: Verification
    anchors: int
    unsealed: int
    unsealed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTrace:
    """All that is recorded of one application. `seq` in entries and decisions is the link that seals them."""

    application: Mapping[str, Any]
    entries: Sequence[Mapping[str, Any]]
    decisions: Sequence[Mapping[str, Any]]
    signals: Sequence[SignalView]
    requests: Sequence[Mapping[str, Any]]
    notices: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeDue:
    """A notice of adverse action that is still to be sent."""

    application_id: str
    decision_version: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice of adverse action. `status` is open, sent, or superseded by a later decision.

    `document` is what it says as JSON values, `text` the same to be read.
    """

    application_id: str
    decision_version: int
    status: str
    due_at: datetime
    sent_at: datetime | None
    sent_by: str | None
    document: Mapping[str, Any]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCounts:
    """How many applications of a segment stand where."""

    segment: str
    approved: int
    denied: int
    undecided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFairness:
    """A segment's approvals, and their ratio to the reference with its 95 % interval; None where none were decided."""

    segment: str
    approved: int
    denied: int
    undecided: int
    approval_rate: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    is_below_four_fifths: bool
    is_small_sample: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessReport:
    """Approval rates of segments against the one approved most often; under `sample_min` decided, a sample is small."""

    by: str
    reference: str | None
    sample_min: int
    segments: tuple[SegmentFairness, ...]
