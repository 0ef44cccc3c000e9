"""Check plans: what may stand in the file, what a product gets, and when a check must have settled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from faregate.credit.domain.checks import CHECKS
from faregate.credit.domain.plans import CheckPlansRefused, PlannedCheck, read_check_plans
from faregate.credit.store.artefacts import load_check_plans

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL: dict[str, Any] = {check: {"mandatory": True} for check in CHECKS}


def document(**changes: Any) -> dict[str, Any]:
    return {"version": "checks-2", "default": ALL} | changes


@pytest.mark.requirement("C13")
def test_the_plan_of_the_package_asks_every_check_and_needs_every_answer() -> None:
    plan = load_check_plans().of("cashback_card")
    assert (plan.asked, plan.mandatory) == (CHECKS, CHECKS)


@pytest.mark.requirement("C13")
def test_a_product_with_a_table_of_its_own_has_just_the_checks_that_it_names() -> None:
    table = {"income": {"mandatory": False, "budget_s": 5}, "kyc": {"mandatory": True}}
    plans = read_check_plans(document(product={"student_card": table}))
    plan = plans.of("student_card")
    assert (plan.asked, plan.mandatory, plan.version) == (("kyc", "income"), ("kyc",), "checks-2")
    assert plans.of("cashback_card").asked == CHECKS


@pytest.mark.parametrize(
    ("budget_s", "after_s"), [(None, 60), (5.0, 5), (90.0, 60)], ids=["none", "shorter", "longer"]
)
def test_a_check_ends_with_its_budget_but_never_after_the_application(
    budget_s: float | None, after_s: int
) -> None:
    planned = PlannedCheck(mandatory=True, budget_s=budget_s)
    deadline = planned.deadline(now=NOON, application_deadline=NOON + timedelta(seconds=60))
    assert deadline == NOON + timedelta(seconds=after_s)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (document(version=""), "version is missing"),
        (document(prodct={}), "nothing is called prodct"),
        (document(product=[]), "one table a product"),
        (document(default=None), r"\[default\] must be a table"),
        (document(default={"horoscope": {"mandatory": True}}), "no check is called horoscope"),
        (document(default={"kyc": {"mandatory": False}}), "has no mandatory check"),
        (document(default={"kyc": {"mandatory": 1}}), "default.kyc must look like"),
        (document(default={"kyc": {"mandatory": True, "budget": 3}}), "default.kyc must look like"),
        (document(product={"x": {"kyc": {"mandatory": True, "budget_s": 0}}}), "product.x.kyc.budget_s"),
        (document(default={"kyc": {"mandatory": True, "budget_s": True}}), "must be a number of seconds"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_with_its_place(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckPlansRefused, match=message):
        read_check_plans(broken)


@pytest.mark.parametrize("text", ["not toml [", "[default]\nkyc = { mandatory = true }\n", None])
def test_a_file_that_cannot_be_used_is_named(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CheckPlansRefused, match=r"plans\.toml"):
        load_check_plans(file)
