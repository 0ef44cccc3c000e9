"""The life of models on a running service: followed within a second, without a restart, without a wrong answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from faregate.features.payments import PAYMENTS
from faregate.fraud.api import Doing, ModelRegistry
from faregate.fraud.handlers.models import ModelNotFound, ModelUnusable
from faregate.fraud.handlers.registry import ModelNameInvalid, NothingToRollBackTo
from faregate.fraud.handlers.training import Trained
from faregate.fraud.store.artefacts import load_reasons
from tests.conftest import OpenDatabase
from tests.fraud_models import made_up
from tests.fraud_world import FraudWorld, fraud_of_test, new_payment  # noqa: F401

LARGE: dict[str, Any] = {"amount_minor": 199_000}


def doing() -> Doing:
    return Doing(by="ann", at=datetime.now(UTC), reason="why")


@pytest.fixture
async def registry(open_database: OpenDatabase) -> ModelRegistry:
    return ModelRegistry(database=await open_database("fraud"), declared=PAYMENTS, reasons=load_reasons())


async def registered(registry: ModelRegistry, trained: Trained) -> str:
    return (await registry.register(trained, name="payments", doing=doing())).label


async def answered_by(fraud: FraudWorld, label: str | None) -> dict[str, Any]:
    """Ask until a model answers; it takes a second at most."""
    async with asyncio.timeout(10):
        while True:
            answer = await fraud.decided(**LARGE)
            named = answer["model"]
            if (None if named is None else f"{named['name']}-{named['version']}") == label:
                return answer


@pytest.mark.requirement("F11")
async def test_a_model_is_activated_replaced_and_rolled_back_while_payments_are_decided(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    first, second = [await registered(registry, made_up(seed)) for seed in (0, 1)]
    assert (first, second) == ("payments-1", "payments-2")
    assert (await answered_by(fraud, None))["degraded"][-2:] == ["model_missing", "rules_missing"]
    await registry.activate(first, doing=doing())
    answer = await answered_by(fraud, first)
    assert "model_missing" not in answer["degraded"]
    await registry.activate(second, doing=doing())
    await answered_by(fraud, second)
    assert (await registry.roll_back(doing=doing())).label == first
    await answered_by(fraud, first)
    with pytest.raises(NothingToRollBackTo):
        await registry.roll_back(doing=doing())
    assert [act["kind"] for act in await registry.acts(limit=9)] == ["rolled_back", "activated", "activated"]


@pytest.mark.requirement("F10")
async def test_a_model_decides_by_the_thresholds_of_its_release_and_says_why(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    label = await registered(registry, made_up())
    await registry.activate(label, doing=doing())
    await answered_by(fraud, label)
    thresholds = made_up().release.thresholds
    member = {"member_id": "mbr_busy"}
    answers = [await fraud.decided(**LARGE, **member) for _ in range(12)]
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
    label = await registered(registry, made_up())
    await registry.activate(label, doing=doing())
    await answered_by(fraud, label)
    explained = await fraud.decided(new_payment(amount_minor=100_000), query="?explain=true")
    plain = await fraud.decided(new_payment(amount_minor=100_000))
    assert (explained["action"], plain["action"], plain["reasons"]) == ("approve", "approve", [])
    assert explained["reasons"]
    path = f"/decisions/{plain['decision_id']}"
    assert (await fraud.get(path)).json["answer"] == plain
    later = (await fraud.get(path + "?explain=true")).json["answer"]
    assert later["reasons"] == explained["reasons"]
    found = await fraud.get(f"/payments/{explained['payment_id']}/decision?explain=true")
    assert found.json["answer"] == explained


async def test_who_watches_is_recorded_and_never_answered(fraud: FraudWorld, registry: ModelRegistry) -> None:
    labels = [await registered(registry, made_up(seed)) for seed in (0, 1)]
    await registry.activate(labels[0], doing=doing())
    await registry.shadow(labels[1], doing=doing())
    async with asyncio.timeout(10):
        while True:
            answer = await fraud.decided(**LARGE)
            [seen] = [
                row["record"]["shadow"] for row in await fraud.rows() if row["id"] == answer["decision_id"]
            ]
            if seen and answer["model"]:
                break
    assert seen["model"]["version"] == 2
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


async def test_readiness_says_that_no_model_is_active_and_is_ready_all_the_same(
    fraud: FraudWorld, registry: ModelRegistry
) -> None:
    ready = await fraud.world.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["checks"]["fraud.model"] == "ok: no model is active"
    label = await registered(registry, made_up())
    await registry.activate(label, doing=doing())
    await answered_by(fraud, label)
    assert (await fraud.world.request("GET", "/readyz")).json["checks"]["fraud.model"] == "ok"
