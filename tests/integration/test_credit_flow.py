"""The flow of an application: submitted over HTTP, checked at the sandbox by a running worker, decided."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from glide import GlideClient, InfoSection
from standardwebhooks import Webhook

from faregate.credit.handlers.decide import APPLICATION_RUN
from faregate.events.base import DIRECT_IDENTIFIERS
from faregate.infra.cache import configuration_of
from faregate.infra.eventlog import append, replay
from faregate.infra.workflow import NewRun, start_runs
from faregate.kernel.event import NewEvent
from faregate.kernel.ids import RANDOM_BYTES, uuid7
from faregate.sandbox.faults import Fault
from tests.credit_worker import (  # noqa: F401
    SLOW,
    STRAIGHT,
    CreditSystem,
    new_person,
    quiet_system,
    servers_of_module,
    system_of_module,
)
from tests.credit_world import ACME, GLOBEX, new_key
from tests.sandbox import until
from tests.webhook_world import Endpoint, open_endpoint

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = {
    "credit.application.submitted": {"application_id", "applicant_id", "idempotency_key", "submitted_at"},
    "credit.external.requested": {
        "application_id", "provider", "provider_request_id", "attempt", "timeout_ms",
    },
    "credit.external.completed": {
        "application_id", "provider", "provider_request_id", "status", "signal_payload", "received_at",
    },
    "credit.decision.ready": {"application_id", "required_signals_complete", "missing_providers"},
    "credit.decision.finalized": {
        "application_id", "outcome", "risk_score", "reason_codes", "ruleset_version",
    },
}  # fmt: skip
ADDED_FIELDS = {
    "credit.external.completed": {"reason"},
    "credit.decision.finalized": {"decision_version"},
}
"""Optional fields that the specification allows us to add."""


@pytest.mark.requirement("C2")
@pytest.mark.parametrize("held", ["bureau", "kyc"])
async def test_while_one_provider_holds_its_answer_all_the_others_do_their_work(
    system: CreditSystem, held: str
) -> None:
    others = [reference for reference in STRAIGHT if not reference.startswith(held)]
    async with system.faults(**{held: {"rates": {"hang_before": 1.0}}}):
        application = await system.submit()
        assert await until(lambda: system.executed(application), lambda done: len(done) >= 3) == others
        assert (await system.intents(application))[f"{held}:1"]["settled"] is None


@pytest.mark.requirement("C19")
async def test_a_decision_made_while_valkey_is_frozen_reaches_pollers_when_it_is_back(
    system: CreditSystem, valkey_socket: Path
) -> None:
    valkey = await pid_of_valkey(valkey_socket)
    async with system.faults(kyc=SLOW):
        application = await system.submit()
        await system.until_sql(
            "select 1 from credit.risk_signal where application_id = %(id)s",
            lambda rows: len(rows) == 3,
            id=application,
        )
        assert (await system.status(application))["status"] == "processing"
        with frozen(valkey):
            await system.call_back(application)
            await until(lambda: system.decisions(application), bool)
        # The snapshot from before would stay for longer than this waits.
        await system.final_status(application)


async def pid_of_valkey(socket: Path) -> int:
    client = await GlideClient.create(configuration_of(f"unix://{socket}"))
    found = re.search(rb"process_id:(\d+)", await client.info([InfoSection.SERVER]))
    await client.close()
    assert found is not None
    return int(found[1])


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process for a block, as a machine does that swaps or is paused."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.requirement("C32")
async def test_a_running_worker_seals_what_was_decided(system: CreditSystem) -> None:
    application = await system.submit("Greta Gutmann", amount=2_000)  # whom no review adds entries to
    assert (await system.decided(application))["outcome"] != "manual_review"
    links = await system.until_sql(
        "select l.subject from credit.audit_link l join credit.audit_entry e on e.id = l.ord"
        " where e.application_id = %(id)s union all"
        " select l.subject from credit.audit_link l join credit.decision d using (ord)"
        " where d.application_id = %(id)s",
        lambda rows: len(rows) == 3,
        id=application,
    )
    assert Counter(row["subject"] for row in links) == {"audit_entry": 2, "decision": 1}


@pytest.mark.requirement("C2")
async def test_all_four_providers_are_called_before_any_of_them_has_answered(system: CreditSystem) -> None:
    before = Counter((await system.sandbox.summary())["calls_by_endpoint"])
    for provider in ("bureau", "kyc", "fraud", "income"):
        await system.script(provider, Fault.HANG_BEFORE)
    application = await system.submit()

    async def calls() -> Counter[str]:
        return Counter((await system.sandbox.summary())["calls_by_endpoint"]) - before

    arrived = await until(calls, lambda made: {"bureau", "kyc", "fraud", "income"} <= made.keys())
    assert arrived["bureau_alt"] == 0
    assert await system.executed(application) == []


@pytest.mark.requirement("C3")
@pytest.mark.requirement("C4")
@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("Greta Gutmann", "approved", "BUREAU_OK"),
        ("Boris Badluck", "denied", "SCORE_HIGH_RISK"),
        ("Mira Medium", "manual_review", "FRAUD_MEDIUM"),
    ],
)
async def test_an_application_ends_in_one_of_three_outcomes_with_its_reasons(
    system: CreditSystem, name: str, outcome: str, reason: str
) -> None:
    application = await system.submit(name)
    decision = await system.decided(application)
    assert (decision["outcome"], decision["application_id"]) == (outcome, application)
    assert 0 <= decision["risk_score"] <= 1
    assert reason in decision["reason_codes"]
    assert bool(decision["adverse_action_reasons"]) == (outcome == "denied")
    status = await system.final_status(application)
    assert (status["status"], status["latest_step"]) == (outcome, "decision_finalized")


@pytest.mark.requirement("C4")
async def test_the_status_names_each_step_while_the_application_is_still_processed(
    system: CreditSystem,
) -> None:
    async with system.faults(kyc=SLOW):
        application = await system.submit()
        seen = await until(
            lambda: system.status(application), lambda found: found["latest_step"].endswith("_completed")
        )
        assert seen["status"] == "processing"
        assert (await system.world.decision(application)).problem == (404, "decision-not-made")
        await system.call_back(application)


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
@pytest.mark.parametrize(
    "fault", [Fault.HANG_AFTER, Fault.DROP_AFTER, Fault.ERROR_AFTER, Fault.MALFORMED, Fault.WRONG_SCHEMA]
)
async def test_a_bureau_that_worked_but_gave_no_answer_is_looked_up_and_never_asked_again(
    system: CreditSystem, fault: Fault
) -> None:
    await system.script("bureau", fault)
    application = await system.submit("Greta Gutmann")
    assert (await system.decided(application))["outcome"] == "approved"
    bureau = (await system.intents(application))["bureau:1"]
    assert (bureau["state"], bureau["sends"], bureau["was_unknown"]) == ("done", 1, True)
    assert bureau["looks"] >= 1
    assert await system.executed(application) == STRAIGHT


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LIMITED])
async def test_a_bureau_that_refused_a_call_is_asked_again_under_the_same_reference(
    system: CreditSystem, fault: Fault
) -> None:
    await system.script("bureau", fault)
    application = await system.submit()
    await system.decided(application)
    assert (await system.intents(application))["bureau:1"]["sends"] == 2
    assert await system.executed(application) == STRAIGHT


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.DROP_BEFORE])
async def test_the_attempt_advances_only_when_a_look_up_has_shown_that_the_first_was_not_done(
    system: CreditSystem, fault: Fault
) -> None:
    await system.script("bureau", fault)
    application = await system.submit()
    await system.decided(application)
    intents = await system.intents(application)
    assert {name: intents[name]["state"] for name in ("bureau:1", "bureau:2")} == {
        "bureau:1": "not_done",
        "bureau:2": "done",
    }
    assert intents["bureau:1"]["reason"] == "not_found"
    assert await system.executed(application) == ["bureau:2", *STRAIGHT[1:]]
    requested = [e["payload"] for e in await system.events(application) if "requested" in e["type"]]
    assert [r["attempt"] for r in requested if r["provider"] == "bureau"] == [1, 2]


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
async def test_the_fallback_bureau_is_asked_once_the_first_is_known_not_done(system: CreditSystem) -> None:
    application = await system.submit("Bruno Bureaudown")
    assert (await system.decided(application))["outcome"] == "approved"
    assert await system.executed(application) == ["bureau_alt:1", *STRAIGHT[1:]]
    signal = (await system.signals(application))["bureau"]
    assert (signal["status"], signal["provider"]) == ("done", "bureau_alt")
    assert signal["provider_request_id"] == f"{application}:bureau_alt:1"


@pytest.mark.requirement("C13")
async def test_when_both_bureaus_refuse_the_application_goes_to_manual_review(system: CreditSystem) -> None:
    application = await system.submit("Nina Nobureau")
    decision = await system.decided(application)
    assert (decision["outcome"], decision["reason_codes"]) == ("manual_review", ["BUREAU_CHECK_FAILED"])
    ready = await system.until_event(application, "credit.decision.ready")
    assert ready["required_signals_complete"] is False
    assert ready["missing_providers"] == ["bureau_alt"]
    assert await system.executed(application) == STRAIGHT[1:]


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C23")
@pytest.mark.requirement("C13")
async def test_a_bureau_unknown_to_the_end_of_the_budget_means_manual_review_and_no_other_bureau(
    system: CreditSystem,
) -> None:
    application = await system.submit("Uma Unknown", hurried=True)
    decision = await system.decided(application)
    assert (decision["outcome"], decision["reason_codes"]) == ("manual_review", ["BUREAU_CHECK_TIMEOUT"])
    assert (await system.final_status(application))["latest_step"] == "bureau_check_timeout"
    ready = await system.until_event(application, "credit.decision.ready")
    assert ready["missing_providers"] == ["bureau"]
    intents = await system.intents(application)
    assert sorted(intents) == STRAIGHT
    assert (intents["bureau:1"]["state"], intents["bureau:1"]["sends"]) == ("unknown", 1)
    assert await system.executed(application) == STRAIGHT


@pytest.mark.requirement("C10")
async def test_a_full_run_leaves_each_event_once_in_order_with_exactly_its_fields(
    system: CreditSystem,
) -> None:
    application = await system.submit("Greta Gutmann")
    await system.until_event(application, "credit.decision.finalized")
    events = await system.events(application)
    names = [event["type"].rpartition("credit.")[2] for event in events]
    assert names[0] == "application.submitted"
    assert Counter(names[1:-2]) == {"external.requested": 4, "external.completed": 4}
    assert names[-2:] == ["decision.ready", "decision.finalized"]
    for event in events:
        fields = FIELDS[event["type"]]
        assert fields <= event["payload"].keys() <= fields | ADDED_FIELDS.get(event["type"], set())
        assert event["payload"]["application_id"] == event["aggregateid"] == application
    assert len({event["partition"] for event in events}) == 1


@pytest.mark.requirement("C10")
async def test_a_call_is_announced_before_it_is_completed_and_each_completion_names_its_request(
    system: CreditSystem,
) -> None:
    await system.script("bureau", Fault.ERROR_BEFORE)
    application = await system.submit()
    await system.until_event(application, "credit.decision.finalized")
    open_requests = set()
    for event in await system.events(application):
        payload = event["payload"]
        if event["type"] == "credit.external.requested":
            open_requests.add(payload["provider_request_id"])
            provider, attempt = payload["provider"], payload["attempt"]
            assert payload["provider_request_id"] == f"{application}:{provider}:{attempt}"
        elif event["type"] == "credit.external.completed":
            open_requests.remove(payload["provider_request_id"])
    assert open_requests == {
        f"{application}:bureau:1"
    }  # known not done: the second attempt completed the check


@pytest.mark.requirement("C10")
async def test_no_event_names_the_person_or_has_a_field_that_could(system: CreditSystem) -> None:
    form = new_person()
    application = str((await system.world.submit(form)).json["application_id"])
    await system.until_event(application, "credit.decision.finalized")
    text = orjson.dumps([event["payload"] for event in await system.events(application)]).decode()
    person = form["applicant"]
    for value in (person["legal_name"], person["dob"], *person["legal_name"].split()):
        assert value.lower() not in text.lower()
    assert f'"{person["ssn_last4"]}"' not in text
    assert not any(f'"{name}":' in text for name in DIRECT_IDENTIFIERS)


@pytest.mark.requirement("C12")
async def test_applications_submitted_while_no_worker_runs_are_decided_when_one_comes_up(
    system: CreditSystem,
) -> None:
    async with system.no_worker():
        applications = [await system.submit() for _ in range(3)]
        waiting = await system.sql(
            "select type from eventlog.outbox where aggregateid = any(%(ids)s)", ids=applications
        )
        assert [row["type"] for row in waiting] == ["credit.application.submitted"] * 3
        assert [(await system.status(a))["latest_step"] for a in applications] == ["submitted"] * 3
    for application in applications:
        await system.decided(application)
        assert await system.executed(application) == STRAIGHT
    assert await system.until_sql("select 1 from eventlog.outbox", lambda rows: not rows) == []


@pytest.mark.requirement("C12")
@pytest.mark.requirement("C13")
async def test_an_application_whose_worker_stops_in_the_middle_is_finished_by_the_next_one(
    system: CreditSystem,
) -> None:
    async with system.faults(kyc=SLOW):
        application = await system.submit()
        await until(lambda: system.signals(application), lambda signals: len(signals) == 3)
        async with system.no_worker():
            assert (await system.status(application))["status"] == "processing"
            assert (await system.call_back(application)).status == 202
        await system.decided(application)
    assert await system.executed(application) == STRAIGHT


@pytest.mark.requirement("C13")
@pytest.mark.requirement("C22")
async def test_duplicate_start_events_lead_to_one_run_of_the_application(system: CreditSystem) -> None:
    application = await system.submit()
    await system.until_quiet()
    submitted = (await system.events(application))[0]
    for _ in range(3):
        async with system.credit.transaction() as conn:
            await append(conn, [again(submitted)])
            await start_runs(conn, workflow=APPLICATION_RUN, runs=[NewRun(id=application, input={})])
    await system.decided(application)
    await system.until_quiet()
    await assert_ran_once(system, application)


@pytest.mark.requirement("C22")
async def test_replaying_the_whole_log_to_the_starter_of_runs_starts_none_again(system: CreditSystem) -> None:
    application = await system.submit()
    await system.decided(application)
    async with system.log.transaction() as conn:
        await replay(conn, group="credit.runs", from_seq=1, effects_again=True)
    await system.until_quiet()
    await assert_ran_once(system, application)


def again(event: dict[str, Any]) -> NewEvent:
    """Return the same fact as another event: what an at-least-once producer may send."""
    return NewEvent(
        id=uuid7(now=event["time"], random=os.urandom(RANDOM_BYTES)),
        type=event["type"],
        aggregate_type=event["aggregatetype"],
        aggregate_id=event["aggregateid"],
        time=event["time"],
        data=event["payload"],
    )


async def assert_ran_once(system: CreditSystem, application: str) -> None:
    counts = Counter(event["type"] for event in await system.events(application))
    assert counts["credit.external.requested"] == counts["credit.external.completed"] == 4
    assert counts["credit.decision.finalized"] == 1
    for table, column in (("workflow.run", "id"), ("credit.workflow_execution", "run_id")):
        runs = await system.sql(f"select 1 from {table} where {column} = %(id)s", id=application)
        assert len(runs) == 1, table
    assert await system.executed(application) == STRAIGHT
    assert len(await system.decisions(application)) == 1


@pytest.mark.requirement("C20")
async def test_the_workflow_execution_is_waiting_until_the_decision_and_finished_after_it(
    system: CreditSystem,
) -> None:
    query = "select * from credit.workflow_execution where application_id = %(id)s"
    async with system.faults(kyc={"processing": {"median_ms": 400, "max_ms": 400}}):
        application = await system.submit()
        [waiting] = await system.until_sql(query, lambda rows: rows, id=application)
        assert (waiting["run_id"], waiting["status"]) == (application, "waiting")
        await system.decided(application)
    [finished] = await system.sql(query, id=application)
    assert finished["status"] == "finished"
    assert finished["finished_at"] >= finished["started_at"]


@pytest.mark.requirement("C5")
async def test_thirty_applications_at_once_cause_no_external_work_twice(system: CreditSystem) -> None:
    async with system.faults(
        bureau={"rates": {"drop_after": 0.2, "unavailable": 0.2}},
        kyc={"rates": {"callback_duplicate": 0.3, "error_after": 0.2}},
        fraud={"rates": {"drop_after": 0.3}},
        income={"rates": {"callback_duplicate": 0.3, "drop_before": 0.2}},
    ):
        applications = await asyncio.gather(*(system.submit() for _ in range(30)))
        for application in applications:
            await system.decided(application)
    pulls = Counter((pull["application"], pull["check"]) for pull in await system.sandbox.repeated_pulls())
    assert pulls == {}
    decided = await system.sql("select application_id from credit.decision")
    assert Counter(row["application_id"] for row in decided).most_common(1)[0][1] == 1


@pytest.mark.requirement("C10")
async def test_a_decision_is_told_to_its_own_clients_webhook_and_says_nothing_of_the_person(
    system: CreditSystem,
) -> None:
    async with open_endpoint() as mine, open_endpoint() as others:
        secret = await _subscribe(system, mine, client=ACME)
        await _subscribe(system, others, client=GLOBEX)
        application_id = await system.submit()
        decision = await system.decided(application_id)
        [arrival] = await mine.wait(1)
        told = Webhook(secret).verify(arrival.body, dict(arrival.headers))
        assert told["data"] == {
            "application_id": application_id,
            "outcome": decision["outcome"],
            "decision_version": 1,
        }
        await system.until_quiet()
        assert others.arrivals == []


async def _subscribe(system: CreditSystem, endpoint: Endpoint, *, client: str) -> str:
    """Subscribe through the API and return the secret."""
    await system.world.add_key(f"{client}.webhooks", client=client, scopes=["webhooks:manage"])
    form = {"url": endpoint.url, "event_types": ["credit.decision.finalized"]}
    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json"}
    reply = await system.world.request(
        "POST",
        "/api/webhook-endpoints",
        client=f"{client}.webhooks",
        headers=headers,
        data=orjson.dumps(form),
    )
    assert reply.status == 201, reply.body
    return str(reply.json["secret"])
