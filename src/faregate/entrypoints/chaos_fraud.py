"""Starts a database and a scorer that fails, lets payments be decided, and times every caller beside a bare timer."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import orjson
from pydantic import SecretStr

from faregate.bench.chaos.payments import Call, PaymentsRun
from faregate.bench.chaos.scorer import HOST, dealt_to
from faregate.bench.children import guarded
from faregate.entrypoints.bootstrap.payments import http_scorer, payments_on
from faregate.entrypoints.local_client import site_of_system
from faregate.infra.clock import SystemClock
from faregate.infra.http.idempotency_store import Attempt as KeyAttempt
from faregate.infra.http.idempotency_store import KeyScope, StoredResponse
from faregate.infra.local_system import Plan, local_system
from faregate.infra.supervisor import free_port
from faregate.infra.telemetry.logs import configure_logging
from faregate.infra.telemetry.metrics import Metrics
from faregate.payments.api import METHOD, ROUTE, PaymentsApi, publish_first_policy
from faregate.payments.contracts.cards import Limit, NewCard
from faregate.payments.contracts.payments import AMOUNT_MAX, Attempt, PaymentChannel
from faregate.payments.contracts.scoring import Asked, Scorer
from faregate.payments.providers.scorer import DEADLINE_S

CLIENT: Final = "chaos"
CARDS: Final = 200
AMOUNTS: Final = (100, 4_999, 5_000, 50_000, 100_000, 100_001, 500_000)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudChaos:
    """How many payments are decided, how many a second, and the seed of what happens to each."""

    calls: int
    rate_per_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class TimedScorer:
    """The scorer, with the time for which each caller was held, and that of a bare timer set at the same moment.

    What the machine does to the loop meanwhile it does to both.
    """

    inner: Scorer
    waited_s: dict[str, float] = field(default_factory=dict)
    control_s: dict[str, float] = field(default_factory=dict)
    _controls: set[asyncio.Task[None]] = field(default_factory=set)

    async def score(self, payment_id: str, attempt: Attempt) -> Asked:
        """Return what came of it."""
        control = asyncio.create_task(self._control(payment_id))
        self._controls.add(control)
        control.add_done_callback(self._controls.discard)
        began = perf_counter()
        asked = await self.inner.score(payment_id, attempt)
        self.waited_s[payment_id] = perf_counter() - began
        return asked

    async def close(self) -> None:
        """Wait for the last timers."""
        await asyncio.gather(*self._controls)

    async def _control(self, payment_id: str) -> None:
        began = perf_counter()
        await asyncio.sleep(DEADLINE_S)
        self.control_s[payment_id] = perf_counter() - began


async def run_chaos_fraud(plan: FraudChaos, *, home: Path, say: Say) -> PaymentsRun:
    """Decide payments while the scorer fails, and return what came of it."""
    configure_logging(format="console", level=logging.ERROR)  # faults are meant here, and counted
    alone = Plan(home=home, temporary=True, apis=0, workers=0, sandbox=False)
    port = free_port(host=HOST)
    command = [sys.executable, "-m", "faregate.bench.chaos.scorer", str(port), str(plan.seed)]
    async with (
        local_system(alone) as system,
        AsyncExitStack() as stack,
        guarded(command, log=home / "scorer.log"),
    ):
        site = site_of_system(system)
        database = await site.database(stack, "payments")
        await publish_first_policy(database, clock=SystemClock())
        settings = site.settings.model_copy(
            update={"scorer_url": f"http://{HOST}:{port}", "scorer_key": SecretStr("chaos")}
        )
        scorer = TimedScorer(await http_scorer(stack, settings))
        api, writes = payments_on(database, settings, scorer=scorer, metrics=Metrics())
        stack.push_async_callback(writes.close)
        say("cards are issued")
        cards = await _cards(api)
        run = _Run(plan, api=api, scorer=scorer, cards=cards, say=say)
        seconds = await run.decide_all()
        return await run.judged(seconds=seconds)


class _Run:
    """One run."""

    def __init__(
        self, plan: FraudChaos, *, api: PaymentsApi, scorer: TimedScorer, cards: Sequence[str], say: Say
    ) -> None:
        self._plan, self._api, self._scorer, self._cards, self._say = plan, api, scorer, cards, say
        self._dice = random.Random(plan.seed)  # noqa: S311 - faults are to come again, not to be secret
        self._answers: list[bytes] = []  # read at the end: what is read now, the garbage collector walks over

    async def decide_all(self) -> float:
        """Begin calls at a steady rate; return how long all took."""
        gc.collect()
        gc.freeze()
        begin = perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(self._plan.calls):
                due = begin + number / self._plan.rate_per_s
                await asyncio.sleep(max(0.0, due - perf_counter()))
                group.create_task(self._call(number))
                if number % 1_000 == 0:
                    self._say(f"{number:,} of {self._plan.calls:,} payments")
        await self._scorer.close()
        return perf_counter() - begin

    async def judged(self, *, seconds: float) -> PaymentsRun:
        """Return what came of it, with what stands in the database."""
        policy = (await self._api.policy.now()).document
        written = {
            f"{table['name']}.{band['name']}.{state}": cell
            for table in policy["tables"]
            for band in table["bands"]
            for state, cell in band["cells"].items()
        }
        kept: Counter[str] = Counter()
        why: Counter[str] = Counter()
        for row in await self._api.degraded_counts(datetime(2000, 1, 1, tzinfo=UTC)):
            kept[row["cell"]] += row["decisions"]
            if row["why"]:
                why[row["why"]] += row["decisions"]
        return PaymentsRun(
            calls=[self._judged(orjson.loads(answer)) for answer in self._answers],
            written=written,
            kept=kept,
            seconds=seconds,
            why=why,
        )

    def _judged(self, answer: dict[str, Any]) -> Call:
        payment_id = answer["payment_id"]
        return Call(
            dealt=dealt_to(payment_id, self._plan.seed),
            waited_s=self._scorer.waited_s[payment_id],
            control_s=self._scorer.control_s[payment_id],
            amount_minor=answer["amount_minor"],
            status=answer["status"],
            is_flagged=answer["flagged"],
            degraded=answer["degraded"],
            cell=answer["policy"]["cell"],
        )

    async def _call(self, number: int) -> None:
        attempt = Attempt(
            card_token=self._cards[number % len(self._cards)],
            member_id=None,
            amount_minor=self._dice.choice(AMOUNTS),
            currency="USD",
            merchant="mer_chaos",
            merchant_category=5_812,
            channel=PaymentChannel.ONLINE,
            country="US",
            terminal_id=None,
            device_id=None,
            ip=None,
            ip_token=None,
            occurred_at=datetime.now(UTC),
        )
        scope = KeyScope(CLIENT, METHOD, ROUTE, f"chaos-{self._plan.seed}-{number}")
        answer = await self._api.authorise(KeyAttempt(scope, number.to_bytes(32)), attempt)
        if not isinstance(answer, StoredResponse):
            raise TypeError(f"payment {number} was not decided: {answer}")
        self._answers.append(answer.body)


async def _cards(api: PaymentsApi) -> list[str]:
    """Issue cards that no limit holds up."""
    limit = Limit(currency="USD", transaction_minor_max=AMOUNT_MAX, day_minor_max=AMOUNT_MAX)
    async with api.database.transaction() as conn:
        new = NewCard(member_id="mbr_000000000000000000000CHAOS", product="chaos", limits=[limit])
        return [(await api.desk.issue(conn, new, by=CLIENT)).token for _ in range(CARDS)]
