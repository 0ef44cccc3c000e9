"""The failure matrix: what the scorer does, times the amount, is what the written policy says, in every cell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from faregate.payments.contracts.scoring import NoScore, Score
from faregate.payments.providers.scorer import DEADLINE_S, HttpScorer
from tests.payments_world import PaymentsWorld, open_payments, payments_of_module, shared_payments  # noqa: F401
from tests.scorer_twin import ScorerTwin
from tests.unit.test_payment_policy import ATTEMPT

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F9")]

SUPPORT = "Please contact customer support to complete your transaction"
AMOUNTS = (0, 4_999, 5_000, 100_000, 100_001)
GOOD, FLAGGED, DECLINED = (
    ("authorised", False, None),
    ("authorised", True, None),
    ("declined", False, SUPPORT),
)
WRITTEN = {
    "available": (GOOD, GOOD, GOOD, GOOD, GOOD),
    "unavailable": (GOOD, GOOD, FLAGGED, FLAGGED, DECLINED),
    "stale": (GOOD, GOOD, FLAGGED, FLAGGED, DECLINED),
    "model_missing": (GOOD, GOOD, FLAGGED, FLAGGED, FLAGGED),
}
"""The table of docs/howto/payments.md, for an answer that approves as far as there is one."""
BANDS = ("low", "low", "middle", "middle", "high")


@dataclass(frozen=True)
class Fault:
    """What the scorer does, and the state that this is."""

    state: str
    changes: dict[str, Any]
    missing: tuple[str, ...] = ("score",)


FAULTS = {
    "answers": Fault("available", {}, ()),
    "20 ms late": Fault("available", {"delay_s": 0.02}, ()),
    "server error": Fault("unavailable", {"status": 500}),
    "overloaded": Fault("unavailable", {"status": 503}),
    "key not known": Fault("unavailable", {"status": 401}),
    "no http": Fault("unavailable", {"raw": b"\x00\x01\x02"}),
    "cut in the middle": Fault(
        "unavailable", {"raw": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"decision_id'}
    ),
    "no json": Fault("unavailable", {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"}),
    "about another payment": Fault("unavailable", {"changes": {"payment_id": "pay_of_another"}}),
    "unknown action": Fault("unavailable", {"changes": {"action": "shrug"}}),
    "no action": Fault("unavailable", {"changes": {"action": None}}),
    "score of two": Fault("unavailable", {"changes": {"score": 2}}),
    "no features": Fault("stale", {"changes": {"degraded": ["features_missing"]}}, ("features_missing",)),
    "old features": Fault("stale", {"changes": {"degraded": ["features_stale"]}}, ("features_stale",)),
    "no rules": Fault("stale", {"changes": {"degraded": ["rules_missing"]}}, ("rules_missing",)),
    "no model": Fault("model_missing", {"changes": {"degraded": ["model_missing"]}}, ("model_missing",)),
}


LATE = {"200 ms late": {"delay_s": 0.2}, "never answers": {"is_silent": True}}


async def expect_the_written_cells(shared: PaymentsWorld, state: str, missing: tuple[str, ...]) -> None:
    """Try each amount; the answer, the row and what is kept for analysis are those of the written cell."""
    replies = [await shared.attempt(amount_minor=amount) for amount in AMOUNTS]
    found = [(r.json["status"], r.json["flagged"], r.json["message"]) for r in replies]
    assert found == list(WRITTEN[state])
    cells = [None if state == "available" else f"everything.{band}.{state}" for band in BANDS]
    assert [r.json["policy"] for r in replies] == [{"version": 1, "cell": cell} for cell in cells]
    assert {tuple(r.json["degraded"]) for r in replies} == {missing}
    rows = await shared.world.sql(
        "select payment_id, cell, outcome, is_flagged, missing from payments.degraded where payment_id = any(%(ids)s)",
        ids=[r.json["payment_id"] for r in replies],
    )
    kept = {row["payment_id"]: row for row in rows}
    wanted = {
        r.json["payment_id"]: {
            "payment_id": r.json["payment_id"],
            "cell": cell,
            "outcome": outcome,
            "is_flagged": is_flagged,
            "missing": list(missing),
        }
        for r, cell, (outcome, is_flagged, _) in zip(replies, cells, found, strict=True)
        if cell
    }
    assert kept == wanted


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_times_each_amount_is_the_written_cell(shared: PaymentsWorld, fault: str) -> None:
    for name, value in FAULTS[fault].changes.items():
        setattr(shared.scorer, name, value)
    await expect_the_written_cells(shared, FAULTS[fault].state, FAULTS[fault].missing)


@pytest.mark.parametrize("late", LATE)
async def test_what_is_too_late_is_unavailable_whatever_it_says(shared: PaymentsWorld, late: str) -> None:
    async with open_payments(shared.world.settings, shared.world.cache, deadline_ms=80) as hurried:
        for name, value in LATE[late].items():
            setattr(hurried.scorer, name, value)
        await expect_the_written_cells(hurried, "unavailable", ("score",))


async def test_a_scorer_that_is_down_is_unavailable_and_one_that_is_back_is_asked(
    shared: PaymentsWorld,
) -> None:
    await shared.scorer.stop()
    await expect_the_written_cells(shared, "unavailable", ("score",))
    await shared.scorer.start()
    reply = await shared.attempt(amount_minor=200_000)
    assert (reply.json["status"], reply.json["degraded"]) == ("authorised", [])


@pytest.mark.parametrize(
    ("country", "act", "code"),
    [("KP", None, "SANCTIONED_COUNTRY"), ("US", "block", "CARD_BLOCKED"), ("US", "close", "CARD_CLOSED")],
)
async def test_no_knock_out_is_approved_while_the_scorer_is_gone(
    shared: PaymentsWorld, country: str, act: str | None, code: str
) -> None:
    await shared.scorer.stop()
    card = await shared.card()
    if act is not None:
        await shared.post(f"/cards/{card}/status", {"act": act, "reason": "a test"})
    reply = await shared.attempt(card_token=card, amount_minor=1, country=country)
    assert (reply.json["status"], [r["code"] for r in reply.json["reasons"]]) == ("declined", [code])
    assert reply.json["degraded"] == []


@pytest_asyncio.fixture(loop_scope="module")
async def twin() -> AsyncIterator[ScorerTwin]:
    async with ScorerTwin().serving() as running:
        yield running


def hands(*at: float) -> Callable[[], float]:
    """Return a clock that shows these instants, one after the other."""
    times: Iterator[float] = iter(at)
    return lambda: next(times)


@pytest.mark.parametrize(
    ("waited_s", "is_taken"), [(0.079, True), (0.080, True), (0.0801, False), (0.081, False)]
)
async def test_an_answer_counts_up_to_80_milliseconds(
    twin: ScorerTwin, waited_s: float, is_taken: bool
) -> None:
    async with aiohttp.ClientSession() as session:
        scorer = HttpScorer(
            session=session, base_url=twin.url, key="k", monotonic=hands(0.0, waited_s), timer_s=60.0
        )
        asked = await scorer.score("pay_1", ATTEMPT)
    assert DEADLINE_S == 0.080
    assert isinstance(asked.came, Score if is_taken else NoScore)
    assert asked.waited_us == round(waited_s * 1e6)


async def test_connections_are_kept_and_shared_by_calls(twin: ScorerTwin) -> None:
    async with aiohttp.ClientSession() as session:
        scorer = HttpScorer(session=session, base_url=twin.url, key="k", timer_s=60.0, deadline_s=60.0)
        for _ in range(5):
            assert isinstance((await scorer.score("pay_1", ATTEMPT)).came, Score)
    assert twin.connections == 1


async def test_a_caller_who_goes_away_is_not_answered_by_the_deadline(twin: ScorerTwin) -> None:
    twin.is_silent = True
    async with aiohttp.ClientSession() as session:
        scorer = HttpScorer(session=session, base_url=twin.url, key="k", timer_s=60.0)
        call = asyncio.create_task(scorer.score("pay_1", ATTEMPT))
        await twin.was_asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
