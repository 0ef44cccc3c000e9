"""Whether the process lives, whether it can work, and its metrics. These routes need no key by default."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
import structlog
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.http.authentication import Requirement
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.infra.readiness import NotReady
from faregate.infra.telemetry.metrics import CONTENT_TYPE, Metrics

CHECK_S_MAX = 2.0
_OK = "ok"


class Health(BaseModel):
    """`status` is `ok` whenever there is an answer."""

    status: str


class Readiness(BaseModel):
    """Each check by name: `ok`, perhaps with what is absent, or the kind of failure, with what may be told of it."""

    ready: bool
    checks: dict[str, str]


_HEALTHZ = operation(
    summary="Whether the process lives",
    answers={200: Answer(description="It lives", model=Health, example={"status": "ok"})},
)
_READYZ = operation(
    summary="Whether the process can work, and if not, what is missing",
    answers={
        200: Answer(
            description="It can", model=Readiness, example={"ready": True, "checks": {"database": "ok"}}
        ),
        503: Answer(
            description="It cannot",
            model=Readiness,
            example={"ready": False, "checks": {"database": "DatabaseUnavailable"}},
        ),
    },
)
METRICS_SCOPE = "metrics:read"
_METRICS_ANSWERS = {200: Answer(description="Prometheus' text format", media_type="text/plain")}

Check = Callable[[], Awaitable[str | None]]
"""Returns if something that we depend on can be used, and raises if not. What it returns is shown: what is absent."""


def health_router(
    *, checks: Mapping[str, Check], metrics: Metrics, metrics_need: Requirement | None = None
) -> APIRouter:
    """Return `/healthz` (the process answers), `/readyz` (every check passes) and `/metrics`."""
    router = make_router(tags=["operations"])
    scope = METRICS_SCOPE if metrics_need else None
    metrics_operation = operation(summary="Prometheus metrics", answers=_METRICS_ANSWERS, scope=scope)

    @router.get("/healthz", **_HEALTHZ)
    async def healthz(_: Request) -> Response:
        return _json(200, {"status": "ok"})

    @router.get("/readyz", **_READYZ)
    async def readyz(_: Request) -> Response:
        results = await readiness_of(checks)
        is_ready = all(is_ok(result) for result in results.values())
        return _json(200 if is_ready else 503, {"ready": is_ready, "checks": results})

    @router.get("/metrics", **metrics_operation)
    async def metrics_text(request: Request) -> Response:
        if metrics_need is not None:
            await metrics_need(request)
        return Response(await metrics.render(), headers={"content-type": CONTENT_TYPE})

    return router


async def readiness_of(checks: Mapping[str, Check]) -> dict[str, str]:
    """Ask every check at once; return `ok` by name, or the failure."""
    results = await asyncio.gather(*(_result(name, check) for name, check in checks.items()))
    return dict(zip(checks, results, strict=True))


def is_ok(result: str) -> bool:
    """Return whether a check's result lets the process be ready."""
    return result == _OK or result.startswith(f"{_OK}: ")


async def _result(name: str, check: Check) -> str:
    """`ok`, or what kind of failure: its text may hold addresses, and goes to the log only, unless it is ours."""
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            said = await check()
    except NotReady as reason:
        return f"{type(reason).__name__}: {reason.detail}"
    except Exception as error:  # noqa: BLE001  # whatever a check raises means that it is not ready
        structlog.get_logger().warning("readiness check failed", check=name, exc_info=error)
        return type(error).__name__
    return f"{_OK}: {said}" if said else _OK


def _json(status: int, value: object) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")
