"""The adapter kit: what every adapter must do against its faulty twin, over real HTTP.

The fake passes the same promises, so that what was tested with it holds for the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider

from faregate.credit.providers.fake import FakeAdapter, Mishap
from faregate.gateway.contracts import Adapter, Capabilities
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown
from faregate.sandbox.faults import Fault, Stage
from tests.sandbox import LOOK_UP_LAG_S_MAX, Sandbox, adapters, open_receiver, request, sandbox, until

__all__ = ["sandbox"]

PROVIDERS = ["bureau", "bureau_alt", "fraud", "income", "kyc"]
SYNCHRONOUS = ["bureau", "bureau_alt", "fraud"]
FACTS = {
    "bureau": {
        "credit_history", "existing_credits", "installment_plans", "guarantors", "installment_rate",
        "property", "term_months",
    },
    "kyc": {
        "identity_verified", "watchlist_match", "housing", "residence_years", "telephone", "dependants",
    },
    "income": {"employment", "occupation", "checking_account", "savings", "annual_income_verified"},
    "fraud": {"fraud_level", "fraud_score"},
}  # fmt: skip
FACTS["bureau_alt"] = FACTS["bureau"]
SUBMIT_FAULTS = [fault for fault in Fault if fault.stage is Stage.SUBMIT]
LOOK_UP_FAULTS = [fault for fault in Fault if fault.stage is Stage.LOOK_UP]

every_provider = pytest.mark.parametrize("provider", PROVIDERS)


@dataclass(frozen=True, slots=True)
class Twin:
    """An adapter and the truth about what it caused."""

    adapter: Adapter
    executed: Callable[[str], Awaitable[int]]
    lose_next_answer: Callable[[], Awaitable[None]]
    lose_next_request: Callable[[], Awaitable[None]]
    finish: Callable[[str], Awaitable[None]]

    async def submit(self, **changes: Any) -> Outcome:
        provider = self.adapter.capabilities.provider
        return await self.adapter.submit(request(provider, **changes), timeout_s=5)

    async def look_up(self, *, application: str = "app_1") -> Outcome:
        reference = f"{application}:{self.adapter.capabilities.provider}:1"
        await self.finish(reference)
        return await self.adapter.look_up(reference, timeout_s=5)


def real_twin(sandbox: Sandbox, provider: str) -> Twin:
    async def executed(reference: str) -> int:
        return len(await sandbox.executions(provider=provider, reference=reference))

    async def nothing(_: str) -> None:
        return None

    return Twin(
        adapter=adapters(sandbox)[provider],
        executed=executed,
        lose_next_answer=lambda: sandbox.script(provider, Fault.DROP_AFTER),
        lose_next_request=lambda: sandbox.script(provider, Fault.DROP_BEFORE),
        finish=nothing,
    )


def fake_twin(capabilities: Capabilities) -> Twin:
    fake = FakeAdapter(capabilities=capabilities, facts={"fact": 1})

    async def executed(reference: str) -> int:
        return fake.executed.count(reference)

    async def lose(mishap: Mishap) -> None:
        fake.mishaps.append(mishap)

    async def finish(reference: str) -> None:
        fake.finish(reference)

    return Twin(
        adapter=fake,
        executed=executed,
        lose_next_answer=lambda: lose(Mishap.LOST_AFTER),
        lose_next_request=lambda: lose(Mishap.LOST_BEFORE),
        finish=finish,
    )


@pytest.fixture(params=[f"{kind} {provider}" for kind in ("real", "fake") for provider in PROVIDERS])
async def twin(request: pytest.FixtureRequest, sandbox: Sandbox) -> Twin:
    kind, provider = request.param.split(" ")
    real = real_twin(sandbox, provider)
    return real if kind == "real" else fake_twin(real.adapter.capabilities)


# What holds for every adapter, the fake included.


async def test_what_was_submitted_is_found_by_our_own_reference(twin: Twin) -> None:
    submitted, looked_up = await twin.submit(), await twin.look_up()
    assert isinstance(looked_up, Done)
    if twin.adapter.capabilities.asynchronous:
        assert isinstance(submitted, Accepted)
    else:
        assert submitted == looked_up


async def test_what_was_never_submitted_is_not_found(twin: Twin) -> None:
    assert await twin.look_up(application="app_2") == NotDone("not_found", retryable=True)


async def test_a_lost_answer_is_unknown_until_the_look_up_finds_it_done(twin: Twin) -> None:
    await twin.lose_next_answer()
    assert isinstance(await twin.submit(), Unknown)
    assert isinstance(await twin.look_up(), Done)
    assert await twin.executed(f"app_1:{twin.adapter.capabilities.provider}:1") == 1


async def test_a_lost_request_is_unknown_until_the_look_up_does_not_find_it(twin: Twin) -> None:
    await twin.lose_next_request()
    assert isinstance(await twin.submit(), Unknown)
    assert await twin.look_up() == NotDone("not_found", retryable=True)


async def test_sending_twice_executes_twice_unless_the_provider_says_that_it_deduplicates(twin: Twin) -> None:
    first, second = await twin.submit(), await twin.submit()
    assert type(first) is type(second)
    executed = await twin.executed(f"app_1:{twin.adapter.capabilities.provider}:1")
    assert executed == (1 if twin.adapter.capabilities.deduplicates else 2)


async def test_an_adapter_without_callbacks_refuses_to_read_one(twin: Twin) -> None:
    if twin.adapter.capabilities.callback:
        pytest.skip("this one calls back")
    with pytest.raises(ValueError, match="never calls back"):
        twin.adapter.read_callback({"provider_request_id": "app_1", "status": "success", "payload": {}})


# What holds for every real adapter against its sandbox twin.


@every_provider
async def test_capabilities_agree_with_what_the_provider_states(sandbox: Sandbox, provider: str) -> None:
    stated = {entry["name"]: entry for entry in (await sandbox.get("/providers"))["providers"]}[provider]
    capabilities = adapters(sandbox)[provider].capabilities
    names = ("asynchronous", "deduplicates", "callback", "polls", "look_up_lag_s_max")
    assert {name: getattr(capabilities, name) for name in names} == {name: stated[name] for name in names}


@every_provider
async def test_an_answer_holds_exactly_the_facts_of_its_check(sandbox: Sandbox, provider: str) -> None:
    twin = real_twin(sandbox, provider)
    await twin.submit()
    outcome = await twin.look_up()
    assert isinstance(outcome, Done)
    assert set(outcome.payload) == FACTS[provider]
    assert outcome.raw


@every_provider
async def test_no_fault_makes_an_adapter_lie_about_the_work(sandbox: Sandbox, provider: str) -> None:
    faults = [fault for fault in SUBMIT_FAULTS if fault is not Fault.REFUSED]
    known = await asyncio.gather(*(_submit_with(sandbox, provider, fault) for fault in faults))
    for fault, outcome in zip(faults, known, strict=True):
        executed = len(await sandbox.executions(application=fault))
        assert not (isinstance(outcome, NotDone) and executed), fault
        assert not (isinstance(outcome, Done | Accepted) and not executed), fault


async def _submit_with(sandbox: Sandbox, provider: str, fault: Fault) -> Outcome:
    asked = request(provider, application=fault)
    await sandbox.script(provider, fault, times=2, reference=asked.provider_request_id)
    return await adapters(sandbox)[provider].submit(asked, timeout_s=0.5)


@every_provider
async def test_a_look_up_that_fails_says_nothing_about_the_work(sandbox: Sandbox, provider: str) -> None:
    """Twice, because the HTTP client repeats a GET over a connection that died: it is safe to."""
    twin = real_twin(sandbox, provider)
    await twin.submit()
    for fault in LOOK_UP_FAULTS:
        await sandbox.script(provider, fault, times=2)
        for _ in range(1 if fault is Fault.LOOK_UP_DROP else 2):
            assert isinstance(await twin.adapter.look_up(f"app_1:{provider}:1", timeout_s=0.2), Unknown)
    assert isinstance(await twin.look_up(), Done)


@every_provider
async def test_executed_work_is_visible_within_the_stated_lag_and_may_be_invisible_before(
    sandbox: Sandbox, provider: str
) -> None:
    await sandbox.set_faults({"default": {"look_up_lag_s": LOOK_UP_LAG_S_MAX}})
    twin = real_twin(sandbox, provider)
    await twin.submit()
    assert await twin.look_up() == NotDone("not_found", retryable=True)
    assert isinstance(await until(twin.look_up, lambda outcome: not isinstance(outcome, NotDone)), Done)


@every_provider
async def test_a_wrong_secret_is_refused_before_any_work(sandbox: Sandbox, provider: str) -> None:
    strangers = adapters(Sandbox(sandbox.url, sandbox.session, sandbox.credentials.derived("strangers")))
    outcome = await strangers[provider].submit(request(provider), timeout_s=5)
    assert outcome == NotDone("unauthorised")
    assert await sandbox.executions() == []


@every_provider
async def test_the_current_trace_travels_with_the_request(sandbox: Sandbox, provider: str) -> None:
    span = TracerProvider().get_tracer("test").start_span("call")
    token = context.attach(trace.set_span_in_context(span))
    try:
        await real_twin(sandbox, provider).submit()
    finally:
        context.detach(token)
    (execution,) = await sandbox.executions(provider=provider)
    assert format(span.get_span_context().trace_id, "032x") in execution["traceparent"]


@every_provider
async def test_markup_and_quotes_in_a_name_do_no_harm(sandbox: Sandbox, provider: str) -> None:
    asked = request(provider)
    odd = replace(asked, subject={**asked.subject, "legal_name": 'Zoë O\'Ne<i>l & "Søn"'})
    assert isinstance(await adapters(sandbox)[provider].submit(odd, timeout_s=5), Done | Accepted)


# What holds for those that answer later.


@pytest.mark.parametrize("provider", ["income", "kyc"])
async def test_work_that_goes_on_is_accepted_until_it_is_ready(sandbox: Sandbox, provider: str) -> None:
    await sandbox.set_faults({"default": {"processing": {"median_ms": 150}}})
    twin = real_twin(sandbox, provider)
    await twin.submit()
    assert isinstance(await twin.look_up(), Accepted)
    await until(twin.look_up, lambda outcome: isinstance(outcome, Done))


@pytest.mark.parametrize("provider", ["income", "kyc"])
async def test_a_callback_and_a_look_up_tell_the_same_facts(sandbox: Sandbox, provider: str) -> None:
    twin = real_twin(sandbox, provider)
    async with open_receiver() as receiver:
        await twin.submit(callback_url=receiver.url)
        ((_, body),) = await receiver.wait(1)
    callback = twin.adapter.read_callback(_json(body))
    looked_up = await twin.look_up()
    assert (callback.provider, callback.provider_request_id) == (provider, f"app_1:{provider}:1")
    assert isinstance(callback.outcome, Done)
    assert isinstance(looked_up, Done)
    assert callback.outcome.payload == looked_up.payload


@pytest.mark.parametrize("provider", ["income", "kyc"])
async def test_a_final_refusal_is_told_alike_by_callback_and_look_up(sandbox: Sandbox, provider: str) -> None:
    await sandbox.script(provider, Fault.REFUSED)
    twin = real_twin(sandbox, provider)
    async with open_receiver() as receiver:
        await twin.submit(callback_url=receiver.url)
        ((_, body),) = await receiver.wait(1)
    assert twin.adapter.read_callback(_json(body)).outcome == NotDone("refused")
    assert await twin.look_up() == NotDone("refused")


@pytest.mark.parametrize("provider", ["income", "kyc"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"provider_request_id": "", "status": "success", "payload": {}},
        {"provider_request_id": 7, "status": "success", "payload": {}},
        {"provider_request_id": "app_1", "status": "success"},
        {"provider_request_id": "app_1", "status": "success", "payload": None},
        {"provider_request_id": "app_1", "status": "success", "payload": {"identity": "perhaps"}},
        {"provider_request_id": "app_1", "status": "maybe", "payload": {}},
        {"provider_request_id": "app_1", "status": ["failure"], "payload": {}},
    ],
)
def test_a_callback_that_is_not_understood_is_refused(provider: str, body: Mapping[str, Any]) -> None:
    adapter = adapters(Sandbox("http://127.0.0.1:1", None))[provider]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=provider):
        adapter.read_callback(body)


async def test_a_token_that_was_withdrawn_is_replaced_and_the_request_sent_once(sandbox: Sandbox) -> None:
    twin = real_twin(sandbox, "income")
    await twin.submit()
    await sandbox.script("income", Fault.UNAUTHORISED)
    assert isinstance(await twin.submit(application="app_2"), Accepted)
    summary = await sandbox.summary()
    assert summary["calls_by_endpoint"]["income_token"] == 2
    assert summary["executed"] == 2


async def test_fifty_calls_at_once_share_one_token(sandbox: Sandbox) -> None:
    twin = real_twin(sandbox, "income")
    outcomes = await asyncio.gather(*(twin.submit(application=f"app_{number}") for number in range(50)))
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert (await sandbox.summary())["calls_by_endpoint"]["income_token"] == 1


def _json(body: bytes) -> Mapping[str, Any]:
    value: Mapping[str, Any] = orjson.loads(body)
    return value
