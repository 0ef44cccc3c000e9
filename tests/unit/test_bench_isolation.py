"""The baselines beside our isolation, and what is concluded from a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from faregate.bench.isolation import (
    Hanging,
    IsolationPlan,
    IsolationPlanInvalid,
    Settling,
    SharedPool,
    Storm,
    at_rate,
    naive_retry,
    result_of,
    settling_of,
)
from faregate.gateway.contracts import ProviderRequest
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown
from tests.integration.gateway_world import ScriptedProvider, until

REQUEST = ProviderRequest(provider_request_id="app_1:fraud:1", subject={})
REFUSAL = NotDone("unavailable", retryable=True)


def rows(check: str, *seconds: float | None, is_done: bool = True) -> list[dict[str, Any]]:
    return [{"check_name": check, "seconds": s, "is_done": is_done} for s in seconds]


def settling(p99: float, *, answered: float = 1.0) -> Settling:
    return Settling(seconds={"kyc": [p99] * 10}, answered_share=answered)


def failed(*, calls: int = 100, factor: float = 1.0, answered: float = 1.0, undecided: int = 0) -> list[str]:
    result = result_of(
        storm=Storm(wanted=100, calls=calls),
        naive=Storm(wanted=100, calls=400),
        ours=Hanging(without=settling(1.0), hanging=settling(factor, answered=answered)),
        shared=Hanging(without=settling(1.0), hanging=settling(9.0)),
        undecided=undecided,
        plan=IsolationPlan(),
    )
    return [sentence.split()[1] for sentence, held in result.checks.items() if not held]


@pytest.mark.parametrize(
    ("answers", "sends"),
    [
        ([REFUSAL] * 9, 4),
        ([REFUSAL, REFUSAL, Done({})], 3),
        ([NotDone("refused", retryable=False)], 1),
        ([Unknown("timeout")], 1),
    ],
)
async def test_a_naive_retry_sends_four_times_at_most(
    answers: Sequence[Outcome], sends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faregate.bench.isolation.NAIVE_BACKOFF_S", 0.0)
    provider = ScriptedProvider(script=list(answers))
    await naive_retry(provider, REQUEST, timeout_s=1.0)
    assert len(provider.sent) == sends


async def test_in_a_shared_pool_a_hanging_provider_takes_the_places_of_the_others() -> None:
    released = asyncio.Event()

    async def hang() -> Outcome:
        await released.wait()
        return Unknown("timeout")

    slow, quick = ScriptedProvider(script=[hang, hang]), ScriptedProvider(script=[Accepted(1.0)])
    pool = SharedPool({"fraud": slow, "kyc": quick}, slots=2, timeout_s=1.0)
    asked = [asyncio.create_task(pool.ask(check, REQUEST)) for check in ("fraud", "fraud", "kyc")]
    await until(lambda: len(slow.sent) == 2)
    assert not quick.sent
    released.set()
    found = await asyncio.gather(*asked)
    assert [row["check_name"] for row in found] == ["fraud", "fraud", "kyc"]
    assert found[2]["is_done"]


async def test_work_begins_at_its_rate_although_nothing_ends() -> None:
    everything_began, begun = asyncio.Event(), 0

    async def begin(number: int) -> list[dict[str, Any]]:
        nonlocal begun
        begun += 1
        if begun == 5:
            everything_began.set()
        await everything_began.wait()
        return [{"number": number}]

    found = await at_rate(5, per_s=500.0, begin=begin)
    assert [row["number"] for row in found] == [0, 1, 2, 3, 4]


def test_what_the_hanging_provider_does_is_not_counted_among_the_others() -> None:
    found = settling_of(
        [*rows("kyc", 1.0, 2.0), *rows("fraud", 99.0), *rows("income", None, is_done=False)], without="fraud"
    )
    assert found.seconds == {"kyc": [1.0, 2.0]}
    assert found.answered_share == pytest.approx(2 / 3)


def test_the_check_that_feels_most_counts() -> None:
    without = Settling(seconds={"kyc": [1.0] * 9, "income": [2.0] * 9}, answered_share=1.0)
    hanging = Settling(seconds={"kyc": [1.5] * 9, "income": [2.0] * 9}, answered_share=1.0)
    assert Hanging(without=without, hanging=hanging).factors == {"income": 1.0, "kyc": 1.5}
    assert Hanging(without=without, hanging=hanging).worst_factor == 1.5


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, []),
        ({"calls": 110, "factor": 1.2, "answered": 0.999}, []),
        ({"calls": 111}, ["failing"]),
        ({"calls": 0}, ["failing"]),  # nothing was asked, so nothing was shown
        ({"factor": 1.21}, ["hanging"]),
        ({"answered": 0.998}, ["others"]),
        ({"undecided": 1}, ["everything"]),
    ],
)
def test_each_broken_promise_fails_its_own_check(changed: dict[str, Any], what: list[str]) -> None:
    assert [word.rstrip(",") for word in failed(**changed)] == what


@pytest.mark.parametrize("wrong", [{"per_s": 0.0}, {"round_s": -1.0}, {"rounds": 0}, {"slots": 0}])
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(IsolationPlanInvalid):
        IsolationPlan(**wrong)
