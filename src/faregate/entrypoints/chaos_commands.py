"""`faregate chaos`: fault runs on a system of their own, with the invariants checked after."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    help="Fault runs, with the invariants checked after.",
    epilog="Example: faregate chaos credit --minutes 5 --seed 7",
)


@app.command("credit", epilog="Example: faregate chaos credit --minutes 5 --seed 7 --json chaos.json")
def credit(
    minutes: Annotated[float, typer.Option(help="How long things are broken.", min=0.1)] = 5.0,
    applications: Annotated[
        int | None, typer.Option(help="How many applications are submitted; 400 a minute if left out.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed breaks the same things in the same order.")] = 1,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="On Kafka, whose broker and relay die too; topics are compared.")
    ] = False,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Each role a process of its own; that of the consumers dies too."),
    ] = False,
    settle_seconds: Annotated[
        float, typer.Option(help="How long afterwards everything may take to be decided.", min=1)
    ] = 60.0,
    json_to: Annotated[
        str | None, typer.Option("--json", help="Write the result as JSON to this path; - prints it.")
    ] = None,
) -> None:
    """Kill, freeze and restart API, workers, sandbox, Valkey and PostgreSQL, and let providers fail, meanwhile.

    Two API processes and two workers decide applications all the while; nothing may be lost, doubled or stranded.
    Begin and end of each fault are told on standard error. Exit status 1 if a check fails.
    """
    from faregate.bench.chaos.plan import ChaosPlan
    from faregate.bench.chaos.report import checks_of, document_of, table_of
    from faregate.entrypoints.chaos import run_chaos
    from faregate.infra.telemetry.logs import configure_logging

    plan = ChaosPlan.of_minutes(
        minutes,
        applications=applications,
        seed=seed,
        kafka=kafka,
        processes=processes,
        settle_s_max=settle_seconds,
    )
    console = Console(stderr=True, log_path=False)
    configure_logging(format="console", level=logging.ERROR)  # deaths are meant here, and told
    with (
        TemporaryDirectory(prefix="faregate-chaos-") as home,
        console.status("starting servers, sandbox, API processes and workers …") as status,
    ):
        run = asyncio.run(
            run_chaos(plan, home=Path(home) / "home", on_event=console.log, on_progress=status.update)
        )
    document = json.dumps(document_of(run), indent=2) + "\n"
    if json_to == "-":
        sys.stdout.write(document)
    else:
        Console().print(table_of(run))
        if json_to is not None:
            Path(json_to).write_text(document, encoding="utf-8")
    raise typer.Exit(0 if all(checks_of(run).values()) else 1)


@app.command("travel", epilog="Example: faregate chaos travel --minutes 5 --seed 7 --json chaos.json")
def travel(
    minutes: Annotated[float, typer.Option(help="How long things are broken.", min=0.1)] = 5.0,
    redemptions: Annotated[
        int | None, typer.Option(help="How many members redeem; 200 a minute if left out.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed breaks the same things in the same order.")] = 1,
    settle_seconds: Annotated[
        float, typer.Option(help="How long afterwards everything may take to end.", min=1)
    ] = 120.0,
    json_to: Annotated[
        str | None, typer.Option("--json", help="Write the result as JSON to this path; - prints it.")
    ] = None,
) -> None:
    """Kill, freeze and restart everything, and let travel partners fail, while members book with points.

    Afterwards points must be spent if and only if the partners' bookings stand. The time to settle is a minute and
    the longest time that a partner takes by its own word. Exit status 1 if a check fails.
    """
    from faregate.bench.chaos.plan import ChaosPlan
    from faregate.entrypoints.chaos_travel import run_chaos_travel
    from faregate.infra.telemetry.logs import configure_logging

    plan = ChaosPlan(
        seconds=minutes * 60,
        seconds_max=max(minutes * 180, 240.0),
        applications=round(minutes * 200) if redemptions is None else redemptions,
        operations_min=0,
        seed=seed,
        settle_s_max=settle_seconds,
        providers=("airline_a", "airline_b", "hotel_c", "hotel_d"),
    )
    console = Console(stderr=True, log_path=False)
    configure_logging(format="console", level=logging.ERROR)  # deaths are meant here, and told
    with (
        TemporaryDirectory(prefix="faregate-chaos-") as home,
        console.status("starting servers, sandbox, API processes and workers …") as status,
    ):
        run = asyncio.run(
            run_chaos_travel(plan, home=Path(home) / "home", on_event=console.log, on_progress=status.update)
        )
    document = json.dumps(run.document(), indent=2) + "\n"
    if json_to == "-":
        sys.stdout.write(document)
    else:
        Console().print(run.table())
        if json_to is not None:
            Path(json_to).write_text(document, encoding="utf-8")
    raise typer.Exit(0 if all(run.checks.values()) else 1)


@app.command("fraud", epilog="Example: faregate chaos fraud --calls 100000 --json chaos.json")
def fraud(
    calls: Annotated[int, typer.Option(help="How many payments are decided.", min=1_000)] = 100_000,
    rate: Annotated[float, typer.Option(help="How many a second.", min=1, max=10_000)] = 400.0,
    seed: Annotated[int, typer.Option(help="The same seed deals the same faults to the same payments.")] = 1,
    json_to: Annotated[
        str | None, typer.Option("--json", help="Write the result as JSON to this path; - prints it.")
    ] = None,
) -> None:
    """Decide payments while their scorer refuses, hangs, is late, breaks off or talks nonsense.

    Every caller is timed beside a bare timer of the hard 80 ms in the same loop: at p99.9 it may be released 5 ms later
    at most. Every answer must name what it lacks and be what the policy says. Exit status 1 if a check fails.
    """
    from faregate.entrypoints.chaos_fraud import FraudChaos, run_chaos_fraud

    plan = FraudChaos(calls=calls, rate_per_s=rate, seed=seed)
    console = Console(stderr=True, log_path=False)
    with (
        TemporaryDirectory(prefix="faregate-chaos-") as home,
        console.status("starting PostgreSQL and a scorer that fails …") as status,
    ):
        run = asyncio.run(run_chaos_fraud(plan, home=Path(home) / "home", say=status.update))
    document = json.dumps(run.document(), indent=2) + "\n"
    if json_to == "-":
        sys.stdout.write(document)
    else:
        Console().print(run.table())
        if json_to is not None:
            Path(json_to).write_text(document, encoding="utf-8")
    raise typer.Exit(0 if all(run.checks.values()) else 1)
