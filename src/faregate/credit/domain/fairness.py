"""Approval rates by segment and their four-fifths ratio: a report for people, never a rule.

The ratio compares each segment's rate with the highest one (29 CFR 1607.4(D), made for hiring). Its interval is the log
method of Katz, Baptista, Azen and Pike, "Obtaining confidence intervals for the risk ratio in cohort studies",
Biometrics 34 (1978). Nothing here belongs on the path of a decision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from faregate.credit.contracts.record import FairnessReport, SegmentCounts, SegmentFairness
from faregate.kernel.errors import InvalidError

Z_95: Final = 1.959964
"""The 97.5th percentile of the standard normal distribution."""
AGE_EDGES: Final = (25, 40, 62)
"""From 62 on an applicant is elderly in the sense of Regulation B (12 CFR 1002.2(o))."""
INCOME_EDGES: Final = (25_000, 50_000, 100_000)


class SegmentUnknown(InvalidError):
    """Applications cannot be put into segments by this, or these edges do not rise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """By what applications are put into segments; `edges` are the lower bounds of every band but the first."""

    by: str
    edges: tuple[int, ...] = ()

    def label(self, value: str) -> str:
        """Return what a segment is called; the number of a band is turned into its bounds."""
        if not self.edges:
            return value
        band = int(value)
        if band == 0:
            return f"under {self.edges[0]}"
        low = self.edges[band - 1]
        return f"{low}+" if band == len(self.edges) else f"{low}-{self.edges[band] - 1}"


_EDGES: Final = {"age": AGE_EDGES, "income": INCOME_EDGES, "product_type": (), "purpose": ()}
SEGMENTATIONS: Final = tuple(_EDGES)


def segmentation(by: str, *, edges: Sequence[int] = ()) -> Segmentation:
    """Return a segmentation, with the usual edges unless others are given. Raises `SegmentUnknown`."""
    if by not in _EDGES:
        raise SegmentUnknown(f"there are no segments by {by}; there are {', '.join(SEGMENTATIONS)}")
    if edges and not _EDGES[by]:
        raise SegmentUnknown(f"segments by {by} have no edges")
    if list(edges) != sorted(set(edges)):
        raise SegmentUnknown("the edges of bands must rise")
    return Segmentation(by=by, edges=tuple(edges) or _EDGES[by])


def fairness_report(
    counts: Sequence[SegmentCounts], *, segments: Segmentation, sample_min: int
) -> FairnessReport:
    """Compare each segment with the one that is approved most often among those that are large enough.

    Without a large enough one, every segment may be the reference. Rates are of decided applications.
    """
    decided = [c for c in counts if c.approved + c.denied]
    large = [c for c in decided if c.approved + c.denied >= sample_min] or decided
    reference = max(large, key=lambda c: (_rate(c), c.approved), default=None)
    return FairnessReport(
        by=segments.by,
        reference=None if reference is None else segments.label(reference.segment),
        sample_min=sample_min,
        segments=tuple(
            _segment(c, reference=reference, segments=segments, sample_min=sample_min) for c in counts
        ),
    )


def _segment(
    counts: SegmentCounts, *, reference: SegmentCounts | None, segments: Segmentation, sample_min: int
) -> SegmentFairness:
    decided = counts.approved + counts.denied
    ratio = low = high = None
    if reference is not None and decided and reference.approved:
        ratio = _rate(counts) / _rate(reference)
        low, high = (ratio, ratio) if counts == reference else _interval(counts, reference)
    return SegmentFairness(
        segment=segments.label(counts.segment),
        approved=counts.approved,
        denied=counts.denied,
        undecided=counts.undecided,
        approval_rate=_rate(counts) if decided else None,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        is_below_four_fifths=reference is not None and decided > 0 and _is_below(counts, reference),
        is_small_sample=decided < sample_min,
    )


def _is_below(counts: SegmentCounts, reference: SegmentCounts) -> bool:
    """Compare with four fifths in integers: exactly four fifths are not below."""
    decided, of_reference = counts.approved + counts.denied, reference.approved + reference.denied
    return 5 * counts.approved * of_reference < 4 * reference.approved * decided


def _rate(counts: SegmentCounts) -> float:
    return counts.approved / (counts.approved + counts.denied)


def _interval(counts: SegmentCounts, reference: SegmentCounts) -> tuple[float, float]:
    """Return the 95 % interval of the ratio; half an application is added to each count where one would be zero."""
    add = 0.5 if 0 in (counts.approved, counts.denied, reference.approved, reference.denied) else 0.0
    a, n = counts.approved + add, counts.approved + counts.denied + 2 * add
    b, m = reference.approved + add, reference.approved + reference.denied + 2 * add
    log_ratio, error = math.log((a / n) / (b / m)), math.sqrt(1 / a - 1 / n + 1 / b - 1 / m)
    return math.exp(log_ratio - Z_95 * error), math.exp(log_ratio + Z_95 * error)
