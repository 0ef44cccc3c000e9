"""Runs `bench.ledger` on a system of its own: ours beside the rivals, then what only ours has."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from faregate.bench.ledger.drive import Driver
from faregate.bench.ledger.ours import OurLedger
from faregate.bench.ledger.port import LedgerUnderTest
from faregate.bench.ledger.rivals import QUERIES, AtomicUpdate, ForUpdate
from faregate.bench.ledger.run import ENDOWMENT, LedgerPlan, Measured, endow, measure
from faregate.bench.ledger.workload import Skew, accounts_of, transfers
from faregate.bench.loadgen import Load, LoadReport, generate
from faregate.bench.report import BenchResult, target
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.local_client import UNLIMITED, site_of_system
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.http.api_keys import create_api_key
from faregate.infra.http.client_limits import SUBMIT, set_client_limit
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.telemetry.logs import configure_logging
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Burn, Earn, Operation, Reverse

OURS, FOR_UPDATE, ATOMIC = "ours", "SELECT FOR UPDATE", "atomic UPDATE"
RIVAL_CONNECTIONS = 20
LOTS, LOT_AMOUNT, LOT_DAYS = 10_000, 100, 1_095
SPENDS = 25
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBench:
    """What is measured. `sizes`: entries in the ledger at which a transfer's cost is measured."""

    plan: LedgerPlan
    sizes: Sequence[int] = (10_000, 1_000_000)
    http_requests: int = 6_000


async def bench_ledger(wanted: LedgerBench, *, home: Path, say: Say) -> BenchResult:
    """Measure on a fresh system, with fsync on."""
    configure_logging(format="console", level=logging.ERROR)
    alone = Plan(home=home, temporary=True, apis=0, workers=0, sandbox=False)
    async with local_system(alone) as system, _opened(system) as (points, rival):
        ledgers: dict[str, LedgerUnderTest] = {
            OURS: OurLedger(points),
            FOR_UPDATE: ForUpdate(rival),
            ATOMIC: AtomicUpdate(rival),
        }
        measured = await measure(
            {OURS: ledgers[OURS], FOR_UPDATE: ledgers[FOR_UPDATE]},
            wanted.plan,
            deadlocks=lambda: _number(rival, "deadlocks"),
            say=say,
        )
        atomic = await measure(
            {ATOMIC: ledgers[ATOMIC]}, wanted.plan, deadlocks=lambda: _number(rival, "deadlocks"), say=say
        )
        bytes_each = await _bytes_each(points)
        without_chain = await _capacity(points, wanted.plan, run="plain", say=say)
        spends = await _spends(points, say=say)
        is_clean = (await points.reconcile()).is_clean
    sealed = replace(alone, roles=("sequencer", "points"))
    async with local_system(sealed) as system, _opened(system) as (points, _):
        await _sealed_up(points, say=say)
        with_chain = await _capacity(points, wanted.plan, run="sealed", say=say)
        verified = await _verified(points, say=say)
    async with local_system(replace(alone, apis=1)) as system, _opened(system) as (points, _):
        http = await _over_http(system, wanted, say=say)
    afresh = replace(alone, home=home / "sizes")
    async with local_system(afresh) as system, _opened(system) as (points, rival):
        sizes = await _costs(points, rival, wanted, say=say)
    return _result(
        measured,
        atomic,
        _Further(
            bytes_each=bytes_each,
            chain_off=without_chain,
            chain_on=with_chain,
            verified=verified,
            spends=spends,
            http=http,
            sizes=sizes,
            is_clean=is_clean,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Further:
    """What only our ledger was measured at."""

    bytes_each: float
    chain_off: float
    chain_on: float
    verified: Mapping[str, Any]
    spends: Mapping[int, float]
    http: LoadReport
    sizes: Mapping[int, float]
    is_clean: bool


@asynccontextmanager
async def _opened(system: LocalSystem) -> AsyncIterator[tuple[PointsApi, Database]]:
    """Open our ledger as an API process has it, and the rivals' own schema in the same database."""
    async with AsyncExitStack() as stack:
        site = site_of_system(system)
        database = await site.database(stack, "points", connections_max=4)
        rival = await Database.open(system.database_url, role="postgres", connections_max=RIVAL_CONNECTIONS)
        stack.push_async_callback(rival.close)
        yield await points_api(stack, site, database=database), rival


async def _capacity(points: PointsApi, plan: LedgerPlan, *, run: str, say: Say) -> float:
    """Return the transfers a second that ours takes of the uniform workload, the median of three."""
    say(f"ours, {run}")
    accounts = accounts_of(plan.accounts)
    found = []
    for number in range(3):
        load = transfers(accounts, skew=Skew.UNIFORM, seed=100 + number)
        driver = Driver(OurLedger(points), prefix=f"{run}{number}-")
        driven = await driver.as_fast_as_it_takes(load, clients=plan.clients, seconds=plan.seconds)
        found.append(driven.transfers_per_s)
    return median(found)


async def _spends(points: PointsApi, *, say: Say) -> dict[int, float]:
    """Return how long a spend over so many lots takes, the median, in milliseconds."""
    say(f"a spend over {LOTS:,} lots beside one over 10")
    today, members = datetime.now(UTC).date(), {LOTS: "rich", 10: "poor"}
    await points.open_accounts(list(members.values()), at=datetime.now(UTC))
    for lots, member in members.items():
        for begin in range(0, lots, 500):
            await points.submit_many(
                [_lot(member, number, today) for number in range(begin, min(begin + 500, lots))]
            )
    taken: dict[int, list[float]] = {lots: [] for lots in members}
    for number in range(SPENDS):
        for lots, member in members.items():
            burn = Burn(key=f"spend-{member}-{number}", member_id=member, amount=lots * LOT_AMOUNT)
            began = perf_counter()
            done = await points.submit(burn)
            taken[lots].append(perf_counter() - began)
            if not isinstance(done, Operation) or done.refusal is not None:
                raise RuntimeError(f"the spend was refused: {done}")
            await points.submit(Reverse(key=f"back-{member}-{number}", subject=done.no))
    return {lots: median(times) * 1000 for lots, times in taken.items()}


def _lot(member: str, number: int, today: date) -> Earn:
    day = today + timedelta(days=1 + number % LOT_DAYS)
    return Earn(key=f"lot-{member}-{number}", member_id=member, amount=LOT_AMOUNT, expires_on=day)


async def _sealed_up(points: PointsApi, *, say: Say) -> None:
    """Wait until the sealer has caught up with what was done before."""
    while waiting := (await points.chain_end()).unsealed:
        say(f"{waiting:,} operations wait to be sealed")
        await asyncio.sleep(0.5)


async def _verified(points: PointsApi, *, say: Say) -> Mapping[str, Any]:
    await _sealed_up(points, say=say)
    say("verifying the chain")
    began = perf_counter()
    report = await points.verify()
    seconds = perf_counter() - began
    return {"links": report.links, "links_per_s": report.links / seconds, "broken": report.broken}


async def _over_http(system: LocalSystem, wanted: LedgerBench, *, say: Say) -> LoadReport:
    say("holds over HTTP")
    accounts = accounts_of(wanted.plan.accounts)
    async with AsyncExitStack() as stack:
        database = await site_of_system(system).database(stack, "access", connections_max=1)
        now = SystemClock().now()
        async with database.transaction() as conn:
            key = await create_api_key(conn, client_id="bench", scopes=["points:write"], now=now)
            await set_client_limit(conn, client_id="bench", policy=SUBMIT, rate=UNLIMITED, now=now)
    [url] = system.api_urls
    host = url.removeprefix("http://")

    def request(number: int) -> bytes:
        body = json.dumps(
            {"kind": "hold", "member_id": accounts[number % len(accounts)], "amount": 1}
        ).encode()
        head = (
            f"POST /api/points/operations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key.token}\r\n"
            f"Idempotency-Key: http-{number}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    return await generate(Load(urls=(url,), count=wanted.http_requests, connections=64), request)


async def _costs(points: PointsApi, rival: Database, wanted: LedgerBench, *, say: Say) -> dict[int, float]:
    """Return how long a transfer takes, the inverse of the rate, in microseconds, at each size of the ledger."""
    members, accounts = [f"past-{number}" for number in range(1_000)], accounts_of(wanted.plan.accounts)
    await points.open_accounts([*members, *accounts], at=datetime.now(UTC))
    await endow(OurLedger(points), accounts)
    done, found = 0, dict[int, float]()
    for size in wanted.sizes:
        while (missing := size - await _number(rival, "entries")) > 0:
            each = max(1, min(200, missing // len(members)))
            say(f"filling the ledger: {missing:,} entries to go")
            async with rival.connection() as conn:
                await conn.execute(QUERIES["fill"], {"members": members, "done": done, "each": each})
            done += each
        async with rival.connection() as conn:
            await conn.execute("vacuum analyze")
        entries = await _number(rival, "entries")
        found[entries] = 1e6 / await _capacity(points, wanted.plan, run=f"at {entries:,} entries ", say=say)
    return found


async def _bytes_each(points: PointsApi) -> float:
    """Return the bytes on disk of an operation with all that belongs to it."""
    async with points.database.connection() as conn:
        schema = await (await conn.execute(QUERIES["bytes"], {"schema": "points"})).fetchone()
        rows = await (await conn.execute("select count(*) as n from points.operation")).fetchone()
    return float(schema["bytes"]) / rows["n"] if schema and rows else 0.0


async def _number(database: Database, name: str) -> int:
    async with database.connection() as conn:
        row: Any = await (await conn.execute(QUERIES[name])).fetchone()
    return int(row[name])


def _result(measured: Measured, atomic: Measured, further: _Further) -> BenchResult:
    def ratio(skew: Skew) -> float:
        return measured.per_s(OURS, skew) / max(1.0, measured.per_s(FOR_UPDATE, skew))

    hot = measured.per_s(OURS, Skew.HOT) / max(1.0, measured.per_s(OURS, Skew.UNIFORM))
    lone = measured.lone_hold_ms[OURS] / measured.lone_hold_ms[FOR_UPDATE]
    chain = further.chain_on / further.chain_off
    spend = further.spends[LOTS] / further.spends[10]
    flat = max(further.sizes.values()) / min(further.sizes.values())
    figures = [*measured.figures, *atomic.figures]
    return BenchResult(
        name="ledger",
        ours=measured.per_s(OURS, Skew.ZIPF_2),
        peer=measured.per_s(FOR_UPDATE, Skew.ZIPF_2),
        peer_name=FOR_UPDATE,
        unit="transfers/s under Zipf 2.0",
        checks={
            "no ledger answered what cannot be true": not any(one.violations for one in figures),
            "no deadlock": measured.deadlocks == 0,
            "everything in ours adds up": further.is_clean,
            "the chain over it is whole": further.verified["broken"] is None,
            "over HTTP every hold is done": further.http.accepted == further.http.due,
        },
        details={
            "transfers_per_s": {f"{one.ledger}: {one.skew.value}": round(one.per_s) for one in figures},
            "ratios": {skew.value: round(ratio(skew), 2) for skew in Skew},
            "target_5x_on_zipf_2": target(ratio(Skew.ZIPF_2) >= 5),
            "target_5x_on_one_hot_account": target(ratio(Skew.HOT) >= 5),
            "target_2.5x_on_zipf_1": target(ratio(Skew.ZIPF_1) >= 2.5),
            "hot_to_uniform": round(hot, 2),
            "target_hot_to_uniform_0.8": target(hot >= 0.8),
            "lone_hold_ms_p50": {name: round(ms, 2) for name, ms in measured.lone_hold_ms.items()},
            "target_lone_hold_1.2x": target(lone <= 1.2),
            "chain_on_to_off": round(chain, 2),
            "target_chain_0.9x": target(chain >= 0.9),
            "links_verified_per_s": round(further.verified["links_per_s"]),
            "holds_per_s_over_http": round(further.http.accepted_per_s),
            "target_1000_holds_per_s_over_http": target(further.http.accepted_per_s >= 1_000),
            "spend_ms": {f"{lots:,} lots": round(ms, 2) for lots, ms in further.spends.items()},
            "target_spend_1.5x": target(spend <= 1.5),
            "us_a_transfer": {f"{size:,} entries": round(us) for size, us in further.sizes.items()},
            "target_flat_1.3x": target(flat <= 1.3),
            "bytes_an_operation": round(further.bytes_each),
            "endowment": ENDOWMENT,
            "figures": [asdict(one) for one in figures],
        },
    )
