"""Many partners that speak airline A's protocol: their adapters, and the process in which all of them live."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import uvloop
from aiohttp import web

from faregate.bench.children import guarded
from faregate.infra.clock import SystemClock
from faregate.infra.supervisor import free_port
from faregate.kernel.errors import UnavailableError
from faregate.sandbox.faults import FaultPlan, Faults
from faregate.sandbox.journal import Journal
from faregate.sandbox.partners.airline_a import AirlineA as AirlineTwin
from faregate.sandbox.partners.base import Backstage
from faregate.sandbox.partners.bookings import CONFIRMED, Bookings
from faregate.travel.contracts.partners import Offer, SearchQuery
from faregate.travel.partners.airline_a import AirlineA

HOST = "127.0.0.1"
TOKEN = "bench"  # noqa: S105 - of partners that live for one run
SLOWEST_S = 60.0
"""How slow a partner may be before we give it up, as a hotel that books at once states it."""
READY_S = 30.0


class PartnersNotReady(UnavailableError):
    """The process of the partners did not start; its log says why."""


def names(count: int) -> Sequence[str]:
    """Return the names of so many partners."""
    return [f"partner_{number:02d}" for number in range(count)]


def adapter(name: str, *, session: aiohttp.ClientSession, url: str) -> AirlineA:
    """Return the adapter of one of them."""

    class OneOfMany(AirlineA):
        about = replace(AirlineA.about, partner=name, title=name, timeout_floor_s=SLOWEST_S)

        async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
            return [
                replace(offer, partner=name) for offer in await super().offers(query, timeout_s=timeout_s)
            ]

        async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
            return replace(await super().offer(offer_id, timeout_s=timeout_s), partner=name)

    return OneOfMany(session=session, base_url=f"{url}/{name}", token=TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyPartners:
    """The running partners."""

    url: str
    names: Sequence[str]
    session: aiohttp.ClientSession

    async def behave(self, default: Mapping[str, Any], **of: Mapping[str, Any]) -> None:
        """Let all partners behave like this, and some like that."""
        plan = {"default": default, "providers": of}
        async with self.session.put(f"{self.url}/faults", json=plan) as answer:
            answer.raise_for_status()

    async def confirmed(self) -> Mapping[str, int]:
        """Return how many confirmed bookings each redemption has."""
        async with self.session.get(f"{self.url}/confirmed") as answer:
            found: dict[str, int] = await answer.json()
        return found


@asynccontextmanager
async def many_partners(
    count: int, *, folder: Path, session: aiohttp.ClientSession
) -> AsyncIterator[ManyPartners]:
    """Run so many partners in a process of their own. Raises PartnersNotReady."""
    port = free_port(host=HOST)
    command = [sys.executable, "-m", "faregate.bench.travel.partners", str(count), str(port), str(folder)]
    log = folder / "partners.log"
    url = f"http://{HOST}:{port}"
    async with guarded(command, log=log):
        try:
            async with asyncio.timeout(READY_S):
                while not await _answers(session, url):  # noqa: ASYNC110 - a process, not a task
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise PartnersNotReady(f"the partners did not start, see {log}") from error
        yield ManyPartners(url=url, names=names(count), session=session)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/confirmed") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


class _World:
    """What the partners share, and who tells them how to behave."""

    def __init__(self, folder: Path) -> None:
        self.faults = Faults(FaultPlan())
        self.bookings = Bookings(*Journal.open(folder / "bookings.jsonl"))
        self.now = SystemClock().now

    def app(self, count: int) -> web.Application:
        backstage = Backstage(
            bookings=self.bookings,
            faults=lambda: self.faults,
            now=lambda: self.now().timestamp(),
            struck=lambda _name, _fault: None,
            called=lambda _name: None,
        )
        app = web.Application()
        for one in names(count):

            class Twin(AirlineTwin):
                name: ClassVar[str] = one

            Twin(backstage, token=TOKEN).add_routes(app)
        app.router.add_put("/faults", self._behave)
        app.router.add_get("/confirmed", self._confirmed)
        return app

    async def _behave(self, request: web.Request) -> web.Response:
        self.faults = Faults(FaultPlan.model_validate(await request.json()))
        return web.Response()

    async def _confirmed(self, _request: web.Request) -> web.Response:
        found: dict[str, int] = {}
        for booking in self.bookings.of_redemption(None, now=self.now().timestamp()):
            if booking.state == CONFIRMED:
                found[booking.redemption] = found.get(booking.redemption, 0) + 1
        return web.json_response(found)


async def _serve(count: int, port: int, folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(_World(folder).app(count), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
