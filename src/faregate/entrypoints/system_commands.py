"""`faregate up|demo|chaos`: commands that run all of faregate on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from faregate.entrypoints.processes import CONTEXTS, roles_of
from faregate.infra.lifetime import stop_event
from faregate.infra.local_system import Plan, local_system
from faregate.infra.scaling import ScalingPolicy
from faregate.infra.settings import Settings

JsonPath = Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON here.")]

up = typer.Typer()
demo = typer.Typer()


@up.command(epilog="Example: faregate up --workers 1 --workers-max 4")
def up_command(
    workers: Annotated[int, typer.Option(help="Worker processes, at least.", min=1)] = 1,
    workers_max: Annotated[
        int | None,
        typer.Option(help="Worker processes, at most: above --workers they come and go with the backlog."),
    ] = None,
    sandbox: Annotated[bool, typer.Option(help="Also run the sandbox of providers.")] = True,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="A process for each context and each role, instead of workers."),
    ] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Also run a Kafka broker, and let it carry the events.")
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C: servers, API, workers and the sandbox."""
    if processes and (workers_max or workers) > 1:
        raise typer.BadParameter("--processes goes without --workers and --workers-max")
    plan = plan_of(Settings(), workers=workers, sandbox=sandbox, processes=processes, kafka=kafka)
    if plan.kafka:
        _install_kafka()
    asyncio.run(_up(plan, ScalingPolicy(workers_min=workers, workers_max=workers_max or workers)))
    typer.echo("stopped")


def plan_of(
    settings: Settings,
    *,
    workers: int = 1,
    sandbox: bool = True,
    processes: bool = False,
    kafka: bool = False,
) -> Plan:
    """Return what `faregate up` runs, and says when a part of it dies."""
    on_kafka = kafka or settings.kafka_bootstrap is not None
    return Plan(
        home=settings.home.absolute(),
        workers=0 if processes else workers,
        apis=0 if processes else 1,
        contexts=tuple(CONTEXTS) if processes else (),
        roles=roles_of(kafka=on_kafka) if processes else (),
        sandbox=sandbox,
        api_port=settings.api_port,
        sandbox_port=settings.sandbox_port,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        valkey_url=settings.valkey_url.get_secret_value() if settings.valkey_url else None,
        kafka=kafka and settings.kafka_bootstrap is None,
        on_restart=lambda name, status: typer.echo(f"{name} ended with {status}; it is started again"),
    )


def _install_kafka() -> None:
    from faregate.infra.embedded.kafka import ensure_installed

    ensure_installed(say=typer.echo)


async def _up(plan: Plan, policy: ScalingPolicy) -> None:
    from faregate.entrypoints.local_client import scaled

    stop = stop_event()
    async with local_system(plan) as system, scaled(system, policy, say=typer.echo):
        for name, url in system.urls.items():
            typer.echo(f"{name:<16} {url}  (documentation at {url}/docs)")
        typer.echo(f"{'sandbox':<16} {system.sandbox_url}  (personas at {system.sandbox_url}/personas)")
        if system.kafka_bootstrap:
            typer.echo(f"{'Kafka':<16} {system.kafka_bootstrap}")
        typer.echo(f"{'logs':<16} {plan.home / 'logs'}")
        typer.echo("Make an API key with: faregate keys create CLIENT. Ctrl-C stops everything.")
        await stop.wait()


@demo.command(epilog="Example: faregate demo --applicants 200 --exit")
def demo_command(
    exit_after: Annotated[bool, typer.Option("--exit", help="Stop everything after the summary.")] = False,
    json_path: JsonPath = None,
    applicants: Annotated[int, typer.Option(help="How many applicants.", min=1)] = 1000,
) -> None:
    """Decide 1,000 real applicants on the running system while the outside world misbehaves.

    Exit status 1 if one of the checks fails.
    """
    from faregate.entrypoints.demo import fresh_home

    settings, console = Settings(), Console()
    with fresh_home(settings.home.absolute() / "demo") as home:
        is_good = asyncio.run(_demo(settings, home, applicants, json_path, console, stay=not exit_after))
    raise typer.Exit(0 if is_good else 1)


async def _demo(
    settings: Settings, home: Path, applicants: int, json_path: Path | None, console: Console, *, stay: bool
) -> bool:
    from faregate.entrypoints.demo import MISBEHAVIOUR, demo_plan, run_demo, summary_of
    from faregate.entrypoints.demo_view import show_misbehaviour, show_next_steps, show_summary
    from faregate.sandbox.plans import PLANS

    stop = stop_event()
    console.print("Starting PostgreSQL, Valkey, sandbox, API and worker …")
    async with local_system(demo_plan(settings, home)) as system:
        console.print(f"API {system.api_url}, sandbox {system.sandbox_url}, logs {home / 'logs'}")
        show_misbehaviour(PLANS[MISBEHAVIOUR], console=console)
        report, token = await run_demo(system, applicants=applicants, console=console)
        summary = summary_of(report)
        show_summary(summary, console=console)
        if json_path:
            _write(json_path, summary)
        if stay:
            show_next_steps(system, token=token, example=report.example, console=console)
            await stop.wait()
    return all(report.checks.values())


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
