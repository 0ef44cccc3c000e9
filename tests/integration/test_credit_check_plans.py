"""Check plans in a running system: optional checks, checks with a budget of their own, checks that are not asked."""

from __future__ import annotations

import pytest

from tests.credit_worker import (  # noqa: F401
    CreditSystem,
    both_buses,
    quiet_system,
    servers_of_module,
    system_of_module,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLACK_HOLE = {"rates": {"hang_before": 1.0}}


@pytest.mark.requirement("C13")
@pytest.mark.requirement("C29")
async def test_an_optional_check_that_hangs_is_decided_without_when_its_budget_ends(
    system: CreditSystem,
) -> None:
    async with system.faults(income=BLACK_HOLE):
        application = await system.submit("Greta Gutmann", product_type="student_card")
        decision = await system.decided(application)
    assert decision["outcome"] == "approved"
    assert "INCOME_VERIFIED" not in decision["reason_codes"]
    assert (await system.signals(application))["income"]["status"] == "unknown"
    ready = await system.until_event(application, "credit.decision.ready")
    assert (ready["required_signals_complete"], ready["missing_providers"]) == (True, ["income"])


@pytest.mark.requirement("C13")
@pytest.mark.requirement("C29")
async def test_a_mandatory_check_over_its_budget_sends_the_application_to_review_and_is_named(
    system: CreditSystem,
) -> None:
    async with system.faults(fraud=BLACK_HOLE):
        application = await system.submit("Greta Gutmann", product_type="instant_card")
        decision = await system.decided(application)
        status = await system.final_status(application)
    assert (decision["outcome"], status["status"]) == ("manual_review", "manual_review")
    assert status["latest_step"] == "fraud_check_timeout"
    ready = await system.until_event(application, "credit.decision.ready")
    assert (ready["required_signals_complete"], ready["missing_providers"]) == (False, ["fraud"])


@pytest.mark.requirement("C13")
async def test_a_check_that_the_plan_does_not_name_is_never_asked(system: CreditSystem) -> None:
    application = await system.submit("Greta Gutmann", product_type="instant_card")
    assert (await system.decided(application))["outcome"] == "approved"
    assert await system.executed(application) == ["bureau:1", "fraud:1", "kyc:1"]
    [run] = await system.sql(
        "select * from credit.workflow_execution where application_id = %(id)s", id=application
    )
    assert run["check_plan_version"] == "checks-of-the-tests"
    assert set(run["asked_checks"]) == set(run["mandatory_checks"]) == {"bureau", "kyc", "fraud"}
