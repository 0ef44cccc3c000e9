"""What is asked of the sandbox itself: what really happened, who lives here, and what goes wrong next.

There is no authentication: the sandbox is a test tool and listens where its starter says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import ValidationError

from faregate.sandbox.executions import Execution
from faregate.sandbox.faults import FaultPlan, Script
from faregate.sandbox.people import application
from faregate.sandbox.personas import PERSONAS, Persona
from faregate.sandbox.world import FaultPlanRefused, World

_FILTERS: Final = ("provider", "check", "application", "reference", "traceparent")


def add_admin_routes(app: web.Application, world: World) -> None:
    """Add everything that is not a provider."""
    admin = _Admin(world)
    app.router.add_get("/healthz", admin.health)
    app.router.add_get("/providers", admin.providers)
    app.router.add_get("/personas", admin.personas)
    app.router.add_get(r"/people/{number:\d{1,9}}", admin.person)
    app.router.add_get("/admin/faults", admin.faults)
    app.router.add_put("/admin/faults", admin.set_faults)
    app.router.add_post("/admin/scripts", admin.add_script)
    app.router.add_get("/admin/executions", admin.executions)
    app.router.add_get("/admin/pulls", admin.pulls)
    app.router.add_get("/admin/bookings", admin.bookings)
    app.router.add_get("/admin/credited", admin.credited)
    app.router.add_get("/admin/summary", admin.summary)


class _Admin:
    def __init__(self, world: World) -> None:
        self._world = world

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the process serves."""
        return _json({"status": "ok"})

    async def providers(self, _request: web.Request) -> web.Response:
        """State what each provider promises."""
        return _json({"providers": [asdict(statement) for statement in self._world.statements.values()]})

    async def personas(self, _request: web.Request) -> web.Response:
        """List the people with a fixed fate, each with a body to submit."""
        return _json({"personas": [_shown(persona) for persona in PERSONAS.values()]})

    async def person(self, request: web.Request) -> web.Response:
        """Return the application of a numbered person."""
        return _json(application(int(request.match_info["number"])))

    async def faults(self, _request: web.Request) -> web.Response:
        """Return the plan and the scripts that still wait."""
        faults = self._world.faults
        plan = faults.plan.model_dump(mode="json")
        return _json(plan | {"scripts": [script.model_dump(mode="json") for script in faults.scripts_left()]})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Replace the plan."""
        try:
            self._world.set_plan(FaultPlan.model_validate_json(await request.read()))
        except (ValidationError, FaultPlanRefused) as error:
            return _json({"error": str(error)}, status=400)
        return await self.faults(request)

    async def add_script(self, request: web.Request) -> web.Response:
        """Add one script: the next calls of a provider meet a fault."""
        try:
            self._world.add_script(Script.model_validate_json(await request.read()))
        except (ValidationError, FaultPlanRefused) as error:
            return _json({"error": str(error)}, status=400)
        return await self.faults(request)

    async def executions(self, request: web.Request) -> web.Response:
        """Return what was executed, filtered by any of its fields."""
        wanted = {name: request.query[name] for name in _FILTERS if name in request.query}
        found = self._world.executions.matching(**wanted)
        return _json({"executions": [_public(execution) for execution in found]})

    async def pulls(self, request: web.Request) -> web.Response:
        """Return the executed pulls per application and check; `?min=2` shows only the repeated ones."""
        least = request.query.get("min", "1")
        if not least.isdecimal():
            return _json({"error": "min is no whole number"}, status=400)
        pulls = self._world.executions.pulls(pulls_min=int(least))
        return _json({"pulls": [asdict(entry) for entry in pulls]})

    async def bookings(self, request: web.Request) -> web.Response:
        """Return the bookings of a redemption, or of all, and how many legs are booked more than once."""
        world, now = self._world, self._world.now()
        found = world.bookings.of_redemption(request.query.get("redemption"), now=now)
        return _json(
            {
                "bookings": [asdict(booking) for booking in found],
                "live_duplicates": world.bookings.live_duplicates(now=now),
            }
        )

    async def credited(self, _request: web.Request) -> web.Response:
        """Return what the transfer partner really credited, by transfer."""
        return _json({"credited": self._world.transfers.credited})

    async def summary(self, _request: web.Request) -> web.Response:
        """Return the totals. `executed` is since ever; `calls`, `deduplicated` and `struck` are since the start."""
        world = self._world
        executed = world.executions.count_by_provider()
        return _json(
            {
                "calls": sum(world.calls[name] for name in world.providers),
                "executed": sum(executed.values()),
                "duplicates": world.executions.duplicates(),
                "deduplicated": sum(world.deduplicated.values()),
                "calls_by_endpoint": world.calls,
                "executed_by_provider": executed,
                "struck": world.struck,
                "callbacks": {"pending": world.callbacks.pending(), **world.callbacks.counts},
            }
        )


def _public(execution: Execution) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(execution).items() if name != "answer"} | {
        "refused": execution.answer is None
    }


def _shown(persona: Persona) -> Mapping[str, Any]:
    body = application(persona.row)
    body["applicant"] = body["applicant"] | {"legal_name": persona.legal_name}
    return {
        "legal_name": persona.legal_name,
        "story": persona.story,
        "faults": {provider: sorted(faults) for provider, faults in persona.faults.items()},
        "application": body,
    }


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
