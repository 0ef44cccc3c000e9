"""The demo: 1,000 real applicants decided by the running system while the outside world misbehaves.

It starts everything in a home of its own, submits as a partner would, lets who was approved travel and pay, and
checks what must hold.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faregate.bench.partner import Partner, Submitted, wait_until
from faregate.bench.verdict import Verdict, judge, percentile
from faregate.credit.api import CreditApi
from faregate.entrypoints.demo_payments import Spending, pay_a_while
from faregate.entrypoints.demo_travel import Journeys, travel_a_while
from faregate.entrypoints.local_client import connected, new_token, set_faults
from faregate.gateway.api import summary as calls_summary
from faregate.infra.embedded import embedded_servers
from faregate.infra.local_system import LocalSystem, Plan
from faregate.infra.settings import Settings
from faregate.kernel.errors import UnavailableError
from faregate.sandbox.people import application, rows
from faregate.sandbox.plans import PLANS

DECIDED_S_MAX = 150.0
MISBEHAVIOUR = "rough"
CROSS_FITTED = "german-1-cross-fitted"
OUT_OF_FOLD = "no applicant scored by a card that saw it"


class DemoRunning(UnavailableError):
    """A demo runs already in this home folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything that the demo measured and checked."""

    submitted: Submitted
    verdict: Verdict
    calls: list[dict[str, Any]]
    example: str
    journeys: Journeys
    spending: Spending

    @property
    def checks(self) -> Mapping[str, bool]:
        """Everything that must hold, by its sentence."""
        return {**self.verdict.checks, **self.spending.checks, **self.journeys.checks}


@contextmanager
def fresh_home(home: Path) -> Iterator[Path]:
    """Give an empty folder that nobody else uses; what an earlier demo left there is removed."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoRunning(f"a demo runs already in {home}; end it first, or set FAREGATE_HOME") from None
        if home.exists():
            with embedded_servers(home):
                pass  # Joining and leaving stops servers that a killed demo left behind.
            shutil.rmtree(home)
        yield home


def demo_plan(settings: Settings, home: Path) -> Plan:
    """Return what the demo runs: out-of-fold scores, default ports where they are free."""
    return Plan(
        home=home,
        workers=1,
        api_port=settings.api_port,
        sandbox_port=settings.sandbox_port,
        environment={"FAREGATE_SCORECARD": CROSS_FITTED},
    )


async def run_demo(system: LocalSystem, *, applicants: int, console: Console) -> tuple[DemoReport, str]:
    """Submit the applicants, wait for their decisions, check; return the report and the API token."""
    async with connected(system) as (site, credit, session):
        await set_faults(session, system, PLANS[MISBEHAVIOUR])
        token = await new_token(site, client_id="demo-partner")
        partner = Partner(
            session=session, urls=system.api_urls, token=token, body_of=application, run=uuid4().hex[:8]
        )
        submitted = await _submit_and_wait(partner, credit, applicants, console)
        verdict = await judge(
            credit=credit, session=session, sandbox_url=system.sandbox_url, submitted=submitted
        )
        out_of_fold = all(card.startswith(f"{CROSS_FITTED}#") for card in verdict.scorecards)
        verdict = replace(verdict, checks={**verdict.checks, OUT_OF_FOLD: out_of_fold})
        async with credit.database.connection() as conn:
            calls = await calls_summary(conn)
        example = await _example(partner, submitted)
    approved = sum(outcome == "approved" for outcome in verdict.outcomes.values())
    journeys = await travel_a_while(system, approved=approved, applicants=applicants, console=console)
    spending = await pay_a_while(system, approved=approved, console=console)
    report = DemoReport(
        submitted=submitted,
        verdict=verdict,
        calls=calls,
        example=example,
        journeys=journeys,
        spending=spending,
    )
    return report, token


async def _submit_and_wait(
    partner: Partner, credit: CreditApi, applicants: int, console: Console
) -> Submitted:
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sent = progress.add_task("submitted", total=applicants)
        done = progress.add_task("decided", total=applicants)

        async def all_decided() -> bool:
            counts = dict(await credit.counts_by_status())
            processing = counts.pop("processing", 0)
            progress.update(done, completed=sum(counts.values()))
            return processing == 0 and sum(counts.values()) >= applicants

        waiting = asyncio.create_task(wait_until(all_decided, timeout_s=DECIDED_S_MAX))
        await partner.submit(range(applicants), on_progress=lambda n: progress.update(sent, completed=n))
        await waiting
    return partner.submitted


async def _example(partner: Partner, submitted: Submitted) -> str:
    """Return an application that was denied, since its decision shows the most; else any."""
    for application_id in submitted.application_ids.values():
        _, decision = await partner.read(application_id, "/decision")
        if decision.get("outcome") == "denied":
            return application_id
    return next(iter(submitted.application_ids.values()))


def summary_of(report: DemoReport) -> dict[str, Any]:
    """Return the report as one JSON document: every figure, every check by name."""
    submitted, verdict = report.submitted, report.verdict
    sent = sorted(submitted.latencies_s)
    waited = verdict.decision_latencies_s
    return {
        "name": "demo",
        "applications": len(submitted.application_ids),
        "submits_per_s": round(sum(submitted.answers.values()) / submitted.seconds, 1),
        "submit_ms": {f"p{p}": round(percentile(sent, p) * 1000, 1) for p in (50, 95, 99)},
        "decision_s": {f"p{p}": round(percentile(waited, p), 3) for p in (50, 95, 99)},
        "answers": {str(status): n for status, n in submitted.answers.items()} | {"broken": submitted.broken},
        "replayed_answers": submitted.replays,
        "states": dict(verdict.states),
        "outcomes": outcome_table(report),
        "provider_calls": provider_calls(report),
        "audit_replayed": verdict.replayed,
        "payments": report.spending.document(),
        "travel": report.journeys.document(),
        "checks": dict(report.checks),
    }


def outcome_table(report: DemoReport) -> dict[str, dict[str, int]]:
    """Return how many good and bad payers got each outcome."""
    table = {outcome: {"good": 0, "bad": 0} for outcome in ("approved", "manual_review", "denied")}
    creditability = [row["creditability"] for row in rows()]
    for number, application_id in report.submitted.application_ids.items():
        outcome = report.verdict.outcomes.get(application_id)
        if outcome is not None:
            table[outcome][creditability[number % len(creditability)]] += 1
    return table


def provider_calls(report: DemoReport) -> dict[str, int]:
    """Return the calls made and executed, executed twice for one check, and unknown ones resolved later."""
    world = report.verdict.world
    resolved = [row for row in report.calls if row["state"] in ("done", "not_done")]
    return {
        "requests": world["calls"],
        "executed": world["executed"],
        "executed_twice_for_one_check": world["duplicates"],
        "repeats_recognised_by_providers": world["deduplicated"],
        "unknown_then_resolved": sum(row["was_unknown"] for row in resolved),
        "still_unknown": sum(row["intents"] for row in report.calls if row["state"] == "unknown"),
    }
