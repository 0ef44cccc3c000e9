"""The sandbox for tests: in the test's own loop (`sandbox`), or as a process that can be killed.

    from tests.sandbox import sandbox  # noqa: F401

Nothing is slow unless a test asks for it: no latency, results at once, a stated look-up lag of 0.3 s.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from faregate.credit.providers import (
    BureauAdapter,
    BureauAltAdapter,
    FraudAdapter,
    IncomeAdapter,
    KycAdapter,
)
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.infra.clock import SystemClock
from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.faults import Fault, FaultPlan
from faregate.sandbox.people import application as form_of
from faregate.sandbox.server import SandboxSettings, serving
from tests.sandbox_process import CREDENTIALS, LOOK_UP_LAG_S_MAX

__all__ = [
    "CREDENTIALS",
    "FAST",
    "LOOK_UP_LAG_S_MAX",
    "Receiver",
    "Sandbox",
    "SandboxProcess",
    "adapters",
    "open_receiver",
    "open_sandbox",
    "request",
    "sandbox",
    "until",
]

T = TypeVar("T")
FAST = FaultPlan.model_validate(
    {"default": {"hold_s": 5.0, "retry_after_s": 1, "callback_late_s": 0.3, "late_work_s": 0.2}}
)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: its address and its admin API."""

    url: str
    session: aiohttp.ClientSession
    credentials: SandboxCredentials = CREDENTIALS

    def provider_url(self, provider: str) -> str:
        """Return the base URL that this provider's adapter takes."""
        return f"{self.url}/{provider}"

    async def get(self, path: str, **query: str) -> Any:
        async with self.session.get(self.url + path, params=query) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def set_faults(self, plan: Mapping[str, Any]) -> None:
        """Replace what goes wrong; `{}` ends all of it."""
        async with self.session.put(f"{self.url}/admin/faults", json=plan) as response:
            assert response.status == 200, await response.text()

    async def script(
        self, provider: str, fault: Fault, *, times: int = 1, reference: str | None = None
    ) -> None:
        """The next calls of a provider (of one reference) meet a fault."""
        script = {"provider": provider, "fault": fault, "times": times, "reference": reference}
        async with self.session.post(f"{self.url}/admin/scripts", json=script) as response:
            assert response.status == 200, await response.text()

    async def executions(self, **wanted: str) -> list[dict[str, Any]]:
        """Return what was really executed, by provider, check, application, reference or traceparent."""
        return list((await self.get("/admin/executions", **wanted))["executions"])

    async def repeated_pulls(self) -> list[dict[str, Any]]:
        """Return every (application, check) that was executed more than once."""
        return list((await self.get("/admin/pulls", min="2"))["pulls"])

    async def summary(self) -> dict[str, Any]:
        return dict(await self.get("/admin/summary"))


@asynccontextmanager
async def open_sandbox(data_dir: Path, plan: FaultPlan = FAST, **settings: Any) -> AsyncIterator[Sandbox]:
    """Serve a sandbox inside the running loop."""
    effective = SandboxSettings(
        data_dir=data_dir,
        credentials=CREDENTIALS,
        plan=plan,
        **{"look_up_lag_s_max": LOOK_UP_LAG_S_MAX, **settings},
    )
    async with serving(effective, clock=SystemClock()) as url, aiohttp.ClientSession() as session:
        yield Sandbox(url, session)


async def until(
    probe: Callable[[], Awaitable[T]], holds: Callable[[T], object], *, within_s: float = 20
) -> T:
    """Probe until the answer holds and return it; fail if that takes too long."""
    async with asyncio.timeout(within_s):
        while True:
            answer = await probe()
            if holds(answer):
                return answer
            await asyncio.sleep(0.02)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A fast sandbox with empty books, faults off."""
    async with open_sandbox(tmp_path / "sandbox") as running:
        yield running


def request(
    provider: str,
    *,
    application: str = "app_1",
    attempt: int = 1,
    person: int = 0,
    callback_url: str | None = None,
) -> ProviderRequest:
    """Return the request that an application of a numbered person makes of a provider."""
    form = form_of(person)
    return ProviderRequest(
        provider_request_id=f"{application}:{provider}:{attempt}",
        subject={**form["applicant"], "amount": form["amount"], "purpose": form["purpose"]},
        callback_url=callback_url,
    )


def adapters(sandbox: Sandbox, *, session: aiohttp.ClientSession | None = None) -> dict[str, Adapter]:
    """Return the real adapter of every provider, speaking to this sandbox."""
    credentials, clock = sandbox.credentials, SystemClock()
    common: dict[str, Any] = {"session": session or sandbox.session, "look_up_lag_s_max": LOOK_UP_LAG_S_MAX}

    def at(provider: str) -> dict[str, Any]:
        return {**common, "base_url": sandbox.provider_url(provider)}

    return {
        "bureau": BureauAdapter(**at("bureau"), api_key=credentials.bureau_api_key),
        "bureau_alt": BureauAltAdapter(
            **at("bureau_alt"), user=credentials.bureau_alt_user, password=credentials.bureau_alt_password
        ),
        "kyc": KycAdapter(**at("kyc"), api_key=credentials.kyc_api_key),
        "fraud": FraudAdapter(**at("fraud"), hmac_secret=credentials.fraud_hmac_secret, clock=clock),
        "income": IncomeAdapter(
            **at("income"),
            client_id=credentials.income_client_id,
            client_secret=credentials.income_client_secret,
            clock=clock,
        ),
    }


@dataclass(slots=True)
class Receiver:
    """Where a test lets providers call back: keeps what arrives, answers `status`."""

    url: str
    status: int
    deliveries: list[tuple[Mapping[str, str], bytes]]
    arrived: asyncio.Condition

    async def wait(self, count: int) -> list[tuple[Mapping[str, str], bytes]]:
        """Return the first deliveries once so many have arrived; header names are lower case."""
        async with self.arrived, asyncio.timeout(20):
            await self.arrived.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries[:count]


@asynccontextmanager
async def open_receiver(*, status: int = 202, port: int = 0) -> AsyncIterator[Receiver]:
    """Serve an address for callbacks inside the running loop."""
    receiver = Receiver("", status, [], asyncio.Condition())

    async def receive(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        async with receiver.arrived:
            receiver.deliveries.append((headers, await request.read()))
            receiver.arrived.notify_all()
        return web.Response(status=receiver.status)

    app = web.Application()
    app.router.add_post("/callback", receive)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/callback"
        yield receiver
    finally:
        await runner.cleanup()


class SandboxProcess:
    """The sandbox as a process over a data folder: start it, kill it with -9, start it again."""

    def __init__(self, data_dir: Path, plan: FaultPlan = FAST, *, port: int = 0) -> None:
        self.data_dir = data_dir
        self.plan = plan
        self.port = port
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> str:
        """Start and return the base URL; a second start uses the same port."""
        arguments = [str(self.data_dir), str(self.port), self.plan.model_dump_json()]
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "tests.sandbox_process", *arguments],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])
        return self.url

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.communicate)
            self._process = None
