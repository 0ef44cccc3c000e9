"""Reason codes: what is released is mapped to form C-1, and only what hurts is ranked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.domain.facts import FACTS
from faregate.credit.domain.features import CANDIDATES
from faregate.credit.domain.reasons import (
    INQUIRIES,
    OTHER,
    REASONS_MAX,
    reasons_of_rules,
    reasons_of_score,
    wording_of,
)
from faregate.credit.domain.scorecard import Contribution
from faregate.credit.store.artefacts import load_artefact, load_reason_codes

RELEASED = load_reason_codes("reason-codes-1")
CODES = {code: {"form_c1": code.lower()} for code in ("A", "B", "C", "D", "E")} | {
    "UNMAPPED": {},
    "NOTHING_SPECIFIED": {"form_c1": OTHER},
    "INQUIRIES": {"form_c1": INQUIRIES},
    "ENQUIRIES": {"form_c1": INQUIRIES},
}


def hurt(code: str | None, points: int) -> Contribution:
    return Contribution(fact=str(code), points=points, reason=code)


@pytest.mark.requirement("C17")
def test_every_adverse_code_is_mapped_to_an_entry_of_form_c1() -> None:
    other = RELEASED["form_c1"][-1]
    for code, entry in RELEASED["codes"].items():
        assert entry["meaning"], code
        assert entry.get("form_c1", other) in RELEASED["form_c1"]
        assert bool(entry.get("specify")) == (entry.get("form_c1") == other)


def test_form_c1_has_its_24_entries() -> None:
    assert len(RELEASED["form_c1"]) == len(set(RELEASED["form_c1"])) == 24


@pytest.mark.requirement("C17")
def test_every_reason_that_a_value_can_give_has_a_wording() -> None:
    for feature in CANDIDATES:
        for value in FACTS[feature.fact].values or {0}:
            assert wording_of(feature.reason_of(value), code_set=RELEASED["codes"])


@pytest.mark.parametrize("name", ["german-1", "german-1-cross-fitted"])
def test_every_bin_that_costs_points_has_a_mapped_reason(name: str) -> None:
    for card in load_artefact("scorecards", name)["cards"]:
        for b in (b for attribute in card["attributes"] for b in attribute["bins"]):
            assert (b["reason"] is not None) == (b["points"] < 0)
            assert b["reason"] is None or wording_of(b["reason"], code_set=RELEASED["codes"])


def test_factors_rank_by_points_lost_and_ties_keep_the_order_of_the_card() -> None:
    factors = [hurt("A", -3), hurt("B", -9), hurt("C", -3), hurt(None, 4), hurt("D", -20)]
    ranked = reasons_of_score(factors, code_set=CODES)
    assert [(r.code, r.points_lost) for r in ranked] == [("D", 20), ("B", 9), ("A", 3), ("C", 3)]


def test_at_most_four_reasons_are_named_and_each_once() -> None:
    factors = [hurt(code, -9) for code in ("A", "A", "B", "C", "D", "E")]
    assert [r.code for r in reasons_of_score(factors, code_set=CODES)] == ["A", "B", "C", "D"]


INQUIRED = [  # points lost by A, B, C, D, E and by inquiries -> what is named, in its order
    ((9, 8, 7, 6, 5, 1), ["A", "B", "C", "D", "INQUIRIES"]),
    ((9, 8, 7, 6, 5, 10), ["INQUIRIES", "A", "B", "C", "D"]),
    ((9, 8, 7, 6, 5, 0), ["A", "B", "C", "D"]),
    ((9, 0, 0, 0, 0, 1), ["A", "INQUIRIES"]),
    ((0, 0, 0, 0, 0, 1), ["INQUIRIES"]),
]


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(("lost", "named"), INQUIRED)
def test_recent_inquiries_are_named_beside_the_four(lost: tuple[int, ...], named: list[str]) -> None:
    codes = ("A", "B", "C", "D", "E", "INQUIRIES")
    factors = [hurt(code, -points) for code, points in zip(codes, lost, strict=True)]
    assert [reason.code for reason in reasons_of_score(factors, code_set=CODES)] == named


def test_two_codes_of_one_wording_are_one_reason() -> None:
    named = reasons_of_rules(["A", "ENQUIRIES", "INQUIRIES"], code_set=CODES)
    assert [reason.code for reason in named] == ["A", "ENQUIRIES"]


factors = st.lists(
    st.builds(hurt, st.sampled_from([*CODES, "NOBODY", None]), st.integers(-50, 50)), max_size=12
)


@pytest.mark.requirement("C17")
@given(factors)
def test_only_what_hurts_is_named_ranked_within_the_limit_and_never_twice(
    factors: list[Contribution],
) -> None:
    named = reasons_of_score(factors, code_set=CODES)
    lost = [reason.points_lost or 0 for reason in named]
    assert lost == sorted(lost, reverse=True)
    assert all(
        (reason.code, -(reason.points_lost or 0)) in {(f.reason, f.points) for f in factors}
        for reason in named
    )
    assert min(lost, default=1) > 0
    assert len({reason.wording for reason in named}) == len(named)
    assert len([reason for reason in named if reason.wording != INQUIRIES]) <= REASONS_MAX
    assert named == reasons_of_score(factors, code_set=CODES)


def test_a_code_without_wording_is_never_named() -> None:
    named = reasons_of_rules(["UNMAPPED", "NOBODY", "NOTHING_SPECIFIED", "A"], code_set=CODES)
    assert [reason.code for reason in named] == ["A"]


def test_the_text_under_other_is_what_the_applicant_reads() -> None:
    assert wording_of("SAVINGS_BALANCE", code_set=RELEASED["codes"]) == "Balance of savings and investments"
    assert wording_of("LENGTH_OF_EMPLOYMENT", code_set=RELEASED["codes"]) == "Length of employment"
