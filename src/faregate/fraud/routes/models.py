"""The routes of models: which there are, and which of them decides and watches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from faregate.fraud.api import Doing, FraudApi
from faregate.fraud.contracts.release import ModelVersion
from faregate.fraud.handlers.models import ModelNotFound, ModelUnusable
from faregate.fraud.handlers.registry import ModelNameInvalid, NoEarlierModel
from faregate.fraud.routes.scoring import MANAGE_SCOPE, READ_SCOPE
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.kernel.clock import Clock

_MODELS = "/api/fraud/models"
_WORDS = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,500}$"


class ModelRollBackForm(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(pattern=_WORDS, examples=["declines too much"])


class ModelActivationForm(ModelRollBackForm):
    """Which version decides from now on, and why."""

    model: str = Field(min_length=1, max_length=80, examples=["payments-2"])


class ModelShadowForm(ModelRollBackForm):
    """Which version watches from now on, null for none, and why."""

    model: str | None = Field(min_length=1, max_length=80, examples=["payments-2"])


class FraudModelRow(BaseModel):
    """A version of a model."""

    model: str
    sha256: str
    review_at: float
    decline_at: float
    inputs: list[str]
    metrics: dict[str, Any] = Field(description="What it was measured at, on the data of `trained_on`.")
    trained_on: dict[str, Any]
    registered_at: str
    registered_by: str


class FraudModelsAnswer(BaseModel):
    """All versions, and which of them decides and watches."""

    models: list[FraudModelRow]
    active: str | None
    shadow: str | None


class FraudModelChangedAnswer(BaseModel):
    """Which version is meant; null if none watches any more. Processes follow within a second."""

    model: str | None


_CHANGED = {200: Answer(description="Done", model=FraudModelChangedAnswer)}
_LIST = operation(
    summary="The models of fraud, and which of them is in force",
    answers={200: Answer(description="All versions", model=FraudModelsAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
)
_ACTIVATE = operation(
    summary="Let a model decide",
    body=ModelActivationForm,
    answers=_CHANGED,
    problems=[ModelNotFound, ModelUnusable, ModelNameInvalid, DatabaseUnavailable],
    scope=MANAGE_SCOPE,
)
_ROLL_BACK = operation(
    summary="Let the model decide again that was active before",
    body=ModelRollBackForm,
    answers=_CHANGED,
    problems=[NoEarlierModel, ModelUnusable, DatabaseUnavailable],
    scope=MANAGE_SCOPE,
)
_SHADOW = operation(
    summary="Let a model watch, or none",
    body=ModelShadowForm,
    answers=_CHANGED,
    problems=[ModelNotFound, ModelUnusable, ModelNameInvalid, DatabaseUnavailable],
    scope=MANAGE_SCOPE,
)


def model_routes(*, fraud: FraudApi, authenticator: Authenticator, clock: Clock) -> APIRouter:
    """Return the routes of models."""
    router = make_router(tags=["fraud"])
    may_read, may_manage = authenticator.require(READ_SCOPE), authenticator.require(MANAGE_SCOPE)

    async def act(
        request: Request,
        form: type[ModelRollBackForm],
        change: Callable[[Any, Doing], Awaitable[ModelVersion | None]],
    ) -> Response:
        caller = await may_manage(request)
        given = validate(form, await read_json(request))
        by = f"client:{caller.client_id}"
        version = await change(given, Doing(by=by, at=clock.now(), reason=given.reason))
        return _json({"model": None if version is None else version.label})

    @router.get(_MODELS, **_LIST)
    async def models(request: Request) -> Response:
        await may_read(request)
        versions, in_force = await fraud.registry.versions()
        labels = {one.sha256: one.label for one in versions}
        return _json(
            {
                "models": [_row(one) for one in versions],
                "active": labels.get(in_force.active or ""),
                "shadow": labels.get(in_force.shadow or ""),
            }
        )

    @router.post(_MODELS + "/activation", **_ACTIVATE)
    async def activate(request: Request) -> Response:
        return await act(
            request, ModelActivationForm, lambda form, doing: fraud.registry.activate(form.model, doing=doing)
        )

    @router.post(_MODELS + "/roll-back", **_ROLL_BACK)
    async def roll_back(request: Request) -> Response:
        return await act(request, ModelRollBackForm, lambda _, doing: fraud.registry.roll_back(doing=doing))

    @router.post(_MODELS + "/shadow", **_SHADOW)
    async def shadow(request: Request) -> Response:
        return await act(
            request, ModelShadowForm, lambda form, doing: fraud.registry.shadow(form.model, doing=doing)
        )

    return router


def _row(version: ModelVersion) -> dict[str, Any]:
    release = version.release
    return {
        "model": version.label,
        "sha256": version.sha256,
        "review_at": release.thresholds.review_at,
        "decline_at": release.thresholds.decline_at,
        "inputs": release.names,
        "metrics": release.metrics,
        "trained_on": release.trained_on,
        "registered_at": version.registered_at.isoformat(),
        "registered_by": version.registered_by,
    }


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
