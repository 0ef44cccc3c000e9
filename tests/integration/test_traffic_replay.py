"""A story told over real HTTP: behaviour first, a card's payments in order, and again when nobody could answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from faregate.infra.clock import SystemClock
from faregate.sandbox.traffic.replay import Played, Stage, StoryRefused, Told, replay
from faregate.sandbox.traffic.sessions import DURATION_S, Plot, frauds, tell

PLOT = Plot(seed=3, members=12, payments=60, takeovers=2)
STORY = tell(PLOT)
CAST = [Played(member_id=f"mbr_{n}", card_token=f"crd_{n}") for n in range(PLOT.members)]


@dataclass
class Listener:
    """Takes whatever it is told and declines what is large. Every so manieth request it is too busy for."""

    busy_every: int = 0
    refuses: bool = False
    requests: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    payments: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    first_payment_after: int = -1
    url: str = ""

    async def report(self, request: web.Request) -> web.Response:
        if (busy := self.busy(request)) is not None:
            return busy
        events = (await request.json())["events"]
        self.events += events
        return web.json_response({"events": [{"id": e["id"], "outcome": "accepted"} for e in events]})

    async def pay(self, request: web.Request) -> web.Response:
        if (busy := self.busy(request)) is not None:
            return busy
        body = await request.json()
        if not self.payments:
            self.first_payment_after = len(self.events)
        self.payments.append(body)
        self.keys.append(request.headers["Idempotency-Key"])
        status = "declined" if body["amount_minor"] > 10_000 else "authorised"
        answer = {"payment_id": f"pay_{len(self.payments)}", "status": status}
        return web.json_response(answer | {"flagged": body["amount_minor"] % 10 == 0}, status=201)

    def busy(self, request: web.Request) -> web.Response | None:
        assert request.headers["Authorization"] == "Bearer secret"
        self.requests += 1
        if self.refuses:
            return web.json_response({"detail": "no such card"}, status=404)
        if self.busy_every and self.requests % self.busy_every == 0:
            return web.json_response({}, status=503, headers={"Retry-After": "0"})
        return None


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[Listener]:
    app = web.Application()
    app.router.add_post("/api/fraud/events", listener.report)
    app.router.add_post("/api/payments/authorizations", listener.pay)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    listener.url = f"http://{host}:{port}"
    try:
        yield listener
    finally:
        await runner.cleanup()


async def told_to(listener: Listener, *, speed: float | None = None, **more: Any) -> Told:
    async with listening(listener), aiohttp.ClientSession() as session:
        stage = Stage(url=listener.url, token="secret", run="r1", speed=speed)
        return await replay(STORY, CAST, stage, session=session, clock=SystemClock(), **more)


@pytest.mark.requirement("F2")
async def test_flat_out_behaviour_goes_first_and_the_payments_of_a_card_follow_in_order() -> None:
    listener, order = Listener(), list[int]()

    async def between() -> None:
        order.append(len(listener.payments))

    told = await told_to(listener, between=between)
    behaviour = [act for act in STORY if act.kind != "payment"]
    assert listener.first_payment_after == len(behaviour) == told.events["accepted"]
    assert order == [0]
    for card in {payment["card_token"] for payment in listener.payments}:
        times = [p["occurred_at"] for p in listener.payments if p["card_token"] == card]
        assert times == sorted(times)
    assert told.payments == len(set(listener.keys)) == PLOT.payments


async def test_what_is_told_happened_in_the_last_hour_and_names_its_player() -> None:
    listener = Listener()
    await told_to(listener)
    now = datetime.now(UTC)
    for said in [*listener.events, *listener.payments]:
        assert timedelta() <= now - datetime.fromisoformat(said["occurred_at"]) <= timedelta(hours=1)
    assert {event["member_id"] for event in listener.events} <= {one.member_id for one in CAST}
    assert len({event["id"] for event in listener.events}) == len(listener.events)


async def test_the_summary_counts_answers_and_those_to_frauds_apart() -> None:
    listener = Listener()
    told = await told_to(listener)
    assert sum(told.answers[said] for said in ("declined", "declined, flagged")) == sum(
        payment["amount_minor"] > 10_000 for payment in listener.payments
    )
    flagged = sum(count for said, count in told.answers.items() if said.endswith("flagged"))
    assert flagged == sum(payment["amount_minor"] % 10 == 0 for payment in listener.payments)
    assert told.answers.total() == PLOT.payments
    assert told.frauds == len(list(frauds(STORY))) == told.answers_to_frauds.total()
    assert told.as_json()["payments"] == PLOT.payments


async def test_what_nobody_could_answer_is_told_again_under_the_same_key() -> None:
    listener = Listener(busy_every=3)
    told = await told_to(listener)
    assert told.payments == len(listener.payments) == len(set(listener.keys)) == PLOT.payments


async def test_at_a_speed_acts_happen_when_they_are_told_in_the_order_of_the_story() -> None:
    listener = Listener()
    began = datetime.now(UTC)
    told = await told_to(listener, speed=DURATION_S / 0.5)
    assert told.payments == PLOT.payments
    times = [datetime.fromisoformat(said["occurred_at"]) for said in [*listener.events, *listener.payments]]
    assert min(times) >= began
    assert max(times) <= datetime.now(UTC)


async def test_a_refusal_that_no_story_can_go_on_with_ends_it_by_name() -> None:
    for speed in (None, 10_000.0):
        with pytest.raises(StoryRefused, match="answered 404: no such card"):
            await told_to(Listener(refuses=True), speed=speed)


def test_a_number_of_a_card_is_in_no_repr() -> None:
    assert "4111" not in repr(Played(member_id="m", card_number="4111111111111111"))
