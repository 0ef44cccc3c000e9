"""The peer: a redemption as a plain DBOS script of the same steps, each a durable step, in a process of its own.

It quotes, holds, reserves points, confirms and spends them, by the same adapters at the same partners, on a ledger as
one would write it (`bench.ledger.rivals.ForUpdate`). It has no journal, so an answer that got lost is asked for again
and may be booked twice; no policies; no way back. Run by `measure_script`; its plan comes in FAREGATE_BENCH_SCRIPT.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from dbos import DBOS, DBOSConfig

from faregate.bench.ledger.port import DONE
from faregate.bench.ledger.rivals import ForUpdate
from faregate.bench.travel.partners import adapter, names
from faregate.gateway.contracts import ProviderRequest
from faregate.infra.database import Database
from faregate.kernel.errors import UnavailableError
from faregate.kernel.outcome import Done
from faregate.travel.partners.airline_a import AirlineA

PLAN_VARIABLE = "FAREGATE_BENCH_SCRIPT"
CONNECTIONS = 8
TIMEOUT_S = 30.0
MEMBER_HAS = 10**12


class ScriptFailed(UnavailableError):
    """The peer did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptLoad:
    """How many redemptions, of how many members, so many at once; where the partners and the database are."""

    redemptions: int
    members: int
    at_once: int
    partners: int
    partners_url: str
    database_url: str
    offer_id: str
    run: str


class _Steps:
    """What the steps work with; DBOS keeps its workflows in globals, so they are made once a process."""

    def __init__(self, adapters: Sequence[AirlineA], ledger: ForUpdate, offer_id: str) -> None:
        self.adapters, self.ledger, self.offer_id = adapters, ledger, offer_id

    async def ask(self, number: int, act: str, subject: dict[str, Any]) -> dict[str, Any]:
        """Do one act at a partner. Raises ScriptFailed for whatever is not done."""
        partner = self.adapters[number % len(self.adapters)]
        about = "" if act == "place" else ".1.1"
        request = ProviderRequest(
            provider_request_id=f"{subject['redemption']}.1.{act}.1{about}:{partner.capabilities.provider}:1",
            subject={
                "act": act,
                "reference": f"{subject['redemption']}.1.1.1",
                "traveller": "Ada",
                **subject,
            },
        )
        outcome = await partner.submit(request, timeout_s=TIMEOUT_S)
        if not isinstance(outcome, Done):
            raise ScriptFailed(f"{act}: {outcome}")
        return dict(outcome.payload)


def _workflow(steps: _Steps) -> Any:
    @DBOS.step()
    async def quote(number: int) -> int:
        partner = steps.adapters[number % len(steps.adapters)]
        return (await partner.quote(steps.offer_id, timeout_s=TIMEOUT_S)).price_minor

    @DBOS.step()
    async def place(number: int, redemption: str, price: int) -> dict[str, Any]:
        subject = {"redemption": redemption, "offer_id": steps.offer_id, "price_minor": price}
        return await steps.ask(number, "place", subject)

    @DBOS.step()
    async def hold(redemption: str, member: str, price: int) -> str:
        return await steps.ledger.hold(f"{redemption}:hold", member, price)

    @DBOS.step()
    async def confirm(number: int, redemption: str, booking: str, price: int) -> dict[str, Any]:
        subject = {"redemption": redemption, "booking_id": booking, "price_minor": price}
        return await steps.ask(number, "confirm", subject)

    @DBOS.step()
    async def post(redemption: str, member: str) -> str:
        return await steps.ledger.post(f"{redemption}:post", f"{redemption}:hold", member)

    @DBOS.workflow()
    async def redeem(number: int, redemption: str, member: str) -> str:
        price = await quote(number)
        booking = await place(number, redemption, price)
        if await hold(redemption, member, price) != DONE:
            raise ScriptFailed("there are too few points")
        await confirm(number, redemption, booking["booking_id"], booking["price_minor"])
        return await post(redemption, member)

    return redeem


async def _run(load: ScriptLoad) -> float:
    """Return the redemptions a second."""
    database = await Database.open(load.database_url, role="postgres", connections_max=CONNECTIONS)
    ledger = ForUpdate(database)
    members = [f"member-{number}" for number in range(load.members)]
    await ledger.open(members)
    for member in members:
        await ledger.earn(f"welcome-{member}", member, MEMBER_HAS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        adapters = [adapter(name, session=session, url=load.partners_url) for name in names(load.partners)]
        redeem = _workflow(_Steps(adapters, ledger, load.offer_id))
        DBOS(config=_config(load.database_url))
        DBOS.launch()
        places = asyncio.Semaphore(load.at_once)

        async def one(number: int) -> str:
            async with places:
                handle = await DBOS.start_workflow_async(
                    redeem, number, f"{load.run}{number}", members[number % len(members)]
                )
                return str(await handle.get_result())

        await asyncio.gather(*(one(-number) for number in range(1, load.at_once + 1)))  # warm
        begun = time.perf_counter()
        ended = await asyncio.gather(*(one(number) for number in range(load.redemptions)))
        taken = time.perf_counter() - begun
        DBOS.destroy()
    await database.close()
    if set(ended) != {DONE}:
        raise ScriptFailed(f"redemptions ended as {set(ended)}")
    return load.redemptions / taken


def _config(url: str) -> DBOSConfig:
    return DBOSConfig(
        name="script",
        system_database_url=url,
        dbos_system_schema="script_dbos",
        sys_db_pool_size=CONNECTIONS,
        log_level="ERROR",
    )


async def measure_script(load: ScriptLoad, *, folder: Path) -> float:
    """Run the script in a process of its own and return its redemptions a second. Raises ScriptFailed."""
    log = folder / "script.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faregate.bench.travel.script"),
            env={**os.environ, PLAN_VARIABLE: json.dumps(asdict(load))},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        said, _ = await process.communicate()
    if process.returncode != 0:
        raise ScriptFailed(f"the script ended with {process.returncode}, see {log}")
    return float(said.decode().splitlines()[-1])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        sys.stdout.write(f"{loop.run(_run(ScriptLoad(**json.loads(os.environ[PLAN_VARIABLE]))))}\n")
