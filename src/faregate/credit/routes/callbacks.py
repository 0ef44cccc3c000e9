"""The route of providers: they call back with what they found. A callback only ever updates a risk signal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import CreditApi
from faregate.credit.routes.forms import CallbackAnswer, ProviderCallback
from faregate.gateway.api import ProviderRequestNotFound
from faregate.gateway.contracts import Adapter
from faregate.infra.http.body import check_media_type, parse_json, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.infra.security.canonical import canonical_json
from faregate.infra.security.signatures import (
    SignatureExpired,
    SignatureMissing,
    SignatureRejected,
    has_webhook_headers,
    verify_body,
    verify_webhook,
)
from faregate.kernel.clock import Clock
from faregate.kernel.errors import NotFoundError


class ProviderUnknown(NotFoundError):
    """No provider of this name sends callbacks."""


@dataclass(frozen=True, kw_only=True)
class CallbackSource:
    """A provider that calls back: its adapter, and the secrets that its signatures may be made with."""

    adapter: Adapter
    body_secrets: tuple[bytes, ...] = ()
    webhook_secrets: tuple[str, ...] = ()


_CALLBACK = operation(
    summary="A provider's answer to one of our requests; its signature is its authentication",
    body=ProviderCallback,
    answers={202: Answer(description="Kept, and processed in a moment", model=CallbackAnswer)},
    problems=[
        ProviderUnknown,
        ProviderRequestNotFound,
        SignatureMissing,
        SignatureRejected,
        SignatureExpired,
    ],
)


def callback_routes(*, credit: CreditApi, sources: Mapping[str, CallbackSource], clock: Clock) -> APIRouter:
    """Return the route that takes callbacks: early, late, repeated and out of order are all harmless."""
    router = make_router(tags=["provider callbacks"])

    @router.post("/internal/providers/{provider}/callbacks", **_CALLBACK)
    async def callback(request: Request) -> Response:
        provider = request.path_params["provider"]
        source = sources.get(provider)
        if source is None:
            raise ProviderUnknown(f"no provider {provider!r} sends callbacks")
        check_media_type(request)
        raw = await request.body()
        body = parse_json(raw)
        validate(ProviderCallback, body)
        dedupe_key = _verify(request, raw, body, source=source, clock=clock)
        read = source.adapter.read_callback(body)
        await credit.accept_callback(callback=read, dedupe_key=dedupe_key)
        return Response(orjson.dumps({"accepted": True}), status_code=202, media_type="application/json")

    return router


def _verify(
    request: Request, raw: bytes, body: Mapping[str, Any], *, source: CallbackSource, clock: Clock
) -> str:
    """Verify a callback's signature and return what tells it from others: its webhook id, or its content."""
    if has_webhook_headers(request.headers):
        secrets = source.webhook_secrets
        return verify_webhook(headers=request.headers, body=raw, secrets=secrets, now=clock.now()).id
    verify_body(body, secrets=source.body_secrets)
    return hashlib.sha256(canonical_json(body)).hexdigest()
