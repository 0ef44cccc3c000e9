"""The routes of auditors: all that is recorded of an application, and whether the record is whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import CreditApi
from faregate.credit.domain.application import ApplicationNotFound
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router

AUDIT_SCOPE = "audit:read"


class AuditTraceAnswer(BaseModel):
    """All that is recorded of one application, without the person's identity. `seq` is the link that seals a row."""

    application: dict[str, Any]
    entries: list[dict[str, Any]] = Field(description="What happened, oldest first.")
    decisions: list[dict[str, Any]] = Field(
        description="Each version with its inputs and their hash, its rules, scores and versions."
    )
    signals: list[dict[str, Any]] = Field(description="What is known of each check now.")
    requests: list[dict[str, Any]] = Field(description="What was asked of providers, and what came of it.")
    notices: list[dict[str, Any]] = Field(description="Notices of adverse action, by version.")


class VerificationAnswer(BaseModel):
    """The newest walk along the whole chain; `broken` names the first row that is not as it was sealed."""

    at: datetime
    links: int
    broken: dict[str, Any] | None


class ChainStatusAnswer(BaseModel):
    """Where the audit chain ends, and what waits to be sealed."""

    links: int
    sha256: str
    unsealed: int
    unsealed_s: float
    last_verification: VerificationAnswer | None


_TRACE = operation(
    summary="All that is recorded of an application",
    answers={
        200: Answer(description="Inputs, rules, scores and versions of each decision", model=AuditTraceAnswer)
    },
    problems=[ApplicationNotFound, DatabaseUnavailable],
    scope=AUDIT_SCOPE,
)
_CHAIN = operation(
    summary="Where the audit chain ends, and what its last verification found",
    answers={200: Answer(description="The chain's present state", model=ChainStatusAnswer)},
    problems=[DatabaseUnavailable],
    scope=AUDIT_SCOPE,
)


def audit_routes(*, credit: CreditApi, authenticator: Authenticator) -> APIRouter:
    """Return the routes of auditors, who see every client's applications."""
    router = make_router(tags=["audit"])
    may_read = authenticator.require(AUDIT_SCOPE)

    @router.get("/api/audit/credit-applications/{application_id}", **_TRACE)
    async def trace(request: Request) -> Response:
        await may_read(request)
        return _json(asdict(await credit.audit.trace(application_id=request.path_params["application_id"])))

    @router.get("/api/audit/chain", **_CHAIN)
    async def chain(request: Request) -> Response:
        await may_read(request)
        return _json(asdict(await credit.audit.status()))

    return router


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
