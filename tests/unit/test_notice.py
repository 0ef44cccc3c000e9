"""Notices of adverse action: what they say in each situation, and what they wait for before they may be sent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from faregate.credit.domain.decision import inputs_document, score_of
from faregate.credit.domain.notice import (
    ECOA,
    OUTSIDE,
    REPORT,
    SCORE,
    Denial,
    Issuer,
    Party,
    UsedScore,
    notice_document,
    notice_text,
    sources_of,
)
from faregate.credit.domain.reasons import AdverseActionReason, wording_of
from faregate.credit.domain.sample import inputs_of_row
from faregate.credit.domain.scorecard import points_range
from faregate.credit.store.artefacts import load_reason_codes, load_scorecard
from faregate.credit.store.issuer import IssuerFileInvalid, load_issuer
from faregate.credit.store.scorecards import SAMPLE, read_table

ISSUER = Issuer(
    creditor=Party(name="Example Bank", address="1 Main Street, Springfield", phone="555-0100"),
    federal_agency="the Example Agency, Washington, DC",
    reporting_agencies={"bureau": Party(name="Example Reports", address="2 Side Street, Springfield")},
)
REASON = {"code": "TERM_TOO_LONG", "wording": "Length of the repayment period", "points_lost": 37}
FACTOR = AdverseActionReason(code="TERM_TOO_LONG", wording="Length of the repayment period", points_lost=37)


def checks(**statuses: str) -> dict[str, Any]:
    names = ("bureau", "kyc", "fraud", "income")
    return {
        n: {"status": statuses.get(n, "missing"), "provider": n, "provider_request_id": None} for n in names
    }


DENIAL = Denial(
    application_id="app_1",
    version=1,
    decided_at=datetime(2026, 11, 25, 22, 30, tzinfo=UTC),
    inputs={
        "application": {"product_type": "cashback_card", "amount": 2500, "purpose": "car_used"},
        "checks": checks(bureau="done", kyc="done", fraud="unknown", income="done"),
    },
    reasons=[REASON],
    code_set_version="reason-codes-1",
    score=UsedScore(points=455, low=212, high=799, card="german-1", key_factors=[FACTOR]),
)


def with_checks(**statuses: str) -> Denial:
    return replace(DENIAL, inputs={**DENIAL.inputs, "checks": checks(**statuses)})


@pytest.mark.requirement("C17")
def test_a_notice_holds_what_regulation_b_and_the_score_disclosure_ask_for() -> None:
    document = notice_document(DENIAL, issuer=ISSUER)
    assert document["creditor"]["address"] == "1 Main Street, Springfield"
    assert document["principal_reasons"] == [{"code": "TERM_TOO_LONG", "wording": REASON["wording"]}]
    assert document["ecoa_notice"].endswith("concerning this creditor is the Example Agency, Washington, DC.")
    assert document["consumer_report"]["agency"]["name"] == "Example Reports"
    score = document["credit_score"]
    assert (score["score"], score["range"], score["scored_on"]) == (
        455,
        {"low": 212, "high": 799},
        "2026-11-25",
    )
    assert (score["provided_by"], score["card"]) == ("Example Bank", "german-1")
    assert [factor["wording"] for factor in score["key_factors"]] == [FACTOR.wording]
    assert document["outside_sources"]["providers"] == ["income", "kyc"]
    assert document["missing"] == []
    assert json.loads(json.dumps(document)) == document


def test_the_text_says_all_that_the_document_does() -> None:
    text = " ".join(notice_text(notice_document(DENIAL, issuer=ISSUER)).split())
    for said in (REPORT, OUTSIDE, SCORE, ECOA.partition("{")[0], "Your credit score: 455", FACTOR.wording):
        assert said.strip() in text
    for said in (
        "Example Bank 1 Main Street",
        "Example Reports 2 Side Street",
        "low of 212 to a high of 799",
    ):
        assert said in text
    assert "amount 2500, purpose: car_used" in text


def test_a_denial_without_a_report_or_a_score_says_nothing_of_them() -> None:
    document = notice_document(replace(with_checks(), score=None), issuer=ISSUER)
    assert (document["consumer_report"], document["credit_score"], document["outside_sources"]) == (None,) * 3
    text = " ".join(notice_text(document).split())
    for unsaid in (REPORT, OUTSIDE, SCORE, "credit score"):
        assert unsaid not in text


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(
    ("codes", "scored_facts", "sources"),
    [
        (["AGE_BELOW_LEGAL_CAPACITY"], [], []),
        (["INCOME_BELOW_MINIMUM"], [], ["income"]),
        (["WATCHLIST_MATCH", "FRAUD_HIGH"], [], ["fraud", "kyc"]),
        (["AMOUNT_TOO_HIGH_FOR_INCOME"], ["amount", "credit_history", "savings"], ["bureau", "income"]),
        (["A_CODE_OF_ONES_OWN"], [], ["bureau", "fraud", "income", "kyc"]),
    ],
)
def test_a_notice_names_the_sources_that_its_reasons_rest_on_and_no_others(
    codes: list[str], scored_facts: list[str], sources: list[str]
) -> None:
    found = sources_of(codes, scored_facts=scored_facts)
    assert sorted(found) == sources
    everything = with_checks(bureau="done", kyc="done", fraud="done", income="done")
    document = notice_document(replace(everything, sources=found), issuer=ISSUER)
    outside = document["outside_sources"]
    named = [] if outside is None else outside["providers"]
    assert named == [source for source in sources if source != "bureau"]
    assert (document["consumer_report"] is not None) == ("bureau" in sources)


def test_every_reason_of_the_package_says_what_it_rests_on() -> None:
    codes = load_reason_codes("reason-codes-1")["codes"]
    adverse = [code for code in codes if wording_of(code, code_set=codes)]
    assert all(len(sources_of([code], scored_facts=[])) < 4 for code in adverse)


MISSING = [
    (Issuer(), with_checks(bureau="done"), ["creditor", "federal_agency", "reporting_agencies.bureau"]),
    (Issuer(), with_checks(), ["creditor", "federal_agency"]),
    (replace(ISSUER, reporting_agencies={}), DENIAL, ["reporting_agencies.bureau"]),
    (replace(ISSUER, reporting_agencies={}), with_checks(bureau="unknown"), []),
]


@pytest.mark.parametrize(("issuer", "denial", "missing"), MISSING)
def test_what_the_issuer_has_not_said_is_listed_and_shows_in_the_text(
    issuer: Issuer, denial: Denial, missing: list[str]
) -> None:
    document = notice_document(denial, issuer=issuer)
    assert document["missing"] == missing
    assert ("[Name and address of" in notice_text(document)) == bool(missing)


@pytest.mark.parametrize("name", ["german-1", "german-1-cross-fitted"])
def test_every_score_of_the_sample_lies_in_the_range_of_its_card(name: str) -> None:
    model = load_scorecard(name)
    for row in read_table(SAMPLE)[:200]:
        score = score_of(inputs_document(inputs_of_row(row)), scorecard=model)
        low, high = points_range(model, version=score.version)
        assert low < score.points < high


GOOD_FILE: dict[str, Any] = {
    "creditor": {"name": "Example Bank", "address": "1 Main Street, Springfield", "phone": "555-0100"},
    "federal_agency": "the Example Agency, Washington, DC",
    "reporting_agencies": {"bureau": {"name": "Example Reports", "address": "2 Side Street, Springfield"}},
}


def test_the_issuer_is_read_from_a_file_and_is_unknown_without_one(tmp_path: Path) -> None:
    (file := tmp_path / "issuer.json").write_text(json.dumps(GOOD_FILE))
    assert load_issuer(file) == ISSUER
    assert load_issuer(tmp_path / "nowhere.json") == Issuer()


BAD_FILES = [
    ("rubbish", "Invalid JSON"),
    (json.dumps(GOOD_FILE | {"creditor": {"name": "Example Bank"}}), "creditor.address: Field required"),
    (json.dumps(GOOD_FILE | {"agencies": {}}), "agencies: Extra inputs are not permitted"),
    (
        json.dumps(GOOD_FILE | {"federal_agency": ""}),
        "federal_agency: String should have at least 1 character",
    ),
]


@pytest.mark.parametrize(("content", "problem"), BAD_FILES)
def test_a_file_of_another_form_is_refused_with_the_place(tmp_path: Path, content: str, problem: str) -> None:
    (file := tmp_path / "issuer.json").write_text(content)
    with pytest.raises(IssuerFileInvalid, match=problem):
        load_issuer(file)
