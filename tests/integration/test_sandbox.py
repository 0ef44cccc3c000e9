"""The sandbox tells the truth about itself: what was executed, what it promises, whom it calls back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from faregate.infra.clock import SystemClock
from faregate.infra.security.signatures import (
    SignatureRejected,
    has_webhook_headers,
    verify_body,
    verify_webhook,
)
from faregate.kernel.outcome import Accepted, Done, NotDone, Unknown
from faregate.sandbox.faults import Fault
from faregate.sandbox.personas import PERSONAS
from faregate.sandbox.plans import PLANS
from tests.sandbox import (
    CREDENTIALS,
    Receiver,
    Sandbox,
    adapters,
    open_receiver,
    open_sandbox,
    request,
    sandbox,
    until,
)

__all__ = ["sandbox"]

CALLING_BACK = pytest.mark.parametrize("provider", ["income", "kyc"])
Delivery = tuple[Any, bytes]


def verify(provider: str, delivery: Delivery) -> None:
    """Verify a callback as the product does. Raises SignatureRejected."""
    headers, body = delivery
    if has_webhook_headers(headers):
        secret = CREDENTIALS.income_callback_secret
        verify_webhook(headers=headers, body=body, secrets=[secret], now=datetime.now(UTC))
    else:
        assert provider == "kyc"
        verify_body(orjson.loads(body), secrets=[CREDENTIALS.kyc_callback_secret.encode()])


def acceptable(provider: str, delivery: Delivery) -> bool:
    """Say whether the product would take a callback: the signature holds and the body is JSON."""
    try:
        verify(provider, delivery)
        orjson.loads(delivery[1])
    except (SignatureRejected, orjson.JSONDecodeError):
        return False
    return True


async def submit(sandbox: Sandbox, provider: str, receiver: Receiver | None = None, **changes: Any) -> Any:
    asked = request(provider, callback_url=receiver.url if receiver else None, **changes)
    return await adapters(sandbox)[provider].submit(asked, timeout_s=5)


# What was executed.


@pytest.mark.requirement("P6")
async def test_pulls_are_counted_per_application_and_check_over_attempts_and_providers(
    sandbox: Sandbox,
) -> None:
    await submit(sandbox, "bureau", attempt=1)
    await submit(sandbox, "bureau", attempt=2)
    await submit(sandbox, "bureau_alt")
    await submit(sandbox, "fraud")
    await submit(sandbox, "bureau", application="app_2")
    assert await sandbox.repeated_pulls() == [{"application": "app_1", "check": "bureau", "pulls": 3}]
    assert len(await sandbox.executions(application="app_1", check="bureau")) == 3
    summary = await sandbox.summary()
    assert (summary["calls"], summary["executed"], summary["duplicates"]) == (5, 5, 2)


async def test_a_repeated_request_is_counted_as_deduplicated_where_it_is(sandbox: Sandbox) -> None:
    await asyncio.gather(*(submit(sandbox, "fraud") for _ in range(5)))
    summary = await sandbox.summary()
    assert (summary["calls"], summary["executed"], summary["deduplicated"]) == (5, 1, 4)


async def test_faults_before_the_work_execute_nothing_and_faults_after_it_do(sandbox: Sandbox) -> None:
    for fault in (Fault.UNAVAILABLE, Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.DROP_AFTER):
        await sandbox.script("bureau", fault)
        await submit(sandbox, "bureau", application=fault)
    executed = [execution["application"] for execution in await sandbox.executions()]
    assert executed == ["error_after", "drop_after"]


async def test_nothing_is_answered_before_it_is_on_the_disk(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_is_free, disk_is_asked = threading.Event(), threading.Event()

    def slow_disk(descriptor: int) -> None:
        disk_is_asked.set()
        disk_is_free.wait()

    monkeypatch.setattr("os.fdatasync", slow_disk)
    pull = asyncio.create_task(submit(sandbox, "bureau"))
    await asyncio.to_thread(disk_is_asked.wait)
    done, _ = await asyncio.wait({pull}, timeout=0.1)
    disk_is_free.set()
    assert not done
    assert isinstance(await pull, Done)


async def test_an_execution_is_found_by_the_trace_of_its_request(sandbox: Sandbox) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"reference": "app_1:bureau:1", "name": "Jane Doe", "date_of_birth": "1994-04-08"}
    body |= {"ssn_last4": "1234", "stated_income": 180_000}  # type: ignore[dict-item]
    headers = {"X-Api-Key": CREDENTIALS.bureau_api_key, "traceparent": traceparent}
    async with sandbox.session.post(
        f"{sandbox.url}/bureau/v1/reports", json=body, headers=headers
    ) as response:
        assert response.status == 200
    assert len(await sandbox.executions(traceparent=traceparent)) == 1


async def test_the_journal_holds_no_direct_identifier_of_anybody(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as running:
        for provider in adapters(running):
            await submit(running, provider)
    journal = (tmp_path / "executions.jsonl").read_text()
    subject = request("bureau").subject
    assert subject["legal_name"] not in journal
    assert subject["dob"] not in journal


# Faults at run time.


@pytest.mark.parametrize("name", PLANS)
async def test_every_named_plan_keeps_what_the_providers_state(tmp_path: Path, name: str) -> None:
    async with open_sandbox(tmp_path, PLANS[name], look_up_lag_s_max=None) as running:
        outcomes = await asyncio.gather(
            *(submit(running, "bureau", application=f"app_{number}") for number in range(20))
        )
        assert any(isinstance(outcome, Done) for outcome in outcomes)


async def test_a_plan_replaces_the_last_one_and_can_be_read_back(sandbox: Sandbox) -> None:
    plan = {"seed": 7, "providers": {"bureau": {"rates": {"unavailable": 1.0}, "retry_after_s": 4}}}
    await sandbox.set_faults(plan)
    assert (await sandbox.get("/admin/faults"))["providers"]["bureau"]["rates"] == {"unavailable": 1.0}
    assert await submit(sandbox, "bureau") == NotDone("unavailable", retryable=True, retry_after_s=4.0)
    await sandbox.set_faults({})
    assert isinstance(await submit(sandbox, "bureau"), Done)


@pytest.mark.parametrize(
    "plan",
    [
        b"{",
        b'{"unknown": 1}',
        b'{"providers": {"nobody": {}}}',
        b'{"default": {"rates": {"explode": 0.1}}}',
        b'{"default": {"rates": {"drop_after": 1.5}}}',
        b'{"default": {"look_up_lag_s": 60}}',
        b'{"default": {"rates": {"late_work": 0.1}, "late_work_s": 60}}',
        b'{"providers": {"bureau": {"rates": {"refused": 0.1}}}}',
        b'{"scripts": [{"provider": "fraud", "fault": "refused"}]}',
        b'{"scripts": [{"provider": "bureau", "fault": "partner_price_changed"}]}',
        b'{"scripts": [{"provider": "bureau", "fault": "callback_lost"}]}',
        b'{"scripts": [{"provider": "airline_a", "fault": "refused"}]}',
    ],
)
async def test_a_plan_that_no_provider_could_keep_is_refused_and_changes_nothing(
    sandbox: Sandbox, plan: bytes
) -> None:
    before = await sandbox.get("/admin/faults")
    async with sandbox.session.put(f"{sandbox.url}/admin/faults", data=plan) as response:
        assert response.status == 400
    assert await sandbox.get("/admin/faults") == before


async def test_a_script_for_one_reference_passes_others_by(sandbox: Sandbox) -> None:
    await sandbox.script("fraud", Fault.UNAVAILABLE, reference="app_2:fraud:1")
    assert isinstance(await submit(sandbox, "fraud", application="app_1"), Done)
    assert isinstance(await submit(sandbox, "fraud", application="app_2"), NotDone)
    assert isinstance(await submit(sandbox, "fraud", application="app_2"), Done)


# Callbacks.


@CALLING_BACK
async def test_a_callback_is_signed_as_the_product_verifies_it(sandbox: Sandbox, provider: str) -> None:
    async with open_receiver() as receiver:
        assert isinstance(await submit(sandbox, provider, receiver), Accepted)
        (delivery,) = await receiver.wait(1)
    verify(provider, delivery)
    assert orjson.loads(delivery[1])["provider_request_id"] == f"app_1:{provider}:1"


@CALLING_BACK
async def test_a_callback_comes_although_the_callers_connection_dropped(
    sandbox: Sandbox, provider: str
) -> None:
    await sandbox.script(provider, Fault.DROP_AFTER)
    async with open_receiver() as receiver:
        assert isinstance(await submit(sandbox, provider, receiver), Unknown)
        verify(provider, (await receiver.wait(1))[0])


@CALLING_BACK
async def test_an_early_callback_arrives_before_the_request_is_answered(
    sandbox: Sandbox, provider: str
) -> None:
    await sandbox.script(provider, Fault.CALLBACK_EARLY)
    async with open_receiver() as receiver:
        await submit(sandbox, provider, receiver)
        assert len(receiver.deliveries) == 1


@CALLING_BACK
async def test_a_duplicate_callback_comes_twice_and_says_the_same(sandbox: Sandbox, provider: str) -> None:
    await sandbox.script(provider, Fault.CALLBACK_DUPLICATE)
    async with open_receiver() as receiver:
        await submit(sandbox, provider, receiver)
        first, second = await receiver.wait(2)
    assert first[1] == second[1]
    assert first[0].get("webhook-id") == second[0].get("webhook-id")


@CALLING_BACK
@pytest.mark.parametrize("fault", [Fault.CALLBACK_WRONG_SIGNATURE, Fault.CALLBACK_MALFORMED])
async def test_a_faulty_callback_is_followed_by_the_real_one(
    sandbox: Sandbox, provider: str, fault: Fault
) -> None:
    await sandbox.script(provider, fault)
    async with open_receiver() as receiver:
        await submit(sandbox, provider, receiver)
        faulty, real = await receiver.wait(2)
    assert not acceptable(provider, faulty)
    assert acceptable(provider, real)
    assert (await sandbox.summary())["callbacks"]["faulty_accepted"] == 1


@pytest.mark.parametrize(
    ("fault", "status", "counted"),
    [
        (Fault.CALLBACK_SKEWED, 202, "skewed_accepted"),
        (Fault.CALLBACK_STALE, 401, "stale_refused"),
        (Fault.CALLBACK_STALE, 202, "stale_accepted"),
    ],
)
async def test_a_callback_signed_by_a_wrong_clock_is_sent_once_and_counted(
    sandbox: Sandbox, fault: Fault, status: int, counted: str
) -> None:
    await sandbox.script("income", fault)
    async with open_receiver(status=status) as receiver:
        before = await _now()
        await submit(sandbox, "income", receiver)
        callbacks = await _settled(sandbox)
        [(headers, _)] = receiver.deliveries
    off_s = abs(int(headers["webhook-timestamp"]) - before.timestamp())
    assert (off_s > 3000) == (fault is Fault.CALLBACK_STALE)
    assert callbacks[counted] == 1


async def test_a_signature_without_a_time_knows_no_wrong_clock(sandbox: Sandbox) -> None:
    await sandbox.script("kyc", Fault.CALLBACK_STALE)
    async with open_receiver() as receiver:
        await submit(sandbox, "kyc", receiver)
        callbacks = await _settled(sandbox)
    assert callbacks["sent"] == 1
    assert not {name for name in callbacks if name.startswith("stale")}


async def test_an_overtaken_callback_comes_after_a_later_one(sandbox: Sandbox) -> None:
    await sandbox.set_faults({"default": {"callback_late_s": 10}})
    await sandbox.script("kyc", Fault.CALLBACK_OVERTAKEN)
    async with open_receiver() as receiver:
        await submit(sandbox, "kyc", receiver, application="app_1")
        await submit(sandbox, "kyc", receiver, application="app_2")
        deliveries = await receiver.wait(2)
    order = [orjson.loads(body)["provider_request_id"] for _, body in deliveries]
    assert order == ["app_2:kyc:1", "app_1:kyc:1"]


async def test_a_lost_callback_never_comes_and_is_counted(sandbox: Sandbox) -> None:
    await sandbox.script("kyc", Fault.CALLBACK_LOST)
    async with open_receiver() as receiver:
        await submit(sandbox, "kyc", receiver, application="app_1")
        await submit(sandbox, "kyc", receiver, application="app_2")
        await receiver.wait(1)
        callbacks = await _settled(sandbox)
    assert (callbacks["lost"], callbacks["sent"], len(receiver.deliveries)) == (1, 1, 1)


@CALLING_BACK
async def test_a_callback_is_repeated_until_it_is_accepted_with_a_fresh_signature(
    sandbox: Sandbox, provider: str
) -> None:
    async with open_receiver(status=503) as receiver:
        await submit(sandbox, provider, receiver)
        await receiver.wait(2)
        receiver.status = 202
        callbacks = await _settled(sandbox)
    assert callbacks["sent"] == 1
    assert len({headers.get("webhook-id") for headers, _ in receiver.deliveries}) == 1


async def test_a_receiver_that_is_gone_for_good_is_left_alone(sandbox: Sandbox) -> None:
    async with open_receiver(status=410) as receiver:
        await submit(sandbox, "kyc", receiver)
        assert (await _settled(sandbox))["failed"] == 1
        assert len(receiver.deliveries) == 1


async def _settled(sandbox: Sandbox) -> dict[str, int]:
    """Return the callback counts once none is pending."""
    summary = await until(sandbox.summary, lambda summary: not summary["callbacks"]["pending"])
    return dict(summary["callbacks"])


# Over a restart.


@CALLING_BACK
async def test_a_pending_callback_survives_a_restart_of_the_sandbox(tmp_path: Path, provider: str) -> None:
    async with open_receiver(status=503) as receiver:
        async with open_sandbox(tmp_path) as first:
            await submit(first, provider, receiver)
            await receiver.wait(1)
        receiver.status = 202
        before = len(receiver.deliveries)
        async with open_sandbox(tmp_path) as second:
            verify(provider, (await receiver.wait(before + 1))[-1])
            assert (await _settled(second))["sent"] == 1
        async with open_sandbox(tmp_path) as third:
            assert (await _settled(third))["sent"] == 1


async def test_who_is_never_called_back_is_not_called_back_after_a_restart_either(tmp_path: Path) -> None:
    pending = {"default": {"processing": {"median_ms": 500}}}
    async with open_receiver() as receiver:
        async with open_sandbox(tmp_path) as first:
            await first.set_faults(pending)
            for name in ("Silas Silent", "Greta Gutmann"):
                asked = request("kyc", application=name.partition(" ")[0], callback_url=receiver.url)
                named = replace(asked, subject={**asked.subject, "legal_name": name})
                await adapters(first)["kyc"].submit(named, timeout_s=5)
        async with open_sandbox(tmp_path) as second:
            callbacks = await _settled(second)
    assert (callbacks["lost"], callbacks["sent"], len(receiver.deliveries)) == (1, 1, 1)


async def test_executions_and_answers_survive_a_restart_of_the_sandbox(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as first:
        told = {provider: await submit(first, provider) for provider in adapters(first)}
        before = await first.executions()
    async with open_sandbox(tmp_path) as second:
        assert await second.executions() == before
        for provider, adapter in adapters(second).items():
            looked_up = await adapter.look_up(f"app_1:{provider}:1", timeout_s=5)
            assert isinstance(looked_up, Done)
            assert looked_up == told[provider] or isinstance(told[provider], Accepted)


# People.


async def test_every_persona_is_shown_with_a_story_and_a_body_to_submit(sandbox: Sandbox) -> None:
    shown = (await sandbox.get("/personas"))["personas"]
    assert {entry["legal_name"].casefold() for entry in shown} == set(PERSONAS)
    assert all(entry["application"]["applicant"]["legal_name"] == entry["legal_name"] for entry in shown)
    assert all(entry["story"] for entry in shown)


async def test_a_numbered_person_can_be_asked_for(sandbox: Sandbox) -> None:
    shown = await sandbox.get("/people/3")
    assert shown["applicant"].items() <= request("kyc", person=3).subject.items()


async def test_personas_meet_their_fate_whatever_else_they_state(sandbox: Sandbox) -> None:
    async def known(provider: str, name: str) -> Any:
        asked = request(provider, application=name.replace(" ", "_"))
        subject = {**asked.subject, "legal_name": name}
        adapter = adapters(sandbox)[provider]
        asked = type(asked)(provider_request_id=asked.provider_request_id, subject=subject)
        outcome = await adapter.submit(asked, timeout_s=5)
        looked_up = await adapter.look_up(asked.provider_request_id, timeout_s=5)
        return outcome, looked_up

    assert (await known("kyc", "Wanda Watchlist"))[1].payload["watchlist_match"] is True
    assert (await known("fraud", "Felix Fraudster"))[0].payload["fraud_level"] == "high"
    assert (await known("bureau", "Bruno Bureaudown"))[0].reason == "unavailable"
    assert isinstance((await known("bureau_alt", "Bruno Bureaudown"))[0], Done)
    assert [type(outcome) for outcome in await known("bureau", "Uma Unknown")] == [Unknown, Unknown]
    assert (await known("kyc", "Paul Paperless"))[1] == NotDone("refused")


async def _now() -> datetime:
    return SystemClock().now()


async def test_a_token_of_the_income_provider_expires(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, token_life_s=1) as running:
        adapter = adapters(running)["income"]
        assert isinstance(await adapter.submit(request("income"), timeout_s=5), Accepted)
        issued_at = await _now()
        await until(_now, lambda now: now > issued_at + timedelta(seconds=1))
        again = request("income", application="app_2")
        assert isinstance(await adapter.submit(again, timeout_s=5), Accepted)
        assert (await running.summary())["calls_by_endpoint"]["income_token"] == 2
