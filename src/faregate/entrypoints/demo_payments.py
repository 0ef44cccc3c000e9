"""The demo's payments: members pay while accounts are taken over; fraud is caught, points are earned."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faregate.bench.partner import wait_until
from faregate.entrypoints.bootstrap.fraud import fraud_registry
from faregate.entrypoints.bootstrap.fraud_training import train_on_benchmark
from faregate.entrypoints.bootstrap.payments import operators_payments
from faregate.entrypoints.local_client import new_token
from faregate.entrypoints.trips import Lookout, looking_at
from faregate.features.keeping import GROUP
from faregate.fraud.handlers.registry import Doing
from faregate.fraud.handlers.training import Aims
from faregate.infra.clock import SystemClock
from faregate.infra.eventlog import lag, unsequenced
from faregate.infra.local_system import LocalSystem
from faregate.payments.api import PaymentsApi
from faregate.points.api import PointsApi
from faregate.sandbox.traffic.replay import Played, Stage, Told, replay
from faregate.sandbox.traffic.sessions import Plot, tell

MEMBERS_MAX: Final = 60
PAYMENTS_EACH: Final = 6
ROBBED: Final = 8
"""One of so many members' accounts is taken over."""
LEARNT_FROM: Final = 300
"""The model learns from the payments of so many simulated customers: enough to be one, and soon done."""
READY_S_MAX: Final = 90.0
CAUGHT_MIN: Final = 0.8
PASSED_MIN: Final = 0.8
SCOPES: Final = ("fraud:events", "payments:authorise", "payments:write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What members and thieves paid, and what came of it."""

    told: Told
    planned: int
    model: str
    captured: Mapping[str, int]
    earned: frozenset[str]

    @property
    def checks(self) -> Mapping[str, bool]:
        """What must hold, by its sentence."""
        told = self.told
        caught = told.frauds - told.answers_to_frauds["authorised"]
        honest, passed = told.payments - told.frauds, len(told.passed) - told.answers_to_frauds["authorised"]
        return {
            "every payment was answered": told.payments == self.planned,
            "four of five payments by thieves are declined or flagged": caught >= CAUGHT_MIN * told.frauds,
            "four of five payments by members pass without a flag": passed >= PASSED_MIN * honest,
            "every captured payment earned its points": self.captured.keys() == self.earned,
        }

    def document(self) -> dict[str, Any]:
        """Return the figures."""
        told = self.told
        return {
            "asked": told.payments,
            **{said.replace(", ", "_"): count for said, count in sorted(told.answers.items())},
            "by_thieves": told.frauds,
            **{
                f"by_thieves_{said.replace(', ', '_')}": count
                for said, count in sorted(told.answers_to_frauds.items())
            },
            "captured": len(self.captured),
            "payments_a_second": round(told.payments / told.seconds, 1),
        }


async def pay_a_while(system: LocalSystem, *, approved: int, console: Console) -> Spending:
    """Train a model, wait for the members' cards, tell the system a story of payments, and capture what passed."""
    async with looking_at(system) as lookout:
        model = await _first_model(lookout, system)
        payments = await operators_payments(lookout.stack, lookout.site)
        cast = await _cast(payments, count=max(1, min(MEMBERS_MAX, approved)))
        plot = Plot(
            seed=1, members=len(cast), payments=PAYMENTS_EACH * len(cast), takeovers=len(cast) // ROBBED
        )
        token = await new_token(lookout.site, client_id="demo-acquirer", scopes=SCOPES)
        told = await _tell(lookout, system, plot, cast, token=token, console=console)
        # Less than a unit of money earns nothing.
        captured = {payment: amount for payment, amount in told.passed.items() if amount >= 100}
        for payment in captured:
            await _capture(lookout.session, system, payment, token=token)
        return Spending(
            told=told,
            planned=plot.payments,
            model=model,
            captured=captured,
            earned=await _earned(lookout.ledger, cast, captured),
        )


async def _first_model(lookout: Lookout, system: LocalSystem) -> str:
    """Train a model and let it decide; return its name once the scorer has it."""
    trained = await asyncio.to_thread(
        train_on_benchmark, customers=LEARNT_FROM, aims=Aims(), say=lambda _: None
    )
    registry = await fraud_registry(lookout.stack, lookout.site)
    doing = Doing(by="demo", at=SystemClock().now(), reason="the demo's first model")
    version = await registry.register(trained, name="payments", doing=doing)
    await registry.activate(version.label, doing=doing)

    async def is_loaded() -> bool:
        async with lookout.session.get(f"{system.api_url}/readyz") as answer:
            said: Mapping[str, Any] = await answer.json()
            return bool(said["checks"]["fraud.model"] == "ok")

    await wait_until(is_loaded, timeout_s=READY_S_MAX)
    return version.label


async def _cast(payments: PaymentsApi, *, count: int) -> Sequence[Played]:
    """Wait until so many members have cards, and return them."""

    async def are_issued() -> bool:
        return len(await payments.cards(limit=count)) >= count

    await wait_until(are_issued, timeout_s=READY_S_MAX)
    return [
        Played(member_id=card.member_id, card_token=card.token) for card in await payments.cards(limit=count)
    ]


async def _tell(
    lookout: Lookout, system: LocalSystem, plot: Plot, cast: Sequence[Played], *, token: str, console: Console
) -> Told:
    log = await lookout.site.database(lookout.stack, "eventlog", connections_max=1)

    async def features_have_all() -> bool:
        async with log.connection() as conn:
            behind = await lag(conn, groups=[GROUP])
            return not (await unsequenced(conn)).events and bool(behind) and not behind[0].events

    async def caught_up() -> None:
        await wait_until(features_have_all, timeout_s=READY_S_MAX)

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        paid = progress.add_task("paid", total=plot.payments)
        return await replay(
            tell(plot),
            cast,
            Stage(url=system.api_url, token=token, run="demo", at_once=4),
            session=lookout.session,
            clock=SystemClock(),
            between=caught_up,
            say=lambda done: progress.update(paid, completed=done),
        )


async def _capture(session: aiohttp.ClientSession, system: LocalSystem, payment: str, *, token: str) -> None:
    async with session.post(
        f"{system.api_url}/api/payments/authorizations/{payment}/capture",
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"capture-{payment}",
        },
        data=orjson.dumps({}),
    ) as answer:
        answer.raise_for_status()


async def _earned(ledger: PointsApi, cast: Sequence[Played], captured: Mapping[str, int]) -> frozenset[str]:
    """Return those of the payments for which points were posted, once that are all, or after a while."""
    found: set[str] = set()

    async def all_earned() -> bool:
        for one in cast:
            page = await ledger.operations(one.member_id, before=None, limit=200)
            keys = (operation.key for operation in page.operations)
            found.update(key.removeprefix("capture:") for key in keys if key.startswith("capture:"))
        return captured.keys() <= found

    await wait_until(all_earned, timeout_s=READY_S_MAX)
    return frozenset(found)
