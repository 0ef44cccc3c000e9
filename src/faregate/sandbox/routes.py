"""The providers on HTTP: what arrives, what is done, what goes wrong in between, what is answered.

The order is always the same: who calls, what is asked, faults before the work, the work (on the disk), the
latency, faults after the work, the answer. What a provider says does not belong here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from faregate.sandbox.callbacks import half
from faregate.sandbox.executions import Execution
from faregate.sandbox.faults import Fault, ProviderFaults, Stage
from faregate.sandbox.personas import persona_of
from faregate.sandbox.providers.base import Call, OrderNotUnderstood, Provider, Reply, Unauthorised
from faregate.sandbox.providers.income import TOKEN_PATH, Income
from faregate.sandbox.world import Job, World

Handler = Callable[[web.Request], Awaitable[web.Response]]

_EARLY_CALLBACK_WAIT_S: Final = 1.0
_NOT_DONE: Final = {
    Fault.UNAUTHORISED: 401,
    Fault.LIMITED: 429,
    Fault.UNAVAILABLE: 503,
    Fault.ERROR_BEFORE: 500,
}


def add_provider_routes(app: web.Application, world: World) -> None:
    """Add submit and look-up of every provider, and the token endpoint."""
    for provider in world.providers.values():
        endpoint = _Endpoint(world, provider)
        app.router.add_post(provider.statement.submit_path, endpoint.submit)
        app.router.add_get(provider.statement.look_up_path, endpoint.look_up)
        if isinstance(provider, Income):
            app.router.add_post(TOKEN_PATH, _token(world, provider))


class _Endpoint:
    """One provider's two routes."""

    def __init__(self, world: World, provider: Provider) -> None:
        self._world = world
        self._provider = provider
        self._name = provider.statement.name

    async def submit(self, request: web.Request) -> web.Response:
        """Do the work that a caller asks for."""
        self._world.calls[self._name] += 1
        call = await _call(request, self._world)
        try:
            self._provider.authenticate(call)
            order, identity = self._provider.read_order(call.body)
        except Unauthorised:
            return self._problem(401, "unauthorised")
        except OrderNotUnderstood:
            return self._problem(400, "not_understood")
        persona = persona_of(identity)
        fault = self._fault(Stage.SUBMIT, order.reference, persona.key if persona else None)
        refusal = await self._before_work(request, order.reference, fault)
        if refusal is not None:
            return refusal
        job = Job(
            order=order,
            identity=identity,
            persona=persona,
            refused=fault is Fault.REFUSED,
            traceparent=request.headers.get("traceparent"),
        )
        execution = await self._work(job)
        return await self._after_work(request, execution, fault)

    async def look_up(self, request: web.Request) -> web.Response:
        """Say what became of a reference."""
        self._world.calls[f"{self._name}_look_up"] += 1
        try:
            self._provider.authenticate(await _call(request, self._world))
        except Unauthorised:
            return self._problem(401, "unauthorised")
        reference = request.match_info["reference"]
        execution = await self._world.executions.find(provider=self._name, reference=reference)
        fault = self._fault(Stage.LOOK_UP, reference, execution.persona if execution else None)
        if fault is Fault.LOOK_UP_HANG:
            await asyncio.sleep(self._behaviour().hold_s)
        if fault in (Fault.LOOK_UP_HANG, Fault.LOOK_UP_DROP):
            return _dropped(request)
        if fault is Fault.LOOK_UP_ERROR:
            return self._problem(500, fault.value, reference)
        answer = self._looked_up(execution, reference)
        return _response(half(answer) if fault is Fault.LOOK_UP_MALFORMED else answer)

    async def _before_work(
        self, request: web.Request, reference: str, fault: Fault | None
    ) -> web.Response | None:
        """Carry out a fault that comes before the work. None: go on."""
        if fault is Fault.HANG_BEFORE:
            await asyncio.sleep(self._behaviour().hold_s)
        if fault in (Fault.HANG_BEFORE, Fault.DROP_BEFORE):
            return _dropped(request)
        if fault is Fault.LATE_WORK:
            await asyncio.sleep(self._behaviour().late_work_s)
        if fault is None or fault not in _NOT_DONE:
            return None
        response = self._problem(_NOT_DONE[fault], fault.value, reference)
        if fault in (Fault.LIMITED, Fault.UNAVAILABLE):
            response.headers["Retry-After"] = str(self._behaviour().retry_after_s)
        return response

    async def _work(self, job: Job) -> Execution:
        """Execute and see to the callback, whatever becomes of the answer; then take the time it takes."""
        execution, new = await self._world.execute(self._provider, job)
        if new and execution.callback_url is not None:
            fault = self._fault(Stage.CALLBACK, execution.reference, execution.persona)
            task = self._world.callbacks.schedule(execution, fault=fault)
            if fault is Fault.CALLBACK_EARLY:
                await asyncio.wait({task}, timeout=_EARLY_CALLBACK_WAIT_S)
        latency_s = self._world.latency_s(self._name, job)
        if latency_s:
            await asyncio.sleep(latency_s)
        return execution

    async def _after_work(
        self, request: web.Request, execution: Execution, fault: Fault | None
    ) -> web.Response:
        """Carry out a fault that comes after the work, or answer."""
        if fault is Fault.HANG_AFTER:
            await asyncio.sleep(self._behaviour().hold_s)
        if fault in (Fault.HANG_AFTER, Fault.DROP_AFTER):
            return _dropped(request)
        if fault is Fault.ERROR_AFTER:
            return self._problem(500, fault.value, execution.reference)
        if fault is Fault.WRONG_SCHEMA:
            return _response(self._provider.nonsense())
        answer = self._provider.answer(execution)
        return _response(half(answer) if fault is Fault.MALFORMED else answer)

    def _looked_up(self, execution: Execution | None, reference: str) -> Reply:
        now = self._world.now()
        if execution is None or now < execution.executed_at + self._behaviour().look_up_lag_s:
            return self._provider.problem(404, code="not_found", reference=reference)
        return self._provider.look_up_answer(execution, now=now)

    def _fault(self, stage: Stage, reference: str, persona: str | None) -> Fault | None:
        return self._world.fault(stage, provider=self._name, reference=reference, persona=persona)

    def _behaviour(self) -> ProviderFaults:
        return self._world.faults.plan.of(self._name)

    def _problem(self, status: int, code: str, reference: str = "") -> web.Response:
        return _response(self._provider.problem(status, code=code, reference=reference))


def _token(world: World, provider: Income) -> Handler:
    async def token(request: web.Request) -> web.Response:
        world.calls["income_token"] += 1
        try:
            return _response(provider.token(await _call(request, world)))
        except Unauthorised:
            return _response(provider.problem(401, code="invalid_client"))
        except OrderNotUnderstood:
            return _response(provider.problem(400, code="unsupported_grant_type"))

    return token


async def _call(request: web.Request, world: World) -> Call:
    return Call(
        method=request.method,
        path=request.raw_path,
        headers=request.headers,
        body=await request.read(),
        now=world.now(),
    )


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


def _dropped(request: web.Request) -> web.Response:
    """Cut the connection. The response that is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
