"""`faregate bench NAME`: measure a part of faregate on a system of its own, beside a peer where there is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from faregate.bench.report import BenchResult

JsonTarget = Annotated[
    str | None, typer.Option("--json", help="Write the result as JSON to this path; - prints it.")
]
Say = Callable[[str], None]
Measure = Callable[[Path, Say], Coroutine[Any, Any, "BenchResult"]]
SAY_AGAIN_S = 10.0

app = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks against peers, measured in the same run.",
    epilog="Example: faregate bench submit --json -",
)


@app.command("ledger", epilog="Example: faregate bench ledger --seconds 6 --json ledger.json")
def bench_ledger(
    seconds: Annotated[float, typer.Option(help="How long each workload runs at each rate.", min=0.5)] = 6.0,
    accounts: Annotated[int, typer.Option(help="Accounts over which transfers are spread.", min=10)] = 2_000,
    rounds: Annotated[int, typer.Option(help="Repetitions; the median counts.", min=1)] = 1,
    entries: Annotated[
        list[int] | None,
        typer.Option(help="Size of the ledger at which a transfer's cost is measured; repeat."),
    ] = None,
    json_to: JsonTarget = None,
) -> None:
    """Measure the points ledger beside one row lock and one atomic update a transfer."""
    from faregate.bench.ledger.run import LedgerPlan
    from faregate.entrypoints import bench_ledger as ledger

    plan = LedgerPlan(accounts=accounts, seconds=seconds, rounds=rounds)
    wanted = ledger.LedgerBench(plan=plan, sizes=sorted(entries or (10_000, 1_000_000)))

    def measure(home: Path, say: Say) -> Coroutine[Any, Any, BenchResult]:
        return ledger.bench_ledger(wanted, home=home, say=say)

    _bench(measure, json_to=json_to)


@app.command("submit")
def bench_submit(
    flat_out: Annotated[int, typer.Option(help="Requests sent as fast as they are answered.")] = 15_000,
    workers: Annotated[
        int, typer.Option(help="Workers that decide meanwhile; they share the processors.")
    ] = 0,
    apis: Annotated[int, typer.Option(help="API processes.", min=1)] = 1,
    json_to: JsonTarget = None,
) -> None:
    """Measure accepted applications a second and their latency. Example: faregate bench submit --json -"""
    from faregate.bench.submit import SubmitPlan
    from faregate.entrypoints import benches

    def measure(home: Path, say: Say) -> Coroutine[Any, Any, BenchResult]:
        return benches.bench_submit(
            SubmitPlan(flat_out=flat_out), home=home, say=say, workers=workers, apis=apis
        )

    _bench(measure, json_to=json_to)


@app.command("score", epilog="Example: faregate bench score --loaded-seconds 60 --json -")
def bench_score(
    flat_out: Annotated[
        float, typer.Option("--flat-out-seconds", help="How long it scores as fast as it can.", min=1)
    ] = 20.0,
    loaded: Annotated[
        float, typer.Option("--loaded-seconds", help="How long it scores at 60 % of that rate.", min=1)
    ] = 60.0,
    connections: Annotated[int, typer.Option(help="Connections of the generator.", min=1)] = 16,
    json_to: JsonTarget = None,
) -> None:
    """Measure scored payments a second of one process, latencies at 60 % of that, and where the time goes."""
    from faregate.bench.score import ScorePlan
    from faregate.entrypoints import bench_score as scores

    plan = ScorePlan(flat_out_s=flat_out, loaded_s=loaded, connections=connections)

    def measure(home: Path, say: Say) -> Coroutine[Any, Any, BenchResult]:
        return scores.bench_score(plan, home=home, say=say)

    _bench(measure, json_to=json_to)


@app.command("credit", epilog="Example: faregate bench credit --burst 500 --seconds 60 --json -")
def bench_credit(
    burst: Annotated[
        float | None,
        typer.Option(
            help="Submissions a second of a burst; without it a backlog is drained beside the peer."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the burst.")] = 60.0,
    above: Annotated[
        float | None, typer.Option(help="Rate of a short phase above it, 3 times the burst; 0 leaves it out.")
    ] = None,
    steady: Annotated[
        float, typer.Option(help="Rate of a steady phase after the drain; 0 leaves it out.")
    ] = 50.0,
    steady_seconds: Annotated[float, typer.Option(help="Length of the steady phase.")] = 60.0,
    applications: Annotated[int, typer.Option(help="Applications in the backlog.", min=1)] = 1_500,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
    peer_seconds: Annotated[
        float, typer.Option(help="How long each peer is measured; 0 leaves it out.")
    ] = 20,
    json_to: JsonTarget = None,
) -> None:
    """Measure decided applications a second against the Temporal development server, or a burst of submissions.

    Without --burst: a backlog of --applications is decided, then each peer runs the same checks.
    With --burst: it is sent open-loop while the workers decide; afterwards nothing may be lost or doubled.
    """
    from faregate.bench.burst import BurstPlan
    from faregate.entrypoints import benches

    def measure(home: Path, say: Say) -> Coroutine[Any, Any, BenchResult]:
        if burst is None:
            return benches.bench_credit(
                applications=applications, workers=workers, home=home, say=say, peer_seconds=peer_seconds
            )
        plan = BurstPlan(
            burst_per_s=burst,
            burst_s=seconds,
            above_per_s=3 * burst if above is None else above,
            steady_per_s=steady,
            steady_s=steady_seconds,
        )
        return benches.bench_burst(plan, workers=workers, home=home, say=say)

    _bench(measure, json_to=json_to)


@app.command("scale", epilog="Example: faregate bench scale --size 1000 --size 10000 --probe 200")
def bench_scale(
    size: Annotated[
        list[int] | None,
        typer.Option(help="Stored applications at which the cost is measured; give it several times."),
    ] = None,
    probe: Annotated[int, typer.Option(help="Applications that are measured at each size.")] = 400,
    backlog: Annotated[int, typer.Option(help="Applications that each number of workers decides.")] = 1_500,
    workers_max: Annotated[int, typer.Option(help="Measured with 1, 2, … so many workers.")] = 2,
    originals: Annotated[int, typer.Option(help="Applications that are decided and then copied.")] = 200,
    json_to: JsonTarget = None,
) -> None:
    """Measure decided/s with more workers, and an application's cost at 1,000, 10,000 and 100,000 stored ones."""
    from faregate.bench.scale import ScalePlan
    from faregate.entrypoints.bench_scale import bench_scale as run

    plan = ScalePlan(
        sizes=tuple(size or (1_000, 10_000, 100_000)),
        probe=probe,
        backlog=backlog,
        workers_max=workers_max,
        originals=originals,
    )
    _bench(lambda home, say: run(plan, home=home, say=say), json_to=json_to)


@app.command("isolation", epilog="Example: faregate bench isolation --per-s 25 --rounds 3")
def bench_isolation(
    per_s: Annotated[float, typer.Option(help="Applications a second.")] = 25.0,
    storm_seconds: Annotated[float, typer.Option(help="How long the failing provider is under load.")] = 20.0,
    round_seconds: Annotated[float, typer.Option(help="Length of a round with or without hanging.")] = 15.0,
    rounds: Annotated[int, typer.Option(help="Rounds of each kind, in turns.")] = 2,
    json_to: JsonTarget = None,
) -> None:
    """Measure what a failing provider gets, and what the others feel of a hanging one, beside naive baselines."""
    from faregate.bench.isolation import IsolationPlan
    from faregate.entrypoints.bench_isolation import bench_isolation as run

    plan = IsolationPlan(per_s=per_s, storm_s=storm_seconds, round_s=round_seconds, rounds=rounds)
    _bench(lambda home, say: run(plan, home=home, say=say), json_to=json_to)


@app.command("travel", epilog="Example: faregate bench travel --per-s 20 --races 3 --json travel.json")
def bench_travel(
    per_s: Annotated[float, typer.Option(help="Redemptions a second over all partners.")] = 20.0,
    round_s: Annotated[float, typer.Option(help="Length of a round, in seconds.")] = 20.0,
    rounds: Annotated[int, typer.Option(help="Rounds with and without the partner that hangs.", min=1)] = 2,
    redemptions: Annotated[int, typer.Option(help="Redemptions in a race with the script.", min=1)] = 400,
    races: Annotated[int, typer.Option(help="Races; the median counts.", min=1)] = 3,
    json_to: JsonTarget = None,
) -> None:
    """Measure redemptions at thirty partners of which one hangs, and beside a plain DBOS script of the steps."""
    from faregate.bench.travel.plan import TravelPlan
    from faregate.entrypoints import bench_travel as travel

    plan = TravelPlan(per_s=per_s, round_s=round_s, rounds=rounds, redemptions=redemptions, races=races)

    def measure(home: Path, say: Say) -> Coroutine[Any, Any, BenchResult]:
        return travel.bench_travel(plan, home=home, say=say)

    _bench(measure, json_to=json_to)


@app.command("gateway", epilog="Example: faregate bench gateway --rounds 51 --json gateway.json")
def bench_gateway(
    rounds: Annotated[int, typer.Option(help="Turns of each contender; medians over them.", min=1)] = 25,
    calls: Annotated[int, typer.Option(help="Calls in one turn.", min=1)] = 2_000,
    json_to: JsonTarget = None,
) -> None:
    """Measure what the gateway's policies cost a call, beside pyresilience, interlock-cb and pybreaker."""
    from faregate.bench.overhead import OverheadPlan
    from faregate.entrypoints import benches

    plan = OverheadPlan(rounds=rounds, calls=calls)
    _bench(lambda home, say: benches.bench_gateway(plan, home=home, say=say), json_to=json_to)


@app.command("rules", epilog="Example: faregate bench rules --rounds 15 --json -")
def bench_rules(
    payments: Annotated[int, typer.Option(help="Payments that are judged.", min=10)] = 500,
    rounds: Annotated[int, typer.Option(help="Repetitions; the median counts.", min=1)] = 15,
    json_to: JsonTarget = None,
) -> None:
    """Measure fifty traced rules of fraud beside the engine's evaluation of their graph for each payment."""
    from faregate.bench import rules

    plan = rules.RulesPlan(payments=payments, rounds=rounds)

    async def measure(_: Path, say: Say) -> BenchResult:
        return await asyncio.to_thread(rules.bench_rules, plan, say=say)

    _bench(measure, json_to=json_to)


@app.command("bus", epilog="Example: faregate bench bus --events 50000 --json -")
def bench_bus(
    events: Annotated[int, typer.Option(help="Events in the log when consumers begin.", min=1000)] = 50_000,
    per_s: Annotated[float, typer.Option(help="Events a second while the latency is measured.")] = 1_000.0,
    seconds: Annotated[float, typer.Option(help="How long the latency is measured.")] = 10.0,
    kafka: Annotated[bool, typer.Option(help="Also measure Kafka: needs Java and Maven.")] = True,
    json_to: JsonTarget = None,
) -> None:
    """Measure the embedded log and Kafka: events/s, commit to handler, and what appending costs a transaction."""
    from faregate.bench.bus import BusPlan
    from faregate.entrypoints.bench_bus import bench_bus as run

    plan = BusPlan(events=events, per_s=per_s, seconds=seconds)
    _bench(lambda home, say: run(plan, home=home, kafka=kafka, say=say), json_to=json_to)


@app.command("features", epilog="Example: faregate bench features --hot-events 100000 --json -")
def bench_features(
    reads: Annotated[int, typer.Option(help="Reads one after the other, of each side.", min=500)] = 2_000,
    hot_events: Annotated[
        int, typer.Option(help="Events of the card at which the length of windows is measured.", min=1_000)
    ] = 1_000_000,
    customers: Annotated[
        int, typer.Option(help="Customers of the benchmark whose payments are kept.", min=10, max=5_000)
    ] = 1_000,
    samples: Annotated[int, typer.Option(help="Events whose freshness is measured.", min=1)] = 200,
    feast: Annotated[
        Path | None, typer.Option(help="The interpreter of Feast's own environment, if it is elsewhere.")
    ] = None,
    json_to: JsonTarget = None,
) -> None:
    """Measure reading features beside Feast on the same Valkey, the length of windows, bytes and freshness."""
    from faregate.bench.features.feast_peer import python_of
    from faregate.entrypoints.bench_features import FeaturesBench
    from faregate.entrypoints.bench_features import bench_features as run

    wanted = FeaturesBench(
        feast=feast or python_of(),
        reads=reads,
        hot_events=hot_events,
        customers=customers,
        samples=samples,
    )
    _bench(lambda home, say: run(wanted, home=home, say=say), json_to=json_to)


def _bench(measure: Measure, *, json_to: str | None) -> None:
    """Run a benchmark in a home of its own, with progress on standard error; exit 1 if a check fails."""
    from faregate.bench.report import emit

    console = Console(stderr=True)
    with TemporaryDirectory(prefix="faregate-bench-") as home, console.status("starting …") as status:
        say = status.update if console.is_terminal else _now_and_then(console)
        result = asyncio.run(measure(Path(home) / "home", say))
    raise typer.Exit(emit(result, json_to=json_to))


def _now_and_then(console: Console) -> Say:
    """Return what prints a line of progress at most every ten seconds, for a log file."""
    said_at = -SAY_AGAIN_S

    def say(line: str) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SAY_AGAIN_S:
            said_at = time.monotonic()
            console.print(line, highlight=False)

    return say
