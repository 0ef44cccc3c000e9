"""The sandbox as a server: in a process of its own (`run_sandbox`) or inside a loop (`serving`)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from faregate.kernel.clock import Clock
from faregate.sandbox.admin import add_admin_routes
from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.routes import add_provider_routes
from faregate.sandbox.world import World

SHUTDOWN_S: Final = 0.1
BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How to run a sandbox. Port 0 takes a free one; `look_up_lag_s_max` None keeps the stated lags."""

    data_dir: Path
    credentials: SandboxCredentials
    host: str = "127.0.0.1"
    port: int = 0
    plan: FaultPlan = field(default_factory=FaultPlan)
    token_life_s: int = 60
    look_up_lag_s_max: float | None = None
    transfer_drop: Path | None = None


@asynccontextmanager
async def serving(settings: SandboxSettings, *, clock: Clock) -> AsyncIterator[str]:
    """Serve inside the running loop while the block runs; yields the base URL.

    Raises `JournalInUse`, `FaultPlanRefused`, and OSError when the port is taken.
    """
    listener = _listen(settings.host, settings.port)
    with listener:
        world = World.open(
            data_dir=settings.data_dir,
            plan=settings.plan,
            credentials=settings.credentials,
            clock=clock,
            token_life_s=settings.token_life_s,
            look_up_lag_s_max=settings.look_up_lag_s_max,
            transfer_drop=settings.transfer_drop,
        )
        runner = web.AppRunner(_app(world), access_log=None, shutdown_timeout=SHUTDOWN_S)
        watching = asyncio.create_task(world.transfers.watch())
        try:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield f"http://{settings.host}:{listener.getsockname()[1]}"
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await runner.cleanup()
            await world.close()


def run_sandbox(settings: SandboxSettings, *, clock: Clock, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `ready` gets the base URL once the sandbox serves."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(KeyboardInterrupt):
        runner.run(_serve_until_signal(settings, clock=clock, ready=ready))


async def _serve_until_signal(
    settings: SandboxSettings, *, clock: Clock, ready: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(settings, clock=clock) as url:
        ready(url)
        await stop.wait()


def _app(world: World) -> web.Application:
    app = web.Application()
    add_provider_routes(app, world)
    for partner in world.partners.values():
        partner.add_routes(app)
    add_admin_routes(app, world)
    return app


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket, so that the URL is known before anything else starts."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
