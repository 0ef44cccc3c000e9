"""Decisions are computed again from what was recorded, and come out the same to the last bit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from faregate.bench.payment_load import payment as payment_of_load
from faregate.entrypoints.bootstrap.fraud import fraud_api, fraud_registry, fraud_replayer
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.fraud.api import Doing, FraudApi, Replayer
from faregate.fraud.routes.forms import ScoreForm
from faregate.fraud.routes.scoring import payment_of
from faregate.infra.admission import LoopLag
from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.fraud_models import made_up
from tests.fraud_world import PATIENT

PAYMENTS = 2_000
AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Fraud in this process, and what computes its decisions again."""

    fraud: FraudApi
    replayer: Replayer

    async def score(self, count: int) -> None:
        """Decide payments of all kinds, some with an explanation."""
        draw, begin = random.Random(1), datetime.now(UTC) - timedelta(minutes=50)
        for first in range(0, count, AT_ONCE):
            told = (
                payment_of_load(number, run="r", draw=draw, at=begin + timedelta(seconds=number))
                for number in range(first, first + AT_ONCE)
            )
            forms = [
                ScoreForm.model_validate({**one, "country": "KP"} if number % 40 == 0 else one)
                for number, one in enumerate(told)
            ]
            await asyncio.gather(
                *(
                    self.fraud.score(
                        payment_of(form, self.fraud, now=datetime.now(UTC)),
                        client_id="payments",
                        explain=number % 20 == 0,
                    )
                    for number, form in enumerate(forms)
                )
            )


@pytest.fixture
async def desk(settings: Settings, cache: Cache) -> AsyncIterator[Desk]:
    """Fraud with a model that decides, another that watches, and the first ruleset."""
    assert settings.database_url
    assert settings.valkey_url
    site = Site(
        settings=settings.model_copy(update=PATIENT),
        database_url=settings.database_url.get_secret_value(),
        valkey_url=settings.valkey_url.get_secret_value(),
    )
    async with AsyncExitStack() as stack:
        registry = await fraud_registry(stack, site)
        doing = Doing(by="ann", at=datetime.now(UTC))
        labels = [
            (await registry.register(made_up(seed), name="payments", doing=doing)).label for seed in (0, 1)
        ]
        await registry.activate(labels[0], doing=doing)
        await registry.shadow(labels[1], doing=doing)
        yield Desk(
            fraud=await fraud_api(Process(stack, site), loop_lag=LoopLag()),
            replayer=await fraud_replayer(stack, site),
        )


@pytest.mark.requirement("F10")
async def test_thousands_of_decisions_come_out_the_same_to_the_last_bit(desk: Desk) -> None:
    await desk.score(PAYMENTS)
    found = await desk.replayer.replay(last=PAYMENTS)
    assert (found.decisions, found.differing, found.differences) == (PAYMENTS, 0, [])
    assert found.scored > PAYMENTS / 2
    assert found.explained > PAYMENTS / 100
    assert set(found.by_action) == {"approve", "decline", "review"}


CHANGES = {
    "score": "{answer,score}",
    "action": "{answer,action}",
    "reasons": "{answer,reasons}",
    "thresholds": "{thresholds,review_at}",
    "rules": "{rules,fired}",
}
VALUES = {"score": "0.5", "action": '"decline"', "reasons": "[]", "thresholds": "0.123", "rules": '["x"]'}


async def test_whatever_comes_out_otherwise_is_found_and_shown(desk: Desk) -> None:
    await desk.score(AT_ONCE)
    async with desk.fraud.database.connection() as conn:
        [chosen] = await (
            await conn.execute(
                "select id from fraud.decision where score is not null and action = 'approve'"
                " and json_array_length(record->'answer'->'reasons') > 0 limit 1"
            )
        ).fetchall()
        for number, (what, path) in enumerate(CHANGES.items()):
            await conn.execute(
                "insert into fraud.decision select %(id)s, decided_at, payment_id, false, action, score, amount_minor,"
                " currency, card_token, degraded, jsonb_set(record::jsonb, %(path)s::text[], %(value)s::jsonb)::json"
                " from fraud.decision where id = %(of)s",
                {"id": f"dec_Z{number}", "of": chosen["id"], "path": path, "value": VALUES[what]},
            )
    found = await desk.replayer.replay(last=AT_ONCE + len(CHANGES))
    assert found.differing == len(CHANGES)
    assert [one.what for one in found.differences] == list(CHANGES)
    assert found.differences[0].recorded == 0.5


async def test_two_floats_that_only_look_alike_are_told_apart() -> None:
    from faregate.fraud.handlers.replay import bits

    assert bits(0.1 + 0.2) != bits(0.3)
    assert bits([{"a": -0.0}]) != bits([{"a": 0.0}])
    assert bits(orjson.loads(orjson.dumps(0.1 + 0.2))) == bits(0.1 + 0.2)
