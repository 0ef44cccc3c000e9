"""Callbacks and risk signals: what a provider tells us, however often and whenever, and what it may change."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from faregate.credit.contracts import StatusView
from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.credit.handlers.checks import process_signals
from faregate.credit.store.applications import begin_execution
from faregate.credit.store.artefacts import load_check_plans
from faregate.entrypoints.bootstrap.site import tools
from faregate.events.credit import ExternalCompleted
from faregate.infra.clock import SystemClock
from faregate.sandbox.faults import Fault
from tests.credit_worker import (  # noqa: F401
    SLOW,
    STRAIGHT,
    CreditSystem,
    both_buses,
    quiet_system,
    servers_of_module,
    system_of_module,
)
from tests.sandbox import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPLICATION = "select * from credit.application where id = %(id)s"


async def completed_checks(system: CreditSystem, application: str) -> Counter[str]:
    """Return how often each provider's answer was announced."""
    events = await system.events(application)
    return Counter(e["payload"]["provider"] for e in events if e["type"] == "credit.external.completed")


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    "fault",
    [
        Fault.CALLBACK_EARLY,
        Fault.CALLBACK_LATE,
        Fault.CALLBACK_DUPLICATE,
        Fault.CALLBACK_OVERTAKEN,
        Fault.CALLBACK_SKEWED,
        Fault.CALLBACK_STALE,
        Fault.CALLBACK_WRONG_SIGNATURE,
        Fault.CALLBACK_MALFORMED,
    ],
)
async def test_however_a_callback_comes_each_signal_is_set_once_and_decided_once(
    system: CreditSystem, fault: Fault
) -> None:
    for provider in ("kyc", "income"):
        await system.script(provider, fault)
    application = await system.submit("Greta Gutmann")
    assert (await system.decided(application))["outcome"] == "approved"
    await system.until_quiet()
    assert await completed_checks(system, application) == Counter(list(PROVIDERS_OF_CHECK))
    assert await system.executed(application) == STRAIGHT
    callbacks = (await system.sandbox.summary())["callbacks"]
    assert not {"faulty_accepted", "stale_accepted", "skewed_refused"} & callbacks.keys()


@pytest.mark.requirement("C9")
async def test_callbacks_of_two_applications_out_of_order_reach_their_own_signals(
    system: CreditSystem,
) -> None:
    async with system.faults(kyc=SLOW):
        first, second = await system.submit(), await system.submit()
        for application in (second, first):
            await system.until_requested(application, "kyc:1")
        await system.call_back(second, status="failure")
        await system.call_back(first)
        assert (await system.decided(second))["reason_codes"] == ["KYC_CHECK_FAILED"]
        await system.decided(first)
    assert (await system.signals(first))["kyc"]["status"] == "done"
    assert (await system.signals(second))["kyc"]["status"] == "not_done"


@pytest.mark.requirement("C9")
async def test_a_callback_that_comes_while_our_own_call_still_hangs_is_taken_and_the_call_is_not_repeated(
    system: CreditSystem,
) -> None:
    await system.script("kyc", Fault.HANG_BEFORE)
    application = await system.submit()
    await until(lambda: system.intents(application), lambda found: found.get("kyc:1", {}).get("sends") == 1)
    await system.call_back(application)
    await system.decided(application)
    await until(lambda: system.intents(application), lambda found: not found["kyc:1"]["claim_token"])
    kyc = (await system.intents(application))["kyc:1"]
    assert (kyc["state"], kyc["sends"], kyc["looks"]) == ("done", 1, 0)


@pytest.mark.requirement("C9")
@pytest.mark.requirement("C18")
async def test_a_callback_after_the_decision_updates_the_signal_and_never_the_decision(
    system: CreditSystem,
) -> None:
    async with system.faults(kyc=SLOW):
        application = await system.submit("Greta Gutmann", hurried=True)
        assert (await system.decided(application))["reason_codes"] == ["KYC_CHECK_TIMEOUT"]
        await until(lambda: system.signals(application), lambda found: "kyc" in found)
        await system.until_quiet()
        before = await decided_state(system, application)
        assert (await system.call_back(application)).status == 202
        await until(lambda: system.signals(application), lambda found: found["kyc"]["status"] == "done")
    await system.until_quiet()
    signal = (await system.signals(application))["kyc"]
    assert (signal["provider_request_id"], signal["facts"]["identity_verified"]) == (
        f"{application}:kyc:1",
        True,
    )
    assert await decided_state(system, application) == before
    assert before["outcome"] == "manual_review"
    [review] = await system.sql("select * from credit.review where application_id = %(id)s", id=application)
    assert (review["has_new_facts"], review["revision"]) == (True, 2)


async def decided_state(system: CreditSystem, application: str) -> dict[str, Any]:
    """Return everything that a callback must never change once an application is decided."""
    [row] = await system.sql(APPLICATION, id=application)
    decisions = await system.decisions(application)
    query = "select * from credit.audit_entry where application_id = %(id)s and action not like 'review.%%'"
    audit = await system.sql(query, id=application)
    events = [e["id"] for e in await system.events(application) if "decision" in e["type"]]
    outcome = (await system.world.decision(application)).json["outcome"]
    return {"row": row, "decisions": decisions, "audit": audit, "events": events, "outcome": outcome}


@pytest.mark.requirement("C9")
async def test_a_callback_that_contradicts_an_earlier_answer_changes_nothing_and_is_remembered_as_such(
    system: CreditSystem,
) -> None:
    application = await system.submit("Greta Gutmann")
    await system.decided(application)
    await system.until_quiet()
    signals, state = await system.signals(application), await decided_state(system, application)
    for _ in range(2):
        assert (await system.call_back(application, status="failure")).status == 202
    query = "select result from gateway.callback where provider_request_id = %(id)s order by ord desc limit 1"
    found = await system.until_sql(query, lambda rows: rows[0]["result"], id=f"{application}:kyc:1")
    assert found == [{"result": "contradicts"}]
    await system.until_quiet()
    assert (await system.signals(application), await decided_state(system, application)) == (signals, state)


@pytest.mark.requirement("C9")
async def test_a_forged_callback_changes_nothing(system: CreditSystem) -> None:
    async with system.faults(kyc=SLOW):
        application = await system.submit()
        await system.until_requested(application, "kyc:1")
        refused = await system.call_back(application, secret="guessed")
        assert refused.problem[0] == 401
        kept = "select 1 from gateway.callback where provider_request_id = %(id)s"
        assert await system.sql(kept, id=f"{application}:kyc:1") == []
        await system.call_back(application)


# The signal processor itself, on batches that the log might bring. No run waits for these applications.


class Batches:
    """Applications that only the signal processor is told of, and what it made of them."""

    def __init__(self, system: CreditSystem) -> None:
        self.system = system
        self.snapshots: list[StatusView] = []

    async def application(self) -> str:
        """Return a copy of an application that no worker knows."""
        known, copy = await self.system.submit(), tools().new_id("app")
        await self.system.decided(known)
        await self.system.sql(
            """
            insert into credit.application (id, client_id, applicant_id, idempotency_key, product_type,
                annual_income, age_years, identity_encrypted, deadline_at, submitted_at, updated_at)
            select %(copy)s, client_id, applicant_id, %(copy)s, product_type, annual_income, age_years,
                identity_encrypted, deadline_at, submitted_at, updated_at
            from credit.application where id = %(known)s
            """,
            copy=copy,
            known=known,
        )
        async with self.system.credit.transaction() as conn:
            await begin_execution(conn, copy, plans=load_check_plans(), now=SystemClock().now())
        return copy

    async def process(self, *events: ExternalCompleted) -> None:
        async def take(views: Any) -> None:
            self.snapshots.extend(views)

        async with self.system.credit.transaction() as conn:
            await process_signals(conn, events, tools=tools(), traceparents={}, take_snapshots=take)

    async def announced(self, application: str) -> list[dict[str, Any]]:
        await self.system.until_quiet()
        return [
            e["payload"]
            for e in await self.system.events(application)
            if e["type"] == "credit.decision.ready"
        ]

    async def close(self) -> None:
        """Let no undecided application stay behind."""
        await self.system.sql("update credit.application set status = 'denied' where status = 'processing'")


@pytest_asyncio.fixture(loop_scope="module")
async def batches(system: CreditSystem) -> AsyncIterator[Batches]:
    made = Batches(system)
    yield made
    await made.close()


def completed(
    application: str, provider: str, status: str = "done", *, attempt: int = 1, **facts: Any
) -> ExternalCompleted:
    return ExternalCompleted.model_validate(
        {
            "application_id": application,
            "provider": provider,
            "provider_request_id": f"{application}:{provider}:{attempt}",
            "status": status,
            "signal_payload": facts,
            "received_at": SystemClock().now(),
            "reason": None if status == "done" else "said_so",
        }
    )


@pytest.mark.requirement("C16")
async def test_readiness_is_announced_once_when_the_last_check_settles_and_never_again(
    batches: Batches,
) -> None:
    application = await batches.application()
    for provider in ("fraud", "kyc", "income"):
        await batches.process(completed(application, provider))
    assert await batches.announced(application) == []
    for _ in range(3):
        await batches.process(completed(application, "bureau"))
    assert await batches.announced(application) == [
        {"application_id": application, "required_signals_complete": True, "missing_providers": []}
    ]
    signals = await batches.system.sql("select 1 from workflow.signal where run_id = %(id)s", id=application)
    assert len(signals) == 1


@pytest.mark.requirement("C16")
async def test_a_batch_with_duplicates_of_several_applications_is_one_signal_a_check_and_one_readiness(
    batches: Batches,
) -> None:
    first, second = await batches.application(), await batches.application()
    once = [
        completed(a, provider) for a in (first, second) for provider in ("bureau", "kyc", "fraud", "income")
    ]
    await batches.process(*once, *reversed(once), *once)
    for application in (first, second):
        assert len(await batches.system.signals(application)) == 4
        assert len(await batches.announced(application)) == 1
    assert {view.latest_step for view in batches.snapshots} <= {
        f"{check}_check_completed" for check in PROVIDERS_OF_CHECK
    }


@pytest.mark.requirement("C16")
@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_in_whatever_order_outcomes_of_a_check_arrive_an_answer_is_what_stays(
    batches: Batches, in_one_batch: bool
) -> None:
    application = await batches.application()
    for order in itertools.permutations(["done", "not_done", "unknown"]):
        await batches.system.sql(
            "delete from credit.risk_signal where application_id = %(id)s", id=application
        )
        events = [completed(application, "bureau", status) for status in order]
        for batch in [events] if in_one_batch else [[event] for event in events]:
            await batches.process(*batch)
        assert (await batches.system.signals(application))["bureau"]["status"] == "done", order


@pytest.mark.requirement("C16")
async def test_two_processors_at_once_announce_readiness_once(batches: Batches) -> None:
    application = await batches.application()
    halves = [("bureau", "kyc"), ("fraud", "income")]
    await asyncio.gather(
        *(batches.process(*(completed(application, p) for p in half)) for half in halves for _ in range(4))
    )
    assert len(await batches.announced(application)) == 1


@pytest.mark.requirement("C16")
async def test_the_snapshot_that_pollers_read_is_refreshed_with_what_the_batch_commits(
    batches: Batches,
) -> None:
    application = await batches.application()
    await batches.process(completed(application, "fraud", "unknown"))
    [view] = batches.snapshots
    assert (view.application_id, view.status.value, view.latest_step) == (
        application,
        "processing",
        "fraud_check_timeout",
    )
    [row] = await batches.system.sql(APPLICATION, id=application)
    assert (row["latest_step"], row["updated_at"]) == (view.latest_step, view.updated_at)
