"""The fairness report: rates and ratios by hand, intervals of a published example, small samples and empty segments."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.contracts.record import FairnessReport, SegmentCounts
from faregate.credit.domain.fairness import Segmentation, SegmentUnknown, fairness_report, segmentation
from faregate.entrypoints.fairness_command import draw

PLAIN = Segmentation(by="product_type")


def counts(segment: str, approved: int, denied: int, undecided: int = 0) -> SegmentCounts:
    return SegmentCounts(segment=segment, approved=approved, denied=denied, undecided=undecided)


def report(*found: SegmentCounts, segments: Segmentation = PLAIN, sample_min: int = 30) -> FairnessReport:
    return fairness_report(found, segments=segments, sample_min=sample_min)


TABLE = [  # approved, denied of a segment beside 80 of 100 -> ratio, below four fifths, small sample
    (80, 20, 1.0, False, False),
    (64, 36, 0.8, False, False),
    (63, 37, 0.7875, True, False),
    (0, 100, 0.0, True, False),
    (7, 3, 0.875, False, True),
]


@pytest.mark.parametrize(("approved", "denied", "ratio", "is_below", "is_small"), TABLE)
def test_a_segment_is_compared_with_the_one_that_is_approved_most(
    approved: int, denied: int, ratio: float, is_below: bool, is_small: bool
) -> None:
    found = report(counts("best", 80, 20), counts("other", approved, denied, 5))
    other = found.segments[1]
    assert found.reference == "best"
    assert other.ratio == pytest.approx(ratio)
    assert (other.is_below_four_fifths, other.is_small_sample, other.undecided) == (is_below, is_small, 5)


def test_the_interval_is_that_of_the_log_method() -> None:
    """Rates of 60 and 80 of 100: exp(log(0.75) ± 1.959964 · sqrt(1/60 - 1/100 + 1/80 - 1/100))."""
    other = report(counts("best", 80, 20), counts("other", 60, 40)).segments[1]
    assert other.ratio_low == pytest.approx(0.6217, abs=1e-4)
    assert other.ratio_high == pytest.approx(0.9048, abs=1e-4)


def test_a_small_segment_is_no_reference_unless_all_are_small() -> None:
    tiny, large = counts("tiny", 3, 0), counts("large", 50, 50)
    assert report(tiny, large).reference == "large"
    assert report(tiny, counts("other", 2, 2)).reference == "tiny"


def test_nothing_decided_has_no_rate_and_no_reference() -> None:
    found = report(counts("a", 0, 0, 9))
    assert found.reference is None
    assert (found.segments[0].approval_rate, found.segments[0].ratio) == (None, None)
    assert report().segments == ()


segments = st.lists(
    st.builds(
        SegmentCounts,
        segment=st.sampled_from("abcdef"),
        approved=st.integers(0, 60),
        denied=st.integers(0, 60),
        undecided=st.integers(0, 3),
    ),
    max_size=6,
    unique_by=lambda c: c.segment,
)


@given(segments)
def test_any_counts_give_ratios_inside_their_intervals(found: list[SegmentCounts]) -> None:
    for segment in report(*found).segments:
        if segment.ratio is not None and segment.approved:
            assert segment.ratio_low is not None
            assert segment.ratio_high is not None
            assert 0 < segment.ratio_low <= segment.ratio_high
            assert segment.ratio == pytest.approx(1.0) or not segment.is_small_sample or segment.ratio > 0


BANDS = [("0", "under 25"), ("1", "25-39"), ("2", "40-61"), ("3", "62+")]


@pytest.mark.parametrize(("band", "label"), BANDS)
def test_bands_are_called_by_their_bounds(band: str, label: str) -> None:
    assert segmentation("age").label(band) == label


@pytest.mark.parametrize(
    ("by", "edges"), [("shoe_size", []), ("purpose", [3]), ("age", [40, 25]), ("age", [25, 25])]
)
def test_segments_that_cannot_be_made_are_refused(by: str, edges: list[int]) -> None:
    with pytest.raises(SegmentUnknown):
        segmentation(by, edges=edges)


@pytest.mark.parametrize("name", ["ratios.png", "ratios.svg"])
def test_a_report_is_drawn_and_the_same_one_is_the_same_picture(tmp_path: Path, name: str) -> None:
    found = report(counts("best", 80, 20), counts("other", 3, 4), counts("nobody", 0, 0))
    first, again = tmp_path / "a" / name, tmp_path / "b" / name
    draw(found, path=first)
    draw(found, path=again)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes()[:8] in (b"\x89PNG\r\n\x1a\n", b"<?xml ve")
    if name.endswith("svg"):
        assert "other (n=7)" in first.read_text()
