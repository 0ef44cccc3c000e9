"""The routes of operators: how the providers stand, what is declared of them, and breakers held by hand."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from faregate.gateway.declarations import PolicyInvalid
from faregate.gateway.desk import (
    GatewayDesk,
    OperationNotGuarded,
    PolicyView,
    ProviderNotDeclared,
)
from faregate.gateway.policies.declared import Operation, Override
from faregate.gateway.store.changes import ChangeOvertaken, ProviderChange
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router

READ_SCOPE = "gateway:read"
OPERATE_SCOPE = "gateway:operate"
_ALL = "/internal/gateway/providers"
_POLICY = _ALL + "/{provider}/policy"
_BREAKER = _ALL + "/{provider}/breaker"
_CHANGES = _ALL + "/{provider}/changes"

_Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)*$", max_length=100)]


class PolicyForm(BaseModel):
    """All the fields that are to differ from the file; none of them puts the file back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overrides: dict[_Name, bool | int | float | str] = Field(
        max_length=100,
        json_schema_extra={
            "additionalProperties": False
        },  # pydantic names the good keys, not that others are refused
    )
    seen_version: int = Field(ge=0, le=2**53, description="The `version` that you saw; 0 if there was none.")
    reason: _Reason


class BreakerForm(BaseModel):
    """What a breaker is to do; `automatic` leaves it to itself."""

    model_config = ConfigDict(extra="forbid")

    state: Override
    operations: list[Operation] = Field(
        default=[Operation.SEND],
        min_length=1,
        max_length=len(Operation),
        description="Look-ups clear up what is in doubt, and go on unless they are named, too.",
    )
    reason: _Reason


class OperationAnswer(BaseModel):
    """One operation over all processes. `shared_state` is null while Valkey is down."""

    operation: str
    override: Override
    shared_state: str | None
    open_for_s: float | None
    states: dict[str, int] = Field(description="How many processes see which state.")
    alone: int = Field(description="Processes that go by what they see themselves.")
    following: int = Field(description="Processes that have heard of the override.")
    in_flight: int
    limit: int
    calls: int = Field(description="Calls in the recent windows of the processes.")
    failed: int
    slow: int


class ProviderAnswer(BaseModel):
    """One provider."""

    provider: str
    processes: int = Field(description="Those that call it and were heard of in the last seconds.")
    retries_granted: int
    retries_left: float
    rate_per_s: float = Field(description="0: no limit.")
    changed_fields: int = Field(description="Fields of its policy that differ from the file.")
    operations: list[OperationAnswer]


class ProvidersAnswer(BaseModel):
    """Every provider."""

    providers: list[ProviderAnswer]


class ChangeAnswer(BaseModel):
    """One change that an operator made."""

    version: int
    kind: str
    content: dict[str, Any]
    reason: str
    changed_by: str
    changed_at: datetime


class PolicyAnswer(BaseModel):
    """What holds for a provider, field by field."""

    provider: str
    version: int
    fields: dict[str, Any]
    overrides: dict[str, Any]
    change: ChangeAnswer | None


class BreakerAnswer(BaseModel):
    """The operations whose breakers are held by hand now."""

    held: dict[str, str]


class ChangesAnswer(BaseModel):
    """The last changes, the newest first."""

    changes: list[ChangeAnswer]


_STATUS = operation(
    summary="How every provider stands, over all processes",
    answers={200: Answer(description="At this moment", model=ProvidersAnswer)},
    scope=READ_SCOPE,
)
_GET_POLICY = operation(
    summary="What is declared of a provider",
    answers={200: Answer(description="Every field", model=PolicyAnswer)},
    problems=[ProviderNotDeclared],
    scope=READ_SCOPE,
)
_PUT_POLICY = operation(
    summary="Let fields differ from the file; running processes follow within seconds",
    body=PolicyForm,
    examples={
        "fewer at once": {
            "overrides": {"send.bulkhead.in_flight_max": 8},
            "seen_version": 0,
            "reason": "they asked us to",
        }
    },
    answers={200: Answer(description="Every field", model=PolicyAnswer)},
    problems=[ProviderNotDeclared, PolicyInvalid, ChangeOvertaken],
    scope=OPERATE_SCOPE,
)
_PUT_BREAKER = operation(
    summary="Hold a breaker open or closed, or let it go",
    body=BreakerForm,
    examples={"stop sending": {"state": "forced_open", "reason": "maintenance until six"}},
    answers={200: Answer(description="What is held now", model=BreakerAnswer)},
    problems=[ProviderNotDeclared, OperationNotGuarded, ChangeOvertaken],
    scope=OPERATE_SCOPE,
)
_GET_CHANGES = operation(
    summary="What operators changed about a provider",
    answers={200: Answer(description="The newest first", model=ChangesAnswer)},
    problems=[ProviderNotDeclared],
    scope=READ_SCOPE,
)


def gateway_routes(*, desk: GatewayDesk, authenticator: Authenticator) -> APIRouter:
    """Return the routes of the gateway's operators."""
    router = make_router(tags=["gateway"])
    may_read, may_operate = authenticator.require(READ_SCOPE), authenticator.require(OPERATE_SCOPE)

    @router.get(_ALL, **_STATUS)
    async def status(request: Request) -> Response:
        await may_read(request)
        return _json({"providers": [asdict(view) for view in await desk.status()]})

    @router.get(_POLICY, **_GET_POLICY)
    async def policy(request: Request) -> Response:
        await may_read(request)
        return _json(policy_document(await desk.policy(request.path_params["provider"])))

    @router.put(_POLICY, **_PUT_POLICY)
    async def change_policy(request: Request) -> Response:
        caller = await may_operate(request)
        form = validate(PolicyForm, await read_json(request))
        view = await desk.change_policy(
            request.path_params["provider"],
            form.overrides,
            seen_version=form.seen_version,
            reason=form.reason,
            by=caller.client_id,
        )
        return _json(policy_document(view))

    @router.put(_BREAKER, **_PUT_BREAKER)
    async def hold(request: Request) -> Response:
        caller = await may_operate(request)
        form = validate(BreakerForm, await read_json(request))
        held = await desk.hold(
            request.path_params["provider"],
            form.state,
            operations=form.operations,
            reason=form.reason,
            by=caller.client_id,
        )
        return _json({"held": held})

    @router.get(_CHANGES, **_GET_CHANGES)
    async def changes(request: Request) -> Response:
        await may_read(request)
        found = await desk.history(request.path_params["provider"])
        return _json({"changes": [change_document(change) for change in found]})

    return router


def policy_document(view: PolicyView) -> dict[str, Any]:
    """Return what holds for a provider as JSON has it."""
    return {
        "provider": view.provider,
        "version": view.version,
        "fields": dict(view.fields),
        "overrides": dict(view.overrides),
        "change": change_document(view.change) if view.change else None,
    }


def change_document(change: ProviderChange) -> dict[str, Any]:
    """Return a change as JSON has it."""
    return asdict(change) | {"content": dict(change.content)}


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
