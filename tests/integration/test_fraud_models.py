"""The life of models on a running service: followed within a second, without a restart, without a wrong answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio

from faregate.entrypoints.bootstrap.fraud import fraud_registry
from faregate.fraud.api import Doing, ModelRegistry
from faregate.fraud.handlers.models import ModelNotFound, ModelUnusable
from faregate.fraud.handlers.registry import ModelNameInvalid, previous
from faregate.fraud.handlers.training import Trained
from tests.credit_world import Reply
from tests.fraud_models import made_up
from tests.fraud_world import FraudWorld, fraud_of_module, new_payment  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE: dict[str, Any] = {"amount_minor": 29_000, "channel": "in_store", "device_id": None, "ip": None}
"""What no rule minds."""


def doing() -> Doing:
    return Doing(by="ann", at=datetime.now(UTC), reason="why")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(fraud: FraudWorld) -> AsyncIterator[ModelRegistry]:
    async with AsyncExitStack() as stack:
        yield await fraud_registry(stack, fraud.world.site)


async def registered(registry: ModelRegistry, trained: Trained) -> str:
    return (await registry.register(trained, name="payments", doing=doing())).label


async def in_force(fraud: FraudWorld, registry: ModelRegistry, trained: Trained) -> str:
    """Let a model decide, and return how it is called once it does."""
    label = await registered(registry, trained)
    await registry.activate(label, doing=doing())
    await answered_by(fraud, label)
    return label


async def answered_by(fraud: FraudWorld, label: str | None) -> dict[str, Any]:
    """Ask until a model answers; it takes a second at most."""
    async with asyncio.timeout(10):
        while True:
            answer = await fraud.decided(**LARGE)
            named = answer["model"]
            if (None if named is None else f"{named['name']}-{named['version']}") == label:
                return answer


async def test_readiness_says_that_no_model_is_active_and_is_ready_all_the_same(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    ready = await fraud.world.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["checks"]["fraud.model"] == "ok: no model is active"
    assert (await fraud.decided())["degraded"][-1] == "model_missing"
    await in_force(fraud, registry, made_up())
    assert (await fraud.world.request("GET", "/readyz")).json["checks"]["fraud.model"] == "ok"


@pytest.mark.requirement("F11")
async def test_a_model_is_activated_replaced_and_rolled_back_while_payments_are_decided(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    first = await in_force(fraud, registry, made_up())
    second = await in_force(fraud, registry, made_up(1))
    assert first != second
    assert (await registry.roll_back(doing=doing())).label == first
    await answered_by(fraud, first)
    acts = await registry.acts(limit=2)
    assert [(act["kind"], act["by"], act["reason"]) for act in acts] == [
        ("rolled_back", "ann", "why"),
        ("activated", "ann", "why"),
    ]


A, B, C = (("payments", number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("acts", "before"),
    [
        ("", None),
        ("+A", None),
        ("+A+A", None),
        ("+A+B", A),
        ("+A+B+B", A),
        ("+A+B-A", None),
        ("+A+B+C", B),
        ("+A+B+C-B", A),
        ("+A+B+C-B-A", None),
        ("+A+B-A+C", A),
        ("+A+B+A", B),
    ],
)
async def test_a_roll_back_goes_on_backwards_and_never_returns_to_what_was_rolled_back(
    acts: str, before: tuple[str, int] | None
) -> None:
    named = {"A": A, "B": B, "C": C}
    history = [
        {
            "kind": "activated" if sign == "+" else "rolled_back",
            "name": named[letter][0],
            "version": named[letter][1],
        }
        for sign, letter in zip(acts[::2], acts[1::2], strict=True)
    ]
    assert previous(history) == before


@pytest.mark.requirement("F10")
async def test_a_model_decides_by_the_thresholds_of_its_release_and_says_why(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    await in_force(fraud, registry, made_up())
    thresholds = made_up().release.thresholds
    member = {"member_id": "mbr_busy"}
    now = datetime.now(UTC)
    times = [(now - timedelta(minutes=55 - 5 * number)).isoformat() for number in range(12)]
    answers = [await fraud.decided(**LARGE, **member, occurred_at=at) for at in times]
    assert answers[-1]["action"] == "decline"
    for answer in answers:
        at = {"approve": (0, thresholds.review_at), "decline": (thresholds.decline_at, 1.01)}
        low, high = at.get(answer["action"], (thresholds.review_at, thresholds.decline_at))
        assert low <= answer["score"] < high
        assert bool(answer["reasons"]) == (answer["action"] != "approve")
    assert {reason["code"] for reason in answers[-1]["reasons"]} >= {"AMOUNT", "MEMBER_VELOCITY"}


async def test_an_approval_is_explained_on_request_then_and_later(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    await in_force(fraud, registry, made_up())
    explained = await fraud.decided(new_payment(**LARGE), query="?explain=true")
    plain = await fraud.decided(new_payment(**LARGE))
    assert (explained["action"], plain["action"], plain["reasons"]) == ("approve", "approve", [])
    assert explained["reasons"]
    path = f"/decisions/{plain['decision_id']}"
    assert (await fraud.get(path)).json["answer"] == plain
    later = (await fraud.get(path + "?explain=true")).json["answer"]
    assert later["reasons"] == explained["reasons"]
    found = await fraud.get(f"/payments/{explained['payment_id']}/decision?explain=true")
    assert found.json["answer"] == explained


async def test_who_watches_is_recorded_and_never_answered(fraud: FraudWorld, registry: ModelRegistry) -> None:
    await in_force(fraud, registry, made_up())
    await registry.shadow(await registered(registry, made_up(1)), doing=doing())
    async with asyncio.timeout(10):
        while True:
            answer = await fraud.decided(**LARGE)
            [seen] = [row["record"]["shadow"] for row in await fraud.rows(answer)]
            if seen and answer["model"]:
                break
    assert seen["model"]["version"] != answer["model"]["version"]
    assert 0 < seen["model"]["score"] < 1
    assert "shadow" not in answer
    await registry.shadow(None, doing=doing())
    assert (await registry.versions())[1].shadow is None


async def test_what_was_trained_on_other_definitions_is_refused(registry: ModelRegistry) -> None:
    document = made_up().release.document()
    inputs = [{**one, "definition": "0" * 16} for one in document["inputs"]]
    other = Trained(
        content=made_up().content, release=type(made_up().release).of({**document, "inputs": inputs})
    )
    label = await registered(registry, other)
    with pytest.raises(ModelUnusable, match="other definitions of amount_minor"):
        await registry.activate(label, doing=doing())
    with pytest.raises(ModelNotFound):
        await registry.activate("payments-99", doing=doing())
    for bad in ("payments", "payments-0", "payments-x", "-1"):
        with pytest.raises((ModelNameInvalid, ModelNotFound)):
            await registry.activate(bad, doing=doing())


async def test_the_same_model_is_registered_once(registry: ModelRegistry) -> None:
    assert await registered(registry, made_up()) == await registered(registry, made_up())


async def test_models_are_managed_over_http_as_by_command(fraud: FraudWorld, registry: ModelRegistry) -> None:
    first, second = [await registered(registry, made_up(seed)) for seed in (0, 1)]

    async def post(path: str, body: dict[str, Any], *, client: str = "payments") -> Reply:
        headers = {"Content-Type": "application/json"}
        path = f"/api/fraud/models/{path}"
        return await fraud.world.request(
            "POST", path, client=client, headers=headers, data=orjson.dumps(body)
        )

    assert (await post("activation", {"model": first, "reason": "first"})).json == {"model": first}
    assert (await post("activation", {"model": second, "reason": "finds more"})).json == {"model": second}
    assert (await post("shadow", {"model": first, "reason": "beside"})).json == {"model": first}
    listed = (await fraud.get("/models")).json
    assert (listed["active"], listed["shadow"]) == (second, first)
    assert {first, second} <= {row["model"] for row in listed["models"]}
    assert (await post("roll-back", {"reason": "declines too much"})).json == {"model": first}
    assert (await registry.acts(limit=1))[0]["by"] == "client:payments"
    assert (await post("shadow", {"model": None, "reason": "enough"})).json == {"model": None}
    assert (await post("activation", {"model": "payments-99", "reason": "x"})).problem == (
        404,
        "model-not-found",
    )
    assert (await post("activation", {"model": "payments", "reason": "x"})).problem == (
        400,
        "model-name-invalid",
    )
    assert (await post("activation", {"model": first})).problem == (422, "validation-failed")
    await fraud.world.add_key("only_reads", client="payments", scopes=["fraud:read"])
    refused = await post("activation", {"model": first, "reason": "x"}, client="only_reads")
    assert refused.problem == (403, "scope-missing")
