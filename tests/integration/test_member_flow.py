"""The whole way of an applicant to membership: submitted over HTTP, checked, approved, enrolled by a running worker."""

from __future__ import annotations

from typing import Any

import pytest

from tests.credit_worker import (  # noqa: F401
    CreditSystem,
    quiet_system,
    servers_of_module,
    system_of_module,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.requirement("L1"),
    pytest.mark.requirement("L6"),
]


async def members(system: CreditSystem) -> list[dict[str, Any]]:
    return await system.sql(
        "select m.id, e.application_id, m.name_encrypted from members.member m "
        "left join members.enrolment e on e.member_id = m.id"
    )


async def test_whoever_a_running_system_approves_becomes_a_member_and_nobody_else(
    system: CreditSystem,
) -> None:
    approved, denied = await system.submit("greta gutmann"), await system.submit("boris badluck")
    outcomes = [(await system.decided(application))["outcome"] for application in (approved, denied)]
    assert outcomes == ["approved", "denied"]
    await system.until_quiet()
    [member] = await members(system)
    assert member["application_id"] == approved
    assert b"gutmann" not in member["name_encrypted"].lower()
    [event] = await system.sql(
        "select payload, traceparent from eventlog.event where type = 'members.member.registered'"
    )
    assert (event["payload"]["member_id"], event["payload"]["source"]) == (member["id"], "enrolment")
    assert event["traceparent"] is not None
